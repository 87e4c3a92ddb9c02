package carve

import (
	"context"
	"errors"
	"time"

	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/live"
)

// Pace of the work in the background.
const (
	tick       = 2 * time.Second
	sweepEvery = 10 * time.Minute
	// orphanAge is how old a file that nobody knows must be: one that is being
	// made is younger.
	orphanAge = time.Hour
	// sweepBatch bounds the carves that end their time in one transaction's reach.
	sweepBatch = 100
	// retryFinish is the pause after an archive could not be stored.
	retryFinish = 15 * time.Second
	// lateGrace is how long a node that took the request may begin after that has
	// expired: its carver looks once a minute.
	lateGrace = 5 * time.Minute
	// emptyPatience is how long a node may begin that answered without rows, as
	// old versions do.
	emptyPatience = 5 * time.Minute
	// silence is after how long a node that should send is asked why it does not:
	// its carver looks once a minute. askAgain is how often.
	silence  = 75 * time.Second
	askAgain = 5 * time.Minute
	// endingKept is how long a session that ended is remembered; an agent tries
	// three times within seconds.
	endingKept = 2 * time.Minute
)

// Load takes up the carves that were awaited when the server stopped. Call it
// after the Asker has taken up its queries, and before Run.
func (s *Service) Load(ctx context.Context) error {
	carves, err := s.Ledger.UnsettledCarves(ctx)
	if err != nil {
		return err
	}
	used, err := s.Ledger.CarveUsage(ctx)
	if err != nil {
		return err
	}
	s.mu.Lock()
	for id, n := range used {
		s.used[id] = n
		s.total += n
	}
	s.mu.Unlock()
	for _, c := range carves {
		s.show(c)
		for i := range c.Archives {
			a := &c.Archives[i]
			if a.State != Uploading && a.State != Verifying {
				continue
			}
			u, err := s.newUpload(c, a)
			if err != nil {
				return err
			}
			if a.State == Uploading {
				s.arm(u, a)
				continue
			}
			u.received.Store(a.Blocks)
			s.mu.Lock()
			s.uploads[a.ID] = u
			s.mu.Unlock()
		}
	}
	return s.clearSpool(ctx)
}

// clearSpool removes what a crash left of archives that were stored or ended:
// nobody sends yet, so that what is not known now is nobody's.
func (s *Service) clearSpool(ctx context.Context) error {
	return s.Spool.List(func(name string, _ time.Time) error {
		s.mu.RLock()
		_, known := s.uploads[name]
		s.mu.RUnlock()
		if known {
			return nil
		}
		s.Log.InfoContext(ctx, "removed a file of a carve that nobody waits for", "file", name)
		return s.Spool.Remove(name)
	})
}

// Run does what is due until ctx ends.
func (s *Service) Run(ctx context.Context) error {
	s.resume(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.finishAll(ctx)
	}()
	ticks, sweeps := time.NewTicker(tick), time.NewTicker(sweepEvery)
	defer ticks.Stop()
	defer sweeps.Stop()
	s.sweep(ctx)
	for {
		select {
		case <-ctx.Done():
			<-done
			s.closeFiles()
			return nil
		case <-ticks.C:
			s.tick(ctx)
		case <-sweeps.C:
			s.sweep(ctx)
		}
	}
}

func (s *Service) closeFiles() {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, u := range s.uploads {
		u.close()
	}
}

// resume finds out what of each upload came before the server stopped, and asks
// again what had not been asked.
func (s *Service) resume(ctx context.Context) {
	for _, u := range s.snapshot() {
		if u.received.Load() == u.sealed.Blocks() { // it was being looked at
			s.queue(u)
			continue
		}
		u.mu.Lock()
		err := u.load(s.Spool)
		whole := u.whole
		u.mu.Unlock()
		if err != nil {
			s.Log.WarnContext(ctx, "the spool of a carve cannot be read", "archive", u.archive, "error", err)
		}
		if whole {
			s.queue(u)
		}
	}
	for _, c := range s.awaited() {
		if _, ok := s.Asker.Running(c.LiveID); c.State != Asked || ok || !s.Now().Before(c.ExpiresAt) {
			continue
		}
		n := s.Nodes.Lookup(c.NodeID)
		sql, err := AskSQL(c.Paths)
		if n == nil || err != nil {
			continue
		}
		// There is a Conflict if it was asked; then that has ended.
		if err := s.ask(ctx, c, n, c.LiveID, sql, c.ExpiresAt); err != nil && !errs.Is(err, errs.Conflict) {
			s.Log.WarnContext(ctx, "a carve could not be asked for again", "carve", c.ID, "error", err)
		}
	}
}

func (s *Service) snapshot() []*upload {
	s.mu.RLock()
	defer s.mu.RUnlock()
	list := make([]*upload, 0, len(s.uploads))
	for _, u := range s.uploads {
		list = append(list, u)
	}
	return list
}

func (s *Service) awaited() []*Carve {
	s.mu.RLock()
	defer s.mu.RUnlock()
	list := make([]*Carve, 0, len(s.open))
	for _, c := range s.open {
		list = append(list, c.clone())
	}
	sortCarves(list)
	return list
}

// finishAll finishes one archive after another: each is read as a whole, and
// memory and disk are for the blocks that come.
func (s *Service) finishAll(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case id := <-s.finish:
			err := s.finishOne(ctx, id)
			if err != nil && ctx.Err() == nil {
				s.Log.WarnContext(ctx, "a carve's archive could not be stored; trying again", "archive", id, "error", err)
				s.pause(ctx)
			}
			s.mu.Lock()
			if u := s.uploads[id]; u != nil {
				u.working = false // the next tick queues it again
			}
			s.mu.Unlock()
			if err := s.verify(ctx); err != nil && ctx.Err() == nil {
				s.Log.WarnContext(ctx, "a node could not be asked what it sent", "error", err)
			}
		}
	}
}

func (s *Service) pause(ctx context.Context) {
	t := time.NewTimer(retryFinish)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// verify asks the nodes of carves that are done what they sent.
func (s *Service) verify(ctx context.Context) error {
	var failed []error
	for _, c := range s.awaited() {
		if c.State == Done {
			failed = append(failed, s.attend(ctx, c.ID))
		}
	}
	return errors.Join(failed...)
}

// tick does what time brings.
func (s *Service) tick(ctx context.Context) {
	for _, u := range s.snapshot() {
		if u.received.Load() == u.sealed.Blocks() {
			s.queue(u)
		}
	}
	now := s.Now()
	s.mu.Lock()
	for hash, e := range s.ended {
		if now.Sub(e.at) > endingKept {
			delete(s.ended, hash)
		}
	}
	s.mu.Unlock()
	for _, c := range s.awaited() {
		if err := s.attend(ctx, c.ID); err != nil && ctx.Err() == nil {
			s.Log.WarnContext(ctx, "a carve could not be moved on; trying again", "carve", c.ID, "error", err)
		}
	}
}

// attend moves one carve on.
func (s *Service) attend(ctx context.Context, id string) error {
	if err := s.lock(ctx); err != nil {
		return err
	}
	defer s.unlock()
	c := s.get(id)
	if c == nil {
		return nil
	}
	switch c.State {
	case Asked, Sent:
		return s.attendAsked(ctx, c)
	case Scheduled, Uploading:
		return s.attendComing(ctx, c)
	case Done:
		switch {
		case c.CheckID == "" && c.CheckedAt.Before(c.EndedAt):
			return s.check(ctx, c)
		case c.CheckID == "", s.unanswered(c):
			c.unknown()
			return s.save(ctx, c)
		}
	case Verifying, Failed, Cancelled, Expired:
	}
	return nil
}

// attendAsked looks at a carve that the node has not announced.
func (s *Service) attendAsked(ctx context.Context, c *Carve) error {
	now := s.Now()
	q, running := s.Asker.Running(c.LiveID)
	running = running && q.Phase == live.Running
	switch {
	case !c.AnsweredAt.IsZero():
		if now.Sub(c.AnsweredAt) > emptyPatience {
			return s.abort(ctx, c, Failed, noAnswer)
		}
	case running && c.State == Asked && q.Counts[live.Sent] > 0:
		c.State = Sent
		return s.save(ctx, c)
	case running:
	case now.Before(c.ExpiresAt):
		return s.abort(ctx, c, Cancelled, "the live query that asked for it was stopped")
	case c.State == Asked:
		return s.abort(ctx, c, Expired, "the node did not poll in time")
	case now.Sub(c.ExpiresAt) > lateGrace:
		return s.abort(ctx, c, Expired, "the node took the request and did not answer in time")
	}
	return nil
}

// attendComing looks at a carve that the node has announced, or sends.
func (s *Service) attendComing(ctx context.Context, c *Carve) error {
	now := s.Now()
	latest := c.AnsweredAt
	for _, a := range c.Archives {
		s.mu.RLock()
		u := s.uploads[a.ID]
		s.mu.RUnlock()
		if u != nil {
			if last := time.Unix(u.last.Load(), 0); last.After(latest) {
				latest = last
			}
		}
	}
	quiet := now.Sub(latest)
	if !c.AnsweredAt.IsZero() && quiet > emptyPatience && c.giveUp() { // of an old agent, which does not announce
		return s.save(ctx, c)
	}
	switch {
	case quiet > s.Limits.Idle:
		return s.abort(ctx, c, Failed, "nothing came for "+s.Limits.Idle.String())
	case c.CheckID != "" && s.unanswered(c):
		c.CheckID = ""
		return s.save(ctx, c)
	case quiet > silence && c.CheckID == "" && now.Sub(c.CheckedAt) > askAgain:
		return s.check(ctx, c)
	}
	return nil
}

// giveUp fails what was not announced, and reports whether there was any.
func (c *Carve) giveUp() (gave bool) {
	for i := range c.Archives {
		if a := &c.Archives[i]; a.State == Asked {
			a.State, a.Message, gave = Failed, noAnswer, true
		}
	}
	return gave
}

// sweep removes what has been kept long enough, and what nobody knows.
func (s *Service) sweep(ctx context.Context) {
	err := errors.Join(s.sweepDue(ctx), s.sweepSpool(ctx), s.sweepBlobs(ctx))
	if err != nil && ctx.Err() == nil {
		s.Log.WarnContext(ctx, "old carves could not all be removed; trying again later", "error", err)
	}
}

func (s *Service) sweepDue(ctx context.Context) error {
	for {
		due, err := s.Ledger.CarvesDue(ctx, s.Now(), sweepBatch)
		if err != nil {
			return err
		}
		for _, c := range due {
			if err := s.expire(ctx, c); err != nil {
				return err
			}
		}
		if len(due) < sweepBatch {
			return nil
		}
	}
}

func (s *Service) sweepSpool(ctx context.Context) error {
	old := s.Now().Add(-orphanAge)
	return s.Spool.List(func(name string, modified time.Time) error {
		s.mu.RLock()
		u := s.uploads[name]
		s.mu.RUnlock()
		if u != nil || modified.After(old) {
			return ctx.Err()
		}
		s.Log.InfoContext(ctx, "removed a file of a carve that nobody waits for", "file", name)
		return s.Spool.Remove(name)
	})
}

func (s *Service) sweepBlobs(ctx context.Context) error {
	old := s.Now().Add(-orphanAge)
	return s.Blobs.List(ctx, func(b Info) error {
		if b.Modified.After(old) {
			return nil
		}
		known, err := s.Ledger.KnowsArchive(ctx, b.Name)
		if err != nil || known {
			return err
		}
		s.Log.InfoContext(ctx, "removed a stored archive of no carve", "blob", b.Name)
		return s.Blobs.Delete(ctx, b.Name)
	})
}
