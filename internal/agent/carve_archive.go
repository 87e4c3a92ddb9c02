package agent

import (
	"archive/tar"
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/klauspost/compress/zstd"
)

// copyFiles copies what is a file and can be read to below dir, with its whole
// path, and returns the copies. None is an error; of several, those that cannot
// be read are left out.
func (a *Agent) copyFiles(ctx context.Context, dir string, paths []string) ([]string, error) {
	var copies []string
	var failed error
	left := int64(maxCarveBytes)
	for _, path := range paths {
		to := filepath.Join(dir, filepath.Join("/", path))
		n, err := copyFile(ctx, to, path, left)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			failed = err
			a.status(ctx, info, "Failed to carve file "+path+": "+err.Error())
			continue
		}
		left -= n
		copies = append(copies, to)
	}
	if len(copies) == 0 {
		return nil, fmt.Errorf("no file could be read: %w", failed)
	}
	return copies, nil
}

var errNoFile = errors.New("file does not exist on disk or is subdirectory")

// copyFile copies a regular file, or what a link to one points to: a pipe or
// device would never end. A file of /proc says that it has no bytes, so it is
// read to its end.
func copyFile(ctx context.Context, to, from string, most int64) (n int64, err error) {
	if !filepath.IsAbs(from) {
		return 0, errNoFile
	}
	if s, err := os.Stat(from); err != nil || !s.Mode().IsRegular() {
		return 0, errors.Join(errNoFile, err)
	}
	in, err := os.Open(from) //nolint:gosec // what was asked for, with the agent's own rights
	if err != nil {
		return 0, err
	}
	defer in.Close() //nolint:errcheck // a reader
	s, err := in.Stat()
	if err != nil || !s.Mode().IsRegular() {
		return 0, errors.Join(errNoFile, err)
	}
	if err := os.MkdirAll(filepath.Dir(to), privateDir); err != nil {
		return 0, err
	}
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, privateFile) //nolint:gosec // below our own directory
	if err != nil {
		return 0, err
	}
	defer func() {
		if err = errors.Join(err, out.Close()); err != nil {
			_ = os.Remove(to) // half a file is no evidence
		}
	}()
	if n, err = io.Copy(out, io.LimitReader(&cancelReader{ctx, in}, most+1)); err != nil {
		return n, err
	}
	if n > most {
		return n, fmt.Errorf("the files have more than %d bytes", int64(maxCarveBytes))
	}
	return n, os.Chtimes(to, s.ModTime(), s.ModTime())
}

// An upload is the file to send.
type upload struct {
	path   string
	size   int64
	sha256 string
}

// archive makes the tar file, and of it a compressed one if asked to.
func (a *Agent) archive(ctx context.Context, path string, files []string) (upload, error) {
	err := create(path, func(w io.Writer) error { return writeTar(ctx, w, files) })
	if err != nil {
		return upload{}, &carveError{carveNoArchive, err}
	}
	if a.flags.Bool("carver_compression") {
		err := create(path+".zst", func(w io.Writer) error { return compress(ctx, w, path) })
		if err != nil {
			return upload{}, &carveError{carveNoCompressed, err}
		}
		path += ".zst"
	}
	u := upload{path: path}
	if u.size, u.sha256, err = digest(ctx, path, int64(min(a.flags.Uint("read_max"), 1<<40))); err != nil {
		return upload{}, &carveError{carveNoArchive, err}
	}
	return u, nil
}

func create(path string, write func(io.Writer) error) (err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, privateFile) //nolint:gosec // in our own directory
	if err != nil {
		return err
	}
	b := bufio.NewWriter(f)
	return errors.Join(write(b), b.Flush(), f.Close())
}

// writeTar writes a pax archive whose members have the whole paths of the
// copies, from the root on.
func writeTar(ctx context.Context, w io.Writer, files []string) error {
	t := tar.NewWriter(w)
	for _, path := range files {
		if err := writeMember(ctx, t, path); err != nil {
			return err
		}
	}
	return t.Close()
}

func writeMember(ctx context.Context, t *tar.Writer, path string) error {
	f, err := os.Open(path) //nolint:gosec // our own copy
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // a reader
	s, err := f.Stat()
	if err != nil {
		return err
	}
	const mode = 0o644 // of every member, as in captured archives
	err = t.WriteHeader(&tar.Header{
		Typeflag: tar.TypeReg, Name: path, Size: s.Size(), Mode: mode, ModTime: s.ModTime(), Format: tar.FormatPAX,
	})
	if err != nil {
		return err
	}
	_, err = io.Copy(t, &cancelReader{ctx, f})
	return err
}

func compress(ctx context.Context, w io.Writer, path string) error {
	f, err := os.Open(path) //nolint:gosec // our own archive
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // a reader
	// One at a time, or each core keeps a window.
	z, err := zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return err
	}
	_, err = io.Copy(z, &cancelReader{ctx, f})
	return errors.Join(err, z.Close())
}

// digest returns size and SHA-256 of a file, "-1" if it is larger than most.
func digest(ctx context.Context, path string, most int64) (size int64, sum string, err error) {
	f, err := os.Open(path) //nolint:gosec // our own archive
	if err != nil {
		return 0, "", err
	}
	defer f.Close() //nolint:errcheck // a reader
	s, err := f.Stat()
	if err != nil {
		return 0, "", err
	}
	if s.Size() > most {
		return s.Size(), "-1", nil
	}
	h := sha256.New()
	if _, err := io.Copy(h, &cancelReader{ctx, f}); err != nil {
		return 0, "", err
	}
	return s.Size(), hex.EncodeToString(h.Sum(nil)), nil
}
