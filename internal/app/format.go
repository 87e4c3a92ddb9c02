package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/musterhq/muster/internal/config"
	"github.com/musterhq/muster/internal/durable"
	"github.com/musterhq/muster/internal/event"
	"github.com/musterhq/muster/internal/search"
	"github.com/musterhq/muster/internal/store"
)

// formatFile says what the server that ran last writes.
const formatFile = "format.json"

// format is in formatFile: only so a program knows what is in the stream without
// reading it.
type format struct {
	Muster string    `json:"muster"`
	Stream int       `json:"stream"` // event.CodecVersion
	Since  time.Time `json:"since"`
}

func readFormat(dir *config.Server) (f format, err error) {
	b, err := os.ReadFile(dir.Path(formatFile))
	if errors.Is(err, fs.ErrNotExist) {
		return f, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &f)
	}
	if err != nil {
		return f, fmt.Errorf("%s: %w", formatFile, err)
	}
	return f, nil
}

// checkFormat refuses what a later server put into the stream, before anything is
// opened: its events would be skipped.
func (a *App) checkFormat() error {
	f, err := readFormat(&a.cfg)
	if err != nil {
		return err
	}
	if f.Stream > event.CodecVersion {
		return fmt.Errorf("the stream holds events of version %d and this program, %s, reads up to %d; run Muster %s, which wrote them", f.Stream, a.version, event.CodecVersion, f.Muster)
	}
	return nil
}

// keepFormat notes what this server writes, when all of it was opened.
func (a *App) keepFormat(context.Context) error {
	f, err := readFormat(&a.cfg)
	if err != nil || f.Muster == a.version && f.Stream == event.CodecVersion {
		return err
	}
	b, err := json.Marshal(format{a.version, event.CodecVersion, a.now().UTC()})
	if err != nil {
		return err
	}
	return durable.WriteFile(a.cfg.Path(formatFile), 0o600, append(b, '\n'))
}

// Step is what a start would do with a part of a data directory.
type Step struct {
	Part    string   `json:"part"`
	Found   int64    `json:"found"` // version; 0 for none
	Known   int64    `json:"known"` // to this program
	Does    string   `json:"does"`
	Steps   []string `json:"steps,omitempty"`
	Back    bool     `json:"back"`    // the version that ran before can read it afterwards
	Refused bool     `json:"refused"` // this program does not start with it
}

// Upgrade says what a start of this version would do with a data directory.
type Upgrade struct {
	DataDir string    `json:"data_dir"`
	Ran     string    `json:"ran,omitempty"` // the Muster that ran last; "" if it did not say
	Ours    string    `json:"ours"`
	Steps   []Step    `json:"steps"`
	Backup  time.Time `json:"last_backup"` // zero for none that is known
}

// Back reports whether what ran before can be started again afterwards.
func (u Upgrade) Back() bool {
	return !slices.ContainsFunc(u.Steps, func(s Step) bool { return !s.Back })
}

// Refused reports whether this program does not start.
func (u Upgrade) Refused() bool {
	return slices.ContainsFunc(u.Steps, func(s Step) bool { return s.Refused })
}

// CheckUpgrade looks what a start of this version would do. It only reads, also
// beside a server at work.
func CheckUpgrade(ctx context.Context, cfg config.Server, version string) (Upgrade, error) {
	u := Upgrade{DataDir: cfg.DataDir, Ours: version}
	state, err := stateStep(ctx, cfg.Path(stateFile))
	if err != nil {
		return u, err
	}
	f, err := readFormat(&cfg)
	if err != nil {
		return u, err
	}
	u.Ran = f.Muster
	segments, count, err := search.Format(cfg.Path(EventsDir))
	if err != nil {
		return u, err
	}
	u.Steps = []Step{
		state,
		formatStep("stream", int64(f.Stream), event.CodecVersion, event.OldestVersion, "new events are written in this version; older ones are read as they are"),
		formatStep("events", int64(segments), search.FormatVersion, search.FormatVersion, fmt.Sprintf("%d segments are used as they are", count)),
	}
	u.Backup, err = lastBackup(&cfg)
	return u, err
}

func stateStep(ctx context.Context, location string) (Step, error) {
	v, err := store.Version(ctx, location)
	if errors.Is(err, fs.ErrNotExist) {
		return Step{Part: "state", Known: v.Known, Does: "there is none: a start makes it", Back: true}, nil
	}
	if err != nil {
		return Step{}, err
	}
	s := Step{Part: "state", Found: v.Found, Known: v.Known, Steps: v.Pending, Back: true, Does: "nothing"}
	switch {
	case v.Found > v.Known:
		s.Does, s.Refused = "this version does not start with it: a newer Muster wrote it", true
	case len(v.Pending) > 0:
		s.Does, s.Back = fmt.Sprintf("%d steps change the tables; the Muster before does not start with them any more", len(v.Pending)), false
	}
	return s, nil
}

// formatStep is for what is never rewritten: later writes have the new version.
func formatStep(part string, found, known, oldest int64, does string) Step {
	s := Step{Part: part, Found: found, Known: known, Back: true, Does: "nothing"}
	switch {
	case found > known || found > 0 && found < oldest:
		s.Does, s.Refused = fmt.Sprintf("this version does not start with it: it reads %d to %d", oldest, known), true
	case found > 0 && found < known:
		s.Does, s.Back = does, false
	case found == known:
		s.Does = "nothing"
	}
	return s
}
