package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/musterhq/muster/internal/audit"
	"github.com/musterhq/muster/internal/durable"
	"github.com/musterhq/muster/internal/ident"
)

// Files of the audit log in the data directory; the log itself is in the state.
const (
	auditKeyFile     = "audit.key"         // private and public key
	auditPublicFile  = "audit.pub"         // the public one, for people to keep elsewhere
	checkpointFile   = "audit.checkpoint"  // the newest
	checkpointsFile  = "audit.checkpoints" // all, a line each
	checkpointsRead  = 16 << 20            // bytes of its end that are read: some 50,000 checkpoints
	checkpointEvery  = 5 * time.Second
	auditStopTimeout = 5 * time.Second
)

// openAudit opens what signs the audit log, and compares the log with what was
// signed last. One that does not fit is told of, and the server runs: who can
// change the database must not be able to stop it as well.
func (a *App) openAudit(ctx context.Context) error {
	a.audit = audit.NewLog(a.store, a.now)
	keys, made, err := a.openAuditKeys()
	if err != nil {
		return err
	}
	if made {
		// The log itself tells since when which key signs it.
		if err := a.audit.Record(ctx, "system", "audit.key", keys.Signer.Name(), map[string]string{"key": keys.Public}); err != nil {
			return err
		}
	}
	dir := &checkpointDir{newest: a.cfg.Path(checkpointFile), all: a.cfg.Path(checkpointsFile)}
	a.notary = audit.NewNotary(audit.NotaryOptions{Reader: a.store, Shelf: dir, Keys: keys, Log: a.log, Now: a.now})
	last, err := dir.last()
	if err != nil {
		return err
	}
	if last == nil && !made {
		a.log.WarnContext(ctx, "there is a key but no checkpoint of the audit log; if it was lost, compare the log with one that was kept elsewhere", "file", checkpointFile)
	}
	for _, u := range a.cfg.AuditWitness {
		w, err := newWitness(u)
		if err != nil {
			return fmt.Errorf("audit_witness: %w", err)
		}
		a.witnesses = append(a.witnesses, w)
	}
	return a.notary.Resume(ctx, last)
}

// openAuditKeys reads the keys that sign the audit log, or makes them.
func (a *App) openAuditKeys() (keys audit.Keys, made bool, err error) {
	path := a.cfg.Path(auditKeyFile)
	b, err := os.ReadFile(path) //nolint:gosec // in our own directory
	if errors.Is(err, os.ErrNotExist) {
		made = true
		private, public, errNew := audit.NewKeys("muster-audit-" + ident.New())
		if errNew != nil {
			return keys, false, errNew
		}
		b = []byte(private + "\n" + public + "\n")
		err = durable.WriteFile(path, 0o600, b)
	}
	if err != nil {
		return keys, false, err
	}
	private, public, _ := strings.Cut(string(b), "\n")
	if keys, err = audit.ReadKeys(private, public); err != nil {
		return keys, false, fmt.Errorf("%s: %w; restore it from the backup", path, err)
	}
	return keys, made, durable.WriteFile(a.cfg.Path(auditPublicFile), 0o644, []byte(keys.Public+"\n"))
}

// signAudit signs the audit log every few seconds while it grows, tells the
// witnesses, and keeps counts of refusals.
func (a *App) signAudit(ctx context.Context) error {
	var witnesses sync.WaitGroup
	for _, w := range a.witnesses {
		witnesses.Go(func() { w.run(ctx, a.notary, a.witnessAlarm, a.log) })
	}
	defer witnesses.Wait()
	tick := time.NewTicker(checkpointEvery)
	defer tick.Stop()
	for {
		a.settleAudit(ctx, a.audit.Flush)
		a.auditAlarm(ctx)
		select {
		case <-tick.C:
		case <-ctx.Done():
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), auditStopTimeout)
			defer cancel()
			a.settleAudit(ctx, a.audit.Close)
			return nil
		}
	}
}

// settleAudit does not fail: what could not be kept is tried again.
func (a *App) settleAudit(ctx context.Context, flush func(context.Context) error) {
	err := flush(ctx)
	if size, errSize := a.store.AuditSize(ctx); errSize != nil || size > 0 {
		_, errSign := a.notary.Checkpoint(ctx)
		err = errors.Join(err, errSign)
	}
	if err != nil && ctx.Err() == nil {
		a.log.ErrorContext(ctx, "the audit log could not be signed or written; trying again", "error", err)
	}
}

// registerAuditMetrics adds what to alert on.
func (a *App) registerAuditMetrics(r *prometheus.Registry) {
	r.MustRegister(
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "muster_audit_broken", Help: "1 if the audit log does not fit what was signed of it; run muster audit verify.",
		}, func() float64 {
			if a.notary.Broken() != "" {
				return 1
			}
			return 0
		}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "muster_audit_signed_entries", Help: "Entries of the audit log that the newest checkpoint covers.",
		}, func() float64 { return float64(a.notary.Size()) }),
	)
	for _, w := range a.witnesses {
		r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "muster_audit_witness_lag_entries", Help: "Signed entries of the audit log that a witness was not told of.",
			ConstLabels: prometheus.Labels{"witness": w.name},
		}, func() float64 { return float64(a.notary.Size() - w.told.Load()) }))
	}
}

// checkpointDir keeps checkpoints in files. It implements audit.Shelf.
type checkpointDir struct{ newest, all string }

// KeepCheckpoint implements [audit.Shelf].
func (d *checkpointDir) KeepCheckpoint(signed []byte) error {
	if err := appendLine(d.all, audit.Line(signed)); err != nil {
		return err
	}
	return durable.WriteFile(d.newest, 0o600, signed)
}

// Checkpoints implements [audit.Shelf].
func (d *checkpointDir) Checkpoints() ([][]byte, error) {
	f, err := os.Open(d.all)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	from := max(info.Size()-checkpointsRead, 0)
	b, err := io.ReadAll(io.NewSectionReader(f, from, checkpointsRead))
	return audit.FindCheckpoints(b), err
}

// last returns the newest checkpoint, nil if there is none.
func (d *checkpointDir) last() ([]byte, error) {
	b, err := os.ReadFile(d.newest)
	if err == nil || !errors.Is(err, os.ErrNotExist) {
		return b, err
	}
	all, err := d.Checkpoints()
	if err != nil || len(all) == 0 {
		return nil, err
	}
	return all[len(all)-1], nil
}

// appendLine appends a line durably. One that a crash cut before is ended
// first.
func appendLine(path string, line []byte) (err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o600) //nolint:gosec // our own, or the operator's
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	end := []byte("\n")
	if n := info.Size(); n > 0 {
		if _, err := f.ReadAt(end, n-1); err != nil {
			return err
		}
	}
	if end[0] != '\n' {
		line = append([]byte("\n"), line...)
	}
	if _, err := f.Write(append(line, '\n')); err != nil {
		return err
	}
	return f.Sync()
}
