// Package spool keeps the files of archives that are being received: one for
// each, in a directory of the server's own. What is in them is sealed before.
package spool

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"golang.org/x/sys/unix"

	"github.com/musterhq/muster/internal/carve"
	"github.com/musterhq/muster/internal/durable"
	"github.com/musterhq/muster/internal/errs"
)

// Spool is a directory of such files.
type Spool struct{ dir string }

var _ carve.Spool = (*Spool)(nil)

// Open opens the directory, which is made if it is not there.
func Open(dir string) (*Spool, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("spool of carves: %w", err)
	}
	return &Spool{dir: dir}, nil
}

var namePattern = regexp.MustCompile(`^[a-z0-9-]{1,64}$`)

// Path implements [carve.Spool].
func (s *Spool) Path(name string) string { return filepath.Join(s.dir, filepath.Base(name)) }

// Open implements [carve.Spool]. The name of a file that it made is durable when
// it returns.
func (s *Spool) Open(name string, create bool) (carve.SpoolFile, error) {
	if !namePattern.MatchString(name) {
		return nil, errs.New(errs.Invalid, "%q is no name of an archive", name)
	}
	path := s.Path(name)
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOFOLLOW, 0) //nolint:gosec // the name is checked above
	if !errors.Is(err, fs.ErrNotExist) {
		return file{f}, wrap(err)
	}
	if !create {
		return nil, errs.New(errs.NotFound, "archive %s is not in the spool", name)
	}
	f, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600) //nolint:gosec // the name is checked above
	if err != nil {
		return nil, wrap(err)
	}
	if err := durable.SyncDir(s.dir); err != nil {
		return nil, wrap(errors.Join(err, f.Close()))
	}
	return file{f}, nil
}

// wrap gives a full disk the kind that callers act on.
func wrap(err error) error {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return errs.Wrap(errs.Busy, err, "the server's disk is full")
	}
	return err
}

// Remove implements [carve.Spool].
func (s *Spool) Remove(name string) error {
	if !namePattern.MatchString(name) {
		return errs.New(errs.Invalid, "%q is no name of an archive", name)
	}
	if err := os.Remove(s.Path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("spool of carves: %w", err)
	}
	return nil
}

// List implements [carve.Spool]. Files of other names are not its own.
func (s *Spool) List(yield func(name string, modified time.Time) error) error {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return fmt.Errorf("spool of carves: %w", err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !info.Mode().IsRegular() || !namePattern.MatchString(e.Name()) {
			continue // gone meanwhile, or none of ours
		}
		if err := yield(e.Name(), info.ModTime()); err != nil {
			return err
		}
	}
	return nil
}

// Free implements [carve.Spool].
func (s *Spool) Free() (uint64, error) { return durable.Free(s.dir) }

// file is one file of the spool.
type file struct{ *os.File }

// WriteAt is that of os.File, with the kind of a full disk.
func (f file) WriteAt(p []byte, at int64) (int, error) {
	n, err := f.File.WriteAt(p, at)
	return n, wrap(err)
}

// Sync writes the data, and of what is known of the file only what is needed to
// read them.
func (f file) Sync() error { return wrap(syncData(f.File)) }
