package e2e

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"
)

// TestRedaction seeds secrets wherever an agent can say something, kills the
// server, stops it, and looks for them in every file of the data directory, in its
// log, and in what people get.
func TestRedaction(t *testing.T) {
	t.Parallel()
	// No scanner of this repository should find one: they are put together here.
	seeds := map[string]string{
		"password": "Kq7" + "zebra" + "Vw93xT", "token": "gh" + "p_" + strings.Repeat("zQ9kV2", 6), "bearer": "Zm9" + "vYmFyLXF1dXg" + "7Xp20",
		"url": "hX" + "4!zulu" + "8Rt", "env": "nP5" + "yankee" + "3Lm8", "key": "-----" + "BEGIN PRIVATE KEY-----\nMIGH" + strings.Repeat("Ab3", 30) + "\n-----" + "END PRIVATE KEY-----",
	}
	needles := maps.Clone(seeds)
	needles["key"] = strings.Repeat("Ab3", 10)

	s := newServer(t, "--flush-events", "100", "--log-level", "debug")
	s.setUp()
	c := s.carver(s.secret("servers"), "canary-1")
	row := map[string]string{
		"marker": "harmless-zz7", "cmdline": "mysql -p" + seeds["password"] + " --token " + seeds["token"], "url": "https://app:" + seeds["url"] + "@db/", "pem": seeds["key"],
	}
	env := map[string]string{"key": "DB_PASSWORD", "value": seeds["env"], "marker": "harmless-zz7"}
	line := func(kind string, rows any) map[string]any {
		return map[string]any{"name": "pack_x_" + kind, "hostIdentifier": "canary-1", "unixTime": time.Now().Unix(), "action": kind, kind: rows, "decorations": row}
	}
	var lines []map[string]any
	for range 60 { // enough to be flushed
		lines = append(lines, line("snapshot", []any{row, env}), line("diffResults", map[string]any{"added": []any{env}, "removed": []any{row}}))
	}
	added := line("columns", row)
	added["action"] = "added"
	c.post("log", map[string]any{"node_key": c.key, "log_type": "result", "data": append(lines, added)})
	c.post("log", map[string]any{"node_key": c.key, "log_type": "status", "data": []any{map[string]any{
		"severity": "2", "filename": "x.cpp", "line": "1", "message": "Authorization: Bearer " + seeds["bearer"], "decorations": row,
	}}})
	started := make(chan string, 1)
	go func() {
		out, _ := s.CLI(t.Context(), "query", "SELECT 42 AS answer", "--all", "--wait", "60s", "-o", "json")
		started <- out
	}()
	id := c.poll("SELECT 42")
	c.answer(id, row, env)
	live := <-started
	c.post("distributed/write", map[string]any{"node_key": c.key, "queries": map[string]any{"none": []any{}}, "statuses": map[string]any{"none": 1}, "messages": map[string]any{"none": "password=" + seeds["password"]}})
	if _, err := c.raw("log", []byte(`{"node_key":"`+c.key+`","data":[{"password":"`+seeds["password"]+`"} oops`)); err != nil {
		t.Fatal(err)
	}

	// What people get, before and after a crash.
	shown := func() string {
		return s.cli("event", "search", "--limit", "10000", "-o", "ndjson") + s.cli("event", "search", "--limit", "10000", "-o", "csv") +
			s.cli("live", "results", id, "-o", "csv") + s.cli("node", "show", "canary-1", "-o", "json") + s.cli("audit", "list", "-o", "json")
	}
	before := shown()
	s.check(s.Kill())
	s.start()
	after := shown()
	s.until("segments", func() bool {
		files, _ := filepath.Glob(filepath.Join(s.Dir, "events", "*", "*.parquet"))
		return len(files) > 0
	})
	stats := s.cli("redact", "stats")
	s.check(s.Stop())

	files, values := everything(t, s.Dir)
	for where, text := range map[string]string{"live": live, "before": before, "after": after, "log": s.Log().String(), "files": files, "segments": values, "stats": stats} {
		for name, needle := range needles {
			if strings.Contains(text, needle) {
				t.Errorf("the secret %q is in %s", name, where)
			}
		}
		// What is searched must be where rows are.
		if where != "log" && where != "stats" && (!strings.Contains(text, "harmless-zz7") || !strings.Contains(text, "‹redacted:")) {
			t.Errorf("no row and no placeholder in %s (%d bytes)", where, len(text))
		}
	}
	for _, kind := range []string{"password", "github", "url", "private-key", "header"} {
		if !strings.Contains(after, "‹redacted:"+kind+":") {
			t.Errorf("no placeholder of kind %s", kind)
		}
	}
}

// everything returns the bytes of all files below a directory, and the values
// that are compressed in Parquet files.
func everything(t *testing.T, dir string) (files, values string) {
	t.Helper()
	var all, inside bytes.Buffer
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		all.Write(b)
		if filepath.Ext(path) == ".parquet" {
			return parquetValues(&inside, b)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all.String(), inside.String()
}

func parquetValues(to io.Writer, file []byte) error {
	f, err := parquet.OpenFile(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		return err
	}
	for _, g := range f.RowGroups() {
		rows := g.Rows()
		defer rows.Close()
		buf := make([]parquet.Row, 64)
		for {
			n, err := rows.ReadRows(buf)
			for _, row := range buf[:n] {
				for _, v := range row {
					if v.Kind() == parquet.ByteArray {
						_, _ = to.Write(append(v.ByteArray(), '\n'))
					}
				}
			}
			if errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				return err
			}
		}
	}
	return nil
}
