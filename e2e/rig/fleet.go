package rig

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/musterhq/muster/internal/agenttest"
	"github.com/musterhq/muster/internal/agentwire"
)

// Fleet is simulated nodes at work.
type Fleet struct {
	*agenttest.Fleet

	cancel context.CancelFunc
	ended  chan struct{}
	err    error // valid after ended
}

// Fleet enrols nodes and lets them work until Stop or until ctx ends, all at
// this server and with numbered rows. What o leaves empty becomes kept-alive
// connections and short pauses after failures, so that an outage costs a test
// no minutes.
func (s *Server) Fleet(ctx context.Context, o agenttest.FleetOptions) (*Fleet, error) {
	roots, err := s.Roots()
	if err != nil {
		return nil, err
	}
	o.URL, o.RootCAs, o.Numbered = s.AgentURL, roots, true
	o.Conn = cmp.Or(o.Conn, agentwire.KeepAlive)
	o.LogRetry = cmp.Or(o.LogRetry, agenttest.Backoff{Base: 20 * time.Millisecond, Max: 100 * time.Millisecond})
	o.EnrollRetry = cmp.Or(o.EnrollRetry, agenttest.Backoff{Base: 50 * time.Millisecond, Max: time.Second})
	nodes, err := agenttest.NewFleet(o)
	if err != nil {
		return nil, err
	}
	if _, err := nodes.Enroll(ctx); err != nil {
		nodes.Close()
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	f := &Fleet{Fleet: nodes, cancel: cancel, ended: make(chan struct{})}
	go func() {
		defer close(f.ended)
		f.err = nodes.Run(ctx)
	}()
	return f, nil
}

// Stop ends the fleet's work, when it did not end yet, and drops its
// connections.
func (f *Fleet) Stop() error {
	f.cancel()
	<-f.ended
	f.Close()
	return f.err
}

// Acked returns how many numbered rows the server has acknowledged.
func (f *Fleet) Acked() int64 {
	var sum int64
	for _, l := range f.Ledgers() {
		sum += l.Acked
	}
	return sum
}

// Account compares what agents were promised with what a search finds.
type Account struct {
	Sent, Acked int64 // numbered rows that were in some request; that the server acknowledged
	Stored      int64 // rows that the search found
	Lost        int64 // acknowledged, and not found
	Twice       int64 // found again
	Unknown     int64 // found, and never sent
	Broken      error // the first nodes whose rows do not add up; nil if all do
}

// maxBroken bounds the nodes that an Account tells of.
const maxBroken = 5

// Reconcile searches for all numbered rows and compares them with the ledgers
// of fleets that have stopped. What is sent but not acknowledged may be there
// or not. The error is for a search that failed; what it found is in the
// Account.
func (s *Server) Reconcile(ctx context.Context, fleets ...*Fleet) (Account, error) {
	stored, err := s.Numbered(ctx)
	if err != nil {
		return Account{}, err
	}
	var a Account
	var broken []error
	for _, f := range fleets {
		for _, l := range f.Ledgers() {
			numbers := stored[l.HostIdentifier]
			a.add(l, numbers)
			if err := l.Check(numbers); err != nil && len(broken) < maxBroken {
				broken = append(broken, err)
			}
			delete(stored, l.HostIdentifier)
		}
	}
	for host, numbers := range stored {
		a.Stored, a.Unknown = a.Stored+int64(len(numbers)), a.Unknown+int64(len(numbers))
		broken = append(broken, fmt.Errorf("%d rows of a node that none of the fleets has: %s", len(numbers), host))
	}
	a.Broken = errors.Join(broken...)
	return a, nil
}

func (a *Account) add(l agenttest.Ledger, stored []int64) {
	slices.Sort(stored)
	distinct := slices.Compact(slices.Clone(stored))
	first, _ := slices.BinarySearch(distinct, 1)
	acked, _ := slices.BinarySearch(distinct, l.Acked+1)
	sent, _ := slices.BinarySearch(distinct, l.Sent+1)
	a.Sent += l.Sent
	a.Acked += l.Acked
	a.Stored += int64(len(stored))
	a.Lost += l.Acked - int64(acked-first)
	a.Twice += int64(len(stored) - len(distinct))
	a.Unknown += int64(len(distinct) - (sent - first))
}

// Numbered returns the numbers of all rows that a search finds, by node.
func (s *Server) Numbered(ctx context.Context) (map[string][]int64, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*Patience)
	defer cancel()
	cmd := s.command(ctx, []string{"event", "search", "--query", agenttest.NumberedQuery, "--limit", "100000000", "-o", "ndjson"})
	var problem Log
	cmd.Stderr = &problem
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	stored, err := decodeNumbered(out)
	_, rest := io.Copy(io.Discard, out)
	if err := errors.Join(err, rest, cmd.Wait()); err != nil {
		return nil, fmt.Errorf("search for the numbered rows: %w: %s", err, problem.Tail(500))
	}
	return stored, nil
}

func decodeNumbered(r io.Reader) (map[string][]int64, error) {
	stored := map[string][]int64{}
	for d := json.NewDecoder(r); ; {
		var e struct {
			HostIdentifier string            `json:"host_identifier"`
			Columns        map[string]string `json:"columns"`
		}
		if err := d.Decode(&e); errors.Is(err, io.EOF) {
			return stored, nil
		} else if err != nil {
			return nil, err
		}
		n, err := strconv.ParseInt(e.Columns["n"], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("a row of %s without a number: %v", e.HostIdentifier, e.Columns)
		}
		stored[e.HostIdentifier] = append(stored[e.HostIdentifier], n)
	}
}
