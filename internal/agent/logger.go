package agent

import (
	"context"
	"fmt"
	"time"

	"github.com/musterhq/muster/internal/osquery"
)

// sendLogs posts what is buffered, results and then statuses, every
// logger_tls_period. Each kind backs off on its own.
func (a *Agent) sendLogs(ctx context.Context) {
	results := &sender{kind: osquery.LogTypeResult, buffer: a.results}
	statuses := &sender{kind: osquery.LogTypeStatus, buffer: a.statuses}
	for wait(ctx, max(a.flags.Seconds("logger_tls_period"), time.Second)) {
		a.send(ctx, results)
		a.send(ctx, statuses)
	}
}

type sender struct {
	kind     string
	buffer   *Buffer
	failures uint64
	next     time.Time // not before this, after a failure
}

func (a *Agent) send(ctx context.Context, s *sender) {
	if time.Now().Before(s.next) || s.buffer.Len() == 0 {
		return
	}
	if err := a.sendBatch(ctx, s); err != nil {
		if ctx.Err() != nil {
			return
		}
		s.failures++
		s.next = time.Time{}
		if limit := a.flags.Seconds("logger_tls_backoff_max"); limit > 0 {
			s.next = time.Now().Add(square(a.flags.Seconds("logger_tls_period"), s.failures, limit))
		}
		a.log.WarnContext(ctx, "log lines are kept for another try", "kind", s.kind, "lines", s.buffer.Len(), "failures", s.failures, "error", err)
		return
	}
	s.failures, s.next = 0, time.Time{}
}

// sendBatch posts the oldest lines. A line over the limit is dropped, and the
// request is made even if none is left, as the real agent does.
func (a *Agent) sendBatch(ctx context.Context, s *sender) error {
	batch, err := s.buffer.Peek(int(min(max(a.flags.Uint("logger_tls_max_lines"), 1), 1<<20)))
	if err != nil {
		return err
	}
	if len(batch.Lines) == 0 {
		return nil
	}
	limit := a.flags.Uint("logger_tls_max_linesize")
	var lines [][]byte
	tooLong := 0
	for _, line := range batch.Lines {
		if uint64(len(line)) > limit {
			tooLong = len(line)
			continue
		}
		lines = append(lines, line)
	}
	compress := a.flags.Bool("logger_tls_compress")
	_, err = a.post(ctx, a.client.log, a.flags.String("logger_tls_endpoint"), compress, func(key string) ([]byte, error) {
		return osquery.EncodeLog(key, s.kind, lines, compress), nil
	})
	if err != nil {
		return err
	}
	if err := s.buffer.Ack(batch); err != nil {
		return err
	}
	if tooLong > 0 {
		a.status(ctx, warning, fmt.Sprintf("Linesize exceeds TLS logger maximum: %d", tooLong))
	}
	return nil
}
