// Package app builds the server from its parts, runs it, and stops it in
// reverse. It is the only package that knows them all.
package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/musterhq/muster/internal/account"
	"github.com/musterhq/muster/internal/adminapi"
	"github.com/musterhq/muster/internal/agentconn"
	"github.com/musterhq/muster/internal/audit"
	"github.com/musterhq/muster/internal/carve"
	"github.com/musterhq/muster/internal/config"
	"github.com/musterhq/muster/internal/durable"
	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/event"
	"github.com/musterhq/muster/internal/health"
	"github.com/musterhq/muster/internal/ident"
	"github.com/musterhq/muster/internal/live"
	"github.com/musterhq/muster/internal/node"
	"github.com/musterhq/muster/internal/pki"
	"github.com/musterhq/muster/internal/rule"
	"github.com/musterhq/muster/internal/search"
	"github.com/musterhq/muster/internal/sink"
	"github.com/musterhq/muster/internal/store"
	"github.com/musterhq/muster/internal/stream"
	"github.com/musterhq/muster/internal/trigger"
	"github.com/musterhq/muster/internal/web"
)

// Files in the data directory.
const (
	lockFile   = "lock"
	keyFile    = "secret.key"
	tokenFile  = "setup-token"
	stateFile  = "state.db"
	streamDir  = "stream"
	keyBytes   = 32
	keyVersion = "muster-key-1 "
)

// EventsDir is the directory of events within the data directory.
const EventsDir = "events"

// App is a server that listens. Run it, and it serves until its context ends.
type App struct {
	cfg     config.Server
	version string
	log     *slog.Logger
	now     func() time.Time

	lock     *os.File
	keyer    node.Keyer
	backups  sync.Mutex // held while a backup is made
	trimming sync.Mutex // held while the stream must be as it is
	store    *store.Store
	stream   *stream.Stream
	engine   *search.Engine
	indexer  *indexer
	registry *node.Registry
	live     *live.Coordinator
	triggers *trigger.Service
	rules    *rule.Engine
	carves   *carve.Service
	sinks    *sink.Manager
	carved   carveMetrics
	audit    *audit.Log
	notary   *audit.Notary
	runs     runs

	redaction redaction

	seen    *event.Seen
	metrics *metrics
	ca      *pki.Authority
	cert    *pki.Certificate // of the agents' listener
	clients *pki.ClientCAs   // of agents' certificates; nil if none are asked for
	reaper  *node.Reaper
	admin   *pki.Certificate // of the admin listener; nil for plain HTTP

	agentListener            *agentconn.Listener
	adminListener            net.Listener
	agentServer, adminServer *http.Server
	setupToken               string
	witnesses                []*witness
	enrollments              *trigger.Enrollments
	health                   *health.Monitor
	alerts                   alerts
	auditTold                bool // people were told that the audit log is broken; of signAudit alone

	ready    atomic.Bool
	stopping chan struct{} // closed when the server begins to stop
	cleanups []cleanup
}

// cleanup undoes one step of start-up.
type cleanup struct {
	name string
	run  func() error
}

// New opens everything that cfg names and listens, so that the addresses are
// known; nothing is served before Run. After an error all is closed again.
func New(ctx context.Context, cfg config.Server, version string, log *slog.Logger) (_ *App, err error) {
	a := &App{cfg: cfg, version: version, log: log, now: time.Now, stopping: make(chan struct{})}
	defer func() {
		if err != nil {
			err = errors.Join(err, a.close())
		}
	}()
	for _, step := range []struct {
		name string
		run  func(context.Context) error
	}{
		{"data directory", a.openDir},
		{"certificates", a.openCertificates},
		{"state", a.openState},
		{"carves", a.openCarves},
		{"stream", a.openStream},
		{"events", a.openEvents},
		{"health of nodes", a.openHealth},
		{"rules", a.openRules},
		{"sinks", a.openSinks},
		{"accounts", a.openAccounts},
		{"listeners", a.listen},
		{"format", a.keepFormat},
	} {
		if err := step.run(ctx); err != nil {
			return nil, fmt.Errorf("%s: %w", step.name, err)
		}
	}
	return a, nil
}

// later registers what Close does, last first.
func (a *App) later(name string, run func() error) {
	a.cleanups = append(a.cleanups, cleanup{name, run})
}

func (a *App) close() error {
	var failed []error
	for len(a.cleanups) > 0 {
		c := a.cleanups[len(a.cleanups)-1]
		a.cleanups = a.cleanups[:len(a.cleanups)-1]
		if err := c.run(); err != nil {
			failed = append(failed, fmt.Errorf("close %s: %w", c.name, err))
		}
	}
	return errors.Join(failed...)
}

// openDir makes the data directory and takes it for this process alone.
func (a *App) openDir(ctx context.Context) error {
	if err := os.MkdirAll(a.cfg.DataDir, 0o700); err != nil {
		return err
	}
	if info, err := os.Stat(a.cfg.DataDir); err != nil {
		return err
	} else if info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("%s is readable by others (mode %o); run chmod 700 %[1]s", a.cfg.DataDir, info.Mode().Perm())
	}
	lock, err := takeDir(&a.cfg)
	if err != nil {
		return err
	}
	a.lock = lock
	a.later("lock", lock.Close)
	return errors.Join(a.sweepBackups(ctx), a.checkFormat(), a.openKey())
}

// takeDir takes the data directory for this process alone, until what it returns is
// closed.
func takeDir(cfg *config.Server) (*os.File, error) {
	f, err := os.OpenFile(cfg.Path(lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("another server uses %s; stop it, or choose another --data-dir", cfg.DataDir), f.Close())
	}
	return f, nil
}

// openKey reads the key under which secrets are hashed, or makes it.
func (a *App) openKey() error {
	path := a.cfg.Path(keyFile)
	b, err := os.ReadFile(path) //nolint:gosec // in our own directory
	if errors.Is(err, os.ErrNotExist) {
		if _, e := os.Stat(a.cfg.Path(stateFile)); e == nil {
			return fmt.Errorf("%s is missing beside %s: without it no node key is known; restore it from the backup", keyFile, stateFile)
		}
		b = []byte(keyVersion + ident.Secret() + "\n")
		err = durable.WriteFile(path, 0o600, b)
	}
	if err != nil {
		return err
	}
	key, ok := strings.CutPrefix(strings.TrimSpace(string(b)), keyVersion)
	if !ok || len(key) < keyBytes {
		return fmt.Errorf("%s holds no key; restore it from the backup", path)
	}
	a.keyer = node.NewKeyer([]byte(key))
	return nil
}

func (a *App) openCertificates(context.Context) (err error) {
	if a.ca, err = pki.OpenAuthority(a.cfg.DataDir, a.now()); err != nil {
		return err
	}
	cert, key := a.cfg.AgentCert, a.cfg.AgentKey
	if cert == "" {
		if cert, key, err = a.ca.ServerCert(a.certNames(), a.now()); err != nil {
			return err
		}
	}
	if a.cert, err = pki.LoadCertificate(cert, key, a.log); err != nil {
		return err
	}
	if a.cfg.ClientAuth != string(pki.ClientAuthOff) {
		if a.clients, err = pki.LoadClientCAs(cmp.Or(a.cfg.ClientCA, a.ca.CertPath()), a.log); err != nil {
			return fmt.Errorf("client_ca: %w", err)
		}
	}
	if a.cfg.AdminCert != "" {
		a.admin, err = pki.LoadCertificate(a.cfg.AdminCert, a.cfg.AdminKey, a.log)
	}
	return err
}

// certNames are the names in the server's own certificate.
func (a *App) certNames() []string {
	return append(slices.Clone(a.cfg.AgentHostname), "localhost", "127.0.0.1", "::1")
}

// renewCertificate keeps the server's own certificate good.
func (a *App) renewCertificate(ctx context.Context) error {
	if a.cfg.AgentCert != "" {
		return nil // it is the operator's
	}
	return a.ca.KeepServerCert(ctx, a.certNames(), a.now, a.log)
}

func (a *App) openState(ctx context.Context) (err error) {
	if a.store, err = store.Open(ctx, store.Options{URL: a.cfg.Path(stateFile), Log: a.log, Now: a.now}); err != nil {
		return err
	}
	a.later("state", a.store.Close)
	if err := a.openAudit(ctx); err != nil {
		return fmt.Errorf("audit log: %w", err)
	}
	a.registry = node.NewRegistry(a.store, a.keyer, a.log, a.now)
	if err := a.registry.Sync(ctx); err != nil {
		return err
	}
	ttls, err := a.cfg.TagTTLs()
	if err != nil {
		return err
	}
	a.reaper = node.NewReaper(node.ReaperOptions{
		TTL: a.cfg.NodeTTL, TagTTL: ttls, Registry: a.registry, Store: a.store, Audit: a.audit, Log: a.log, Now: a.now,
	})
	if err := a.openRedaction(); err != nil {
		return fmt.Errorf("redaction: %w", err)
	}
	if err := a.openResources(ctx); err != nil {
		return fmt.Errorf("what agents run: %w", err)
	}
	if err := a.openAlerts(ctx); err != nil {
		return fmt.Errorf("alerts: %w", err)
	}
	if err := a.openLive(ctx); err != nil {
		return err
	}
	return a.openTriggers(ctx)
}

func (a *App) openStream(ctx context.Context) (err error) {
	a.stream, err = stream.Open(ctx, stream.Options{Dir: a.cfg.Path(streamDir), MaxBytes: a.cfg.StreamMax, Log: a.log})
	if err != nil {
		return err
	}
	a.later("stream", a.stream.Close)
	return nil
}

func (a *App) openEvents(ctx context.Context) (err error) {
	retention, err := a.cfg.QueryRetention()
	if err != nil {
		return err
	}
	var queries []search.QueryRetention
	for _, r := range retention {
		queries = append(queries, search.QueryRetention(r))
	}
	a.engine, err = search.Open(search.Options{
		Dir: a.cfg.Path(EventsDir), Retention: a.cfg.Retention, QueryRetention: queries, MaxBytes: a.cfg.RetentionBytes, FlushRows: int(a.cfg.FlushEvents), Log: a.log, Now: a.now,
	})
	if err != nil {
		return err
	}
	a.later("events", a.engine.Close)
	a.seen = event.NewSeen()
	last, err := a.stream.Last(ctx, stream.Events)
	if err != nil {
		return err
	}
	a.indexer = newIndexer(a.engine, a.stream, a.seen, last, a.watch, a.log)
	return nil
}

// openAccounts prints no token: whoever started the server asks for SetupURL.
func (a *App) openAccounts(ctx context.Context) error {
	has, err := a.store.HasUsers(ctx)
	if err != nil {
		return err
	}
	path := a.cfg.Path(tokenFile)
	if has {
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		return nil
	}
	if b, err := os.ReadFile(path); err == nil { //nolint:gosec // in our own directory
		a.setupToken = strings.TrimSpace(string(b))
	}
	if a.setupToken == "" {
		a.setupToken = ident.Secret()
	}
	return durable.WriteFile(path, 0o600, []byte(a.setupToken+"\n"))
}

// Limits of connections.
const (
	headerTimeout = 10 * time.Second // also of the TLS handshake
	readTimeout   = 20 * time.Second // an agent gives up after 16 s
	writeTimeout  = 60 * time.Second
	idleTimeout   = 75 * time.Second
	maxHeader     = 16 << 10
)

func (a *App) listen(ctx context.Context) (err error) {
	if err := a.listenAgents(ctx); err != nil {
		return err
	}
	a.later("agents' listener", quiet(a.agentListener))
	if a.adminListener, err = new(net.ListenConfig).Listen(ctx, "tcp", a.cfg.AdminListen); err != nil {
		return fmt.Errorf("admin_listen: %w; choose another --admin-listen", err)
	}
	a.later("admin listener", quiet(a.adminListener))
	ca, err := os.ReadFile(a.CAFile())
	if err != nil {
		return err
	}
	a.metrics = newMetrics(a)
	a.registerAuditMetrics(a.metrics.registry)
	a.registerCarveMetrics(a.metrics.registry)
	a.metrics.registry.MustRegister(newHealthMetrics(a.health))
	a.registerRedactionMetrics(a.metrics.registry)
	a.metrics.registry.MustRegister(newRuleMetrics(a.rules))
	a.registerAlertMetrics(a.metrics.registry)
	a.metrics.registry.MustRegister(sinkMetrics{a})
	a.registerBackupMetrics(a.metrics.registry)
	agents, err := a.agentAPI(a.catalog())
	if err != nil {
		return err
	}
	tokens, err := a.openVault()
	if err != nil {
		return err
	}
	signOn, err := a.openSignOn()
	if err != nil {
		return err
	}
	kept, err := a.kept()
	if err != nil {
		return err
	}
	passkeys, err := account.NewPasskeys(a.site(), a.now)
	if err != nil {
		return err
	}
	accounts := account.New(a.store, a.catalog(), a.keyer, passkeys, account.Requirement(a.cfg.RequireFactor), a.now)
	admin := adminapi.New(adminapi.Options{
		Accounts: accounts, Setup: account.NewSetup(accounts, a.audit, a.setupToken, a.voidToken), Keyer: a.keyer,
		Registry: a.registry, Nodes: a.store, Secrets: a.store, Live: a.live, LiveList: a.store, Results: a.store, Saved: a.store, Once: a.store, Search: a.indexer, Tails: a.indexer.tails,
		Triggers: a.triggers, TriggerStore: a.store, Health: a.health, Findings: a.store, Rules: a.rules, Alerts: a.alerts.service, Courier: a.alerts.courier, AlertStore: a.store,
		Catalog: a.catalog(), Changes: a.runs.changes, ChangeStore: a.store, Publisher: a.runs.publisher, Freezer: a.runs.freezer,
		Rollouts: a.runs.rollouts, Evidence: a.runs.monitor, Policy: a.runs.policy, Redactor: a.redaction.redactor, Redactions: a.redaction.counts, Carves: a.carves, CarveList: a.store, Sinks: a.sinks, Vault: tokens, Audit: a.audit, AuditLog: a.store, Notary: a.notary, Metrics: a.metrics.registry, Requests: a.metrics.total,
		Links: a.store, Kept: kept, PublicURL: a.cfg.PublicURL,
		Backup: a.Backup, Diagnose: a.Diagnose, SignOn: signOn, Ready: a.checkReady, UI: web.Handler(), Secure: a.admin != nil, AgentURL: a.agentHost(), CA: ca, Version: a.version,
		Stopping: a.stopping, Log: a.log, Now: a.now,
	})
	a.registerTransparencyMetrics(admin)
	a.agentServer, a.adminServer = a.server(agents), a.server(admin)
	a.agentServer.ConnContext = a.agentListener.Context
	a.adminServer.WriteTimeout = 0 // streams last; each write has its own deadline
	return nil
}

// quiet closes a listener that its server may have closed before.
func quiet(l net.Listener) func() error {
	return func() error {
		if err := l.Close(); !errors.Is(err, net.ErrClosed) {
			return err
		}
		return nil
	}
}

func (a *App) server(h http.Handler) *http.Server {
	s := &http.Server{
		Handler: h, ReadHeaderTimeout: headerTimeout, ReadTimeout: readTimeout, WriteTimeout: writeTimeout,
		IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader, Protocols: new(http.Protocols),
		ErrorLog: slog.NewLogLogger(a.log.Handler(), slog.LevelDebug), // handshakes that fail: anybody can make them
	}
	s.Protocols.SetHTTP1(true)
	return s
}

func (a *App) voidToken() error {
	a.setupToken = ""
	return os.Remove(a.cfg.Path(tokenFile))
}

// Run serves until ctx ends, then stops: no new connections, answers to what
// is in flight, everything kept, parts closed in reverse. A part that fails
// stops the server and is the error.
func (a *App) Run(ctx context.Context) error {
	work, stopWork := context.WithCancel(context.WithoutCancel(ctx))
	defer stopWork()
	group, work := errgroup.WithContext(work)
	for _, part := range []struct {
		name string
		run  func(context.Context) error
	}{
		{"node registry", a.registry.Run},
		{"live queries", a.live.Run},
		{"carves", a.carves.Run},
		{"event index", a.engine.Run},
		{"event reader", a.indexer.Run},
		{"answer reader", a.readAnswers},
		{"answers as events", a.indexAnswers},
		{"rules", a.applyRules},
		{"stream trimmer", a.trim},
		{"certificate", a.cert.Run},
		{"certificate renewal", a.renewCertificate},
		{"silent nodes", a.reaper.Run},
		{"node history", a.pruneHistory},
		{"health of nodes", a.health.Run},
		{"events for the health of nodes", a.watchHealth},
		{"old findings", a.pruneFindings},
		{"old calls", a.pruneOnce},
		{"old live queries", a.pruneLive},
		{"memory", tuneMemory},
		{"audit log", a.signAudit},
		{"what agents run", a.runs.publisher.Run},
		{"rollouts", a.runs.rollouts.Run},
		{"evidence", a.runs.monitor.Run},
		{"what was served", a.runs.served.Run},
		{"tag rules", a.runs.retagger.Run},
		{"tags of queries", a.runs.tagger.Run},
		{"triggers", a.triggers.Run},
		{"enrollment queries", a.enrollments.Run},
		{"alerts", a.alerts.service.Run},
		{"notifiers", a.alerts.courier.Run},
		{"sinks", a.sinks.Run},
	} {
		group.Go(func() error {
			if err := part.run(work); err != nil {
				return fmt.Errorf("%s: %w", part.name, err)
			}
			return nil
		})
	}
	if a.admin != nil {
		group.Go(func() error { return a.admin.Run(work) })
	}
	if a.clients != nil {
		group.Go(func() error { return a.clients.Run(work) })
	}
	for _, f := range a.runs.freezes {
		group.Go(func() error { return f.Run(work) })
	}
	served := make(chan error, 2)
	go func() { served <- a.serve(a.adminServer, a.adminListener, a.admin) }()
	// Agents are served only when what the stream holds is known again, as their
	// repeats would not be recognised before.
	select {
	case <-a.indexer.caughtUp:
		go func() { served <- a.serve(a.agentServer, a.agentListener, nil) }() // which does TLS itself
		a.ready.Store(true)
	case <-ctx.Done():
	case <-work.Done():
	}
	var failed error
	select {
	case <-ctx.Done():
		a.log.InfoContext(ctx, "stopping", "deadline", a.cfg.DrainTimeout.String())
	case <-work.Done(): // the group tells why
	case failed = <-served:
	}
	return errors.Join(failed, a.drain(), a.finish(stopWork, group), a.close())
}

func (a *App) serve(s *http.Server, l net.Listener, cert *pki.Certificate) error {
	var err error
	if cert == nil {
		err = s.Serve(l)
	} else {
		s.TLSConfig = cert.ServerConfig()
		err = s.ServeTLS(l, "", "")
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// drain stops listening and waits for requests in flight; agents first, so
// that people see them finish.
func (a *App) drain() error {
	a.ready.Store(false)
	close(a.stopping)
	ctx, cancel := context.WithTimeout(context.Background(), a.cfg.DrainTimeout)
	defer cancel()
	var failed []error
	for name, s := range map[string]*http.Server{"agents": a.agentServer, "people": a.adminServer} {
		if err := s.Shutdown(ctx); err != nil {
			failed = append(failed, fmt.Errorf("requests of %s in flight after %s were cut: %w", name, a.cfg.DrainTimeout, err), s.Close())
		}
	}
	return errors.Join(failed...)
}

// finish ends the background parts, which keep what they hold.
func (a *App) finish(stop context.CancelFunc, group *errgroup.Group) error {
	stop()
	done := make(chan error, 1)
	go func() { done <- group.Wait() }()
	select {
	case err := <-done:
		return err
	case <-time.After(a.cfg.DrainTimeout):
		return fmt.Errorf("background work did not end within %s", a.cfg.DrainTimeout)
	}
}

// Reload reads the certificates again, and opens the files that sinks write anew.
func (a *App) Reload() error {
	err := errors.Join(a.cert.Reload(), a.sinks.Reopen())
	if a.admin != nil {
		err = errors.Join(err, a.admin.Reload())
	}
	if a.clients != nil {
		err = errors.Join(err, a.clients.Reload())
	}
	return err
}

func (a *App) checkReady(ctx context.Context) error {
	if !a.ready.Load() {
		return errs.New(errs.Busy, "starting or stopping")
	}
	return a.store.Ping(ctx)
}

// AgentAddr returns where agents are listened for.
func (a *App) AgentAddr() netip.AddrPort { return addr(a.agentListener) }

// AdminURL returns where people find the UI, for this machine.
func (a *App) AdminURL() string {
	scheme, at := "http", addr(a.adminListener)
	if a.admin != nil {
		scheme = "https"
	}
	return scheme + "://" + reachable(at)
}

// SetupURL returns the one-time link to make the first administrator, or ""
// when there is one.
func (a *App) SetupURL() string {
	if a.setupToken == "" {
		return ""
	}
	return a.AdminURL() + "/setup#token=" + a.setupToken
}

// CAFile returns the file that agents pin.
func (a *App) CAFile() string { return a.ca.CertPath() }

// agentHost returns what agents put into tls_hostname.
func (a *App) agentHost() string {
	at := addr(a.agentListener)
	if len(a.cfg.AgentHostname) > 0 {
		return net.JoinHostPort(a.cfg.AgentHostname[0], fmt.Sprint(at.Port()))
	}
	return reachable(at)
}

// reachable returns an address that works from this machine.
func reachable(at netip.AddrPort) string {
	if at.Addr().IsUnspecified() {
		return net.JoinHostPort("localhost", fmt.Sprint(at.Port()))
	}
	return at.String()
}

func addr(l net.Listener) netip.AddrPort {
	at, err := netip.ParseAddrPort(l.Addr().String())
	if err != nil {
		return netip.AddrPort{}
	}
	return at
}
