package blob_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/musterhq/muster/internal/blob"
	"github.com/musterhq/muster/internal/carve"
	"github.com/musterhq/muster/internal/errs"
)

// content is n bytes that differ everywhere, made while they are read.
func content(n int64, seed byte) io.Reader {
	return io.LimitReader(rand.NewChaCha8([32]byte{seed}), n)
}

func bytesOf(tb testing.TB, n int64, seed byte) []byte {
	tb.Helper()
	b, err := io.ReadAll(content(n, seed))
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func get(ctx context.Context, s carve.Store, name string, offset, n int64) ([]byte, error) {
	r, err := s.Open(ctx, name, offset, n)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(r)
	return b, errors.Join(err, r.Close())
}

func list(tb testing.TB, s carve.Store) map[string]int64 {
	tb.Helper()
	all := map[string]int64{}
	err := s.List(tb.Context(), func(i carve.Info) error {
		if age := time.Since(i.Modified); age < -time.Minute || age > time.Hour {
			tb.Errorf("%s was modified %v ago", i.Name, age)
		}
		if _, twice := all[i.Name]; twice {
			tb.Errorf("%s is listed twice", i.Name)
		}
		all[i.Name] = i.Size
		return nil
	})
	if err != nil {
		tb.Fatal(err)
	}
	return all
}

// conformance is what every store must do. The store is empty, and stays so.
func conformance(t *testing.T, s carve.Store, big int64) {
	t.Helper()
	testRanges(t, s, big)
	testReplace(t, s, big)
	testFailed(t, s, big)
	testNames(t, s)
	testMany(t, s)
	if left := list(t, s); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func testRanges(t *testing.T, s carve.Store, big int64) {
	t.Helper()
	ctx := t.Context()
	for _, size := range []int64{0, 1, 1000, big} {
		name := fmt.Sprintf("size-%d", size)
		if err := s.Put(ctx, name, size, iotest.HalfReader(content(size, 1))); err != nil {
			t.Fatal(err)
		}
		all := bytesOf(t, size, 1)
		for _, tt := range []struct{ offset, n int64 }{
			{0, -1},
			{0, size},
			{0, size + 100},
			{0, 1},
			{0, 0},
			{size / 2, 10},
			{size / 2, -1},
			{size / 2, 0},
			{max(0, size-1), 1},
			{max(0, size-1), -1},
			{size, -1},
			{size, 1},
			{size + 5, -1},
			{size + 5, 7},
		} {
			want := all[min(tt.offset, size):]
			if tt.n >= 0 {
				want = want[:min(tt.n, int64(len(want)))]
			}
			if got, err := get(ctx, s, name, tt.offset, tt.n); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%d bytes from %d of %d: %d, %v; want %d", tt.n, tt.offset, size, len(got), err, len(want))
			}
		}
		if got := list(t, s); len(got) != 1 || got[name] != size {
			t.Errorf("listed: %v", got)
		}
		// A reader that is given up in the middle.
		r, err := s.Open(ctx, name, 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		if err := errors.Join(s.Delete(ctx, name), s.Delete(ctx, name)); err != nil {
			t.Error(err)
		}
		if _, err := get(ctx, s, name, 0, -1); !errs.Is(err, errs.NotFound) {
			t.Errorf("deleted, and read: %v", err)
		}
	}
}

func testReplace(t *testing.T, s carve.Store, big int64) {
	t.Helper()
	ctx := t.Context()
	for i, size := range []int64{10, big, 5, 0, 7} {
		if err := s.Put(ctx, "a", size, content(size, byte(i))); err != nil {
			t.Fatal(err)
		}
		if got, err := get(ctx, s, "a", 0, -1); err != nil || !bytes.Equal(got, bytesOf(t, size, byte(i))) {
			t.Errorf("put %d bytes, got %d, %v", size, len(got), err)
		}
	}
	// More than the size is not read.
	r := strings.NewReader("abcdef")
	if err := s.Put(ctx, "a", 3, r); err != nil || r.Len() != 3 {
		t.Errorf("%d are left: %v", r.Len(), err)
	}
	if got, err := get(ctx, s, "a", 0, -1); err != nil || string(got) != "abc" {
		t.Errorf("%q, %v", got, err)
	}
	if err := s.Delete(ctx, "a"); err != nil {
		t.Error(err)
	}
}

// testFailed: whatever fails leaves the old blob as it was.
func testFailed(t *testing.T, s carve.Store, big int64) {
	t.Helper()
	ctx := t.Context()
	if err := s.Put(ctx, "old", 3, strings.NewReader("old")); err != nil {
		t.Fatal(err)
	}
	broken := errors.New("broken")
	for _, size := range []int64{10, big} {
		for _, name := range []string{"old", "new"} {
			if err := s.Put(ctx, name, size, content(size-1, 1)); !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("%d of %d bytes: %v", size-1, size, err)
			}
			r := io.MultiReader(content(size-1, 1), iotest.ErrReader(broken))
			if err := s.Put(ctx, name, size, r); !errors.Is(err, broken) {
				t.Errorf("after %d of %d bytes the reader fails: %v", size-1, size, err)
			}
			ctx, cancel := context.WithCancel(ctx)
			r = io.MultiReader(content(size/2, 1), readFunc(func(p []byte) (int, error) {
				cancel()
				return len(p), nil
			}))
			if err := s.Put(ctx, name, size, r); !errors.Is(err, context.Canceled) {
				t.Errorf("cancelled after %d of %d bytes: %v", size/2, size, err)
			}
		}
	}
	if err := s.Put(ctx, "new", -1, strings.NewReader("x")); !errs.Is(err, errs.Invalid) {
		t.Errorf("of size -1: %v", err)
	}
	if got, err := get(ctx, s, "old", 0, -1); err != nil || string(got) != "old" {
		t.Errorf("%q, %v", got, err)
	}
	if got := list(t, s); len(got) != 1 {
		t.Errorf("listed: %v", got)
	}
	if err := s.Delete(ctx, "old"); err != nil {
		t.Error(err)
	}
}

type readFunc func(p []byte) (int, error)

func (f readFunc) Read(p []byte) (int, error) { return f(p) }

func testNames(t *testing.T, s carve.Store) {
	t.Helper()
	ctx := t.Context()
	for _, name := range []string{"", ".", "..", "a/b", "../a", "A", "a.b", "a b", "ä", "a\x00", "a\n", "$a", `a\b`, "a*", strings.Repeat("a", 65)} {
		_, errOpen := s.Open(ctx, name, 0, -1)
		for _, err := range []error{errOpen, s.Put(ctx, name, 1, strings.NewReader("x")), s.Delete(ctx, name)} {
			if !errs.Is(err, errs.Invalid) {
				t.Errorf("%q: %v", name, err)
			}
		}
	}
	if _, err := s.Open(ctx, "a", -1, 1); !errs.Is(err, errs.Invalid) {
		t.Errorf("from -1: %v", err)
	}
	for _, name := range []string{"a", "-", "0", "--a--", strings.Repeat("z", 64)} {
		if err := s.Put(ctx, name, 1, strings.NewReader("x")); err != nil {
			t.Errorf("%q: %v", name, err)
		}
		if got, err := get(ctx, s, name, 0, -1); err != nil || string(got) != "x" {
			t.Errorf("%q: %q, %v", name, got, err)
		}
		if err := s.Delete(ctx, name); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func testMany(t *testing.T, s carve.Store) {
	t.Helper()
	ctx := t.Context()
	const many = 20
	var group errgroup.Group
	for i := range many {
		group.Go(func() error {
			return s.Put(ctx, fmt.Sprintf("many-%d", i), int64(i), content(int64(i), byte(i)))
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	got := list(t, s)
	if len(got) != many {
		t.Errorf("listed: %v", got)
	}
	stop := errors.New("stop")
	if err := s.List(ctx, func(carve.Info) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("a list that its user stops: %v", err)
	}
	// What is listed may be deleted while listing.
	if err := s.List(ctx, func(i carve.Info) error { return s.Delete(ctx, i.Name) }); err != nil {
		t.Error(err)
	}
}

func TestDir(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "deep", "blobs")
	s, err := blob.OpenDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	conformance(t, s, 3<<20+7)
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
	if err := s.Put(t.Context(), "a", 1, strings.NewReader("x")); err != nil {
		t.Fatal(err)
	}
	for path, mode := range map[string]os.FileMode{dir: 0o700 | os.ModeDir, filepath.Join(dir, "a"): 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode() != mode {
			t.Errorf("%s: %v, %v", path, info, err)
		}
	}
	// What is no blob is not listed, and a crash's leftovers go away.
	for _, name := range []string{".new-left", "README.txt"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	outside := filepath.Join(t.TempDir(), "outside")
	if err := errors.Join(os.WriteFile(outside, []byte("x"), 0o600), os.Symlink(outside, filepath.Join(dir, "link"))); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if s, err = blob.OpenDir(dir); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if got := list(t, s); len(got) != 1 || got["a"] != 1 {
		t.Errorf("listed: %v", got)
	}
	if _, err := get(t.Context(), s, "link", 0, -1); err == nil {
		t.Error("read outside of the directory")
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 3 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
	if _, err := blob.OpenDir(outside); err == nil {
		t.Error("a file is no directory")
	}
}

func TestAdopt(t *testing.T) {
	t.Parallel()
	from := map[string]string{"the same file system": t.TempDir()}
	if dir, err := os.MkdirTemp("/dev/shm", "muster-adopt-"); err == nil { //nolint:usetesting // another file system
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
		from["another file system"] = dir
	}
	for name, dir := range from {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, err := blob.OpenDir(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			ctx := t.Context()
			var _ carve.Adopter = s
			for i, text := range []string{"first", "second, longer", ""} {
				path := filepath.Join(dir, fmt.Sprint("spool", i))
				if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
				if err := s.Adopt(ctx, "a", path); err != nil {
					t.Fatal(err)
				}
				if got, err := get(ctx, s, "a", 0, -1); err != nil || string(got) != text {
					t.Errorf("%q, %v", got, err)
				}
			}
			if err := s.Adopt(ctx, "b", filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("no file: %v", err)
			}
			path := filepath.Join(dir, "kept")
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := s.Adopt(ctx, "B", path); !errs.Is(err, errs.Invalid) {
				t.Errorf("a bad name: %v", err)
			}
			link := filepath.Join(dir, "link")
			if err := errors.Join(os.Symlink(path, link), s.Adopt(ctx, "b", link)); err == nil {
				t.Error("a link was adopted")
			}
			if got := list(t, s); len(got) != 1 {
				t.Errorf("listed: %v", got)
			}
			if entries, err := os.ReadDir(dir); err != nil || len(entries) != 2 {
				t.Errorf("left: %v, %v", entries, err)
			}
		})
	}
}
