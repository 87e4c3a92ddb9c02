package agent

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/valyala/fastjson"

	"github.com/musterhq/muster/internal/hostsql"
	"github.com/musterhq/muster/internal/osquery"
)

// acceleratedInterval is fixed in osquery (osquery/dispatcher/distributed_runner.cpp).
const acceleratedInterval = 5 * time.Second

// distribute asks for queries, runs them and sends the answers, each cycle
// distributed_interval after the end of the one before. Answers that could not
// be sent go with the next cycle's.
func (a *Agent) distribute(ctx context.Context) {
	var unsent []osquery.QueryAnswer
	for ctx.Err() == nil {
		if err := a.readQueries(ctx); err != nil && ctx.Err() == nil {
			a.status(ctx, failure, "Error reading distributed queries: "+err.Error())
		}
		unsent = merge(unsent, a.runPending(ctx))
		if len(unsent) > 0 && a.writeAnswers(ctx, unsent) == nil {
			unsent = nil
		}
		pause := max(a.flags.Seconds("distributed_interval"), time.Second) // the real agent does not pause at all for 0
		var until int64
		a.db.view(func(s saved) { until = s.Accelerate })
		if time.Now().Unix() < until {
			pause = acceleratedInterval
		}
		wait(ctx, pause)
	}
}

// merge adds answers; the later one of an id stays.
func merge(old, more []osquery.QueryAnswer) []osquery.QueryAnswer {
	for _, answer := range more {
		old = slices.DeleteFunc(old, func(o osquery.QueryAnswer) bool { return o.ID == answer.ID })
		old = append(old, answer)
	}
	return old
}

// readQueries asks for queries and keeps those whose discovery succeeds.
func (a *Agent) readQueries(ctx context.Context) error {
	var body []byte
	err := attempts(ctx, max(1, a.flags.Uint("distributed_tls_max_attempts")), time.Hour, func() (err error) {
		body, err = a.post(ctx, a.client.distributed, a.flags.String("distributed_tls_read_endpoint"), false, func(key string) ([]byte, error) {
			return osquery.KeyedRequest{NodeKey: key}.Encode()
		})
		return err
	})
	if err != nil || len(body) == 0 {
		return err
	}
	answer, err := readAnswer(body)
	if err != nil {
		return err
	}
	queries := map[string]string{}
	for _, q := range answer.queries {
		if discovery, ok := answer.discovery[q.id]; ok {
			rows, _, err := a.sql.Query(ctx, discovery)
			if err != nil {
				return err // the whole answer is dropped
			}
			if len(rows) == 0 {
				continue
			}
		}
		queries[q.id] = q.sql
	}
	if len(queries) == 0 && answer.accelerate == nil {
		return nil
	}
	return a.db.update(func(s *saved) {
		maps.Copy(s.Pending, queries)
		if answer.accelerate != nil {
			s.Accelerate = max(0, time.Now().Unix()+*answer.accelerate)
			if *answer.accelerate <= 0 {
				s.Accelerate = 0
			}
		}
	})
}

type distributedQuery struct{ id, sql string }

type distributedAnswer struct {
	queries    []distributedQuery
	discovery  map[string]string
	accelerate *int64
}

var errDiscovery = errors.New("a discovery query is not a string")

// readAnswer reads a read answer: queries up to the first bad entry, and
// accelerate only if it is a JSON integer.
func readAnswer(body []byte) (distributedAnswer, error) {
	answer := distributedAnswer{discovery: map[string]string{}}
	v, err := fastjson.ParseBytes(body)
	if err != nil {
		return answer, err
	}
	var bad error
	if o := v.GetObject("discovery"); o != nil {
		o.Visit(func(id []byte, v *fastjson.Value) {
			text, err := v.StringBytes()
			if err != nil {
				bad = errDiscovery
			}
			answer.discovery[string(id)] = string(text)
		})
	}
	if bad != nil {
		return answer, bad
	}
	if o := v.GetObject("queries"); o != nil {
		ended := false
		o.Visit(func(id []byte, v *fastjson.Value) {
			text, err := v.StringBytes()
			if err != nil || len(text) == 0 || len(id) == 0 {
				ended = true
			}
			if !ended {
				answer.queries = append(answer.queries, distributedQuery{string(id), string(text)})
			}
		})
	}
	if n := v.Get("accelerate"); n != nil && n.Type() == fastjson.TypeNumber {
		if seconds, err := n.Int64(); err == nil {
			seconds = min(seconds, maxSeconds)
			answer.accelerate = &seconds
		}
	}
	return answer, nil
}

// runPending runs the queries that wait, in byte order of their ids.
func (a *Agent) runPending(ctx context.Context) []osquery.QueryAnswer {
	var pending map[string]string
	a.db.view(func(s saved) { pending = maps.Clone(s.Pending) })
	var answers []osquery.QueryAnswer
	for _, id := range slices.Sorted(maps.Keys(pending)) {
		if ctx.Err() != nil {
			break
		}
		if answer, ok := a.runDistributed(ctx, id, pending[id]); ok {
			answers = append(answers, answer)
		}
	}
	return answers
}

// runDistributed runs one query, with a mark on disk while it runs: a text
// whose mark is found later ended the agent and is refused for a day. It
// reports false when the agent is stopping, which leaves the query waiting.
func (a *Agent) runDistributed(ctx context.Context, id, sql string) (osquery.QueryAnswer, bool) {
	sum := sha256.Sum256([]byte(sql))
	mark, now := hex.EncodeToString(sum[:]), time.Now().Unix()
	expiry := int64(min(a.flags.Uint("distributed_denylist_duration"), maxSeconds))
	denied := false
	err := a.db.update(func(s *saved) {
		delete(s.Pending, id)
		maps.DeleteFunc(s.Running, func(_ string, began int64) bool { return now-began >= expiry })
		if _, denied = s.Running[mark]; !denied {
			s.Running[mark] = now
		}
	})
	answer := osquery.QueryAnswer{ID: id}
	if err == nil && denied {
		answer.Status, answer.Message = 1, osquery.DenylistedMessage
		return answer, true
	}
	var rows []osquery.Row
	var used usage
	if err == nil {
		rows, used, err = a.distributedRows(ctx, sql)
	}
	stopping := ctx.Err() != nil
	unmark := a.db.update(func(s *saved) {
		delete(s.Running, mark)
		if stopping {
			s.Pending[id] = sql
		}
	})
	if unmark != nil {
		a.log.ErrorContext(ctx, "cannot unmark a distributed query", "id", id, "error", unmark)
	}
	if stopping {
		return answer, false
	}
	if err != nil {
		answer.Status, answer.Message = 1, err.Error()
		a.status(ctx, failure, "Error executing distributed query: "+id+": "+err.Error())
		return answer, true
	}
	answer.Rows = rows
	answer.Stats = osquery.QueryStats{WallTimeMs: used.wall, UserTime: used.user, SystemTime: used.system, Memory: used.memory}
	return answer, true
}

// distributedRows runs the one statement of a distributed query.
func (a *Agent) distributedRows(ctx context.Context, sql string) ([]osquery.Row, usage, error) {
	if len(hostsql.SplitStatements(sql)) > 1 {
		return nil, usage{}, hostsql.ErrSeveralStatements
	}
	results, used, err := a.measured(ctx, sql)
	if err != nil {
		return nil, usage{}, err
	}
	return results[0].Rows(), used, nil
}

func (a *Agent) writeAnswers(ctx context.Context, answers []osquery.QueryAnswer) error {
	err := attempts(ctx, max(1, a.flags.Uint("distributed_tls_max_attempts")), time.Hour, func() error {
		_, err := a.post(ctx, a.client.distributed, a.flags.String("distributed_tls_write_endpoint"), false, func(key string) ([]byte, error) {
			return osquery.EncodeDistributedWrite(key, answers)
		})
		return err
	})
	if err != nil && ctx.Err() == nil {
		a.log.WarnContext(ctx, "answers to distributed queries are kept for another try", "queries", len(answers), "error", err)
	}
	return err
}
