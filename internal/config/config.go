// Package config is the server's own configuration: one struct, filled from
// defaults, then muster.yaml, then MUSTER_* variables, then flags. Unknown keys
// and values that cannot be are errors that name the key.
package config

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"

	"github.com/musterhq/muster/internal/egress"
)

// Server is the configuration of `muster serve`. Every field has a default; the
// tag doc is its help text, in the file, in --help and in the documentation.
type Server struct {
	DataDir       string   `yaml:"data_dir" doc:"Directory of everything that the server keeps; made with mode 0700"`
	AgentListen   string   `yaml:"agent_listen" doc:"Address for agents, host:port; TLS always"`
	AdminListen   string   `yaml:"admin_listen" doc:"Address for people, host:port; plain HTTP on loopback only, elsewhere TLS is needed"`
	AgentHostname []string `yaml:"agent_hostname" doc:"Names or addresses under which agents reach the server, for its own certificate"`
	AgentCert     string   `yaml:"agent_cert" doc:"Certificate chain for agents, PEM; made by the server's own CA if empty"`
	AgentKey      string   `yaml:"agent_key" doc:"Key of agent_cert, PEM"`
	AdminCert     string   `yaml:"admin_cert" doc:"Certificate chain for people, PEM; switches TLS on"`
	AdminKey      string   `yaml:"admin_key" doc:"Key of admin_cert, PEM"`

	AgentAliases     []string      `yaml:"agent_aliases" doc:"Paths besides /api/osquery/… under which agents find the server: presets, or PATH=ENDPOINT; see muster config show aliases"`
	EnrollSecretName string        `yaml:"enroll_secret_name" doc:"How agents call their enroll secret in their request; osquery's --tls_enroll_override"`
	TrustedProxies   []string      `yaml:"trusted_proxies" doc:"Networks of proxies whose X-Forwarded-For and client_cert_header are believed, as 10.0.0.0/8"`
	ClientAuth       string        `yaml:"client_auth" doc:"Client certificates of agents: off, optional or required"`
	ClientCA         string        `yaml:"client_ca" doc:"CAs that agents' certificates are checked against, PEM; reloaded when it changes; the server's own CA if empty"`
	ClientBinding    string        `yaml:"client_binding" doc:"How a node is bound to its certificate: off, fingerprint (the one it enrolled with), or san (made for its host identifier)"`
	ClientCertHeader string        `yaml:"client_cert_header" doc:"Header in which trusted proxies put the agent's certificate; none if empty"`
	OnIdentityClash  string        `yaml:"on_identity_clash" doc:"When two live machines claim one host identifier: allow (count it), quarantine (keep the newcomer apart), or refuse"`
	NodeTTL          time.Duration `yaml:"node_ttl" doc:"How long a node may be silent before it is removed; 0 is for ever"`
	NodeTTLTags      []string      `yaml:"node_ttl_tags" doc:"The same for nodes with a tag, as autoscaled=15m; it goes before node_ttl, and the shortest counts"`

	LimitConnections           int64 `yaml:"limit_connections" doc:"Connections of agents at a time; 0 is what the system allows"`
	LimitConnectionsPerAddress int64 `yaml:"limit_connections_per_address" doc:"Connections of one address at a time; this machine and trusted proxies are not counted; 0 is no limit"`
	LimitSmallBytes            int64 `yaml:"limit_small_bytes" doc:"Body of an enroll, config or distributed/read request, inflated"`
	LimitLogBytes              int64 `yaml:"limit_log_bytes" doc:"Body of a log request, inflated; osquery repeats a refused one for ever"`
	LimitWriteBytes            int64 `yaml:"limit_write_bytes" doc:"Body of a distributed/write request, inflated"`
	LimitBodyMemory            int64 `yaml:"limit_body_memory" doc:"Bytes of all bodies together that are in memory at a time, but for the first 64 KiB of each"`
	LimitBodyRate              int64 `yaml:"limit_body_rate" doc:"Bytes a second that a body must come with, after five seconds; 0 is any"`
	LimitEnrolling             int64 `yaml:"limit_enrolling" doc:"Enrolments at work at a time"`
	LimitLogging               int64 `yaml:"limit_logging" doc:"Log requests at work at a time"`
	LimitWriting               int64 `yaml:"limit_writing" doc:"Answers to live queries at work at a time"`
	LimitQueue                 int64 `yaml:"limit_queue" doc:"How many times as many requests of each kind may wait"`

	CarveStore           string        `yaml:"carve_store" doc:"Where carves are kept, sealed: dir (in the data directory), dir:/path, s3://bucket/prefix?endpoint=https://host, or mongodb://host/database; see docs/carving.md"`
	CarveMax             int64         `yaml:"carve_max_bytes" doc:"The largest archive that a node may send"`
	CarveNodeMax         int64         `yaml:"carve_node_bytes" doc:"What all archives of one node may take"`
	CarveTotalMax        int64         `yaml:"carve_total_bytes" doc:"What all archives may take"`
	CarveFree            int64         `yaml:"carve_free_bytes" doc:"What carves leave free on the server's disk, for everything else"`
	CarveBlock           int64         `yaml:"carve_block_bytes" doc:"The largest block; agents choose theirs with --carver_block_size, and proxies must let a third more pass"`
	CarveSessions        int64         `yaml:"carve_sessions" doc:"Archives that are being sent at a time"`
	CarveSessionsPerNode int64         `yaml:"carve_sessions_per_node" doc:"The same, of one node"`
	CarveExpiry          time.Duration `yaml:"carve_expiry" doc:"An archive of which nothing came for so long is given up"`
	CarveRetention       time.Duration `yaml:"carve_retention" doc:"How long archives are kept"`
	CarveUnrequested     string        `yaml:"carve_unrequested" doc:"Archives that nobody asked for: refuse or accept"`
	LimitCarving         int64         `yaml:"limit_carving" doc:"Blocks of carves at work at a time"`
	VaultAddr            string        `yaml:"vault_addr" doc:"URL of a Vault whose tokens may download carves; none if empty"`
	VaultCA              string        `yaml:"vault_ca" doc:"CAs that Vault's certificate is checked against, PEM; the system's if empty"`
	VaultPolicy          string        `yaml:"vault_policy" doc:"The policy that such a token must have"`
	VaultNamespace       string        `yaml:"vault_namespace" doc:"Vault's namespace, if it has any"`

	OfflineAfter time.Duration `yaml:"offline_after" doc:"How long a node must say nothing until that is a finding; one whose own rhythm is slower has more time"`
	SilentAfter  time.Duration `yaml:"silent_after" doc:"How long a node that polls may log no results until that is a finding"`

	Retention        time.Duration `yaml:"retention" doc:"How long events are searchable; whole days are dropped; 0 keeps all"`
	RetentionBytes   int64         `yaml:"retention_bytes" doc:"Size on disk of searchable events from which the oldest are dropped; 0 is any"`
	RetentionQueries []string      `yaml:"retention_queries" doc:"The same as retention for queries of a name, as pack_noisy_*=7d; the first that fits counts; 0 keeps all"`
	LiveRetention    time.Duration `yaml:"live_retention" doc:"How long live queries and their answers are kept after their end; 0 keeps all"`
	FlushEvents      int64         `yaml:"flush_events" doc:"How many events are held in memory before they are written to files; at most five minutes"`
	StreamMax        int64         `yaml:"stream_max_bytes" doc:"Size on disk at which the stream of what was not processed yet refuses more"`
	AuditWitness     []string      `yaml:"audit_witness" doc:"Where signed checkpoints of the audit log are sent as well: URLs, as https://…, syslog:///dev/log, syslog://host:514, syslog+tcp://host:601 or file:///mnt/other/audit"`
	FreezeSource     []string      `yaml:"freeze_source" doc:"Where a system outside says whether what agents run may change: files or URLs that hold {\"frozen\": true, \"reason\": \"…\"}; one that cannot be asked is a freeze"`
	AlertRetention   time.Duration `yaml:"alert_retention" doc:"How long alerts are kept after they were resolved, with their history; 0 keeps all"`
	SecretsDir       string        `yaml:"secrets_dir" doc:"Directory of the files that resources name as {file: NAME}; secrets in the data directory if empty"`
	RequireFactor    string        `yaml:"require_second_factor" doc:"Who needs a second factor to do anything: off, approvers (who may consent to what others want), or all"`
	SignOnFile       string        `yaml:"sign_on_file" doc:"File of OpenID Connect providers that people log in with; none if empty; see docs/access.md"`
	EgressAllow      []string      `yaml:"egress_allow" doc:"Networks that notifiers and sinks may reach although they are not public, as 10.0.0.0/8 or 192.0.2.25; without it they reach the open internet alone"`
	SinkDir          string        `yaml:"sink_dir" doc:"Directory of the files that sinks write; sinks/files in the data directory if empty"`
	PublicURL        string        `yaml:"public_url" doc:"URL under which people reach the UI, for links in notifications; no links if empty"`
	DrainTimeout     time.Duration `yaml:"drain_timeout" doc:"How long a stopping server waits for requests in flight"`
	LogLevel         string        `yaml:"log_level" doc:"debug, info, warn or error"`
	LogFormat        string        `yaml:"log_format" doc:"text or json"`
}

// Default returns the defaults.
func Default() Server {
	return Server{
		DataDir:        "data",
		AgentListen:    ":8443",
		AdminListen:    "127.0.0.1:8080",
		Retention:      90 * 24 * time.Hour,
		LiveRetention:  30 * 24 * time.Hour,
		OfflineAfter:   time.Hour,
		SilentAfter:    time.Hour,
		AlertRetention: 90 * 24 * time.Hour,

		AgentAliases:     []string{"carve-server", "doorman", "fleet", "kolide", "osctrl", "osquery", "sgt", "zentral"},
		EnrollSecretName: "enroll_secret",
		ClientAuth:       "off",
		ClientBinding:    "off",
		OnIdentityClash:  "quarantine",
		RequireFactor:    "off",

		LimitConnectionsPerAddress: 4096,
		LimitSmallBytes:            256 << 10,
		LimitLogBytes:              64 << 20,
		LimitWriteBytes:            64 << 20,
		LimitBodyMemory:            64 << 20,
		LimitBodyRate:              4 << 10,
		LimitEnrolling:             64,
		LimitLogging:               1024,
		LimitWriting:               256,
		LimitQueue:                 64,

		CarveStore:           "dir",
		CarveMax:             2 << 30,
		CarveNodeMax:         10 << 30,
		CarveTotalMax:        100 << 30,
		CarveFree:            1 << 30,
		CarveBlock:           16 << 20,
		CarveSessions:        256,
		CarveSessionsPerNode: 4,
		CarveExpiry:          24 * time.Hour,
		CarveRetention:       30 * 24 * time.Hour,
		CarveUnrequested:     "refuse",
		LimitCarving:         8,
		VaultPolicy:          "osquery-carve-file-request",

		FlushEvents:  100_000,
		StreamMax:    8 << 30,
		DrainTimeout: 20 * time.Second,
		LogLevel:     "info",
		LogFormat:    "text",
	}
}

// Key is one setting.
type Key struct {
	Name    string `json:"name"` // in the file
	Flag    string `json:"flag"` // on the command line, without dashes
	Env     string `json:"env"`
	Doc     string `json:"doc"`
	Default string `json:"default"`
}

// Keys returns all settings in the order of the struct.
func Keys() []Key {
	defaults := Default()
	v := reflect.ValueOf(defaults)
	var keys []Key
	for i := range v.NumField() {
		f := v.Type().Field(i)
		name := f.Tag.Get("yaml")
		keys = append(keys, Key{
			Name: name, Flag: strings.ReplaceAll(name, "_", "-"), Env: "MUSTER_" + strings.ToUpper(name),
			Doc: f.Tag.Get("doc"), Default: format(v.Field(i)),
		})
	}
	return keys
}

// setNode sets a key from YAML; a list may stand for a comma-separated text.
func (s *Server) setNode(name string, value ast.Node) error {
	v, err := s.field(name)
	if err != nil {
		return err
	}
	values := []ast.Node{value}
	if seq, ok := value.(*ast.SequenceNode); ok {
		if v.Kind() != reflect.Slice {
			return fmt.Errorf("%s: takes one value, not a list", name)
		}
		values = seq.Values
	}
	var list []string
	for _, n := range values {
		text, err := scalar(n)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		list = append(list, text)
	}
	return s.set(name, strings.Join(list, ","))
}

// scalar returns the text of a single value as it was written.
func scalar(n ast.Node) (string, error) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, nil
	case *ast.LiteralNode:
		return n.Value.Value, nil
	case *ast.NullNode:
		return "", nil
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return n.GetToken().Value, nil
	}
	return "", errors.New("must be a plain value")
}

// Text returns the value of a key as it can be written in the file; "" for one
// that is not known.
func (s *Server) Text(name string) string {
	v, err := s.field(name)
	if err != nil {
		return ""
	}
	return format(v)
}

// field returns the field of a key.
func (s *Server) field(name string) (reflect.Value, error) {
	v := reflect.ValueOf(s).Elem()
	for i := range v.NumField() {
		if v.Type().Field(i).Tag.Get("yaml") == name {
			return v.Field(i), nil
		}
	}
	return v, fmt.Errorf("unknown key %q; did you mean %q", name, nearest(name))
}

// set sets one key from text.
func (s *Server) set(name, text string) error {
	v, err := s.field(name)
	if err != nil {
		return err
	}
	if err := parse(v, text); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

func parse(v reflect.Value, text string) error {
	switch p := v.Addr().Interface().(type) {
	case *string:
		*p = text
	case *[]string:
		*p = nil
		for part := range strings.SplitSeq(text, ",") {
			if part = strings.TrimSpace(part); part != "" {
				*p = append(*p, part)
			}
		}
	case *time.Duration:
		d, err := ParseDuration(text)
		if err != nil {
			return err
		}
		*p = d
	case *int64:
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return fmt.Errorf("%q is no whole number", text)
		}
		*p = n
	default:
		return fmt.Errorf("a %s cannot be set", v.Type())
	}
	return nil
}

func format(v reflect.Value) string {
	if list, ok := reflect.TypeAssert[[]string](v); ok {
		return strings.Join(list, ",")
	}
	return fmt.Sprint(v.Interface())
}

// ParseDuration is time.ParseDuration that also knows days, as in 90d.
func ParseDuration(text string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		const day, most = 24 * time.Hour, int64(math.MaxInt64 / (24 * time.Hour))
		n, err := strconv.ParseInt(days, 10, 32)
		if err == nil && -most <= n && n <= most {
			return time.Duration(n) * day, nil
		}
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		return 0, fmt.Errorf("%q is no duration; write 90d, 12h, 30m or 10s", text)
	}
	return d, nil
}

// Validate checks what a single key cannot show.
func (s *Server) Validate() error {
	var problems []error
	bad := func(key, format string, args ...any) {
		problems = append(problems, &problem{key, fmt.Sprintf(format, args...)})
	}
	s.validateBounds(bad)
	if s.DataDir == "" {
		bad("data_dir", "must not be empty")
	}
	for _, l := range []struct{ key, addr string }{{"agent_listen", s.AgentListen}, {"admin_listen", s.AdminListen}} {
		if _, _, err := net.SplitHostPort(l.addr); err != nil {
			bad(l.key, "%q is not host:port", l.addr)
		}
	}
	if (s.AgentCert == "") != (s.AgentKey == "") {
		bad("agent_cert", "and agent_key belong together")
	}
	if (s.AdminCert == "") != (s.AdminKey == "") {
		bad("admin_cert", "and admin_key belong together")
	}
	if s.AdminCert == "" && !loopback(s.AdminListen) {
		bad("admin_listen", "%q is not loopback; set admin_cert and admin_key, or put a proxy with TLS in front of 127.0.0.1", s.AdminListen)
	}
	if least := max(s.LimitLogBytes, s.LimitWriteBytes); s.LimitBodyMemory < least {
		bad("limit_body_memory", "must be at least limit_log_bytes and limit_write_bytes, %d", least)
	}
	s.validateAgents(bad)
	s.validateCarves(bad)
	if _, err := s.QueryRetention(); err != nil {
		bad("retention_queries", "%v", err)
	}
	s.validateEgress(bad)
	for _, text := range s.AuditWitness {
		if problem := checkWitness(text); problem != "" {
			bad("audit_witness", "%s", problem)
		}
	}
	if _, err := egress.ParseNetworks(s.EgressAllow); err != nil {
		bad("egress_allow", "%v", err)
	}
	return errors.Join(problems...)
}

// checkWitness says what is wrong with a URL of audit_witness, or nothing.
func checkWitness(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return "holds what is no URL; write https://host/path" // err would show a password
	}
	local := u.Host == "" && filepath.IsAbs(u.Path)
	switch u.Scheme {
	case "http", "https":
		if u.Host != "" {
			return ""
		}
	case "syslog":
		if local || u.Host != "" && u.Path == "" {
			return ""
		}
	case "syslog+tcp":
		if u.Host != "" && u.Path == "" {
			return ""
		}
	case "file":
		if local {
			return ""
		}
	}
	return fmt.Sprintf("%q is none of https://host/path, syslog:///dev/log, syslog://host:514, syslog+tcp://host:601, file:///path", u.Redacted())
}

// validateAgents checks how agents are known.
func (s *Server) validateAgents(bad func(key, format string, args ...any)) {
	if s.ClientAuth == "off" && s.ClientBinding != "off" {
		bad("client_binding", "needs client_auth: optional or required")
	}
	if s.ClientCertHeader != "" && len(s.TrustedProxies) == 0 {
		bad("client_cert_header", "needs trusted_proxies: anybody else could send it, too")
	}
	if s.EnrollSecretName == "" {
		bad("enroll_secret_name", "must not be empty; osquery's own is enroll_secret")
	}
	if _, err := s.Proxies(); err != nil {
		bad("trusted_proxies", "%v", err)
	}
	if _, err := s.TagTTLs(); err != nil {
		bad("node_ttl_tags", "%v", err)
	}
}

// minTTL is several polls of an agent with the usual intervals: a shorter
// silence says nothing.
const minTTL = 5 * time.Minute

// Proxies returns TrustedProxies; an address is a network of one.
func (s *Server) Proxies() ([]netip.Prefix, error) {
	networks := make([]netip.Prefix, 0, len(s.TrustedProxies))
	for _, text := range s.TrustedProxies {
		if a, err := netip.ParseAddr(text); err == nil {
			networks = append(networks, netip.PrefixFrom(a, a.BitLen()))
			continue
		}
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("%q is no network; write 10.0.0.0/8 or 10.1.2.3", text)
		}
		networks = append(networks, p.Masked())
	}
	return networks, nil
}

// TagTTLs returns NodeTTLTags by tag.
func (s *Server) TagTTLs() (map[string]time.Duration, error) {
	ttls := map[string]time.Duration{}
	for _, text := range s.NodeTTLTags {
		tag, value, ok := strings.Cut(text, "=")
		if !ok || tag == "" {
			return nil, fmt.Errorf("%q is no TAG=DURATION, as autoscaled=15m", text)
		}
		d, err := ParseDuration(value)
		if err != nil {
			return nil, err
		}
		if d < minTTL {
			return nil, fmt.Errorf("%s must be at least %s", tag, minTTL)
		}
		ttls[tag] = d
	}
	return ttls, nil
}

// Retention is how long the events of queries are kept; 0 is for ever.
type Retention struct {
	Query string // exact name, or a prefix when it ends with *
	Keep  time.Duration
}

// QueryRetention returns RetentionQueries, in their order.
func (s *Server) QueryRetention() ([]Retention, error) {
	var list []Retention
	for _, text := range s.RetentionQueries {
		i := strings.LastIndexByte(text, '=') // a query's name may have one, too
		if i <= 0 {
			return nil, fmt.Errorf("%q is no QUERY=DURATION, as pack_noisy_*=7d", text)
		}
		d, err := ParseDuration(text[i+1:])
		if err != nil {
			return nil, err
		}
		if d < 0 {
			return nil, fmt.Errorf("%s must not be negative", text[:i])
		}
		list = append(list, Retention{text[:i], d})
	}
	return list, nil
}

// Path returns the path of a file in the data directory.
func (s *Server) Path(name string) string { return filepath.Join(s.DataDir, name) }

// AdminLocal reports whether people are listened for on this machine alone.
func (s *Server) AdminLocal() bool { return loopback(s.AdminListen) }

func loopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return true // told elsewhere
	}
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// nearest returns the key that looks most like name.
func nearest(name string) string {
	keys := Keys()
	return slices.MinFunc(keys, func(a, b Key) int { return cmp.Compare(distance(name, a.Name), distance(name, b.Name)) }).Name
}

// distance is Levenshtein's.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			substitute := diagonal
			if a[i] != b[j] {
				substitute++
			}
			diagonal = row[j+1]
			row[j+1] = min(row[j]+1, row[j+1]+1, substitute)
		}
	}
	return row[len(b)]
}
