package seal_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/musterhq/muster/internal/seal"
)

func makeKey(tb testing.TB) seal.Key {
	tb.Helper()
	k, err := seal.MakeKey(filepath.Join(tb.TempDir(), "carve.key"))
	if err != nil {
		tb.Fatal(err)
	}
	return k
}

func archive(tb testing.TB, k seal.Key, id string, blockSize, size int64) seal.Archive {
	tb.Helper()
	a, err := k.Archive(id, blockSize, size)
	if err != nil {
		tb.Fatal(err)
	}
	return a
}

// content is n bytes that differ everywhere.
func content(n int64) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(b)
	return b
}

// sealAll seals plain in reverse order, each block in place.
func sealAll(tb testing.TB, a seal.Archive, blockSize int64, plain []byte) []byte {
	tb.Helper()
	file := make([]byte, a.SealedSize())
	header := a.Header()
	copy(file, header[:])
	for i := a.Blocks() - 1; i >= 0; i-- {
		buf := make([]byte, 0, blockSize+seal.Overhead)
		block := append(buf, plain[i*blockSize:i*blockSize+a.BlockLen(i)]...)
		record, err := a.Seal(block[:0], block, i)
		if err != nil {
			tb.Fatal(err)
		}
		if &record[0] != &block[0] {
			tb.Error("sealed elsewhere than in place")
		}
		if n := copy(file[a.Offset(i):], record); n != len(record) {
			tb.Fatalf("record %d of %d: %d bytes of %d fit", i, a.Blocks(), n, len(record))
		}
	}
	return file
}

func read(a seal.Archive, file []byte, from, n int64) ([]byte, error) {
	r, err := seal.NewReader(a, seal.At(bytes.NewReader(file)), from, n)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(r)
	return b, errors.Join(err, r.Close())
}

func TestKey(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "carve.key")
	if _, err := seal.OpenKey(path); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("no file: %v", err)
	}
	made, err := seal.MakeKey(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if opened, err := seal.OpenKey(path); err != nil || opened != made {
		t.Errorf("another key: %v, %v", opened, err)
	}
	if _, err := seal.MakeKey(path); !errors.Is(err, fs.ErrExist) {
		t.Errorf("the key was replaced: %v", err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	secret := strings.TrimSpace(strings.TrimPrefix(string(text), "muster-carve-key-1 "))
	for _, shown := range []string{fmt.Sprint(made), fmt.Sprintf("%+v %#v %v %s", made, made, &made, made)} {
		if !strings.Contains(shown, made.ID()) || strings.Contains(shown, secret) || strings.Contains(shown, "secret") {
			t.Errorf("a key shows as %s", shown)
		}
	}
	for name, bad := range map[string]string{
		"empty": "", "version": "muster-carve-key-2 " + secret, "short": string(text[:40]), "long": string(text[:len(text)-1]) + "AA",
		"bits": string(text[:len(text)-2]) + "_", "other": "muster-key-1 " + secret,
	} {
		if err := os.WriteFile(path, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := seal.OpenKey(path); err == nil || errors.Is(err, fs.ErrNotExist) || strings.Contains(err.Error(), secret[:20]) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	k := makeKey(t)
	for _, tt := range []struct{ block, size, blocks int64 }{
		{1, 0, 0},
		{1, 1, 1},
		{1, 5, 5},
		{7, 6, 1},
		{7, 7, 1},
		{7, 8, 2},
		{7, 700, 100},
		{4096, 10_000, 3},
		{1 << 20, 3<<20 + 17, 4},
		{seal.MaxBlockSize, 0, 0},
		{seal.MaxBlockSize, 3, 1},
		{seal.MaxBlockSize, seal.MaxBlockSize + 1, 2},
	} {
		t.Run(fmt.Sprintf("%d in blocks of %d", tt.size, tt.block), func(t *testing.T) {
			t.Parallel()
			a, plain := archive(t, k, "c-1", tt.block, tt.size), content(tt.size)
			if a.Blocks() != tt.blocks || a.Size() != tt.size || a.SealedSize() != seal.HeaderSize+tt.size+tt.blocks*seal.Overhead {
				t.Errorf("%d blocks, %d bytes, sealed %d", a.Blocks(), a.Size(), a.SealedSize())
			}
			file := sealAll(t, a, tt.block, plain)
			at := []int64{0, 1, 2, tt.block - 1, tt.block, tt.block + 1, tt.size / 2, tt.size - tt.block, tt.size - 1, tt.size}
			for _, from := range at {
				for _, n := range append(at, -1, tt.size*2) {
					if from < 0 || from > tt.size || n < -1 {
						continue
					}
					want := plain[from:]
					if n >= 0 {
						want = want[:min(n, int64(len(want)))]
					}
					got, err := read(a, file, from, n)
					if err != nil || !bytes.Equal(got, want) {
						t.Fatalf("%d from %d: %d bytes, %v; want %d", n, from, len(got), err, len(want))
					}
				}
			}
			for _, from := range []int64{-1, tt.size + 1} {
				if _, err := read(a, file, from, 1); err == nil {
					t.Errorf("read from %d of %d", from, tt.size)
				}
			}
		})
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	k := makeKey(t)
	for _, tt := range [][2]int64{{0, 1}, {-1, 1}, {seal.MaxBlockSize + 1, 1}, {1, -1}, {1, 1<<28 + 1}, {1 << 20, 1 << 62}} {
		if _, err := k.Archive("a", tt[0], tt[1]); err == nil {
			t.Errorf("blocks of %d for %d bytes were taken", tt[0], tt[1])
		}
	}
	a := archive(t, k, "a", 4, 10)
	for _, tt := range []struct {
		i int64
		n int
	}{{-1, 4}, {3, 4}, {3, 0}, {0, 3}, {0, 5}, {2, 4}, {2, 1}, {1 << 62, 4}} {
		if _, err := a.Seal(nil, make([]byte, tt.n), tt.i); err == nil {
			t.Errorf("block %d with %d bytes was sealed", tt.i, tt.n)
		}
		if _, err := a.Open(nil, make([]byte, tt.n+seal.Overhead), tt.i); !errors.Is(err, seal.ErrDamaged) {
			t.Errorf("record %d for %d bytes: %v", tt.i, tt.n, err)
		}
	}
}

// TestTampering: whatever is done to the file, no wrong byte comes out.
func TestTampering(t *testing.T) {
	t.Parallel()
	const block, size = 8, 30
	k := makeKey(t)
	a, plain := archive(t, k, "a", block, size), content(size)
	file := sealAll(t, a, block, plain)
	bad := map[string][]byte{"empty": {}, "twice the header": append(bytes.Clone(file[:seal.HeaderSize]), file[:len(file)-seal.HeaderSize]...)}
	for i := range len(file) * 8 {
		b := bytes.Clone(file)
		b[i/8] ^= 1 << (i % 8)
		bad[fmt.Sprintf("bit %d", i)] = b
	}
	for n := range file {
		bad[fmt.Sprintf("cut to %d", n)] = file[:n]
	}
	swap := func(name string, of []byte, from, to int64) {
		b := bytes.Clone(file)
		copy(b[a.Offset(to):a.Offset(to+1)], of[a.Offset(from):a.Offset(from+1)])
		bad[name] = b
	}
	swap("order", file, 1, 0)
	swap("another archive", sealAll(t, archive(t, k, "b", block, size), block, plain), 1, 1)
	swap("another key", sealAll(t, archive(t, makeKey(t), "a", block, size), block, plain), 1, 1)
	swap("another size", sealAll(t, archive(t, k, "a", block, size+1), block, append(plain, 1)), 1, 1)
	swap("a hole", make([]byte, len(file)), 1, 1)
	for name, b := range bad {
		got, err := read(a, b, 0, -1)
		if err == nil || !errors.Is(err, seal.ErrDamaged) && !errors.Is(err, seal.ErrOtherKey) {
			t.Errorf("%s: %v", name, err)
		}
		if !bytes.HasPrefix(plain, got) {
			t.Errorf("%s: %x came out", name, got)
		}
	}
	// What is not in the way of a range does not disturb it.
	if got, err := read(a, bad["order"], block, block); err != nil || !bytes.Equal(got, plain[block:2*block]) {
		t.Errorf("an untouched block: %x, %v", got, err)
	}
	for name, other := range map[string]seal.Archive{
		"id": archive(t, k, "b", block, size), "block size": archive(t, k, "a", block+1, size), "size": archive(t, k, "a", block, size-1),
	} {
		for _, from := range []int64{0, 9} {
			if got, err := read(other, file, from, -1); !errors.Is(err, seal.ErrDamaged) || len(got) != 0 {
				t.Errorf("with another %s from %d: %x, %v", name, from, got, err)
			}
		}
	}
	for _, from := range []int64{0, 9} {
		if _, err := read(archive(t, makeKey(t), "a", block, size), file, from, -1); !errors.Is(err, seal.ErrOtherKey) {
			t.Errorf("with another key from %d: %v", from, err)
		}
	}
}

// TestSameBlockTwice: sealed again it is other bytes, and both open.
func TestSameBlockTwice(t *testing.T) {
	t.Parallel()
	a := archive(t, makeKey(t), "a", 4, 4)
	one, err1 := a.Seal(nil, []byte("abcd"), 0)
	two, err2 := a.Seal([]byte("x"), []byte("abcd"), 0)
	if errors.Join(err1, err2) != nil || bytes.Equal(one, two[1:]) || two[0] != 'x' {
		t.Fatal(one, two, err1, err2)
	}
	for _, record := range [][]byte{one, two[1:]} {
		if got, err := a.Open([]byte("y"), record, 0); err != nil || string(got) != "yabcd" {
			t.Errorf("%q, %v", got, err)
		}
	}
}

func TestReader(t *testing.T) {
	t.Parallel()
	const block, size = 1 << 10, 10 << 10
	a, plain := archive(t, makeKey(t), "a", block, size), content(size)
	file := sealAll(t, a, block, plain)
	type span struct{ offset, n int64 }
	var asked []span
	closed := 0
	source := func(offset, n int64) (io.ReadCloser, error) {
		asked = append(asked, span{offset, n})
		in := iotest.HalfReader(bytes.NewReader(file[offset : offset+n]))
		return struct {
			io.Reader
			io.Closer
		}{in, closer(func() { closed++ })}, nil
	}
	r, err := seal.NewReader(a, source, 2*block+5, block)
	if err != nil {
		t.Fatal(err)
	}
	if err := iotest.TestReader(r, plain[2*block+5:3*block+5]); err != nil {
		t.Error(err)
	}
	if err := r.Close(); err != nil || closed != 1 {
		t.Errorf("closed %d times: %v", closed, err)
	}
	if _, err := r.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("read after close: %v", err)
	}
	if want := (span{a.Offset(2), 2 * (block + seal.Overhead)}); len(asked) != 1 || asked[0] != want {
		t.Errorf("asked for %v, want %v", asked, want)
	}

	broken := errors.New("broken")
	r, err = seal.NewReader(a, func(int64, int64) (io.ReadCloser, error) { return nil, broken }, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(r); !errors.Is(err, broken) || errors.Is(err, seal.ErrDamaged) {
		t.Errorf("a source that fails: %v", err)
	}
	r, err = seal.NewReader(a, func(int64, int64) (io.ReadCloser, error) { return io.NopCloser(iotest.ErrReader(broken)), nil }, 5000, -1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(r); !errors.Is(err, broken) || errors.Is(err, seal.ErrDamaged) {
		t.Errorf("a source that breaks off: %v", err)
	}
}

type closer func()

func (c closer) Close() error {
	c()
	return nil
}

func FuzzOpen(f *testing.F) {
	const block, size = 16, 40
	a, plain := archive(f, makeKey(f), "a", block, size), content(size)
	file := sealAll(f, a, block, plain)
	f.Add(file, int64(0), int64(-1))
	f.Add(file[:len(file)-1], int64(17), int64(3))
	f.Add([]byte{}, int64(40), int64(0))
	f.Fuzz(func(t *testing.T, file []byte, from, n int64) {
		got, err := read(a, file, from, n)
		if from < 0 || from > size {
			if err == nil {
				t.Error("read from outside")
			}
			return
		}
		if !bytes.HasPrefix(plain[from:], got) {
			t.Errorf("%x came out", got)
		}
		if want := min(size-from, n); err == nil && n >= 0 && int64(len(got)) != want {
			t.Errorf("%d bytes without an error, want %d", len(got), want)
		}
		if a.CheckHeader(file) == nil && len(file) != seal.HeaderSize {
			t.Error("not a header")
		}
		for i := range a.Blocks() {
			if b, err := a.Open(nil, file, i); err == nil && !bytes.Equal(b, plain[i*block:i*block+a.BlockLen(i)]) {
				t.Errorf("block %d is %x", i, b)
			}
		}
	})
}

func BenchmarkSeal(b *testing.B) {
	for _, block := range []int64{300, 64 << 10, 1 << 20, 10 << 20} {
		b.Run(fmt.Sprint(block), func(b *testing.B) {
			a := archive(b, makeKey(b), "a", block, block)
			buf := make([]byte, block, block+seal.Overhead)
			b.SetBytes(block)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := a.Seal(buf[:0], buf, 0); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkRead(b *testing.B) {
	const block, size = 1 << 20, 32 << 20
	a := archive(b, makeKey(b), "a", block, size)
	file := sealAll(b, a, block, content(size))
	b.SetBytes(size)
	b.ReportAllocs()
	for b.Loop() {
		r, err := seal.NewReader(a, seal.At(bytes.NewReader(file)), 0, -1)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, r); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkArchive(b *testing.B) {
	k := makeKey(b)
	b.ReportAllocs()
	for b.Loop() {
		archive(b, k, "a", 1<<20, 100<<20)
	}
}
