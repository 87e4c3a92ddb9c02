package carve_test

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/musterhq/muster/internal/blob"
	"github.com/musterhq/muster/internal/carve"
	"github.com/musterhq/muster/internal/ident"
	"github.com/musterhq/muster/internal/live"
	"github.com/musterhq/muster/internal/node"
	"github.com/musterhq/muster/internal/osquery"
	"github.com/musterhq/muster/internal/seal"
	"github.com/musterhq/muster/internal/spool"
	"github.com/musterhq/muster/internal/store"
	"github.com/musterhq/muster/internal/store/storetest"
)

// world is carves on a real store, live queries, spool and directory.
type world struct {
	t      *testing.T
	dir    string
	db     string
	clock  *clock
	limits carve.Limits
	key    seal.Key
	fuse   *fuse // nil is none

	store  *store.Store
	live   *live.Coordinator
	carves *carve.Service
	blobs  *blob.Dir
	nodes  *nodes
	stop   func()
}

type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// nodes are those that are enrolled.
type nodes struct {
	mu sync.Mutex
	m  map[string]*node.Identity
}

func (n *nodes) Lookup(id string) *node.Identity {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.m[id]
}

func (n *nodes) named(id string) *node.Identity {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.m[id] == nil {
		n.m[id] = node.IdentityOf(node.Node{ID: id, HostIdentifier: "host-" + id, Hostname: id + ".example"})
	}
	return n.m[id]
}

type records struct {
	mu   sync.Mutex
	list []string
}

func (r *records) Record(_ context.Context, actor, action, target string, _ any) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = append(r.list, actor+" "+action+" "+target)
	return nil
}

type noMetrics struct{}

func (noMetrics) Block(int)      {}
func (noMetrics) Refused(string) {}

var defaults = carve.Limits{
	PerCarve: 64 << 20, PerNode: 256 << 20, Total: 1 << 30, Free: 0, Sessions: 256, SessionsPerNode: 4, BlockSize: 16 << 20,
	Idle: 24 * time.Hour, Keep: 30 * 24 * time.Hour,
}

func newWorld(t *testing.T) *world {
	t.Helper()
	dir := t.TempDir()
	w := &world{
		t: t, dir: dir, db: filepath.Join(dir, "state.db"), clock: &clock{now: time.Now()}, limits: defaults,
		nodes: &nodes{m: map[string]*node.Identity{}},
	}
	var err error
	if w.key, err = seal.MakeKey(filepath.Join(dir, "key")); err != nil {
		t.Fatal(err)
	}
	return w
}

// start opens everything, as a server does.
func (w *world) start() *world {
	w.t.Helper()
	log := slog.New(slog.DiscardHandler)
	w.store = storetest.Open(w.t, w.db)
	w.live = live.NewCoordinator(w.store, log, w.clock.Now)
	must(w.t, w.live.Load(w.t.Context()))
	files, err := spool.Open(filepath.Join(w.dir, "spool"))
	must(w.t, err)
	w.blobs, err = blob.OpenDir(filepath.Join(w.dir, "blobs"))
	must(w.t, err)
	keeper, spooled, blobs := w.fuse.guard(w.store, files, w.blobs)
	w.carves = carve.New(carve.Options{
		Store: keeper, Ledger: w.store, Spool: spooled, Blobs: blobs, Key: w.key, Asker: w.live, Nodes: w.nodes,
		Keyer: node.NewKeyer(bytes.Repeat([]byte("k"), 32)), Audit: &records{}, Metrics: noMetrics{}, Limits: w.limits, Log: log, Now: w.clock.Now,
	})
	w.live.Observe(w.carves.Observe)
	must(w.t, w.carves.Load(w.t.Context()))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.carves.Run(ctx) }()
	var once sync.Once
	w.stop = func() { once.Do(func() { cancel(); <-done }) }
	w.t.Cleanup(w.stop)
	return w
}

// restart is a server that was killed: what it held in memory is gone.
func (w *world) restart() {
	w.t.Helper()
	w.stop()
	w.start()
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

func (w *world) ask(n string, paths ...string) *carve.Carve {
	w.t.Helper()
	c, err := w.carves.Start(w.t.Context(), carve.Request{ID: ident.New(), Node: w.nodes.named(n), Paths: paths, By: "ada"})
	must(w.t, err)
	return c
}

// take is a poll of the node.
func (w *world) take(n string) []live.Task { return w.live.Take(n) }

// answer is what the node answers to a query.
func (w *world) answer(n, id string, rows ...map[string]string) {
	w.t.Helper()
	a := live.Answer{LiveID: id, NodeID: n, State: live.Empty, ReceivedAt: w.clock.Now()}
	for _, r := range rows {
		b, err := json.Marshal(r)
		must(w.t, err)
		a.State, a.Rows = live.Answered, append(a.Rows, b)
	}
	must(w.t, w.live.Accept(w.t.Context(), []live.Answer{a}))
}

func scheduled(path, guid, request string) map[string]string {
	return map[string]string{"path": path, "carve_guid": guid, "request_id": request, "status": "SCHEDULED", "size": "-1", "sha256": ""}
}

func (w *world) begin(n, guid, request string, size, block int) (string, error) {
	w.t.Helper()
	return w.carves.Begin(w.t.Context(), carve.Sender{Node: w.nodes.named(n)}, osquery.CarveStart{
		Blocks: int64((size + block - 1) / block), BlockSize: int64(block), Size: int64(size), CarveID: guid, RequestID: request,
	})
}

func (w *world) block(session string, i, block int, data []byte) (bool, error) {
	w.t.Helper()
	return w.carves.Block(w.t.Context(), carve.Sender{}, session, int64(i), bytes.Clone(data[i*block:min(len(data), (i+1)*block)]))
}

// send sends all blocks in the order given, or in theirs.
func (w *world) send(session string, block int, data []byte, order ...int) {
	w.t.Helper()
	count := (len(data) + block - 1) / block
	if order == nil {
		for i := range count {
			order = append(order, i)
		}
	}
	for _, i := range order {
		if _, err := w.block(session, i, block, data); err != nil {
			w.t.Fatalf("block %d: %v", i, err)
		}
	}
}

// carve returns a carve as it is.
func (w *world) carve(id string) *carve.Carve {
	w.t.Helper()
	if c, ok := w.carves.Current(id); ok {
		return c
	}
	c, err := w.store.Carve(w.t.Context(), id)
	must(w.t, err)
	return c
}

// until waits for a state.
func (w *world) until(id string, state carve.State) *carve.Carve {
	w.t.Helper()
	return w.wait(id, func(c *carve.Carve) bool { return c.State == state })
}

func (w *world) wait(id string, is func(*carve.Carve) bool) *carve.Carve {
	w.t.Helper()
	limit := time.After(20 * time.Second)
	for {
		c := w.carve(id)
		if is(c) {
			return c
		}
		select {
		case <-limit:
			w.t.Fatalf("it never came: %+v", c)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// read returns a stored archive.
func (w *world) read(a carve.Archive) []byte {
	w.t.Helper()
	r, err := w.carves.Open(w.t.Context(), a, 0, -1)
	must(w.t, err)
	defer r.Close()
	b, err := io.ReadAll(r)
	must(w.t, err)
	return b
}

// packed is a tar as osquery makes it.
func packed(tb testing.TB, guid string, files map[string]string) []byte {
	tb.Helper()
	var buf bytes.Buffer
	z := tar.NewWriter(&buf)
	for name, content := range files {
		must(tb, z.WriteHeader(&tar.Header{
			Name: "/tmp/osquery_carve_" + guid + name, Mode: 0o640, Size: int64(len(content)), ModTime: time.Unix(1_700_000_000, 0), Format: tar.FormatPAX,
		}))
		_, err := io.WriteString(z, content)
		must(tb, err)
	}
	must(tb, z.Close())
	return buf.Bytes()
}

func sum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

func guid(i int) string { return fmt.Sprintf("7c3556a5-ae36-4ba4-b7d3-%012d", i) }

// garbled is content that compresses badly and differs everywhere.
func garbled(n int) string {
	var b strings.Builder
	for i := 0; b.Len() < n; i++ {
		s := sha256.Sum256([]byte{byte(i), byte(i >> 8), byte(i >> 16)})
		b.Write(s[:])
	}
	return b.String()[:n]
}
