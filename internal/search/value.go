package search

import "github.com/musterhq/muster/internal/event"

// values is the values that some rows have of a column or stamp, each kept once. A
// row has one, or none, or, of tags, several.
type values struct {
	texts

	lists [][]int32 // codes by code, of tags; nil for others
}

// each visits the codes of the i-th row; absent for one without a value.
func (v *values) each(i int, visit func(code int32)) {
	code := v.codes[i]
	if code == absent || v.lists == nil {
		visit(code)
		return
	}
	for _, c := range v.lists[code] {
		visit(c)
	}
}

// text returns the value of a code that is not absent.
func (v *values) text(code int32) []byte { return v.data[v.offsets[code]:v.offsets[code+1]] }

// append adds a value and returns its code.
func (v *values) append(text []byte) int32 {
	v.data = append(v.data, text...)
	v.offsets = append(v.offsets, uint32(len(v.data))) //nolint:gosec // a row group is far smaller
	return int32(len(v.offsets) - 2)                   //nolint:gosec // as many as rows and tags at most
}

// noValues returns the values of n rows that have none.
func noValues(n int) *values {
	v := &values{texts: texts{codes: make([]int32, n), data: []byte{}, offsets: []uint32{0}}}
	for i := range v.codes {
		v.codes[i] = absent
	}
	return v
}

// values reads the values of a column or stamp of the listed rows.
func (o *openFile) values(g *rowGroup, rows []int32, name string) (*values, error) {
	switch name {
	case event.StampNode:
		return readValues(g, rows, o.fixed.node)
	case event.StampHost:
		return readValues(g, rows, o.fixed.host)
	case event.StampAction:
		return readValues(g, rows, o.fixed.action)
	case event.StampQuery:
		v := noValues(len(rows))
		clear(v.codes) // of the one value
		v.append([]byte(o.segment.Query))
		return v, nil
	case event.StampTag:
		return o.tags(g, rows)
	}
	if place, set := o.number(name); set != nil {
		return o.numbers(g, rows, name, place, set)
	}
	if d, ok := event.Decoration(name); ok {
		v := noValues(len(rows))
		return v, v.take(g, rows, o.fixed.decorations, d)
	}
	v := noValues(len(rows))
	if place, ok := o.place(name); ok && hasValues(g.chunks[place]) {
		own, err := readValues(g, rows, place)
		if err != nil {
			return nil, err
		}
		v = own
	}
	if !hasValues(g.chunks[o.fixed.rest]) {
		return v, nil
	}
	return v, v.take(g, rows, o.fixed.rest, name)
}

func readValues(g *rowGroup, rows []int32, place int) (*values, error) {
	t, err := readTexts(g.chunks[place], rows)
	if err != nil {
		return nil, err
	}
	return &values{texts: *t}, nil
}

// take gives rows the value that an object in a column has under a name.
func (v *values) take(g *rowGroup, rows []int32, place int, name string) error {
	objects, err := readTexts(g.chunks[place], rows)
	if err != nil {
		return err
	}
	codes := make([]int32, max(len(objects.offsets)-1, 0))
	var o event.Object
	for i := range codes {
		o.Reset()
		pairs, _ := o.Read(objects.data[objects.offsets[i]:objects.offsets[i+1]])
		codes[i] = absent
		if value, ok := event.Lookup(pairs, name); ok {
			codes[i] = v.append(value)
		}
	}
	for i, code := range objects.codes {
		if code != absent && codes[code] != absent {
			v.codes[i] = codes[code]
		}
	}
	return nil
}

func (o *openFile) tags(g *rowGroup, rows []int32) (*values, error) {
	if o.fixed.tags == missing {
		return noValues(len(rows)), nil
	}
	arrays, err := readTexts(g.chunks[o.fixed.tags], rows)
	if err != nil {
		return nil, err
	}
	v := &values{texts: texts{codes: arrays.codes, data: []byte{}, offsets: []uint32{0}}, lists: make([][]int32, max(len(arrays.offsets)-1, 0))}
	known := map[string]int32{}
	for i := range v.lists {
		for _, tag := range event.DecodeTags(arrays.data[arrays.offsets[i]:arrays.offsets[i+1]]) {
			code, ok := known[tag]
			if !ok {
				code = v.append([]byte(tag))
				known[tag] = code
			}
			v.lists[i] = append(v.lists[i], code)
		}
		if len(v.lists[i]) == 0 {
			v.lists[i] = []int32{absent}
		}
	}
	return v, nil
}

// numbers reads a stamp that is a number, as the text that conditions see.
func (o *openFile) numbers(g *rowGroup, rows []int32, stamp string, place int, set func(*event.Row, int64)) (*values, error) {
	v := noValues(len(rows))
	if place == missing {
		return v, nil
	}
	numbers, err := readInts(g.chunks[place], rows, make([]int64, 0, len(rows)))
	if err != nil {
		return nil, err
	}
	known := map[int64]int32{}
	var row event.Row
	for i, n := range numbers {
		code, ok := known[n]
		if !ok {
			set(&row, n)
			code = absent
			if text, found := row.Stamp(stamp); found {
				code = v.append([]byte(text))
			}
			known[n] = code
		}
		v.codes[i] = code
	}
	return v, nil
}

// rowValues calls visit with the values that a row has of a column or stamp: one,
// none, or several tags.
func rowValues(r *event.Row, name string, visit func(value string, found bool)) {
	switch {
	case name == event.StampTag && len(r.Tags) > 0:
		for _, t := range r.Tags {
			visit(t, true)
		}
	case event.IsStamp(name):
		visit(r.Stamp(name))
	default:
		visit(r.Column(name))
	}
}
