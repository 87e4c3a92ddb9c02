package hostfiles

import (
	"cmp"
	"net"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/musterhq/muster/internal/errs"
)

// Mode says where an agent takes its config from.
type Mode string

// The modes.
const (
	// FromFiles is for agents that take no config from any server.
	FromFiles Mode = "files"
	// FromServer is for ordinary agents: the files hold how to reach the server,
	// and which limits it cannot lift.
	FromServer Mode = "server"
)

// Platform is what an agent runs on.
type Platform string

// The platforms.
const (
	Linux   Platform = "linux" // with systemd
	Darwin  Platform = "darwin"
	Windows Platform = "windows"
)

// Options say what the files are for. The zero values of Mode, Platform,
// SecretPath, DisableTables and Limits mean the defaults.
type Options struct {
	Mode     Mode
	Platform Platform
	// Config is the exact content of osquery.conf, compact JSON as the server
	// renders it, and ConfigHash what osquery_info.config_hash says of it. Both
	// are for FromFiles alone.
	Config     []byte
	ConfigHash string
	// Revision and Selector tell people what the config was made from.
	Revision int64
	Selector string
	// ServerHost is the agents' API as host:port, and CA the PEM certificates
	// that agents check it against, and none but them.
	ServerHost string
	CA         []byte
	// SecretPath is the file on the host that holds the enroll secret, which is
	// never among the files made here.
	SecretPath string
	// Live lets the server ask questions, and Carves lets it fetch files.
	Live, Carves bool
	// DisableTables are tables that no query may read, whoever asks. Nil means
	// DefaultDisabledTables; an empty list none.
	DisableTables []string
	Limits        Limits
}

// Limits are what an agent may cost. Percents are of one CPU.
type Limits struct {
	// Cores is the number of logical CPUs of the largest host: osquery's watchdog
	// allows its percentage on each of them.
	Cores int
	// WatchdogCPU ends the worker when it used so many percent for
	// WatchdogSeconds; the query that ran is then left out for a day.
	WatchdogCPU     int
	WatchdogSeconds int
	// WatchdogMemory ends the worker when it grew by so many MiB.
	WatchdogMemory int
	// CPUQuota, MemoryMax (MiB), TasksMax and IOWeight (1 to 10000, others have
	// 100) are the cgroup's, which hold even if the watchdog sleeps. Linux only.
	CPUQuota, MemoryMax, TasksMax, IOWeight int
}

// DefaultLimits are consistent with one another on hosts with up to 8 CPUs.
func DefaultLimits() Limits {
	return Limits{
		Cores: 8, WatchdogCPU: 40, WatchdogSeconds: 12, WatchdogMemory: 200,
		CPUQuota: 60, MemoryMax: 512, TasksMax: 128, IOWeight: 50,
	}
}

// DefaultDisabledTables returns the dangerous tables that make a host open
// connections to where a query or a config says: a way into the host's network
// for whoever can ask. Tables that have another name need both, as osquery
// compares exact names, and renamed yara in 5.23.
func DefaultDisabledTables() []string {
	return []string{
		"curl",                     // fetches any URL as root, loopback and cloud metadata as well
		"curl_certificate",         // connects to any port of any host
		"prometheus_metrics",       // fetches the URLs of the config
		"yara",                     // sigurl fetches rules, with the agent's certificate
		"yara_file",                // the same since 5.23
		"yara_process",             // the same, for memory
		"ycloud_instance_metadata", // takes its endpoint from the query
	}
}

func (o Options) withDefaults() Options {
	o.Mode = cmp.Or(o.Mode, FromFiles)
	o.Platform = cmp.Or(o.Platform, Linux)
	o.SecretPath = cmp.Or(o.SecretPath, places()[o.Platform].home("enroll.secret"))
	o.Limits = cmp.Or(o.Limits, DefaultLimits())
	if o.DisableTables == nil {
		o.DisableTables = DefaultDisabledTables()
	}
	o.DisableTables = slices.Compact(slices.Sorted(slices.Values(o.DisableTables)))
	return o
}

// Bounds of what people give.
const (
	maxHost     = 253  // of a DNS name
	maxPath     = 255  // as file names; enough for a secret's place
	maxTables   = 1000 // osquery has under 300
	maxTable    = 64   // osquery's longest name has 36 bytes
	maxSelector = 4 << 10
)

func (o Options) check() error {
	switch {
	case o.Mode != FromFiles && o.Mode != FromServer:
		return errs.Field("mode", "is unknown; use %s or %s", FromFiles, FromServer)
	case o.Platform != Linux && o.Platform != Darwin && o.Platform != Windows:
		return errs.Field("platform", "is unknown; use %s, %s or %s", Linux, Darwin, Windows)
	case o.Mode == FromServer && !o.Live:
		return errs.Field("live", "cannot be switched off for agents whose config is the server's: a config may switch it on; only one on disk keeps it off")
	case len(o.Selector) > maxSelector:
		return errs.Field("selector", "has over %d characters", maxSelector)
	}
	if err := checkHost(o.ServerHost); err != nil {
		return err
	}
	if err := checkSecretPath(o.Platform, o.SecretPath); err != nil {
		return err
	}
	if err := checkTables(o.DisableTables); err != nil {
		return err
	}
	if err := o.Limits.check(o.Platform); err != nil {
		return err
	}
	if o.Mode == FromServer {
		return nil
	}
	return o.checkConfig()
}

// checkHost takes host:port only: osquery glues paths to it, and a line of the
// flagfile must stay one.
func checkHost(hostPort string) error {
	const field = "server_host"
	host, port, err := net.SplitHostPort(hostPort)
	if err != nil {
		return errs.Field(field, "is not host:port; write it as muster.example.com:8443")
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || strconv.FormatUint(n, 10) != port {
		return errs.Field(field, "has no port from 1 to 65535; write it as muster.example.com:8443")
	}
	if addr, err := netip.ParseAddr(host); err == nil && addr.Zone() == "" {
		return nil
	}
	if host == "" || len(host) > maxHost || host[0] == '-' || !only(host, "-.") || strings.Contains(host, "..") {
		return errs.Field(field, "has no name or address of a host; write it as muster.example.com:8443")
	}
	return nil
}

// checkSecretPath takes absolute paths of plain characters: it gets into
// flagfiles, scripts and other languages.
func checkSecretPath(platform Platform, name string) error {
	const field = "secret_path"
	good := strings.HasPrefix(name, "/") && only(name, "/._-") && path.Clean(name) == name && name != "/"
	if platform == Windows {
		drive, rest, ok := strings.Cut(name, `:\`)
		good = ok && len(drive) == 1 && only(drive, "") && rest != "" && only(rest, `\._- ()`) && !strings.Contains(rest, "..")
	}
	if !good || len(name) > maxPath {
		return errs.Field(field, "must be an absolute path of letters, digits, dots and dashes, as %s", places()[platform].home("enroll.secret"))
	}
	return nil
}

func checkTables(names []string) error {
	const field = "disable_tables"
	if len(names) > maxTables {
		return errs.Field(field, "has more than %d names", maxTables)
	}
	for _, n := range names {
		if n == "" || len(n) > maxTable || !only(n, "_") {
			return errs.Field(field, "has %s, which is no name of a table; use letters, digits and _", strconv.QuoteToASCII(n))
		}
	}
	return nil
}

// only reports whether s has ASCII letters, digits and some more bytes alone.
func only(s, more string) bool {
	for i := range len(s) {
		c := s[i]
		plain := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !plain && strings.IndexByte(more, c) < 0 {
			return false
		}
	}
	return true
}
