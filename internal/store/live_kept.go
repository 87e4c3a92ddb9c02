package store

import (
	"context"

	"github.com/musterhq/muster/internal/live"
)

// KeptAnswers returns those of the answers that are the ones which were kept, with
// as many rows as were. Others came twice, or nobody asked for them. An answer
// that a later enrolment of its node replaced is not kept any more.
func (s *Store) KeptAnswers(ctx context.Context, answers []live.Answer) ([]live.Kept, error) {
	rows := make([][]any, 0, len(answers))
	for i, a := range answers {
		rows = append(rows, []any{i, text(a.LiveID), text(a.NodeID), micros(a.ReceivedAt)})
	}
	list, err := document(rows)
	if err != nil {
		return nil, fail("read kept answers", err)
	}
	kept, err := all(ctx, s.read, func(row scanner) (k live.Kept, err error) {
		var i, n int
		var enrolled int64
		if err := row.Scan(&i, &n, &enrolled, &k.HostIdentifier, &k.Kind, &k.Source); err != nil {
			return k, err
		}
		k.Answer = answers[i]
		k.Answer.Rows, k.Answer.EnrolledAt = k.Answer.Rows[:min(n, len(k.Answer.Rows))], moment(enrolled)
		return k, nil
	}, `
		SELECT t.answer, a.row_count, a.enrolled_at, a.host_identifier, l.kind, l.source
		FROM `+s.dialect.bulk(1, "answer bigint", "live_id text", "node_id text", "at bigint")+`
		JOIN live_target a ON a.live_id = t.live_id AND a.node_id = t.node_id AND a.answered_at = t.at
		JOIN live l ON l.id = a.live_id ORDER BY t.answer`, list)
	return kept, fail("read kept answers", err)
}
