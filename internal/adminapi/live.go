package adminapi

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/musterhq/muster/internal/account"
	"github.com/musterhq/muster/internal/change"
	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/ident"
	"github.com/musterhq/muster/internal/live"
	"github.com/musterhq/muster/internal/node"
	"github.com/musterhq/muster/internal/osquery"
	"github.com/musterhq/muster/internal/policy"
)

func (a *API) registerLive() {
	register(a, account.LiveRead, http.MethodPost, "/live/preview", "Count the nodes that a selector means", a.previewLive)
	register(a, account.LiveRun, http.MethodPost, "/live", "Start a live query", a.startLive)
	register(a, account.LiveRead, http.MethodGet, "/live", "List live queries, newest first", a.listLive)
	register(a, account.LiveRead, http.MethodGet, "/live/{id}", "Show a live query", a.showLive)
	register(a, account.LiveRead, http.MethodGet, "/live/{id}/answers", "List a live query's nodes with their rows", a.liveAnswers)
	register(a, account.LiveRun, http.MethodPost, "/live/{id}/stop", "Stop a live query", a.stopLive)
	register(a, account.LiveRead, http.MethodGet, "/live/{id}/stream", "Follow a live query as server-sent events", a.streamLive)
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

func (a *API) previewLive(_ context.Context, in *body[Selector]) (*body[LivePreview], error) {
	nodes, err := a.selected(in.Body)
	if err != nil {
		return nil, err
	}
	out := LivePreview{Matching: len(nodes)}
	for _, n := range nodes {
		if n.Online(a.Now()) {
			out.Online++
		}
	}
	return &body[LivePreview]{out}, nil
}

func (a *API) startLive(ctx context.Context, in *body[LiveInput]) (*body[Live], error) {
	if err := a.checkLive(ctx, in.Body.SQL); err != nil {
		return nil, err
	}
	nodes, err := a.selected(in.Body.Selector)
	if err != nil {
		return nil, err
	}
	q := live.Query{ID: ident.New(), SQL: in.Body.SQL, Selector: node.Selector(in.Body.Selector), CreatedBy: session(ctx).UserName}
	if s := in.Body.ExpiresSeconds; s > 0 {
		q.ExpiresAt = a.Now().Add(time.Duration(s) * time.Second)
	}
	if len(nodes) == 0 {
		return nil, errs.Field("selector", "no node matches; choose nodes, tags or all")
	}
	detail := map[string]any{"sql": q.SQL, "selector": q.Selector, "nodes": len(nodes)}
	if err := a.Audit.Record(ctx, q.CreatedBy, "live.start", q.ID, detail); err != nil {
		return nil, err
	}
	if q, err = a.Live.Start(ctx, q, nodes); err != nil {
		return nil, err
	}
	return &body[Live]{liveDocument(q)}, nil
}

// checkLive refuses a text that the policy does not allow on nodes, and keeps
// who wanted it. A text that agents could not run is the caller's mistake.
func (a *API) checkLive(ctx context.Context, sql string) error {
	e, err := a.rules()
	if err != nil {
		return err
	}
	defer e.Close() //nolint:errcheck // it holds memory only
	v := e.Query(policy.Query{SQL: sql, Use: policy.Live})
	if v.Allowed(change.Limit) {
		return nil
	}
	refusal := refusalOf(v)
	detail := map[string]any{"sql": sql, "hash": v.Hash, "tier": v.Tier}
	if err := a.Audit.Refused(ctx, session(ctx).UserName, "live.start", v.Hash, refusal.Error(), detail); err != nil {
		return err
	}
	return refusal
}

// refusalOf says why a text is refused.
func refusalOf(v policy.Verdict) error {
	for _, f := range v.Findings {
		if f.Severity == policy.Refused {
			return errs.Field("sql", "%s", f.Message)
		}
	}
	why := "it has tier " + v.Tier.String()
	if len(v.Reasons) > 0 {
		why = fmt.Sprintf("%s %s has tier %s: %s", v.Reasons[0].Kind, v.Reasons[0].Name, v.Tier, v.Reasons[0].Why)
	}
	return errs.New(errs.Forbidden, "the policy refuses this text: %s. A PolicyException can allow exactly this text (sha256 %s)", why, v.Hash)
}

func liveDocument(q live.Query) Live {
	out := Live{
		ID: q.ID, SQL: q.SQL, State: string(q.Phase), CreatedBy: q.CreatedBy, CreatedAt: q.CreatedAt.UTC(),
		ExpiresAt: q.ExpiresAt.UTC(), EndedAt: at(q.EndedAt), Nodes: q.Nodes(), Rows: q.Rows,
		Counts: map[string]int{},
	}
	for _, s := range live.States() {
		out.Counts[string(s)] = q.Counts[s]
	}
	return out
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

func (a *API) listLive(ctx context.Context, in *PageInput) (*body[LivePage], error) {
	queries, next, err := a.LiveList.LiveList(ctx, live.Filter{Cursor: in.Cursor, Limit: in.Limit})
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
	return &body[Live]{liveDocument(q)}, nil
}

type liveAnswersInput struct {
	LiveRef
	PageInput
	State string `query:"state" doc:"Only nodes in this state" enum:"waiting,sent,answered,empty,failed,denylisted,over_limit,expired,stopped"`
}

func (a *API) liveAnswers(ctx context.Context, in *liveAnswersInput) (*body[LiveAnswers], error) {
	if _, err := a.query(ctx, in.ID); err != nil {
		return nil, err
	}
	targets, next, err := a.LiveList.LiveAnswers(ctx, in.ID, live.AnswerFilter{
		State: live.State(in.State), Cursor: in.Cursor, Limit: in.Limit,
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
		Message: t.Message, AnsweredAt: at(t.AnsweredAt), Stats: t.Stats, Rows: rows,
	}
}

func (a *API) stopLive(ctx context.Context, in *LiveRef) (*body[Live], error) {
	if _, err := a.query(ctx, in.ID); err != nil {
		return nil, err
	}
	if err := a.Audit.Record(ctx, session(ctx).UserName, "live.stop", in.ID, nil); err != nil {
		return nil, err
	}
	if err := a.Live.Stop(ctx, in.ID); err != nil {
		return nil, err
	}
	return a.showLive(ctx, in)
}

func (a *API) streamLive(ctx context.Context, in *LiveRef) (*huma.StreamResponse, error) {
	if _, err := a.query(ctx, in.ID); err != nil {
		return nil, err
	}
	return &huma.StreamResponse{Body: func(ctx huma.Context) {
		ctx.SetHeader("Content-Type", "text/event-stream")
		ctx.SetHeader("X-Accel-Buffering", "no") // nginx would hold events back
		_, w := humago.Unwrap(ctx)
		s := sse{w: w, c: http.NewResponseController(w), stopping: a.Stopping}
		if err := a.follow(ctx.Context(), in.ID, s); err != nil && ctx.Context().Err() == nil {
			a.report(ctx.Context(), "follow live query", err)
		}
	}}, nil
}

// Pace of a stream.
const (
	// streamPause is the shortest time between two looks at a query that many
	// nodes answer at once.
	streamPause = 200 * time.Millisecond
	// streamIdle is how long a stream is silent before it says that it lives.
	streamIdle = 15 * time.Second
	streamPage = 200
)

// follow sends what is known of a query, then what changes, until it ended.
func (a *API) follow(ctx context.Context, id string, s sse) error {
	f := live.AnswerFilter{AnsweredOnly: true, Limit: streamPage}
	for {
		changed, release := a.Live.Watch(id) // before looking, so that no change is missed
		q, err := a.query(ctx, id)
		if err == nil {
			err = a.sendAnswers(ctx, id, &f, s)
		}
		if err == nil {
			err = s.send("counts", liveDocument(q))
		}
		if err == nil && q.Phase != live.Running {
			release()
			return s.send("end", liveDocument(q))
		}
		if err == nil {
			err = s.wait(ctx, changed)
		}
		release()
		if err != nil {
			return err
		}
	}
}

// sendAnswers sends the answers that came after the filter's last.
func (a *API) sendAnswers(ctx context.Context, id string, f *live.AnswerFilter, s sse) error {
	for {
		targets, _, err := a.LiveList.LiveAnswers(ctx, id, *f)
		if err != nil {
			return err
		}
		for _, t := range targets {
			if err := s.send("answer", liveAnswer(t)); err != nil {
				return err
			}
			f.AfterSeq = t.Seq
		}
		if len(targets) < f.Limit {
			return nil
		}
	}
}

// sse writes server-sent events (WHATWG HTML §9.2).
type sse struct {
	w        http.ResponseWriter
	c        *http.ResponseController
	stopping <-chan struct{}
}

// errStopping ends streams when the server stops; browsers come back.
var errStopping = errs.New(errs.Busy, "the server is stopping")

func (s sse) send(name string, document any) error {
	b, err := json.Marshal(document)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(s.w, "event: %s\ndata: %s\n\n", name, b); err != nil {
		return err
	}
	return s.c.Flush()
}

// wait returns when something changed, but not too soon.
func (s sse) wait(ctx context.Context, changed <-chan struct{}) error {
	pause, idle := time.NewTimer(streamPause), time.NewTicker(streamIdle)
	defer pause.Stop()
	defer idle.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.stopping:
			return errStopping
		case <-idle.C:
			if _, err := fmt.Fprint(s.w, ": alive\n\n"); err != nil {
				return err
			}
			if err := s.c.Flush(); err != nil {
				return err
			}
		case <-changed:
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-pause.C:
				return nil
			}
		}
	}
}
