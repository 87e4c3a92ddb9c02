package foreign

import (
	"encoding/json"
	"fmt"
	"iter"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// fields reads the keys of one object, and knows at the end which it was not
// asked for. A value of the wrong type is left out with a note, as agents leave
// it out with a warning.
type fields struct {
	*collector

	source string // the file
	path   string // of the object in it; "" for the whole
	values map[string]any
}

// fields returns a reader of an object that is read once more elsewhere.
func (c *collector) fields(source, path string, m map[string]any) *fields {
	return &fields{c, source, path, maps.Clone(m)}
}

func (f *fields) at(key string) string {
	if f.path == "" {
		return clip(key)
	}
	return f.path + "." + clip(key)
}

// take returns a value and forgets it. null is as good as nothing.
func (f *fields) take(key string) any {
	v := f.values[key]
	delete(f.values, key)
	return v
}

func (f *fields) wrong(key string, v any, want string) {
	f.note(f.source, f.at(key), "left out: it is %s, and should be %s", typeName(v), want)
}

func typeName(v any) string {
	switch v.(type) {
	case nil:
		return "null"
	case string:
		return "a text"
	case bool:
		return "a boolean"
	case []any:
		return "a list"
	case map[string]any:
		return "an object"
	}
	return "a number"
}

// text reads a text. Numbers and booleans become texts.
func (f *fields) text(key string) string {
	v := f.take(key)
	s, ok := scalarText(v)
	if !ok {
		f.wrong(key, v, "a text")
	}
	return s
}

// scalarText returns a scalar as text, and nil as none.
func scalarText(v any) (string, bool) {
	switch v := v.(type) {
	case nil:
		return "", true
	case string:
		return v, true
	case []any, map[string]any:
		return "", false
	case float64:
		if most := math.Abs(v); most < 1e-6 || most >= 1e21 {
			return strconv.FormatFloat(v, 'g', -1, 64), true
		}
		return strconv.FormatFloat(v, 'f', -1, 64), true
	default:
		return fmt.Sprint(v), true
	}
}

// integer reads a number, or a text whose first letters are one, which agents
// read; false if there is none.
func (f *fields) integer(key string) (int, bool) {
	v := f.take(key)
	switch v := v.(type) {
	case nil:
		return 0, false
	case int64:
		if math.MinInt32 <= v && v <= math.MaxInt32 { // nothing here is larger
			return int(v), true
		}
	case string:
		if n, ok := f.digits(key, v); ok {
			return n, true
		}
	}
	f.note(f.source, f.at(key), "left out: %s is no whole number that agents read", clip(fmt.Sprint(v)))
	return 0, false
}

func (f *fields) digits(key, s string) (int, bool) {
	s = strings.TrimSpace(s)
	end := strings.IndexFunc(s, func(r rune) bool { return r < '0' || r > '9' })
	if end < 0 {
		end = len(s)
	}
	n, err := strconv.ParseInt(s[:end], 10, 32)
	if err != nil {
		return 0, false
	}
	if end < len(s) {
		f.note(f.source, f.at(key), "%s became %d, which is how agents read it", clip(s), n)
	}
	return int(n), true
}

// flag reads a boolean: also the texts true and t, and any number but 0. Other
// texts are false to agents. nil if there is none.
func (f *fields) flag(key string) *bool {
	v := f.take(key)
	var is bool
	switch v := v.(type) {
	case nil:
		return nil
	case bool:
		is = v
	case int64:
		is = v != 0
	case string:
		s := strings.ToLower(v)
		is = s == "true" || s == "t"
		if !is && s != "false" && s != "f" {
			f.note(f.source, f.at(key), "%s became false, which is how agents read it", clip(v))
		}
	default:
		f.wrong(key, v, "true or false")
		return nil
	}
	return &is
}

// on reports whether a flag is there and true.
func (f *fields) on(key string) bool {
	b := f.flag(key)
	return b != nil && *b
}

// texts reads a list of texts; nil if there is none.
func (f *fields) texts(key string) []string {
	v := f.take(key)
	list, ok := v.([]any)
	if !ok {
		if v != nil {
			f.wrong(key, v, "a list of texts")
		}
		return nil
	}
	out := make([]string, 0, len(list))
	for i, item := range list {
		s, ok := scalarText(item)
		if !ok || item == nil {
			f.wrong(fmt.Sprintf("%s[%d]", key, i), item, "a text")
			continue
		}
		out = append(out, s)
	}
	return out
}

// object reads an object; nil if there is none.
func (f *fields) object(key string) *fields {
	v := f.take(key)
	m, ok := v.(map[string]any)
	if !ok {
		if v != nil {
			f.wrong(key, v, "an object")
		}
		return nil
	}
	return f.fields(f.source, f.at(key), m)
}

// objects reads a list of objects.
func (f *fields) objects(key string) []*fields {
	v := f.take(key)
	list, ok := v.([]any)
	if !ok && v != nil {
		f.wrong(key, v, "a list of objects")
	}
	return f.items(f.at(key), list)
}

// items returns the objects in a list.
func (f *fields) items(path string, list []any) []*fields {
	var out []*fields
	for i, item := range list {
		at := fmt.Sprintf("%s[%d]", path, i)
		m, ok := item.(map[string]any)
		if !ok {
			f.note(f.source, at, "left out: it is %s, and should be an object", typeName(item))
			continue
		}
		out = append(out, f.fields(f.source, at, m))
	}
	return out
}

// lists reads an object of lists of texts, as file_paths.
func (f *fields) lists(key string) map[string][]string {
	o := f.object(key)
	out := map[string][]string{}
	for name := range o.names() {
		if list := o.texts(name); list != nil {
			out[name] = list
		}
	}
	return out
}

// keys yields the keys that are left, sorted.
func (f *fields) keys() iter.Seq[string] {
	if f == nil {
		return func(func(string) bool) {}
	}
	return slices.Values(slices.Sorted(maps.Keys(f.values)))
}

// names yields the keys that are left and can be names in a config: not empty,
// and without control characters. It notes the others.
func (f *fields) names() iter.Seq[string] {
	return func(yield func(string) bool) {
		for key := range f.keys() {
			if key == "" || strings.ContainsFunc(key, unicode.IsControl) {
				f.take(key)
				f.note(f.source, f.at(key), "left out: its name is empty or has a control character")
				continue
			}
			if !yield(key) {
				return
			}
		}
	}
}

// done notes the keys that nobody asked for.
func (f *fields) done(why string) {
	for key := range f.keys() {
		if f.take(key) != nil {
			f.note(f.source, f.at(key), "left out: %s", why)
		}
	}
}

// drop notes keys that have no place here, if they are there.
func (f *fields) drop(why string, keys ...string) {
	for _, key := range keys {
		if f.take(key) != nil {
			f.note(f.source, f.at(key), "left out: %s", why)
		}
	}
}

// jsonText returns a value as compact JSON.
func jsonText(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return ""
	}
	return string(b)
}
