package adminapi

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
	"time"

	"github.com/musterhq/muster/internal/account"
	"github.com/musterhq/muster/internal/audit"
	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/ident"
	"github.com/musterhq/muster/internal/live"
	"github.com/musterhq/muster/internal/node"
	"github.com/musterhq/muster/internal/policy"
)

// maxAhead bounds not_before: what somebody wants later than that is a schedule.
const maxAhead = 30 * 24 * time.Hour

func (a *API) startLive(ctx context.Context, in *body[LiveInput]) (*body[Live], error) {
	nodes, err := a.targets(ctx, in.Body)
	if err != nil {
		return nil, err
	}
	d, err := a.judgeLive(ctx, "live.start", "", in.Body.SQL, in.Body.Reason, len(nodes))
	if err != nil {
		return nil, err
	}
	if err := a.mayAsk(ctx, in.Body.SQL, d.Tier, nodes); err != nil {
		return nil, a.refuse(ctx, "live.start", d.Hash, err, map[string]any{"sql": in.Body.SQL, "tier": d.Tier, "nodes": len(nodes)})
	}
	q, err := a.liveQuery(ctx, in.Body)
	if err != nil {
		return nil, err
	}
	q.Tier, q.Approval.Needed = int(d.Tier), d.Outcome == OutcomeApproval
	detail := map[string]any{
		"sql": q.SQL, "selector": q.Selector, "nodes": len(nodes), "nodes_sha256": listHash(nodes), "tier": q.Tier,
		"not_before": at(q.NotBefore), "expires_at": at(q.ExpiresAt), "sample_percent": in.Body.SamplePercent, "approval_needed": q.Approval.Needed,
	}
	e := audit.Entry{Actor: q.CreatedBy, Action: "live.start", Target: q.ID, Reason: q.Reason}
	if _, err := a.Audit.Append(ctx, e, detail); err != nil {
		return nil, err
	}
	if q, err = a.Live.Start(ctx, q, nodes); err != nil {
		return nil, err
	}
	return &body[Live]{liveDocument(q)}, nil
}

// mayAsk reports why the caller may not ask nodes a text: who may run saved
// queries alone runs those as they are.
func (a *API) mayAsk(ctx context.Context, sql string, tier policy.Tier, nodes []*node.Identity) error {
	s := session(ctx)
	err := s.Ask(account.LiveRun, tier, nodes)
	if err == nil || !s.May(account.LiveRunSaved) {
		return err
	}
	saved, errSaved := a.Saved.SavedQueries(ctx)
	if errSaved != nil {
		return errSaved
	}
	if slices.ContainsFunc(saved, func(q live.Saved) bool { return q.SQL == sql }) {
		return s.Ask(account.LiveRunSaved, tier, nodes)
	}
	if !s.May(account.LiveRun) {
		return errs.New(errs.Forbidden, "your roles let you run saved queries alone, as they are; choose one")
	}
	return err
}

// refuse keeps what was refused to whom, and returns why.
func (a *API) refuse(ctx context.Context, action, target string, why error, detail any) error {
	if !errs.Is(why, errs.Forbidden) {
		return why
	}
	if err := a.Audit.Refused(ctx, session(ctx).UserName, action, target, why.Error(), detail); err != nil {
		return err
	}
	return why
}

// targets returns the nodes that a live query is for.
func (a *API) targets(ctx context.Context, in LiveInput) ([]*node.Identity, error) {
	chosen, err := a.selected(in.Selector)
	if err != nil {
		return nil, err
	}
	// All means all that the caller may ask: no word about others.
	nodes := wherePermitted(ctx, a, account.LiveRunSaved, slices.Clone(chosen), func(n *node.Identity) string { return n.ID })
	if hidden := len(chosen) - len(nodes); hidden > 0 && len(in.Selector.Nodes) > 0 {
		return nil, errs.Field("selector.nodes", "%d of the nodes are not there, or your roles do not let you ask them", hidden)
	}
	nodes = live.Sample(nodes, in.SamplePercent)
	switch {
	case len(nodes) == 0:
		return nil, errs.Field("selector", "no node matches; choose nodes, tags or all")
	case in.MaxNodes > 0 && len(nodes) > in.MaxNodes:
		return nil, errs.Field("max_nodes", "is %d, but the query is for %d nodes; narrow the selector, or allow more", in.MaxNodes, len(nodes))
	}
	return nodes, nil
}

// liveQuery makes the query that a person asks for.
func (a *API) liveQuery(ctx context.Context, in LiveInput) (live.Query, error) {
	q := live.Query{
		ID: ident.New(), Kind: live.Person, SQL: in.SQL, Selector: node.Selector(in.Selector), Reason: strings.TrimSpace(in.Reason),
		CreatedBy: session(ctx).UserName, RerunOf: in.RerunOf,
	}
	now := a.Now()
	if in.NotBefore != nil {
		if q.NotBefore = in.NotBefore.UTC(); q.NotBefore.After(now.Add(maxAhead)) {
			return q, errs.Field("not_before", "is more than %d days ahead", maxAhead/(24*time.Hour))
		}
	}
	if s := in.ExpiresSeconds; s > 0 {
		q.CreatedAt = now // as Begins needs it
		q.ExpiresAt = q.Begins().Add(time.Duration(s) * time.Second)
	}
	if in.Limits != nil {
		q.Limits = live.Limits(*in.Limits)
	}
	if in.Waves != nil {
		q.Waves = live.Waves{First: in.Waves.First, MaxBadPercent: in.Waves.MaxBadPercent}
	}
	if in.RerunOf != "" {
		if _, err := a.LiveList.Live(ctx, in.RerunOf); errs.Is(err, errs.NotFound) {
			return q, errs.Field("rerun_of", "there is no live query with that id")
		} else if err != nil {
			return q, err
		}
	}
	return q, nil
}

// judgeLive refuses a text that may not run on so many nodes, or not without a
// reason, and keeps who wanted it.
func (a *API) judgeLive(ctx context.Context, action, target, sql, reason string, nodes int) (Decision, error) {
	d, err := a.decide(sql, nodes)
	if err != nil {
		return d, err
	}
	switch d.Outcome {
	case OutcomeRefused:
		detail := map[string]any{"sql": sql, "hash": d.Hash, "tier": d.Tier, "nodes": nodes}
		if err := a.Audit.Refused(ctx, session(ctx).UserName, action, cmp.Or(target, d.Hash), d.Why, detail); err != nil {
			return d, err
		}
		if d.Broken {
			return d, errs.Field("sql", "%s", d.Why)
		}
		return d, errs.New(errs.Forbidden, "%s", d.Why)
	case OutcomeReason, OutcomeApproval:
		if strings.TrimSpace(reason) == "" {
			return d, errs.Field("reason", "is needed: %s", d.Why)
		}
	case OutcomeRun:
	}
	return d, nil
}

// listHash is the SHA-256 of the nodes' ids, each with a line feed, sorted: who
// was meant can be proved without the audit log holding them all.
func listHash(nodes []*node.Identity) string {
	ids := make([]string, 0, len(nodes))
	for _, n := range nodes {
		ids = append(ids, n.ID)
	}
	slices.Sort(ids)
	h := sha256.New()
	for _, id := range ids {
		_, _ = h.Write([]byte(id + "\n")) // a hash takes everything
	}
	return hex.EncodeToString(h.Sum(nil))
}
