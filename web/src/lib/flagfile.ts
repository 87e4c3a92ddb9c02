/** What agents put into tls_hostname: host and port without a scheme. */
export const hostOf = (agentURL: string): string => agentURL.replace(/^[a-z]+:\/\//i, "").replace(/\/.*$/, "");

/** A flagfile that enrols a node, ready to be used. */
export function flagfile(agentURL: string): string {
  return `--tls_hostname=${hostOf(agentURL)}
--tls_server_certs=/etc/osquery/muster-ca.pem
--enroll_secret_path=/etc/osquery/muster-secret
--host_identifier=uuid
--enroll_tls_endpoint=/api/osquery/enroll
--config_plugin=tls
--config_tls_endpoint=/api/osquery/config
--config_refresh=60
--logger_plugin=tls
--logger_tls_endpoint=/api/osquery/log
--logger_tls_period=10
--disable_distributed=false
--distributed_plugin=tls
--distributed_interval=10
--distributed_tls_read_endpoint=/api/osquery/distributed/read
--distributed_tls_write_endpoint=/api/osquery/distributed/write
`;
}
