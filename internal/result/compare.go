package result

import (
	"context"
	"hash/maphash"
	"iter"
	"slices"
	"strings"

	"github.com/valyala/fastjson"

	"github.com/musterhq/muster/internal/live"
)

// Comparison is what a live query has that another had not, and the other way
// round. Only nodes that answered both are compared: the rows of one that did
// not answer are neither new nor gone.
type Comparison struct {
	Added, Gone           []Row // by node, as many as asked for
	AddedTotal, GoneTotal int
	Same                  int
	Nodes                 int // that answered both
	OnlyNew, OnlyOld      int // that answered one
	// Cut is how many of Nodes sent more than is kept, in one of the two: some of
	// their rows may be taken for new or gone that are not.
	Cut int
}

// Compare compares the rows of a live query with those of another, former one.
// Nodes are the same if they have one id, or else one host identifier, as after
// they were removed and enrolled again. Rows are the same if they have the same
// columns with the same values, in any order; a row that is there twice counts
// twice.
func (r *Reader) Compare(ctx context.Context, id, former string, limit int) (Comparison, error) {
	out := Comparison{Added: []Row{}, Gone: []Row{}}
	newer, err := r.hosts(ctx, id)
	if err != nil {
		return out, err
	}
	older, err := r.hosts(ctx, former)
	if err != nil {
		return out, err
	}
	pairs := match(newer, older)
	out.Nodes, out.OnlyNew, out.OnlyOld = len(pairs), len(newer)-len(pairs), len(older)-len(pairs)
	fresh, stopFresh := r.stream(ctx, id, pairs, func(p pair) host { return p.newer })
	defer stopFresh()
	// The former ids are in the order of the new ones but for nodes that enrolled
	// anew. Those are read one by one.
	past, stopPast := r.stream(ctx, former, slices.DeleteFunc(slices.Clone(pairs), pair.moved), func(p pair) host { return p.older })
	defer stopPast()
	c := &comparer{seed: maphash.MakeSeed(), limit: limit, out: &out}
	for _, p := range pairs {
		if err := ctx.Err(); err != nil {
			return out, err
		}
		a, err := fresh(p.newer)
		if err != nil {
			return out, err
		}
		var b []byte
		if p.moved() {
			b, err = r.rowsOf(ctx, former, p.older)
		} else {
			b, err = past(p.older)
		}
		if err != nil {
			return out, err
		}
		if p.newer.cut || p.older.cut {
			out.Cut++
		}
		if err := c.node(p, a, b); err != nil {
			return out, err
		}
	}
	return out, nil
}

// host is a node that answered.
type host struct {
	Node

	rows bool
	cut  bool
}

func (r *Reader) hosts(ctx context.Context, id string) ([]host, error) {
	var list []host
	err := r.targets(ctx, id, answered(), "", func(page []live.Target) error {
		for _, t := range page {
			list = append(list, host{Node{t.NodeID, t.HostIdentifier, t.Hostname}, t.State != live.Empty, t.Cut || t.State == live.OverLimit})
		}
		return ctx.Err()
	})
	return list, err
}

// pair is one node in both queries.
type pair struct{ newer, older host }

func (p pair) moved() bool { return p.newer.ID != p.older.ID }

// match returns the nodes of both, by their new id.
func match(newer, older []host) []pair {
	byID, byName := map[string]host{}, map[string][]host{}
	for _, h := range older {
		byID[h.ID] = h
	}
	var pairs []pair
	var rest []host
	for _, h := range newer {
		if o, ok := byID[h.ID]; ok {
			pairs = append(pairs, pair{h, o})
			delete(byID, h.ID)
		} else {
			rest = append(rest, h)
		}
	}
	for _, h := range byID {
		byName[h.HostIdentifier] = append(byName[h.HostIdentifier], h)
	}
	names := map[string]int{}
	for _, h := range rest {
		names[h.HostIdentifier]++
	}
	for _, h := range rest {
		// Of two machines with one identifier nobody knows which was which.
		if o := byName[h.HostIdentifier]; len(o) == 1 && names[h.HostIdentifier] == 1 {
			pairs = append(pairs, pair{h, o[0]})
		}
	}
	slices.SortFunc(pairs, func(a, b pair) int { return strings.Compare(a.newer.ID, b.newer.ID) })
	return pairs
}

// stream returns a function that returns the rows of nodes, which must be asked
// for in the order of the pairs. Stop it in the end.
func (r *Reader) stream(ctx context.Context, id string, pairs []pair, side func(pair) host) (next func(host) ([]byte, error), stop func()) {
	var ids []string
	for _, p := range pairs {
		if h := side(p); h.rows {
			ids = append(ids, h.ID)
		}
	}
	var failed error
	pull, stop := iter.Pull2(func(yield func(string, []byte) bool) {
		failed = r.store.LiveRows(ctx, id, ids, func(i int, rows []byte) error {
			if !yield(ids[i], rows) {
				return errEnough
			}
			return nil
		})
	})
	var ahead string
	var rows []byte
	more, begun := true, false
	return func(h host) ([]byte, error) {
		if !h.rows {
			return nil, nil
		}
		for more && (!begun || ahead < h.ID) {
			ahead, rows, more = pull()
			begun = true
		}
		if !more && failed != nil {
			return nil, failed
		}
		if !more || ahead != h.ID {
			return nil, nil
		}
		return rows, nil
	}, stop
}

func (r *Reader) rowsOf(ctx context.Context, id string, h host) (rows []byte, err error) {
	if !h.rows {
		return nil, nil
	}
	err = r.store.LiveRows(ctx, id, []string{h.ID}, func(_ int, data []byte) error { rows = data; return nil })
	return rows, err
}

// comparer compares the rows of one node after the other.
type comparer struct {
	seed  maphash.Seed // agents cannot make two rows that are taken for one
	limit int
	size  int // of the rows that are told
	out   *Comparison

	newer, older fastjson.Parser
}

func (c *comparer) node(p pair, newer, older []byte) error {
	counts := map[uint64]int{}
	err := c.each(&c.older, p.older, older, func(v *view) { counts[c.hash(v)]++ })
	if err != nil {
		return err
	}
	err = c.each(&c.newer, p.newer, newer, func(v *view) {
		if h := c.hash(v); counts[h] > 0 {
			counts[h]--
			c.out.Same++
			return
		}
		c.out.AddedTotal++
		c.out.Added = c.keep(c.out.Added, v)
	})
	if err != nil {
		return err
	}
	return c.each(&c.older, p.older, older, func(v *view) {
		if h := c.hash(v); counts[h] > 0 {
			counts[h]--
			c.out.GoneTotal++
			c.out.Gone = c.keep(c.out.Gone, v)
		}
	})
}

func (c *comparer) each(parser *fastjson.Parser, h host, rows []byte, yield func(*view)) error {
	if rows == nil {
		return nil
	}
	v := view{node: h.Node}
	return v.each(parser, rows, func(v *view) error { yield(v); return nil })
}

// keep adds a row to those that are told.
func (c *comparer) keep(rows []Row, v *view) []Row {
	if len(rows) >= c.limit || c.size > pageBytes {
		return rows
	}
	row := v.copy()
	c.size += row.size()
	return append(rows, row)
}

// hash is the same for rows that have the same columns in any order.
func (c *comparer) hash(v *view) uint64 {
	var sum uint64
	v.row.Visit(func(key []byte, value *fastjson.Value) {
		var h maphash.Hash
		h.SetSeed(c.seed)
		_, _ = h.Write(key)
		_ = h.WriteByte(0)
		if value.Type() == fastjson.TypeString {
			_, _ = h.Write(value.GetStringBytes())
		} else {
			_, _ = h.WriteString(value.String())
		}
		sum += h.Sum64()
	})
	return sum
}
