package store

import (
	"context"
	"errors"
)

// CopyTo writes the state as it is at one moment into a new file, while it is used.
// It is for SQLite alone: PostgreSQL has pg_dump.
func (s *Store) CopyTo(ctx context.Context, file string) (err error) {
	if s.dialect != onSQLite {
		return errors.New("copy the state: it is in PostgreSQL; use pg_dump")
	}
	if err := private(file); err != nil {
		return err
	}
	// A connection of its own: those that read may write nothing, the one that writes
	// must not wait for the copy.
	db, err := connectSQLite(ctx, s.location, 1)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	_, err = db.ExecContext(ctx, `VACUUM INTO $1`, file) // into an empty file, too
	return fail("copy the state", err)
}
