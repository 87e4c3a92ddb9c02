package weather

import (
	"bytes"
	"compress/gzip"
	"io"
	"testing"
)

// TestBombsAreWhatTheySay looks into the bombs themselves.
func TestBombsAreWhatTheySay(t *testing.T) {
	all, err := bombs("key")
	if err != nil {
		t.Fatal(err)
	}
	zeros := all[0]
	z, err := gzip.NewReader(zeros.body())
	if err != nil {
		t.Fatal(err)
	}
	z.Multistream(false) // all members are the same
	if n, err := io.Copy(io.Discard, z); n*zeroMembers != 1<<30 || err != nil || zeros.length%zeroMembers != 0 || zeros.length > 2<<20 {
		t.Errorf("%s: %d bytes, the first member has %d inside, %v", zeros.name, zeros.length, n, err)
	}
	for _, b := range all {
		if n, err := io.Copy(io.Discard, b.body()); err != nil || b.length >= 0 && n != b.length {
			t.Errorf("%s: %d bytes, announced %d, %v", b.name, n, b.length, err)
		}
	}
	for _, size := range []int{0, 1, 2, 3, 8, 1000} {
		p := make([]byte, size)
		if n, err := endless('x').Read(p); n != size || err != nil || !bytes.Equal(p, bytes.Repeat([]byte{'x'}, size)) {
			t.Errorf("%d endless bytes: %d %v %q", size, n, err, p)
		}
	}
}
