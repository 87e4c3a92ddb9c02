package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/musterhq/muster/internal/errs"
)

// store is a table of changes; reading can be held up to make races.
type store struct {
	mu      sync.Mutex
	changes []Change
	touches []Touch
	err     error
	hold    func() // called after a read, before its result is used
}

func (s *store) NodesSince(_ context.Context, version int64, yield func(Change)) (int64, error) {
	s.mu.Lock()
	changes, err := slices.Clone(s.changes), s.err
	s.mu.Unlock()
	if s.hold != nil {
		s.hold()
	}
	latest := version
	for _, c := range changes {
		if c.Node.Version > version {
			yield(c)
			latest = max(latest, c.Node.Version)
		}
	}
	return latest, err
}

func (s *store) TouchNodes(_ context.Context, touches []Touch) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	s.touches = append(s.touches, touches...)
	return nil
}

var errStore = errors.New("the database is gone")

var keyer = NewKeyer([]byte("0123456789abcdef0123456789abcdef"))

func hash(key string) KeyHash { return keyer.Hash(PurposeNodeKey, key) }

func newRegistry(tb testing.TB, s *store) *Registry {
	tb.Helper()
	return NewRegistry(s, keyer, slog.New(slog.NewTextHandler(tb.Output(), nil)), time.Now)
}

func sync1(t *testing.T, r *Registry) {
	t.Helper()
	if err := r.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// known says which of the keys belong to which node, as in "a=1 b=2".
func known(r *Registry, keys ...string) string {
	var parts []string
	for _, k := range keys {
		if i := r.Authenticate(k); i != nil {
			parts = append(parts, k+"="+i.ID)
		}
	}
	return strings.Join(parts, " ")
}

func want(t *testing.T, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func change(id string, version int64, key string) Change {
	return Change{Node: Node{ID: id, HostIdentifier: "h" + id, Hostname: "host" + id, Version: version}, Key: hash(key)}
}

func TestRegistry_Sync(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &store{changes: []Change{change("1", 1, "a"), change("2", 2, "b")}}
		r := newRegistry(t, s)
		want(t, known(r, "", "a", "b"), "")
		sync1(t, r)
		want(t, known(r, "", "a", "b", "x"), "a=1 b=2")

		// A new key; the one before has its grace.
		c := change("1", 3, "a2")
		c.OldKey, c.OldUntil = hash("a"), time.Now().Add(KeyGrace)
		s.changes = append(s.changes, c)
		sync1(t, r)
		want(t, known(r, "a", "a2", "b"), "a=1 a2=1 b=2")
		time.Sleep(KeyGrace - time.Nanosecond) //nolint:forbidigo // synctest's clock
		r.expire()
		want(t, known(r, "a", "a2"), "a=1 a2=1")
		time.Sleep(time.Nanosecond) //nolint:forbidigo // synctest's clock
		r.expire()
		want(t, known(r, "a", "a2"), "a2=1")

		// A key whose grace was over before the server heard of it.
		c = change("2", 4, "b2")
		c.OldKey, c.OldUntil = hash("b"), time.Now()
		s.changes = append(s.changes, c)
		sync1(t, r)
		want(t, known(r, "b", "b2"), "b2=2")

		// Revoked, and its key's grace with it.
		s.changes = append(s.changes, Change{Node: Node{ID: "2", Version: 5}, Gone: true})
		sync1(t, r)
		want(t, known(r, "a2", "b", "b2"), "a2=1")
		if r.Lookup("2") != nil || r.Lookup("1") == nil {
			t.Error("Lookup and Authenticate disagree")
		}

		// A database that fails changes nothing.
		s.err = errStore
		s.changes = append(s.changes, change("3", 6, "c"))
		if err := r.Sync(t.Context()); !errors.Is(err, errStore) {
			t.Error(err)
		}
		want(t, known(r, "a2", "c"), "a2=1")
		s.err = nil
		sync1(t, r)
		want(t, known(r, "a2", "c"), "a2=1 c=3")
	})
}

// TestRegistry_races: what happens while Sync waits for the database.
func TestRegistry_races(t *testing.T) {
	t.Parallel()
	setUp := func(t *testing.T, meanwhile func(*Registry)) (*store, *Registry) {
		t.Helper()
		s := &store{changes: []Change{change("1", 1, "a")}}
		r := newRegistry(t, s)
		sync1(t, r)
		tagged := change("1", 2, "a") // somebody tagged it
		tagged.Node.Tags = []string{"t"}
		s.changes = []Change{tagged}
		s.hold = func() { meanwhile(r) }
		sync1(t, r)
		s.hold = nil
		return s, r
	}
	t.Run("enrolled again", func(t *testing.T) {
		t.Parallel()
		_, r := setUp(t, func(r *Registry) { r.add(Node{ID: "1", Version: 3}, "", hash("b"), time.Now()) })
		want(t, known(r, "a", "b"), "a=1 b=1") // a has its grace
		r.now = func() time.Time { return time.Now().Add(KeyGrace) }
		r.expire()
		want(t, known(r, "a", "b"), "b=1")
	})
	t.Run("forgotten", func(t *testing.T) {
		t.Parallel()
		s, r := setUp(t, func(r *Registry) { r.Forget("1") })
		want(t, known(r, "a"), "")
		s.changes = []Change{change("1", 3, "c")} // it was a later enrolment after all
		sync1(t, r)
		want(t, known(r, "a", "c"), "c=1")
	})
	t.Run("a stale row comes once more", func(t *testing.T) {
		t.Parallel()
		s, r := setUp(t, func(r *Registry) { r.add(Node{ID: "1", Version: 9}, "", hash("b"), time.Now()) })
		s.changes = []Change{change("1", 8, "old")}
		sync1(t, r)
		want(t, known(r, "old", "b"), "b=1")
	})
	t.Run("two enrolments, the later is known first", func(t *testing.T) {
		t.Parallel()
		r := newRegistry(t, &store{})
		r.add(Node{ID: "1", Version: 1}, "", hash("a"), time.Now())
		r.add(Node{ID: "1", Version: 3}, "", hash("c"), time.Now())
		r.add(Node{ID: "1", Version: 2}, "", hash("b"), time.Now())
		want(t, known(r, "a", "b", "c"), "b=1 c=1")
		r.now = func() time.Time { return time.Now().Add(KeyGrace) }
		r.expire()
		want(t, known(r, "b", "c"), "c=1")
	})
}

func TestRegistry_presence(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &store{changes: []Change{change("1", 1, "a"), change("2", 2, "b")}}
		r := newRegistry(t, s)
		sync1(t, r)
		if all, online := r.Len(); all != 2 || online != 0 {
			t.Errorf("%d, %d online", all, online)
		}
		if err := r.Flush(t.Context()); err != nil || len(s.touches) != 0 {
			t.Fatalf("nothing was touched: %v, %v", s.touches, err)
		}
		start := time.Now().UTC()
		r.Authenticate("a").Touch(start, netip.MustParseAddr("192.0.2.1"), EndpointConfig)
		r.Authenticate("b").Touch(start, netip.Addr{}, EndpointRead)
		s.err = errStore
		if err := r.Flush(t.Context()); !errors.Is(err, errStore) {
			t.Fatal(err)
		}
		s.err = nil
		if err := r.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		slices.SortFunc(s.touches, func(a, b Touch) int { return strings.Compare(a.ID, b.ID) })
		if d := cmp.Diff([]Touch{
			{ID: "1", Seen: start, At: Seen{EndpointConfig: start}, Patience: OfflineAfter, Address: "192.0.2.1"},
			{ID: "2", Seen: start, At: Seen{EndpointRead: start}, Patience: OfflineAfter},
		}, s.touches); d != "" {
			t.Error("after a failure:", d)
		}
		s.touches = nil
		if err := r.Flush(t.Context()); err != nil || len(s.touches) != 0 {
			t.Errorf("kept twice: %v, %v", s.touches, err)
		}

		// A change of the node must not lose a touch.
		before := r.Authenticate("a")
		s.changes = []Change{change("1", 3, "a")}
		sync1(t, r)
		before.Touch(start.Add(time.Second), netip.Addr{}, EndpointLog)
		if now := r.Authenticate("a"); now == before || !now.LastSeen().Equal(start.Add(time.Second)) {
			t.Errorf("seen %v", now.LastSeen())
		}
		time.Sleep(OfflineAfter) //nolint:forbidigo // synctest's clock
		if _, online := r.Len(); online != 2 {
			t.Errorf("%d online, want both", online)
		}
		time.Sleep(time.Second) //nolint:forbidigo // synctest's clock
		if _, online := r.Len(); online != 1 {
			t.Errorf("%d online, want one", online)
		}
	})
}

func TestRegistry_Run(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &store{changes: []Change{change("1", 1, "a")}, err: errStore}
		r := newRegistry(t, s)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- r.Run(ctx) }()
		time.Sleep(3 * time.Second) //nolint:forbidigo // synctest's clock
		s.mu.Lock()
		s.err = nil
		s.mu.Unlock()
		time.Sleep(syncEvery) //nolint:forbidigo // synctest's clock
		synctest.Wait()
		want(t, known(r, "a"), "a=1")
		r.Authenticate("a").Touch(time.Now(), netip.Addr{}, EndpointLog)
		cancel()
		if err := <-done; err != nil || len(s.touches) != 1 {
			t.Errorf("the last touch: %v, %v", s.touches, err)
		}
	})
}

func TestRegistry_Select(t *testing.T) {
	t.Parallel()
	s := &store{}
	for i, tags := range [][]string{{"a"}, {"a", "b"}, {"c"}, nil} {
		c := change(fmt.Sprint(i+1), int64(i+1), fmt.Sprint(i))
		c.Node.Tags = tags
		s.changes = append(s.changes, c)
	}
	r := newRegistry(t, s)
	sync1(t, r)
	tests := []struct {
		selector      Selector
		want, unknown string
	}{
		{Selector{}, "", ""},
		{Selector{All: true}, "1 2 3 4", ""},
		{Selector{Tags: []string{"a"}}, "1 2", ""},
		{Selector{Tags: []string{"b", "c", "none"}}, "2 3", ""},
		{Selector{Nodes: []string{"1", "h2", "host4"}}, "1 2 4", ""},
		{Selector{Nodes: []string{"z", "1", "y", "H2", "z", ""}}, "1", " H2 y z"},
		{Selector{Nodes: []string{"1", "1", "host1"}, Tags: []string{"a"}}, "1 2", ""},
		{Selector{All: true, Nodes: []string{"x"}}, "1 2 3 4", "x"},
		{Selector{Where: "all"}, "1 2 3 4", ""},
		{Selector{Where: "none"}, "", ""},
		{Selector{Where: `tag = a and not tag = b or hostname = "host4"`}, "1 4", ""},
		{Selector{Where: "tag = c", Tags: []string{"b"}, Nodes: []string{"4", "x"}}, "2 3 4", "x"},
	}
	for _, tt := range tests {
		nodes, unknown, err := r.Select(tt.selector)
		var ids []string
		for _, n := range nodes {
			ids = append(ids, n.ID)
		}
		slices.Sort(ids)
		if got := strings.Join(ids, " "); err != nil || got != tt.want || strings.Join(unknown, " ") != tt.unknown {
			t.Errorf("%+v: %q, unknown %q, %v", tt.selector, got, unknown, err)
		}
		if none := len(tt.selector.Nodes)+len(tt.selector.Tags) == 0 && !tt.selector.All && tt.selector.Where == ""; tt.selector.IsZero() != none {
			t.Errorf("%+v: IsZero is %v", tt.selector, !none)
		}
	}
}

// TestRegistry_Select_where: an expression that is none means nobody, and what
// else is selected does not hide it.
func TestRegistry_Select_where(t *testing.T) {
	t.Parallel()
	r := newRegistry(t, &store{changes: []Change{change("1", 1, "a")}})
	sync1(t, r)
	for _, text := range []string{" ", "tag", "tag = ", "colour = red", strings.Repeat("x", maxWhere+1)} {
		nodes, _, err := r.Select(Selector{All: true, Where: text})
		if !errs.Is(err, errs.Invalid) || !strings.HasPrefix(err.Error(), "selector.where: ") || nodes != nil {
			t.Errorf("%q: %v, %v", text, nodes, err)
		}
	}
}

func TestNode_describe(t *testing.T) {
	t.Parallel()
	type details = map[string]map[string]string
	tests := []struct {
		details      details
		mask         string
		name, family string
	}{
		{nil, "9", "id", "linux"},
		{nil, "21", "id", "darwin"},
		{nil, "2", "id", "windows"},
		{nil, "", "id", ""},
		{details{"os_version": {"platform": "rhel"}}, "", "id", "linux"},
		{details{"os_version": {"platform": "darwin"}, "system_info": {"computer_name": "c"}}, "", "c", "darwin"},
		{details{"osquery_info": {"build_platform": "windows"}, "os_version": {"platform": "x"}, "system_info": {"hostname": "h", "computer_name": "c"}}, "9", "h", "windows"},
	}
	for _, tt := range tests {
		n := Node{HostIdentifier: "id", Details: tt.details}
		n.describe(tt.mask)
		if n.Hostname != tt.name || n.Platform != tt.family {
			t.Errorf("%v: %q, %q", tt, n.Hostname, n.Platform)
		}
	}
}

func TestCleanTags(t *testing.T) {
	t.Parallel()
	got, err := CleanTags("tags", []string{"b", "a", "b", "site:dc1/rack_2.x-3", strings.Repeat("x", 63)})
	if d := cmp.Diff([]string{"a", "b", "site:dc1/rack_2.x-3", strings.Repeat("x", 63)}, got); err != nil || d != "" {
		t.Error(err, d)
	}
	if got, err := CleanTags("tags", nil); err != nil || got == nil || len(got) != 0 {
		t.Errorf("%#v, %v", got, err)
	}
	for _, bad := range []string{"", "A", "ä", "a b", "-a", ".a", "a\n", "a,b", strings.Repeat("x", 64)} {
		if _, err := CleanTags("tags", []string{"a", bad}); !errs.Is(err, errs.Invalid) || !strings.HasPrefix(err.Error(), "tags: ") {
			t.Errorf("%q: %v", bad, err)
		}
	}
	many := make([]string, 0, MaxTags+1)
	for i := range MaxTags + 1 {
		many = append(many, fmt.Sprint(i))
	}
	if _, err := CleanTags("tags", slices.Concat(many[1:], many[1:])); err != nil {
		t.Error(err)
	}
	if _, err := CleanTags("tags", many); !errs.Is(err, errs.Invalid) {
		t.Error(err)
	}
}

func TestKeyer(t *testing.T) {
	t.Parallel()
	seen := map[KeyHash]string{}
	other := NewKeyer([]byte("another key of the server, 32 b."))
	for _, k := range []Keyer{keyer, other} {
		for _, purpose := range []string{PurposeNodeKey, PurposeEnrollSecret, PurposeSession, ""} {
			for _, secret := range []string{"", "a", "b", PurposeNodeKey} {
				h, name := k.Hash(purpose, secret), fmt.Sprintf("%v %q %q", k, purpose, secret)
				if before, ok := seen[h]; ok {
					t.Errorf("%s and %s have one hash", name, before)
				}
				if seen[h] = name; h != k.Hash(purpose, secret) {
					t.Errorf("%s changes", name)
				}
			}
		}
	}
	// HMAC-SHA-256 of "node_key\0secret", computed with OpenSSL.
	if got := fmt.Sprintf("%x", keyer.Hash(PurposeNodeKey, "secret")); got != "9accc30c860a211e59d6fba139fc5ca66c8cdb8f9fc275587257c59d467855ff" {
		t.Error(got)
	}
}

// BenchmarkRegistry_memory reports the bytes that each node takes, without and
// with what it said when it enrolled.
func BenchmarkRegistry_memory(b *testing.B) {
	const nodes = 50_000
	for name, details := range map[string]bool{"bare": false, "details": true} {
		b.Run(name, func(b *testing.B) {
			var before, after runtime.MemStats
			for b.Loop() {
				runtime.GC()
				runtime.ReadMemStats(&before)
				r := newRegistry(b, &store{})
				for i := range nodes {
					n := benchNode(i)
					c := Change{Node: n, Key: hash(n.ID)}
					if details {
						details := PackDetails(n.Details)
						c.Details = func() Details { return details }
					}
					r.apply(c)
					r.byID[n.ID].identity.Touch(time.Now(), netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), EndpointRead)
				}
				runtime.GC()
				runtime.ReadMemStats(&after)
				b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/nodes, "B/node")
				runtime.KeepAlive(r)
			}
		})
	}
}

func BenchmarkRegistry_Authenticate(b *testing.B) {
	r := newRegistry(b, &store{})
	r.add(Node{ID: "1"}, "", hash("key"), time.Now())
	b.ReportAllocs()
	for b.Loop() {
		if r.Authenticate("key") == nil {
			b.Fatal("not known")
		}
	}
}
