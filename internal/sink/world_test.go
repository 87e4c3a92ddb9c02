package sink_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/musterhq/muster/internal/credential"
	"github.com/musterhq/muster/internal/egress"
	"github.com/musterhq/muster/internal/event"
	"github.com/musterhq/muster/internal/node"
	"github.com/musterhq/muster/internal/resource"
	"github.com/musterhq/muster/internal/search"
	"github.com/musterhq/muster/internal/sink"
	"github.com/musterhq/muster/internal/store"
	"github.com/musterhq/muster/internal/store/storetest"
	"github.com/musterhq/muster/internal/stream"
)

// world is a stream, a state and a search, as the server has them, with a Manager.
type world struct {
	tb     testing.TB
	dir    string
	stream *stream.Stream
	store  *store.Store
	engine *search.Engine
	stdout io.Writer
	plans  []*resource.SinkPlan // what is served

	manager *sink.Manager
	stop    func() // ends it, as the server's end does
}

type onStream struct{ *stream.Stream }

func (s onStream) Read(ctx context.Context, after uint64, handle func(context.Context, uint64, [][]byte) error) error {
	return s.Follow(ctx, stream.Events, after, func(ctx context.Context, m stream.Message) error {
		return handle(ctx, m.Seq, m.Records)
	})
}

func (s onStream) Last(ctx context.Context) (uint64, error) { return s.Stream.Last(ctx, stream.Events) }

func (s onStream) Backlog(ctx context.Context, after uint64) (sink.Backlog, error) {
	b, err := s.Stream.Backlog(ctx, stream.Events, after)
	return sink.Backlog(b), err
}

type nobody struct{}

func (nobody) Lookup(id string) *node.Identity {
	if id == "known" {
		return &node.Identity{ID: id, Hostname: "web-1", Tags: []string{"now"}}
	}
	return nil
}

// secrets are the variables that sinks of the tests name.
func secrets(name string) (string, bool) {
	v, ok := map[string]string{"MUSTER_SECRET_KEY": "a-key", "MUSTER_SECRET_TOKEN": "a-token", "MUSTER_SECRET_ACCESS": accessKey, "MUSTER_SECRET_SECRET": secretKey}[name]
	if !ok {
		v, ok = os.LookupEnv(name)
	}
	return v, ok
}

func newWorld(tb testing.TB, plans ...string) *world {
	tb.Helper()
	w := &world{tb: tb, dir: tb.TempDir(), stdout: io.Discard}
	log := slog.New(slog.DiscardHandler)
	var err error
	if w.stream, err = stream.Open(tb.Context(), stream.Options{Dir: filepath.Join(w.dir, "stream"), Log: log}); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = w.stream.Close() })
	w.store = storetest.Open(tb, filepath.Join(w.dir, "state.db"))
	if w.engine, err = search.Open(search.Options{Dir: filepath.Join(w.dir, "events"), Log: log, Now: time.Now}); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = w.engine.Close() })
	w.plans = planOf(tb, plans...)
	return w
}

// planOf compiles sinks of YAML specs, each with its name before it.
func planOf(tb testing.TB, specs ...string) []*resource.SinkPlan {
	tb.Helper()
	var docs []string
	for _, s := range specs {
		name, spec, _ := strings.Cut(s, " ")
		docs = append(docs, "apiVersion: muster/v1\nkind: Sink\nname: "+name+"\nspec: "+spec+"\n")
	}
	objects, err := resource.Parse("test", []byte(strings.Join(docs, "---\n")))
	if err != nil {
		tb.Fatal(err)
	}
	set, err := resource.NewSet(objects)
	if err != nil {
		tb.Fatal(err)
	}
	snapshot, err := resource.Compile(1, set)
	if err != nil {
		tb.Fatal(err)
	}
	return snapshot.Sinks()
}

// run starts a Manager of what is served.
func (w *world) run() {
	w.tb.Helper()
	w.manager = sink.NewManager(sink.Options{
		Stream: onStream{w.stream}, Store: w.store, Search: w.engine, Nodes: nobody{},
		Plans:   func() []*resource.SinkPlan { return w.plans },
		Secrets: &credential.Reader{Dir: w.dir, Getenv: secrets},
		Egress:  &egress.Guard{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}},
		Dir:     filepath.Join(w.dir, "sinks"), FileDir: filepath.Join(w.dir, "files"), Stdout: w.stdout, MaxDead: maxDead,
		Log: slog.New(slog.NewTextHandler(w.tb.Output(), &slog.HandlerOptions{Level: slog.LevelError})), Now: time.Now,
	})
	if err := w.manager.Load(w.tb.Context()); err != nil {
		w.tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(w.tb.Context()))
	done := make(chan error, 1)
	go func() { done <- w.manager.Run(ctx) }()
	var once sync.Once
	w.stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				w.tb.Error(err)
			}
		})
	}
	w.tb.Cleanup(w.stop)
	w.until("the sinks run", func() bool { return len(w.list()) == len(w.plans) })
}

func (w *world) list() []sink.Status {
	w.tb.Helper()
	list, err := w.manager.List(w.tb.Context())
	if err != nil {
		w.tb.Fatal(err)
	}
	return list
}

func (w *world) show(name string) sink.Status {
	w.tb.Helper()
	s, err := w.manager.Show(w.tb.Context(), name)
	if err != nil {
		w.tb.Fatal(err)
	}
	return s
}

// until waits for a fact.
func (w *world) until(what string, is func() bool) {
	w.tb.Helper()
	t := time.NewTicker(2 * time.Millisecond)
	defer t.Stop()
	late := time.NewTimer(30 * time.Second)
	defer late.Stop()
	for !is() {
		select {
		case <-t.C:
		case <-late.C:
			w.tb.Fatalf("it never came that %s: %+v", what, w.list())
		}
	}
}

// log appends rows of a query, one message, and returns their ids. Each row is the
// value of the column n.
func (w *world) log(query string, rows ...string) (ids []string) {
	w.tb.Helper()
	b := event.Batch{NodeID: "node-1", HostIdentifier: "host-1", Received: time.Now(), Tags: []string{"web"}, LogType: "result"}
	for _, r := range rows {
		b.Events = append(b.Events, event.Event{Time: b.Received, Query: query, Action: event.Added, Columns: fmt.Appendf(nil, `{"n":%q}`, r)})
	}
	return w.append(b)
}

func (w *world) append(b event.Batch) (ids []string) {
	w.tb.Helper()
	w.put(b)
	seq := w.stream.Appended(stream.Events)
	if err := w.engine.Add(seq, []event.Batch{b}); err != nil {
		w.tb.Fatal(err)
	}
	for i := range b.Events {
		ids = append(ids, fmt.Sprintf("%d-%d", seq, i))
	}
	return ids
}

// put appends a batch to the stream alone.
func (w *world) put(b event.Batch) {
	w.tb.Helper()
	if err := w.stream.Append(w.tb.Context(), stream.Events, b.Append(nil)); err != nil {
		w.tb.Fatal(err)
	}
}

// numbers returns the texts of the numbers from a to b.
func numbers(a, b int) (list []string) {
	for i := a; i <= b; i++ {
		list = append(list, strconv.Itoa(i))
	}
	return list
}

// taken are the lines that a receiver got.
type taken struct {
	mu    sync.Mutex
	lines []string
}

func (t *taken) add(lines ...string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, l := range lines {
		if l != "" {
			t.lines = append(t.lines, l)
		}
	}
}

func (t *taken) all() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.lines)
}

// ids returns the ids in lines of Muster's format, in order.
func (t *taken) ids() []string { return idsIn(t.all()) }

func idsIn(lines []string) (ids []string) {
	for _, l := range lines {
		_, rest, _ := strings.Cut(l, `"id":"`)
		id, _, _ := strings.Cut(rest, `"`)
		ids = append(ids, id)
	}
	return ids
}

// got waits until a receiver has exactly some events, in order.
func (w *world) got(t *taken, ids []string) {
	w.tb.Helper()
	w.until(fmt.Sprintf("%d events are there", len(ids)), func() bool { return len(t.all()) >= len(ids) })
	if got := t.ids(); !slices.Equal(got, ids) {
		w.tb.Fatalf("got %v, want %v", got, ids)
	}
}

const fast = `batch: {wait: 50ms}`

// maxDead is what is kept of dead letters in the tests.
const maxDead = 64 << 10
