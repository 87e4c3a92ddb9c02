package agenttest

import (
	"context"
	"fmt"
	"time"

	"github.com/valyala/fastjson"

	"github.com/musterhq/muster/internal/osquery"
)

// acceleratedInterval is how often an accelerated agent polls.
const acceleratedInterval = 5 * time.Second

// Poll does one cycle of live queries: it reads, answers every query by
// Options.Tables and as its Options.Behaviour wants, and writes if there is
// anything to say. Answers whose write fails are kept and sent with the next
// cycle. It returns how many were written.
func (n *Node) Poll(ctx context.Context) (int, error) {
	read, err := n.Read(ctx)
	if err != nil {
		return 0, err
	}
	if n.o.Asked != nil {
		n.o.Asked(n, read.Queries)
	}
	host := n.Host()
	fresh := n.behave(ctx, n.o.Tables.answerAll(host, read, func(id, sql string) (osquery.QueryAnswer, bool) {
		if rows, ok := n.carvesAnswer(ctx, sql); ok {
			return osquery.QueryAnswer{ID: id, Rows: rows, Stats: osquery.QueryStats{WallTimeMs: 1}}, true
		}
		return n.o.Tables.Answer(host, id, sql)
	}))
	n.mu.Lock()
	if read.Accelerate > 0 {
		n.accelerated = time.Now().Add(time.Duration(read.Accelerate) * time.Second)
	}
	answers := append(n.answers, fresh...)
	n.answers = nil
	n.mu.Unlock()
	if len(answers) == 0 {
		return 0, nil
	}
	if err := n.Write(ctx, answers); err != nil {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.answers = append(answers, n.answers...)
		return 0, err
	}
	n.uploadScheduled(ctx)
	if n.o.Answered != nil {
		for _, a := range answers {
			n.o.Answered(n, a.ID)
		}
	}
	return len(answers), nil
}

// readInterval is the interval, or a shorter one while the server wants it.
// (Real agents poll every 5 s then even if their interval is shorter.)
func (n *Node) readInterval(interval time.Duration, now time.Time) time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	if now.Before(n.accelerated) {
		return min(interval, acceleratedInterval)
	}
	return interval
}

// decodeRead reads an answer as the agent does: queries up to the first bad
// one, accelerate only if it is an integer.
func decodeRead(body []byte) (osquery.DistributedReadResponse, error) {
	var r osquery.DistributedReadResponse
	if len(body) == 0 {
		return r, nil
	}
	v, err := fastjson.ParseBytes(body)
	if err != nil {
		return r, fmt.Errorf("read: cannot parse the answer: %w", err)
	}
	r.Queries, r.Discovery = texts(v.GetObject("queries")), texts(v.GetObject("discovery"))
	r.Accelerate = v.GetInt("accelerate")
	return r, nil
}

func texts(o *fastjson.Object) map[string]string {
	if o == nil || o.Len() == 0 {
		return nil
	}
	m, bad := map[string]string{}, false
	o.Visit(func(key []byte, v *fastjson.Value) {
		text := string(v.GetStringBytes())
		bad = bad || text == ""
		if !bad {
			m[string(key)] = text
		}
	})
	return m
}
