package resource

import (
	"encoding/json"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/musterhq/muster/internal/errs"
)

// Set is all objects of a revision. It never changes: safe for concurrent use.
type Set struct {
	objects map[Key]Object
	hashes  map[Key]string
	keys    []Key // sorted
	hash    string
}

// maxObjects bounds a Set: a dry run checks and renders all of it.
const maxObjects = 5000

// NewSet returns the set of some objects. Two of one key are an error.
func NewSet(objects []Object) (*Set, error) {
	s := &Set{objects: make(map[Key]Object, len(objects)), hashes: make(map[Key]string, len(objects))}
	if len(objects) > maxObjects {
		return nil, errs.New(errs.TooLarge, "there are %d objects; %d is the most", len(objects), maxObjects)
	}
	for _, o := range objects {
		if _, ok := s.objects[o.Key]; ok {
			return nil, errs.New(errs.Invalid, "%s is there twice; names are unique within a kind", o.Key)
		}
		b, err := o.Canonical()
		if err != nil {
			return nil, err
		}
		s.objects[o.Key], s.hashes[o.Key] = o, Hash(b)
	}
	s.keys = slices.SortedFunc(maps.Keys(s.objects), Key.Compare)
	var all strings.Builder
	for _, k := range s.keys {
		all.WriteString(k.String() + " " + s.hashes[k] + "\n")
	}
	s.hash = Hash([]byte(all.String()))
	return s, nil
}

// Hash returns the SHA-256 of the list of its objects' names and hashes.
func (s *Set) Hash() string { return s.hash }

// Len returns how many objects there are.
func (s *Set) Len() int { return len(s.keys) }

// Get returns an object; false without one.
func (s *Set) Get(k Key) (Object, bool) {
	o, ok := s.objects[k]
	return o, ok
}

// HashOf returns an object's hash, "" without one.
func (s *Set) HashOf(k Key) string { return s.hashes[k] }

// All yields the objects in the order of their keys.
func (s *Set) All() iter.Seq[Object] {
	return func(yield func(Object) bool) {
		for _, k := range s.keys {
			if !yield(s.objects[k]) {
				return
			}
		}
	}
}

// Specs yields the objects whose spec has a type, as *Pack, by name.
func Specs[T Spec](s *Set) iter.Seq2[Key, T] {
	return func(yield func(Key, T) bool) {
		for o := range s.All() {
			if spec, ok := o.Spec.(T); ok && !yield(o.Key, spec) {
				return
			}
		}
	}
}

// Op is what an edit does.
type Op string

// The operations.
const (
	Create Op = "create"
	Change Op = "change"
	Delete Op = "delete"
)

// Edit is one object's part of a change. Its hashes are of the canonical forms,
// "" where there is no object.
type Edit struct {
	Key
	Op     Op              `json:"op"`
	Before string          `json:"before,omitempty"` // hash of what it replaces
	After  string          `json:"after,omitempty"`
	Object json.RawMessage `json:"object,omitempty"` // canonical; nil for Delete
	Fields []FieldEdit     `json:"fields"`
}

// FieldEdit is one field that differs.
type FieldEdit struct {
	Path   string `json:"path"` // queries.usb.interval
	Before string `json:"before,omitempty"`
	After  string `json:"after,omitempty"`
}

// Diff returns the edits that make next of s, by key.
func (s *Set) Diff(next *Set) ([]Edit, error) {
	keys := slices.Clone(s.keys)
	for _, k := range next.keys {
		if _, ok := s.objects[k]; !ok {
			keys = append(keys, k)
		}
	}
	slices.SortFunc(keys, Key.Compare)
	edits := []Edit{}
	for _, k := range keys {
		e := Edit{Key: k, Before: s.hashes[k], After: next.hashes[k]}
		if e.Before == e.After {
			continue
		}
		switch {
		case e.Before == "":
			e.Op = Create
		case e.After == "":
			e.Op = Delete
		default:
			e.Op = Change
		}
		if err := e.fill(s.objects[k], next.objects[k]); err != nil {
			return nil, err
		}
		edits = append(edits, e)
	}
	return edits, nil
}

func (e *Edit) fill(before, after Object) (err error) {
	var a, b []byte
	if e.Before != "" {
		if a, err = before.Canonical(); err != nil {
			return err
		}
	}
	if e.After != "" {
		if b, err = after.Canonical(); err != nil {
			return err
		}
		e.Object = b
	}
	e.Fields, err = diffFields(a, b)
	return err
}

// diffFields compares two canonical objects field by field.
func diffFields(before, after []byte) ([]FieldEdit, error) {
	a, err := flatten(before)
	if err != nil {
		return nil, err
	}
	b, err := flatten(after)
	if err != nil {
		return nil, err
	}
	all := maps.Clone(a)
	maps.Copy(all, b)
	fields := []FieldEdit{}
	for _, path := range slices.Sorted(maps.Keys(all)) {
		if a[path] != b[path] {
			fields = append(fields, FieldEdit{path, a[path], b[path]})
		}
	}
	return fields, nil
}

// flatten returns the leaves of an object by path: description, and what is in
// spec.
func flatten(canonical []byte) (map[string]string, error) {
	leaves := map[string]string{}
	if len(canonical) == 0 {
		return leaves, nil
	}
	var o struct {
		Description string `json:"description"`
		Spec        any    `json:"spec"`
	}
	if err := json.Unmarshal(canonical, &o); err != nil {
		return nil, fmt.Errorf("canonical object: %w", err)
	}
	if o.Description != "" {
		leaves["description"] = o.Description
	}
	walk(leaves, "", o.Spec)
	return leaves, nil
}

func walk(leaves map[string]string, path string, v any) {
	switch v := v.(type) {
	case map[string]any:
		for k, child := range v {
			walk(leaves, joinPath(path, k), child)
		}
	case []any:
		for i, child := range v {
			walk(leaves, indexed(path, i), child)
		}
	case string:
		leaves[path] = v
	default:
		b, err := encode(v)
		if err != nil {
			b = []byte(fmt.Sprint(v))
		}
		leaves[path] = string(b)
	}
}

func joinPath(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func indexed(path string, i int) string { return path + "[" + strconv.Itoa(i) + "]" }

// With returns the set after edits: objects that replace those of their key, and
// keys that are deleted. Deleting what is not there is an error.
func (s *Set) With(objects []Object, deleted []Key) (*Set, error) {
	next := maps.Clone(s.objects)
	for _, k := range deleted {
		if _, ok := next[k]; !ok {
			return nil, errs.New(errs.NotFound, "there is no %s to delete", k)
		}
		delete(next, k)
	}
	given := map[Key]bool{}
	for _, o := range objects {
		if given[o.Key] {
			return nil, errs.New(errs.Invalid, "%s is there twice; names are unique within a kind", o.Key)
		}
		given[o.Key], next[o.Key] = true, o
	}
	return NewSet(slices.Collect(maps.Values(next)))
}

// Moment is a time.Time written as 2026-12-31T23:59:59Z (RFC 3339). Another form
// is an error, never the zero time.
type Moment struct{ time.Time }

// MarshalText implements encoding.TextMarshaler.
func (m Moment) MarshalText() ([]byte, error) { return []byte(m.UTC().Format(time.RFC3339Nano)), nil }

// MarshalJSON is MarshalText as a JSON text; that of the time would have its own
// zone.
func (m Moment) MarshalJSON() ([]byte, error) {
	return []byte(`"` + m.UTC().Format(time.RFC3339Nano) + `"`), nil
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (m *Moment) UnmarshalText(b []byte) error {
	t, err := time.Parse(time.RFC3339, string(b))
	if err != nil || t.IsZero() {
		return errs.New(errs.Invalid, "%q is no time; write it as 2026-12-31T23:59:59Z", b)
	}
	m.Time = t.UTC()
	return nil
}

// UnmarshalJSON is UnmarshalText of a JSON text.
func (m *Moment) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	return m.UnmarshalText([]byte(s))
}

// Duration is a time.Duration written as 30m or 2h.
type Duration time.Duration

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	if err != nil || v < 0 {
		return errs.New(errs.Invalid, "%q is no duration; write it as 30m or 2h", b)
	}
	*d = Duration(v)
	return nil
}
