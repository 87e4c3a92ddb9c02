package adminapi

import (
	"context"

	"github.com/musterhq/muster/internal/account"
	"github.com/musterhq/muster/internal/audit"
	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/live"
)

func (a *API) stopLive(ctx context.Context, in *LiveRef) (*body[Live], error) {
	q, err := a.query(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	if s := session(ctx); q.CreatedBy != s.UserName && !s.Everywhere(account.LiveRun) {
		return nil, errs.New(errs.Forbidden, "to stop what others ask needs the permission %s for all nodes", account.LiveRun)
	}
	if err := a.Audit.Record(ctx, session(ctx).UserName, "live.stop", in.ID, nil); err != nil {
		return nil, err
	}
	if err := a.Live.Stop(ctx, in.ID); err != nil {
		return nil, err
	}
	return a.showLive(ctx, in)
}

// stopAllLive ends what runs when it is called; who starts a query after that
// meant it.
func (a *API) stopAllLive(ctx context.Context, in *body[ReasonInput]) (*body[LiveStopped], error) {
	out := LiveStopped{Stopped: []string{}}
	for _, q := range a.Live.Open() {
		out.Stopped = append(out.Stopped, q.ID)
	}
	e := audit.Entry{Actor: session(ctx).UserName, Action: "live.stop_all", Reason: in.Body.Reason}
	if _, err := a.Audit.Append(ctx, e, out); err != nil {
		return nil, err
	}
	if err := a.Live.StopAll(ctx, out.Stopped); err != nil {
		return nil, err
	}
	return &body[LiveStopped]{out}, nil
}

func (a *API) resumeLive(ctx context.Context, in *LiveRef) (*body[Live], error) {
	q, err := a.query(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	if q.Held == "" || !q.Phase.Open() {
		return nil, errs.New(errs.Conflict, "the query is not held")
	}
	detail := map[string]any{"held": q.Held, "counts": q.Counts}
	if err := a.Audit.Record(ctx, session(ctx).UserName, "live.resume", in.ID, detail); err != nil {
		return nil, err
	}
	if _, err := a.Live.Resume(ctx, in.ID); err != nil {
		return nil, err
	}
	return a.showLive(ctx, in)
}

type approveLiveInput struct {
	LiveRef
	Body PasswordInput
}

// approveLive judges the text once more: the policy may have changed since it was
// asked for.
func (a *API) approveLive(ctx context.Context, in *approveLiveInput) (*body[Live], error) {
	const action = "live.approve"
	q, err := a.waiting(ctx, in.ID, action)
	if err != nil {
		return nil, err
	}
	if err := a.prove(ctx, action, in.ID, in.Body.Password); err != nil {
		return nil, err
	}
	if _, err := a.judgeLive(ctx, action, in.ID, q.SQL, q.Reason, q.Nodes()); err != nil {
		return nil, err
	}
	by := session(ctx).UserName
	e := audit.Entry{Actor: by, Action: action, Target: in.ID, Reason: q.Reason, Approvals: []string{by}}
	if _, err := a.Audit.Append(ctx, e, map[string]any{"sql": q.SQL, "created_by": q.CreatedBy, "nodes": q.Nodes()}); err != nil {
		return nil, err
	}
	if _, err := a.Live.Approve(ctx, in.ID, by); err != nil {
		return nil, err
	}
	return a.showLive(ctx, &in.LiveRef)
}

type rejectLiveInput struct {
	LiveRef
	Body ReasonInput
}

func (a *API) rejectLive(ctx context.Context, in *rejectLiveInput) (*body[Live], error) {
	if _, err := a.waiting(ctx, in.ID, "live.reject"); err != nil {
		return nil, err
	}
	by := session(ctx).UserName
	if _, err := a.Audit.Append(ctx, audit.Entry{Actor: by, Action: "live.reject", Target: in.ID, Reason: in.Body.Reason}, nil); err != nil {
		return nil, err
	}
	if err := a.Live.Reject(ctx, in.ID, by); err != nil {
		return nil, err
	}
	return a.showLive(ctx, &in.LiveRef)
}

// waiting returns a query that waits for somebody other than who asked for it,
// which the caller must be. That somebody tried for themselves is kept.
func (a *API) waiting(ctx context.Context, id, action string) (live.Query, error) {
	q, err := a.query(ctx, id)
	switch {
	case err != nil:
		return q, err
	case q.Phase != live.Pending:
		return q, errs.New(errs.Conflict, "the query does not wait for a second person: it is %s", q.Phase)
	case q.CreatedBy == session(ctx).UserName:
		refusal := errs.New(errs.Forbidden, "somebody else must decide: it is your own query")
		if err := a.Audit.Refused(ctx, session(ctx).UserName, action, id, refusal.Error(), nil); err != nil {
			return q, err
		}
		return q, refusal
	}
	return q, nil
}
