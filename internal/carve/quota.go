package carve

import (
	"github.com/musterhq/muster/internal/errs"
)

// admit takes room for an archive, all at once, so that no two can be promised
// the same.
func (s *Service) admit(nodeID string, a Archive, again bool) error {
	free, err := s.Spool.Free()
	if err != nil {
		return errs.Wrap(errs.Busy, err, "cannot tell how much disk is free")
	}
	need := sealedSize(a)
	s.mu.Lock()
	defer s.mu.Unlock()
	sessions, promised := 0, int64(0)
	for _, u := range s.sessions {
		if u.archive != a.ID && u.node == nodeID {
			sessions++
		}
	}
	for _, u := range s.uploads {
		promised += max(0, u.sealed.SealedSize()-u.received.Load()*u.sealed.Offset(1))
	}
	switch {
	case sessions >= s.Limits.SessionsPerNode:
		return errs.New(errs.Busy, "the node sends %d archives already", sessions)
	case !again && len(s.sessions) >= s.Limits.Sessions:
		return errs.New(errs.Busy, "%d archives are being sent; try again later", len(s.sessions))
	case again:
		return nil
	case s.used[nodeID]+need > s.Limits.PerNode:
		return errs.New(errs.TooLarge, "the node's archives would have over %d bytes; remove some of its carves", s.Limits.PerNode)
	case s.total+need > s.Limits.Total:
		return errs.New(errs.Busy, "all archives would have over %d bytes; remove some carves", s.Limits.Total)
	case int64(min(free, 1<<62)) < s.Limits.Free+max(0, promised)+need:
		return errs.New(errs.Busy, "the server's disk has no room for it")
	}
	s.used[nodeID] += need
	s.total += need
	return nil
}

// release gives room back.
func (s *Service) release(nodeID string, sealed int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.used[nodeID] -= sealed; s.used[nodeID] <= 0 {
		delete(s.used, nodeID)
	}
	s.total = max(0, s.total-sealed)
}

// diskFree refuses a block when the disk is nearly full: what writes to the same
// one must go on.
func (s *Service) diskFree() error {
	free, err := s.Spool.Free()
	if err != nil {
		return errs.Wrap(errs.Busy, err, "cannot tell how much disk is free")
	}
	if int64(min(free, 1<<62)) < s.Limits.Free {
		return errs.New(errs.Busy, "the server's disk is nearly full")
	}
	return nil
}
