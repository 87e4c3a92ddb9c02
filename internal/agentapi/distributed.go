package agentapi

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/klauspost/compress/gzip"

	"github.com/musterhq/muster/internal/live"
	"github.com/musterhq/muster/internal/osquery"
)

// noQueries answers a poll with nothing pending.
const noQueries = `{"queries":{}}`

func (a *API) read(w http.ResponseWriter, r request, body []byte) error {
	n, err := a.authenticate(r, body)
	if err != nil {
		return err
	}
	var tasks []live.Task
	if !n.Quarantined {
		tasks = a.Queries.Take(n.ID)
	}
	if len(tasks) == 0 {
		write(w, []byte(noQueries))
		return nil
	}
	answer := osquery.DistributedReadResponse{Queries: make(map[string]string, len(tasks))}
	for _, t := range tasks {
		answer.Queries[t.ID] = t.SQL
		if t.Accelerate {
			answer.Accelerate = live.Accelerate
		}
	}
	b, err := answer.Encode()
	if err != nil {
		return err
	}
	if len(b) < gzipFrom || !takesGzip(r) {
		write(w, b)
		return nil
	}
	w.Header().Set("Content-Type", jsonType)
	w.Header().Set("Content-Encoding", "gzip")
	z := gzip.NewWriter(w)
	_, _ = z.Write(b) // the agent went away: its lease ends, and it is asked again
	_ = z.Close()
	return nil
}

// accepted tells an agent that its data is kept.
const accepted = `{}`

// answerBytes bounds one record of answers.
const answerBytes = 12 << 20

func (a *API) write(w http.ResponseWriter, r request, body []byte) error {
	n, err := a.authenticate(r, body)
	if err != nil {
		return err
	}
	answers, err := osquery.DecodeDistributedWrite(body)
	if err != nil {
		return err
	}
	var kept []live.Answer
	size := 0
	for _, answer := range answers {
		a.redactAnswer(&answer)
		k, err := live.Receive(n.ID, answer, a.Queries.Limits(answer.ID), a.Now())
		if err != nil {
			return err
		}
		if size += k.Size(); size > answerBytes {
			if err := a.keepAnswers(r.Context(), kept); err != nil {
				return err
			}
			kept, size = nil, k.Size()
		}
		kept = append(kept, k)
	}
	if err := a.keepAnswers(r.Context(), kept); err != nil {
		return err
	}
	write(w, []byte(accepted))
	return nil
}

func (a *API) keepAnswers(ctx context.Context, answers []live.Answer) error {
	if len(answers) == 0 {
		return nil
	}
	b, err := json.Marshal(answers)
	if err != nil {
		return err
	}
	if err := a.Stream.AppendAnswers(ctx, b); err != nil {
		return err
	}
	a.Queries.Received(answers)
	return nil
}
