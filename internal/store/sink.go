package store

import (
	"context"
	"math"

	"github.com/musterhq/muster/internal/sink"
)

var _ sink.Store = (*Store)(nil)

// Sinks implements [sink.Store].
func (s *Store) Sinks(ctx context.Context) ([]sink.State, error) {
	list, err := all(ctx, s.read, func(row scanner) (v sink.State, err error) {
		var seq, paused, from, until, done, replaySeq, replaySent int64
		var by string
		err = row.Scan(&v.Name, &seq, &v.Sent, &v.Lost, &paused, &v.PausedBy, &from, &until, &done, &replaySeq, &replaySent, &by)
		v.Seq, v.PausedAt = uint64(max(0, seq)), moment(paused)
		if until != 0 {
			v.Replay = &sink.Replay{From: moment(from), Until: moment(until), Done: moment(done), Seq: uint64(max(0, replaySeq)), Sent: replaySent, By: by}
		}
		return v, err
	}, `SELECT name, seq, sent, lost, paused_at, paused_by, replay_from, replay_until, replay_done, replay_seq, replay_sent, replay_by FROM sink ORDER BY name`)
	return list, fail("read how far sinks are", err)
}

// SaveSinks implements [sink.Store].
func (s *Store) SaveSinks(ctx context.Context, states []sink.State) error {
	return fail("keep how far sinks are", s.tx(ctx, func(t *tx) error {
		for _, v := range states {
			var r sink.Replay
			if v.Replay != nil {
				r = *v.Replay
			}
			_, err := t.exec(ctx, `
				INSERT INTO sink (name, seq, sent, lost, paused_at, paused_by, replay_from, replay_until, replay_done, replay_seq, replay_sent, replay_by)
				VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
				ON CONFLICT (name) DO UPDATE SET seq = excluded.seq, sent = excluded.sent, lost = excluded.lost,
					paused_at = excluded.paused_at, paused_by = excluded.paused_by, replay_from = excluded.replay_from,
					replay_until = excluded.replay_until, replay_done = excluded.replay_done, replay_seq = excluded.replay_seq,
					replay_sent = excluded.replay_sent, replay_by = excluded.replay_by`,
				text(v.Name), sequence(v.Seq), v.Sent, v.Lost, micros(v.PausedAt), text(v.PausedBy),
				micros(r.From), micros(r.Until), micros(r.Done), sequence(r.Seq), r.Sent, text(r.By))
			if err != nil {
				return err
			}
		}
		return nil
	}))
}

// sequence is a sequence of the stream as databases keep it.
func sequence(n uint64) int64 { return int64(min(n, math.MaxInt64)) }

// DeleteSink implements [sink.Store].
func (s *Store) DeleteSink(ctx context.Context, name string) error {
	return fail("forget a sink", s.tx(ctx, func(t *tx) error {
		_, err := t.exec(ctx, `DELETE FROM sink WHERE name = $1`, text(name))
		return err
	}))
}
