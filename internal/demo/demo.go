// Package demo is a whole Muster on one machine: a server, an agent that
// enrols this machine with it, and simulated agents if asked for.
package demo

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/musterhq/muster/internal/agent"
	"github.com/musterhq/muster/internal/agenttest"
	"github.com/musterhq/muster/internal/agentwire"
	"github.com/musterhq/muster/internal/app"
	"github.com/musterhq/muster/internal/config"
	"github.com/musterhq/muster/internal/durable"
)

// Options of a demonstration.
type Options struct {
	Config  config.Server
	Version string
	Nodes   int // simulated nodes besides this machine
	// Misbehave says which of them treat live queries badly.
	Misbehave agenttest.Misbehaviour
	Fresh     bool // begin with an empty data directory
	Out       io.Writer
	Log       *slog.Logger
}

// Run runs the demonstration until ctx ends. Its data stay, unless the next
// begins afresh.
func Run(ctx context.Context, o Options) error {
	if o.Fresh {
		if err := clean(o.Config.DataDir); err != nil {
			return err
		}
	}
	a, err := app.New(ctx, o.Config, o.Version, o.Log)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	d := demo{Options: o, app: a}
	group.Go(func() error { return a.Run(ctx) })
	group.Go(func() error { return d.agents(ctx) })
	return group.Wait()
}

// agents runs everything but the server.
func (d *demo) agents(ctx context.Context) error {
	if err := d.prepare(ctx); err != nil {
		return err
	}
	if err := d.welcome(); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return d.machine(ctx) })
	if d.Nodes > 0 {
		group.Go(func() error { return d.simulate(ctx) })
	}
	return group.Wait()
}

// clean removes a data directory, if it is one.
func clean(dir string) error {
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if _, err := os.Stat(filepath.Join(dir, "secret.key")); err != nil {
		return fmt.Errorf("%s is no data directory of Muster, so it is not removed; choose another --data-dir", dir)
	}
	return os.RemoveAll(dir)
}

type demo struct {
	Options

	app    *app.App
	secret string // value of the enroll secret
}

func (d *demo) path(parts ...string) string {
	return filepath.Join(append([]string{d.Config.DataDir, "demo"}, parts...)...)
}

// prepare makes the enroll secret, once.
func (d *demo) prepare(ctx context.Context) error {
	if err := os.MkdirAll(d.path(), 0o700); err != nil {
		return err
	}
	file := d.secretFile()
	b, err := os.ReadFile(file) //nolint:gosec // in our own directory
	if err == nil {
		d.secret = strings.TrimSpace(string(b))
		return nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	name := fmt.Sprintf("demo-%d", time.Now().Unix())
	if d.secret, err = d.app.CreateSecret(ctx, "demo", name, []string{"demo"}); err != nil {
		return err
	}
	return durable.WriteFile(file, 0o600, []byte(d.secret+"\n"))
}

func (d *demo) secretFile() string { return d.path("enroll.secret") }

func (d *demo) welcome() error {
	link := d.app.SetupURL()
	if link == "" {
		_, err := fmt.Fprintf(d.Out, "\n  Muster runs. Log in at %s\n\n", d.app.AdminURL())
		return err
	}
	_, err := fmt.Fprintf(d.Out, "\n  Muster runs. Make the first administrator here, once:\n\n    %s\n\n  Ctrl-C stops it; its data stay in %s.\n\n", link, d.Config.DataDir)
	return err
}

// carveEvery is how often our own agent begins carves; osqueryd does so each
// minute, which is long for somebody who looks on.
const carveEvery = time.Second

// machine enrols this machine: with osqueryd if there is one, else with our
// own agent.
func (d *demo) machine(ctx context.Context) error {
	if path, err := exec.LookPath("osqueryd"); err == nil {
		return d.osqueryd(ctx, path)
	}
	flags := agent.NewFlags()
	flags.Parse(d.flagfile())
	own, err := agent.New(agent.Options{
		Flags: flags, Log: d.Log.With("component", "agent"), Carve: agent.CarveOptions{Every: carveEvery},
	})
	if err != nil {
		return fmt.Errorf("agent: %w", err)
	}
	return own.Run(ctx)
}

// flagfile returns the flags of an agent of this server, which both agents
// understand.
func (d *demo) flagfile() string {
	return strings.Join([]string{
		"--tls_hostname=" + fmt.Sprintf("localhost:%d", d.app.AgentAddr().Port()),
		"--tls_server_certs=" + d.app.CAFile(),
		"--enroll_secret_path=" + d.secretFile(),
		"--enroll_tls_endpoint=/api/osquery/enroll",
		"--host_identifier=instance",
		"--config_plugin=tls",
		"--config_tls_endpoint=/api/osquery/config",
		"--config_refresh=60",
		"--config_accelerated_refresh=10",
		"--logger_plugin=tls",
		"--logger_tls_endpoint=/api/osquery/log",
		"--logger_tls_period=2",
		"--disable_distributed=false",
		"--distributed_plugin=tls",
		"--distributed_interval=3",
		"--distributed_tls_read_endpoint=/api/osquery/distributed/read",
		"--distributed_tls_write_endpoint=/api/osquery/distributed/write",
		"--disable_carver=false",
		"--carver_start_endpoint=/api/osquery/carve/start",
		"--carver_continue_endpoint=/api/osquery/carve/continue",
		"--carver_block_size=1048576",
		"--disable_extensions=true",
		"--database_path=" + d.path("agent.db"),
		"--pidfile=" + d.path("agent.pid"),
		"",
	}, "\n")
}

// stopGrace is how long osqueryd has to end by itself.
const stopGrace = 10 * time.Second

// osqueryd runs the real agent, as whoever runs the demonstration.
func (d *demo) osqueryd(ctx context.Context, path string) error {
	file := d.path("osquery.flags")
	if err := durable.WriteFile(file, 0o600, []byte(d.flagfile())); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, path, "--flagfile="+file) //nolint:gosec // the one on PATH, as documented
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = stopGrace
	d.Log.InfoContext(ctx, "running osqueryd as the agent of this machine", "path", path)
	if err := cmd.Run(); err != nil && ctx.Err() == nil {
		return fmt.Errorf("osqueryd ended: %w; its flags are in %s", err, file)
	}
	return nil
}

// simulatedBlock is the size of a block of simulated carves, so small that one
// can watch them arrive.
const simulatedBlock = 64 << 10

// maxKept is how many simulated nodes keep their connection.
const maxKept = 2000

// simulate runs agents that make their rows up.
func (d *demo) simulate(ctx context.Context) error {
	ca, err := os.ReadFile(d.app.CAFile())
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	// Both ends of each kept connection are files of this process; a large fleet
	// connects anew for each request, as real agents do, and polls more slowly.
	conn, slower := agentwire.KeepAlive, 1
	if d.Nodes > maxKept {
		conn, slower = agentwire.Full, d.Nodes/maxKept+1
	}
	seconds := func(n int) time.Duration { return time.Duration(n*slower) * time.Second }
	fleet, err := agenttest.NewFleet(agenttest.FleetOptions{
		URL:     fmt.Sprintf("https://localhost:%d", d.app.AgentAddr().Port()),
		RootCAs: roots, Secret: d.secret, Nodes: d.Nodes, Conn: conn,
		ConfigInterval: seconds(60), LogInterval: seconds(20), ReadInterval: seconds(5), Rows: 1, Follow: true,
		Misbehave: d.Misbehave, Carve: &agenttest.CarveOptions{BlockSize: simulatedBlock},
		Logger: d.Log.With("component", "simulated"),
	})
	if err != nil {
		return err
	}
	defer fleet.Close()
	if _, err := fleet.Enroll(ctx); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("simulated nodes: %w", err)
	}
	return fleet.Run(ctx)
}
