package hostfiles

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"strconv"
	"strings"

	"github.com/musterhq/muster/internal/errs"
)

// flags are the lines of a flagfile. It has no quotes: a line is a flag, and
// all behind the = is its value.
type flags struct {
	text bytes.Buffer
	err  error
}

// note writes a comment for those who read the file on a host.
func (f *flags) note(text string) { fmt.Fprintf(&f.text, "\n# %s\n", text) }

// set writes a flag. A value that would end its line is a defect of ours, as
// all of them are checked before.
func (f *flags) set(name, value string) {
	if strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		f.err = errs.Field(name, "has a control character")
		return
	}
	fmt.Fprintf(&f.text, "--%s=%s\n", name, value)
}

func (f *flags) on(name string, on bool) { f.set(name, strconv.FormatBool(on)) }

func (f *flags) number(name string, n int) { f.set(name, strconv.Itoa(n)) }

// flagfile is osquery.flags. Flags that a config could change as well are here
// only if the agent needs them before it has one, or none ever sets them.
func (s *sheet) flagfile() ([]byte, error) {
	f := new(flags)
	f.text.WriteString("# Made by muster export agent; its README.txt explains.\n")
	s.serverFlags(f)
	s.configFlags(f)
	s.liveFlags(f)
	s.limitFlags(f)
	return f.text.Bytes(), f.err
}

func (s *sheet) serverFlags(f *flags) {
	f.note("Whom it talks to, and the only certificates that it believes.")
	f.set("tls_hostname", s.ServerHost)
	f.set("tls_server_certs", s.home("muster-ca.pem"))
	f.set("enroll_secret_path", s.SecretPath)
	f.set("enroll_tls_endpoint", "/api/osquery/enroll")
	f.number("tls_enroll_max_attempts", 0) // for ever
	f.on("tls_session_reuse", false)       // osquery reuses none, but would keep the sockets
	f.set("host_identifier", "uuid")
	f.set("logger_plugin", "tls")
	f.set("logger_tls_endpoint", "/api/osquery/log")
	f.on("logger_tls_compress", true)
	f.number("logger_tls_period", 10)
	f.number("logger_tls_backoff_max", 300)
}

// configFlags keep no backup beside a config on disk: without its file the
// agent would run what it had last, and that may be a server's.
func (s *sheet) configFlags(f *flags) {
	if s.Mode == FromServer {
		f.note("What it runs comes from the server; the last config is kept.")
		f.set("config_plugin", "tls")
		f.set("config_tls_endpoint", "/api/osquery/config")
		f.number("config_refresh", 60)
		f.number("config_accelerated_refresh", 60)
		f.on("config_enable_backup", true)
		return
	}
	f.note("What it runs comes from this disk alone.")
	f.set("config_plugin", "filesystem")
	f.set("config_path", s.home("osquery.conf"))
	f.number("config_refresh", 300)
	f.on("config_enable_backup", false)
}

func (s *sheet) liveFlags(f *flags) {
	if s.Live {
		f.note("The server may ask questions.")
	} else {
		f.note("The server may ask nothing.")
	}
	f.on("disable_distributed", !s.Live)
	if s.Live {
		f.set("distributed_plugin", "tls")
		f.number("distributed_interval", 10)
		f.set("distributed_tls_read_endpoint", "/api/osquery/distributed/read")
		f.set("distributed_tls_write_endpoint", "/api/osquery/distributed/write")
	}
	f.note("What is possible at all, whatever a config or a query says.")
	f.on("disable_carver", !s.Carves)
	f.on("carver_disable_function", true)
	if s.Carves {
		f.set("carver_start_endpoint", "/api/osquery/carve/start")
		f.set("carver_continue_endpoint", "/api/osquery/carve/continue")
		f.number("carver_block_size", 1<<20)
	}
	if len(s.DisableTables) > 0 {
		f.set("disable_tables", strings.Join(s.DisableTables, ","))
	}
	f.on("disable_extensions", true)
	f.on("allow_unsafe", false)
}

func (s *sheet) limitFlags(f *flags) {
	l := s.Limits
	f.note(fmt.Sprintf("At %d%% of one CPU on a host with %d of them, for %d s, or %d MiB more: the worker ends, and its query is left out for a day.", l.Kill(l.Cores), l.Cores, l.WatchdogSeconds, l.WatchdogMemory))
	f.on("disable_watchdog", false)
	f.number("watchdog_level", 0)
	f.number("watchdog_utilization_limit", l.Percent())
	f.number("watchdog_latency_limit", l.WatchdogSeconds)
	f.number("watchdog_memory_limit", l.WatchdogMemory)
}

// maxCA is room for a bundle of dozens of certificates.
const maxCA = 256 << 10

// certificates writes PEM certificates again, so that nothing else of the input
// reaches a host, least of all a key.
func certificates(bundle []byte) ([]byte, error) {
	const field = "ca"
	if len(bundle) > maxCA {
		return nil, errs.Field(field, "has over %d bytes", maxCA)
	}
	var out []byte
	for rest := bundle; ; {
		var block *pem.Block
		block, rest = pem.Decode(rest)
		if block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, errs.Field(field, "holds a %s; give certificates alone", strconv.QuoteToASCII(block.Type))
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return nil, errs.Field(field, "holds a certificate that cannot be read: %v", err)
		}
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: block.Bytes})...)
	}
	if out == nil {
		return nil, errs.Field(field, "holds no PEM certificate; agents would believe every public CA")
	}
	return out, nil
}
