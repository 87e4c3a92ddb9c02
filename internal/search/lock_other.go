//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package search

import (
	"fmt"
	"os"
	"path/filepath"
)

// lockDir cannot lock here; the operator must not run two on one directory.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "LOCK"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock directory: %w", err)
	}
	return f, nil
}

func unlockDir(f *os.File) error { return f.Close() }
