package carve_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/musterhq/muster/internal/carve"
)

// fuse lets a server die at one of the steps that keep something: nothing that
// it does from then on reaches disk or database. The step itself is done, or
// not.
type fuse struct {
	step   int  // at which it burns, from 0
	done   bool // that step is done before
	copies bool // the store of blobs takes no files over

	mu    sync.Mutex
	armed bool
	at    int
	name  string // of the step at which it burnt
	burnt chan struct{}
}

var errDead = errors.New("the server is dead")

func (f *fuse) arm() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.armed = true
}

// do is one step. The lock makes it one at a time.
func (f *fuse) do(name string, step func() error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.name != "" {
		return errDead
	}
	if !f.armed {
		return step()
	}
	f.at++
	if f.at <= f.step {
		return step()
	}
	if f.done {
		if err := step(); err != nil {
			return err
		}
	}
	f.name = name
	close(f.burnt)
	return errDead
}

// guard returns what the server uses; without a fuse things as they are.
func (f *fuse) guard(k carve.Keeper, s carve.Spool, b interface {
	carve.Store
	carve.Adopter
},
) (carve.Keeper, carve.Spool, carve.Store) {
	switch {
	case f == nil:
		return k, s, b
	case f.copies:
		return fusedKeeper{k, f}, fusedSpool{s, f}, fusedBlobs{b, f}
	}
	return fusedKeeper{k, f}, fusedSpool{s, f}, fusedAdopter{fusedBlobs{b, f}, b}
}

type fusedKeeper struct {
	carve.Keeper

	f *fuse
}

func (k fusedKeeper) SaveCarves(ctx context.Context, carves ...*carve.Carve) error {
	return k.f.do("save", func() error { return k.Keeper.SaveCarves(ctx, carves...) })
}

func (k fusedKeeper) SaveListing(ctx context.Context, c *carve.Carve, archiveID string, files []carve.File) error {
	return k.f.do("listing", func() error { return k.Keeper.SaveListing(ctx, c, archiveID, files) })
}

type fusedSpool struct {
	carve.Spool

	f *fuse
}

func (s fusedSpool) Remove(name string) error {
	return s.f.do("remove", func() error { return s.Spool.Remove(name) })
}

type fusedBlobs struct {
	carve.Store

	f *fuse
}

func (b fusedBlobs) Put(ctx context.Context, name string, size int64, r io.Reader) error {
	return b.f.do("put", func() error { return b.Store.Put(ctx, name, size, r) })
}

func (b fusedBlobs) Delete(ctx context.Context, name string) error {
	return b.f.do("delete", func() error { return b.Store.Delete(ctx, name) })
}

type fusedAdopter struct {
	fusedBlobs

	a carve.Adopter
}

func (a fusedAdopter) Adopt(ctx context.Context, name, path string) error {
	return a.f.do("adopt", func() error { return a.a.Adopt(ctx, name, path) })
}

// TestCrash kills the server before and after each step that finishes a carve.
// Whatever it was, the carve ends well: the right bytes, one blob, no spool.
func TestCrash(t *testing.T) {
	t.Parallel()
	steps := []string{"save", "listing", "store", "save", "remove"}
	for step, name := range steps {
		for _, done := range []bool{false, true} {
			for _, copies := range []bool{false, true} {
				t.Run(fmt.Sprintf("%d %s, done %t, copied %t", step, name, done, copies), func(t *testing.T) {
					t.Parallel()
					at := name
					if name == "store" {
						at = map[bool]string{true: "put", false: "adopt"}[copies]
					}
					crash(t, &fuse{step: step, done: done, copies: copies, burnt: make(chan struct{})}, at)
				})
			}
		}
	}
}

func crash(t *testing.T, f *fuse, name string) {
	t.Helper()
	w := newWorld(t)
	w.fuse = f
	w.start()
	c := w.ask("n1", "/etc/hosts")
	w.answer("n1", w.take("n1")[0].ID, scheduled("/etc/hosts", guid(1), "r1"))
	data := packed(t, guid(1), map[string]string{"/etc/hosts": garbled(20_000)})
	session, err := w.begin("n1", guid(1), "r1", len(data), 4096)
	must(t, err)
	last := (len(data) - 1) / 4096
	for i := range last {
		_, err := w.block(session, i, 4096, data)
		must(t, err)
	}
	f.arm()
	whole, err := w.block(session, last, 4096, data)
	if err != nil || !whole {
		t.Fatal(whole, err)
	}
	select {
	case <-f.burnt:
	case <-time.After(60 * time.Second):
		t.Fatal("it never came to that step")
	}
	if f.name != name {
		t.Errorf("it died at %q, not at %q", f.name, name)
	}
	w.stop()
	w.fuse = &fuse{copies: f.copies} // of the same kind, and never armed
	w.start()
	c = w.until(c.ID, carve.Done)
	a := c.Archives[0]
	if a.State != carve.Done || a.SHA256 != sum(data) || a.Files != 1 || !bytes.Equal(w.read(a), data) {
		t.Errorf("%+v", a)
	}
	if files, err := w.store.CarveFiles(t.Context(), a.ID); err != nil || len(files) != 1 {
		t.Error(files, err)
	}
	if used, _ := w.carves.Usage(); used != a.Room() {
		t.Errorf("%d bytes are counted, not %d", used, a.Room())
	}
	w.stop() // and what it was just doing
	for dir, want := range map[string]int{"spool": 0, "blobs": 1} {
		if entries, err := os.ReadDir(filepath.Join(w.dir, dir)); err != nil || len(entries) != want {
			t.Errorf("%s holds %v, %v", dir, entries, err)
		}
	}
}
