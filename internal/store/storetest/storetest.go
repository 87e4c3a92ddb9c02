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
func New(t testing.TB) *store.Store {
	t.Helper()
	return Open(t, filepath.Join(t.TempDir(), "state.db"))
}

// Open opens a store at a path or URL until the test ends. Its log goes to the
// test's output.
func Open(t testing.TB, location string) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), store.Options{
		URL: location,
		Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
		Now: time.Now,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}
