package pki

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync/atomic"
	"time"
)

// reloaded is a value that is read from files, and again when they change.
// Whoever uses the value before keeps it. Safe for concurrent use after load.
type reloaded[T any] struct {
	what    string // for errors and the log
	files   []string
	read    func() (T, error)
	log     *slog.Logger
	current atomic.Pointer[reading[T]]
}

type reading[T any] struct {
	value  T
	stamps []stamp
}

// stamp tells whether a file is another one. Its size is there for two writes
// within one tick of the file system's clock.
type stamp struct {
	changed time.Time
	size    int64
}

// load reads the files for the first time.
func (r *reloaded[T]) load(what string, log *slog.Logger, read func() (T, error), files ...string) error {
	r.what, r.log, r.read, r.files = what, log, read, files
	return r.Reload()
}

// Reload reads the files now. After an error what was read before stays in use.
func (r *reloaded[T]) Reload() error {
	stamps, err := r.stamps() // before the files are read, so that no change is missed
	if err != nil {
		return fmt.Errorf("%s: %w", r.what, err)
	}
	value, err := r.read()
	if err != nil {
		return fmt.Errorf("%s: %w", r.what, err)
	}
	r.current.Store(&reading[T]{value, stamps})
	return nil
}

func (r *reloaded[T]) stamps() ([]stamp, error) {
	stamps := make([]stamp, 0, len(r.files))
	for _, name := range r.files {
		info, err := os.Stat(name)
		if err != nil {
			return nil, err
		}
		stamps = append(stamps, stamp{info.ModTime(), info.Size()})
	}
	return stamps, nil
}

// checkEvery is how often files are looked at for changes.
const checkEvery = 2 * time.Second

// Run reads the files again when they change, until ctx ends. Files that cannot
// be used, as while one of two that belong together is being replaced, are
// tried again, and logged once per error.
func (r *reloaded[T]) Run(ctx context.Context) error {
	t := time.NewTicker(checkEvery)
	defer t.Stop()
	said := ""
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		stamps, err := r.stamps()
		if err == nil && slices.Equal(stamps, r.current.Load().stamps) {
			continue
		}
		if err == nil {
			err = r.Reload()
		}
		switch {
		case err == nil:
			r.log.InfoContext(ctx, "read again after a change", "what", r.what, "files", r.files)
			said = ""
		case err.Error() != said:
			r.log.WarnContext(ctx, "a changed file cannot be used; what was read before stays", "what", r.what, "error", err)
			said = err.Error()
		}
	}
}

// value returns what was read last.
func (r *reloaded[T]) value() *T { return &r.current.Load().value }
