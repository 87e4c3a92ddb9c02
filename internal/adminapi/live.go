package adminapi

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/musterhq/muster/internal/account"
	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/live"
	"github.com/musterhq/muster/internal/node"
	"github.com/musterhq/muster/internal/osquery"
)

func (a *API) registerLive() {
	registerScoped(a, account.LiveRunSaved, http.MethodPost, "/live", "Start a live query", a.startLive)
	registerScoped(a, account.LiveRead, http.MethodGet, "/live", "List live queries, newest first", a.listLive)
	registerScoped(a, account.LiveRead, http.MethodGet, "/live/{id}", "Show a live query", a.showLive)
	registerScoped(a, account.LiveRead, http.MethodGet, "/live/{id}/answers", "List a live query's nodes with their rows", a.liveAnswers)
	registerScoped(a, account.LiveRunSaved, http.MethodPost, "/live/{id}/stop", "Stop a live query", a.stopLive)
	register(a, account.LiveRun, http.MethodPost, "/live/stop", "Stop all live queries, also those that stand and those that wait for a second person", a.stopAllLive)
	register(a, account.LiveRun, http.MethodPost, "/live/{id}/resume", "Let a live query go on that is held", a.resumeLive)
	register(a, account.LiveApprove, http.MethodPost, "/live/{id}/approve", "Approve somebody else's live query, which then runs", a.approveLive)
	register(a, account.LiveApprove, http.MethodPost, "/live/{id}/reject", "Reject somebody else's live query", a.rejectLive)
	registerScoped(a, account.LiveRead, http.MethodGet, "/live/{id}/stream", "Follow a live query as server-sent events", a.streamLive)
	a.answers("/live/{id}/stream", eventStream)
}

// selected returns the nodes of a selector; a name that means none is an
// error, since asking fewer nodes than somebody believes is worse than none.
func (a *API) selected(s Selector) ([]*node.Identity, error) {
	nodes, unknown, err := a.Registry.Select(node.Selector(s))
	if err != nil {
		return nil, err
	}
	if len(unknown) > 0 {
		return nil, errs.Field("selector.nodes", "no node is called %s", strings.Join(unknown, ", "))
	}
	return nodes, nil
}

func liveDocument(q live.Query) Live {
	out := Live{
		ID: q.ID, Kind: string(q.Kind), Source: q.Source, SQL: q.SQL, Reason: q.Reason, Tier: q.Tier,
		State: string(q.Phase), Held: q.Held, CreatedBy: q.CreatedBy, CreatedAt: q.CreatedAt.UTC(), NotBefore: at(q.NotBefore),
		ExpiresAt: at(q.ExpiresAt), EndedAt: at(q.EndedAt), RerunOf: q.RerunOf, Limits: LiveLimits(q.Limits),
		Approval: LiveApproval{Needed: q.Approval.Needed, By: q.Approval.By, At: at(q.Approval.At)},
		Waves:    LiveWaves{First: q.Waves.First, MaxBadPercent: q.Waves.MaxBadPercent},
		Nodes:    q.Nodes(), Counts: map[string]int{}, Rows: q.Rows, Bytes: q.Bytes, Truncated: q.Truncated,
	}
	for _, s := range live.States() {
		out.Counts[string(s)] = q.Counts[s]
	}
	return out
}

// timed is liveDocument with how long answers took.
func (a *API) timed(ctx context.Context, q live.Query) (Live, error) {
	out := liveDocument(q)
	first, p50, p95, known := a.Live.Latency(q.ID)
	if !known {
		var err error
		if first, p50, p95, err = a.LiveList.LiveLatency(ctx, q.ID); err != nil || first.IsZero() {
			return out, err
		}
	}
	since := func(t time.Time) int64 { return max(t.Sub(q.Begins()).Milliseconds(), 0) }
	out.Latency = &LiveLatency{FirstMs: since(first), P50Ms: since(p50), P95Ms: since(p95)}
	return out, nil
}

// query returns a live query with its counts of this moment.
func (a *API) query(ctx context.Context, id string) (live.Query, error) {
	if q, ok := a.Live.Running(id); ok {
		return q, nil
	}
	return a.LiveList.Live(ctx, id)
}

// PageInput says which page of a list.
type PageInput struct {
	Limit  int    `query:"limit" minimum:"1" maximum:"1000" default:"100"`
	Cursor string `query:"cursor" maxLength:"1024"`
}

type liveListInput struct {
	PageInput
	Kind      string `query:"kind" enum:"person,enrollment,trigger,carve"`
	CreatedBy string `query:"created_by" maxLength:"64"`
	State     string `query:"state" enum:"pending,running,done,expired,stopped,rejected,over_limit"`
	Text      string `query:"text" doc:"Part of the SQL or of the reason" maxLength:"256"`
}

func (a *API) listLive(ctx context.Context, in *liveListInput) (*body[LivePage], error) {
	queries, next, err := a.LiveList.LiveList(ctx, live.Filter{
		Kind: live.Kind(in.Kind), CreatedBy: in.CreatedBy, Phase: live.Phase(in.State), Text: in.Text, Cursor: in.Cursor, Limit: in.Limit,
	})
	if err != nil {
		return nil, err
	}
	out := LivePage{Live: make([]Live, 0, len(queries)), NextCursor: next}
	for _, q := range queries {
		if running, ok := a.Live.Running(q.ID); ok {
			q = running
		}
		out.Live = append(out.Live, liveDocument(q))
	}
	return &body[LivePage]{out}, nil
}

// LiveRef names a live query in a path.
type LiveRef struct {
	ID string `path:"id" maxLength:"64"`
}

func (a *API) showLive(ctx context.Context, in *LiveRef) (*body[Live], error) {
	q, err := a.query(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	out, err := a.timed(ctx, q)
	if err != nil {
		return nil, err
	}
	out.Selector = new(Selector(q.Selector))
	return &body[Live]{out}, nil
}

type liveAnswersInput struct {
	LiveRef
	PageInput
	State string `query:"state" doc:"Only nodes in this state" enum:"waiting,sent,answered,empty,failed,denylisted,over_limit,expired,stopped"`
}

func (a *API) liveAnswers(ctx context.Context, in *liveAnswersInput) (*body[LiveAnswers], error) {
	q, err := a.query(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	targets, next, err := a.LiveList.LiveAnswers(ctx, in.ID, live.AnswerFilter{
		State: live.State(in.State), Nodes: a.readers(ctx, q), Cursor: in.Cursor, Limit: in.Limit,
	})
	if err != nil {
		return nil, err
	}
	out := LiveAnswers{Answers: make([]LiveAnswer, 0, len(targets)), NextCursor: next}
	for _, t := range targets {
		out.Answers = append(out.Answers, liveAnswer(t))
	}
	return &body[LiveAnswers]{out}, nil
}

func liveAnswer(t live.Target) LiveAnswer {
	rows := t.Rows
	if rows == nil {
		rows = []osquery.Row{}
	}
	return LiveAnswer{
		NodeID: t.NodeID, HostIdentifier: t.HostIdentifier, Hostname: t.Hostname, State: string(t.State),
		Message: t.Message, SentAt: at(t.SentAt), Attempts: t.Attempts, AnsweredAt: at(t.AnsweredAt), Late: t.Late, Cut: t.Cut,
		Stats: t.Stats, Rows: rows,
	}
}
