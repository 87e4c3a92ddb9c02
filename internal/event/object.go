package event

import (
	"bytes"
	"encoding/json"
	"slices"
	"unicode/utf8"
	"unsafe"
)

// Pair is one column of a row.
type Pair struct {
	Name, Value []byte
}

// Object reads flat JSON objects of strings, as an event's columns and decorations
// are. Millions of them pass by, so that they are read and written here instead of
// by encoding/json, with the same outcome: of a name given twice the last value
// counts, and what is not valid UTF-8 becomes U+FFFD. What it returns is valid
// until Reset. Not safe for concurrent use.
type Object struct {
	scratch []byte // unescaped texts
	pairs   []Pair
}

// Reset forgets all texts handed out.
func (o *Object) Reset() { o.scratch = o.scratch[:0] }

// Read returns the pairs of the object in text, or false when that is anything
// but an object of strings. The texts alias text or the scratch; the slice is
// valid until the next read.
func (o *Object) Read(text []byte) ([]Pair, bool) {
	o.pairs = o.pairs[:0]
	i := skipSpace(text, 0)
	if i >= len(text) || text[i] != '{' {
		return nil, false
	}
	if i = skipSpace(text, i+1); i < len(text) && text[i] == '}' {
		return o.pairs, skipSpace(text, i+1) == len(text)
	}
	for {
		var p Pair
		var ok bool
		if p.Name, i, ok = o.text(text, i); !ok {
			return nil, false
		}
		if i = skipSpace(text, i); i >= len(text) || text[i] != ':' {
			return nil, false
		}
		if p.Value, i, ok = o.text(text, skipSpace(text, i+1)); !ok {
			return nil, false
		}
		o.pairs = append(o.pairs, p)
		if i = skipSpace(text, i); i >= len(text) {
			return nil, false
		}
		switch text[i] {
		case ',':
			i = skipSpace(text, i+1)
		case '}':
			return o.pairs, skipSpace(text, i+1) == len(text)
		default:
			return nil, false
		}
	}
}

func skipSpace(text []byte, i int) int {
	for i < len(text) && (text[i] == ' ' || text[i] == '\t' || text[i] == '\n' || text[i] == '\r') {
		i++
	}
	return i
}

// text reads the string that starts at i and returns where it ends.
func (o *Object) text(text []byte, i int) ([]byte, int, bool) {
	if i >= len(text) || text[i] != '"' {
		return nil, 0, false
	}
	i++
	n := bytes.IndexByte(text[i:], '"')
	if n < 0 {
		return nil, 0, false
	}
	s := text[i : i+n]
	if bytes.IndexByte(s, '\\') < 0 {
		if !utf8.Valid(s) {
			s = []byte(ValidText(string(s)))
		}
		return s, i + n + 1, true
	}
	// An escaped quote may be inside: find the real end.
	end := i
	for ; end < len(text) && text[end] != '"'; end++ {
		if text[end] == '\\' {
			end++
		}
	}
	if end >= len(text) {
		return nil, 0, false
	}
	from := len(o.scratch)
	if !o.unescape(text[i:end]) {
		var decoded string
		if err := json.Unmarshal(text[i-1:end+1], &decoded); err != nil {
			return nil, 0, false
		}
		o.scratch = append(o.scratch[:from], decoded...)
	}
	return o.scratch[from:len(o.scratch):len(o.scratch)], end + 1, true
}

// unescape appends s to the scratch if it has nothing but the short escapes
// and ASCII, as Windows paths have, and leaves the rest to its caller.
func (o *Object) unescape(s []byte) bool {
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c >= utf8.RuneSelf || c < ' ' {
			return false
		}
		if c == '\\' {
			i++
			switch s[i] {
			case '"', '\\', '/':
				c = s[i]
			case 'n':
				c = '\n'
			case 'r':
				c = '\r'
			case 't':
				c = '\t'
			default:
				return false
			}
		}
		o.scratch = append(o.scratch, c)
	}
	return true
}

// Lookup returns the value of a column, and whether there is one.
func Lookup(pairs []Pair, name string) (value []byte, found bool) {
	for _, p := range slices.Backward(pairs) { // the last one counts
		if string(p.Name) == name {
			return p.Value, true
		}
	}
	return nil, false
}

// AppendObject appends the object of the pairs, sorted by name and each name
// once. It reorders pairs.
func AppendObject(dst []byte, pairs []Pair) []byte {
	slices.SortStableFunc(pairs, func(a, b Pair) int { return bytes.Compare(a.Name, b.Name) })
	dst = append(dst, '{')
	first := true
	for i, p := range pairs {
		if i+1 < len(pairs) && bytes.Equal(p.Name, pairs[i+1].Name) {
			continue // the last one counts
		}
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = appendString(dst, p.Name)
		dst = append(dst, ':')
		dst = appendString(dst, p.Value)
	}
	return append(dst, '}')
}

func appendString(dst, s []byte) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	from := 0
	for i, c := range s {
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		dst = append(dst, s[from:i]...)
		from = i + 1
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
	}
	dst = append(dst, s[from:]...)
	return append(dst, '"')
}

// EncodeTags returns the JSON array of a node's tags, nil for none.
func EncodeTags(tags []string) []byte {
	if len(tags) == 0 {
		return nil
	}
	b := []byte{'['}
	for i, t := range tags {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(b, []byte(ValidText(t)))
	}
	return append(b, ']')
}

// DecodeTags undoes EncodeTags. What is no such array has no tags.
func DecodeTags(b []byte) []string {
	var tags []string
	if len(b) == 0 || json.Unmarshal(b, &tags) != nil {
		return nil
	}
	return tags
}

// ValidText returns s with every byte that is not UTF-8 replaced by U+FFFD, as
// encoding/json does, since other readers of Parquet refuse a file for it.
func ValidText(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	return string([]rune(s))
}

// Peek returns b as a string, which is valid only as long as b is not
// changed.
func Peek(b []byte) string {
	return unsafe.String(unsafe.SliceData(b), len(b)) //nolint:gosec // saves a copy of each distinct value of a column searched
}
