// Package agent is an osquery-compatible agent for Linux: it enrols, takes a
// config, runs its schedule, logs results, answers distributed queries and
// carves files as osquery 5.23.1 does, over the tables of package hostsql. It is
// for demonstrations, tests and game days; hosts in production run osquery. It
// never listens, has no watchdog, no events and no extensions.
//
// Sources: the osquery repository at commit a5b14f63d, and what a real agent
// was seen to do.
package agent

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/musterhq/muster/internal/agentwire"
	"github.com/musterhq/muster/internal/hostsql"
	"github.com/musterhq/muster/internal/osquery"
)

// Options of an Agent. Flags is required, with at least database_path and,
// for a server, tls_hostname.
type Options struct {
	Flags *Flags
	Log   *slog.Logger // discards if nil
	// RootCAs are trusted instead of tls_server_certs, for an agent in the
	// server's own process.
	RootCAs *x509.CertPool
	// Dial opens connections; net.Dialer if nil.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Root is where the system's files are; see hostsql.Options.
	Root string
	// Version is that of osquery which it says it is; hostsql.Version if empty.
	// Requests of one before 5.23 have no Authorization header.
	Version string
	Carve   CarveOptions
}

// Agent is one node. Run it once.
type Agent struct {
	flags  *Flags
	log    *slog.Logger
	db     *database
	sql    *hostsql.DB
	pid    int
	start  time.Time
	uuid   string // of this process, as osquery_info.uuid
	says   string // its version
	name   string // the host's
	host   string // host identifier
	client clients
	carver CarveOptions

	results, statuses *Buffer

	enrolling sync.Mutex

	mu          sync.Mutex
	config      *Config
	configHash  string
	configValid bool
	packs       []*activePack
	decorations map[string]string // of load and interval
	records     map[string]record // of scheduled queries
}

// clients are one per thread, as in the real agent.
type clients struct{ enroll, config, log, distributed, carve *agentwire.Client }

// New prepares an agent: it opens the database and reads certificates, but
// does not connect. Close it if it is not run.
func New(o Options) (_ *Agent, err error) {
	if o.Flags == nil {
		return nil, errors.New("an agent needs flags")
	}
	if o.Flags.String("database_path") == "" {
		return nil, errors.New("--database_path is required: a directory of the agent's own")
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	a := &Agent{
		flags: o.Flags, log: o.Log, pid: os.Getpid(), start: time.Now(), uuid: newUUID(),
		config: &Config{}, decorations: map[string]string{}, records: map[string]record{},
		says: cmp.Or(o.Version, hostsql.Version), carver: o.Carve,
	}
	if a.name, err = os.Hostname(); err != nil {
		return nil, fmt.Errorf("hostname: %w", err)
	}
	if err := a.connectors(o); err != nil {
		return nil, err
	}
	a.db, err = openDatabase(o.Flags.String("database_path"))
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = a.Close()
		}
	}()
	if a.results, err = OpenBuffer(filepath.Join(a.db.dir, "results")); err != nil {
		return nil, err
	}
	if a.statuses, err = OpenBuffer(filepath.Join(a.db.dir, "statuses")); err != nil {
		return nil, err
	}
	a.sql, err = hostsql.Open(hostsql.Options{
		Root: o.Root, Tables: a.tables(), Disable: a.flags.List("disable_tables"), Enable: a.flags.List("enable_tables"),
		ReadMax: int64(min(a.flags.Uint("read_max"), 1<<40)),
		Warn:    func(ctx context.Context, message string) { a.status(ctx, warning, message) },
	})
	if err != nil {
		return nil, err
	}
	if err := a.identify(); err != nil {
		return nil, err
	}
	return a, nil
}

// connectors makes the clients; none without tls_hostname.
func (a *Agent) connectors(o Options) error {
	host := a.flags.String("tls_hostname")
	if host == "" {
		return nil
	}
	roots := o.RootCAs
	if roots == nil {
		path := a.flags.String("tls_server_certs")
		if path == "" {
			return errors.New("--tls_server_certs is required: a PEM file with the server's certificate authority")
		}
		pem, err := os.ReadFile(path) //nolint:gosec // the operator names it
		if err != nil {
			return fmt.Errorf("tls_server_certs: %w", err)
		}
		roots = x509.NewCertPool()
		if !roots.AppendCertsFromPEM(pem) {
			return fmt.Errorf("tls_server_certs: %s holds no certificate", path)
		}
	}
	options := agentwire.Options{URL: "https://" + host, RootCAs: roots, Version: a.says, Dial: o.Dial}
	if cert, key := a.flags.String("tls_client_cert"), a.flags.String("tls_client_key"); cert != "" && key != "" {
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			return fmt.Errorf("tls_client_cert: %w", err)
		}
		options.Certificate = &pair
	}
	for _, c := range []**agentwire.Client{&a.client.enroll, &a.client.config, &a.client.log, &a.client.distributed, &a.client.carve} {
		var err error
		if *c, err = agentwire.New(options); err != nil {
			return err
		}
	}
	return nil
}

// Close frees what New opened. Run does it itself.
func (a *Agent) Close() error {
	var all []error
	if a.sql != nil {
		all = append(all, a.sql.Close())
	}
	for _, b := range []*Buffer{a.results, a.statuses} {
		if b != nil {
			all = append(all, b.Close())
		}
	}
	if a.db != nil {
		all = append(all, a.db.close())
	}
	return errors.Join(all...)
}

// HostIdentifier returns what the agent calls its host.
func (a *Agent) HostIdentifier() string { return a.host }

// Query runs one statement locally, as osqueryi would, with this agent's own
// osquery tables.
func (a *Agent) Query(ctx context.Context, sql string) ([]osquery.Row, []string, error) {
	return a.sql.Query(ctx, sql)
}

// Run works until ctx is done, and returns nil then. What is buffered stays on
// disk for the next run.
func (a *Agent) Run(ctx context.Context) error {
	defer a.Close() //nolint:errcheck // readers, and files that are written already
	if ignored := a.flags.Ignored(); len(ignored) > 0 {
		a.log.InfoContext(ctx, "flags without effect here", "flags", strings.Join(ignored, " "))
	}
	if a.flags.String("logger_plugin") != "tls" {
		a.log.WarnContext(ctx, "only logger_plugin=tls logs; results are kept and not sent", "logger_plugin", a.flags.String("logger_plugin"))
	}
	a.firstConfig(ctx)
	var threads sync.WaitGroup
	threads.Go(func() { a.schedule(ctx) })
	if a.flags.Uint("config_refresh") > 0 {
		threads.Go(func() { a.refreshConfig(ctx) })
	}
	if a.client.log != nil && a.flags.String("logger_plugin") == "tls" {
		threads.Go(func() { a.sendLogs(ctx) })
	}
	if a.client.distributed != nil && !a.flags.Bool("disable_distributed") && a.flags.String("distributed_plugin") == "tls" {
		threads.Go(func() { a.distribute(ctx) })
	}
	if a.client.carve != nil && !a.flags.Bool("disable_carver") {
		threads.Go(func() { a.carve(ctx) })
	}
	threads.Wait()
	return nil
}

// wait pauses; it reports false when ctx is done first.
func wait(ctx context.Context, d time.Duration) bool {
	if ctx.Err() != nil {
		return false
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// attempts calls do up to n times, or for ever if n is 0, with n² seconds, at
// most limit, in between, as osquery's plugins do.
func attempts(ctx context.Context, n uint64, limit time.Duration, do func() error) error {
	for i := uint64(1); ; i++ {
		err := do()
		if err == nil || n != 0 && i >= n {
			return err
		}
		if !wait(ctx, square(time.Second, i, limit)) {
			return errors.Join(err, ctx.Err())
		}
	}
}

// square is unit×n², at most limit.
func square(unit time.Duration, n uint64, limit time.Duration) time.Duration {
	const enough = 1 << 12 // beyond it n² is over every limit
	n = min(n, enough)
	return min(unit*time.Duration(n*n), limit) //nolint:gosec // bounded
}

// Severities of status lines.
const (
	info = iota
	warning
	failure
)

// status logs a line of the agent's own, here and to the server.
func (a *Agent) status(ctx context.Context, severity int, message string) {
	level := []slog.Level{slog.LevelDebug, slog.LevelWarn, slog.LevelError}[severity]
	a.log.Log(ctx, level, "osquery status", "message", message)
	if a.flags.Bool("disable_logging") || a.flags.Bool("tls_disable_status_log") || uint64(severity) < a.flags.Uint("logger_min_status") { //nolint:gosec // 0 to 2
		return
	}
	_, file, line, _ := runtime.Caller(1)
	now := time.Now()
	l := osquery.StatusLine{
		HostIdentifier: a.host, CalendarTime: calendar(now), UnixTime: now.Unix(), Severity: severity,
		Filename: filepath.Base(file), Line: line, Message: message, Version: a.says,
	}
	l.Decorations = a.decorated()
	a.buffer(ctx, a.statuses, a.format().status(l))
}

// buffer keeps lines for the server and drops the oldest over the limit.
func (a *Agent) buffer(ctx context.Context, b *Buffer, lines ...[]byte) bool {
	if b == nil {
		return false // before New ended
	}
	if err := b.Append(lines...); err != nil {
		a.log.ErrorContext(ctx, "log lines are lost", "lines", len(lines), "error", err)
		return false
	}
	limit := a.flags.Uint("buffered_log_max")
	if over := b.Len() - int(min(limit, 1<<40)); limit > 0 && over > 0 {
		if batch, err := b.Peek(over); err == nil && b.Ack(batch) == nil {
			a.log.WarnContext(ctx, "purged the oldest buffered log lines", "limit", limit, "purged", len(batch.Lines))
		}
	}
	return true
}

func (a *Agent) format() format {
	return format{
		numerics: a.flags.Bool("logger_numerics"), topLevel: a.flags.Bool("decorations_top_level"),
		perRow: a.flags.Bool("logger_event_type"), snapshotPerRow: a.flags.Bool("logger_snapshot_event_type"),
		null: a.flags.String("nullvalue"),
	}
}

// loadConfig asks for the config and applies it.
func (a *Agent) loadConfig(ctx context.Context) error {
	body, err := a.fetchConfig(ctx)
	if err != nil {
		return err
	}
	return a.applyConfig(ctx, body)
}

func (a *Agent) fetchConfig(ctx context.Context) ([]byte, error) {
	if a.flags.String("config_plugin") != "tls" {
		path := a.flags.String("config_path")
		if path == "" {
			return nil, errors.New("neither config_plugin=tls nor config_path is given")
		}
		text, err := os.ReadFile(path) //nolint:gosec // the operator names it
		if err != nil {
			return nil, fmt.Errorf("config_path: %w", err)
		}
		return StripComments(text), nil
	}
	if a.client.config == nil {
		return nil, errors.New("config_plugin=tls needs tls_hostname")
	}
	var body []byte
	err := attempts(ctx, max(1, a.flags.Uint("config_tls_max_attempts")), time.Hour, func() (err error) {
		body, err = a.post(ctx, a.client.config, a.flags.String("config_tls_endpoint"), false, func(key string) ([]byte, error) {
			return osquery.KeyedRequest{NodeKey: key}.Encode()
		})
		return err
	})
	return body, err
}

// firstConfig loads the config at the start. Without one the agent goes on,
// with its backup if it keeps one.
func (a *Agent) firstConfig(ctx context.Context) {
	err := a.loadConfig(ctx)
	if err == nil || ctx.Err() != nil {
		return
	}
	a.status(ctx, warning, "Error reading config: "+err.Error())
	var backup []byte
	a.db.view(func(s saved) { backup = slices.Clone(s.Config) })
	if a.flags.Bool("config_enable_backup") && len(backup) > 0 {
		if err := a.applyConfig(ctx, backup); err != nil {
			a.status(ctx, warning, "Error applying the config backup: "+err.Error())
		}
	}
}

func (a *Agent) refreshConfig(ctx context.Context) {
	pause := a.flags.Seconds("config_refresh")
	for wait(ctx, max(pause, time.Second)) { // the real agent does not pause at all for 0
		pause = a.flags.Seconds("config_refresh")
		if err := a.loadConfig(ctx); err != nil && ctx.Err() == nil {
			a.status(ctx, warning, "Error reading config: "+err.Error())
			pause = a.flags.Seconds("config_accelerated_refresh")
		}
	}
}

// applyConfig makes a config the one in force. An answer that osquery 5.23.1
// refuses leaves the former config; one that it takes for empty ends the
// schedule, and so it does here.
func (a *Agent) applyConfig(ctx context.Context, body []byte) error {
	if len(body) == 0 {
		body = []byte("{}") // any empty answer is this config
	}
	hash, err := Hash(body)
	if err != nil {
		return err
	}
	a.mu.Lock()
	same := hash == a.configHash
	a.mu.Unlock()
	if same {
		return nil
	}
	host := Host{
		Hostname: a.name, PackDelimiter: a.flags.String("pack_delimiter"),
		Default: int64(min(a.flags.Uint("schedule_default_interval"), maxInterval)),
	}
	if a.flags.String("config_plugin") != "tls" {
		host.ReadPack = os.ReadFile
	}
	config, err := ParseConfig(body, host)
	if err != nil {
		return err
	}
	for _, o := range config.Options {
		a.option(ctx, o)
	}
	for _, w := range config.Warnings {
		a.status(ctx, warning, w)
	}
	if len(config.Ignored) > 0 {
		a.log.InfoContext(ctx, "config keys without effect here", "keys", strings.Join(config.Ignored, " "))
	}
	if now := a.flags.String("pack_delimiter"); now != host.PackDelimiter {
		// The options are read first, so the names are made with the new one.
		host.PackDelimiter = now
		if config, err = ParseConfig(body, host); err != nil {
			return err
		}
	}
	a.install(config, hash)
	a.decorateOnLoad(ctx)
	if a.flags.Bool("config_enable_backup") {
		if err := a.db.update(func(s *saved) { s.Config = body }); err != nil {
			a.log.ErrorContext(ctx, "cannot keep a backup of the config", "error", err)
		}
	}
	return nil
}

// install replaces the packs. A pack that did not change keeps its discovery.
func (a *Agent) install(config *Config, hash string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.config, a.configHash, a.configValid = config, hash, true
	packs := make([]*activePack, len(config.Packs))
	for i, p := range config.Packs {
		packs[i] = &activePack{Pack: p}
		for _, old := range a.packs {
			if old.Name == p.Name && slices.Equal(old.Discovery, p.Discovery) {
				packs[i].discovery = old.discovery
			}
		}
	}
	a.packs = packs
}

func (a *Agent) option(ctx context.Context, o Option) {
	d, ok := a.flags.defined[alias(o.Name)]
	switch {
	case strings.HasPrefix(o.Name, "custom_"):
	case ok && d.CLIOnly && alias(o.Name) == o.Name: // an alias gets past, as in osquery
		a.status(ctx, warning, "The CLI only flag --"+o.Name+" set via config file will be ignored, please use a flagfile or pass it to the process at startup")
	case ok:
		a.flags.Set(o.Name, o.Value) // a value of the wrong type is silently ignored
	default:
		a.status(ctx, warning, "Cannot set unknown or invalid flag: "+o.Name)
	}
}
