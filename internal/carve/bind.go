package carve

import (
	"cmp"
	"context"
	"slices"

	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/ident"
	"github.com/musterhq/muster/internal/live"
	"github.com/musterhq/muster/internal/node"
	"github.com/musterhq/muster/internal/osquery"
)

func sortCarves(list []*Carve) {
	slices.SortFunc(list, func(a, b *Carve) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.ID, b.ID))
	})
}

// bind returns the archive that a node begins to send: the one that it
// announced, or else the oldest one that it was asked for and has not announced,
// which its answer will confirm or correct. The caller holds the lock; the
// result is a copy.
func (s *Service) bind(ctx context.Context, n *node.Identity, r osquery.CarveStart) (*Carve, *Archive, error) {
	open := s.of(n.ID)
	if c, a := find(open, func(a *Archive) bool { return a.GUID == r.CarveID }); a != nil {
		return c, a, nil
	}
	unnamed := func(a *Archive) bool { return a.GUID == "" && a.State.Open() }
	claim := func(c *Carve, a *Archive, guess bool) (*Carve, *Archive, error) {
		a.GUID, a.RequestID, a.Guessed = r.CarveID, cmp.Or(r.RequestID, a.RequestID), guess
		return c, a, nil
	}
	if r.RequestID != "" {
		if c, a := find(open, func(a *Archive) bool { return unnamed(a) && a.RequestID == r.RequestID }); a != nil {
			return claim(c, a, false)
		}
		for _, c := range open { // some versions name the query that asked
			if c.LiveID == r.RequestID {
				if _, a := find([]*Carve{c}, unnamed); a != nil {
					return claim(c, a, true)
				}
			}
		}
	}
	known, err := s.Ledger.KnowsGUID(ctx, n.ID, r.CarveID)
	if err != nil {
		return nil, nil, err
	}
	if known {
		return nil, nil, errs.New(errs.Conflict, "this carve has ended")
	}
	for _, c := range open {
		if s.untaken(c) {
			continue
		}
		if _, a := find([]*Carve{c}, unnamed); a != nil {
			return claim(c, a, true)
		}
	}
	if !s.Limits.Unrequested {
		return nil, nil, errs.New(errs.NotFound, "nobody asked this node for a carve")
	}
	return s.unrequested(ctx, n, r)
}

// untaken reports whether the node cannot know of a carve yet.
func (s *Service) untaken(c *Carve) bool {
	q, ok := s.Asker.Running(c.LiveID)
	return ok && q.Counts[live.Waiting] > 0
}

func find(carves []*Carve, means func(*Archive) bool) (*Carve, *Archive) {
	for _, c := range carves {
		for i := range c.Archives {
			if a := &c.Archives[i]; a.State.Open() && means(a) {
				return c, a
			}
		}
	}
	return nil, nil
}

// unrequested makes a carve of what a node sends by itself.
func (s *Service) unrequested(ctx context.Context, n *node.Identity, r osquery.CarveStart) (*Carve, *Archive, error) {
	if err := s.room(n.ID); err != nil {
		return nil, nil, err
	}
	now := s.Now()
	c := &Carve{
		ID: ident.New(), NodeID: n.ID, HostIdentifier: n.HostIdentifier, Hostname: n.Hostname, Paths: []string{}, State: Scheduled,
		CreatedBy: "node:" + n.ID, CreatedAt: now, ExpiresAt: now, AnsweredAt: now, Message: "nobody asked for it",
		Archives: []Archive{{ID: ident.New(), GUID: r.CarveID, RequestID: r.RequestID, State: Scheduled}},
	}
	detail := map[string]any{"node": n.ID, "host_identifier": n.HostIdentifier, "carve_guid": r.CarveID, "bytes": r.Size}
	if err := s.Audit.Record(ctx, c.CreatedBy, "carve.unrequested", c.ID, detail); err != nil {
		return nil, nil, err
	}
	return c, &c.Archives[0], nil
}
