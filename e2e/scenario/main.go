// Scenario plays scenarios of bad weather against a real server on loopback and
// counts what was lost: go run ./e2e/scenario kill dbgone. Package weather
// holds them. MUSTER_BINARY names the muster to use; without it one is built.
//
// The exit code is 0 when every promise was kept, 1 when one was broken or a
// scenario failed, 2 for a wrong command line, or when this machine cannot make
// the weather and nothing worse happened. go run turns 2 into 1; its last line
// still says which it was.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/musterhq/muster/e2e/rig"
	"github.com/musterhq/muster/e2e/weather"
)

// Exit codes.
const (
	kept   = 0
	broken = 1
	cannot = 2
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code) //nolint:forbidigo // this is main
}

// run plays the scenarios that args name and returns the exit code.
func run(ctx context.Context, args []string, out, errOut io.Writer) int {
	var (
		o     weather.Options
		list  bool
		limit time.Duration
		flags = flag.NewFlagSet("scenario", flag.ContinueOnError)
	)
	flags.SetOutput(errOut)
	flags.BoolVar(&list, "list", false, "list the scenarios")
	flags.IntVar(&o.Kills, "kills", 0, "kill: how often; 0 is 10")
	flags.IntVar(&o.Nodes, "nodes", 0, "herd, restart: nodes; 0 is 20,000 and 5,000")
	flags.IntVar(&o.Sockets, "sockets", 0, "slowloris: connections; 0 is 2,000")
	flags.DurationVar(&o.For, "for", 0, "dbgone, rubbish: how long each harm lasts; 0 is the scenario's own")
	flags.Uint64Var(&o.Seed, "seed", 0, "kill, rubbish: repeats a run; 0 makes one up")
	flags.DurationVar(&limit, "limit", 0, "time for each scenario; 0 is its own")
	flags.Usage = func() {
		_, _ = fmt.Fprintln(errOut, "usage: scenario [flags] all | NAME…")
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil {
		return cannot
	}
	if list {
		for _, s := range weather.Scenarios() {
			_, _ = fmt.Fprintf(out, "%-10s %s\n", s.Name, s.Summary)
		}
		return kept
	}
	chosen, err := choose(flags.Args())
	if err != nil {
		_, _ = fmt.Fprintln(errOut, "scenario:", err)
		return cannot
	}
	o.Out = out
	if err := play(ctx, o, limit, chosen); err != nil {
		_, _ = fmt.Fprintf(errOut, "\n%s\n", err)
		if errors.Is(err, errBroken) {
			return broken
		}
		return cannot
	}
	return kept
}

// choose returns the scenarios of these names.
func choose(names []string) ([]weather.Scenario, error) {
	all := weather.Scenarios()
	if len(names) == 1 && names[0] == "all" {
		return all, nil
	}
	known, chosen := map[string]weather.Scenario{}, []weather.Scenario{}
	var list []string
	for _, s := range all {
		known[s.Name] = s
		list = append(list, s.Name)
	}
	for _, name := range names {
		s, ok := known[name]
		if !ok {
			return nil, fmt.Errorf("no scenario %q; there are %s, and all", name, strings.Join(list, ", "))
		}
		chosen = append(chosen, s)
	}
	if len(chosen) == 0 {
		return nil, fmt.Errorf("name a scenario: %s, or all", strings.Join(list, ", "))
	}
	return chosen, nil
}

// errBroken says that the server, or a scenario, is not as it should be.
var errBroken = errors.New("broken")

// play plays scenarios one after another; one that fails does not stop the
// next. The error says how each went that was not well.
func play(ctx context.Context, o weather.Options, limit time.Duration, chosen []weather.Scenario) error {
	dir, err := os.MkdirTemp("", "muster-weather")
	if err != nil {
		return fmt.Errorf("%w: %w", errBroken, err)
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a temporary directory
	if o.Binary, err = rig.Build(ctx, dir); err != nil {
		return fmt.Errorf("%w: %w", errBroken, err)
	}
	if o.Binary, err = filepath.Abs(o.Binary); err != nil {
		return fmt.Errorf("%w: %w", errBroken, err)
	}
	var failed []error
	for _, s := range chosen {
		if ctx.Err() != nil {
			failed = append(failed, fmt.Errorf("%w: interrupted before %s", errBroken, s.Name))
			break
		}
		o.Dir = filepath.Join(dir, s.Name)
		if limit > 0 {
			s.Limit = limit
		}
		if err := one(ctx, o, s); err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", s.Name, err))
		}
		_ = os.RemoveAll(o.Dir) // the next may need the space
	}
	return errors.Join(failed...)
}

// one plays a scenario within its time and prints what it saw.
func one(ctx context.Context, o weather.Options, s weather.Scenario) error {
	_, _ = fmt.Fprintf(o.Out, "\n%s: %s\n", s.Name, s.Summary)
	ctx, cancel := context.WithTimeoutCause(ctx, s.Limit, fmt.Errorf("it took longer than %s; -limit gives it more", s.Limit))
	defer cancel()
	report, err := s.Run(ctx, o)
	if report != nil {
		_, _ = fmt.Fprintln(o.Out)
		if err := report.Print(o.Out); err != nil {
			return fmt.Errorf("%w: %w", errBroken, err)
		}
	}
	switch {
	case errors.Is(err, weather.ErrCannot):
		return err
	case err != nil && ctx.Err() != nil:
		return fmt.Errorf("%w: %w: %w", errBroken, context.Cause(ctx), err)
	case err != nil:
		return fmt.Errorf("%w: %w", errBroken, err)
	}
	if lines := report.Broken(); len(lines) > 0 {
		return fmt.Errorf("%w: %s", errBroken, strings.Join(lines, "; "))
	}
	return nil
}
