package search

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

func FuzzColumnName(f *testing.F) {
	for _, s := range []string{"", "path", "_time", "_x_", "a.b", "Ü", "9", "a\x00", strings.Repeat("_", 70), "_x__5f"} {
		f.Add(s)
	}
	fixedNames := newLayout(nil).names
	f.Fuzz(func(t *testing.T, name string) {
		escaped, ok := columnName(name)
		if !ok {
			if len(name) <= maxColumnName/3-1 {
				t.Fatalf("%q is refused", name)
			}
			return
		}
		back, ok := originalName(escaped)
		if !ok || back != name {
			t.Fatalf("%q → %q → %q", name, escaped, back)
		}
		for _, fixed := range fixedNames {
			if escaped == fixed {
				t.Fatalf("%q takes the name %s", name, fixed)
			}
		}
		for _, c := range []byte(escaped) {
			if !alphanumeric(c) && c != '_' {
				t.Fatalf("%q → %q", name, escaped)
			}
		}
		if other, ok := originalName(name); ok {
			if again, ok := columnName(other); ok && again != name && strings.HasPrefix(name, escapedPrefix) && len(name) < 20 {
				t.Logf("%q reads as %q, whose name is %q", name, other, again)
			}
		}
	})
}

func FuzzFileName(f *testing.F) {
	f.Add("q", uint64(1), uint64(2))
	f.Add("../../x", uint64(1), uint64(2))
	f.Add(strings.Repeat("\xff", 400), uint64(0), ^uint64(0))
	f.Fuzz(func(t *testing.T, query string, first, last uint64) {
		name := fileName("2026-11-20", query, first, last, last)
		if path.Clean(name) != name || path.Dir(name) != "2026-11-20" || len(path.Base(name)) > 200 || !utf8.ValidString(name) {
			t.Fatalf("%q → %q", query, name)
		}
	})
}

// FuzzManifest decodes manifests whose checksum is right, and those that are
// not even an envelope.
func FuzzManifest(f *testing.F) {
	m := manifest{Position: 7, Next: 3, Segments: []meta{{File: "2026-11-20/q.parquet", Day: "2026-11-20", Query: "q\xff", Rows: 3}}, Lost: []loss{{Reason: "x"}}}
	good, err := m.encode()
	if err != nil {
		f.Fatal(err)
	}
	body, err := json.Marshal(m)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good, false)
	f.Add(body, true)
	f.Add([]byte(`{"segments":[{"file":"../x","day":"2026-11-20","query":{"base64":"!"}}]}`), true)
	f.Fuzz(func(t *testing.T, b []byte, wrap bool) {
		if wrap {
			var compact bytes.Buffer
			if json.Compact(&compact, b) != nil {
				return
			}
			sum := sha256.Sum256(compact.Bytes())
			b = fmt.Appendf(nil, `{"version":1,"sha256":"%x","manifest":%s}`, sum, compact.Bytes())
		}
		m, err := decodeManifest(b)
		if err != nil {
			return
		}
		for _, s := range m.Segments {
			if path.Clean(s.File) != s.File || strings.Contains(s.File, "..") || path.Dir(s.File) != s.Day {
				t.Fatalf("segment %q of %q", s.File, s.Day)
			}
		}
		again, err := m.encode()
		if err != nil {
			t.Fatal(err)
		}
		back, err := decodeManifest(again)
		if err != nil || back.Position != m.Position || !slices.Equal(back.Segments, m.Segments) {
			t.Fatalf("%+v → %+v, %v", m, back, err)
		}
	})
}
