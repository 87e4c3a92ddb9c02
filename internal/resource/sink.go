package resource

import (
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/musterhq/muster/internal/credential"
	"github.com/musterhq/muster/internal/event"
	"github.com/musterhq/muster/internal/node"
	"github.com/musterhq/muster/internal/policy"
)

// Sink is a system outside that receives events. Exactly one of file, stdout,
// syslog, http, splunk_hec, kafka, elasticsearch, opensearch, s3 and nats is set. It
// is no part of any config, and served at once.
type Sink struct {
	Queries  []string  `json:"queries,omitempty" yaml:"queries,omitempty" doc:"Queries by their names on agents, or prefixes that end with *; osquery:status is the agents' own log; all if it is left out"`
	Actions  []string  `json:"actions,omitempty" yaml:"actions,omitempty" doc:"Of added, removed, snapshot and status; all if it is left out"`
	Selector string    `json:"selector,omitempty" yaml:"selector,omitempty" doc:"Nodes whose events it gets, by what they are when it is sent; all if it is left out"`
	Severity string    `json:"severity,omitempty" yaml:"severity,omitempty" enum:"info,warning,error" doc:"Lines of the agents' own log of this severity and above; all if it is left out"`
	Where    string    `json:"where,omitempty" yaml:"where,omitempty" doc:"What must hold of the columns, as in a search of events: path prefix /tmp and pid > 100"`
	Format   string    `json:"format,omitempty" yaml:"format,omitempty" enum:"muster,osquery,ecs" doc:"muster, the default, as the API shows events; osquery, as agents log to a file; ecs, Elastic's common schema"`
	Batch    SinkBatch `json:"batch,omitzero" yaml:"batch,omitempty" doc:"How much is sent at once"`
	Required bool      `json:"required,omitempty" yaml:"required,omitempty" doc:"Events that it has not got stay in the stream until that is nine tenths full, instead of half"`

	File          *SinkFile    `json:"file,omitempty" yaml:"file,omitempty" doc:"A file in the server's sink_dir, a line for each event"`
	Stdout        *SinkStdout  `json:"stdout,omitempty" yaml:"stdout,omitempty" doc:"The server's standard output, a line for each event"`
	Syslog        *SinkSyslog  `json:"syslog,omitempty" yaml:"syslog,omitempty" doc:"Syslog, RFC 5424"`
	HTTP          *SinkHTTP    `json:"http,omitempty" yaml:"http,omitempty" doc:"POST of a batch, a line for each event, signed"`
	SplunkHEC     *SinkSplunk  `json:"splunk_hec,omitempty" yaml:"splunk_hec,omitempty" doc:"Splunk's HTTP Event Collector"`
	Kafka         *SinkKafka   `json:"kafka,omitempty" yaml:"kafka,omitempty" doc:"A topic of Kafka, or what speaks its protocol"`
	Elasticsearch *SinkElastic `json:"elasticsearch,omitempty" yaml:"elasticsearch,omitempty" doc:"Elasticsearch's bulk API"`
	OpenSearch    *SinkElastic `json:"opensearch,omitempty" yaml:"opensearch,omitempty" doc:"OpenSearch's bulk API"`
	S3            *SinkS3      `json:"s3,omitempty" yaml:"s3,omitempty" doc:"Objects by hour in a bucket of S3, or what speaks its protocol"`
	NATS          *SinkNATS    `json:"nats,omitempty" yaml:"nats,omitempty" doc:"A subject of NATS"`
}

// SinkBatch bounds what is sent at once. The first bound that is reached counts.
type SinkBatch struct {
	Rows  int      `json:"rows,omitempty" yaml:"rows,omitempty" doc:"Events, up to 100000; 1000 if it is left out, 100000 for s3"`
	Bytes int      `json:"bytes,omitempty" yaml:"bytes,omitempty" doc:"Bytes, up to 33554432; 1048576 if it is left out, 16777216 for s3; a larger event is sent alone"`
	Wait  Duration `json:"wait,omitempty" yaml:"wait,omitempty" doc:"How long an event waits for others, 50ms to 1h; 1s if it is left out, 5m for s3"`
}

// SinkTLS says whom a connection trusts, and as whom it speaks.
type SinkTLS struct {
	CA         *credential.Reference `json:"ca,omitempty" yaml:"ca,omitempty" doc:"CAs that the server's certificate is checked against, PEM; the system's if it is left out"`
	ClientCert *credential.Reference `json:"client_cert,omitempty" yaml:"client_cert,omitempty" doc:"Certificate to show, PEM, with those that lead to its CA"`
	ClientKey  *credential.Reference `json:"client_key,omitempty" yaml:"client_key,omitempty" doc:"Key of client_cert, PEM"`
}

// SinkFile is a file that is rotated.
type SinkFile struct {
	Name   string   `json:"name" yaml:"name" doc:"Name in the server's sink_dir, without directories, as events.ndjson"`
	MaxMiB int      `json:"max_mib,omitempty" yaml:"max_mib,omitempty" doc:"Size in MiB at which another begins, 1 to 10240; 100 if it is left out"`
	MaxAge Duration `json:"max_age,omitempty" yaml:"max_age,omitempty" doc:"Age at which another begins, 1m to 720h; 24h if it is left out"`
	Keep   int      `json:"keep,omitempty" yaml:"keep,omitempty" doc:"How many old ones are kept, compressed with gzip, up to 10000; 10 if it is left out"`
}

// SinkStdout is the server's standard output.
type SinkStdout struct{}

// SinkSyslog is a collector of syslog.
type SinkSyslog struct {
	SinkTLS `yaml:",inline"`

	Address  string `json:"address" yaml:"address" doc:"host:port; 514 is usual for udp, 601 for tcp, 6514 for tls"`
	Network  string `json:"network,omitempty" yaml:"network,omitempty" enum:"tls,tcp,udp" doc:"tls, the default; tcp, where anybody on the way reads along; udp, which loses what nobody takes"`
	Facility string `json:"facility,omitempty" yaml:"facility,omitempty" enum:"user,daemon,auth,authpriv,local0,local1,local2,local3,local4,local5,local6,local7" doc:"local0 if it is left out"`
	AppName  string `json:"app_name,omitempty" yaml:"app_name,omitempty" doc:"osquery if it is left out"`
}

// SinkHTTP is a URL that takes lines.
type SinkHTTP struct {
	SinkTLS `yaml:",inline"`

	URL     string                          `json:"url,omitempty" yaml:"url,omitempty" doc:"Where batches are posted"`
	URLFrom *credential.Reference           `json:"url_from,omitempty" yaml:"url_from,omitempty" doc:"The same, where the URL is a secret"`
	Sign    *credential.Reference           `json:"secret,omitempty" yaml:"secret,omitempty" doc:"Signs what is sent: X-Muster-Signature is v1= and the HMAC-SHA-256, in hex, of X-Muster-Timestamp, a dot and the body as it is sent"`
	Headers map[string]credential.Reference `json:"headers,omitempty" yaml:"headers,omitempty" doc:"Headers whose values are secrets, as Authorization"`
	NoGzip  bool                            `json:"no_gzip,omitempty" yaml:"no_gzip,omitempty" doc:"Send batches as they are, not compressed with gzip"`
}

// SinkSplunk is an HTTP Event Collector.
type SinkSplunk struct {
	SinkTLS `yaml:",inline"`

	URL         string               `json:"url" yaml:"url" doc:"Of the collector, as https://splunk.example.com:8088"`
	Token       credential.Reference `json:"token" yaml:"token" doc:"Token of the collector's input"`
	Index       string               `json:"index,omitempty" yaml:"index,omitempty" doc:"The token's default if it is left out"`
	Sourcetype  string               `json:"sourcetype,omitempty" yaml:"sourcetype,omitempty" doc:"osquery:results or osquery:status if it is left out"`
	Source      string               `json:"source,omitempty" yaml:"source,omitempty" doc:"muster if it is left out"`
	Acknowledge *bool                `json:"acknowledge,omitempty" yaml:"acknowledge,omitempty" doc:"Wait until Splunk says that a batch is indexed, for which its token must allow acknowledgement; true if it is left out"`
}

// SinkKafka is a topic.
type SinkKafka struct {
	SinkTLS `yaml:",inline"`

	Brokers   []string              `json:"brokers" yaml:"brokers" doc:"Some of the brokers, host:port"`
	Topic     string                `json:"topic" yaml:"topic" doc:"Topic, which must be there"`
	PlainText bool                  `json:"plain_text,omitempty" yaml:"plain_text,omitempty" doc:"No TLS: anybody on the way reads along"`
	SASL      string                `json:"sasl,omitempty" yaml:"sasl,omitempty" enum:"plain,scram-sha-256,scram-sha-512" doc:"How to log in; not at all if it is left out"`
	Username  string                `json:"username,omitempty" yaml:"username,omitempty" doc:"For sasl"`
	Password  *credential.Reference `json:"password,omitempty" yaml:"password,omitempty" doc:"Of username"`
	Key       string                `json:"key,omitempty" yaml:"key,omitempty" enum:"node,id" doc:"Key of records: node, the default, keeps a node's events in order in one partition; id is the event's own, for topics that are compacted"`
}

// SinkElastic is an Elasticsearch or OpenSearch.
type SinkElastic struct {
	SinkTLS `yaml:",inline"`

	URL      string                `json:"url" yaml:"url" doc:"Of the cluster, as https://es.example.com:9200"`
	Index    string                `json:"index" yaml:"index" doc:"Index or data stream; {day} and {month} stand for when the event was received, as 2026.01.31 and 2026.01"`
	Username string                `json:"username,omitempty" yaml:"username,omitempty" doc:"To log in with a password"`
	Password *credential.Reference `json:"password,omitempty" yaml:"password,omitempty" doc:"Of username"`
	APIKey   *credential.Reference `json:"api_key,omitempty" yaml:"api_key,omitempty" doc:"API key, encoded, instead of a password"`
}

// SinkS3 is a bucket.
type SinkS3 struct {
	SinkTLS `yaml:",inline"`

	Bucket    string                `json:"bucket" yaml:"bucket" doc:"Bucket, which must be there"`
	Prefix    string                `json:"prefix,omitempty" yaml:"prefix,omitempty" doc:"Begins the keys: PREFIX/2026/01/31/23/SEQ-INDEX.ndjson.gz"`
	Endpoint  string                `json:"endpoint,omitempty" yaml:"endpoint,omitempty" doc:"https://host:port; Amazon's if it is left out"`
	Region    string                `json:"region,omitempty" yaml:"region,omitempty" doc:"Asked of the server if it is left out"`
	PathStyle bool                  `json:"path_style,omitempty" yaml:"path_style,omitempty" doc:"The bucket in the path instead of the host's name"`
	AccessKey *credential.Reference `json:"access_key,omitempty" yaml:"access_key,omitempty" doc:"AWS_ACCESS_KEY_ID and its like of the server's environment if it is left out"`
	SecretKey *credential.Reference `json:"secret_key,omitempty" yaml:"secret_key,omitempty" doc:"Of access_key"`
	Objects   string                `json:"objects,omitempty" yaml:"objects,omitempty" enum:"ndjson,parquet" doc:"ndjson, the default: lines, compressed with gzip; parquet: columns, compressed with zstd, in Muster's own format alone"`
}

// SinkNATS is a subject.
type SinkNATS struct {
	SinkTLS `yaml:",inline"`

	URL         string                `json:"url" yaml:"url" doc:"Of a server, as tls://nats.example.com:4222; nats:// is without TLS"`
	Subject     string                `json:"subject" yaml:"subject" doc:"{query}, {action} and {node} stand for those of the event, with other characters than letters, digits, _ and - made _"`
	Core        bool                  `json:"core,omitempty" yaml:"core,omitempty" doc:"Without JetStream, which loses what nobody listens to; else a stream must have the subject"`
	Credentials *credential.Reference `json:"credentials,omitempty" yaml:"credentials,omitempty" doc:"A .creds file, whole"`
	Token       *credential.Reference `json:"token,omitempty" yaml:"token,omitempty" doc:"To log in with a token"`
	Username    string                `json:"username,omitempty" yaml:"username,omitempty" doc:"To log in with a password"`
	Password    *credential.Reference `json:"password,omitempty" yaml:"password,omitempty" doc:"Of username"`
}

// Bounds and defaults of a Sink.
const (
	MaxSinkRows   = 100_000  // a batch is in memory as a whole
	MaxSinkBytes  = 32 << 20 // the same
	maxSinkNames  = 200      // each is compared with each event
	maxSinkText   = 255      // of names that others set bounds to, and of hosts
	minSinkWait   = 50 * time.Millisecond
	maxSinkWait   = time.Hour
	minFileAge    = time.Minute
	maxFileAge    = 30 * 24 * time.Hour
	maxFileMiB    = 10 << 10
	maxFileKeep   = 10_000
	maxSinkURL    = 2 << 10
	maxSinkHeader = 16
)

// Formats of events in sinks.
const (
	SinkMuster  = "muster"
	SinkOsquery = "osquery"
	SinkECS     = "ecs"
)

// Way is the key that says where it sends.
func (s *Sink) Way() string {
	ways := s.ways()
	if len(ways) == 0 {
		return ""
	}
	return ways[0]
}

func (s *Sink) ways() []string {
	var set []string
	for _, w := range []struct {
		name string
		is   bool
	}{
		{"file", s.File != nil},
		{"stdout", s.Stdout != nil},
		{"syslog", s.Syslog != nil},
		{"http", s.HTTP != nil},
		{"splunk_hec", s.SplunkHEC != nil},
		{"kafka", s.Kafka != nil},
		{"elasticsearch", s.Elasticsearch != nil},
		{"opensearch", s.OpenSearch != nil},
		{"s3", s.S3 != nil},
		{"nats", s.NATS != nil},
	} {
		if w.is {
			set = append(set, w.name)
		}
	}
	return set
}

// Limits returns the batch with its defaults.
func (s *Sink) Limits() (rows, bytes int, wait time.Duration) {
	rows, bytes, wait = 1000, 1<<20, time.Second
	if s.S3 != nil {
		rows, bytes, wait = MaxSinkRows, 16<<20, 5*time.Minute
	}
	return orNumber(s.Batch.Rows, rows), orNumber(s.Batch.Bytes, bytes), orDefault(s.Batch.Wait, wait)
}

func (s *Sink) check(c *checker) {
	s.checkFilter(c)
	if !slices.Contains([]string{"", SinkMuster, SinkOsquery, SinkECS}, s.Format) {
		c.refuse("format", "bad-format", "is %q; use muster, osquery or ecs", s.Format)
	}
	c.inRange("batch.rows", s.Batch.Rows, MaxSinkRows)
	c.inRange("batch.bytes", s.Batch.Bytes, MaxSinkBytes)
	c.between("batch.wait", s.Batch.Wait, minSinkWait, maxSinkWait)
	ways := s.ways()
	if len(ways) != 1 {
		c.refuse("", "one-way", "must have exactly one of file, stdout, syslog, http, splunk_hec, kafka, elasticsearch, opensearch, s3 and nats")
		return
	}
	// What agents said leaves the server, to wherever this says.
	c.item("", policy.Verdict{Tier: policy.Sensitive, Reasons: []policy.Reason{{
		Kind: "sink", Name: ways[0], Tier: policy.Sensitive, Why: "events are sent outside",
	}}})
	switch {
	case s.File != nil:
		s.File.check(c)
	case s.Syslog != nil:
		s.Syslog.check(c)
	case s.HTTP != nil:
		s.HTTP.check(c)
	case s.SplunkHEC != nil:
		s.SplunkHEC.check(c)
	case s.Kafka != nil:
		s.Kafka.check(c)
	case s.Elasticsearch != nil:
		s.Elasticsearch.check(c, ways[0])
	case s.OpenSearch != nil:
		s.OpenSearch.check(c, ways[0])
	case s.S3 != nil:
		s.S3.check(c, s.Format)
	case s.NATS != nil:
		s.NATS.check(c)
	}
}

func (s *Sink) checkFilter(c *checker) {
	c.selector("selector", s.Selector)
	if len(s.Queries) > maxSinkNames {
		c.refuse("queries", "range", "must be at most %d names", maxSinkNames)
	}
	for i, q := range s.Queries {
		if name := strings.TrimSuffix(q, "*"); strings.Contains(name, "*") || q == "" || len(q) > 2*maxSinkText {
			c.refuse(indexed("queries", i), "bad-name", "%q is no name of a query, or a prefix that ends with *", q)
		}
	}
	for i, a := range s.Actions {
		if !slices.Contains([]string{event.Added, event.Removed, event.Snapshot, event.Status}, a) {
			c.refuse(indexed("actions", i), "bad-action", "is %q; use added, removed, snapshot and status", a)
		}
	}
	if !slices.Contains([]string{"", "info", "warning", "error"}, s.Severity) {
		c.refuse("severity", "bad-severity", "is %q; use info, warning or error", s.Severity)
	}
	if _, err := event.ParseExpr("where", s.Where); err != nil {
		c.refuse("where", "bad-condition", "%v", err)
	}
}

func (f *SinkFile) check(c *checker) {
	if !namePattern.MatchString(f.Name) {
		c.refuse("file.name", "bad-name", "%q is no name of a file; use up to 63 letters, digits and . _ -, a letter or digit first; it is in sink_dir", f.Name)
	}
	c.inRange("file.max_mib", f.MaxMiB, maxFileMiB)
	c.between("file.max_age", f.MaxAge, minFileAge, maxFileAge)
	c.inRange("file.keep", f.Keep, maxFileKeep)
	for k, other := range Specs[*Sink](c.set) {
		if k.Name < c.object.Name && other.File != nil && other.File.Name == f.Name {
			c.refuse("file.name", "file-twice", "%s writes to %s, too; choose another name", k, f.Name)
		}
	}
}

func (t *SinkTLS) check(c *checker, path string) {
	c.reference(path+".ca", t.CA)
	c.reference(path+".client_cert", t.ClientCert)
	c.reference(path+".client_key", t.ClientKey)
	if (t.ClientCert == nil) != (t.ClientKey == nil) {
		c.refuse(path+".client_key", "half-certificate", "and client_cert must both be there, or neither")
	}
}

func (y *SinkSyslog) check(c *checker) {
	y.SinkTLS.check(c, "syslog")
	c.hostPort("syslog.address", y.Address)
	switch y.Network {
	case "", "tls":
	case "tcp", "udp":
		c.warn("syslog.network", "plain", "is %s: anybody on the way reads the events", y.Network)
	default:
		c.refuse("syslog.network", "bad-network", "is %q; use tls, tcp or udp", y.Network)
	}
	if _, ok := SyslogFacility(y.Facility); !ok {
		c.refuse("syslog.facility", "bad-facility", "is %q; use local0 to local7, user, daemon, auth or authpriv", y.Facility)
	}
	if len(y.AppName) > 48 || strings.ContainsFunc(y.AppName, func(r rune) bool { return r <= ' ' || r > '~' }) {
		c.refuse("syslog.app_name", "bad-name", "must be at most 48 letters, digits and signs, without spaces") // RFC 5424, 6.2.5
	}
}

// SyslogFacility returns the number of a facility (RFC 5424, 6.2.1); false for a
// name that is none. The empty name is local0.
func SyslogFacility(name string) (int, bool) {
	switch name {
	case "":
		return 16, true
	case "user":
		return 1, true
	case "daemon":
		return 3, true
	case "auth":
		return 4, true
	case "authpriv":
		return 10, true
	}
	n, err := strconv.Atoi(strings.TrimPrefix(name, "local"))
	return 16 + n, err == nil && n >= 0 && n <= 7 && strings.HasPrefix(name, "local") && len(name) == len("local0")
}

func (h *SinkHTTP) check(c *checker) {
	h.SinkTLS.check(c, "http")
	switch {
	case (h.URL == "") == (h.URLFrom == nil):
		c.refuse("http.url", "one-url", "or url_from must be there, one of the two")
	case h.URL != "":
		c.sinkURL("http.url", h.URL)
	}
	c.reference("http.url_from", h.URLFrom)
	c.reference("http.secret", h.Sign)
	if len(h.Headers) > maxSinkHeader {
		c.refuse("http.headers", "range", "must be at most %d", maxSinkHeader)
	}
	for name, from := range h.Headers {
		if !sinkHeader(name) {
			c.refuse("http.headers", "bad-header", "%q cannot be set; use letters, digits and -, and none of Host, Content-*, Transfer-Encoding, Connection and X-Muster-*", name)
		}
		c.reference("http.headers."+name, &from)
	}
}

// sinkHeader reports whether a header may be set by who writes a sink.
func sinkHeader(name string) bool {
	lower := strings.ToLower(name)
	if name == "" || len(name) > 64 || strings.HasPrefix(lower, "x-muster-") || strings.HasPrefix(lower, "content-") ||
		slices.Contains([]string{"host", "transfer-encoding", "connection", "te", "trailer", "upgrade"}, lower) {
		return false
	}
	return !strings.ContainsFunc(lower, func(r rune) bool { return r != '-' && (r < '0' || r > '9') && (r < 'a' || r > 'z') })
}

func (p *SinkSplunk) check(c *checker) {
	p.SinkTLS.check(c, "splunk_hec")
	c.sinkURL("splunk_hec.url", p.URL)
	c.reference("splunk_hec.token", &p.Token)
	for path, text := range map[string]string{"index": p.Index, "sourcetype": p.Sourcetype, "source": p.Source} {
		c.short("splunk_hec."+path, text)
	}
}

func (k *SinkKafka) check(c *checker) {
	k.SinkTLS.check(c, "kafka")
	if len(k.Brokers) == 0 || len(k.Brokers) > maxSinkNames {
		c.refuse("kafka.brokers", "range", "must have 1 to %d brokers", maxSinkNames)
	}
	for i, b := range k.Brokers {
		c.hostPort(indexed("kafka.brokers", i), b)
	}
	// Kafka's own rule for names of topics.
	if k.Topic == "" || k.Topic == "." || k.Topic == ".." || len(k.Topic) > 249 || strings.ContainsFunc(k.Topic, func(r rune) bool {
		return r != '.' && r != '_' && r != '-' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	}) {
		c.refuse("kafka.topic", "bad-topic", "%q is no name of a topic; use up to 249 letters, digits and . _ -", k.Topic)
	}
	if k.PlainText {
		c.warn("kafka.plain_text", "plain", "is true: anybody on the way reads the events")
	}
	if !slices.Contains([]string{"", "plain", "scram-sha-256", "scram-sha-512"}, k.SASL) {
		c.refuse("kafka.sasl", "bad-sasl", "is %q; use plain, scram-sha-256 or scram-sha-512", k.SASL)
	}
	if (k.SASL == "") != (k.Username == "") || (k.SASL == "") != (k.Password == nil) {
		c.refuse("kafka.sasl", "half-login", "and username and password must all be there, or none")
	}
	if k.SASL == "plain" && k.PlainText {
		c.refuse("kafka.sasl", "open-password", "is plain, and there is no TLS; use scram-sha-512, or leave plain_text out")
	}
	c.reference("kafka.password", k.Password)
	if !slices.Contains([]string{"", "node", "id"}, k.Key) {
		c.refuse("kafka.key", "bad-key", "is %q; use node or id", k.Key)
	}
}

func (e *SinkElastic) check(c *checker, path string) {
	e.SinkTLS.check(c, path)
	c.sinkURL(path+".url", e.URL)
	// Elasticsearch's own rule for names of indices.
	name := strings.NewReplacer("{day}", "", "{month}", "").Replace(e.Index)
	if e.Index == "" || len(e.Index) > maxSinkText-16 || strings.HasPrefix(e.Index, "-") || strings.HasPrefix(e.Index, "_") || strings.HasPrefix(e.Index, "+") ||
		strings.HasPrefix(e.Index, ".") || name != strings.ToLower(name) || strings.ContainsAny(name, "\\/*?\"<>| ,#:{}\r\n\t") {
		c.refuse(path+".index", "bad-index", "%q is no name of an index; use small letters, digits, - and _, with {day} or {month}", e.Index)
	}
	if (e.Username == "") != (e.Password == nil) || e.APIKey != nil && e.Password != nil {
		c.refuse(path+".password", "half-login", "and username must both be there, or api_key, or none of them")
	}
	c.reference(path+".password", e.Password)
	c.reference(path+".api_key", e.APIKey)
}

func (s *SinkS3) check(c *checker, format string) {
	s.SinkTLS.check(c, "s3")
	if len(s.Bucket) < 3 || len(s.Bucket) > 63 || strings.ContainsFunc(s.Bucket, func(r rune) bool {
		return r != '.' && r != '-' && (r < '0' || r > '9') && (r < 'a' || r > 'z')
	}) {
		c.refuse("s3.bucket", "bad-bucket", "%q is no name of a bucket; use 3 to 63 small letters, digits, . and -", s.Bucket)
	}
	if strings.HasPrefix(s.Prefix, "/") || strings.HasSuffix(s.Prefix, "/") || len(s.Prefix) > maxSinkText || strings.ContainsFunc(s.Prefix, func(r rune) bool { return r <= ' ' || r > '~' }) {
		c.refuse("s3.prefix", "bad-prefix", "%q must be at most %d letters, digits and signs, without / at its ends", s.Prefix, maxSinkText)
	}
	if s.Endpoint != "" {
		c.sinkURL("s3.endpoint", s.Endpoint)
	}
	if (s.AccessKey == nil) != (s.SecretKey == nil) {
		c.refuse("s3.secret_key", "half-login", "and access_key must both be there, or neither")
	}
	c.reference("s3.access_key", s.AccessKey)
	c.reference("s3.secret_key", s.SecretKey)
	switch s.Objects {
	case "", "ndjson":
	case "parquet":
		if format != "" && format != SinkMuster {
			c.refuse("s3.objects", "bad-format", "is parquet, which has the format muster alone")
		}
	default:
		c.refuse("s3.objects", "bad-objects", "is %q; use ndjson or parquet", s.Objects)
	}
}

func (n *SinkNATS) check(c *checker) {
	n.SinkTLS.check(c, "nats")
	u, err := url.Parse(n.URL)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "tls" && u.Scheme != "nats" || len(n.URL) > maxSinkURL:
		c.refuse("nats.url", "bad-url", "is no URL, as tls://host:4222")
	case u.User != nil:
		c.refuse("nats.url", "open-password", "holds a password; use username and password")
	case u.Scheme == "nats":
		c.warn("nats.url", "plain", "is nats: anybody on the way reads the events, unless the server asks for TLS")
	}
	name := strings.NewReplacer("{query}", "q", "{action}", "a", "{node}", "n").Replace(n.Subject)
	if name == "" || len(name) > maxSinkText || strings.HasPrefix(name, ".") || strings.HasSuffix(name, ".") || strings.Contains(name, "..") ||
		strings.HasPrefix(name, "$") || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune("*>{}", r) }) {
		c.refuse("nats.subject", "bad-subject", "%q is no subject; use words with dots between them, as osquery.{query}", n.Subject)
	}
	logins := 0
	for _, is := range []bool{n.Credentials != nil, n.Token != nil, n.Password != nil} {
		if is {
			logins++
		}
	}
	if logins > 1 || (n.Username == "") != (n.Password == nil) {
		c.refuse("nats.password", "half-login", "and username must both be there, or token, or credentials, or none of them")
	}
	c.reference("nats.credentials", n.Credentials)
	c.reference("nats.token", n.Token)
	c.reference("nats.password", n.Password)
}

func (c *checker) inRange(path string, n, most int) {
	if n < 0 || n > most {
		c.refuse(path, "range", "must be 1 to %d, or left out", most)
	}
}

func (c *checker) short(path, text string) {
	if len(text) > maxSinkText || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		c.refuse(path, "range", "must be at most %d letters, digits and signs", maxSinkText)
	}
}

func (c *checker) hostPort(path, text string) {
	host, port, err := net.SplitHostPort(text)
	n, numErr := strconv.Atoi(port)
	if err != nil || host == "" || numErr != nil || n < 1 || n > 65535 || len(text) > maxSinkText || strings.ContainsAny(host, " \r\n\t/@") {
		c.refuse(path, "bad-address", "%q is no host:port", text)
	}
}

func (c *checker) sinkURL(path, text string) {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || len(text) > maxSinkURL:
		c.refuse(path, "bad-url", "is no URL, as https://host/path") // the text may hold a secret
	case u.User != nil:
		c.refuse(path, "open-password", "holds a password; name it where a secret is")
	case u.Scheme == "http":
		c.warn(path, "plain", "is http: anybody on the way reads the events")
	}
}

// SinkPlan is a Sink as it is served.
type SinkPlan struct {
	Name string
	// Hash tells specs apart: equal ones need no new connection.
	Hash string
	Spec *Sink
	// Where is what must hold of an event; nil for any.
	Where *event.Expr

	who chosen[struct{}]
}

// Means reports whether the sink gets a node's events.
func (p *SinkPlan) Means(n *node.Identity) bool { return p.who.means(n) }

// All reports whether it gets every node's.
func (p *SinkPlan) All() bool { return p.who.all }

func (s *Snapshot) addSink(o Object, spec *Sink) error {
	who, err := choose(o, spec.Selector, struct{}{})
	if err != nil {
		return err
	}
	where, err := event.ParseExpr("where", spec.Where)
	if err != nil {
		return err
	}
	canonical, err := o.Canonical()
	if err != nil {
		return err
	}
	s.sinks = append(s.sinks, &SinkPlan{Name: o.Name, Hash: Hash(canonical), Spec: spec, Where: where, who: who})
	return nil
}

// Sinks returns the sinks by name. Do not change it.
func (s *Snapshot) Sinks() []*SinkPlan { return s.sinks }
