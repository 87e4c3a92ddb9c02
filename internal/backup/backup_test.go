package backup_test

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/musterhq/muster/internal/backup"
	"github.com/musterhq/muster/internal/errs"
)

var at = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)

// made is a backup of a small directory.
func made(tb testing.TB) []byte {
	tb.Helper()
	dir := tb.TempDir()
	for name, text := range map[string]string{"a": "A", "sub/b": strings.Repeat("B", 100_000), "sub/empty": "", "left/out": "x", "out": "x"} {
		file := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o700), os.WriteFile(file, []byte(text), 0o600)); err != nil {
			tb.Fatal(err)
		}
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, "link")); err != nil {
		tb.Fatal(err)
	}
	var b bytes.Buffer
	w, err := backup.NewWriter(&b, "1.2.3", at)
	if err != nil {
		tb.Fatal(err)
	}
	err = errors.Join(
		w.AddDir("", dir, func(name string) bool { return name == "left" || name == "out" }),
		w.AddDir("none", filepath.Join(dir, "none"), nil),
		w.AddBytes("more.json", []byte("{}")),
	)
	if err != nil {
		tb.Fatal(err)
	}
	if m, err := w.Close(); err != nil || len(m.Files) != 4 || m.Bytes() != 100_003 {
		tb.Fatalf("%+v, %v", m, err)
	}
	return b.Bytes()
}

func TestRestore(t *testing.T) {
	t.Parallel()
	whole := made(t)
	dir := filepath.Join(t.TempDir(), "new")
	finished := ""
	m, err := backup.Restore(bytes.NewReader(whole), dir, func(half string, _ backup.Manifest) error { finished = half; return nil })
	if err != nil || m.Muster != "1.2.3" || !m.MadeAt.Equal(at) || finished != dir+".restoring" {
		t.Fatalf("%+v, %v", m, err)
	}
	b, err := os.ReadFile(filepath.Join(dir, "sub", "b"))
	if err != nil || len(b) != 100_000 {
		t.Errorf("%d, %v", len(b), err)
	}
	for _, name := range []string{"left", "out", "link"} {
		if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
			t.Errorf("%s is in it", name)
		}
	}
	if _, err := backup.Restore(bytes.NewReader(whole), dir, nil); !errs.Is(err, errs.Conflict) {
		t.Errorf("over another: %v", err)
	}
	other := filepath.Join(t.TempDir(), "other")
	broken := errors.New("it is none of ours")
	if _, err := backup.Restore(bytes.NewReader(whole), other, func(string, backup.Manifest) error { return broken }); !errors.Is(err, broken) {
		t.Error(err)
	}
	if left, _ := filepath.Glob(other + "*"); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// entry is one entry of a backup that is made by hand.
type entry struct {
	name string
	text string
	kind byte
}

func byHand(tb testing.TB, entries ...entry) []byte {
	tb.Helper()
	var b bytes.Buffer
	z, err := zstd.NewWriter(&b)
	if err != nil {
		tb.Fatal(err)
	}
	w := tar.NewWriter(z)
	for _, e := range entries {
		kind := e.kind
		if kind == 0 {
			kind = tar.TypeReg
		}
		if err := w.WriteHeader(&tar.Header{Name: e.name, Size: int64(len(e.text)), Mode: 0o600, Typeflag: kind, Linkname: "/etc/passwd"}); err != nil {
			tb.Fatal(err)
		}
		if _, err := io.WriteString(w, e.text); err != nil {
			tb.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), z.Close()); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

func manifest(tb testing.TB, version int, entries ...entry) entry {
	tb.Helper()
	m := backup.Manifest{Version: version, Muster: "9"}
	for _, e := range entries {
		sum := sha256.Sum256([]byte(e.text))
		m.Files = append(m.Files, backup.File{Name: e.name, Size: int64(len(e.text)), SHA256: hex.EncodeToString(sum[:])})
	}
	b, err := json.Marshal(m)
	if err != nil {
		tb.Fatal(err)
	}
	return entry{name: "backup-manifest.json", text: string(b)}
}

// TestRead_hostile: what is no whole backup puts nothing anywhere.
func TestRead_hostile(t *testing.T) {
	t.Parallel()
	a, b := entry{name: "a", text: "A"}, entry{name: "b", text: "B"}
	whole := made(t)
	for what, c := range map[string]struct {
		b    []byte
		want string
	}{
		"nothing":         {nil, "damaged or cut"},
		"no archive":      {[]byte("hello"), "damaged or cut"},
		"cut":             {whole[:len(whole)-10], "damaged or cut"},
		"without its end": {byHand(t, a), "no manifest"},
		"less":            {byHand(t, a, manifest(t, 1, a, b)), "1 files are there"},
		"more":            {byHand(t, a, b, manifest(t, 1, a)), "2 files are there"},
		"other":           {byHand(t, a, manifest(t, 1, entry{name: "a", text: "X"})), "a is not what was put in"},
		"twice":           {byHand(t, a, a, manifest(t, 1, a, a)), "file exists"},
		"of later":        {byHand(t, manifest(t, 2)), "use the one that made it"},
		"outside":         {byHand(t, entry{name: "../x", text: "X"}), "no file of a data directory"},
		"absolute":        {byHand(t, entry{name: "/etc/x", text: "X"}), "no file of a data directory"},
		"backslash":       {byHand(t, entry{name: `..\x`, text: "X"}), "no file of a data directory"},
		"a link":          {byHand(t, entry{name: "l", kind: tar.TypeSymlink}), "no file of a data directory"},
		"rubbish at last": {byHand(t, entry{name: "backup-manifest.json", text: "{"}), "manifest cannot be read"},
	} {
		dir := filepath.Join(t.TempDir(), "dir")
		_, err := backup.Restore(bytes.NewReader(c.b), dir, func(string, backup.Manifest) error { return nil })
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", what, err)
		}
		if left, _ := filepath.Glob(dir + "*"); len(left) > 0 {
			t.Errorf("%s: left %v", what, left)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add(made(f))
	f.Add(byHand(f, entry{name: "a", text: "A"}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, err := backup.Verify(bytes.NewReader(b)); err == nil && m.Version != 1 {
			t.Errorf("%+v", m)
		}
	})
}
