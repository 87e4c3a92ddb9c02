// Package backup writes and reads the one file that a backup is: a tar of all that
// a server needs to go on, compressed with zstd (RFC 8878), with a manifest at its
// end. A file without it was cut, and is refused as a whole.
//
// It knows the form, not what is in it: that is gathered by the server (see app),
// and put in its place by Restore.
package backup

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/musterhq/muster/internal/errs"
)

// manifestName is the last entry. No file of a data directory is called so.
const manifestName = "backup-manifest.json"

// version is of the form. A reader refuses later ones.
const version = 1

// maxManifest bounds what is read into memory: a million files.
const maxManifest = 200 << 20

// Manifest says what is in a backup.
type Manifest struct {
	Version int       `json:"version"`
	Muster  string    `json:"muster"` // the version that made it
	MadeAt  time.Time `json:"made_at"`
	Files   []File    `json:"files"`
}

// File is one file of a backup.
type File struct {
	Name   string `json:"name"` // relative, with slashes
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"` // hex
}

// Bytes returns what all files take.
func (m Manifest) Bytes() (n int64) {
	for _, f := range m.Files {
		n += f.Size
	}
	return n
}

// Writer writes a backup. It is for one caller.
type Writer struct {
	manifest Manifest
	zip      *zstd.Encoder
	tar      *tar.Writer
}

// NewWriter returns a Writer to w. Close it, or what was written is no backup.
func NewWriter(w io.Writer, muster string, now time.Time) (*Writer, error) {
	z, err := zstd.NewWriter(w, zstd.WithEncoderConcurrency(1)) // beside a server at work
	if err != nil {
		return nil, err
	}
	return &Writer{Manifest{Version: version, Muster: muster, MadeAt: now.UTC()}, z, tar.NewWriter(z)}, nil
}

// AddFile adds a file as it is now: what is appended meanwhile is left out.
func (w *Writer) AddFile(name, file string) error {
	f, err := os.Open(file) //nolint:gosec // of the server's own directory
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // it is only read
	info, err := f.Stat()
	if err != nil {
		return err
	}
	return w.add(name, info.Size(), f)
}

// AddDir adds all regular files below a directory, but those that skip names, by
// their path in it. A directory that is not there has none; a file that goes
// meanwhile is left out.
func (w *Writer) AddDir(name, dir string, skip func(name string) bool) error {
	return filepath.WalkDir(dir, func(file string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, file)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		if skip != nil && skip(rel) {
			if entry.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if !entry.Type().IsRegular() {
			return nil
		}
		if err := w.AddFile(path.Join(name, rel), file); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	})
}

// AddBytes adds a small file.
func (w *Writer) AddBytes(name string, b []byte) error {
	return w.add(name, int64(len(b)), strings.NewReader(string(b)))
}

func (w *Writer) add(name string, size int64, r io.Reader) error {
	const mode = 0o600
	if err := w.tar.WriteHeader(&tar.Header{Name: name, Size: size, Mode: mode, ModTime: w.manifest.MadeAt, Format: tar.FormatPAX}); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	sum := sha256.New()
	if n, err := io.Copy(w.tar, io.TeeReader(io.LimitReader(r, size), sum)); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	} else if n != size {
		return fmt.Errorf("%s became shorter while it was read", name)
	}
	w.manifest.Files = append(w.manifest.Files, File{name, size, hex.EncodeToString(sum.Sum(nil))})
	return nil
}

// Close writes the manifest and the end.
func (w *Writer) Close() (Manifest, error) {
	b, err := json.Marshal(w.manifest)
	if err != nil {
		return w.manifest, err
	}
	const mode = 0o600
	err = w.tar.WriteHeader(&tar.Header{Name: manifestName, Size: int64(len(b)), Mode: mode, ModTime: w.manifest.MadeAt})
	if err == nil {
		_, err = w.tar.Write(b)
	}
	return w.manifest, errors.Join(err, w.tar.Close(), w.zip.Close())
}

// errDamaged refuses what is no whole backup.
func errDamaged(format string, args ...any) error {
	return errs.New(errs.Invalid, "the backup is damaged or cut: "+format, args...)
}

// Read reads a backup and gives each file to put, which must read it. It checks all
// against the manifest: what was put is to be believed only if there is no error.
func Read(r io.Reader, put func(name string, r io.Reader) error) (m Manifest, err error) {
	z, err := zstd.NewReader(r, zstd.WithDecoderMaxMemory(256<<20))
	if err != nil {
		return m, err
	}
	defer z.Close()
	t := tar.NewReader(z)
	var found []File
	for {
		head, err := t.Next()
		if errors.Is(err, io.EOF) {
			return m, errDamaged("it has no manifest at its end")
		}
		if err != nil {
			return m, errDamaged("%v", err)
		}
		if head.Name == manifestName {
			if err := json.NewDecoder(io.LimitReader(t, maxManifest)).Decode(&m); err != nil {
				return m, errDamaged("its manifest cannot be read: %v", err)
			}
			return m, m.compare(found)
		}
		if head.Typeflag != tar.TypeReg || !filepath.IsLocal(filepath.FromSlash(head.Name)) || strings.Contains(head.Name, `\`) {
			return m, errDamaged("it names %q, which is no file of a data directory", head.Name)
		}
		counted := &counter{sum: sha256.New()}
		if err := put(head.Name, io.TeeReader(t, counted)); err != nil {
			return m, err
		}
		if _, err := io.Copy(counted, t); err != nil { //nolint:gosec // as large as it says, and no larger than the disk
			return m, errDamaged("%s: %v", head.Name, err)
		}
		found = append(found, File{head.Name, counted.n, hex.EncodeToString(counted.sum.Sum(nil))})
	}
}

type counter struct {
	sum hash.Hash
	n   int64
}

func (c *counter) Write(b []byte) (int, error) {
	c.n += int64(len(b))
	return c.sum.Write(b)
}

func (m Manifest) compare(found []File) error {
	if m.Version != version {
		return errs.New(errs.Invalid, "the backup has version %d of its form; this Muster knows %d: use the one that made it, %s", m.Version, version, m.Muster)
	}
	if len(found) != len(m.Files) {
		return errDamaged("%d files are there, and %d were put in", len(found), len(m.Files))
	}
	for i, f := range m.Files {
		if found[i] != f {
			return errDamaged("%s is not what was put in", f.Name)
		}
	}
	names := map[string]bool{}
	if i := slices.IndexFunc(m.Files, func(f File) bool { had := names[f.Name]; names[f.Name] = true; return had }); i >= 0 {
		return errDamaged("%s is there twice", m.Files[i].Name)
	}
	return nil
}

// Verify reads a backup to its end.
func Verify(r io.Reader) (Manifest, error) {
	return Read(r, func(_ string, r io.Reader) error {
		_, err := io.Copy(io.Discard, r)
		if err != nil {
			return errDamaged("%v", err)
		}
		return nil
	})
}

// Restore puts a backup into a directory, which must not be there or be empty.
// finish is called with where the files are before they get their place; nothing is
// left of a backup that is refused.
func Restore(r io.Reader, dir string, finish func(dir string, m Manifest) error) (m Manifest, err error) {
	if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
		return m, errs.New(errs.Conflict, "%s is not empty; restore into a new directory, and move it to its place", dir)
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return m, err
	}
	dir = filepath.Clean(dir)
	half := dir + ".restoring"
	if err := os.RemoveAll(half); err != nil {
		return m, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(half))
		}
	}()
	if err := os.MkdirAll(half, 0o700); err != nil {
		return m, err
	}
	m, err = Read(r, func(name string, r io.Reader) error { return putFile(filepath.Join(half, filepath.FromSlash(name)), r) })
	if err == nil {
		err = finish(half, m)
	}
	if err != nil {
		return m, err
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) { // an empty one
		return m, err
	}
	return m, os.Rename(half, dir)
}

func putFile(file string, r io.Reader) (err error) {
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600) //nolint:gosec // below the directory, see Read
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := io.Copy(f, r); err != nil {
		return errDamaged("%v", err)
	}
	return f.Sync()
}
