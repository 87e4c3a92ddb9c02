package main

import (
	"context"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/musterhq/muster/internal/agenttest"
	"github.com/musterhq/muster/internal/agentwire"
)

const loadtestLong = `Simulate a fleet of osquery agents against a server and report what it bears.

The nodes enrol, then each asks for its config, sends log lines and asks for
live queries at its intervals, spread evenly, until the duration is over. With
--only, one kind of request is made as fast as --concurrency allows, so that
the server's CPU time is that kind's alone.

--conn full opens a connection with a full TLS handshake for every request, as
real agents do; keepalive keeps one open per node, as a proxy in front would;
resume opens one each time but resumes the TLS session. --key-exchange x25519
is what real agents offer in the handshake.

--baseline compares: the duration is shared, in turns of a second, with a bare
Go HTTPS server that this command starts beside the one under test, and the
report has the ratio of their CPU time. On a noisy machine that is worth more
than the figures themselves.

--live asks live queries through the API for people and measures, for the first
--duration without them and then until all ended, how long answers and the other
requests take. --carves asks nodes for files in the same way and measures the
server's memory over idle. Both need a login (muster login) or MUSTER_TOKEN.

The nodes and all their data are made up, repeatably: the same numbers are the
same hosts in every run. They stay enrolled; use a server made for this.`

const loadtestExample = `  muster loadtest --url https://127.0.0.1:8443 --ca data/ca.pem --secret-file secret \
    --nodes 1000 --duration 1m --conn keepalive --server-pid $(pidof muster)
  muster loadtest --url https://127.0.0.1:8443 --ca data/ca.pem --secret-file secret \
    --only config --concurrency 16 --duration 10s --conn full -o json
  muster loadtest --url https://127.0.0.1:8443 --ca data/ca.pem --secret-file secret \
    --only config --baseline --duration 20s --conn full --server-pid $(pidof muster)
  muster loadtest --url https://127.0.0.1:8443 --ca data/ca.pem --secret-file secret \
    --nodes 2000 --live 200 --live-concurrent 200 --misbehave die=1%,fail=2%,deny=1%,late=1%
  muster loadtest --url https://127.0.0.1:8443 --ca data/ca.pem --secret-file secret --nodes 10 \
    --read-interval 1s --carves 10 --carve-size 104857600 --server-pid $(pidof muster)`

// baselineCommand is the hidden command that the bare server runs as.
const baselineCommand = "baseline"

// loadtestFlags are the flags of "muster loadtest" as given.
type loadtestFlags struct {
	url, ca, secretFile, conn, only, platform          string
	keyExchange, baselineKey, profile                  string
	baseline                                           bool
	nodes, first, rows, statusEvery                    int
	concurrency, serverPID                             int
	enrollRate                                         float64
	duration, warmup, logEvery, readEvery, configEvery time.Duration

	loadtestReach
}

// newLoadtestCommand returns "muster loadtest".
func newLoadtestCommand() *cobra.Command {
	var (
		f loadtestFlags
		o output
	)
	cmd := &cobra.Command{
		Use:     "loadtest",
		Short:   "Simulate a fleet of agents and measure the server",
		Long:    loadtestLong,
		Example: loadtestExample,
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return profiled(f.profile, func() error { return runLoadtest(cmd, f, &o) })
		},
	}
	cmd.AddCommand(&cobra.Command{
		Use: baselineCommand, Short: "Be the bare server of --baseline, told by standard input", Hidden: true, Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return agenttest.ServeBaseline(cmd.Context(), cmd.InOrStdin(), cmd.OutOrStdout())
		},
	})
	o.flag(cmd, "table", "json", "yaml")
	set := cmd.Flags()
	set.StringVar(&f.url, "url", "", "the agents' address of the server, https://host:port")
	set.StringVar(&f.ca, "ca", "", "PEM file of the CA that signed the server's certificate")
	set.StringVar(&f.secretFile, "secret-file", "", "file that holds an enroll secret")
	set.IntVar(&f.nodes, "nodes", 100, "simulated nodes")
	set.IntVar(&f.first, "first", 1, "number of the first node; other numbers are other hosts")
	set.StringVar(&f.platform, "platform", "", "linux, darwin or windows; a mix if not given")
	set.DurationVar(&f.duration, "duration", 30*time.Second, "how long to measure")
	set.DurationVar(&f.warmup, "warmup", 0, "how long to run before measuring")
	set.DurationVar(&f.configEvery, "config-interval", time.Minute, "how often each node asks for its config; 0 is never")
	set.DurationVar(&f.logEvery, "log-interval", 10*time.Second, "how often each node sends log lines; 0 is never")
	set.DurationVar(&f.readEvery, "read-interval", 10*time.Second, "how often each node asks for live queries; 0 is never")
	set.IntVar(&f.rows, "rows", 10, "log lines in each request")
	set.IntVar(&f.statusEvery, "status-every", 0, "send a status line after so many log requests; 0 is never")
	set.StringVar(&f.conn, "conn", string(agentwire.KeepAlive), "keepalive, resume or full")
	set.StringVar(&f.keyExchange, "key-exchange", string(agentwire.X25519), "what to offer in TLS handshakes: x25519, p256 or mlkem")
	set.StringVar(&f.only, "only", "", "make one kind of request alone: enroll, config, log or read")
	set.IntVar(&f.concurrency, "concurrency", 16, "with --only: requests under way at a time")
	set.Float64Var(&f.enrollRate, "enroll-rate", 0, "enrolments per second before the run; 0 is no limit")
	set.IntVar(&f.serverPID, "server-pid", 0, "the server's process on this machine, to report its CPU time and memory")
	set.BoolVar(&f.baseline, "baseline", false, "with --only and --server-pid: compare with a bare HTTPS server in the same run")
	set.StringVar(&f.baselineKey, "baseline-key", "ecdsa", "key of the bare server's certificate: ecdsa (P-256) or rsa (2048 bits)")
	f.flags(set)
	set.StringVar(&f.profile, "cpu-profile", "", "write a CPU profile of this command to this file, for go tool pprof")
	_ = set.MarkHidden("cpu-profile") // it is there
	return cmd
}

func runLoadtest(cmd *cobra.Command, f loadtestFlags, o *output) error {
	ctx := cmd.Context()
	log := slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil))
	options, err := f.options(log)
	if err != nil {
		return err
	}
	if err := checkOpenFiles(ctx, log, f); err != nil {
		return err
	}
	if f.nodes <= smallFleet {
		debug.SetGCPercent(smallFleetGC)
	}
	report, err := agenttest.Load(ctx, options)
	if err != nil {
		return err
	}
	return o.document(cmd, report, func() error { return printLoad(cmd.OutOrStdout(), report) })
}

// The generator shares the machine with the server that it measures. The heap of
// a small fleet is small (10 KB for a node with its connection), so that the
// default would collect it all the time: nearly a tenth of the CPU time.
const (
	smallFleet   = 5000
	smallFleetGC = 400
)

// spareFiles are the open files that are no node's connection.
const spareFiles = 32

func checkOpenFiles(ctx context.Context, log *slog.Logger, f loadtestFlags) error {
	limit, err := agenttest.RaiseOpenFiles()
	if err != nil {
		return err
	}
	connections := uint64(f.nodes) //nolint:gosec // checked to be positive
	if f.baseline {
		connections *= 2
	}
	if agentwire.Conn(f.conn) == agentwire.KeepAlive && connections+spareFiles > limit {
		log.WarnContext(ctx, "more connections than this process may have open; some will fail",
			"connections", connections, "open_files", limit)
	}
	return nil
}

// options checks the flags.
func (f loadtestFlags) options(log *slog.Logger) (agenttest.LoadOptions, error) {
	o := agenttest.LoadOptions{
		Warmup: f.warmup, Duration: f.duration, Alone: f.only != "", Concurrency: f.concurrency, ServerPID: f.serverPID,
		Fleet: agenttest.FleetOptions{
			URL: f.url, KeyExchange: agentwire.KeyExchange(f.keyExchange), Conn: agentwire.Conn(f.conn),
			Nodes: f.nodes, First: f.first, Platform: f.platform,
			ConfigInterval: f.configEvery, LogInterval: f.logEvery, ReadInterval: f.readEvery,
			Rows: f.rows, StatusEvery: f.statusEvery, EnrollRate: f.enrollRate, Logger: log,
			// Nodes that back off as osquery does would relieve the server.
			LogRetry: agenttest.Backoff{Base: f.logEvery, Max: f.logEvery},
		},
	}
	switch {
	case f.nodes < 1:
		return o, usagef("--nodes must be 1 or more")
	case f.duration <= 0:
		return o, usagef("--duration must be more than 0")
	case f.warmup < 0 || f.logEvery < 0 || f.readEvery < 0 || f.configEvery < 0:
		return o, usagef("--warmup and the intervals must not be negative")
	case f.only == "" && f.logEvery+f.readEvery+f.configEvery == 0:
		return o, usagef("--log-interval, --read-interval, --config-interval are all 0; the fleet would do nothing")
	case f.rows < 0:
		return o, usagef("--rows must not be negative")
	case f.only != "" && (f.concurrency < 1 || f.concurrency > f.nodes):
		return o, usagef("--concurrency is %d; it must be 1 to the number of --nodes, %d", f.concurrency, f.nodes)
	case f.url == "" || f.ca == "" || f.secretFile == "":
		return o, usagef("loadtest needs --url, --ca and --secret-file")
	}
	switch agentwire.Conn(f.conn) {
	case agentwire.KeepAlive, agentwire.Resume, agentwire.Full:
	default:
		return o, usagef("--conn is %q; it must be keepalive, resume or full", f.conn)
	}
	switch agentwire.KeyExchange(f.keyExchange) {
	case agentwire.X25519, agentwire.P256, agentwire.MLKEM:
	default:
		return o, usagef("--key-exchange is %q; it must be x25519, p256 or mlkem", f.keyExchange)
	}
	switch f.platform {
	case "", "linux", "darwin", "windows":
	default:
		return o, usagef("--platform is %q; it must be linux, darwin or windows", f.platform)
	}
	if f.only != "" {
		op, err := agenttest.ParseOp(f.only)
		if err != nil || op >= agenttest.OpWrite {
			return o, usagef("--only is %q; it must be enroll, config, log or read", f.only)
		}
		o.Only = op
	}
	if f.baseline {
		var err error
		if o.Baseline, err = f.bare(); err != nil {
			return o, err
		}
	}
	if err := f.readFiles(&o.Fleet); err != nil {
		return o, err
	}
	err := f.loadtestReach.options(&o)
	return o, err
}

// bare checks the flags of the comparison with a bare server, which is this
// program once more.
func (f loadtestFlags) bare() (*agenttest.Baseline, error) {
	switch {
	case f.only == "" || f.only == agenttest.OpEnroll.String():
		return nil, usagef("--baseline compares one kind of request; add --only config, log or read")
	case f.serverPID == 0:
		return nil, usagef("--baseline compares CPU time; add --server-pid, the server's process on this machine")
	case f.baselineKey != "ecdsa" && f.baselineKey != "rsa":
		return nil, usagef("--baseline-key is %q; it must be ecdsa or rsa", f.baselineKey)
	}
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return &agenttest.Baseline{Command: []string{program, "loadtest", baselineCommand}, RSA: f.baselineKey == "rsa"}, nil
}

// readFiles reads the CA and the secret.
func (f loadtestFlags) readFiles(o *agenttest.FleetOptions) error {
	pem, err := os.ReadFile(f.ca)
	if err != nil {
		return fmt.Errorf("read the CA: %w", err)
	}
	o.RootCAs = x509.NewCertPool()
	if !o.RootCAs.AppendCertsFromPEM(pem) {
		return usagef("--ca %s holds no PEM certificate", f.ca)
	}
	secret, err := os.ReadFile(f.secretFile)
	if err != nil {
		return fmt.Errorf("read the enroll secret: %w", err)
	}
	o.Secret = strings.TrimSpace(string(secret))
	return nil
}

// printLoad writes the report for people.
func printLoad(w io.Writer, r agenttest.Report) error {
	var rows [][]string
	for _, name := range slices.Sorted(maps.Keys(r.Operations)) {
		rows = append(rows, loadRow(name, r.Operations[name]))
	}
	rows = append(rows, []string{
		"measured", fmt.Sprint(r.Count), fmt.Sprint(r.Errors), fmt.Sprintf("%.1f", r.Rate), "", "", "", "", cpuCell(r.ServerCPU),
	})
	if r.Baseline != nil {
		rows = append(rows, loadRow("baseline", r.Baseline.OperationReport))
	}
	head := []string{"OPERATION", "COUNT", "ERRORS", "PER SECOND", "P50 MS", "P95 MS", "P99 MS", "MAX MS", "SERVER CPU MS/1000"}
	if err := printTable(w, head, rows); err != nil {
		return err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "\n%s, %d nodes, %d enrolled, %s, %.1f s, %d connections opened\n",
		r.Mode, r.Nodes, r.Enrolled, r.Conn, r.Seconds, r.Connections)
	if r.Ratio != nil && r.RatioMedian != nil {
		fmt.Fprintf(&b, "ratio:     %.3f times the CPU time of a bare server (%s), %.3f in the median of the rounds\n",
			*r.Ratio, r.Baseline.Key, *r.RatioMedian)
	}
	if s := r.Server; s != nil {
		fmt.Fprintf(&b, "server:    %.2f cores, %.1f MiB resident, %.1f MiB at most\n", s.Cores, mebibytes(s.RSS), mebibytes(s.PeakRSS))
	}
	fmt.Fprintf(&b, "generator: %.2f cores, %.1f MiB resident, %.0f µs CPU per request, p99 %.1f ms behind its schedule\n",
		r.Generator.Cores, mebibytes(r.Generator.RSS), r.Generator.CPUPerRequest, r.Generator.LagP99)
	for _, h := range r.Handshakes {
		fmt.Fprintf(&b, "handshake: %s, %s, %d times\n", h.Version, h.KeyExchange, h.Count)
	}
	for _, name := range slices.Sorted(maps.Keys(r.Operations)) {
		kinds := r.Operations[name].ErrorKinds
		for _, kind := range slices.Sorted(maps.Keys(kinds)) {
			fmt.Fprintf(&b, "%s failed %d times: %s\n", name, kinds[kind], printable(kind))
		}
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return err
	}
	return printReach(w, r)
}

func loadRow(name string, o agenttest.OperationReport) []string {
	return []string{
		name, fmt.Sprint(o.Count), fmt.Sprint(o.Errors), fmt.Sprintf("%.1f", o.Rate),
		fmt.Sprintf("%.2f", o.P50), fmt.Sprintf("%.2f", o.P95), fmt.Sprintf("%.2f", o.P99), fmt.Sprintf("%.2f", o.Max),
		cpuCell(o.ServerCPU),
	}
}

func cpuCell(milliseconds *float64) string {
	if milliseconds == nil {
		return "-"
	}
	return fmt.Sprintf("%.1f", *milliseconds)
}

func mebibytes(n int64) float64 { return float64(n) / (1 << 20) }
