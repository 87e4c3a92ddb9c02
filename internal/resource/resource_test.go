package resource

import (
	"bytes"
	"crypto/sha1"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	_ "modernc.org/sqlite" // to prepare the default pack's texts

	"github.com/musterhq/muster/internal/node"
	"github.com/musterhq/muster/internal/osquery"
)

func defaultConfig(t *testing.T) *Config {
	t.Helper()
	c, err := Default()
	if err != nil {
		t.Fatal(err)
	}
	return c.Config(&node.Identity{})
}

// sorted reports the first object whose keys are not in order.
func sorted(d *json.Decoder, path string) error {
	t, err := d.Token()
	if err != nil {
		return err
	}
	switch t {
	case json.Delim('{'):
		last := ""
		for d.More() {
			key, err := d.Token()
			if err != nil {
				return err
			}
			name := fmt.Sprint(key)
			if name <= last {
				return fmt.Errorf("%s: %s comes after %s", path, name, last)
			}
			last = name
			if err := sorted(d, path+"/"+name); err != nil {
				return err
			}
		}
		_, err = d.Token()
	case json.Delim('['):
		for d.More() {
			if err := sorted(d, path+"[]"); err != nil {
				return err
			}
		}
		_, err = d.Token()
	}
	return err
}

func TestDefault(t *testing.T) {
	t.Parallel()
	c := defaultConfig(t)
	var compact bytes.Buffer
	if err := json.Compact(&compact, c.JSON); err != nil || !bytes.Equal(compact.Bytes(), c.JSON) {
		t.Errorf("not compact: %v", err)
	}
	if err := sorted(json.NewDecoder(bytes.NewReader(c.JSON)), ""); err != nil {
		t.Error(err)
	}
	if bytes.Contains(c.JSON, []byte(`\u00`)) || bytes.Contains(c.JSON, []byte(`"description":`)) {
		t.Errorf("escapes, or words for people: %s", c.JSON)
	}
	for range 20 {
		if again := defaultConfig(t); !bytes.Equal(again.JSON, c.JSON) || again.Hash != c.Hash || again.Revision != c.Revision {
			t.Fatal("another config each time")
		}
	}
	var d struct {
		Options map[string]any
		Packs   map[string]struct {
			Queries map[string]struct {
				Interval any
			}
		}
	}
	if err := json.Unmarshal(c.JSON, &d); err != nil {
		t.Fatal(err)
	}
	for name, q := range d.Packs["base"].Queries {
		if n, ok := q.Interval.(float64); !ok || n < 60 || n != float64(int(n)) {
			t.Errorf("%s runs every %v", name, q.Interval)
		}
	}
	// 0 makes an agent poll without pause, and a key error any answer a failure.
	for _, name := range []string{"distributed_interval", "logger_tls_period"} {
		if n, ok := d.Options[name].(float64); !ok || n < 1 {
			t.Errorf("%s is %v", name, d.Options[name])
		}
	}
}

// TestHash follows osquery: SHA-1 over the hex digests of the sources, of which
// there is one. The first value was computed with sha1sum.
func TestHash(t *testing.T) {
	t.Parallel()
	c, err := Parse([]byte("options:\n  a: '<ä>'\n"))
	if err != nil || string(c.config.JSON) != `{"options":{"a":"<ä>"}}` {
		t.Fatalf("%s, %v", c.config.JSON, err)
	}
	if want := "97a8e40ef4549712f6708cdd0ff733701d1e77a6"; c.config.Hash != want {
		t.Errorf("hash %s, want %s", c.config.Hash, want)
	}
	d := defaultConfig(t)
	inner, outer := sha1.New(), sha1.New()
	inner.Write(d.JSON)
	_, _ = io.WriteString(outer, hex.EncodeToString(inner.Sum(nil)))
	if want := hex.EncodeToString(outer.Sum(nil)); d.Hash != want {
		t.Errorf("hash %s, want %s", d.Hash, want)
	}
}

func TestParse_errors(t *testing.T) {
	t.Parallel()
	tests := []struct{ text, problem string }{
		{"option: {}", "option"},
		{"packs: {p: {querys: {}}}", "querys"},
		{"packs: {p: {queries: {q: {query: SELECT 1, intervall: 5}}}}", "intervall"},
		{"packs: {p: {queries: {q: {query: SELECT 1, interval: often}}}}", "interval"},
		{"options: []", ""},
		{"a: [", ""},
		{"options: {a: b}\noptions: {a: c}", "options"},
		{"options: {a: " + strings.Repeat("x", maxConfig) + "}", "osquery takes 1048576"},
	}
	for _, tt := range tests {
		if _, err := Parse([]byte(tt.text)); err == nil || !strings.Contains(err.Error(), tt.problem) {
			t.Errorf("%.60s: %v", tt.text, err)
		}
	}
	if c, err := Parse(nil); err != nil || string(c.config.JSON) != `{}` {
		t.Errorf("nothing: %v", err)
	}
}

// TestDefault_sql prepares every text for each platform that gets it, in a
// SQLite that holds the tables and columns of that platform.
func TestDefault_sql(t *testing.T) {
	t.Parallel()
	tables, err := osquery.LoadSchema()
	if err != nil {
		t.Fatal(err)
	}
	var d struct {
		Decorators map[string][]string
		Packs      map[string]struct {
			Platform string
			Queries  map[string]struct{ Query, Platform string }
		}
	}
	if err := json.Unmarshal(defaultConfig(t).JSON, &d); err != nil {
		t.Fatal(err)
	}
	runsOn := func(platform, on string) bool {
		names := map[string][]string{"linux": {"", "all", "any", "posix", "linux"}, "darwin": {"", "all", "any", "posix", "darwin"}, "windows": {"", "all", "any", "windows"}}
		return slices.Contains(names[on], platform)
	}
	for _, platform := range []string{"linux", "darwin", "windows"} {
		db, err := sql.Open("sqlite", ":memory:")
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		db.SetMaxOpenConns(1)
		for _, table := range tables {
			var columns []string
			for _, c := range table.Columns {
				if c.On(platform) {
					columns = append(columns, `"`+c.Name+`"`)
				}
			}
			if table.On(platform) {
				if _, err := db.ExecContext(t.Context(), fmt.Sprintf(`CREATE TABLE "%s" (%s)`, table.Name, strings.Join(columns, ","))); err != nil {
					t.Fatal(err)
				}
			}
		}
		texts := map[string]string{}
		for _, list := range d.Decorators {
			for _, text := range list {
				texts["decorator "+text] = text
			}
		}
		for name, p := range d.Packs {
			for q, query := range p.Queries {
				if runsOn(p.Platform, platform) && runsOn(query.Platform, platform) {
					texts[name+"/"+q] = query.Query
				}
			}
		}
		if len(texts) < 10 {
			t.Errorf("%s: only %d texts", platform, len(texts))
		}
		for name, text := range texts {
			// A word in double quotes that names no column is a text to SQLite, so
			// there must be none.
			if err := osquery.CheckSelect(text); err != nil || strings.Contains(text, `"`) {
				t.Errorf("%s on %s: %v", name, platform, err)
			}
			if _, err := db.ExecContext(t.Context(), text); err != nil {
				t.Errorf("%s on %s: %v", name, platform, err)
			}
		}
	}
}
