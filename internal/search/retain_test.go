package search

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/musterhq/muster/internal/event"
)

const year = 365 * 24 * time.Hour

// retention is an engine under clocks that the test sets, and what it warned of.
type retention struct {
	*Engine
	t       *testing.T
	options Options
	wall    time.Time
	elapsed time.Duration
	log     bytes.Buffer
	seq     uint64
}

// newRetention begins at day0 with an empty engine that keeps events for days.
func newRetention(t *testing.T, days int) *retention {
	t.Helper()
	r := &retention{t: t, wall: day0}
	r.options = Options{
		Dir: t.TempDir(), Retention: time.Duration(days) * 24 * time.Hour, Now: func() time.Time { return r.wall },
		Log: slog.New(slog.NewTextHandler(&r.log, &slog.HandlerOptions{Level: slog.LevelWarn})),
	}
	r.start()
	return r
}

func (r *retention) start() {
	r.t.Helper()
	r.Engine = open(r.t, r.options)
	r.elapsed = 0
	r.steady = func() time.Duration { return r.elapsed }
}

// restart starts again after the wall clock went on, by the time that the server
// was off or by a jump meanwhile.
func (r *retention) restart(off time.Duration) {
	r.t.Helper()
	if err := r.Close(); err != nil {
		r.t.Fatal(err)
	}
	r.wall = r.wall.Add(off)
	r.start()
}

// receive keeps an event that arrives now.
func (r *retention) receive() {
	r.t.Helper()
	r.seq++
	add(r.t, r.Engine, r.seq, event.Batch{Received: r.wall, Events: []event.Event{{Time: r.wall, Query: "q", Columns: json.RawMessage(`{}`)}}})
	flush(r.t, r.Engine)
}

// pass is time that passes on both clocks.
func (r *retention) pass(d time.Duration) { r.wall, r.elapsed = r.wall.Add(d), r.elapsed+d }

// jump is the wall clock's alone.
func (r *retention) jump(d time.Duration) { r.wall = r.wall.Add(d) }

// check expects a number of events after those that expired are dropped.
func (r *retention) check(want int) {
	r.t.Helper()
	if err := r.retain(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
	if got := len(search(r.t, r.Engine, event.Filter{})); got != want || r.Stats().Events != int64(want) {
		r.t.Errorf("at %s: found %d, %+v, want %d", r.wall, got, r.Stats(), want)
	}
}

func (r *retention) checkWarned(want int) {
	r.t.Helper()
	if got := strings.Count(r.log.String(), "level=WARN"); got != want {
		r.t.Errorf("warned %d times, want %d: %s", got, want, r.log.String())
	}
}

// fill receives an event on each of four days, from the 20th to the 23rd.
func (r *retention) fill() {
	r.t.Helper()
	for i := range 4 {
		if i > 0 {
			r.pass(24 * time.Hour)
		}
		r.receive()
	}
}

func TestRetain(t *testing.T) {
	t.Parallel()
	r := newRetention(t, 3)
	r.fill()
	r.pass(12*time.Hour - time.Second) // the last moment of the first day's last day
	r.check(4)
	r.pass(time.Second)
	r.check(3)
	r.pass(20 * 24 * time.Hour)
	r.check(0)
	days, err := filepath.Glob(filepath.Join(r.options.Dir, "2*"))
	if err != nil || len(days) != 0 {
		t.Errorf("left %v, %v", days, err)
	}
	if r.Position() != 4 {
		t.Errorf("position %d", r.Position())
	}
	r.checkWarned(0)
}

func TestRetain_clockJumps(t *testing.T) {
	t.Parallel()
	type step struct {
		jump, pass time.Duration
		want       int
	}
	const day = 24 * time.Hour
	for name, c := range map[string]struct {
		steps []step
		warns int
	}{
		// After the fill it is noon of the 23rd; the 20th expires after 7.5 days.
		"not at all":             {[]step{{pass: 7 * day, want: 4}, {pass: day / 2, want: 3}, {pass: day, want: 2}}, 0},
		"ahead":                  {[]step{{jump: year, want: 4}, {pass: day - time.Second, want: 4}, {pass: time.Second, want: 0}}, 1},
		"ahead and back":         {[]step{{jump: year, want: 4}, {pass: time.Hour, want: 4}, {jump: -year, want: 4}, {pass: 2 * day, want: 4}, {pass: 6 * day, want: 3}}, 2},
		"back and ahead":         {[]step{{jump: -year, want: 4}, {pass: time.Hour, want: 4}, {jump: year, want: 4}, {pass: 2 * day, want: 4}, {pass: 6 * day, want: 3}}, 2},
		"back":                   {[]step{{jump: -year, want: 4}, {pass: 30 * day, want: 4}}, 1},
		"ahead, a day expires":   {[]step{{pass: 7 * day, want: 4}, {jump: year, want: 4}, {pass: day / 2, want: 3}, {pass: day / 2, want: 0}}, 1},
		"ahead again":            {[]step{{jump: year, want: 4}, {pass: day / 2, want: 4}, {jump: -year, want: 4}, {jump: year, want: 4}, {pass: day - time.Second, want: 4}, {pass: time.Second, want: 0}}, 3},
		"asleep every night":     {append(slices.Repeat([]step{{jump: day / 3, pass: 2 * day / 3, want: 4}}, 8), step{jump: day / 3, pass: 2 * day / 3, want: 3}), 9},
		"long between two looks": {[]step{{jump: year, pass: 3 * day, want: 4}, {pass: day, want: 0}}, 1},
		"drift":                  {[]step{{pass: 7*day + 11*time.Hour, want: 4}, {jump: 59 * time.Minute, want: 4}, {jump: time.Minute, want: 3}}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRetention(t, 10)
			r.fill()
			for _, s := range c.steps {
				r.jump(s.jump)
				r.pass(s.pass)
				r.check(s.want)
			}
			r.checkWarned(c.warns)
		})
	}
}

func TestRetain_restart(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	for name, c := range map[string]struct {
		run   func(r *retention)
		warns int
	}{
		"short off": {func(r *retention) {
			r.pass(6 * day)
			r.receive()
			r.restart(clockPause)
			r.check(4)
		}, 0},
		"long off": {func(r *retention) {
			r.restart(year)
			r.check(4)
			r.receive()
			r.pass(day - time.Second)
			r.check(5)
			r.pass(time.Second)
			r.check(1)
		}, 1},
		"wrong clock, put right": {func(r *retention) {
			r.restart(year)
			r.check(4)
			r.jump(-year)
			r.pass(2 * day)
			r.check(4)
		}, 2},
		"clock was behind": {func(r *retention) {
			r.restart(-year)
			r.check(4)
			r.jump(year)
			r.pass(2 * day)
			r.check(4)
		}, 1},
		"lower retention": {func(r *retention) {
			r.options.Retention = day
			r.restart(0)
			r.check(2)
		}, 0},
		"a doubt goes on": {func(r *retention) {
			r.jump(year)
			r.receive() // with a stamp that the next start finds believable
			r.pass(20 * time.Hour)
			r.receive()
			r.restart(0)
			r.check(6)
			r.pass(4*time.Hour - time.Second)
			r.check(6)
			r.pass(time.Second)
			r.check(2)
			r.receive()
			r.restart(0)
			r.check(3)
		}, 2},
		"a doubt was right": {func(r *retention) {
			r.jump(year)
			r.receive()
			r.restart(-year)
			r.check(5)
			r.pass(8 * day)
			r.check(4)
		}, 1},
		"stamps of a clock that was ahead": {func(r *retention) {
			r.jump(year)
			r.receive()
			r.jump(-year)
			r.receive()
			r.restart(year)
			r.check(6)
		}, 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRetention(t, 10)
			r.fill()
			c.run(r)
			r.checkWarned(c.warns)
		})
	}
}

// TestRun_clockJumps has Run see the jump, with nothing else to do.
func TestRun_clockJumps(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		var ahead atomic.Int64
		var logged bytes.Buffer
		e := open(t, Options{
			Dir: dir, Retention: 10 * 24 * time.Hour, Now: func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) },
			Log: slog.New(slog.NewTextHandler(&logged, nil)),
		})
		add(t, e, 1, event.Batch{Received: time.Now(), Events: []event.Event{{Time: time.Now(), Query: "q", Columns: json.RawMessage(`{}`)}}})
		flush(t, e)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- e.Run(ctx) }()
		<-time.After(time.Hour)
		ahead.Store(int64(year))
		for _, c := range []struct {
			after time.Duration
			want  int64
		}{{23 * time.Hour, 1}, {59 * time.Minute, 1}, {2 * time.Minute, 0}} {
			<-time.After(c.after)
			synctest.Wait()
			if s := e.Stats(); s.Events != c.want {
				t.Errorf("after %s: %+v, want %d", c.after, s, c.want)
			}
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if n := strings.Count(logged.String(), "level=WARN"); n != 1 {
			t.Errorf("warned %d times: %s", n, logged.String())
		}
	})
}
