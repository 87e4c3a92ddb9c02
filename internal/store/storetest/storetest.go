// Package storetest gives tests a real store of their own.
package storetest

import (
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/musterhq/muster/internal/store"
)

// New returns an empty store on SQLite that lives as long as the test.
func New(tb testing.TB) *store.Store {
	tb.Helper()
	return Open(tb, filepath.Join(tb.TempDir(), "state.db"))
}

// Open opens a store at a path or URL until the test ends. Its log goes to the
// test's output.
func Open(tb testing.TB, location string) *store.Store {
	tb.Helper()
	s, err := store.Open(tb.Context(), store.Options{
		URL: location,
		Log: slog.New(slog.NewTextHandler(tb.Output(), nil)),
		Now: time.Now,
	})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Error(err)
		}
	})
	return s
}
