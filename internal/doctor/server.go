package doctor

import (
	"fmt"
	"strings"
	"time"
)

// Settings are what can be wrong with settings that are valid.
type Settings struct {
	PublicURL   string
	AgentNames  int    // names in the certificate for agents, beside this machine's own
	AgentCert   bool   // the operator's
	AdminListen string // host:port
	AdminLocal  bool   // loopback
	AdminTLS    bool
	Witnesses   int
}

// Check judges settings.
func (s Settings) Check() []Check {
	var checks []Check
	switch {
	case s.PublicURL == "":
		checks = append(checks, doubt("public_url", "Set public_url to where people reach the UI.", "it is not set: notifications have no links"))
	case strings.Contains(s.PublicURL, "://127.") || strings.Contains(s.PublicURL, "://localhost") || strings.Contains(s.PublicURL, "://[::1]"):
		checks = append(checks, doubt("public_url", "Set public_url to where people reach the UI from their machines.", "%s leads everybody to their own machine", s.PublicURL))
	default:
		checks = append(checks, Well("public_url", "%s", s.PublicURL))
	}
	switch {
	case !s.AdminLocal && !s.AdminTLS: // config refuses it
		checks = append(checks, Bad("admin listener", "Set admin_cert and admin_key, or listen on loopback.", "%s is open without TLS", s.AdminListen))
	case !s.AdminLocal:
		checks = append(checks, Well("admin listener", "%s with TLS; let a firewall keep it to where people are", s.AdminListen))
	default:
		checks = append(checks, Well("admin listener", "%s, this machine alone", s.AdminListen))
	}
	if s.AgentNames == 0 && !s.AgentCert {
		checks = append(checks, doubt("agent_hostname", "Set agent_hostname to the name in agents' --tls_hostname.", "it is not set: the certificate is for this machine's loopback alone, and agents elsewhere refuse it"))
	}
	if s.Witnesses == 0 {
		checks = append(checks, doubt("audit_witness", "Send checkpoints elsewhere with audit_witness; see docs/audit.md.", "nobody outside knows the audit log: who has this disk could write it anew"))
	}
	return checks
}

// Fleet is what a server at work knows.
type Fleet struct {
	Nodes, Online int
	Findings      map[string]int // open, by kind
	OpenSecrets   []string       // enroll secrets without expiry, uses or networks
	Secrets       int            // that can be used
	Notifiers     int
	DeadLetters   map[string]int
	Waiting       time.Duration // of the oldest notification
	Sinks         []Sink
	StreamBytes   uint64
	StreamMax     uint64
	Approvals     bool // an ApprovalPolicy is in force
	AuditBroken   string
	WitnessLag    map[string]int64 // entries
	LostSegments  int
	LostEvents    int64
	SafeConfig    bool
	Frozen        bool
}

// Sink is one place where events go.
type Sink struct {
	Name, State, Error string
	Behind             time.Duration
	Lost               int64
	Dead               int
}

// Shares of a fleet that is silent.
const (
	offlineWarn = 10 // percent
	offlineFail = 50
	streamWarn  = 50
	streamFail  = 85
	lateNotice  = 15 * time.Minute
	farBehind   = time.Hour
)

// Check judges what a server knows.
func (f Fleet) Check() []Check {
	checks := []Check{f.online(), f.stream(), f.audit()}
	checks = append(checks, f.secrets(), f.approvals(), f.notifiers())
	checks = append(checks, f.sinks()...)
	if f.LostSegments > 0 {
		checks = append(checks, Bad("events", "Look for the files in a backup and restore them; muster event verify tells which.", "%d segments with %d events are damaged or missing", f.LostSegments, f.LostEvents))
	}
	if f.SafeConfig {
		checks = append(checks, doubt("safe config", "When the cause is gone: muster emergency end.", "nodes are served the safe config, so they run nothing"))
	}
	if f.Frozen {
		checks = append(checks, doubt("freeze", "muster freeze show says why, and until when.", "changes are refused"))
	}
	return checks
}

func (f Fleet) online() Check {
	const name = "nodes"
	if f.Nodes == 0 {
		return doubt(name, "Enrol one: muster secret create, muster export agent.", "none has enrolled")
	}
	off := f.Nodes - f.Online
	saw := fmt.Sprintf("%d of %d are not heard from", off, f.Nodes)
	if n := f.Findings["silent"]; n > 0 {
		saw += fmt.Sprintf("; %d poll and log nothing", n)
	}
	const do = "See the runbook \"the fleet is silent\" in docs/operations.md; muster finding list --open --kind offline names them."
	switch percent := off * 100 / f.Nodes; {
	case percent >= offlineFail:
		return Check{name, Fail, saw, do}
	case percent >= offlineWarn:
		return Check{name, Warn, saw, do}
	}
	return Check{name, OK, saw, ""}
}

func (f Fleet) stream() Check {
	percent := f.StreamBytes * 100 / max(f.StreamMax, 1)
	saw := fmt.Sprintf("%s of %s (%d%%) wait to be read", size(f.StreamBytes), size(f.StreamMax), percent)
	const do = "A reader is behind: muster sink list, muster rule list. At 100% agents are refused and keep their data."
	switch {
	case percent >= streamFail:
		return Check{"stream", Fail, saw, do}
	case percent >= streamWarn:
		return Check{"stream", Warn, saw, do}
	}
	return Check{"stream", OK, saw, ""}
}

func (f Fleet) audit() Check {
	const name = "audit log"
	if f.AuditBroken != "" {
		return Bad(name, "Do not restart or clean up. Run muster audit verify, and compare with what a witness has; see docs/audit.md.", "it does not fit what was signed: %s", f.AuditBroken)
	}
	for witness, lag := range f.WitnessLag {
		if lag > 0 {
			return doubt(name, "Look whether the witness can be reached from the server; its log says why.", "%s was not told of the last %d entries", witness, lag)
		}
	}
	return Well(name, "it fits what was signed")
}

func (f Fleet) secrets() Check {
	const name = "enroll secrets"
	if len(f.OpenSecrets) > 0 {
		return doubt(name, "Rotate it with a limit: muster secret rotate; muster secret create --expires, --max-uses, --cidr.",
			"%s can be used by anybody who has it, from anywhere and for ever", strings.Join(f.OpenSecrets, ", "))
	}
	return Well(name, "%d can be used, each with a limit", f.Secrets)
}

func (f Fleet) approvals() Check {
	const name = "approvals"
	if !f.Approvals {
		return doubt(name, "Apply an ApprovalPolicy, so that what is dangerous needs a second person; see docs/changes.md.", "none is needed: one person, or one stolen session, changes what all nodes run")
	}
	return Well(name, "an ApprovalPolicy is in force")
}

func (f Fleet) notifiers() Check {
	const name = "notifiers"
	if f.Notifiers == 0 {
		return doubt(name, "Apply a Notifier and try it: muster notifier test; see docs/alerts.md.", "there is none: alerts reach nobody who does not look")
	}
	for n, dead := range f.DeadLetters {
		if dead > 0 {
			return Bad(name, "muster notifier dead says why; then muster notifier retry --notifier "+n+".", "%s could not tell %d notifications", n, dead)
		}
	}
	if f.Waiting > lateNotice {
		return doubt(name, "muster notifier list says which, and why.", "a notification waits for %s", f.Waiting.Round(time.Minute))
	}
	return Well(name, "%d, and nothing is stuck", f.Notifiers)
}

func (f Fleet) sinks() []Check {
	if len(f.Sinks) == 0 {
		return []Check{doubt("sinks", "Apply a Sink if events are wanted elsewhere, as in a SIEM; see docs/sinks.md.", "there is none: events are on this server alone")}
	}
	var checks []Check
	for _, s := range f.Sinks {
		checks = append(checks, s.check())
	}
	return checks
}

func (s Sink) check() Check {
	name := "sink " + s.Name
	switch {
	case s.Lost > 0:
		return Bad(name, "What the search still has can be sent again: muster sink replay "+s.Name+" --since ….", "%d messages were dropped before they were sent", s.Lost)
	case s.State == "failing":
		return Bad(name, "muster sink show "+s.Name+"; muster sink test "+s.Name+" tries it now.", "it fails: %s", s.Error)
	case s.State == "paused":
		return doubt(name, "muster sink resume "+s.Name+", before the stream is full.", "it is paused")
	case s.Dead > 0:
		return doubt(name, "muster sink dead "+s.Name+" shows what was refused; then muster sink retry or discard.", "%d events were refused for good", s.Dead)
	case s.Behind > farBehind:
		return doubt(name, "The other side is slower than the fleet; muster sink show "+s.Name+".", "it is %s behind", s.Behind.Round(time.Minute))
	}
	return Well(name, "%s", s.State)
}

// Ages of backups.
const (
	backupWarn = 2 * day
	backupFail = 14 * day
)

// Backup judges when the last backup was made; the zero time is never.
func Backup(last, now time.Time) Check {
	const name, do = "backup", "muster backup FILE --recipient …, daily; see docs/operations.md."
	age := now.Sub(last)
	switch {
	case last.IsZero():
		return doubt(name, do, "the server knows of none; it does not see copies that others make of its disk")
	case age > backupFail:
		return Bad(name, do, "the last is %s old", days(age))
	case age > backupWarn:
		return doubt(name, do, "the last is %s old", days(age))
	}
	return Well(name, "the last is %s old", days(age))
}

// Version compares the server's version with that of the command line.
func Version(server, cli string) Check {
	if server != cli {
		return doubt("version", "Use the same version of both, so that commands and the API fit.", "the server is %s, this command line %s", server, cli)
	}
	return Well("version", "%s", server)
}
