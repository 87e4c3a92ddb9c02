package store

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/musterhq/muster/internal/event"
	"github.com/musterhq/muster/internal/rule"
)

var _ rule.Store = (*Store)(nil)

// windowState is a window as it is kept. Times are in microseconds since 1970.
type windowState struct {
	Seq    uint64   `json:"seq"`
	Index  uint32   `json:"index"`
	Fired  int64    `json:"fired,omitempty"`
	Open   bool     `json:"open,omitempty"`
	At     []int64  `json:"at,omitempty"`     // of the hits
	Values []uint64 `json:"values,omitempty"` // of the hits
}

// SaveWindows implements [rule.Store].
func (s *Store) SaveWindows(ctx context.Context, windows []rule.Window) error {
	if len(windows) == 0 {
		return nil
	}
	return fail("keep what rules remember", s.tx(ctx, func(t *tx) error {
		for _, w := range windows {
			if err := saveWindow(ctx, t, w); err != nil {
				return err
			}
		}
		return nil
	}))
}

func saveWindow(ctx context.Context, t *tx, w rule.Window) error {
	if w.Empty() {
		_, err := t.exec(ctx, `DELETE FROM rule_window WHERE rule = $1 AND key = $2`, text(w.Rule), text(w.Key))
		return err
	}
	state := windowState{Seq: w.Last.Seq, Index: w.Last.Index, Fired: micros(w.Fired), Open: w.Open}
	for _, h := range w.Hits {
		state.At, state.Values = append(state.At, micros(h.At)), append(state.Values, h.Value)
	}
	b, err := json.Marshal(state)
	if err != nil {
		return err
	}
	_, err = t.exec(ctx, `
		INSERT INTO rule_window (rule, key, state, touched) VALUES ($1, $2, $3, $4)
		ON CONFLICT (rule, key) DO UPDATE SET state = excluded.state, touched = excluded.touched`,
		text(w.Rule), text(w.Key), string(b), micros(w.Touched))
	return err
}

// Windows implements [rule.Store].
func (s *Store) Windows(ctx context.Context, limit int) ([]rule.Window, error) {
	list, err := all(ctx, s.read, scanWindow, `SELECT rule, key, state, touched FROM rule_window ORDER BY touched DESC, rule, key LIMIT $1`, limit)
	return list, fail("read what rules remember", err)
}

func scanWindow(row scanner) (w rule.Window, err error) {
	var state string
	var touched int64
	if err := row.Scan(&w.Rule, &w.Key, &state, &touched); err != nil {
		return w, err
	}
	var kept windowState
	if err := json.Unmarshal([]byte(state), &kept); err != nil || len(kept.At) != len(kept.Values) {
		return w, fmt.Errorf("window of rule %s: not readable: %w", w.Rule, err)
	}
	w.Last = event.Position{Seq: kept.Seq, Index: kept.Index}
	w.Fired, w.Open, w.Touched = moment(kept.Fired), kept.Open, moment(touched)
	for i, at := range kept.At {
		w.Hits = append(w.Hits, rule.Hit{At: time.UnixMicro(at).UTC(), Value: kept.Values[i]})
	}
	return w, nil
}
