package search

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/parquet-go/parquet-go"

	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/event"
)

var day0 = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

func testOptions(t *testing.T, dir string) Options {
	t.Helper()
	return Options{
		Dir: dir, Log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})),
		Now: func() time.Time { return day0.Add(time.Hour) },
	}
}

func open(t *testing.T, o Options) *Engine {
	t.Helper()
	e, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}

func add(t *testing.T, e *Engine, seq uint64, batches ...event.Batch) {
	t.Helper()
	if err := e.Add(seq, batches); err != nil {
		t.Fatal(err)
	}
}

func flush(t *testing.T, e *Engine) {
	t.Helper()
	if err := e.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// expected returns the records that a message makes, as a search returns them.
func expected(tb testing.TB, seq uint64, batches []event.Batch) []event.Record {
	tb.Helper()
	var records []event.Record
	var index uint32
	for _, b := range batches {
		for _, ev := range b.Events {
			r := event.Record{Event: ev, NodeID: b.NodeID, HostIdentifier: b.HostIdentifier, Received: b.Received, Tags: b.Tags, Revision: b.Revision, Seq: seq, Index: index}
			r.Columns = canonical(tb, ev.Columns)
			records = append(records, r)
			index++
		}
	}
	return records
}

// canonical is the object with sorted names, by encoding/json.
func canonical(tb testing.TB, columns []byte) json.RawMessage {
	tb.Helper()
	if len(columns) == 0 {
		return json.RawMessage("{}")
	}
	return columns
}

// textsOf makes records equal whose columns mean the same.
func textsOf(tb testing.TB, records []event.Record) []string {
	tb.Helper()
	texts := make([]string, len(records))
	for i, r := range records {
		var m map[string]string
		if err := json.Unmarshal(r.Columns, &m); err != nil {
			tb.Fatalf("columns %q: %v", r.Columns, err)
		}
		columns, err := json.Marshal(m)
		if err != nil {
			tb.Fatal(err)
		}
		texts[i] = fmt.Sprintf("%s %q %s %d %d %s %s %016x %q %q %s %q %d %d %d/%d", r.Time.UTC().Format(time.RFC3339Nano), r.Query, r.Action, r.Epoch, r.Counter,
			columns, r.Decorations, r.Line, r.NodeID, r.HostIdentifier, r.Received.UTC().Format(time.RFC3339Nano), r.Tags, r.Revision, r.AgentTime, r.Seq, r.Index)
	}
	return texts
}

func sortNewest(records []event.Record) {
	slices.SortFunc(records, func(a, b event.Record) int {
		return placeOf(a.Position()).compare(placeOf(b.Position()))
	})
}

// passes evaluates an expression by its definition.
func passes(x *event.Expr, r *event.Record) bool {
	if x == nil {
		return true
	}
	var columns, decorations map[string]string
	_ = json.Unmarshal(r.Columns, &columns)
	_ = json.Unmarshal(r.Decorations, &decorations)
	return evaluate(x, r, columns, decorations)
}

func evaluate(x *event.Expr, r *event.Record, columns, decorations map[string]string) bool {
	passes := func(x *event.Expr, r *event.Record) bool { return evaluate(x, r, columns, decorations) }
	switch x.Kind {
	case event.And:
		return !slices.ContainsFunc(x.Terms, func(t *event.Expr) bool { return !passes(t, r) })
	case event.Or:
		return slices.ContainsFunc(x.Terms, func(t *event.Expr) bool { return passes(t, r) })
	case event.Not:
		return !passes(x.Terms[0], r)
	case event.Test:
	}
	c := &x.Test
	one := func(value string) bool { return c.Match(value, true) }
	if name, ok := event.Decoration(c.Column); ok {
		value, found := decorations[name]
		return c.Match(value, found)
	}
	switch c.Column {
	case event.AnyColumn:
		return slices.ContainsFunc(slices.Collect(maps.Values(columns)), one)
	case event.StampTag:
		return slices.ContainsFunc(r.Tags, one)
	case event.StampNode:
		return one(r.NodeID)
	case event.StampHost:
		return one(r.HostIdentifier)
	case event.StampQuery:
		return one(r.Query)
	case event.StampAction:
		return one(r.Action)
	case event.StampTime:
		return one(r.Time.UTC().Format("2006-01-02T15:04:05.000000Z"))
	case event.StampReceived:
		return one(r.Received.UTC().Format("2006-01-02T15:04:05.000000Z"))
	case event.StampEpoch:
		return one(fmt.Sprint(r.Epoch))
	case event.StampCounter:
		return one(fmt.Sprint(r.Counter))
	case event.StampRevision:
		return c.Match(fmt.Sprint(r.Revision), r.Revision != 0)
	case event.StampAgentTime:
		return c.Match(fmt.Sprint(r.AgentTime), r.AgentTime != 0)
	}
	value, found := columns[c.Column]
	return c.Match(value, found)
}

// reference is Search by brute force.
func reference(all []event.Record, f event.Filter) []event.Record {
	var found []event.Record
	for _, r := range all {
		if q, ok := strings.CutSuffix(f.Query, "*"); f.Query != "" && (ok && !strings.HasPrefix(r.Query, q) || !ok && r.Query != f.Query) {
			continue
		}
		comes := func(p, q event.Position) bool { return p.After(q) }
		if f.Oldest {
			comes = func(p, q event.Position) bool { return q.After(p) }
		}
		if f.NodeID != "" && r.NodeID != f.NodeID || f.Nodes != nil && !slices.Contains(f.Nodes, r.NodeID) || f.Action != "" && r.Action != f.Action ||
			!f.Since.IsZero() && r.Time.Before(f.Since) || !f.Until.IsZero() && !r.Time.Before(f.Until) ||
			!f.Before.IsZero() && !comes(r.Position(), f.Before) || !passes(f.Where, &r) {
			continue
		}
		found = append(found, r)
	}
	sortNewest(found)
	if f.Oldest {
		slices.Reverse(found)
	}
	if f.Limit > 0 && len(found) > f.Limit {
		found = found[:f.Limit]
	}
	return found
}

// where reads an expression.
func where(tb testing.TB, text string) *event.Expr {
	tb.Helper()
	x, err := event.ParseExpr("where", text)
	if err != nil {
		tb.Fatalf("%s: %v", text, err)
	}
	return x
}

func search(t *testing.T, e *Engine, f event.Filter) []event.Record {
	t.Helper()
	got, err := e.Search(t.Context(), f)
	if err != nil {
		t.Fatalf("search %+v: %v", f, err)
	}
	if got.Cut || f.MaxTime == 0 && f.Limit == 0 && !got.Next.IsZero() || !got.Next.IsZero() && got.Next != got.Records[len(got.Records)-1].Position() {
		t.Fatalf("search %+v: %+v, next %s", f, got.Progress, got.Next)
	}
	return got.Records
}

func checkSearch(t *testing.T, e *Engine, all []event.Record, f event.Filter) {
	t.Helper()
	want := textsOf(t, reference(all, f))
	if diff := cmp.Diff(want, textsOf(t, search(t, e, f))); diff != "" {
		t.Fatalf("search %+v %s (-want +got):\n%s", f, f.Where, diff)
	}
}

// generator makes random messages of few and hostile values.
type generator struct {
	*rand.Rand
	seq uint64
	all []event.Record
}

func newGenerator(seed uint64) *generator { return &generator{Rand: rand.New(rand.NewPCG(seed, 1))} }

func (g *generator) one(of ...string) string { return of[g.IntN(len(of))] }

func (g *generator) query() string {
	return g.one("pack_a_users", "pack_a_procs", "pack_b_files", "../../etc/passwd", "a/b\x00c\xff", strings.Repeat("q", 300), event.StatusQuery)
}

func (g *generator) value() string {
	return g.one("", "0", "1", "10", "9", "-3.5", "1e3", "root", "Root", "/usr/bin/ssh", "C:\\Windows\\x.exe", "quote\"d", "null\x00byte", "ünï", "\u2028", "a b", "x\ny")
}

func (g *generator) columns() json.RawMessage {
	m := map[string]string{}
	for range g.IntN(5) {
		m[g.one("path", "pid", "name", "", "Path", "a.b", "_time", "_x_", "a_b", "é", "with space", "_rest", strings.Repeat("long", 50))] = g.value()
	}
	b, _ := json.Marshal(m)
	return b
}

func (g *generator) message(tb testing.TB) (uint64, []event.Batch) {
	tb.Helper()
	g.seq += 1 + g.Uint64N(3)
	batches := make([]event.Batch, g.IntN(3))
	for i := range batches {
		b := &batches[i]
		b.NodeID = g.one("n1", "n2", "n3", "")
		b.HostIdentifier = g.one("h1", "h\"2")
		b.Received = day0.Add(time.Duration(g.IntN(48*3600)-24*3600) * time.Second)
		b.Revision = g.Int64N(3)
		for _, tag := range []string{"web", "a\"b", "ünï\n"} {
			if g.IntN(2) == 0 {
				b.Tags = append(b.Tags, tag)
			}
		}
		for range g.IntN(6) {
			ev := event.Event{
				AgentTime: g.Int64N(3) - 1,
				Time:      day0.Add(time.Duration(g.IntN(40)) * time.Minute), Query: g.query(), Action: g.one(event.Added, event.Removed, event.Snapshot),
				Epoch: int64(g.IntN(3)), Counter: g.Int64(), Line: g.Uint64(), Columns: g.columns(),
			}
			if g.IntN(2) == 0 {
				ev.Decorations = json.RawMessage(`{"host":"` + g.one("x", "y") + `"}`)
			}
			b.Events = append(b.Events, ev)
		}
	}
	g.all = append(g.all, expected(tb, g.seq, batches)...)
	return g.seq, batches
}

// expr makes a random expression, through its text, as people's come.
func (g *generator) expr(tb testing.TB, depth int) *event.Expr {
	tb.Helper()
	return where(tb, g.tree(depth).String())
}

func (g *generator) tree(depth int) *event.Expr {
	kind := event.ExprKind(g.IntN(4))
	if depth > 2 || g.IntN(3) == 0 {
		kind = event.Test
	}
	x := &event.Expr{Kind: kind}
	switch kind {
	case event.And, event.Or:
		for range 2 + g.IntN(2) {
			x.Terms = append(x.Terms, g.tree(depth+1))
		}
	case event.Not:
		x.Terms = append(x.Terms, g.tree(depth+1))
	case event.Test:
		x.Test = g.condition()
	}
	return x
}

func (g *generator) condition() event.Condition {
	c := event.Condition{
		Column: g.one("path", "pid", "name", "Path", "a.b", "_time", strings.Repeat("long", 50), "none", "*", "*", "@node", "@host", "@query", "@action", "@tag", "@tag",
			"@revision", "@agent_time", "@epoch", "@counter", "@decoration.host", "@decoration.none"),
		Op:    event.Op(g.one("=", "!=", "<", "<=", ">", ">=", "contains", "prefix", "suffix", "regex", "in", "exists", "has")),
		Value: g.one(g.value(), g.value(), "n1", "h1", "web", "x", "added", "pack_", "ROOT"),
	}
	if g.IntN(10) == 0 {
		c.Column = g.one("@time", "@received")
		c.Op = event.Op(g.one("=", "<", ">="))
		c.Value = day0.Add(time.Duration(g.IntN(40)) * time.Minute).Format(time.RFC3339)
	}
	switch c.Op { //nolint:exhaustive // the others take the value that there is
	case event.Fold:
		if c.Column, c.Value = "*", strings.ToLower(c.Value); c.Value == "" {
			c.Value = "o"
		}
	case event.In:
		for range 1 + g.IntN(12) {
			c.Values = append(c.Values, g.value())
		}
		c.Value = ""
	case event.Regex:
		c.Value = g.one("", "^[0-9]+$", "(?i)ROOT", "[/.]", "^.$")
	}
	return c
}

func (g *generator) filter(tb testing.TB) event.Filter {
	tb.Helper()
	var f event.Filter
	maybe := func(do func()) {
		if g.IntN(3) == 0 {
			do()
		}
	}
	maybe(func() { f.Query = g.one(g.query(), "pack_*", "*", "nothing") })
	maybe(func() { f.NodeID = g.one("n1", "n2", "nobody") })
	maybe(func() { f.Action = g.one(event.Added, event.Snapshot) })
	maybe(func() { f.Since = day0.Add(time.Duration(g.IntN(40)) * time.Minute) })
	maybe(func() { f.Until = day0.Add(time.Duration(g.IntN(60))*time.Minute + 300*time.Nanosecond) })
	maybe(func() { f.Limit = 1 + g.IntN(20) })
	maybe(func() { f.Before = g.all[g.IntN(len(g.all))].Position() })
	maybe(func() { f.Oldest = true })
	maybe(func() { f.Nodes = []string{"n1", "n3", "nobody"}[:g.IntN(4)] })
	if g.IntN(2) == 0 {
		f.Where = g.expr(tb, 0)
	}
	return f
}

// TestSearch_reference compares searches with brute force while events are in
// memory, in small segments, in merged ones and after opening again.
func TestSearch_reference(t *testing.T) {
	t.Parallel()
	for seed := range uint64(2) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			g := newGenerator(seed)
			o := testOptions(t, t.TempDir())
			e := open(t, o)
			check := func() {
				t.Helper()
				checkSearch(t, e, g.all, event.Filter{})
				for range 40 {
					f := g.filter(t)
					checkSearch(t, e, g.all, f)
					checkQueries(t, e, g.all, f)
					checkCount(t, e, g, f)
				}
			}
			for range 5 {
				for range 20 {
					seq, batches := g.message(t)
					add(t, e, seq, batches...)
				}
				if len(g.all) == 0 {
					continue
				}
				if g.IntN(4) > 0 {
					flush(t, e)
				}
			}
			check()
			flush(t, e)
			check()
			e.now = func() time.Time { return day0.Add(72 * time.Hour) } // all days are over
			before := e.Stats()
			if err := e.compact(t.Context()); err != nil {
				t.Fatal(err)
			}
			after := e.Stats()
			if after.Segments >= before.Segments || after.Events != before.Events {
				t.Errorf("compaction: %+v → %+v", before, after)
			}
			check()
			if err := e.Close(); err != nil {
				t.Fatal(err)
			}
			e = open(t, o)
			check()
			if got := e.Stats(); got != after {
				t.Errorf("after opening again: %+v, want %+v", got, after)
			}
		})
	}
}

func checkQueries(t *testing.T, e *Engine, all []event.Record, f event.Filter) {
	t.Helper()
	f.Before, f.Limit = event.Position{}, 0
	width := 7 * time.Minute
	counts, buckets, last := map[string]int64{}, map[int64]int64{}, map[string]time.Time{}
	for _, r := range reference(all, f) {
		counts[r.Query]++
		buckets[r.Time.UnixMicro()/width.Microseconds()]++
		if r.Time.After(last[r.Query]) {
			last[r.Query] = r.Time
		}
	}
	summaries, histogram, err := e.Queries(t.Context(), f, width)
	if err != nil {
		t.Fatal(err)
	}
	var want []event.Summary
	for _, q := range slices.Sorted(maps.Keys(counts)) {
		want = append(want, event.Summary{Query: q, Count: counts[q], Last: last[q]})
	}
	if diff := cmp.Diff(want, append([]event.Summary(nil), summaries...)); diff != "" {
		t.Fatalf("queries %+v (-want +got):\n%s", f, diff)
	}
	var total int64
	for i, b := range histogram {
		if n := b.Start.UnixMicro() / width.Microseconds(); b.Count != buckets[n] {
			t.Fatalf("bucket %s has %d, want %d", b.Start, b.Count, buckets[n])
		}
		if i > 0 && b.Start.Sub(histogram[i-1].Start) != width {
			t.Fatalf("bucket after %s starts at %s", histogram[i-1].Start, b.Start)
		}
		total += b.Count
	}
	if want := int64(len(reference(all, f))); total != want {
		t.Fatalf("histogram has %d, want %d", total, want)
	}
}

// TestQueries_ahead: an agent whose clock is hours ahead counts in the last
// bucket, and leaves the histogram as it is.
func TestQueries_ahead(t *testing.T) {
	t.Parallel()
	now := day0.Add(time.Hour)
	o := testOptions(t, t.TempDir())
	o.Now = func() time.Time { return now }
	e := open(t, o)
	batch := event.Batch{NodeID: "n", Received: now, LogType: "result"}
	for _, at := range []time.Duration{-5 * time.Minute, 0, 20 * time.Hour} {
		batch.Events = append(batch.Events, event.Event{Time: now.Add(at), Query: "q", Action: event.Added, Columns: []byte(`{}`)})
	}
	add(t, e, 1, batch)
	for range 2 { // in memory, then in a file
		summaries, buckets, err := e.Queries(t.Context(), event.Filter{Since: now.Add(-5 * time.Minute)}, 5*time.Second)
		if err != nil || len(summaries) != 1 || summaries[0].Count != 3 || len(buckets) != 61 || buckets[60].Count != 2 {
			t.Fatalf("%v, %d buckets, %v", summaries, len(buckets), err)
		}
		if err := e.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// TestSearch_pages pages through events of equal times.
func TestSearch_pages(t *testing.T) {
	t.Parallel()
	e := open(t, testOptions(t, t.TempDir()))
	var all []event.Record
	for seq := uint64(1); seq <= 30; seq++ {
		b := event.Batch{NodeID: "n", Received: day0}
		for i := range 7 {
			b.Events = append(b.Events, event.Event{Time: day0.Add(time.Duration(seq/10) * time.Second), Query: fmt.Sprint("q", i%2), Action: event.Added, Columns: json.RawMessage(`{"i":"1"}`)})
		}
		add(t, e, seq, b)
		all = append(all, expected(t, seq, []event.Batch{b})...)
		if seq%9 == 0 {
			flush(t, e)
		}
	}
	sortNewest(all)
	for _, limit := range []int{1, 3, 50, 1000} {
		var got []event.Record
		var before event.Position
		for {
			page := search(t, e, event.Filter{Limit: limit, Before: before})
			if len(page) == 0 {
				break
			}
			got = append(got, page...)
			cursor := page[len(page)-1].Position().String()
			var err error
			if before, err = event.ParsePosition(cursor); err != nil {
				t.Fatal(err)
			}
		}
		if diff := cmp.Diff(textsOf(t, all), textsOf(t, got)); diff != "" {
			t.Errorf("limit %d (-want +got):\n%s", limit, diff)
		}
	}
}

// TestSearch_manyRows crosses pages and row groups.
func TestSearch_manyRows(t *testing.T) {
	t.Parallel()
	o := testOptions(t, t.TempDir())
	o.FlushRows = 1 << 20
	e := open(t, o)
	const messages, each = 150, 1000
	for seq := uint64(1); seq <= messages; seq++ {
		b := event.Batch{NodeID: fmt.Sprint("n", seq%7), Received: day0}
		for i := range each {
			n := int(seq)*each + i
			b.Events = append(b.Events, event.Event{
				Time: day0.Add(time.Duration(n) * time.Millisecond), Query: "q", Action: event.Added,
				Columns: json.RawMessage(fmt.Sprintf(`{"n":"%d","parity":"%d","sparse%d":""}`, n, n%2, n%3)),
			})
		}
		add(t, e, seq, b)
		if seq == 100 {
			flush(t, e)
		}
	}
	flush(t, e)
	check := func() {
		t.Helper()
		for _, n := range []int{1000, 1001, 65535, 65536, 70001, 100999, 101000, 150999} {
			got := search(t, e, event.Filter{Where: where(t, fmt.Sprintf("n = %d", n))})
			want := fmt.Sprintf(`{"n":"%d","parity":"%d","sparse%d":""}`, n, n%2, n%3)
			if len(got) != 1 || string(got[0].Columns) != want || got[0].NodeID != fmt.Sprint("n", n/1000%7) {
				t.Fatalf("n=%d: %+v", n, got)
			}
		}
		got := search(t, e, event.Filter{NodeID: "n3", Limit: 5000, Where: where(t, "parity = 1 and sparse2 exists")})
		n := messages*each + each - 1
		for _, r := range got {
			for ; n/1000%7 != 3 || n%2 != 1 || n%3 != 2; n-- {
			}
			if want := fmt.Sprintf(`{"n":"%d","parity":"1","sparse2":""}`, n); string(r.Columns) != want {
				t.Fatalf("got %s, want %s", r.Columns, want)
			}
			n--
		}
		if len(got) < 3000 {
			t.Fatalf("found %d", len(got))
		}
		summaries, buckets, err := e.Queries(t.Context(), event.Filter{Since: day0.Add(1500 * time.Millisecond)}, 10*time.Second)
		if err != nil || len(summaries) != 1 || summaries[0].Count != messages*each-500 || len(buckets) != 16 || buckets[1].Count != 10000 {
			t.Fatal(summaries, buckets, err)
		}
	}
	check()
	e.now = func() time.Time { return day0.Add(72 * time.Hour) }
	if err := e.compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s := e.Stats(); s.Segments != 1 || s.Events != messages*each {
		t.Fatalf("%+v", s)
	}
	check()
}

// TestRoundTrip_oddColumns keeps what is not an object of strings, too, and
// what the names and values of a hostile agent are.
func TestRoundTrip_oddColumns(t *testing.T) {
	t.Parallel()
	many := map[string]string{}
	for i := range 3 * maxColumns {
		many[fmt.Sprint("column", i)] = fmt.Sprint(i)
	}
	wide, _ := json.Marshal(many)
	odd := []struct{ in, want string }{
		{`{}`, `{}`},
		{``, `{}`},
		{` { "b" : "2" , "a" : "" } `, `{"a":"","b":"2"}`},
		{`{"a":"1","a":"2"}`, `{"a":"2"}`},
		{`{"a":"\ud83d\ude00\u0000\/","\u00e9":"x"}`, `{"a":"😀\u0000/","é":"x"}`},
		{"{\"a\":\"bad \xff utf8\"}", `{"a":"bad � utf8"}`},
		{`{"a":"lone \ud800"}`, `{"a":"lone �"}`},
		{`{"a":1,"b":{"c":null}}`, `{"a":1,"b":{"c":null}}`},
		{`[1,2]`, `[1,2]`},
		{string(wide), ""},
	}
	e := open(t, testOptions(t, t.TempDir()))
	check := func() {
		t.Helper()
		got := search(t, e, event.Filter{})
		if len(got) != 2*len(odd) {
			t.Fatalf("%d records", len(got))
		}
		for i, r := range got {
			c := odd[len(odd)-1-i%len(odd)]
			if c.want != "" && string(r.Columns) != c.want {
				t.Errorf("%s came back as %s", c.in, r.Columns)
			}
			if c.want == "" {
				var back map[string]string
				if err := json.Unmarshal(r.Columns, &back); err != nil || !maps.Equal(back, many) {
					t.Errorf("wide row: %v", err)
				}
			}
		}
		for _, column := range []string{"column0", "column300", "column767"} {
			if got := search(t, e, event.Filter{Where: where(t, column+" = "+many[column])}); len(got) != 2 {
				t.Errorf("%s: %d rows", column, len(got))
			}
		}
	}
	for seq := uint64(1); seq <= 2; seq++ {
		b := event.Batch{NodeID: "n", HostIdentifier: "h", Received: day0}
		for i, c := range odd {
			b.Events = append(b.Events, event.Event{Time: day0.Add(time.Duration(i) + time.Duration(seq)*time.Hour), Query: "q", Columns: json.RawMessage(c.in)})
		}
		// Other columns are the frequent ones of the second segment.
		add(t, e, seq, b)
		if seq == 1 {
			flush(t, e)
		}
	}
	check()
	flush(t, e)
	check()
	e.now = func() time.Time { return day0.Add(72 * time.Hour) }
	if err := e.compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := e.Stats().Segments; n != 1 {
		t.Fatalf("%d segments", n)
	}
	check()
}

// TestOpen_layout1 opens what the version before wrote, searches it, and merges it
// with what is new.
func TestOpen_layout1(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("testdata/layout1")); err != nil {
		t.Fatal(err)
	}
	e := open(t, testOptions(t, dir))
	var all []event.Record
	for seq := uint64(1); seq <= 3; seq++ {
		at := day0.Add(time.Duration(seq) * time.Second)
		b := event.Batch{NodeID: "n1", HostIdentifier: "h1", Received: at, LogType: "result"}
		for i, path := range []string{fmt.Sprint("/bin/", seq), "/bin/x"} {
			b.Events = append(b.Events, event.Event{
				Time: at, Query: "q", Action: event.Added, Epoch: 1, Counter: int64(seq), Line: seq, Continues: i > 0,
				Columns: json.RawMessage(fmt.Sprintf(`{"path":%q}`, path)), Decorations: json.RawMessage(`{"d":"1"}`),
			})
		}
		if seq == 3 {
			b.Tags, b.Revision = []string{"new"}, 5
			add(t, e, seq, b)
		}
		all = append(all, expected(t, seq, []event.Batch{b})...)
	}
	checkSearch(t, e, all, event.Filter{})
	flush(t, e)
	e.now = func() time.Time { return day0.Add(72 * time.Hour) }
	if err := e.compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s := e.Stats(); s.Segments != 1 || s.Events != 6 {
		t.Fatalf("%+v", s)
	}
	checkSearch(t, e, all, event.Filter{})
}

// TestSegment_asOthersReadIt reads a segment by the library's row reader, which
// shares nothing with ours but the pages, and by the names that a person with
// another tool would use.
func TestSegment_asOthersReadIt(t *testing.T) {
	t.Parallel()
	type row struct {
		Time        time.Time `parquet:"_time,timestamp(microsecond)"`
		Received    time.Time `parquet:"_received,timestamp(microsecond)"`
		Seq         uint64    `parquet:"_seq"`
		Index       uint32    `parquet:"_index"`
		Node        string    `parquet:"_node_id"`
		Host        string    `parquet:"_host_identifier"`
		Query       string    `parquet:"_query"`
		Action      string    `parquet:"_action"`
		Epoch       int64     `parquet:"_epoch"`
		Counter     int64     `parquet:"_counter"`
		Line        uint64    `parquet:"_line"`
		Tags        *string   `parquet:"_tags,optional"`
		Revision    int64     `parquet:"_revision"`
		AgentTime   int64     `parquet:"_agent_time"`
		Decorations *string   `parquet:"_decorations,optional"`
		Rest        *string   `parquet:"_rest,optional"`
		Path        *string   `parquet:"path,optional"`
		Odd         *string   `parquet:"_x_a_2eb,optional"`
	}
	e := open(t, testOptions(t, t.TempDir()))
	add(t, e, 7, event.Batch{NodeID: "n", HostIdentifier: "h", Received: day0, Tags: []string{"db", "web"}, Revision: 3, Events: []event.Event{
		{Time: day0, AgentTime: 12, Query: "q/\xff", Action: event.Added, Epoch: 1, Counter: -2, Line: 1 << 63, Columns: json.RawMessage(`{"path":"","a.b":"x"}`)},
		{Time: day0.Add(time.Second), Query: "q/\xff", Action: event.Removed, Decorations: json.RawMessage(`{"d":"1"}`), Columns: json.RawMessage(`{"path":"/bin"}`)},
	}})
	flush(t, e)
	got, err := parquet.ReadFile[row](e.segments[0].path)
	if err != nil {
		t.Fatal(err)
	}
	text := func(s string) *string { return &s }
	want := []row{
		{Time: day0.Add(time.Second), Received: day0, Seq: 7, Index: 1, Node: "n", Host: "h", Query: "q/\uFFFD", Action: "removed", Tags: text(`["db","web"]`), Revision: 3, Decorations: text(`{"d":"1"}`), Path: text("/bin")},
		{Time: day0, Received: day0, Seq: 7, Node: "n", Host: "h", Query: "q/\uFFFD", Action: "added", Epoch: 1, Counter: -2, Line: 1 << 63, Tags: text(`["db","web"]`), Revision: 3, AgentTime: 12, Path: text(""), Odd: text("x")},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// TestCompact_manyColumns merges segments that together have more columns than
// one may have.
func TestCompact_manyColumns(t *testing.T) {
	t.Parallel()
	e := open(t, testOptions(t, t.TempDir()))
	var all []event.Record
	for seq := uint64(1); seq <= 3; seq++ {
		m := map[string]string{}
		for i := range 200 {
			m[fmt.Sprintf("c%d_%d", seq, i)] = fmt.Sprint("v", i)
		}
		wide, _ := json.Marshal(m)
		b := event.Batch{NodeID: "n", Received: day0, Events: []event.Event{
			{Time: day0, Query: "q", Columns: wide}, {Time: day0, Query: "q", Columns: json.RawMessage(`{"c2_7":"v7"}`)},
		}}
		add(t, e, seq, b)
		all = append(all, expected(t, seq, []event.Batch{b})...)
		flush(t, e)
	}
	e.now = func() time.Time { return day0.Add(72 * time.Hour) }
	if err := e.compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	checkSearch(t, e, all, event.Filter{})
	for _, c := range []string{"c1_0", "c1_199", "c2_7", "c3_150"} {
		checkSearch(t, e, all, event.Filter{Where: where(t, fmt.Sprintf("%q prefix v", c))})
	}
}

func TestAdd_copiesAndIgnoresOld(t *testing.T) {
	t.Parallel()
	e := open(t, testOptions(t, t.TempDir()))
	columns := []byte(`{"a":"1"}`)
	decorations := []byte(`{"d":"1"}`)
	b := event.Batch{NodeID: "n", Received: day0, Events: []event.Event{{Time: day0, Query: "q", Columns: columns, Decorations: decorations}}}
	add(t, e, 5, b)
	copy(columns, `{"X":"X"}`)
	copy(decorations, `{"X":"X"}`)
	add(t, e, 5, b)
	add(t, e, 4, b)
	got := search(t, e, event.Filter{})
	if len(got) != 1 || string(got[0].Columns) != `{"a":"1"}` || string(got[0].Decorations) != `{"d":"1"}` {
		t.Errorf("%+v", got)
	}
	if e.Seen() != 5 || e.Position() != 0 {
		t.Errorf("seen %d, position %d", e.Seen(), e.Position())
	}
	add(t, e, 9) // a message without events moves the position, too
	flush(t, e)
	if e.Seen() != 9 || e.Position() != 9 {
		t.Errorf("seen %d, position %d", e.Seen(), e.Position())
	}
}

// TestAdd_boundsMemory adds without anyone running the engine.
func TestAdd_boundsMemory(t *testing.T) {
	t.Parallel()
	o := testOptions(t, t.TempDir())
	o.FlushRows = 100
	e := open(t, o)
	for seq := uint64(1); seq <= 1000; seq++ {
		add(t, e, seq, event.Batch{Received: day0, Events: []event.Event{{Time: day0, Query: "q", Columns: json.RawMessage(`{}`)}}})
		if rows, _ := e.buffered(); rows > 125 {
			t.Fatalf("%d rows in memory", rows)
		}
	}
	if s := e.Stats(); s.Events != 1000 || s.Segments < 7 {
		t.Errorf("%+v", s)
	}
}

func TestRun_flushesByAgeAndAtTheEnd(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		o := testOptions(t, dir)
		o.Now = time.Now
		o.FlushAge = time.Minute
		o.Retention = 48 * time.Hour
		e, err := Open(o)
		if err != nil {
			t.Fatal(err)
		}
		defer e.Close()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- e.Run(ctx) }()
		one := func() event.Batch {
			return event.Batch{Received: time.Now(), Events: []event.Event{{Time: time.Now(), Query: "q", Columns: json.RawMessage(`{}`)}}}
		}
		add(t, e, 1, one())
		<-time.After(30 * time.Second)
		synctest.Wait()
		if e.Position() != 0 {
			t.Error("flushed too early")
		}
		<-time.After(45 * time.Second)
		synctest.Wait()
		if e.Position() != 1 {
			t.Error("not flushed by age")
		}
		<-time.After(96 * time.Hour)
		synctest.Wait()
		if s := e.Stats(); s.Events != 0 {
			t.Errorf("not expired: %+v", s)
		}
		add(t, e, 2, one())
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if e.Position() != 2 {
			t.Error("not flushed at the end")
		}
	})
}

func TestOpen_refuses(t *testing.T) {
	t.Parallel()
	o := testOptions(t, t.TempDir())
	if _, err := Open(Options{Dir: o.Dir}); err == nil {
		t.Error("opened without a log")
	}
	e := open(t, o)
	if _, err := Open(o); err == nil {
		t.Error("opened twice")
	}
	add(t, e, 1, event.Batch{Received: day0, Events: []event.Event{{Time: day0, Query: "q", Columns: json.RawMessage(`{}`)}}})
	flush(t, e)
	if err := errors.Join(e.Close(), e.Close()); err != nil {
		t.Fatal(err)
	}
	if err := e.Add(2, nil); !errors.Is(err, errClosed) {
		t.Errorf("add after close: %v", err)
	}
	if _, err := e.Search(t.Context(), event.Filter{}); !errors.Is(err, errClosed) {
		t.Errorf("search after close: %v", err)
	}
	path := filepath.Join(o.Dir, manifestName)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{
		"torn": good[:len(good)/2], "empty": {}, "changed": bytes.Replace(good, []byte(`"rows": 1`), []byte(`"rows": 2`), 1),
		"other version": bytes.Replace(good, []byte(`"version": 1`), []byte(`"version": 2`), 1),
	} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(o); err == nil {
			t.Errorf("opened with a manifest that is %s", name)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(o); err == nil {
		t.Error("opened segments without a manifest")
	}
	if err := os.WriteFile(path, good, 0o600); err != nil {
		t.Fatal(err)
	}
	if e := open(t, o); e.Stats().Events != 1 {
		t.Error("refused opens changed something")
	}
}

func TestOpen_deletesLeftovers(t *testing.T) {
	t.Parallel()
	o := testOptions(t, t.TempDir())
	e := open(t, o)
	add(t, e, 1, event.Batch{Received: day0, Events: []event.Event{{Time: day0, Query: "q", Columns: json.RawMessage(`{}`)}}})
	flush(t, e)
	e.Close()
	for _, name := range []string{"2026-11-20/torn.parquet", "2026-11-21/x.parquet", "manifest.json.tmp", "notes.txt", "2026-11-20/notes.txt"} {
		path := filepath.Join(o.Dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte("PAR1"), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	e = open(t, o)
	if got := search(t, e, event.Filter{}); len(got) != 1 {
		t.Errorf("found %d", len(got))
	}
	found, err := e.segmentFiles()
	if err != nil || len(found) != 1 {
		t.Errorf("left %v, %v", found, err)
	}
	for _, name := range []string{"notes.txt", "2026-11-20/notes.txt"} {
		if _, err := os.Stat(filepath.Join(o.Dir, name)); err != nil {
			t.Errorf("deleted what is not ours: %v", err)
		}
	}
	if _, err := os.Stat(filepath.Join(o.Dir, "2026-11-21")); err == nil {
		t.Error("left an empty day")
	}
}

// TestDamage damages segments while open and closed: the others are served,
// and the loss is told.
func TestDamage(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(path string) error{
		"missing": os.Remove,
		"torn":    func(path string) error { return os.Truncate(path, 100) },
		"changed": func(path string) error {
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			for i := range b {
				if i > 10 && i < len(b)-10 {
					b[i] ^= 0x55
				}
			}
			return os.WriteFile(path, b, 0o600)
		},
	} {
		for _, running := range []bool{false, true} {
			t.Run(fmt.Sprint(name, " running=", running), func(t *testing.T) {
				t.Parallel()
				var logged bytes.Buffer
				o := testOptions(t, t.TempDir())
				o.Log = slog.New(slog.NewTextHandler(&logged, nil))
				e := open(t, o)
				for i, q := range []string{"good", "bad"} {
					add(t, e, uint64(i+1), event.Batch{Received: day0, Events: []event.Event{{Time: day0, Query: q, Columns: json.RawMessage(`{"a":"b"}`)}}})
				}
				flush(t, e)
				var path string
				for _, s := range e.segments {
					if s.Query == "bad" {
						path = s.path
					}
				}
				if !running {
					e.Close()
				}
				if err := damage(path); err != nil {
					t.Fatal(err)
				}
				if !running {
					e = open(t, o)
				}
				first, err := e.Search(t.Context(), event.Filter{})
				if err != nil {
					if !errors.Is(err, ErrCorrupt) {
						t.Fatal(err)
					}
				} else if running || name == "changed" {
					t.Fatalf("no error, found %d", len(first.Records))
				}
				got := search(t, e, event.Filter{})
				if len(got) != 1 || got[0].Query != "good" {
					t.Errorf("%+v", got)
				}
				if !strings.Contains(logged.String(), "level=ERROR") {
					t.Errorf("log: %s", logged.String())
				}
				e.Close()
				e = open(t, o)
				if len(e.lost) != 1 || e.lost[0].Segment.Query != "bad" || e.Position() != 2 {
					t.Errorf("lost %+v, position %d", e.lost, e.Position())
				}
				kept, _ := filepath.Glob(filepath.Join(o.Dir, quarantineDir, "*"))
				if want := 1; name != "missing" && len(kept) != want {
					t.Errorf("in quarantine: %v", kept)
				}
			})
		}
	}
}

// TestFlush_failure keeps events in memory when they cannot be written.
func TestFlush_failure(t *testing.T) {
	t.Parallel()
	o := testOptions(t, t.TempDir())
	e := open(t, o)
	one := event.Batch{Received: day0, Events: []event.Event{{Time: day0, Query: "q", Columns: json.RawMessage(`{}`)}}}
	add(t, e, 1, one)
	blocker := filepath.Join(o.Dir, "2026-11-20")
	if err := os.WriteFile(blocker, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := e.Flush(t.Context()); err == nil {
		t.Fatal("no error")
	}
	add(t, e, 2, one)
	if got := search(t, e, event.Filter{}); len(got) != 2 || e.Position() != 0 || e.Stats().Events != 2 {
		t.Errorf("found %d, position %d", len(got), e.Position())
	}
	if err := os.Remove(blocker); err != nil {
		t.Fatal(err)
	}
	flush(t, e)
	if got := search(t, e, event.Filter{}); len(got) != 2 || e.Position() != 2 {
		t.Errorf("found %d, position %d", len(got), e.Position())
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	add(t, e, 3, one)
	if err := e.Flush(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("flush: %v", err)
	}
	if _, err := e.Search(ctx, event.Filter{}); !errors.Is(err, context.Canceled) {
		t.Errorf("search: %v", err)
	}
	if _, _, err := e.Queries(t.Context(), event.Filter{}, -1); !errs.Is(err, errs.Invalid) {
		t.Errorf("queries: %v", err)
	}
}

// TestConcurrent searches while events are added, flushed and merged: each
// search sees a prefix of the stream, every event once.
func TestConcurrent(t *testing.T) {
	t.Parallel()
	o := testOptions(t, t.TempDir())
	o.FlushRows = 200
	o.Now = func() time.Time { return day0.Add(72 * time.Hour) } // merge eagerly
	e := open(t, o)
	const messages, each = 120, 10
	kv := where(t, "k = v")
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for range 2 {
		wg.Go(func() {
			for {
				seen := e.Seen()
				page, err := e.Search(context.Background(), event.Filter{Where: kv})
				if err != nil {
					t.Error(err)
					return
				}
				got := page.Records
				for i, r := range got {
					if want := uint64((len(got) - 1 - i) / each); r.Seq != want+1 || r.Index != uint32((len(got)-1-i)%each) {
						t.Errorf("record %d of %d is %d/%d", i, len(got), r.Seq, r.Index)
						return
					}
				}
				if len(got)%each != 0 || uint64(len(got)) < seen*each {
					t.Errorf("%d records, %d messages seen before", len(got), seen)
					return
				}
				_ = e.Stats()
				if _, _, err := e.Queries(context.Background(), event.Filter{}, time.Hour); err != nil {
					t.Error(err)
				}
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	wg.Go(func() {
		for ctx.Err() == nil {
			if err := errors.Join(e.Flush(ctx), e.compact(ctx)); err != nil && ctx.Err() == nil {
				t.Error(err)
				return
			}
			e.files.forgetAll()
		}
	})
	for seq := uint64(1); seq <= messages; seq++ {
		b := event.Batch{NodeID: "n", Received: day0}
		for i := range each {
			b.Events = append(b.Events, event.Event{Time: day0, Query: fmt.Sprint("q", i%3), Columns: json.RawMessage(`{"k":"v"}`)})
		}
		add(t, e, seq, b)
	}
	cancel()
	close(stop)
	wg.Wait()
	flush(t, e)
	if err := e.compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := e.Stats(); got.Events != messages*each || got.Segments != 3 {
		t.Errorf("%+v", got)
	}
	e.removed.purge(math.MaxInt64)
	files, err := e.segmentFiles()
	if err != nil || len(files) != 3 {
		t.Errorf("%d files, %v", len(files), err)
	}
}
