package app

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/musterhq/muster/internal/config"
	"github.com/musterhq/muster/internal/doctor"
	"github.com/musterhq/muster/internal/pki"
	"github.com/musterhq/muster/internal/sink"
)

// Diagnose looks how the server fares. What cannot be looked at is a check that
// failed.
func (a *App) Diagnose(ctx context.Context) []doctor.Check {
	checks := settingsOf(&a.cfg).Check()
	disk, err := diskOf(a.cfg.DataDir)
	checks = append(checks, orFailed("disk", err, disk.Check)...)
	stats := a.engine.Stats()
	checks = append(checks, doctor.Growth{
		Bytes: stats.Bytes, Oldest: stats.Oldest, Retention: a.cfg.Retention, MaxBytes: a.cfg.RetentionBytes, Free: disk.Free,
	}.Check(a.now()))
	all, online := a.registry.Len()
	checks = append(checks, doctor.Limits{Files: openFiles(), Memory: memoryLimit(), Nodes: all}.Check()...)
	checks = append(checks, certificates(&a.cfg, a.now())...)
	fleet := doctor.Fleet{
		Nodes: all, Online: online, Findings: map[string]int{}, LostSegments: stats.Lost, LostEvents: stats.LostEvents,
		AuditBroken: a.notary.Broken(), WitnessLag: map[string]int64{}, DeadLetters: map[string]int{},
	}
	checks = append(checks, orFailed("server", a.survey(ctx, &fleet), fleet.Check)...)
	last, err := lastBackup(&a.cfg)
	return append(checks, orFailed("backup", err, func() []doctor.Check { return []doctor.Check{doctor.Backup(last, a.now())} })...)
}

// survey fills in what the server knows of its fleet.
func (a *App) survey(ctx context.Context, f *doctor.Fleet) error {
	for kind, n := range a.health.Counts() {
		f.Findings[string(kind)] = n
	}
	for _, w := range a.witnesses {
		f.WitnessLag[w.name] = a.notary.Size() - w.told.Load()
	}
	serving, safe := a.runs.publisher.Serving()
	_, f.Frozen = a.runs.freezer.Frozen()
	f.SafeConfig = safe != nil
	for _, o := range serving.Head.Objects {
		f.Approvals = f.Approvals || o.Kind == "ApprovalPolicy"
	}
	f.Notifiers = len(a.catalog().Plan().Newest().Notifiers())
	backlogs, err := a.store.Backlogs(ctx)
	if err != nil {
		return err
	}
	for _, b := range backlogs {
		f.DeadLetters[b.Notifier] = b.Dead
		if !b.Oldest.IsZero() {
			f.Waiting = max(f.Waiting, a.now().Sub(b.Oldest))
		}
	}
	if err := a.surveySecrets(ctx, f); err != nil {
		return err
	}
	extent, err := a.stream.Extent(ctx)
	if err != nil {
		return err
	}
	f.StreamBytes, f.StreamMax = extent.Bytes, extent.Max
	return a.surveySinks(ctx, f)
}

func (a *App) surveySecrets(ctx context.Context, f *doctor.Fleet) error {
	secrets, err := a.store.Secrets(ctx)
	if err != nil {
		return err
	}
	for _, s := range secrets {
		if !s.RevokedAt.IsZero() || !s.ExpiresAt.IsZero() && !a.now().Before(s.ExpiresAt) {
			continue
		}
		f.Secrets++
		if s.ExpiresAt.IsZero() && s.MaxUses == 0 && len(s.CIDRs) == 0 {
			f.OpenSecrets = append(f.OpenSecrets, s.Name)
		}
	}
	return nil
}

func (a *App) surveySinks(ctx context.Context, f *doctor.Fleet) error {
	list, err := a.sinks.List(ctx)
	if err != nil {
		return err
	}
	for _, s := range list {
		seen := doctor.Sink{Name: s.Name, State: string(s.Condition), Lost: s.Lost, Dead: s.Letters}
		if s.Condition == sink.Failing {
			seen.Error = s.Error
		}
		if !s.Backlog.Oldest.IsZero() {
			seen.Behind = a.now().Sub(s.Backlog.Oldest)
		}
		f.Sinks = append(f.Sinks, seen)
	}
	return nil
}

// DiagnoseDir looks how a data directory fares, whether its server runs or not. It
// changes nothing.
func DiagnoseDir(ctx context.Context, cfg config.Server, version string, now time.Time) []doctor.Check {
	info, err := os.Stat(cfg.DataDir)
	switch {
	case err != nil:
		return []doctor.Check{doctor.Bad("data directory", "Mount it, or name the right one with --data-dir.", "%v", err)}
	case !info.IsDir():
		return []doctor.Check{doctor.Bad("data directory", "Name the right one with --data-dir.", "%s is no directory", cfg.DataDir)}
	case info.Mode().Perm()&0o077 != 0:
		return []doctor.Check{doctor.Bad("data directory", "chmod 700 "+cfg.DataDir, "%s is readable by others (mode %o); the server does not start with it", cfg.DataDir, info.Mode().Perm())}
	}
	checks := []doctor.Check{keysOf(&cfg), processOf(&cfg)}
	checks = append(checks, settingsOf(&cfg).Check()...)
	disk, err := diskOf(cfg.DataDir)
	checks = append(checks, orFailed("disk", err, disk.Check)...)
	checks = append(checks, certificates(&cfg, now)...)
	u, err := CheckUpgrade(ctx, cfg, version)
	checks = append(checks, orFailed("state", err, func() []doctor.Check { return []doctor.Check{upgradeCheck(u), doctor.Backup(u.Backup, now)} })...)
	return checks
}

func upgradeCheck(u Upgrade) doctor.Check {
	const name = "state"
	if u.Refused() {
		return doctor.Bad(name, "Start the Muster that wrote it; muster upgrade --check tells more.", "this version, %s, does not start with the data directory", u.Ours)
	}
	if !u.Back() {
		return doctor.Check{Name: name, Status: doctor.Warn, Saw: "a start of this version changes it, and there is no way back", Do: "Make a backup first; muster upgrade --check tells more."}
	}
	return doctor.Well(name, "this version starts with it as it is")
}

// keysOf looks whether what cannot be made anew is there.
func keysOf(cfg *config.Server) doctor.Check {
	const name = "keys"
	if _, err := os.Stat(cfg.Path(stateFile)); err != nil {
		return doctor.Check{Name: name, Status: doctor.Warn, Saw: "no server has run here: there is no " + stateFile, Do: "If one has, this is the wrong directory, or restore a backup: muster restore."}
	}
	for _, file := range []string{keyFile, auditKeyFile} {
		if _, err := os.ReadFile(cfg.Path(file)); err != nil {
			return doctor.Bad(name, "Restore the file from a backup; the server does not start without it.", "%v", err)
		}
	}
	if _, err := pki.ReadAuthority(cfg.DataDir); err != nil {
		return doctor.Bad(name, "Restore the CA and its key from a backup: agents trust no other.", "%v", err)
	}
	return doctor.Well(name, "%s, %s and the CA are there", keyFile, auditKeyFile)
}

// processOf looks whether a server has the data directory.
func processOf(cfg *config.Server) doctor.Check {
	const name = "process"
	f, err := os.Open(cfg.Path(lockFile))
	if err != nil {
		return doctor.Bad(name, "systemctl start muster", "no server runs on %s", cfg.DataDir)
	}
	defer f.Close() //nolint:errcheck // only looked at
	if err := unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB); err == nil {
		return doctor.Bad(name, "systemctl start muster; if it does not stay up, its log (journalctl -u muster) says why.", "no server runs on %s", cfg.DataDir)
	}
	return doctor.Well(name, "a server runs on %s", cfg.DataDir)
}

func settingsOf(cfg *config.Server) doctor.Settings {
	return doctor.Settings{
		PublicURL: cfg.PublicURL, AgentNames: len(cfg.AgentHostname), AgentCert: cfg.AgentCert != "",
		AdminListen: cfg.AdminListen, AdminLocal: cfg.AdminLocal(), AdminTLS: cfg.AdminCert != "", Witnesses: len(cfg.AuditWitness),
	}
}

// certificates looks at the files; what is served is for who connects.
func certificates(cfg *config.Server, now time.Time) []doctor.Check {
	var people []string
	if u, err := url.Parse(cfg.PublicURL); err == nil && u.Hostname() != "" {
		people = []string{u.Hostname()}
	}
	agents := cfg.AgentCert
	if agents == "" {
		agents = pki.ServerCertPath(cfg.DataDir)
	}
	var checks []doctor.Check
	for _, c := range []struct {
		name, file string
		names      []string
	}{
		{"CA", pki.CertPath(cfg.DataDir), nil},
		{"certificate for agents", agents, cfg.AgentHostname},
		{"certificate for people", cfg.AdminCert, people},
	} {
		if c.file == "" {
			continue
		}
		cert, err := readCertificate(c.file)
		checks = append(checks, orFailed(c.name, err, func() []doctor.Check { return []doctor.Check{doctor.Certificate(c.name, cert, c.names, now)} })...)
	}
	return checks
}

func readCertificate(file string) (*x509.Certificate, error) {
	b, err := os.ReadFile(file) //nolint:gosec // the operator names it
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, fmt.Errorf("%s is not PEM", file)
	}
	return x509.ParseCertificate(block.Bytes)
}

// orFailed makes checks, or one of what kept them from being made.
func orFailed(name string, err error, look func() []doctor.Check) []doctor.Check {
	if err != nil {
		return []doctor.Check{doctor.Bad(name, "See what the server logs.", "it cannot be looked at: %v", err)}
	}
	return look()
}

func diskOf(dir string) (doctor.Disk, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return doctor.Disk{}, fmt.Errorf("%s: %w", dir, err)
	}
	block := uint64(st.Bsize) //nolint:gosec // positive, and differs in type between systems
	return doctor.Disk{Dir: dir, Free: st.Bavail * block, Total: st.Blocks * block, InodesFree: st.Ffree, InodesTotal: st.Files}, nil
}

// openFiles returns how many files this process may have open.
func openFiles() uint64 {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return 0
	}
	return l.Cur
}

// memoryLimit returns what this process may use: by its control group, or by that of
// the container that it is in; 0 if there is no such bound.
func memoryLimit() uint64 {
	const groups = "/sys/fs/cgroup"
	own := ""
	if b, err := os.ReadFile("/proc/self/cgroup"); err == nil {
		for line := range strings.Lines(string(b)) {
			if path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok { // version 2
				own = path
			}
		}
	}
	for _, file := range []string{filepath.Join(groups, own, "memory.max"), groups + "/memory.max", groups + "/memory/memory.limit_in_bytes"} {
		b, err := os.ReadFile(file) //nolint:gosec // one of three
		if err != nil {
			continue
		}
		const none = 1 << 60 // what version 1 says for no limit, and more; version 2 says max
		if n, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 63); err == nil && n < none {
			return n
		}
	}
	return 0
}
