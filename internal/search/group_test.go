package search

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/event"
)

// recordValues returns what a record has of a column or stamp, as text; "-" for
// nothing.
func recordValues(r *event.Record, name string) []string {
	var columns, decorations map[string]string
	_ = json.Unmarshal(r.Columns, &columns)
	_ = json.Unmarshal(r.Decorations, &decorations)
	value, ok := "", true
	switch name {
	case event.StampNode:
		value = r.NodeID
	case event.StampQuery:
		value = strings.ToValidUTF8(r.Query, "\uFFFD")
	case event.StampAction:
		value = r.Action
	case event.StampRevision:
		value, ok = fmt.Sprint(r.Revision), r.Revision != 0
	case event.StampReceived:
		value = event.TimeText(r.Received.UnixMicro())
	case event.StampTag:
		if len(r.Tags) > 0 {
			var tags []string
			for _, t := range r.Tags {
				tags = append(tags, "="+t)
			}
			return tags
		}
		ok = false
	case "@decoration.host":
		value, ok = decorations["host"]
	default:
		value, ok = columns[name]
	}
	if !ok {
		return []string{"-"}
	}
	return []string{"=" + value}
}

type counted struct {
	events int64
	nodes  map[string]bool
	last   time.Time
	times  map[int64]int64
}

// countReference counts by brute force.
func countReference(all []event.Record, c event.Counting) map[string]*counted {
	f := c.Filter
	f.Limit, f.Before, f.Oldest = 0, event.Position{}, false
	groups := map[string]*counted{}
	for _, r := range reference(all, f) {
		keys := []string{""}
		for _, name := range c.By {
			var longer []string
			for _, k := range keys {
				for _, v := range recordValues(&r, name) {
					longer = append(longer, k+"|"+v)
				}
			}
			keys = longer
		}
		for _, k := range keys {
			g := groups[k]
			if g == nil {
				g = &counted{nodes: map[string]bool{}, times: map[int64]int64{}}
				groups[k] = g
			}
			g.events++
			g.nodes[r.NodeID] = true
			if r.Time.After(g.last) {
				g.last = r.Time
			}
			g.times[r.Time.UnixMicro()/c.Width.Microseconds()]++
		}
	}
	return groups
}

func checkCount(t *testing.T, e *Engine, g *generator, f event.Filter) {
	t.Helper()
	c := event.Counting{Filter: f, Width: 7 * time.Minute, Nodes: true}
	for range g.IntN(3) {
		c.By = append(c.By, g.one("path", "pid", "name", "a.b", "none", "@node", "@query", "@action", "@tag", "@decoration.host", "@revision", "@received"))
	}
	c.Limit = 1 + g.IntN(6)
	want := countReference(g.all, c)
	if g.IntN(2) == 0 {
		c.Nodes, c.Width = false, 0
	}
	got, err := e.Count(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	f.Limit, f.Before, f.Oldest = 0, event.Position{}, false
	found := reference(g.all, f)
	nodes := map[string]bool{}
	for _, r := range found {
		nodes[r.NodeID] = true
	}
	if got.Events != int64(len(found)) || c.Nodes && got.Nodes != len(nodes) || got.Cut || got.Done != got.Total {
		t.Fatalf("%+v: %d events, %d nodes, %+v; want %d, %d", c, got.Events, got.Nodes, got.Progress, len(found), len(nodes))
	}
	if len(got.Groups) != min(c.Limit, len(want)) || got.OtherGroups != len(want)-len(got.Groups) {
		t.Fatalf("%+v: %d groups and %d others; want %d", c, len(got.Groups), got.OtherGroups, len(want))
	}
	for i, group := range got.Groups {
		key := ""
		for _, v := range group.Values {
			if key += "|-"; !v.Absent {
				key = key[:len(key)-1] + "=" + v.Text
			}
		}
		w := want[key]
		if w == nil {
			t.Fatalf("%+v: group %q is not there, or twice", c, key)
		}
		delete(want, key)
		times := map[int64]int64{}
		for _, b := range group.Buckets {
			times[b.Start.UnixMicro()/c.Width.Microseconds()] = b.Count
		}
		if group.Events != w.events || !group.Last.Equal(w.last) || c.Nodes && (group.Nodes != len(w.nodes) || !maps.Equal(times, w.times)) {
			t.Fatalf("%+v: group %q is %+v, want %+v", c, key, group, w)
		}
		if i > 0 && group.Events > got.Groups[i-1].Events {
			t.Fatalf("%+v: group %d is larger than the one before", c, i)
		}
	}
	var others int64
	for _, w := range want {
		others += w.events
		if len(got.Groups) > 0 && w.events > got.Groups[len(got.Groups)-1].Events {
			t.Fatalf("%+v: a group of %d is among the others", c, w.events)
		}
	}
	if got.Others.Events != others {
		t.Fatalf("%+v: %d others, want %d", c, got.Others.Events, others)
	}
}

func TestNodeSet(t *testing.T) {
	t.Parallel()
	g := newGenerator(1)
	for _, most := range []int{10, 16, 17, 5000} {
		var s nodeSet
		want := map[uint32]bool{}
		words := 0
		for range 2000 {
			n := uint32(g.IntN(most))
			want[n] = true
			words += s.add(n)
		}
		if s.n != len(want) || words < len(s.bits)+len(s.few) {
			t.Errorf("%d numbers, want %d; %d words", s.n, len(want), words)
		}
	}
}

// TestSearch_cut: a search whose time is over again and again finds everything
// once, in order; and counts say what they did not read.
func TestSearch_cut(t *testing.T) {
	t.Parallel()
	g := newGenerator(7)
	e := open(t, testOptions(t, t.TempDir()))
	var clock time.Duration
	e.steady = func() time.Duration { clock += time.Second; return clock }
	for range 30 {
		seq, batches := g.message(t)
		add(t, e, seq, batches...)
		if g.IntN(6) == 0 {
			flush(t, e)
		}
	}
	for _, oldest := range []bool{false, true} {
		f := event.Filter{Limit: 7, Oldest: oldest, MaxTime: time.Nanosecond, Where: where(t, "not path exists")}
		var got []event.Record
		pages, cut := 0, 0
		for {
			page, err := e.Search(t.Context(), f)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, page.Records...)
			pages++
			if page.Cut {
				cut++
			}
			if page.Next.IsZero() {
				break
			}
			if f.Before = page.Next; pages > 10_000 {
				t.Fatal("it does not get to an end")
			}
		}
		want := reference(g.all, event.Filter{Oldest: oldest, Where: f.Where})
		if diff := cmp.Diff(textsOf(t, want), textsOf(t, got)); diff != "" {
			t.Fatalf("oldest first %v (-want +got):\n%s", oldest, diff)
		}
		if cut < 3 {
			t.Errorf("oldest first %v: %d of %d pages were cut", oldest, cut, pages)
		}
	}
	groups, err := e.Count(t.Context(), event.Counting{Filter: event.Filter{MaxTime: time.Nanosecond}, By: []string{"path"}})
	if err != nil || !groups.Cut || groups.Done >= groups.Total {
		t.Errorf("%+v, %v", groups.Progress, err)
	}
	if _, err := e.State(t.Context(), event.Filter{Query: "pack_a_users", MaxTime: time.Nanosecond}, ""); !errs.Is(err, errs.TooLarge) {
		t.Errorf("a state without time: %v", err)
	}
}

// host is a node whose results of a query are known.
type host struct {
	id             string
	rows           []string
	epoch, counter int64
	fresh          bool // the next run logs all rows as added
}

// run is what the agent logs when the rows change to others.
func (h *host) run(rows []string, at time.Time, snapshot bool, line uint64) event.Batch {
	b := event.Batch{NodeID: h.id, HostIdentifier: "h-" + h.id, Received: at}
	say := func(action, row string) {
		b.Events = append(b.Events, event.Event{
			Time: at, Query: "q", Action: action, Epoch: h.epoch, Counter: h.counter, Columns: json.RawMessage(row), Line: line, Continues: snapshot && len(b.Events) > 0,
		})
		if !snapshot {
			line++
		}
	}
	switch {
	case snapshot:
		for _, r := range rows {
			say(event.Snapshot, r)
		}
		if len(rows) == 0 {
			say(event.Snapshot, "{}")
		}
	case h.fresh:
		h.counter = 0
		for _, r := range rows {
			say(event.Added, r)
		}
	default:
		h.counter++
		before := slices.Clone(h.rows)
		var added []string
		for _, r := range rows {
			if i := slices.Index(before, r); i >= 0 {
				before = slices.Delete(before, i, i+1)
			} else {
				added = append(added, r)
			}
		}
		for _, r := range before {
			say(event.Removed, r)
		}
		for _, r := range added {
			say(event.Added, r)
		}
	}
	h.rows, h.fresh = rows, false
	return b
}

// TestState compares with hosts whose rows are known, through flushes, merges, new
// beginnings and both kinds of queries.
func TestState(t *testing.T) {
	t.Parallel()
	for seed := range uint64(3) {
		g := newGenerator(seed)
		e := open(t, testOptions(t, t.TempDir()))
		hosts := []*host{{id: "a", fresh: true}, {id: "b", fresh: true}, {id: "c", fresh: true}}
		seq, line := uint64(0), uint64(0)
		var truths []map[string][]string
		for step := range 40 {
			h := hosts[g.IntN(3)]
			if g.IntN(8) == 0 {
				h.fresh = true
				h.epoch += g.Int64N(2)
			}
			var rows []string
			for range 1 + g.IntN(4) {
				rows = append(rows, fmt.Sprintf(`{"n":"%d"}`, g.IntN(4)))
			}
			snapshot := h.id == "c"
			if snapshot && g.IntN(4) == 0 {
				rows = nil
			}
			seq++
			line += 100
			b := h.run(rows, day0.Add(time.Duration(step)*time.Minute), snapshot, line)
			add(t, e, seq, b)
			if g.IntN(5) == 0 {
				flush(t, e)
			}
			truth := map[string][]string{}
			for _, h := range hosts {
				truth[h.id] = slices.Sorted(slices.Values(h.rows))
			}
			truths = append(truths, truth)
		}
		check := func() {
			t.Helper()
			for _, step := range []int{39, 30, 12} {
				for _, text := range []string{"", "n = 2", "not n in (1, 2)"} {
					checkState(t, e, truths[step], day0.Add(time.Duration(step)*time.Minute+1), text)
				}
			}
		}
		check()
		flush(t, e)
		e.now = func() time.Time { return day0.Add(72 * time.Hour) }
		if err := e.compact(t.Context()); err != nil {
			t.Fatal(err)
		}
		check()
	}
}

func checkState(t *testing.T, e *Engine, truth map[string][]string, at time.Time, text string) {
	t.Helper()
	x := where(t, text)
	want := map[string][]string{}
	for id, rows := range truth {
		for _, r := range rows {
			if passes(x, &event.Record{Event: event.Event{Columns: json.RawMessage(r)}}) {
				want[id] = append(want[id], r)
			}
		}
	}
	got := map[string][]string{}
	var after string
	var nodes int
	for {
		st, err := e.State(t.Context(), event.Filter{Query: "q", Until: at, Where: x, Limit: 3}, after)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range st.Rows {
			if r.Partial || r.HostIdentifier != "h-"+r.NodeID {
				t.Errorf("%+v", r)
			}
			got[r.NodeID] = append(got[r.NodeID], string(r.Columns))
		}
		nodes = st.Nodes
		if after = st.Next; after == "" {
			break
		}
	}
	for _, rows := range got {
		slices.Sort(rows)
	}
	// A node with more rows than a page has is cut.
	for id, rows := range want {
		if len(rows) > 3 {
			delete(want, id)
			delete(got, id)
			nodes--
		}
	}
	if diff := cmp.Diff(want, got); diff != "" || nodes != len(want) {
		t.Fatalf("state at %s where %s, %d nodes (-want +got):\n%s", at, text, nodes, diff)
	}
}

// TestState_odd: rows from before what is kept, nodes alone, what cannot be asked.
func TestState_odd(t *testing.T) {
	t.Parallel()
	e := open(t, testOptions(t, t.TempDir()))
	b := event.Batch{NodeID: "a", Received: day0, Events: []event.Event{
		{Time: day0, Query: "q", Action: event.Added, Counter: 5, Columns: json.RawMessage(`{"n":"1"}`)},
		{Time: day0, Query: "q", Action: event.Removed, Counter: 5, Columns: json.RawMessage(`{"n":"2"}`)},
	}}
	other := b
	other.NodeID = "b"
	add(t, e, 1, b, other)
	for range 2 {
		st, err := e.State(t.Context(), event.Filter{Query: "q", NodeID: "b"}, "")
		if err != nil || len(st.Rows) != 1 || !st.Rows[0].Partial || st.Rows[0].NodeID != "b" || st.Known != 1 || st.Nodes != 1 {
			t.Errorf("%+v, %v", st, err)
		}
		flush(t, e)
	}
	for _, f := range []event.Filter{{}, {Query: "q*"}, {Query: "q", Where: where(t, "a = 1 or not @tag = web")}} {
		if _, err := e.State(t.Context(), f, ""); !errs.Is(err, errs.Invalid) {
			t.Errorf("%+v: %v", f, err)
		}
	}
}
