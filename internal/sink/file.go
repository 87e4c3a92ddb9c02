package sink

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/klauspost/compress/gzip"

	"github.com/musterhq/muster/internal/resource"
)

// Defaults of a file.
const (
	defaultFileMiB  = 100
	defaultFileAge  = 24 * time.Hour
	defaultFileKeep = 10
)

// fileSender appends lines to a file of one directory, and puts it aside when it is
// large or old.
type fileSender struct {
	root   *os.Root
	name   string
	max    int64
	maxAge time.Duration
	keep   int
	now    func() time.Time

	file  *os.File
	size  int64
	begun time.Time // when the file was made
	buf   []byte
}

func (m *Manager) openFile(f *resource.SinkFile) (Sender, error) {
	if err := os.MkdirAll(m.FileDir, 0o750); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(m.FileDir)
	if err != nil {
		return nil, err
	}
	s := &fileSender{
		root: root, name: f.Name, max: int64(cmp.Or(f.MaxMiB, defaultFileMiB)) << 20,
		maxAge: cmp.Or(time.Duration(f.MaxAge), defaultFileAge), keep: cmp.Or(f.Keep, defaultFileKeep), now: m.Now,
	}
	if err := s.open(); err != nil {
		return nil, errors.Join(err, root.Close())
	}
	if err := s.tidy(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// open opens the file to append to. A line that a crash left half is dropped: its
// event comes again.
func (s *fileSender) open() error {
	f, err := s.root.OpenFile(s.name, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o640)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is no regular file", s.name)
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	whole, err := wholeLines(f)
	if err == nil && whole < info.Size() {
		err = f.Truncate(whole)
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	s.file, s.size, s.begun = f, whole, s.beginning(f, whole)
	return nil
}

// beginning returns since when a file is written to: what its first line says is not
// known in all formats, so one that is there counts from its last change.
func (s *fileSender) beginning(f *os.File, size int64) time.Time {
	if info, err := f.Stat(); err == nil && size > 0 {
		return info.ModTime()
	}
	return s.now()
}

// wholeLines returns how many bytes of a file are whole lines.
func wholeLines(f *os.File) (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	const step = 64 << 10
	buf := make([]byte, step)
	for end := info.Size(); end > 0; {
		from := max(0, end-step)
		n, err := f.ReadAt(buf[:end-from], from)
		if err != nil && !errors.Is(err, io.EOF) {
			return 0, err
		}
		if i := bytes.LastIndexByte(buf[:n], '\n'); i >= 0 {
			return from + int64(i) + 1, nil
		}
		end = from
	}
	return 0, nil
}

// Send implements Sender. It returns when the lines are on disk.
func (s *fileSender) Send(_ context.Context, items []Item) ([]Refusal, error) {
	if s.file == nil {
		if err := s.open(); err != nil {
			return nil, err
		}
	}
	if s.size > 0 && (s.size >= s.max || s.now().Sub(s.begun) >= s.maxAge) {
		if err := s.rotate(); err != nil {
			return nil, err
		}
	}
	s.buf = s.buf[:0]
	for i := range items {
		s.buf = append(append(s.buf, items[i].Line...), '\n')
	}
	n, err := s.file.Write(s.buf)
	if err == nil {
		err = s.file.Sync()
	}
	if err != nil { // as of a full disk: half a batch would be there twice
		return nil, errors.Join(err, s.file.Truncate(s.size))
	}
	s.size += int64(n)
	return nil, nil
}

// aside is how a file that was put aside is called: when, in UTC.
const aside = "20060102T150405.000000000Z"

// rotate puts the file aside, begins another, and compresses the one put aside.
func (s *fileSender) rotate() error {
	old := s.file
	s.file = nil
	if err := old.Close(); err != nil {
		return err
	}
	ext := path.Ext(s.name)
	to := strings.TrimSuffix(s.name, ext) + "-" + s.now().UTC().Format(aside) + ext
	if err := s.root.Rename(s.name, to); err != nil {
		return err
	}
	if err := s.open(); err != nil {
		return err
	}
	return s.tidy()
}

// tidy compresses what was put aside, also before a crash, and removes the oldest.
func (s *fileSender) tidy() error {
	list, err := fs.ReadDir(s.root.FS(), ".")
	if err != nil {
		return err
	}
	var old []string
	for _, e := range list {
		name, zipped := strings.CutSuffix(e.Name(), ".gz")
		if !s.isAside(name) {
			continue
		}
		if !zipped {
			if err := s.compress(name); err != nil {
				return err
			}
		}
		old = append(old, name)
	}
	slices.Sort(old)
	old = slices.Compact(old) // with a .gz that a crash left half, there were two
	for ; len(old) > s.keep; old = old[1:] {
		if err := s.root.Remove(old[0] + ".gz"); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// isAside reports whether a name is that of a file put aside by rotate.
func (s *fileSender) isAside(name string) bool {
	ext := path.Ext(s.name)
	rest, ok := strings.CutPrefix(name, strings.TrimSuffix(s.name, ext)+"-")
	if !ok {
		return false
	}
	rest, ok = strings.CutSuffix(rest, ext)
	_, err := time.Parse(aside, rest)
	return ok && err == nil
}

func (s *fileSender) compress(name string) (err error) {
	in, err := s.root.Open(name)
	if err != nil {
		return err
	}
	defer in.Close() //nolint:errcheck // only read
	half := name + ".gz.half"
	out, err := s.root.OpenFile(half, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o640)
	if err != nil {
		return err
	}
	zip, _ := gzip.NewWriterLevel(out, gzip.BestSpeed) // the level is one
	_, err = io.Copy(zip, in)
	if err = errors.Join(err, zip.Close()); err == nil {
		err = out.Sync()
	}
	if err = errors.Join(err, out.Close()); err != nil {
		return err
	}
	if err := s.root.Rename(half, name+".gz"); err != nil {
		return err
	}
	return s.root.Remove(name)
}

// reopen opens the file anew at the next batch, for who moved it.
func (s *fileSender) reopen() error {
	old := s.file
	s.file = nil
	if old == nil {
		return nil
	}
	return old.Close()
}

// Close implements Sender.
func (s *fileSender) Close() error {
	return errors.Join(s.reopen(), s.root.Close())
}
