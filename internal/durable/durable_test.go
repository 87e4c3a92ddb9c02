package durable_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/musterhq/muster/internal/durable"
)

func TestWriteFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	if err := os.WriteFile(path, []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, m := range []fs.FileMode{0o600, 0o644, 0o400, 0o640} {
		text := fmt.Sprintf("with %v", m)
		if err := durable.WriteFile(path, m, []byte(text)); err != nil {
			t.Fatal(err)
		}
		b, errRead := os.ReadFile(path)
		info, errStat := os.Stat(path)
		if err := errors.Join(errRead, errStat); err != nil {
			t.Fatal(err)
		}
		if string(b) != text || info.Mode() != m {
			t.Errorf("%q, %v; want %q", b, info.Mode(), text)
		}
	}
	// A reader sees one whole content or the other, never a part.
	contents := [][]byte{bytes.Repeat([]byte("a"), 1<<20), bytes.Repeat([]byte("b"), 1<<20)}
	if err := durable.WriteFile(path, 0o600, contents[0]); err != nil {
		t.Fatal(err)
	}
	var reader sync.WaitGroup
	stop := make(chan struct{})
	reader.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			if b, err := os.ReadFile(path); err != nil || !bytes.Equal(b, contents[0]) && !bytes.Equal(b, contents[1]) {
				t.Errorf("%d bytes of a mixture: %v", len(b), err)
				return
			}
		}
	})
	for i := range 20 {
		if err := durable.WriteFile(path, 0o600, contents[i%2]); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	reader.Wait()

	// What fails leaves nothing behind.
	if err := os.Mkdir(filepath.Join(dir, "d"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := durable.WriteFile(filepath.Join(dir, "d"), 0o600, []byte("x")); err == nil {
		t.Error("a directory was replaced by a file")
	}
	if err := durable.WriteFile(filepath.Join(dir, "none", "f"), 0o600, []byte("x")); err == nil {
		t.Error("written into a directory that is not there")
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}
