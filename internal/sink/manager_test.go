package sink_test

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"

	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/event"
	"github.com/musterhq/muster/internal/sink"
	"github.com/musterhq/muster/internal/stream"
)

// hook is a server that takes batches.
type hook struct {
	taken

	*httptest.Server

	// refuse says what is answered to lines instead of taking them; 0 takes them.
	refuse atomic.Value // func([]string) int
	asked  atomic.Int64
}

func newHook(tb testing.TB) *hook {
	tb.Helper()
	h := &hook{}
	h.answer(func([]string) int { return 0 })
	h.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		lines := linesOf(tb, r)
		h.asked.Add(1)
		if status := h.refuse.Load().(func([]string) int)(lines); status != 0 {
			w.WriteHeader(status)
			return
		}
		h.add(lines...)
	}))
	tb.Cleanup(h.Close)
	return h
}

func (h *hook) answer(f func([]string) int) { h.refuse.Store(f) }

func linesOf(tb testing.TB, r *http.Request) []string {
	tb.Helper()
	body := r.Body
	if r.Header.Get("Content-Encoding") == "gzip" {
		z, err := gzip.NewReader(body)
		if err != nil {
			tb.Error(err)
			return nil
		}
		body = z
	}
	b, err := io.ReadAll(body)
	if err != nil {
		tb.Error(err)
	}
	return strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
}

func (h *hook) spec(name string, more ...string) string {
	return name + " {" + strings.Join(append(more, fast, "http: {url: '"+h.URL+"'}"), ", ") + "}"
}

// TestManager: a sink gets what comes from its making on, in order, across restarts;
// one that is down holds up nobody, and gets all when it is back.
func TestManager(t *testing.T) {
	t.Parallel()
	good, bad := newHook(t), newHook(t)
	bad.answer(func([]string) int { return http.StatusServiceUnavailable })
	w := newWorld(t, bad.spec("bad"), good.spec("good"))
	w.log("before", "a")
	w.run()
	ids := w.log("q", numbers(1, 10)...)
	ids = append(ids, w.log("q", "11", "12")...)
	w.got(&good.taken, ids)
	w.until("the bad one fails", func() bool { s := w.show("bad"); return s.Condition == sink.Failing && s.Backlog.Messages == 2 })
	if s := w.show("bad"); !strings.Contains(s.Error, "503") || s.Sent != 0 || s.Backlog.Bytes == 0 || time.Since(s.Backlog.Oldest) > time.Minute {
		t.Errorf("%+v", s)
	}
	w.until("the good one is done", func() bool { s := w.show("good"); return s.Sent == 12 && s.Backlog.Messages == 0 })

	w.stop()
	ids = append(ids, w.log("q", "13")...)
	bad.answer(func([]string) int { return 0 })
	w.run()
	w.got(&good.taken, ids)
	w.got(&bad.taken, ids)

	w.plans = planOf(t, bad.spec("bad", "queries: [other]"), good.spec("new")) // a change keeps its position, the good one is gone
	w.manager.Changed()
	w.until("the other sinks run", func() bool { l := w.list(); return len(l) == 2 && l[1].Name == "new" })
	if _, err := w.manager.Show(t.Context(), "good"); !errs.Is(err, errs.NotFound) {
		t.Errorf("a sink that is gone: %v", err)
	}
	w.until("what was sent is kept", func() bool {
		kept, err := w.store.Sinks(t.Context())
		return err == nil && len(kept) == 2 && kept[0].Name == "bad" && kept[0].Sent == 13
	})
	w.log("q", "14")
	last := w.log("other", "15")
	w.got(&bad.taken, append(slices.Clone(ids), last...))
	w.until("the position moved", func() bool { return w.show("bad").Backlog.Messages == 0 })
}

// TestManager_crash: what was not noted before a crash is sent again, and nothing is
// left out.
func TestManager_crash(t *testing.T) {
	t.Parallel()
	h := newHook(t)
	w := newWorld(t, h.spec("s"))
	w.run()
	ids := w.log("q", "1")
	w.got(&h.taken, ids)
	kept, err := w.store.Sinks(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ids = append(ids, w.log("q", "2")...)
	w.got(&h.taken, ids)
	w.stop()
	if err := w.store.SaveSinks(t.Context(), kept); err != nil { // as if the server had been killed before it noted more
		t.Fatal(err)
	}
	ids = append(ids, w.log("q", "3")...)
	w.run()
	w.until("the last is there", func() bool { return slices.Contains(h.ids(), ids[2]) })
	got := h.ids()
	slices.Sort(got)
	if got = slices.Compact(got); !slices.Equal(got, ids) {
		t.Errorf("got %v, want %v", got, ids)
	}
}

func TestManager_pause(t *testing.T) {
	t.Parallel()
	h := newHook(t)
	w := newWorld(t, h.spec("s"))
	w.run()
	if err := w.manager.Pause(t.Context(), "s", "ann"); err != nil {
		t.Fatal(err)
	}
	ids := w.log("q", "1")
	w.stop()
	w.run() // paused it stays
	if s := w.show("s"); s.Condition != sink.Paused || s.PausedBy != "ann" || s.Backlog.Messages != 1 {
		t.Errorf("%+v", s)
	}
	if err := w.manager.Test(t.Context(), "s"); err != nil { // for who repairs it
		t.Error(err)
	}
	if err := w.manager.Resume(t.Context(), "s"); err != nil {
		t.Fatal(err)
	}
	w.until("both are there", func() bool { return len(h.all()) == 2 })
	if lines := h.all(); !strings.Contains(lines[0], sink.TestQuery) || idsIn(lines[1:])[0] != ids[0] {
		t.Errorf("got %v", lines)
	}
	for _, err := range []error{w.manager.Pause(t.Context(), "x", ""), w.manager.Resume(t.Context(), "x"), w.manager.Test(t.Context(), "x"), w.manager.Retry(t.Context(), "x")} {
		if !errs.Is(err, errs.NotFound) {
			t.Errorf("a sink that is not there: %v", err)
		}
	}
}

// TestManager_deadLetters: the one that is refused is found among the others, kept
// across a restart, and sent again when somebody says so.
func TestManager_deadLetters(t *testing.T) {
	t.Parallel()
	h := newHook(t)
	poison := func(lines []string) int {
		if strings.Contains(strings.Join(lines, ""), `"n":"7"`) {
			return http.StatusBadRequest
		}
		return 0
	}
	h.answer(poison)
	w := newWorld(t, h.spec("s", "format: osquery"))
	w.run()
	ids := w.log("q", numbers(1, 20)...)
	others := slices.Delete(slices.Clone(ids), 6, 7)
	w.got(&h.taken, others)
	w.until("there is a dead letter, and all else is done", func() bool { s := w.show("s"); return s.Letters == 1 && s.Backlog.Messages == 0 })
	w.stop()
	w.run()
	list, err := w.manager.Dead(t.Context(), "s", 10)
	if err != nil || len(list) != 1 || !strings.Contains(list[0].Reason, "400") || !strings.Contains(string(list[0].Event), `"id":"`+ids[6]+`"`) {
		t.Fatalf("dead letters %+v, %v", list, err)
	}
	if err := w.manager.Retry(t.Context(), "s"); err != nil { // it is refused again
		t.Fatal(err)
	}
	w.until("it is dead again", func() bool { return w.show("s").Letters == 1 })
	h.answer(func([]string) int { return 0 })
	if err := w.manager.Retry(t.Context(), "s"); err != nil {
		t.Fatal(err)
	}
	w.until("what was dead is taken", func() bool { return slices.Contains(h.ids(), ids[6]) })
	w.until("no letter is left", func() bool { return w.show("s").Letters == 0 })
	if s := w.show("s"); s.Letters != 0 || s.Bytes != 0 {
		t.Errorf("%+v", s)
	}
	h.answer(poison)
	w.log("q", "7")
	w.until("there is another", func() bool { return w.show("s").Letters == 1 })
	if n, err := w.manager.Discard(t.Context(), "s"); n != 1 || err != nil || w.show("s").Letters != 0 {
		t.Errorf("%d discarded, %v", n, err)
	}
}

// TestManager_deadFull: when there is no room for another, the sink stands still
// instead of throwing events away.
func TestManager_deadFull(t *testing.T) {
	t.Parallel()
	h := newHook(t)
	h.answer(func([]string) int { return http.StatusBadRequest })
	w := newWorld(t, h.spec("s"))
	const letters = 55
	dir := filepath.Join(w.dir, "sinks", "s")
	letter := `{"at":"2026-01-01T00:00:00Z","reason":"r","event":{"id":"1-1","columns":{"a":"` + strings.Repeat("x", 1<<10) + `"}}}` + "\n"
	if err := errors.Join(os.MkdirAll(dir, 0o700), os.WriteFile(filepath.Join(dir, "dead.ndjson"), []byte(strings.Repeat(letter, letters)+"torn"), 0o600)); err != nil {
		t.Fatal(err)
	}
	w.run()
	if s := w.show("s"); s.Letters != letters {
		t.Errorf("%d letters", s.Letters)
	}
	w.log("q", strings.Repeat("y", 10<<10))
	w.until("the sink stands still", func() bool { return strings.Contains(w.show("s").Error, "dead letters are full") })
	if n, err := w.manager.Discard(t.Context(), "s"); n != letters || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	w.until("it goes on", func() bool { s := w.show("s"); return s.Letters == 1 && s.Backlog.Messages == 0 })
}

// TestManager_replay: a span of time is sent once more, also what the stream has no
// more; what comes meanwhile is sent once.
func TestManager_replay(t *testing.T) {
	t.Parallel()
	h := newHook(t)
	w := newWorld(t, h.spec("s", "queries: [q*]"))
	began := time.Now().Add(-time.Hour)
	add := func(n int, at time.Time, query string) []string {
		b := event.Batch{NodeID: "node-1", HostIdentifier: "host-1", Received: time.Now(), LogType: "result"}
		for range n {
			b.Events = append(b.Events, event.Event{Time: at, Query: query, Action: event.Added, Columns: []byte(`{}`)})
		}
		return w.append(b)
	}
	many := add(4500, began, "q1") // of one moment, more than two pages
	add(10, began, "other")
	early := add(1, began.Add(-time.Minute), "q0")
	late := add(3, began.Add(time.Minute), "q2")
	if err := w.stream.Trim(t.Context(), w.stream.Appended(stream.Events)); err != nil {
		t.Fatal(err)
	}
	w.run()
	if err := w.manager.Replay(t.Context(), "s", began, time.Time{}, "ann"); err != nil {
		t.Fatal(err)
	}
	now := add(1, time.Now(), "q3")
	want := slices.Concat(many, late, now)
	w.until("all are there", func() bool { return len(h.all()) >= len(want) && w.show("s").Replay == nil })
	got := h.ids()
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) || slices.Contains(got, early[0]) {
		t.Errorf("got %d events, want %d", len(got), len(want))
	}
	if err := w.manager.Replay(t.Context(), "s", time.Now(), began, "ann"); !errs.Is(err, errs.Invalid) {
		t.Errorf("from the end to the beginning: %v", err)
	}
}

// TestManager_replayKept: a replay goes on after a restart, and another takes its
// place.
func TestManager_replayKept(t *testing.T) {
	t.Parallel()
	h := newHook(t)
	h.answer(func([]string) int { return http.StatusBadGateway })
	w := newWorld(t, h.spec("s"))
	ids := w.log("q", "1", "2")
	w.run()
	began := time.Now()
	for range 2 {
		if err := w.manager.Replay(t.Context(), "s", began.Add(-time.Minute), began, "ann"); err != nil {
			t.Fatal(err)
		}
	}
	w.until("it fails", func() bool { return w.show("s").Condition == sink.Failing })
	w.stop()
	h.answer(func([]string) int { return 0 })
	w.run()
	w.got(&h.taken, ids)
	w.until("it is over", func() bool { return w.show("s").Replay == nil })
	if err := w.manager.Replay(t.Context(), "s", began.Add(-time.Minute), began, "ann"); err != nil {
		t.Fatal(err)
	}
	if err := w.manager.StopReplay(t.Context(), "s"); err != nil || w.show("s").Replay != nil {
		t.Errorf("it did not stop: %v", err)
	}
}

// TestManager_keep: what sinks need stays in the stream as long as there is room, and
// what is lost to them is counted.
func TestManager_keep(t *testing.T) {
	t.Parallel()
	h := newHook(t)
	h.answer(func([]string) int { return http.StatusServiceUnavailable })
	w := newWorld(t, h.spec("s"), h.spec("required", "required: true"))
	w.log("q", "0")
	w.run()
	for range 10 {
		w.log("q", "1")
	}
	keep := func(upTo uint64, f sink.Fill) uint64 {
		t.Helper()
		kept, err := w.manager.Keep(t.Context(), upTo, f)
		if err != nil {
			t.Fatal(err)
		}
		return kept
	}
	fill := func(percent uint64) sink.Fill { return sink.Fill{First: 1, Last: 21, Bytes: percent, Max: 100} }
	for _, tt := range []struct{ percent, want uint64 }{{0, 1}, {50, 1}, {60, 1}, {90, 1}, {95, 2}, {100, 2}} {
		if got := keep(11, fill(tt.percent)); got != tt.want {
			t.Errorf("%d %% full: trimmed up to %d, want %d", tt.percent, got, tt.want)
		}
	}
	if got := keep(0, fill(100)); got != 0 {
		t.Errorf("trimmed up to %d, which others need", got)
	}
	w.plans = planOf(t, h.spec("s"))
	w.manager.Changed()
	w.until("the other is gone", func() bool { return len(w.list()) == 1 })
	if got := keep(11, fill(75)); got != 7 { // a third of it is too much
		t.Errorf("trimmed up to %d", got)
	}
	if err := errors.Join(w.manager.Trimming(t.Context(), 4), w.stream.Trim(t.Context(), 4)); err != nil {
		t.Fatal(err)
	}
	if s := w.show("s"); s.Lost != 3 || s.Seq != 4 || s.Backlog.Messages != 7 {
		t.Errorf("%+v", s)
	}
	h.answer(func([]string) int { return 0 })
	w.until("the rest is there", func() bool { return slices.Contains(h.ids(), "11-0") })
	if err := w.stream.Append(t.Context(), stream.Answers, []byte("x")); err != nil {
		t.Fatal(err)
	}
	w.until("it is kept that the sink needs nothing", func() bool { return keep(12, fill(0)) == 12 })
}

func TestFilter(t *testing.T) {
	t.Parallel()
	h := newHook(t)
	var specs []string
	hooks := map[string]*hook{}
	want := map[string]string{
		"all":      "1 2 3 4 5 6",
		"name":     "1 2",
		"prefix":   "1 2 3",
		"action":   "3",
		"severity": "1 2 3 6",
		"where":    "2",
		"tag":      "1 2 3 4 5",
		"known":    "6",
		"other":    "",
	}
	for name, filter := range map[string]string{
		"all": "", "name": "queries: [pack_a]", "prefix": "queries: [none, pack_*]", "action": "actions: [removed]", "severity": "severity: error",
		"where": `where: "n = 2 and name prefix ss"`, "tag": "selector: tag = web", "known": "selector: tag = now and hostname = web-1", "other": "selector: tag = other",
	} {
		hooks[name] = newHook(t)
		if filter == "" {
			filter = "required: false"
		}
		specs = append(specs, hooks[name].spec(name, filter))
	}
	slices.Sort(specs)
	w := newWorld(t, append(specs, h.spec("z"))...)
	w.run()
	b := event.Batch{NodeID: "gone", HostIdentifier: "h", Received: time.Now(), Tags: []string{"web"}}
	for _, e := range [][3]string{
		{"pack_a", event.Added, `{"n":"1","name":"ssh"}`},
		{"pack_a", event.Added, `{"n":"2","name":"sshd"}`},
		{"pack_b", event.Removed, `{"n":"3"}`},
		{event.StatusQuery, event.Status, `{"n":"4","severity":"0"}`},
		{event.StatusQuery, event.Status, `{"n":"5","severity":"1"}`},
	} {
		b.Events = append(b.Events, event.Event{Time: b.Received, Query: e[0], Action: e[1], Columns: []byte(e[2])})
	}
	w.append(b)
	b.NodeID, b.Tags = "known", []string{"web"} // what it is now counts, not what it was
	b.Events = []event.Event{{Time: b.Received, Query: event.StatusQuery, Action: event.Status, Columns: []byte(`{"n":"6","severity":"2"}`)}}
	w.append(b)
	w.until("all are done", func() bool {
		return !slices.ContainsFunc(w.list(), func(s sink.Status) bool { return s.Backlog.Messages > 0 })
	})
	for name, h := range hooks {
		var got []string
		for _, l := range h.all() {
			_, n, _ := strings.Cut(l, `"n":"`)
			got = append(got, n[:1])
		}
		if s := strings.Join(got, " "); s != want[name] {
			t.Errorf("%s got %q, want %q", name, s, want[name])
		}
	}
}

// blocked is an output that nobody reads, until it is opened.
type blocked struct {
	open chan struct{}
	taken
}

func (b *blocked) Write(p []byte) (int, error) {
	<-b.open
	b.add(strings.Split(string(bytes.TrimSuffix(p, []byte("\n"))), "\n")...)
	return len(p), nil
}

// TestStdout: one that nobody reads holds up neither others nor the end.
func TestStdout(t *testing.T) {
	t.Parallel()
	h, out := newHook(t), &blocked{open: make(chan struct{})}
	w := newWorld(t, "out {stdout: {}, "+fast+"}", h.spec("s"))
	w.stdout = out
	w.run()
	ids := w.log("q", "1", "2")
	w.got(&h.taken, ids)
	w.stop()
	close(out.open)
	w.run()
	w.until("all is out", func() bool { return w.show("out").Backlog.Messages == 0 })
	if got := out.ids(); !slices.Contains(got, ids[0]) || !slices.Contains(got, ids[1]) {
		t.Errorf("got %v", got)
	}
}
