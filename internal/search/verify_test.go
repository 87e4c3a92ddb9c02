package search

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/musterhq/muster/internal/event"
)

// fillDays adds an event of each query on each of some days, a segment each.
func fillDays(t *testing.T, e *Engine, days int, queries ...string) {
	t.Helper()
	for day := range days {
		for _, q := range queries {
			at := day0.AddDate(0, 0, day)
			b := event.Batch{NodeID: "n", Received: at, Events: []event.Event{{Time: at, Query: q, Action: event.Added, Columns: json.RawMessage(fmt.Sprintf(`{"day":"%d"}`, day))}}}
			add(t, e, e.Seen()+1, b)
			flush(t, e)
		}
	}
}

// kept lists the queries and days that there are, "q0" for day 0 of q.
func kept(t *testing.T, e *Engine) string {
	t.Helper()
	var list []string
	for _, r := range search(t, e, event.Filter{}) {
		day, ok := (&event.Row{Columns: r.Columns}).Column("day")
		if !ok {
			t.Fatalf("%+v", r)
		}
		list = append(list, r.Query+strings.Clone(day))
	}
	slices.Sort(list)
	return strings.Join(list, " ")
}

func TestRetain_queries(t *testing.T) {
	t.Parallel()
	o := testOptions(t, t.TempDir())
	o.Now = func() time.Time { return day0.AddDate(0, 0, 3) }
	o.Retention = 48 * time.Hour
	o.QueryRetention = []QueryRetention{{"noisy*", 24 * time.Hour}, {"kept", 0}, {"noisy_never", time.Hour}}
	e := open(t, o)
	fillDays(t, e, 4, "a", "kept", "noisy_x", "noisy_never")
	if err := e.retain(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := "a1 a2 a3 kept0 kept1 kept2 kept3 noisy_never2 noisy_never3 noisy_x2 noisy_x3"
	if got := kept(t, e); got != want {
		t.Errorf("kept %s, want %s", got, want)
	}
	files, err := e.segmentFiles()
	if err != nil || len(files) != 11 {
		t.Errorf("%d files, %v: what expired is removed at once", len(files), err)
	}
}

// TestRetain_bytes drops what arrived first, and only as much as is too much.
func TestRetain_bytes(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	o := testOptions(t, t.TempDir())
	o.Log = slog.New(slog.NewTextHandler(&log, nil))
	o.MaxBytes = 1
	e := open(t, o)
	fillDays(t, e, 3, "a", "b")
	var size int64
	for _, s := range e.segments {
		size = max(size, s.Bytes)
	}
	for _, c := range []struct {
		most int64
		want string
	}{{10 * size, "a0 a1 a2 b0 b1 b2"}, {4 * size, "a1 a2 b1 b2"}, {size, "b2"}} {
		e.maxBytes = c.most
		if err := e.retain(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := kept(t, e); got != c.want && (c.want != "b2" || got != "a2") {
			t.Errorf("of %d bytes %s is kept, want %s", c.most, got, c.want)
		}
		if s := e.Stats(); s.Bytes > c.most {
			t.Errorf("%d bytes are kept, more than %d", s.Bytes, c.most)
		}
	}
	if !strings.Contains(log.String(), "level=WARN") || !strings.Contains(log.String(), "retention_bytes") {
		t.Errorf("log: %s", log.String())
	}
}

// flip changes one bit of a file.
func flip(t *testing.T, path string, at int) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[(at%len(b)+len(b))%len(b)] ^= 4
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestDamage_anywhere flips a bit anywhere in a segment, in what no page's checksum covers,
// too: after a start it is never served, and what is whole is.
func TestDamage_anywhere(t *testing.T) {
	t.Parallel()
	o := testOptions(t, t.TempDir())
	e := open(t, o)
	fillDays(t, e, 1, "a", "b")
	bad := e.segments[0]
	good := string(e.segments[1].Query) + "0"
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	size := int(bad.Bytes)
	for at := 5; at < size; at += size / 40 {
		o.Dir = filepath.Join(t.TempDir(), "copy")
		if err := os.CopyFS(o.Dir, os.DirFS(e.dir)); err != nil {
			t.Fatal(err)
		}
		flip(t, filepath.Join(o.Dir, filepath.FromSlash(bad.File)), at)
		v, err := Verify(t.Context(), o.Dir, func(int, int) {})
		if err != nil || v.Segments != 2 || len(v.Damaged) != 1 || v.Damaged[0].File != bad.File || len(v.Lost) != 0 {
			t.Fatalf("byte %d: %+v, %v", at, v, err)
		}
		damaged := open(t, o)
		if _, err := damaged.Search(t.Context(), event.Filter{Where: where(t, "day = 0")}); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("byte %d: a search says %v", at, err)
		}
		if got := kept(t, damaged); got != good {
			t.Fatalf("byte %d: %s is served, want %s", at, got, good)
		}
		if s := damaged.Stats(); s.Lost != 1 || s.LostEvents != 1 {
			t.Fatalf("byte %d: %+v", at, s)
		}
		damaged.Close()
		v, err = Verify(t.Context(), o.Dir, func(int, int) {})
		if err != nil || v.Segments != 1 || len(v.Damaged) != 0 || len(v.Lost) != 1 {
			t.Fatalf("byte %d: then %+v, %v", at, v, err)
		}
	}
	if _, err := Verify(t.Context(), t.TempDir(), func(int, int) {}); err == nil {
		t.Error("an empty directory is verified")
	}
}

// TestCheckSome finds damage that nobody has read.
func TestCheckSome(t *testing.T) {
	t.Parallel()
	o := testOptions(t, t.TempDir())
	e := open(t, o)
	fillDays(t, e, 2, "a")
	e.Close()
	flip(t, e.segments0(t), -20)
	e = open(t, o)
	if err := e.checkSome(t.Context()); !errors.Is(err, ErrCorrupt) {
		t.Errorf("the check says %v", err)
	}
	if err := e.checkSome(t.Context()); err != nil {
		t.Errorf("then it says %v", err)
	}
	if s := e.Stats(); s.Lost != 1 || s.Events != 1 {
		t.Errorf("%+v", s)
	}
}

// segments0 returns the path of a segment on disk.
func (e *Engine) segments0(t *testing.T) string {
	t.Helper()
	files, err := e.segmentFiles()
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	return filepath.Join(e.dir, filepath.FromSlash(files[0]))
}

// TestCopy copies the directory while it changes, the manifest first: the copy opens
// and has all that was flushed when it began.
func TestCopy(t *testing.T) {
	t.Parallel()
	o := testOptions(t, t.TempDir())
	var clock time.Duration
	e := open(t, o)
	e.steady = func() time.Duration { return clock }
	fillDays(t, e, 2, "a", "a", "a")
	want := kept(t, e)
	to := t.TempDir()
	m, err := os.ReadFile(filepath.Join(o.Dir, manifestName))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(to, manifestName), m, 0o600); err != nil {
		t.Fatal(err)
	}
	// Meanwhile everything is merged, and more comes.
	e.now = func() time.Time { return day0.AddDate(0, 0, 5) }
	if err := e.compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	fillDays(t, e, 3, "b")
	if err := os.Remove(filepath.Join(o.Dir, manifestName)); err != nil { // cp -n leaves the first
		t.Fatal(err)
	}
	if err := os.CopyFS(to, os.DirFS(o.Dir)); err != nil {
		t.Fatal(err)
	}
	o.Dir = to
	copied := open(t, o)
	if s := copied.Stats(); s.Lost != 0 {
		t.Errorf("%+v", s)
	}
	if got := kept(t, copied); got != want {
		t.Errorf("the copy has %s, want %s", got, want)
	}
	// After a while the files are gone.
	before, _ := e.segmentFiles()
	e.removed.purge(clock - keepRemovedFor)
	middle, _ := e.segmentFiles()
	clock += 2 * keepRemovedFor
	e.removed.purge(clock - keepRemovedFor)
	after, err := e.segmentFiles()
	if err != nil || len(middle) != len(before) || len(before)-len(after) != 6 {
		t.Errorf("%d files, then %d, then %d, %v", len(before), len(middle), len(after), err)
	}
}
