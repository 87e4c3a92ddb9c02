package search

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/musterhq/muster/internal/durable"
)

// Link makes a copy of what segments hold now in another directory of the same file
// system, which must not be there: of hard links, so that it costs no space. What
// is in memory alone is not in it; that the stream has.
func (e *Engine) Link(ctx context.Context, dir string) error {
	if err := e.acquire(ctx); err != nil {
		return err
	}
	defer e.yield()
	b, err := os.ReadFile(filepath.Join(e.dir, manifestName))
	if errors.Is(err, os.ErrNotExist) {
		return os.MkdirAll(dir, 0o700) // nothing was written yet
	}
	if err != nil {
		return fmt.Errorf("copy segments: %w", err)
	}
	m, err := decodeManifest(b)
	if err != nil {
		return fmt.Errorf("copy segments: %w", err)
	}
	for _, s := range m.Segments {
		to := filepath.Join(dir, filepath.FromSlash(s.File))
		if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
			return fmt.Errorf("copy segments: %w", err)
		}
		if err := os.Link(filepath.Join(e.dir, filepath.FromSlash(s.File)), to); err != nil {
			return fmt.Errorf("copy segments: %w", err)
		}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("copy segments: %w", err)
	}
	return durable.WriteFile(filepath.Join(dir, manifestName), 0o600, b)
}
