package adminapi

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"

	"github.com/musterhq/muster/internal/account"
	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/node"
	"github.com/musterhq/muster/internal/rollout"
)

func (a *API) registerRollouts() {
	register(a, account.ResourceRead, http.MethodGet, "/rollouts", "List rollouts, newest first", a.listRollouts)
	register(a, account.ResourceRead, http.MethodGet, "/rollouts/current", "The rollout that is open; not found if there is none", a.currentRollout)
	register(a, account.RolloutWrite, http.MethodPost, "/rollouts/current/advance", "Go to the next stage, whatever its gates say", a.advanceRollout)
	register(a, account.RolloutWrite, http.MethodPost, "/rollouts/current/pause", "Stay at the stage", a.pauseRollout)
	register(a, account.RolloutWrite, http.MethodPost, "/rollouts/current/resume", "Go on with the stage; its bake time begins anew", a.resumeRollout)
	register(a, account.RolloutWrite, http.MethodPost, "/rollouts/current/rollback", "Go back: all nodes get the former revision at once", a.rollbackRollout)
	registerScoped(a, account.NodeRead, http.MethodGet, "/nodes/{id}/activity", "What a node was served and asked, and by whose change or query", a.nodeActivity)
}

func rolloutDocument(r rollout.Rollout) Rollout {
	out := Rollout{
		Revision: r.Revision, Base: r.Base, State: string(r.State), Policy: r.Policy, Stages: []RolloutStage{}, Stage: r.Stage,
		StageAt: r.StageAt.UTC(), StartedAt: r.StartedAt.UTC(), EndedAt: at(r.EndedAt), Reason: r.Reason, Results: list(r.Results),
	}
	for _, s := range r.Stages {
		out.Stages = append(out.Stages, RolloutStage{s.Name, int(s.Bake.Seconds())})
	}
	return out
}

func (a *API) listRollouts(ctx context.Context, in *PageInput) (*body[RolloutList], error) {
	before, err := number("cursor", in.Cursor)
	if err != nil {
		return nil, err
	}
	rollouts, err := a.ChangeStore.Rollouts(ctx, before, in.Limit)
	if err != nil {
		return nil, err
	}
	out := RolloutList{Rollouts: []Rollout{}}
	for _, r := range rollouts {
		out.Rollouts = append(out.Rollouts, rolloutDocument(r))
	}
	if len(rollouts) == in.Limit {
		out.NextCursor = strconv.FormatInt(rollouts[len(rollouts)-1].Revision, 10)
	}
	return &body[RolloutList]{out}, nil
}

func (a *API) currentRollout(ctx context.Context, _ *none) (*body[Rollout], error) {
	status, err := a.Rollouts.Status(ctx)
	if err != nil {
		return nil, err
	}
	out := rolloutDocument(status.Rollout)
	out.Frozen = status.Frozen
	out.Counts = &RolloutCounts{
		Nodes: status.Nodes, Changed: status.Changed, Admitted: status.Admitted, Online: status.Online, Applied: status.Applied, Control: status.Control,
	}
	return &body[Rollout]{out}, nil
}

func (a *API) advanceRollout(ctx context.Context, in *body[ReasonInput]) (*body[Rollout], error) {
	return a.moveRollout(ctx, in.Body.Reason, a.Rollouts.Advance)
}

func (a *API) pauseRollout(ctx context.Context, in *body[ReasonInput]) (*body[Rollout], error) {
	return a.moveRollout(ctx, in.Body.Reason, a.Rollouts.Pause)
}

func (a *API) resumeRollout(ctx context.Context, in *body[ReasonInput]) (*body[Rollout], error) {
	return a.moveRollout(ctx, in.Body.Reason, a.Rollouts.Resume)
}

func (a *API) rollbackRollout(ctx context.Context, in *body[ReasonInput]) (*body[Rollout], error) {
	return a.moveRollout(ctx, in.Body.Reason, a.Rollouts.Rollback)
}

func (a *API) moveRollout(ctx context.Context, reason string, move func(ctx context.Context, actor, reason string) error) (*body[Rollout], error) {
	if err := move(ctx, session(ctx).UserName, reason); err != nil {
		return nil, err
	}
	if err := a.Publisher.Sync(ctx); err != nil {
		return nil, err
	}
	newest, err := a.ChangeStore.Rollouts(ctx, 0, 1)
	if err != nil {
		return nil, err
	}
	if len(newest) == 0 {
		return nil, errs.New(errs.NotFound, "there is no rollout")
	}
	return &body[Rollout]{rolloutDocument(newest[0])}, nil
}

type activityInput struct {
	NodeRef
	Limit int `query:"limit" minimum:"1" maximum:"1000" default:"200"`
}

// nodeActivity joins what a node was served, what it was asked, and the tags that
// decide about both.
func (a *API) nodeActivity(ctx context.Context, in *activityInput) (*body[NodeActivity], error) {
	n, err := a.Nodes.FindNode(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	if err := a.on(ctx, account.NodeRead, n.ID); err != nil {
		return nil, err
	}
	entries, err := a.servedHistory(ctx, n.ID, in.Limit)
	if err != nil {
		return nil, err
	}
	asked, err := a.LiveList.LiveOf(ctx, n.ID, in.Limit)
	if err != nil {
		return nil, err
	}
	for _, q := range asked {
		entries = append(entries, Activity{
			Time: cmp.Or(q.SentAt, q.CreatedAt).UTC(), Kind: "live_query", ID: q.LiveID, SQL: q.SQL, By: q.CreatedBy, State: string(q.State),
		})
	}
	tags, err := a.Nodes.TagHistory(ctx, n.ID)
	if err != nil {
		return nil, err
	}
	entries = append(entries, tagEntries(tags)...)
	slices.SortStableFunc(entries, func(a, b Activity) int { return b.Time.Compare(a.Time) })
	return &body[NodeActivity]{NodeActivity{Entries: entries[:min(len(entries), in.Limit)]}}, nil
}

func (a *API) servedHistory(ctx context.Context, id string, limit int) ([]Activity, error) {
	served, err := a.ChangeStore.ServedTo(ctx, id, limit)
	if err != nil {
		return nil, err
	}
	entries := make([]Activity, 0, len(served))
	for _, s := range served {
		e := Activity{Time: s.First.UTC(), Last: at(s.Last), Kind: "config", Revision: s.Revision, Hash: s.Hash}
		if rev, err := a.ChangeStore.Revision(ctx, s.Revision); err == nil {
			e.By, e.Message = rev.Author, rev.Message
		}
		entries = append(entries, e)
	}
	return entries, nil
}

func tagEntries(tags []node.TagSpan) []Activity {
	entries := []Activity{}
	for _, t := range tags {
		entries = append(entries, Activity{Time: t.Since.UTC(), Kind: "tag", Message: fmt.Sprintf("tag %s by %s", t.Tag, t.Source), State: "set"})
		if !t.Until.IsZero() {
			entries = append(entries, Activity{Time: t.Until.UTC(), Kind: "tag", Message: fmt.Sprintf("tag %s by %s", t.Tag, t.Source), State: "removed"})
		}
	}
	return entries
}
