package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/musterhq/muster/internal/backup"
	"github.com/musterhq/muster/internal/config"
	"github.com/musterhq/muster/internal/durable"
	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/stream"
)

// What a backup has beside the files of the data directory.
const (
	streamSnapshot = "stream.snapshot"
	streamConfig   = "stream.json"
	stagingPrefix  = "backup-"
	lastBackupFile = "backup.last" // when it was made
)

// Backup writes all that a server needs to go on, while it works, to w. What was
// acknowledged before it began is in it. One is made at a time.
//
// The order makes it whole: each part may be older than the stream, never newer, so
// that a server that begins with it reads from the stream what its parts lack.
// Nothing is trimmed from the stream meanwhile.
func (a *App) Backup(ctx context.Context, w io.Writer) (err error) {
	if !a.backups.TryLock() {
		return errs.New(errs.Busy, "another backup is being made; try again when it is done")
	}
	defer a.backups.Unlock()
	a.trimming.Lock()
	defer a.trimming.Unlock()
	staging, err := os.MkdirTemp(a.cfg.DataDir, stagingPrefix)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(staging)) }()
	out, err := backup.NewWriter(w, a.version, a.now())
	if err != nil {
		return err
	}
	// The audit log's checkpoints go first: they must not be newer than the log.
	if err := out.AddDir("", a.cfg.DataDir, notInBackup); err != nil {
		return err
	}
	events, state, messages := filepath.Join(staging, EventsDir), filepath.Join(staging, stateFile), filepath.Join(staging, streamSnapshot)
	if err := a.engine.Link(ctx, events); err != nil {
		return err
	}
	if err := out.AddDir(EventsDir, events, nil); err != nil {
		return err
	}
	if err := a.store.CopyTo(ctx, state); err != nil {
		return err
	}
	config, err := snapshotStream(ctx, a.stream, messages)
	if err != nil {
		return err
	}
	if err := errors.Join(out.AddFile(stateFile, state), out.AddBytes(streamConfig, config), out.AddFile(streamSnapshot, messages)); err != nil {
		return err
	}
	m, err := out.Close()
	if err != nil {
		return err
	}
	a.log.InfoContext(ctx, "a backup was made", "files", len(m.Files), "bytes", m.Bytes())
	return keepLastBackup(&a.cfg, m)
}

// BackupDir writes the same of the data directory of a server that does not run, with
// its files as they are: what recovers from a crash recovers from that. It takes the
// directory, so that none is started meanwhile.
func BackupDir(cfg config.Server, version string, w io.Writer, now time.Time) (err error) {
	if _, err := os.Stat(cfg.Path(stateFile)); err != nil {
		return errs.New(errs.NotFound, "%s is no data directory of a server: it has no %s", cfg.DataDir, stateFile)
	}
	lock, err := takeDir(&cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	out, err := backup.NewWriter(w, version, now)
	if err != nil {
		return err
	}
	if err := out.AddDir("", cfg.DataDir, notInStopped); err != nil {
		return err
	}
	m, err := out.Close()
	if err != nil {
		return err
	}
	return keepLastBackup(&cfg, m)
}

// notInStopped leaves out what means nothing elsewhere. SQLite makes its index of
// the log anew.
func notInStopped(name string) bool {
	switch name {
	case EventsDir, streamDir, stateFile, stateFile + "-wal":
		return false
	}
	first, _, _ := strings.Cut(name, "/")
	return first != EventsDir && first != streamDir && notInBackup(name)
}

func keepLastBackup(cfg *config.Server, m backup.Manifest) error {
	return durable.WriteFile(cfg.Path(lastBackupFile), 0o600, []byte(m.MadeAt.Format(time.RFC3339)+"\n"))
}

// lastBackup returns when the last backup was made by the server of a data
// directory; the zero time if none is known.
func lastBackup(dir *config.Server) (time.Time, error) {
	b, err := os.ReadFile(dir.Path(lastBackupFile))
	if errors.Is(err, fs.ErrNotExist) {
		return time.Time{}, nil
	}
	if err != nil {
		return time.Time{}, err
	}
	at, err := time.Parse(time.RFC3339, strings.TrimSpace(string(b)))
	if err != nil {
		return at, fmt.Errorf("%s: %w; remove it", lastBackupFile, err)
	}
	return at, nil
}

// registerBackupMetrics adds what to alert on.
func (a *App) registerBackupMetrics(r prometheus.Registerer) {
	r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "muster_backup_last_timestamp_seconds", Help: "When the last backup was made; 0 if none is known.",
	}, func() float64 {
		at, err := lastBackup(&a.cfg)
		if err != nil || at.IsZero() {
			return 0
		}
		return float64(at.Unix())
	}))
}

func snapshotStream(ctx context.Context, s *stream.Stream, file string) (config []byte, err error) {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600) //nolint:gosec // in our own directory
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return s.Snapshot(ctx, f)
}

// notInBackup leaves out what is copied in another way, what is made anew, and what
// this process alone uses.
func notInBackup(name string) bool {
	first, _, _ := strings.Cut(name, "/")
	switch first {
	case EventsDir, streamDir, lockFile, tokenFile, sinkFileDir, lastBackupFile:
		return true
	}
	return strings.HasPrefix(first, stateFile) || strings.HasPrefix(first, stagingPrefix) || name == carvesDir+"/"+spoolDir
}

// FinishRestore makes a data directory of the files of a backup: the stream of its
// snapshot, unless its own files are there, as of a server that did not run.
func FinishRestore(ctx context.Context, dir string, log *slog.Logger) error {
	needed := []string{stateFile, keyFile}
	_, err := os.Stat(filepath.Join(dir, streamDir))
	stopped := err == nil
	if !stopped {
		needed = append(needed, streamConfig, streamSnapshot)
	}
	for _, name := range needed {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			return errs.New(errs.Invalid, "the backup is none of a Muster server: it has no %s", name)
		}
	}
	if stopped {
		return nil
	}
	return restoreStream(ctx, dir, log)
}

func restoreStream(ctx context.Context, dir string, log *slog.Logger) error {
	config, err := os.ReadFile(filepath.Join(dir, streamConfig)) //nolint:gosec // of the backup
	if err != nil {
		return err
	}
	f, err := os.Open(filepath.Join(dir, streamSnapshot)) //nolint:gosec // of the backup
	if err != nil {
		return err
	}
	err = stream.Restore(ctx, stream.Options{Dir: filepath.Join(dir, streamDir), Log: log}, config, f)
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("the stream: %w", err)
	}
	return errors.Join(os.Remove(filepath.Join(dir, streamConfig)), os.Remove(filepath.Join(dir, streamSnapshot)))
}

// sweepBackups removes what a crash left of a backup.
func (a *App) sweepBackups(context.Context) error {
	left, err := filepath.Glob(a.cfg.Path(stagingPrefix + "*"))
	for _, dir := range left {
		err = errors.Join(err, os.RemoveAll(dir))
	}
	return err
}
