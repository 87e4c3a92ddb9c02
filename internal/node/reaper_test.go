//nolint:thelper // the functions that reap calls are tests, not helpers
package node

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// fleet is a registry and a reaper on synctest's clock, whose wall clock can be
// set. Nodes that live make a request every 20 s.
type fleet struct {
	*Registry
	mu       sync.Mutex
	offset   time.Duration // of the wall clock
	living   map[string]bool
	version  int64
	changes  *store
	recorded []string // ids of each audit entry
	expired  []string
	err      error // of the audit log or the store
	auditErr error
	back     string // comes back while the entry is written
}

func (f *fleet) wall() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return time.Now().Add(f.offset)
}

func (f *fleet) Record(_ context.Context, actor, action, target string, detail any) error {
	entry, ok := detail.(sweepEntry)
	if !ok || actor != "muster" || action != "node.expire" || target != fmt.Sprintf("%d nodes", len(entry.Nodes)) {
		return fmt.Errorf("recorded %s %s %s %v", actor, action, target, detail)
	}
	if f.back != "" {
		f.Lookup(f.back).Touch(f.wall(), netip.Addr{}, EndpointLog)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.auditErr != nil {
		return f.auditErr
	}
	var ids []string
	for _, n := range entry.Nodes {
		ids = append(ids, n.ID)
	}
	f.recorded = append(f.recorded, strings.Join(ids, " "))
	return nil
}

func (f *fleet) ExpireNodes(_ context.Context, ids []string) ([]string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return nil, f.err
	}
	f.expired = append(f.expired, ids...)
	return ids, nil
}

// add adds a node that was heard of a while ago.
func (f *fleet) add(t *testing.T, id string, ago time.Duration, tags ...string) {
	t.Helper()
	f.addNode(t, Node{ID: id, Tags: tags, LastSeen: f.wall().Add(-ago)})
}

func (f *fleet) addNode(t *testing.T, n Node) {
	t.Helper()
	f.version++
	n.Version = f.version
	c := Change{Node: n, Key: hash("key of " + n.ID)}
	f.changes.changes = append(f.changes.changes, c)
	sync1(t, f.Registry)
}

// run lets time pass.
func (f *fleet) run(d time.Duration) {
	const every = 20 * time.Second
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(min(every, time.Until(end))) { //nolint:forbidigo // synctest's clock
		for id := range f.living {
			if i := f.Lookup(id); i != nil {
				i.Touch(f.wall(), netip.Addr{}, EndpointRead)
			}
		}
	}
	synctest.Wait()
}

func (f *fleet) jump(by time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.offset += by
}

// gone returns who was removed since the last call.
func (f *fleet) gone() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	slices.Sort(f.expired)
	gone := strings.Join(f.expired, " ")
	f.expired = nil
	return gone
}

// reap runs a test beside a reaper, with a node "live" that lives.
func reap(t *testing.T, o ReaperOptions, test func(t *testing.T, f *fleet)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f := &fleet{changes: &store{}, living: map[string]bool{"live": true}}
		f.Registry = newRegistry(t, f.changes)
		f.now = f.wall
		f.add(t, "live", 0)
		o.Registry, o.Store, o.Audit, o.Log, o.Now = f.Registry, f, f, f.log, f.wall
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- NewReaper(o).Run(ctx) }()
		test(t, f)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

const (
	day  = 24 * time.Hour
	year = 365 * day
)

func TestReaper(t *testing.T) {
	t.Parallel()
	reap(t, ReaperOptions{TTL: 2 * day, TagTTL: map[string]time.Duration{"auto": 10 * time.Minute, "lab": 3 * day, "ci": 5 * time.Minute}}, func(t *testing.T, f *fleet) {
		f.add(t, "old", 3*day)
		f.add(t, "recent", day)
		f.add(t, "lab", 3*day-time.Minute, "lab")
		f.add(t, "auto", 0, "auto")
		f.add(t, "ci", 0, "auto", "ci", "lab") // the shortest counts
		f.addNode(t, Node{ID: "never"})
		f.addNode(t, Node{ID: "slow", Tags: []string{"ci"}, LastSeen: f.wall(), Patience: 90 * time.Minute}) // it polls every half hour
		for range 3 {
			f.Lookup("slow").Touch(f.wall(), netip.Addr{}, EndpointLog)
			f.run(30 * time.Minute)
		}
		want(t, f.gone(), "auto ci lab old")
		f.run(day)
		want(t, f.gone(), "recent slow")
		f.run(5 * day)
		want(t, f.gone(), "")
		if f.Lookup("old") != nil || f.Authenticate("key of old") != nil || f.Lookup("live") == nil {
			t.Error("the registry does not know who is gone")
		}
	})
}

// TestReaper_start: after a start everybody has time to be heard of.
func TestReaper_start(t *testing.T) {
	t.Parallel()
	reap(t, ReaperOptions{TTL: 2 * time.Hour, TagTTL: map[string]time.Duration{"auto": 10 * time.Minute}}, func(t *testing.T, f *fleet) {
		f.add(t, "a", year)
		f.add(t, "b", year, "auto")
		f.run(10*time.Minute - sweepEvery)
		want(t, f.gone(), "")
		f.run(2 * sweepEvery)
		want(t, f.gone(), "b")
		f.run(50*time.Minute - 3*sweepEvery)
		want(t, f.gone(), "")
		f.run(4 * sweepEvery)
		want(t, f.gone(), "a")
	})
}

// TestReaper_jumps: the wall clock jumps and goes back. Who lives stays, who is
// silent is removed when it was silent for its TTL by an even clock, and not
// before.
func TestReaper_jumps(t *testing.T) {
	t.Parallel()
	for _, by := range []time.Duration{-year, -time.Hour, -time.Minute, time.Minute, time.Hour, year} {
		t.Run(by.String(), func(t *testing.T) {
			t.Parallel()
			reap(t, ReaperOptions{TTL: 10 * time.Hour}, func(t *testing.T, f *fleet) {
				for _, id := range []string{"before", "between", "after"} {
					f.add(t, id, 0)
				}
				f.run(time.Minute)
				visit := func(id string) { f.Lookup(id).Touch(f.wall(), netip.Addr{}, EndpointLog) }
				visit("before")
				f.run(2 * time.Hour)
				f.jump(by)
				f.run(2 * time.Hour)
				visit("between")
				f.run(2 * time.Hour)
				want(t, f.gone(), "")
				f.jump(-by)
				visit("after")
				f.run(4*time.Hour - time.Minute)
				want(t, f.gone(), "")
				f.run(2 * time.Minute)
				want(t, f.gone(), "before")
				f.run(4 * time.Hour)
				want(t, f.gone(), "between")
				f.run(2 * time.Hour)
				want(t, f.gone(), "after")
				f.run(3 * day)
				want(t, f.gone(), "")
			})
		})
	}
}

// TestReaper_loaded: the silence of a node that was not heard of since the start
// is known by the wall clock alone. It was wrong then, or is wrong later: the
// shorter silence counts.
func TestReaper_loaded(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ silent, by, gone time.Duration }{
		{2 * time.Hour, time.Minute, 8 * time.Hour},
		{2 * time.Hour, year, 8 * time.Hour},
		{2 * time.Hour, -time.Hour, 9 * time.Hour},
		{2 * time.Hour, -year, 11 * time.Hour}, // as if it was heard of just then
		{year, -year + time.Hour, 9 * time.Hour},
		{-year, year + time.Hour, 10 * time.Hour},
	} {
		reap(t, ReaperOptions{TTL: 10 * time.Hour}, func(t *testing.T, f *fleet) {
			f.add(t, "a", tt.silent)
			f.run(time.Hour - time.Minute)
			f.jump(tt.by)
			f.run(tt.gone - time.Hour)
			if gone := f.gone(); gone != "" {
				t.Errorf("%+v: removed too early", tt)
			}
			f.run(2 * time.Minute)
			if gone := f.gone(); gone != "a" {
				t.Errorf("%+v: removed %q", tt, gone)
			}
		})
	}
}

// TestReaper_jumpHold: after a jump too, everybody has time to be heard of.
func TestReaper_jumpHold(t *testing.T) {
	t.Parallel()
	for _, by := range []time.Duration{-time.Minute, time.Minute} {
		reap(t, ReaperOptions{TTL: 10 * time.Hour}, func(t *testing.T, f *fleet) {
			f.add(t, "a", 9*time.Hour-10*time.Second)
			f.run(time.Hour - time.Minute)
			f.jump(by)
			f.run(time.Hour - time.Minute)
			want(t, f.gone(), "")
			f.run(2 * time.Minute)
			want(t, f.gone(), "a")
		})
	}
}

// TestReaper_deaf: while nobody is heard of, it is the server that does not
// hear.
func TestReaper_deaf(t *testing.T) {
	t.Parallel()
	reap(t, ReaperOptions{TTL: 3 * time.Hour}, func(t *testing.T, f *fleet) {
		f.living["other"] = true
		f.add(t, "other", 0)
		f.add(t, "silent", 0)
		f.run(2 * time.Hour)
		f.living = nil
		f.run(5 * day)
		want(t, f.gone(), "")
		f.living = map[string]bool{"live": true} // the first that is heard of again
		f.run(50 * time.Minute)
		want(t, f.gone(), "") // the two others had no time yet
		f.run(20 * time.Minute)
		want(t, f.gone(), "silent")
		f.run(105 * time.Minute)
		want(t, f.gone(), "")
		f.run(10 * time.Minute)
		want(t, f.gone(), "other")
	})
}

// TestReaper_many: at most so many at once, each recorded before.
func TestReaper_many(t *testing.T) {
	t.Parallel()
	reap(t, ReaperOptions{TTL: time.Hour}, func(t *testing.T, f *fleet) {
		const nodes = 2*sweepMax + 1
		for i := range nodes {
			f.add(t, fmt.Sprintf("n%03d", i), 2*day-time.Duration(i)*time.Second)
		}
		f.run(time.Hour + sweepEvery/2)
		f.auditErr = errors.New("the log is full")
		f.run(time.Hour)
		f.gone()
		f.recorded = nil
		f.auditErr, f.err = nil, errStore
		f.run(sweepEvery)
		if len(f.recorded) != 1 || len(f.expired) != 0 {
			t.Errorf("a failing store: %d entries, %v", len(f.recorded), f.expired)
		}
		f.recorded, f.err, f.back = nil, nil, "n101"
		f.run(time.Minute)
		if len(f.recorded) != 2 || !strings.HasPrefix(f.recorded[0], "n100 n101 n102 ") || !strings.HasSuffix(f.recorded[0], " n199") || f.recorded[1] != "n200" {
			t.Errorf("recorded %q", f.recorded)
		}
		if gone := f.gone(); strings.Contains(gone, "n101") || strings.Count(gone, "n") != sweepMax {
			t.Errorf("removed %s", gone)
		}
	})
}

func TestReaper_off(t *testing.T) {
	t.Parallel()
	reap(t, ReaperOptions{}, func(t *testing.T, f *fleet) {
		f.add(t, "old", year)
		f.run(day)
		want(t, f.gone(), "")
	})
}
