// Package blob keeps opaque bytes under names of the server's choice: in a
// directory, in an S3 bucket, or in MongoDB's GridFS. What it keeps is sealed
// before, so a store sees sizes and times, and nothing else.
package blob

import (
	"context"
	"fmt"
	"io"
	"regexp"

	"github.com/musterhq/muster/internal/carve"
	"github.com/musterhq/muster/internal/errs"
)

// Store is one of the stores of this package. Closing it ends its connections;
// blobs that are being read must be closed before.
type Store interface {
	carve.Store
	io.Closer
}

// names are what a path, a key and a filter can hold without quoting, and on
// every file system.
func checkName(name string) error {
	if !regexp.MustCompile(`^[a-z0-9-]{1,64}$`).MatchString(name) {
		return errs.New(errs.Invalid, "%q is no name of a blob: it has 1 to 64 of a-z, 0-9 and \"-\"", name)
	}
	return nil
}

func errNone(name string) error {
	return errs.New(errs.NotFound, "there is no blob %s", name)
}

// exactly reads size bytes of r. It fails, instead of ending, if there are
// fewer, so that no store takes a part for the whole. It heeds the context
// between reads.
type exactly struct {
	ctx  context.Context //nolint:containedctx // of the one call that reads
	r    io.Reader
	left int64
}

func (e *exactly) Read(p []byte) (int, error) {
	if err := context.Cause(e.ctx); err != nil {
		return 0, err
	}
	if e.left == 0 {
		return 0, io.EOF
	}
	if int64(len(p)) > e.left {
		p = p[:e.left]
	}
	n, err := e.r.Read(p)
	e.left -= int64(n)
	switch {
	case err == io.EOF && e.left > 0:
		return n, fmt.Errorf("%d bytes are missing: %w", e.left, io.ErrUnexpectedEOF)
	case e.left == 0:
		return n, nil // what comes after size is not ours, nor is its error
	}
	return n, err
}

func checkSize(size int64) error {
	if size < 0 {
		return errs.New(errs.Invalid, "a blob of %d bytes", size)
	}
	return nil
}

func checkRange(name string, offset int64) error {
	if err := checkName(name); err != nil {
		return err
	}
	if offset < 0 {
		return errs.New(errs.Invalid, "byte %d of blob %s", offset, name)
	}
	return nil
}
