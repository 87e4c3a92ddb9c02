package result

import (
	"cmp"
	"container/heap"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/valyala/fastjson"

	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/event"
	"github.com/musterhq/muster/internal/policy"
)

// Ask says which rows are wanted. Of its zero value come the first rows, by node.
type Ask struct {
	Where  []event.Condition
	Sort   string // a column, or node_id, host_identifier or hostname
	Desc   bool
	Limit  int
	Cursor string // Next of the page before
	// Declared are the columns that the SELECT tells, if it is understood.
	Declared []policy.ResultColumn
	// Total is how many rows there are.
	Total int
}

// Page is some rows.
type Page struct {
	Columns []Column
	Rows    []Row
	Matched int
	Next    string // "" on the last page
}

// pageBytes ends a page before its limit, so that rows of megabytes do not fill
// the memory. One row is always in it.
const pageBytes = 16 << 20

// Page returns a page of rows. Sorted by a column they are looked at twice: for
// the order only its values are held.
func (r *Reader) Page(ctx context.Context, id string, a Ask) (Page, error) {
	at, err := a.open()
	if err != nil {
		return Page{}, err
	}
	if a.Sort == "" && len(a.Where) == 0 {
		return r.first(ctx, id, a, at)
	}
	seen := newColumns(a.Declared)
	top := a.tops(at)
	page := Page{}
	err = r.scan(ctx, id, "", func(v *view) error {
		seen.add(v)
		if !v.match(a.Where) {
			return nil
		}
		page.Matched++
		var value string
		found := false
		if a.Sort != "" {
			value, found = v.cell(a.Sort)
		}
		top.offer(place{value: cut(value), found: found, node: v.node, index: v.index})
		return nil
	})
	if err != nil {
		return Page{}, err
	}
	if _, known := (Node{}).cell(a.Sort); a.Sort != "" && !known && !seen.has(a.Sort) && a.Total > 0 {
		return Page{}, errs.Field("sort", "no row has a column %s", clean(a.Sort))
	}
	best := top.best()
	page.Columns = seen.list()
	places := best.sorted()
	if page.Rows, err = r.load(ctx, id, places); err != nil {
		return Page{}, err
	}
	if n := len(page.Rows); n < len(places) || best.more {
		page.Next, err = a.seal(places[n-1], "", best.numeric)
	}
	return page, err
}

// errEnough ends a scan early.
var errEnough = errors.New("enough rows")

// first returns a page of rows by node, of which no more need be looked at.
func (r *Reader) first(ctx context.Context, id string, a Ask, at *cursor) (Page, error) {
	if at == nil {
		at = &cursor{Index: -1}
	}
	seen := newColumns(a.Declared)
	page := Page{Matched: a.Total, Rows: []Row{}}
	size := 0
	last, before := place{node: Node{ID: at.Node}}, at.Before
	err := r.scan(ctx, id, at.Before, func(v *view) error {
		if v.node.ID < at.Node || v.node.ID == at.Node && v.index <= at.Index {
			return nil
		}
		if len(page.Rows) == a.Limit || size > pageBytes {
			return errEnough
		}
		seen.add(v)
		row := v.copy()
		size += row.size()
		page.Rows = append(page.Rows, row)
		if last.node.ID != v.node.ID {
			before = last.node.ID
		}
		last = place{node: v.node, index: v.index}
		return nil
	})
	page.Columns = seen.list()
	if errors.Is(err, errEnough) {
		page.Next, err = a.seal(last, before, false)
	}
	return page, err
}

// size is about what a row takes.
func (r Row) size() int {
	const names = 128 // of the node, and around
	n := names
	for _, c := range r.Columns {
		n += len(c.Name) + len(c.Value) + 8
	}
	return n
}

// load returns the rows at places, as many as pageBytes allow.
func (r *Reader) load(ctx context.Context, id string, places []place) ([]Row, error) {
	byNode := map[string][]int{} // indexes of places
	for i, p := range places {
		byNode[p.node.ID] = append(byNode[p.node.ID], i)
	}
	rows, done := make([]Row, len(places)), make([]bool, len(places))
	var parser fastjson.Parser
	size := 0
	for i, p := range places {
		if done[i] {
			continue
		}
		if size > pageBytes && i > 0 {
			// Rows of nodes that were read may lie behind; the page has no gaps.
			return rows[:i], nil
		}
		wanted := map[int]int{}
		for _, j := range byNode[p.node.ID] {
			wanted[places[j].index] = j
		}
		v := view{node: p.node}
		err := r.store.LiveRows(ctx, id, []string{p.node.ID}, func(_ int, data []byte) error {
			return v.each(&parser, data, func(v *view) error {
				j, ok := wanted[v.index]
				if ok && (size <= pageBytes || j == i) {
					rows[j], done[j] = v.copy(), true
					size += rows[j].size()
				}
				return nil
			})
		})
		if err != nil {
			return nil, err
		}
		if !done[i] { // nobody removes rows but with the whole query
			return nil, errs.New(errs.NotFound, "the live query was removed meanwhile")
		}
	}
	return rows, nil
}

// place is where a row stands.
type place struct {
	value string // of the column that is sorted by, cut
	found bool
	node  Node
	index int
}

// maxSortText is how much of a text decides its order; it is in memory for each
// row of a page, and in the cursor.
const maxSortText = 512

func cut(value string) string {
	if len(value) > maxSortText {
		return strings.ToValidUTF8(value[:maxSortText], "")
	}
	return value
}

// key is a place with what its value means.
type key struct {
	place

	class  int // 0 no such column, 1 text, 2 number: in this order
	number number
}

func (p place) key(numeric bool) key {
	k := key{place: p}
	switch n, ok := parseNumber(p.value); {
	case !p.found:
	case numeric && ok:
		k.class, k.number = 2, n
	default:
		k.class = 1
	}
	return k
}

func (k *key) compare(l *key) int {
	c := cmp.Compare(k.class, l.class)
	if c == 0 {
		switch k.class {
		case 1:
			c = strings.Compare(k.value, l.value)
		case 2: //nolint:mnd // see key
			c = k.number.compare(l.number)
		}
	}
	return cmp.Or(c, strings.Compare(k.node.ID, l.node.ID), cmp.Compare(k.index, l.index))
}

// top holds the first places that were offered to it.
type top struct {
	numeric bool
	desc    bool
	limit   int
	after   *key
	keys    []key // a heap, the last one first
	more    bool
}

func (t *top) less(k, l *key) bool {
	if t.desc {
		return k.compare(l) > 0
	}
	return k.compare(l) < 0
}

// Len, Less, Swap, Push and Pop implement heap.Interface.
func (t *top) Len() int           { return len(t.keys) }
func (t *top) Less(i, j int) bool { return t.less(&t.keys[j], &t.keys[i]) }
func (t *top) Swap(i, j int)      { t.keys[i], t.keys[j] = t.keys[j], t.keys[i] }
func (t *top) Push(x any)         { k, _ := x.(key); t.keys = append(t.keys, k) }
func (t *top) Pop() any {
	last := t.keys[len(t.keys)-1]
	t.keys = t.keys[:len(t.keys)-1]
	return last
}

func (t *top) offer(p place) {
	k := p.key(t.numeric)
	if t.after != nil && !t.less(t.after, &k) {
		return
	}
	if len(t.keys) < t.limit {
		heap.Push(t, k)
		return
	}
	t.more = true
	if t.less(&k, &t.keys[0]) {
		t.keys[0] = k
		heap.Fix(t, 0)
	}
}

func (t *top) sorted() []place {
	slices.SortFunc(t.keys, func(a, b key) int {
		if t.desc {
			return b.compare(&a)
		}
		return a.compare(&b)
	})
	places := make([]place, len(t.keys))
	for i, k := range t.keys {
		places[i] = k.place
	}
	return places
}

// tops is one top, or two as long as it is not known whether all values of the
// column are numbers.
type tops struct{ text, number *top }

// tops returns what finds the page after a cursor.
func (a Ask) tops(at *cursor) *tops {
	make1 := func(numeric bool) *top {
		t := &top{numeric: numeric, desc: a.Desc, limit: a.Limit}
		if at != nil {
			k := place{at.Value, at.Found, Node{ID: at.Node}, at.Index}.key(numeric)
			t.after = &k
		}
		return t
	}
	numeric, known := a.numeric()
	if at != nil {
		numeric, known = at.Numeric, true // the order does not change from page to page
	}
	t := &tops{}
	if !known || numeric {
		t.number = make1(true)
	}
	if !known || !numeric {
		t.text = make1(false)
	}
	return t
}

// numeric reports whether the column that is sorted by has numbers, if that is
// known.
func (a Ask) numeric() (numeric, known bool) {
	if a.Sort == "" {
		return false, true
	}
	kinds := map[policy.ColumnType]bool{}
	for _, c := range a.Declared {
		if c.Name == a.Sort {
			kinds[c.Type] = true
		}
	}
	if _, node := (Node{}).cell(a.Sort); node && len(kinds) == 0 {
		return false, true
	}
	numeric = kinds[policy.Integer] || kinds[policy.Double]
	return numeric, len(kinds) > 0 && !kinds[policy.Unknown] && numeric != kinds[policy.Text]
}

func (t *tops) offer(p place) {
	if t.number != nil && t.text != nil && p.found && p.value != "" {
		if _, ok := parseNumber(p.value); !ok {
			t.number = nil
		}
	}
	if t.number != nil {
		t.number.offer(p)
	}
	if t.text != nil {
		t.text.offer(p)
	}
}

func (t *tops) best() *top {
	if t.number != nil {
		return t.number
	}
	return t.text
}

// cursor is where a page ended, and in what order.
type cursor struct {
	Sort    string `json:"s,omitempty"`
	Desc    bool   `json:"d,omitempty"`
	Numeric bool   `json:"n,omitempty"`
	Value   string `json:"v,omitempty"`
	Found   bool   `json:"f,omitempty"`
	Node    string `json:"o"`
	Index   int    `json:"i,omitempty"`
	Before  string `json:"b,omitempty"` // the node before, after which to go on
}

func (a Ask) seal(p place, before string, numeric bool) (string, error) {
	b, err := json.Marshal(cursor{a.Sort, a.Desc, numeric, p.value, p.found, p.node.ID, p.index, before})
	if err != nil {
		return "", fmt.Errorf("cursor: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(b), nil
}

// open returns the cursor, nil on the first page.
func (a Ask) open() (*cursor, error) {
	if a.Cursor == "" {
		return nil, nil //nolint:nilnil // there is none
	}
	var c cursor
	b, err := base64.RawURLEncoding.DecodeString(a.Cursor)
	if err == nil {
		err = json.Unmarshal(b, &c)
	}
	if err != nil || c.Sort != a.Sort || c.Desc != a.Desc {
		return nil, errs.Field("cursor", "is not one that this question returned")
	}
	return &c, nil
}
