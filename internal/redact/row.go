package redact

import (
	"bytes"
	"slices"
	"unicode/utf8"
)

// place is where a value stands in a row: between its quotes, or its index.
type place struct{ start, end, at int }

// edit is a value that is replaced.
type edit struct {
	start, end int // in the row
	with       []byte
}

// row looks at a JSON object.
func (r *Redactor) row(src Source, row []byte, found *[]Finding) ([]byte, []Finding) {
	sc := r.scanner(src, found)
	defer r.pool.Put(sc)
	sc.marks = bytes.Contains(row, []byte(placeholderHead))
	edits, ok := sc.members(row)
	if found != nil && !ok {
		*found = (*found)[:0] // it is looked at as a whole
	}
	if !ok {
		return sc.text(row), told(found)
	}
	if len(edits) == 0 {
		return row, told(found)
	}
	out := make([]byte, 0, len(row)+len(edits)*placeholderSize)
	at := 0
	for _, e := range edits {
		out = append(append(out, row[at:e.start]...), e.with...)
		at = e.end
	}
	return append(out, row[at:]...), told(found)
}

func told(found *[]Finding) []Finding {
	if found == nil {
		return nil
	}
	return *found
}

// text looks at what is no row.
func (sc *scanner) text(b []byte) []byte {
	sc.marks = true
	if !sc.look(nil, b, detect) {
		return b
	}
	return sc.write(nil, b, b, detect)
}

// members looks at each member of an object; false if it is none.
func (sc *scanner) members(row []byte) (edits []edit, ok bool) {
	i := space(row, 0)
	if i >= len(row) || row[i] != '{' {
		return nil, false
	}
	var p pair
	i = space(row, i+1)
	if i < len(row) && row[i] == '}' {
		return nil, space(row, i+1) == len(row)
	}
	for {
		name, next, _, ok := quoted(row, i)
		if !ok {
			return nil, false
		}
		i = space(row, next)
		if i >= len(row) || row[i] != ':' {
			return nil, false
		}
		i = space(row, i+1)
		if i < len(row) && row[i] == '"' {
			value, next, escaped, ok := quoted(row, i)
			if !ok {
				return nil, false
			}
			edits = sc.member(edits, row, name, value, place{start: i + 1, end: next - 1}, escaped, &p)
			i = next
		} else if i = scalar(row, i); i < 0 {
			return nil, false
		}
		i = space(row, i)
		if i >= len(row) {
			return nil, false
		}
		if row[i] == '}' {
			if space(row, i+1) != len(row) {
				return nil, false
			}
			break
		}
		if row[i] != ',' {
			return nil, false
		}
		i = space(row, i+1)
	}
	return sc.last(edits, row, &p), true
}

// member looks at one value.
func (sc *scanner) member(edits []edit, row, name, value []byte, at place, escaped bool, p *pair) []edit {
	do := detect
	if len(sc.scope) > 0 {
		do = sc.action(name)
	}
	if do == detect {
		if p.note(name, value, at) {
			return edits
		}
		if len(value) < shortest && columnName(name) == "" {
			return edits // too short for a secret and what tells of it
		}
	}
	if escaped {
		sc.plain = unescape(sc.plain[:0], value)
		value = sc.plain
	}
	if !sc.look(name, value, do) {
		return edits
	}
	return append(edits, edit{at.start, at.end, sc.write(name, row[at.start:at.end], value, do)})
}

// last looks at the value whose name is in another column.
func (sc *scanner) last(edits []edit, row []byte, p *pair) []edit {
	if !p.valued {
		return edits
	}
	raw := row[p.value.start:p.value.end]
	v := raw
	if bytes.IndexByte(raw, '\\') >= 0 {
		sc.plain = unescape(sc.plain[:0], raw)
		v = sc.plain
	}
	if !sc.lookPair(v, p) {
		return edits
	}
	i := 0
	for i < len(edits) && edits[i].start < p.value.start {
		i++
	}
	return slices.Insert(edits, i, edit{p.value.start, p.value.end, sc.write(p.column, raw, v, detect)})
}

// space returns the next place that is no white space.
func space(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\t' || b[i] == '\n' || b[i] == '\r') {
		i++
	}
	return i
}

// quoted reads a JSON string from its quote on: what is between the quotes, and
// where it goes on.
func quoted(b []byte, i int) (inner []byte, next int, escaped, ok bool) {
	if i >= len(b) || b[i] != '"' {
		return nil, 0, false, false
	}
	start := i + 1
	for i = start; i < len(b); i++ {
		switch c := b[i]; {
		case c == '"':
			return b[start:i], i + 1, escaped, true
		case c == '\\':
			escaped = true
			i++
		case i == start+byByte: // a long one
			n := bytes.IndexByte(b[i:], '"')
			if n < 0 {
				return nil, 0, false, false
			}
			if bytes.IndexByte(b[i:i+n], '\\') < 0 {
				i += n - 1
			}
		}
	}
	return nil, 0, false, false
}

// byByte is up to where a string is read byte by byte: most are short, and a call
// that compares many at once costs more.
const byByte = 24

// scalar skips a number, true, false or null; -1 if it is something else.
func scalar(b []byte, i int) int {
	start := i
	for i < len(b) && class(b[i])&(lower|upper|digit|dash|dot|slash) != 0 {
		i++
	}
	if i == start {
		return -1
	}
	return i
}

// unescape appends what a JSON string means. What is no escape stays.
func unescape(dst, s []byte) []byte {
	for i := 0; i < len(s); {
		n := bytes.IndexByte(s[i:], '\\')
		if n < 0 {
			return append(dst, s[i:]...)
		}
		dst = append(dst, s[i:i+n]...)
		i += n
		r, size := escape(s[i:])
		dst = utf8.AppendRune(dst, r)
		i += size
	}
	return dst
}

// rawLen returns how many raw bytes mean n plain ones.
func rawLen(s []byte, n int) int {
	i := 0
	for n > 0 && i < len(s) {
		if s[i] != '\\' {
			i++
			n--
			continue
		}
		r, size := escape(s[i:])
		i += size
		n -= max(utf8.RuneLen(r), 1)
	}
	return i
}

// escape reads one escape; s begins with a backslash.
func escape(s []byte) (r rune, size int) {
	if len(s) < 2 {
		return '\\', 1
	}
	switch s[1] {
	case 'n':
		return '\n', 2
	case 't':
		return '\t', 2
	case 'r':
		return '\r', 2
	case 'b':
		return '\b', 2
	case 'f':
		return '\f', 2
	case '"', '\\', '/':
		return rune(s[1]), 2
	case 'u':
		first, ok := hex4(s[2:])
		if !ok {
			return '\\', 1
		}
		if first >= 0xd800 && first < 0xdc00 && len(s) >= 12 && s[6] == '\\' && s[7] == 'u' {
			if second, ok := hex4(s[8:]); ok && second >= 0xdc00 && second < 0xe000 {
				return (first-0xd800)<<10 | (second - 0xdc00) + 0x10000, 12
			}
		}
		if first >= 0xd800 && first < 0xe000 {
			return utf8.RuneError, 6
		}
		return first, 6
	}
	return '\\', 1
}

func hex4(s []byte) (rune, bool) {
	if len(s) < 4 {
		return 0, false
	}
	r := rune(0)
	for _, c := range s[:4] {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}
