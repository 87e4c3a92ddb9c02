package resource_test

import (
	"strings"
	"testing"
	"time"

	"github.com/musterhq/muster/internal/node"
	"github.com/musterhq/muster/internal/policy"
	"github.com/musterhq/muster/internal/resource"
)

func TestCheck_sink(t *testing.T) {
	t.Parallel()
	engine, err := policy.New(policy.Rules{})
	if err != nil {
		t.Fatal(err)
	}
	defer engine.Close()
	const key = "{env: MUSTER_SECRET_A}"
	for spec, want := range map[string]string{
		"{stdout: {}}":             "",
		"{file: {name: a.ndjson}}": "",
		"{queries: [a, b*], actions: [added], selector: tag = x, severity: error, where: 'a = 1', format: ecs, batch: {rows: 1, bytes: 1, wait: 1h}, required: true, stdout: {}}": "",
		"{syslog: {address: 'h:6514', ca: {file: ca.pem}, client_cert: {file: c}, client_key: {file: k}, facility: local7}}":                                                      "",
		"{http: {url: 'https://h/x', secret: " + key + ", headers: {Authorization: " + key + "}}}":                                                                                "",
		"{http: {url_from: " + key + "}}":                                                           "",
		"{splunk_hec: {url: 'https://h:8088', token: " + key + ", acknowledge: false}}":             "",
		"{kafka: {brokers: ['h:9092'], topic: t, sasl: plain, username: u, password: " + key + "}}": "",
		"{elasticsearch: {url: 'https://h:9200', index: 'a-{day}', api_key: " + key + "}}":          "",
		"{opensearch: {url: 'https://h:9200', index: a, username: u, password: " + key + "}}":       "",
		"{s3: {bucket: abc, prefix: a/b, objects: parquet}}":                                        "",
		"{nats: {url: 'tls://h:4222', subject: 'a.{query}', credentials: " + key + "}}":             "",

		"{}":                                                           "exactly one",
		"{stdout: {}, file: {name: a}}":                                "exactly one",
		"{stdout: {}, queries: ['a*b']}":                               "prefix",
		"{stdout: {}, actions: [x]}":                                   "added",
		"{stdout: {}, selector: 'tga = x'}":                            "tga",
		"{stdout: {}, severity: x}":                                    "warning",
		"{stdout: {}, where: 'a ='}":                                   "where",
		"{stdout: {}, format: x}":                                      "muster, osquery or ecs",
		"{stdout: {}, batch: {rows: -1}}":                              "100000",
		"{stdout: {}, batch: {bytes: 99999999}}":                       "33554432",
		"{stdout: {}, batch: {wait: 1ms}}":                             "50ms",
		"{file: {name: ../a}}":                                         "sink_dir",
		"{file: {name: a, max_age: 1s}}":                               "1m0s",
		"{syslog: {address: h}}":                                       "host:port",
		"{syslog: {address: 'h:0'}}":                                   "host:port",
		"{syslog: {address: 'h:1', network: x}}":                       "tls, tcp or udp",
		"{syslog: {address: 'h:1', facility: local8}}":                 "local0 to local7",
		"{syslog: {address: 'h:1', app_name: 'a b'}}":                  "without spaces",
		"{syslog: {address: 'h:1', client_cert: {file: c}}}":           "client_cert must both",
		"{http: {}}":                                                   "url_from must be there",
		"{http: {url: 'ftp://h'}}":                                     "no URL",
		"{http: {url: 'https://u:p@h'}}":                               "holds a password",
		"{http: {url: 'https://h', headers: {Host: " + key + "}}}":     "cannot be set",
		"{http: {url: 'https://h', secret: {env: PATH}}}":              "MUSTER_SECRET_",
		"{splunk_hec: {url: 'https://h', token: {file: /etc/passwd}}}": "without directories",
		"{kafka: {brokers: [], topic: t}}":                             "1 to",
		"{kafka: {brokers: ['h:1'], topic: 'a b'}}":                    "name of a topic",
		"{kafka: {brokers: ['h:1'], topic: t, sasl: gssapi}}":          "scram-sha-256",
		"{kafka: {brokers: ['h:1'], topic: t, plain_text: true, sasl: plain, username: u, password: " + key + "}}": "no TLS",
		"{kafka: {brokers: ['h:1'], topic: t, key: x}}":                                                            "node or id",
		"{opensearch: {url: 'https://h', index: 'A{year}'}}":                                                       "name of an index",
		"{opensearch: {url: 'https://h', index: a, username: u}}":                                                  "username must both",
		"{s3: {bucket: A}}":                                                                    "name of a bucket",
		"{s3: {bucket: abc, prefix: /a}}":                                                      "without / at its ends",
		"{s3: {bucket: abc, access_key: " + key + "}}":                                         "access_key must both",
		"{s3: {bucket: abc, objects: parquet}, format: ecs}":                                   "format muster alone",
		"{nats: {url: 'nats://u:p@h:1', subject: a}}":                                          "holds a password",
		"{nats: {url: 'tls://h:1', subject: 'a.>'}}":                                           "no subject",
		"{nats: {url: 'tls://h:1', subject: a, token: " + key + ", credentials: " + key + "}}": "or none of them",
	} {
		report, err := resource.Check(reach(t, "Sink", spec), engine, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		var said []string
		for _, i := range report.Refused(policy.Sensitive) {
			for _, f := range i.Verdict.Findings {
				said = append(said, i.Path+" "+f.Message)
			}
		}
		text := strings.Join(said, "\n")
		if (want == "") != (text == "") || !strings.Contains(text, want) {
			t.Errorf("%s: refused %q, want %q", spec, text, want)
		}
		if tier := report.Tier([]resource.Key{{Kind: "Sink", Name: "x"}}); want == "" && tier != policy.Sensitive {
			t.Errorf("%s: tier %d", spec, tier)
		}
	}
}

func TestSnapshot_sink(t *testing.T) {
	t.Parallel()
	s, err := resource.Compile(1, reach(t, "Sink", "{selector: tag = web, where: 'a = 1', s3: {bucket: abc}}"))
	if err != nil {
		t.Fatal(err)
	}
	p := s.Sinks()[0]
	if p.Name != "x" || p.Spec.Way() != "s3" || p.All() || p.Where == nil || !p.Means(&node.Identity{Tags: []string{"web"}}) || p.Means(&node.Identity{}) {
		t.Errorf("%+v", p)
	}
	if rows, bytes, wait := p.Spec.Limits(); rows != 100_000 || bytes != 16<<20 || wait != 5*time.Minute {
		t.Errorf("%d, %d, %s", rows, bytes, wait)
	}
}
