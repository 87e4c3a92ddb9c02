package store

import (
	"context"
	"embed"
	"fmt"
	"io/fs"

	"github.com/pressly/goose/v3"
)

// migrationFiles holds numbered SQL, forward only: a file that was released is
// never changed. Both directories have the same numbers and the same tables.
//
//go:embed migrations/*/*.sql
var migrationFiles embed.FS

// migrate runs the migrations that the database has not seen yet.
func (s *Store) migrate(ctx context.Context) error {
	dir, err := fs.Sub(migrationFiles, "migrations/"+string(s.dialect))
	if err != nil {
		return err
	}
	engine, options, err := s.dialect.migrations()
	if err != nil {
		return err
	}
	provider, err := goose.NewProvider(engine, s.write, dir, options...)
	if err != nil {
		return err
	}
	current, target, err := provider.GetVersions(ctx)
	if err != nil {
		return err
	}
	if current > target {
		return fmt.Errorf("it has version %d and this program knows up to %d; run the newer Muster that wrote it", current, target)
	}
	if current == target {
		return nil
	}
	done, err := provider.Up(ctx)
	if err != nil {
		return err
	}
	s.log.InfoContext(ctx, "updated the database's tables", "from", current, "to", target, "steps", len(done))
	return nil
}
