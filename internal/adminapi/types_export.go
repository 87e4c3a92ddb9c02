package adminapi

// AgentConfigs are the configs of the nodes of a selector as files would hold
// them, and what an agent's flagfile needs to know of the server. It is the
// answer to GET /resources/agent-config.
type AgentConfigs struct {
	Revision int64         `json:"revision" doc:"The revision that the configs were rendered from"`
	Configs  []AgentConfig `json:"configs" doc:"The distinct configs, the one of most nodes first; none if the selector means nobody"`
	AgentURL string        `json:"agent_url" doc:"Where agents reach the server, as muster.example.com:8443"`
	CA       string        `json:"ca" doc:"PEM certificates that agents check the server against; empty if the server does not know them"`
}

// AgentConfig is one config and whose it is.
type AgentConfig struct {
	Hash   string   `json:"hash" doc:"What osquery_info.config_hash says on an agent that has it"`
	Config string   `json:"config" doc:"The exact bytes for osquery.conf, without a newline at the end"`
	Nodes  []string `json:"nodes" doc:"Ids of up to 10 of its nodes"`
	Count  int      `json:"count" doc:"How many nodes it is for"`
}
