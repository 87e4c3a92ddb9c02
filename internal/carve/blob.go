package carve

import (
	"context"
	"io"
	"time"
)

// Info is what a store knows of a blob.
type Info struct {
	Name     string
	Size     int64
	Modified time.Time
}

// Store keeps blobs: sealed archives, which tell it nothing. Names are chosen
// by the server: 1 to 64 of a-z, 0-9 and "-".
type Store interface {
	// Put keeps exactly size bytes of r under name, durably when it returns. An
	// existing blob of that name is replaced; a failure leaves it as it was.
	Put(ctx context.Context, name string, size int64, r io.Reader) error
	// Open returns n bytes from offset on, fewer if the blob ends before; to its
	// end if n is negative. The error is of kind NotFound without such a blob.
	Open(ctx context.Context, name string, offset, n int64) (io.ReadCloser, error)
	// Delete forgets a blob. None of that name is no error.
	Delete(ctx context.Context, name string) error
	// List yields every blob, in no order, until yield fails.
	List(ctx context.Context, yield func(Info) error) error
}

// Adopter is a Store that takes a finished local file instead of its bytes.
type Adopter interface {
	// Adopt is Put of the file, which is gone when it returns. After an error it
	// is still there.
	Adopt(ctx context.Context, name, path string) error
}
