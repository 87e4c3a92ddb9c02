package agent

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A Definition is one osquery flag that this agent acts on.
type Definition struct {
	Name    string
	Type    string // bool, string, uint64
	Default string
	CLIOnly bool // the config may not set it
	About   string
}

// Definitions returns the flags that have an effect, sorted. Names, types and
// defaults are osquery's (osquery/core/flags.h and the plugins); where a
// default is a path of an installed osquery there is none here.
func Definitions() []Definition {
	const cli = true
	d := []Definition{
		{"buffered_log_max", "uint64", "1000000", false, "Most buffered log lines; 0 is no limit"},
		{"carver_block_size", "uint64", "8192", cli, "Bytes of a carve in one request"},
		{"carver_compression", "bool", "false", cli, "Compress carves with zstd"},
		{"carver_continue_endpoint", "string", "", cli, "Path of the blocks of carves"},
		{"carver_expiry", "uint64", "86400", cli, "Seconds for which table carves lists a carve that succeeded"},
		{"carver_start_endpoint", "string", "", cli, "Path of the request that announces a carve"},
		{"config_accelerated_refresh", "uint64", "300", cli, "Seconds to the next try after a failed config refresh"},
		{"config_enable_backup", "bool", "false", cli, "Keep the last good config for a start without the server"},
		{"config_path", "string", "", cli, "Config file for config_plugin=filesystem"},
		{"config_plugin", "string", "filesystem", cli, "tls or filesystem"},
		{"config_refresh", "uint64", "0", cli, "Seconds between config requests; 0 asks once"},
		{"config_tls_endpoint", "string", "", cli, "Path of the config request"},
		{"config_tls_max_attempts", "uint64", "3", cli, "Attempts per config request"},
		{"database_path", "string", "", cli, "Directory for the node key, buffered logs and query results"},
		{"decorations_top_level", "bool", "false", false, "Put decorations beside the other fields of a line"},
		{"disable_carver", "bool", "true", cli, "Send no files that the carves table is asked for"},
		{"disable_decorators", "bool", "false", false, "Run no decorators"},
		{"disable_distributed", "bool", "true", false, "Ask for no distributed queries"},
		{"disable_enrollment", "bool", "false", cli, "Send an empty node key instead of enrolling"},
		{"disable_logging", "bool", "false", false, "Log nothing"},
		{"disable_reenrollment", "bool", "false", cli, "Keep the node key when the server calls it invalid"},
		{"disable_tables", "string", "", cli, "Tables that are to be unknown, separated by commas"},
		{"distributed_denylist_duration", "uint64", "86400", false, "Seconds for which a query that ended the agent is refused"},
		{"distributed_interval", "uint64", "60", false, "Seconds between requests for distributed queries"},
		{"distributed_plugin", "string", "tls", false, "tls"},
		{"distributed_tls_max_attempts", "uint64", "3", false, "Attempts per distributed request"},
		{"distributed_tls_read_endpoint", "string", "", false, "Path of the request for distributed queries"},
		{"distributed_tls_write_endpoint", "string", "", false, "Path of the answers to distributed queries"},
		{"enable_tables", "string", "", cli, "The only tables there are, separated by commas"},
		{"enroll_always", "bool", "false", cli, "Enrol at every start"},
		{"enroll_secret_env", "string", "", cli, "Environment variable that holds the enroll secret"},
		{"enroll_secret_path", "string", "", cli, "File that holds the enroll secret"},
		{"enroll_tls_endpoint", "string", "", cli, "Path of the enroll request"},
		{"host_identifier", "string", "hostname", false, "hostname, uuid, instance, ephemeral or specified"},
		{"logger_event_type", "bool", "true", false, "One log line per row, else one per execution"},
		{"logger_min_status", "uint64", "0", false, "Lowest severity of a status line that is sent"},
		{"logger_numerics", "bool", "false", false, "Log numbers as numbers"},
		{"logger_plugin", "string", "filesystem", cli, "tls; others are ignored"},
		{"logger_snapshot_event_type", "bool", "false", false, "One log line per row of a snapshot"},
		{"logger_tls_backoff_max", "uint64", "3600", false, "Most seconds between failed log requests; 0 is no backoff"},
		{"logger_tls_compress", "bool", "false", false, "Compress log requests"},
		{"logger_tls_endpoint", "string", "", false, "Path of the log request"},
		{"logger_tls_max_lines", "uint64", "1024", false, "Most lines per log request"},
		{"logger_tls_max_linesize", "uint64", "1048576", false, "Most bytes per log line"},
		{"logger_tls_period", "uint64", "4", false, "Seconds between log requests"},
		{"nullvalue", "string", "", false, "What NULL is shown as"},
		{"pack_delimiter", "string", "_", false, "Between the parts of a pack query's name"},
		{"pack_refresh_interval", "uint64", "3600", false, "Seconds for which a pack's discovery result holds"},
		{"read_max", "uint64", "52428800", false, "Most bytes of a file that is hashed"},
		{"schedule_default_interval", "uint64", "3600", false, "Interval of a query that has none"},
		{"schedule_epoch", "uint64", "0", false, "Epoch of the results"},
		{"schedule_max_drift", "uint64", "60", false, "Seconds of delay that the schedule makes good"},
		{"schedule_splay_percent", "uint64", "10", false, "Percent by which intervals vary; over 100 is none"},
		{"specified_identifier", "string", "", false, "Identifier for host_identifier=specified"},
		{"tls_client_cert", "string", "", cli, "Client certificate, PEM"},
		{"tls_client_key", "string", "", cli, "Client key, PEM"},
		{"tls_disable_status_log", "bool", "false", false, "Send no status lines"},
		{"tls_enroll_max_attempts", "uint64", "12", cli, "Attempts per enrolment; 0 is endless"},
		{"tls_enroll_max_interval", "uint64", "600", cli, "Most seconds between attempts to enrol"},
		{"tls_hostname", "string", "", cli, "Server as host:port"},
		{"tls_server_certs", "string", "", cli, "Certificates of the authorities to trust, PEM; no others are"},
		{"verbose", "bool", "false", false, "Log more, here and to the server"},
	}
	slices.SortFunc(d, func(a, b Definition) int { return cmp.Compare(a.Name, b.Name) })
	return d
}

// alias returns the flag that a name stands for.
func alias(name string) string {
	switch name {
	case "config_tls_refresh":
		return "config_refresh"
	case "config_tls_accelerated_refresh":
		return "config_accelerated_refresh"
	case "logger_tls_max":
		return "logger_tls_max_linesize"
	case "log_numerics_as_numbers":
		return "logger_numerics"
	case "db_path":
		return "database_path"
	}
	return name
}

// Flags holds the values of the defined flags. It is safe for concurrent use,
// as a config changes some while the agent runs.
type Flags struct {
	defined map[string]Definition

	mu      sync.RWMutex
	values  map[string]string
	ignored []string
}

// NewFlags returns the defaults.
func NewFlags() *Flags {
	f := &Flags{defined: map[string]Definition{}, values: map[string]string{}}
	for _, d := range Definitions() {
		f.defined[d.Name] = d
		f.values[d.Name] = d.Default
	}
	return f
}

// Set gives a flag its value. It reports false for a flag that this agent
// does not know or a value that does not fit its type.
func (f *Flags) Set(name, value string) bool {
	name = alias(name)
	d, ok := f.defined[name]
	if !ok {
		return false
	}
	switch d.Type {
	case "bool":
		b, ok := parseBool(value)
		if !ok {
			return false
		}
		value = strconv.FormatBool(b)
	case "uint64":
		if _, err := strconv.ParseUint(value, 10, 64); err != nil {
			return false
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.values[name] = value
	return true
}

// parseBool reads a boolean as gflags does.
func parseBool(s string) (value, ok bool) {
	switch strings.ToLower(s) {
	case "1", "t", "true", "y", "yes":
		return true, true
	case "0", "f", "false", "n", "no":
		return false, true
	}
	return false, false
}

// Ignore notes a flag that was given but has no effect here.
func (f *Flags) Ignore(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ignored = append(f.ignored, name)
}

// Ignored returns the flags that were given but have no effect here.
func (f *Flags) Ignored() []string {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return slices.Clone(f.ignored)
}

// String returns a flag's value as text.
func (f *Flags) String(name string) string {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.values[alias(name)]
}

// Bool returns a flag's value.
func (f *Flags) Bool(name string) bool { return f.String(name) == "true" }

// Uint returns a flag's value.
func (f *Flags) Uint(name string) uint64 {
	n, err := strconv.ParseUint(f.String(name), 10, 64)
	if err != nil {
		return 0 // not numeric: a defect that the tests would show
	}
	return n
}

// maxSeconds keeps durations far from overflow.
const maxSeconds = 1 << 31

// Seconds returns a flag's value as a duration.
func (f *Flags) Seconds(name string) time.Duration {
	return time.Duration(min(f.Uint(name), maxSeconds)) * time.Second
}

// List returns the parts of a flag's value between commas.
func (f *Flags) List(name string) []string {
	return strings.FieldsFunc(f.String(name), func(r rune) bool { return r == ',' || r == ' ' })
}

// ReadFile takes the flags of an osquery flagfile.
func (f *Flags) ReadFile(path string) error {
	text, err := os.ReadFile(path) //nolint:gosec // the operator names it
	if err != nil {
		return fmt.Errorf("flagfile: %w", err)
	}
	f.Parse(string(text))
	return nil
}

// Parse takes flags in a flagfile's form: one "--name=value" per line, a
// boolean also as "--name" or "--noname", "#" before comments. What it cannot
// use is noted as ignored, as a file written for osqueryd holds much that has
// no meaning here.
func (f *Flags) Parse(text string) {
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		name, ok := strings.CutPrefix(line, "-")
		if !ok {
			f.Ignore(line)
			continue
		}
		name = strings.TrimPrefix(name, "-")
		name, value, given := strings.Cut(name, "=")
		name = strings.TrimSpace(name)
		switch {
		case given:
			ok = f.Set(name, strings.TrimSpace(value))
		case f.defined[alias(name)].Type == "bool":
			ok = f.Set(name, "true")
		case f.defined[alias(strings.TrimPrefix(name, "no"))].Type == "bool":
			ok = f.Set(strings.TrimPrefix(name, "no"), "false")
		default:
			ok = false
		}
		if !ok {
			f.Ignore(name)
		}
	}
}

// OtherFlags returns the names of osquery's flags that this agent accepts and
// ignores, and for each whether it is a boolean.
func OtherFlags() map[string]bool {
	m := map[string]bool{}
	for name := range strings.FieldsSeq(otherFlags) {
		name, boolean := strings.CutSuffix(name, "!")
		m[name] = boolean
	}
	for _, d := range Definitions() {
		delete(m, d.Name)
	}
	return m
}
