package blob

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/musterhq/muster/internal/carve"
	"github.com/musterhq/muster/internal/durable"
	"github.com/musterhq/muster/internal/errs"
)

const (
	dirMode  = 0o700
	fileMode = 0o600
	// newPrefix begins names of files that are being written. No blob's name has
	// a dot, so what is left of a crash is known by it.
	newPrefix = ".new-"
	// copyBuffer is how much of a blob is in memory while it is written.
	copyBuffer = 256 << 10
)

// Dir keeps blobs as files of a directory that belongs to it alone.
type Dir struct {
	path string
	root *os.Root // nothing outside can be reached, whatever is linked
}

// OpenDir opens the directory, makes it if there is none, and removes what a
// crash left half written. One process at a time may have it open.
func OpenDir(path string) (*Dir, error) {
	if err := os.MkdirAll(path, dirMode); err != nil {
		return nil, fmt.Errorf("directory of blobs: %w", err)
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, fmt.Errorf("directory of blobs: %w", err)
	}
	d := &Dir{path: path, root: root}
	if err := d.removeLeftovers(); err != nil {
		return nil, errors.Join(fmt.Errorf("directory of blobs: %w", err), root.Close())
	}
	return d, nil
}

func (d *Dir) removeLeftovers() error {
	return d.each(func(e fs.DirEntry) error {
		if !strings.HasPrefix(e.Name(), newPrefix) {
			return nil
		}
		return d.root.Remove(e.Name())
	})
}

// each reads the directory in parts, because it may hold many files. What it
// yields may be removed.
func (d *Dir) each(yield func(fs.DirEntry) error) error {
	const part = 512
	f, err := d.root.Open(".")
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	for {
		entries, err := f.ReadDir(part)
		for _, e := range entries {
			if err := yield(e); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// Put writes a file beside the blob, syncs it, and renames it.
func (d *Dir) Put(ctx context.Context, name string, size int64, r io.Reader) error {
	if err := errors.Join(checkName(name), checkSize(size)); err != nil {
		return err
	}
	temp := newPrefix + rand.Text()
	err := d.write(temp, &exactly{ctx, r, size})
	if err == nil {
		err = d.root.Rename(temp, name)
	}
	if err != nil {
		if e := d.root.Remove(temp); !errors.Is(e, fs.ErrNotExist) {
			err = errors.Join(err, e)
		}
		return failed("keep", name, err)
	}
	if err := durable.SyncDir(d.path); err != nil {
		return failed("keep", name, err)
	}
	return nil
}

func (d *Dir) write(temp string, r io.Reader) error {
	f, err := d.root.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, fileMode)
	if err != nil {
		return err
	}
	_, err = io.CopyBuffer(struct{ io.Writer }{f}, r, make([]byte, copyBuffer))
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// Adopt renames the file, which must be a regular one. On another file system
// it is copied and removed.
func (d *Dir) Adopt(ctx context.Context, name, path string) error {
	if err := checkName(name); err != nil {
		return err
	}
	size, err := finish(path)
	if err != nil {
		return failed("adopt", name, err)
	}
	err = os.Rename(path, filepath.Join(d.path, name))
	switch {
	case errors.Is(err, syscall.EXDEV):
		return d.adoptCopy(ctx, name, path, size)
	case err != nil:
		return failed("adopt", name, err)
	}
	// The new name first: a crash in between leaves two names, not none.
	if err := errors.Join(durable.SyncDir(d.path), durable.SyncDir(filepath.Dir(path))); err != nil {
		return failed("adopt", name, err)
	}
	return nil
}

// finish makes a file's bytes durable, and its mode that of a blob.
func finish(path string) (int64, error) {
	f, err := os.OpenFile(path, os.O_RDWR|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0) //nolint:gosec // the caller's own file
	if err != nil {
		return 0, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", path)
	}
	if err == nil {
		err = errors.Join(f.Chmod(fileMode), f.Sync())
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func (d *Dir) adoptCopy(ctx context.Context, name, path string, size int64) error {
	f, err := os.Open(path) //nolint:gosec // the caller's own file
	if err != nil {
		return failed("adopt", name, err)
	}
	if err := errors.Join(d.Put(ctx, name, size, f), f.Close()); err != nil {
		return err
	}
	if err := os.Remove(path); err != nil {
		return failed("adopt", name, err)
	}
	return nil
}

// Open opens the file at the offset.
func (d *Dir) Open(_ context.Context, name string, offset, n int64) (io.ReadCloser, error) {
	if err := checkRange(name, offset); err != nil {
		return nil, err
	}
	f, err := d.root.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errNone(name)
	}
	if err != nil {
		return nil, failed("open", name, err)
	}
	if _, err := f.Seek(offset, io.SeekStart); err != nil {
		return nil, failed("open", name, errors.Join(err, f.Close()))
	}
	if n < 0 {
		return f, nil
	}
	return limited{io.LimitReader(f, n), f}, nil
}

type limited struct {
	io.Reader
	io.Closer
}

// Delete removes the file.
func (d *Dir) Delete(_ context.Context, name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	err := d.root.Remove(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = durable.SyncDir(d.path)
	}
	if err != nil {
		return failed("delete", name, err)
	}
	return nil
}

// List yields the files that are blobs. A blob that comes or goes meanwhile may
// be yielded or not.
func (d *Dir) List(ctx context.Context, yield func(carve.Info) error) error {
	return d.each(func(e fs.DirEntry) error {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		if checkName(e.Name()) != nil || !e.Type().IsRegular() {
			return nil //nolint:nilerr // it is no blob
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return failed("list", e.Name(), err)
		}
		return yield(carve.Info{Name: e.Name(), Size: info.Size(), Modified: info.ModTime()})
	})
}

// Close closes the directory.
func (d *Dir) Close() error { return d.root.Close() }

// failed tells a full disk, which an administrator can mend, from the rest.
func failed(what, name string, err error) error {
	err = fmt.Errorf("%s blob %s: %w", what, name, err)
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return errs.Wrap(errs.Busy, err, "the disk of the carves is full")
	}
	return err
}
