package hostsql

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// maxText bounds what is read of one file of /proc or /etc. dpkg's status file
// is the largest of them: 10 MiB on a full desktop.
const maxText = 64 << 20

// host is where the system's tables read.
type host struct {
	root    string
	readMax int64
	warn    func(context.Context, string)
}

func (h *host) generators() map[string]Generator {
	return map[string]Generator{
		"processes":            h.processes,
		"process_envs":         h.processEnvs,
		"process_open_files":   h.processOpenFiles,
		"process_open_sockets": h.processOpenSockets,
		"listening_ports":      h.listeningPorts,
		"interface_addresses":  h.interfaceAddresses,
		"interface_details":    h.interfaceDetails,
		"arp_cache":            h.arpCache,
		"routes":               h.routes,
		"dns_resolvers":        h.dnsResolvers,
		"etc_hosts":            h.etcHosts,
		"etc_services":         h.etcServices,
		"etc_protocols":        h.etcProtocols,
		"users":                h.users,
		"groups":               h.groups,
		"user_groups":          h.userGroups,
		"logged_in_users":      h.loggedInUsers,
		"last":                 h.last,
		"authorized_keys":      h.authorizedKeys,
		"shell_history":        h.shellHistory,
		"sudoers":              h.sudoers,
		"crontab":              h.crontab,
		"os_version":           h.osVersion,
		"system_info":          h.systemInfo,
		"platform_info":        h.platformInfo,
		"kernel_info":          h.kernelInfo,
		"kernel_modules":       h.kernelModules,
		"load_average":         h.loadAverage,
		"memory_info":          h.memoryInfo,
		"mounts":               h.mounts,
		"system_controls":      h.systemControls,
		"uptime":               h.uptime,
		"time":                 h.time,
		"file":                 h.file,
		"hash":                 h.hash,
		"suid_bin":             h.suidBin,
		"deb_packages":         h.debPackages,
		"carves":               nothing,
		"osquery_extensions":   nothing,
		"osquery_info":         h.osqueryInfo,
		"osquery_flags":        nothing,
		"osquery_schedule":     nothing,
		"osquery_packs":        nothing,
	}
}

// path returns where a path of the host is.
func (h *host) path(parts ...string) string {
	return filepath.Join(append([]string{"/", h.root}, parts...)...)
}

// read returns a file's text; "" when there is none or it may not be read,
// which for a table means the same.
func (h *host) read(parts ...string) string {
	f, err := os.Open(h.path(parts...))
	if err != nil {
		return ""
	}
	defer f.Close() //nolint:errcheck // a reader
	b, err := io.ReadAll(io.LimitReader(f, maxText))
	if err != nil {
		return "" // a process that vanished meanwhile
	}
	return string(b)
}

// line returns a file's text without white space around it.
func (h *host) line(parts ...string) string { return strings.TrimSpace(h.read(parts...)) }

// link returns what a symbolic link points to, "" if unknown.
func (h *host) link(parts ...string) string {
	target, err := os.Readlink(h.path(parts...))
	if err != nil {
		return ""
	}
	return target
}

// list returns the names in a directory, sorted.
func (h *host) list(parts ...string) []fs.DirEntry {
	entries, err := os.ReadDir(h.path(parts...))
	if err != nil {
		return nil
	}
	return entries
}

// each calls use for every line of a text.
func each(text string, use func(line string) error) error {
	s := bufio.NewScanner(strings.NewReader(text))
	s.Buffer(nil, maxText)
	for s.Scan() {
		if err := use(s.Text()); err != nil {
			return err
		}
	}
	return s.Err()
}

// data calls use for every line that is not blank, without its comment.
func data(text string, use func(fields []string, comment string) error) error {
	return each(text, func(line string) error {
		line, comment, _ := strings.Cut(line, "#")
		fields := strings.Fields(line)
		if len(fields) == 0 {
			return nil
		}
		return use(fields, strings.TrimSpace(comment))
	})
}

// keyed reads "key<separator>value" lines.
func keyed(text, separator string) map[string]string {
	m := map[string]string{}
	for line := range strings.Lines(text) {
		if key, value, ok := strings.Cut(line, separator); ok {
			m[strings.TrimSpace(key)] = strings.TrimSpace(value)
		}
	}
	return m
}

// number reads a decimal number; 0 if s is none.
func number(s string) int64 {
	n, err := strconv.ParseInt(strings.TrimSpace(s), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// field returns the i-th element, "" if there is none.
func field(fields []string, i int) string {
	if i < 0 || i >= len(fields) {
		return ""
	}
	return fields[i]
}

// wanted reports whether a value passes the constraints on a column.
func wanted(q Constraints, column, value string) bool {
	for _, v := range q.Equal(column) {
		if v != value {
			return false
		}
	}
	return true
}

// cString returns the bytes before the first NUL.
func cString(b []byte) string {
	b, _, _ = bytes.Cut(b, []byte{0})
	return string(b)
}

func nothing(context.Context, Constraints, func(Values) error) error { return nil }
