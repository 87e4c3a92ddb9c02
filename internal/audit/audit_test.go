package audit_test

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/musterhq/muster/internal/audit"
)

var at = time.Date(2026, 11, 21, 9, 0, 0, 123456789, time.UTC)

// store links entries as the real one does.
type store struct {
	entries []audit.Entry
	err     error
}

func (s *store) AppendAudit(_ context.Context, e audit.Entry) (audit.Entry, error) {
	if s.err != nil {
		return audit.Entry{}, s.err
	}
	var last audit.Entry
	if n := len(s.entries); n > 0 {
		last = s.entries[n-1]
	}
	e.Seq, e.Prev = last.Seq+1, last.Hash
	e.Seal()
	s.entries = append(s.entries, e)
	return e, nil
}

// record returns a log of five entries.
func record(t *testing.T) []audit.Entry {
	t.Helper()
	var s store
	log := audit.NewLog(&s, func() time.Time { return at })
	for _, e := range []struct {
		actor, action, target string
		detail                any
	}{
		{"anna", "live.start", "q1", map[string]any{"sql": "SELECT <1>"}},
		{"anna", "live.stop", "q1", nil},
		{"system", "node.delete", "höst", nil},
		{"bob\xff", "secret.create", "s\xfe", "x"},
		{"", "", "", nil},
	} {
		if err := log.Record(t.Context(), e.actor, e.action, e.target, e.detail); err != nil {
			t.Fatal(err)
		}
	}
	return s.entries
}

// broken returns the number of the first entry that does not follow, 0 for none.
func broken(entries []audit.Entry) int {
	var prev audit.Entry
	for i, e := range entries {
		if !e.Follows(prev) {
			return i + 1
		}
		prev = e
	}
	return 0
}

func TestRecord(t *testing.T) {
	t.Parallel()
	entries := record(t)
	if n := broken(entries); n != 0 {
		t.Errorf("entry %d does not follow", n)
	}
	first := entries[0]
	first.Hash = ""
	want := audit.Entry{
		Version: 2, Seq: 1, Time: at.Truncate(time.Microsecond), Actor: "anna", Action: "live.start", Outcome: audit.Done, Target: "q1", Approvals: []string{},
		Detail: `{"sql":"SELECT \u003c1\u003e"}`, ContentHash: "27e9b2de35ddcf34800bed36adb4b9b87ad2ce77ed918bda419e603e398dbd60",
	}
	if d := cmp.Diff(want, first); d != "" {
		t.Error(d)
	}
	if e := entries[3]; !utf8.ValidString(e.Actor) || !utf8.ValidString(e.Target) {
		t.Errorf("%+v", e)
	}
	s := store{err: errors.New("disk full")}
	log := audit.NewLog(&s, time.Now)
	if err := log.Record(t.Context(), "a", "b", "c", nil); !errors.Is(err, s.err) {
		t.Errorf("a failing store: %v", err)
	}
	s.err = nil
	if err := log.Record(t.Context(), "a", "b", "c", func() {}); err == nil || len(s.entries) != 0 {
		t.Errorf("a detail that is no JSON: %v", err)
	}
}

// TestFollows changes every field of every entry.
func TestFollows(t *testing.T) {
	t.Parallel()
	entries := record(t)
	for i := range entries {
		v := reflect.TypeFor[audit.Entry]()
		for f := range v.NumField() {
			var values []any
			switch v.Field(f).Type.Kind() {
			case reflect.Int:
				values = []any{entries[i].Version - 1, entries[i].Version + 1, 0}
			case reflect.Slice:
				values = []any{[]string{"eve"}, append([]string{""}, entries[i].Approvals...), append(slices.Clip(entries[i].Approvals), "")}
			case reflect.Int64:
				values = []any{entries[i].Seq + 1, entries[i].Seq - 1, int64(0)}
			case reflect.String:
				s := reflect.ValueOf(entries[i]).Field(f).String()
				values = []any{s + "x", s + "\xfe", s + "\x00", `x","` + s}
				if bad := strings.ReplaceAll(s, "\uFFFD", "\xfe"); bad != s {
					values = append(values, bad)
				}
			case reflect.Struct:
				values = []any{entries[i].Time.Add(time.Microsecond), entries[i].Time.Add(-time.Hour)}
			default:
				t.Fatalf("field %s is not tried", v.Field(f).Name)
			}
			for _, value := range values {
				changed := slices.Clone(entries)
				field := reflect.ValueOf(&changed[i]).Elem().Field(f)
				field.Set(reflect.ValueOf(value).Convert(field.Type()))
				if broken(changed) == 0 {
					t.Errorf("entry %d: %s = %q is not noticed", i+1, v.Field(f).Name, value)
				}
			}
		}
		if i < len(entries)-1 {
			if broken(slices.Delete(slices.Clone(entries), i, i+1)) == 0 {
				t.Errorf("the removal of entry %d is not noticed", i+1)
			}
			swapped := slices.Clone(entries)
			swapped[i], swapped[i+1] = swapped[i+1], swapped[i]
			if broken(swapped) == 0 {
				t.Errorf("entries %d and %d are swapped, unnoticed", i+1, i+2)
			}
		}
		// Sealed anew after a change, it no longer fits its neighbours.
		if i < len(entries)-1 {
			forged := slices.Clone(entries)
			forged[i].Actor = "eve"
			forged[i].Seal()
			if got := broken(forged); got != i+2 {
				t.Errorf("forged entry %d shows at %d", i+1, got)
			}
		}
	}
	twice := slices.Insert(slices.Clone(entries), 2, entries[1])
	if broken(twice) != 3 {
		t.Error("a doubled entry is not noticed")
	}
	// Text that moves from one field to the next.
	a, b := audit.Entry{Actor: "ab", Action: "c"}, audit.Entry{Actor: "a", Action: "bc"}
	a.Seal()
	b.Seal()
	if a.Hash == b.Hash {
		t.Error("two entries look alike")
	}
}
