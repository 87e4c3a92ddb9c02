package adminapi

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"

	"github.com/musterhq/muster/internal/account"
	"github.com/musterhq/muster/internal/change"
	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/node"
	"github.com/musterhq/muster/internal/resource"
)

func (a *API) registerChanges() {
	registerLarge(a, account.ChangeWrite, http.MethodPost, "/changes", "Propose a change, or tell what it would do", a.propose)
	register(a, account.ResourceRead, http.MethodGet, "/changes", "List changes, newest first", a.listChanges)
	register(a, account.ResourceRead, http.MethodGet, "/changes/{id}", "Show a change", a.showChange)
	register(a, account.ChangeApprove, http.MethodPost, "/changes/{id}/approve", "Approve somebody else's change; the last approval that it needs applies it", a.approveChange)
	register(a, account.ChangeApprove, http.MethodPost, "/changes/{id}/reject", "Reject a change", a.rejectChange)
	register(a, account.ChangeWrite, http.MethodPost, "/changes/{id}/withdraw", "Withdraw one's own change", a.withdrawChange)
	register(a, account.ChangeWrite, http.MethodPost, "/changes/{id}/apply", "Apply a change that is approved, as after a freeze", a.applyChange)
	register(a, account.ResourceRead, http.MethodGet, "/revisions", "List revisions, newest first", a.listRevisions)
	register(a, account.ResourceRead, http.MethodGet, "/revisions/{number}", "Show a revision", a.showRevision)
	register(a, account.ResourceRead, http.MethodGet, "/revisions/{number}/diff", "What differs between two revisions", a.diffRevisions)
	register(a, account.ChangeWrite, http.MethodPost, "/revisions/{number}/restore", "Bring a revision's content back, for all nodes at once", a.restoreRevision)
	register(a, account.ResourceRead, http.MethodGet, "/resources", "The objects of a revision", a.resources)
	register(a, account.ResourceRead, http.MethodGet, "/resources/agent-config", "The configs of the nodes of a selector, for their files", a.agentConfigs)
	register(a, account.NodeRead, http.MethodGet, "/drift", "Which nodes run another config than they should", a.drift)
	register(a, account.ResourceRead, http.MethodGet, "/costs", "What scheduled queries cost, as observed", a.costs)
	registerScoped(a, account.ResourceRead, http.MethodGet, "/nodes/{id}/config", "What a node is to run, and where each part comes from", a.nodeConfig)
}

func (a *API) propose(ctx context.Context, in *body[ChangeInput]) (*body[Change], error) {
	p := change.Proposal{
		Author: session(ctx).UserName, Message: in.Body.Message, Delete: in.Body.Delete, Prune: in.Body.Prune,
		DryRun: in.Body.DryRun, Expect: in.Body.Expect,
		May: &change.Authority{Tier: session(ctx).ScheduleTier(), Govern: session(ctx).May(account.GovernWrite)},
	}
	done, err := a.large.turn(ctx, in.Body.Files)
	if err != nil {
		return nil, err
	}
	defer done()
	for _, f := range in.Body.Files {
		objects, err := resource.Parse(f.Name, []byte(f.Content))
		if err != nil {
			return nil, err
		}
		p.Objects = append(p.Objects, objects...)
	}
	c, err := a.Changes.Propose(ctx, p)
	if err != nil {
		return nil, err
	}
	return &body[Change]{changeDocument(c)}, nil
}

// Bounds of the large sets of documents that are read and judged at a time: one
// takes some hundred megabytes.
const (
	largeFiles  = 256 << 10 // bytes from which files are large
	largeAtOnce = 2
	largeQueue  = 8 // with those that wait, which hold their text
)

// largeTurns gives large sets of documents their turn.
type largeTurns struct{ queue, work chan struct{} }

func newLargeTurns() largeTurns {
	return largeTurns{make(chan struct{}, largeQueue), make(chan struct{}, largeAtOnce)}
}

// turn waits until files may be read; call done then. Small ones need not wait.
func (t largeTurns) turn(ctx context.Context, files []File) (done func(), err error) {
	size := 0
	for _, f := range files {
		size += len(f.Content)
	}
	if size < largeFiles {
		return func() {}, nil
	}
	select {
	case t.queue <- struct{}{}:
	default:
		return nil, errs.New(errs.Busy, "%d other large sets of documents are being judged; try again in some seconds", largeQueue)
	}
	select {
	case t.work <- struct{}{}:
		return func() { <-t.work; <-t.queue }, nil
	case <-ctx.Done():
		<-t.queue
		return nil, ctx.Err()
	}
}

func changeDocument(c change.Change) Change {
	out := Change{
		ID: c.ID, State: string(c.State), Author: c.Author, Message: c.Message, CreatedAt: c.CreatedAt.UTC(), Base: c.Base, Hash: c.Hash,
		Tier: int(c.Tier), Diff: list(c.Edits), Findings: list(c.Items), Refusals: list(c.Refusals), Needed: c.Needed, Rule: c.Rule,
		Approvals: []Approval{}, Rollout: c.Rollout, Revision: c.Revision, DecidedBy: c.DecidedBy, DecidedAt: at(c.DecidedAt), Decision: c.Decision,
		Effect: Effect{
			Nodes: c.Effect.Nodes, Asked: c.Effect.Asked, Online: c.Effect.Online, Platforms: c.Effect.Platforms, Sample: list(c.Effect.Sample),
			Before: DayCost(c.Effect.Before), After: DayCost(c.Effect.After), Unpriced: list(c.Effect.Unpriced),
		},
	}
	if out.Effect.Platforms == nil {
		out.Effect.Platforms = map[string]int{}
	}
	for _, p := range c.Approvals {
		out.Approvals = append(out.Approvals, Approval(p))
	}
	return out
}

// firstChange is the ID of the oldest change.
const firstChange = "1"

type listChangesInput struct {
	PageInput
	State string `query:"state" enum:"pending,approved,applied,rejected,withdrawn,stale"`
}

func (a *API) listChanges(ctx context.Context, in *listChangesInput) (*body[ChangeList], error) {
	changes, err := a.ChangeStore.ListChanges(ctx, change.State(in.State), in.Cursor, in.Limit)
	if err != nil {
		return nil, err
	}
	out := ChangeList{Changes: make([]Change, 0, len(changes))}
	for _, c := range changes {
		out.Changes = append(out.Changes, changeDocument(c))
	}
	if n := len(changes); n > 0 && changes[n-1].ID != firstChange { // a page may be short: changes can be large
		out.NextCursor = changes[n-1].ID
	}
	return &body[ChangeList]{out}, nil
}

// ChangeRef names a change in a path.
type ChangeRef struct {
	ID string `path:"id" maxLength:"20"`
}

func (a *API) showChange(ctx context.Context, in *ChangeRef) (*body[Change], error) {
	return changed(a.ChangeStore.Change(ctx, in.ID))
}

// changed is the answer of all that returns a change.
func changed(c change.Change, err error) (*body[Change], error) {
	if err != nil {
		return nil, err
	}
	return &body[Change]{changeDocument(c)}, nil
}

type approveInput struct {
	ChangeRef
	Body ApproveInput
}

func (a *API) approveChange(ctx context.Context, in *approveInput) (*body[Change], error) {
	if err := a.prove(ctx, "change.approve", in.ID, in.Body.Password); err != nil {
		return nil, err
	}
	return changed(a.Changes.Approve(ctx, in.ID, session(ctx).UserName, in.Body.Hash))
}

// prove asks for the caller's password once more, so that a stolen token alone
// approves nothing.
func (a *API) prove(ctx context.Context, action, target, password string) error {
	err := a.Accounts.Prove(ctx, session(ctx), password)
	if errs.Is(err, errs.Forbidden) {
		if err := a.Audit.Refused(ctx, session(ctx).UserName, action, target, "the password is wrong", nil); err != nil {
			return err
		}
	}
	return err
}

type changeReasonInput struct {
	ChangeRef
	Body ReasonInput
}

func (a *API) rejectChange(ctx context.Context, in *changeReasonInput) (*body[Change], error) {
	return changed(a.Changes.Reject(ctx, in.ID, session(ctx).UserName, in.Body.Reason))
}

func (a *API) withdrawChange(ctx context.Context, in *changeReasonInput) (*body[Change], error) {
	return changed(a.Changes.Withdraw(ctx, in.ID, session(ctx).UserName, in.Body.Reason))
}

func (a *API) applyChange(ctx context.Context, in *ChangeRef) (*body[Change], error) {
	return changed(a.Changes.Apply(ctx, in.ID, session(ctx).UserName))
}

func revisionDocument(r change.Revision) Revision {
	out := Revision{
		Number: r.Number, Hash: r.Hash, Parent: r.Parent, Change: r.ChangeID, Author: r.Author, Message: r.Message,
		CreatedAt: r.CreatedAt.UTC(), Restores: r.Restores,
	}
	for _, o := range r.Objects {
		out.Objects = append(out.Objects, Ref{o.Kind, o.Name, o.Hash})
	}
	return out
}

func (a *API) listRevisions(ctx context.Context, in *PageInput) (*body[RevisionList], error) {
	before, err := number("cursor", in.Cursor)
	if err != nil {
		return nil, err
	}
	revisions, err := a.ChangeStore.ListRevisions(ctx, before, in.Limit)
	if err != nil {
		return nil, err
	}
	out := RevisionList{Revisions: make([]Revision, 0, len(revisions))}
	for _, r := range revisions {
		out.Revisions = append(out.Revisions, revisionDocument(r))
	}
	if len(revisions) == in.Limit {
		out.NextCursor = strconv.FormatInt(revisions[len(revisions)-1].Number, 10)
	}
	return &body[RevisionList]{out}, nil
}

// number reads a cursor; "" is 0.
func number(field, s string) (int64, error) {
	if s == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 {
		return 0, errs.Field(field, "is not one that a list returned")
	}
	return n, nil
}

// RevisionRef names a revision in a path.
type RevisionRef struct {
	Number int64 `path:"number" minimum:"1"`
}

func (a *API) showRevision(ctx context.Context, in *RevisionRef) (*body[Revision], error) {
	r, err := a.ChangeStore.Revision(ctx, in.Number)
	if err != nil {
		return nil, err
	}
	return &body[Revision]{revisionDocument(r)}, nil
}

type diffInput struct {
	RevisionRef
	To int64 `query:"to" doc:"The other revision; the newest if it is left out" minimum:"0"`
}

func (a *API) diffRevisions(ctx context.Context, in *diffInput) (*body[Edits], error) {
	_, from, err := a.Changes.Set(ctx, in.Number)
	if err != nil {
		return nil, err
	}
	rev, to, err := a.Changes.Set(ctx, in.To)
	if err != nil {
		return nil, err
	}
	edits, err := from.Diff(to)
	if err != nil {
		return nil, err
	}
	return &body[Edits]{Edits{From: in.Number, To: rev.Number, Diff: edits}}, nil
}

type restoreInput struct {
	RevisionRef
	Body ReasonInput
}

func (a *API) restoreRevision(ctx context.Context, in *restoreInput) (*body[Revision], error) {
	r, err := a.Changes.Restore(ctx, in.Number, session(ctx).UserName, in.Body.Reason)
	if err != nil {
		return nil, err
	}
	return &body[Revision]{revisionDocument(r)}, nil
}

type resourcesInput struct {
	Revision int64  `query:"revision" doc:"The newest if it is left out" minimum:"0"`
	Kind     string `query:"kind" doc:"Only objects of this kind" maxLength:"64"`
	Name     string `query:"name" doc:"Only objects of this name" maxLength:"64"`
}

func (a *API) resources(ctx context.Context, in *resourcesInput) (*body[Resources], error) {
	rev, set, err := a.Changes.Set(ctx, in.Revision)
	if err != nil {
		return nil, err
	}
	var objects []resource.Object
	out := Resources{Revision: rev.Number, Objects: []json.RawMessage{}}
	for o := range set.All() {
		if in.Kind != "" && !strings.EqualFold(in.Kind, o.Kind) || in.Name != "" && in.Name != o.Name {
			continue
		}
		b, err := o.Document()
		if err != nil {
			return nil, err
		}
		objects, out.Objects = append(objects, o), append(out.Objects, b)
	}
	text, err := resource.YAML(objects)
	if err != nil {
		return nil, err
	}
	out.YAML = string(text)
	return &body[Resources]{out}, nil
}

type nodeConfigInput struct {
	NodeRef
	Revision int64 `query:"revision" doc:"What it would run under this revision; what it is served now if it is left out" minimum:"0"`
}

func (a *API) nodeConfig(ctx context.Context, in *nodeConfigInput) (*body[NodeConfig], error) {
	n, err := a.identity(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	if err := a.on(ctx, account.ResourceRead, n.ID); err != nil {
		return nil, err
	}
	plan := a.Catalog.Plan()
	snapshot := a.Catalog.Snapshot(n)
	out := NodeConfig{NodeID: n.ID}
	if in.Revision > 0 && in.Revision != snapshot.Revision() {
		_, set, err := a.Changes.Set(ctx, in.Revision)
		if err != nil {
			return nil, err
		}
		if snapshot, err = resource.Compile(in.Revision, set); err != nil {
			return nil, err
		}
	} else if plan.Safe != nil && plan.Safe(n) {
		out.Bare = "it is served the safe config"
	}
	if n.Quarantined {
		out.Bare = "it is under quarantine"
	}
	if err := fillConfig(&out, snapshot, n); err != nil {
		return nil, err
	}
	out.Reported = a.Evidence.Evidence(n.ID).Hash
	return &body[NodeConfig]{out}, nil
}

func fillConfig(out *NodeConfig, s *resource.Snapshot, n *node.Identity) error {
	c, err := s.Config(n)
	if out.Bare != "" {
		c, err = s.Bare(n)
	}
	if err != nil {
		return err
	}
	if out.Bare == "" {
		if out.Sources, err = s.Sources(n); err != nil {
			return err
		}
		files, err := s.Files(n)
		if err != nil {
			return err
		}
		if files != nil {
			c, out.OnDisk = files, true
		}
	}
	out.Revision, out.Hash, out.Config, out.Sources = c.Revision, c.Hash, c.JSON, list(out.Sources)
	return nil
}

// identity returns a node that the registry has, by any of its names.
func (a *API) identity(ctx context.Context, name string) (*node.Identity, error) {
	found, err := a.Nodes.FindNode(ctx, name)
	if err != nil {
		return nil, err
	}
	if n := a.Registry.Lookup(found.ID); n != nil {
		return n, nil
	}
	return node.IdentityOf(found), nil // it is gone, or another server enrolled it just now
}
