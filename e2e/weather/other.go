//go:build !linux

package weather

import (
	"fmt"
	"os"
)

func mount(string, int64) (func() error, error) {
	return nil, fmt.Errorf("%w: only Linux can mount a file system in memory", ErrCannot)
}

func free(string) (int64, error) { return 0, ErrCannot }

func reserve(*os.File, int64) error { return ErrCannot }

func immutable(bool, ...string) error {
	return fmt.Errorf("%w: only Linux can make an open file read-only", ErrCannot)
}
