package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/musterhq/muster/internal/agenttest"
)

// loadtestReach are the flags of loads that need the API for people.
type loadtestReach struct {
	api                             target
	live, liveConcurrent, liveNodes int
	liveSQL, reason                 string
	liveExpiry                      time.Duration
	misbehave                       string
	carves, carveConcurrent         int
	carveSize                       int64
	carveBlock                      int
}

func (f *loadtestReach) flags(set *pflag.FlagSet) {
	set.StringVar(&f.api.url, "admin-url", "", "with --live or --carves: URL of the server's admin listener (default: MUSTER_URL, or where you logged in)")
	set.StringVar(&f.api.ca, "admin-ca", "", "with --live or --carves: PEM file to check the admin listener's certificate against")
	set.StringVar(&f.api.context, "admin-context", "", "with --live or --carves: name of the login to use")
	set.StringVar(&f.reason, "reason", "", "with --live or --carves: reason to tell the server")
	set.IntVar(&f.live, "live", 0, "ask so many live queries, after --duration without any")
	set.IntVar(&f.liveConcurrent, "live-concurrent", 0, "with --live: queries at a time; all if 0")
	set.IntVar(&f.liveNodes, "live-nodes", 0, "with --live: simulated nodes that each query asks, in turn; all nodes of the server if 0")
	set.StringVar(&f.liveSQL, "live-sql", "", "with --live: what to ask; something about the system if not given")
	set.DurationVar(&f.liveExpiry, "live-expiry", 5*time.Minute, "with --live: how long each query waits for nodes")
	set.StringVar(&f.misbehave, "misbehave", "", misbehaveUsage)
	set.IntVar(&f.carves, "carves", 0, "ask so many nodes for a file each, after --duration in which the server idles")
	set.IntVar(&f.carveConcurrent, "carve-concurrent", 10, "with --carves: uploads at a time")
	set.Int64Var(&f.carveSize, "carve-size", 1<<20, "with --carves: bytes of each archive")
	set.IntVar(&f.carveBlock, "carve-block", 1<<20, "with --carves: bytes of each block")
}

const misbehaveUsage = "which part of the simulated nodes treats live queries badly, as die=1%,late=1%:150s,slow=5%:3s,fail=2%,deny=1%"

// options adds the loads that were asked for.
func (f *loadtestReach) options(o *agenttest.LoadOptions) error {
	m, err := agenttest.ParseMisbehaviour(f.misbehave)
	if err != nil {
		return usagef("--misbehave: %w", err)
	}
	o.Fleet.Misbehave = m
	switch {
	case f.live < 0 || f.carves < 0 || f.liveConcurrent < 0 || f.liveNodes < 0:
		return usagef("--live, --live-concurrent, --live-nodes and --carves must not be negative")
	case f.live > 0 && f.carves > 0:
		return usagef("--live and --carves are different loads; choose one")
	case o.Alone && (f.live > 0 || f.carves > 0):
		return usagef("--live and --carves need a fleet; leave --only out")
	case (f.live > 0 || f.carves > 0) && o.Fleet.ReadInterval <= 0:
		return usagef("--live and --carves need nodes that ask for queries; give --read-interval")
	case f.carves > 0 && (f.carveSize < 2048 || f.carveBlock < 1 || f.carveConcurrent < 1):
		return usagef("--carve-size must be 2048 or more, --carve-block and --carve-concurrent 1 or more")
	case f.live == 0 && f.carves == 0:
		return nil
	}
	client, err := f.api.client()
	if err != nil {
		return err
	}
	if f.live > 0 {
		o.Live = &agenttest.LiveLoad{
			API: client, Queries: f.live, Concurrent: f.liveConcurrent, Nodes: f.liveNodes,
			SQL: f.liveSQL, Reason: f.reason, Expiry: f.liveExpiry,
		}
		return nil
	}
	o.Carves = &agenttest.CarveLoad{API: client, Carves: f.carves, Reason: f.reason}
	o.Fleet.Carve = &agenttest.CarveOptions{Size: f.carveSize, BlockSize: f.carveBlock, Concurrency: f.carveConcurrent}
	return nil
}

// printReach writes what the report has of live queries and carves.
func printReach(w io.Writer, r agenttest.Report) error {
	if r.Live != nil {
		if err := printLiveLoad(w, *r.Live, r.Operations); err != nil {
			return err
		}
	}
	if r.Carves != nil {
		return printCarveLoad(w, *r.Carves)
	}
	return nil
}

func printLiveLoad(w io.Writer, l agenttest.LiveReport, busy map[string]agenttest.OperationReport) error {
	var rows [][]string
	for _, name := range slices.Sorted(maps.Keys(l.Quiet)) {
		q := l.Quiet[name]
		rows = append(rows, []string{
			name, fmt.Sprintf("%.1f", q.Rate), fmt.Sprintf("%.2f", q.P99),
			fmt.Sprintf("%.1f", busy[name].Rate), fmt.Sprintf("%.2f", busy[name].P99),
		})
	}
	if _, err := io.WriteString(w, "\n"); err != nil {
		return err
	}
	if err := printTable(w, []string{"OPERATION", "QUIET PER SECOND", "QUIET P99 MS", "ASKED PER SECOND", "ASKED P99 MS"}, rows); err != nil {
		return err
	}
	rows = nil
	for _, t := range []struct {
		name string
		agenttest.Times
	}{{"first answer", l.First}, {"all answered", l.All}, {"each answer", l.Answer}, {"query ended", l.Ended}} {
		rows = append(rows, []string{
			t.name, fmt.Sprint(t.Count), fmt.Sprintf("%.0f", t.P50), fmt.Sprintf("%.0f", t.P95),
			fmt.Sprintf("%.0f", t.P99), fmt.Sprintf("%.0f", t.Max),
		})
	}
	if _, err := io.WriteString(w, "\n"); err != nil {
		return err
	}
	if err := printTable(w, []string{"SINCE THE START", "COUNT", "P50 MS", "P95 MS", "P99 MS", "MAX MS"}, rows); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "\nlive:      %d queries, %d at a time, %d of %d answers acknowledged in %.1f s; nodes poll every %.0f ms\nqueries:   %s\nnodes:     %s\n",
		l.Queries, l.Concurrent, l.Answered, l.Asked, l.Seconds, l.Poll, countsLine(l.States), countsLine(l.Targets))
	return err
}

func printCarveLoad(w io.Writer, c agenttest.CarveReport) error {
	cpu, memory := "", ""
	if c.CPU != nil {
		cpu = fmt.Sprintf(", %.2f ms of server CPU per block", *c.CPU)
		memory = fmt.Sprintf("memory:    %.1f MiB idle, %.1f MiB at most, %.1f MiB over idle\n",
			mebibytes(c.IdleRSS), mebibytes(c.PeakRSS), mebibytes(c.OverIdle))
	}
	_, err := fmt.Fprintf(w, "\ncarves:    %d of %.1f MiB, %d at a time, blocks of %d bytes; %d uploaded, %d failed; %s\nblocks:    %d in %.1f s, %.1f per second, %.1f MiB/s%s\n%s",
		c.Carves, mebibytes(c.Size), c.Concurrent, c.BlockSize, c.Uploaded, c.Failed, countsLine(c.States),
		c.Blocks, c.Seconds, c.Rate, c.Bytes, cpu, memory)
	return err
}

// countsLine shows counts by state.
func countsLine(counts map[string]int) string {
	var parts []string
	for _, state := range slices.Sorted(maps.Keys(counts)) {
		parts = append(parts, fmt.Sprintf("%d %s", counts[state], printable(state)))
	}
	return strings.Join(parts, ", ")
}
