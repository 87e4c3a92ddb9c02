package event_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/musterhq/muster/internal/event"
)

// server stores what one node sends, as the log endpoint does.
type server struct {
	seen    *event.Seen
	stream  []event.Batch
	split   int  // events per batch; 0 is no limit
	failing bool // the stream takes nothing
	after   int  // failing begins after that many batches, if not 0
}

// lines makes events, a line each; x+ is x and a further row of its line.
func lines(text string) (events []event.Event) {
	for word := range strings.FieldsSeq(text) {
		name, _ := strings.CutSuffix(word, "+")
		var line uint64
		for _, c := range name {
			line = line*256 + uint64(c)
		}
		e := event.Event{Query: name, Line: line}
		events = append(events, e)
		if name != word {
			e.Continues = true
			events = append(events, e)
		}
	}
	return events
}

func (s *server) send(t *testing.T, text string) (acked bool) {
	t.Helper()
	g, err := s.seen.Begin(t.Context(), "n", "result")
	if err != nil {
		t.Fatal(err)
	}
	defer g.End()
	fresh, repeated := g.Fresh(lines(text))
	joins := repeated > 0
	for len(fresh) > 0 {
		n := len(fresh)
		if s.split > 0 {
			n = min(n, s.split)
		}
		if s.failing || s.after > 0 && len(s.stream) >= s.after {
			return false
		}
		b := event.Batch{NodeID: "n", LogType: "result", Joins: joins, Events: slices.Clone(fresh[:n])}
		s.stream = append(s.stream, b)
		g.Stored(b.Events, joins)
		fresh, joins = fresh[n:], true
	}
	return true
}

// restart forgets all but what is in the stream.
func (s *server) restart() {
	s.seen = event.NewSeen()
	for i := range s.stream {
		s.seen.Replay(&s.stream[i])
	}
}

func (s *server) stored() string {
	var names []string
	for _, b := range s.stream {
		for _, e := range b.Events {
			names = append(names, e.Query)
		}
	}
	return strings.Join(names, " ")
}

func TestSeen(t *testing.T) {
	t.Parallel()
	type step struct {
		send           string
		restart        bool
		fail, work     bool
		split, failing int
		refused        bool
	}
	tests := []struct {
		name  string
		steps []step
		want  string
	}{
		{"new lines", []step{{send: "a b"}, {send: "c d"}}, "a b c d"},
		{"the answer is lost", []step{{send: "a b"}, {send: "a b"}, {send: "a b"}, {send: "c"}}, "a b c"},
		{"again, with newer lines", []step{{send: "a b"}, {send: "a b c"}, {send: "a b c d"}, {send: "e"}}, "a b c d e"},
		{"the oldest were purged meanwhile", []step{{send: "a b"}, {send: "b c"}, {send: "c d"}}, "a b c d"},
		{"older lines come between", []step{{send: "a c"}, {send: "a b c d"}, {send: "a b c d"}}, "a c b d"},
		{"acknowledged lines are forgotten", []step{{send: "a"}, {send: "b"}, {send: "a"}}, "a b a"},
		{"identical lines of one request", []step{{send: "a a"}, {send: "a a"}, {send: "a a a"}}, "a a a"},
		{"the same line again, repeated with a new request", []step{{send: "a"}, {send: "b"}, {send: "b a"}}, "a b a"},
		{"lines of many rows", []step{{send: "a+ b+"}, {send: "a+ b+ c+"}}, "a a b b c c"},
		{"crash after it was stored", []step{{send: "a b"}, {restart: true}, {send: "a b c"}, {restart: true}, {send: "a b c d"}}, "a b c d"},
		{"crash, then new lines", []step{{send: "a"}, {restart: true}, {send: "b"}, {restart: true}, {send: "a"}}, "a b a"},
		{"a failed append stores nothing", []step{{fail: true, send: "a b", refused: true}, {work: true, send: "a b"}, {send: "c"}}, "a b c"},
		{"failed after a repeat", []step{{send: "a"}, {fail: true, send: "a b", refused: true}, {work: true, send: "a b c"}}, "a b c"},
		{"nothing new while the stream fails", []step{{send: "a"}, {fail: true, send: "a"}}, "a"},
		{"split batches", []step{{split: 2, send: "a b c d e"}, {send: "a b c d e f"}}, "a b c d e f"},
		{"split batches, restart", []step{{split: 2, send: "a b c d e"}, {restart: true}, {send: "a b c d e f"}}, "a b c d e f"},
		{"fails in the middle of split batches", []step{
			{split: 2, failing: 1, send: "a b c d", refused: true},
			{failing: 2, send: "a b c d e", refused: true},
			{work: true, send: "a b c d e f"},
		}, "a b c d e f"},
		{"the same, with crashes", []step{
			{split: 2, failing: 1, send: "a b c d", refused: true},
			{restart: true},
			{failing: 2, send: "a b c d e", refused: true},
			{restart: true},
			{work: true, send: "a b c d e f"},
		}, "a b c d e f"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := &server{seen: event.NewSeen()}
			for i, step := range tt.steps {
				if step.restart {
					s.restart()
					continue
				}
				if step.work {
					s.failing, s.after = false, 0
				}
				s.failing = s.failing || step.fail
				if step.failing > 0 {
					s.after = step.failing
				}
				if step.split > 0 {
					s.split = step.split
				}
				if acked := s.send(t, step.send); acked == step.refused {
					t.Errorf("step %d: acked %v", i, acked)
				}
			}
			if got := s.stored(); got != tt.want {
				t.Errorf("stored %q, want %q", got, tt.want)
			}
		})
	}
}

func TestSeen_separate(t *testing.T) {
	t.Parallel()
	seen := event.NewSeen()
	store := func(node, logType string) int {
		g, err := seen.Begin(t.Context(), node, logType)
		if err != nil {
			t.Fatal(err)
		}
		defer g.End()
		fresh, repeated := g.Fresh(lines("a"))
		g.Stored(fresh, repeated > 0)
		return repeated
	}
	for _, who := range [][2]string{{"n", "result"}, {"n", "status"}, {"m", "result"}} {
		if store(who[0], who[1]) != 0 {
			t.Errorf("%v repeats another's line", who)
		}
		if store(who[0], who[1]) != 1 {
			t.Errorf("%v is not known", who)
		}
	}
	seen.Forget("n")
	if store("n", "result") != 0 || store("n", "status") != 0 || store("m", "result") != 1 {
		t.Error("Forget does not forget the node, and it alone")
	}
}

// TestSeen_bounded: a node that repeats a line in each request must not fill
// the memory, and its last lines stay known.
func TestSeen_bounded(t *testing.T) {
	t.Parallel()
	seen := event.NewSeen()
	for i := range uint64(300) {
		g, err := seen.Begin(t.Context(), "n", "result")
		if err != nil {
			t.Fatal(err)
		}
		events := make([]event.Event, 1000)
		for j := range events {
			events[j].Line = i*1000 + uint64(j)
		}
		g.Stored(events, i > 0)
		g.End()
	}
	g, err := seen.Begin(t.Context(), "n", "result")
	if err != nil {
		t.Fatal(err)
	}
	all := make([]event.Event, 300_000)
	for i := range all {
		all[i].Line = uint64(i)
	}
	last := slices.Clone(all[299_000:])
	if fresh, repeated := g.Fresh(all); repeated > 64<<10 || len(fresh)+repeated != 300_000 {
		t.Errorf("%d lines are remembered", repeated)
	}
	if _, repeated := g.Fresh(last); repeated != 1000 {
		t.Errorf("%d of the last 1000 lines are known", repeated)
	}
}

// TestSeen_concurrent: the second of two equal requests waits for the first,
// and for its failure, too.
func TestSeen_concurrent(t *testing.T) {
	t.Parallel()
	for _, fails := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			seen := event.NewSeen()
			first, err := seen.Begin(t.Context(), "n", "result")
			if err != nil {
				t.Fatal(err)
			}
			repeated := make(chan int, 1)
			go func() {
				second, err := seen.Begin(t.Context(), "n", "result")
				if err != nil {
					t.Error(err)
					return
				}
				defer second.End()
				_, n := second.Fresh(lines("a b"))
				repeated <- n
			}()
			ctx, cancel := context.WithCancel(t.Context())
			gaveUp := make(chan error, 1)
			go func() {
				_, err := seen.Begin(ctx, "n", "result")
				gaveUp <- err
			}()
			synctest.Wait()
			if len(repeated) != 0 || len(gaveUp) != 0 {
				t.Fatal("a second request did not wait")
			}
			cancel()
			if err := <-gaveUp; !errors.Is(err, context.Canceled) {
				t.Errorf("after cancel: %v", err)
			}
			fresh, _ := first.Fresh(lines("a b"))
			want := 0
			if !fails {
				first.Stored(fresh, false)
				want = 2
			}
			first.End()
			if n := <-repeated; n != want {
				t.Errorf("the second repeats %d lines, want %d", n, want)
			}
		})
	}
}
