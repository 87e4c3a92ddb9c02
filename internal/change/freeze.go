package change

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/resource"
)

// Settings keeps single values.
type Settings interface {
	Setting(ctx context.Context, name string) (string, error)
	SetSetting(ctx context.Context, name, value string) error
}

// Recorder keeps audit entries; see audit.Log. Nothing is done when it fails.
type Recorder interface {
	Record(ctx context.Context, actor, action, target string, detail any) error
	// Refused keeps that something was refused, and why.
	Refused(ctx context.Context, actor, action, target, reason string, detail any) error
}

// External is a freeze that a system outside decides, as a deployment lock. One
// that is configured and cannot be asked is a freeze.
type External interface {
	Frozen() (reason string, frozen bool)
}

// Break is break-glass: changes in spite of a freeze, by two people and for a
// short time.
type Break struct {
	By         string    `json:"by"`
	Reason     string    `json:"reason"`
	At         time.Time `json:"at"`
	ApprovedBy string    `json:"approved_by,omitempty"`
	Until      time.Time `json:"until,omitzero"`
}

// holds reports whether the glass is broken.
func (b *Break) holds(now time.Time) bool {
	return b != nil && b.ApprovedBy != "" && now.Before(b.Until) && !now.Before(b.At.Add(-clockSkew))
}

// clockSkew is how far apart the clocks of servers, or of one before and after
// a correction, may be.
const clockSkew = 5 * time.Minute

// Limits of break-glass.
const (
	breakLife = time.Hour        // after the second person agreed
	breakWait = 30 * time.Minute // for the second person
)

// frozen is what is kept under FreezeSetting.
type frozen struct {
	By     string    `json:"by,omitempty"` // of the freeze by hand; "" for none
	Reason string    `json:"reason,omitempty"`
	At     time.Time `json:"at,omitzero"`
	Break  *Break    `json:"break,omitempty"`
}

// FreezeState is the whole truth about freezes, for people.
type FreezeState struct {
	Frozen  bool
	Reasons []string // of all freezes that hold, also when the glass is broken
	// ByHand is who froze by hand; "" if nobody did.
	ByHand string
	Since  time.Time
	Break  *Break // asked for, or in force
}

// Freezer knows whether what agents run may change. Safe for concurrent use.
type Freezer struct {
	settings Settings
	audit    Recorder
	external []External
	now      func() time.Time

	mu    sync.Mutex
	state frozen
	set   *resource.Set
}

// NewFreezer returns a Freezer; load tells it what is kept.
func NewFreezer(settings Settings, audit Recorder, external []External, now func() time.Time) *Freezer {
	return &Freezer{settings: settings, audit: audit, external: external, now: now}
}

// load takes over what is kept and the current windows.
func (f *Freezer) load(setting string, set *resource.Set) error {
	var s frozen
	if setting != "" {
		if err := json.Unmarshal([]byte(setting), &s); err != nil {
			return fmt.Errorf("setting %s: %w", FreezeSetting, err)
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.state, f.set = s, set
	return nil
}

// State returns all about freezes.
func (f *Freezer) State() FreezeState {
	now := f.now()
	f.mu.Lock()
	s, set := f.state, f.set
	f.mu.Unlock()
	out := FreezeState{ByHand: s.By, Since: s.At}
	if s.By != "" {
		out.Reasons = append(out.Reasons, fmt.Sprintf("frozen by %s: %s", s.By, s.Reason))
	}
	if set != nil {
		for k, w := range resource.Specs[*resource.FreezeWindow](set) {
			if w.Holds(now) {
				out.Reasons = append(out.Reasons, fmt.Sprintf("freeze window %s: %s", k.Name, w.Reason))
			}
		}
	}
	for _, e := range f.external {
		if reason, ok := e.Frozen(); ok {
			out.Reasons = append(out.Reasons, reason)
		}
	}
	if b := s.Break; b != nil && (b.holds(now) || b.ApprovedBy == "" && now.Before(b.At.Add(breakWait))) {
		out.Break = b
	}
	out.Frozen = len(out.Reasons) > 0 && !s.Break.holds(now)
	return out
}

// Frozen reports whether changes are refused, and why. It implements
// rollout.Freezer.
func (f *Freezer) Frozen() (reason string, frozen bool) {
	s := f.State()
	return strings.Join(s.Reasons, "; "), s.Frozen
}

// Freeze refuses all changes until Thaw.
func (f *Freezer) Freeze(ctx context.Context, by, reason string) error {
	if strings.TrimSpace(reason) == "" {
		return errs.Field("reason", "is missing; people who are refused read it")
	}
	if err := f.audit.Record(ctx, by, "freeze.on", "", map[string]string{"reason": reason}); err != nil {
		return err
	}
	return f.keep(ctx, func(s *frozen) error {
		s.By, s.Reason, s.At, s.Break = by, reason, f.now().UTC(), nil
		return nil
	})
}

// Thaw ends the freeze that was made by hand. Windows and outside freezes go on.
func (f *Freezer) Thaw(ctx context.Context, by, reason string) error {
	if strings.TrimSpace(reason) == "" {
		return errs.Field("reason", "is missing; write why changes may go on, as with -m")
	}
	if f.State().ByHand == "" {
		return errs.New(errs.Conflict, "there is no freeze made by hand; windows are resources, and an outside freeze ends outside")
	}
	if err := f.audit.Record(ctx, by, "freeze.off", "", map[string]string{"reason": reason}); err != nil {
		return err
	}
	return f.keep(ctx, func(s *frozen) error {
		s.By, s.Reason, s.At, s.Break = "", "", time.Time{}, nil
		return nil
	})
}

// AskBreak asks for break-glass: a second person must agree within half an hour.
func (f *Freezer) AskBreak(ctx context.Context, by, reason string) error {
	if strings.TrimSpace(reason) == "" {
		return errs.Field("reason", "is missing; break-glass without a reason is refused")
	}
	if !f.State().Frozen {
		return errs.New(errs.Conflict, "nothing is frozen; there is no glass to break")
	}
	if err := f.audit.Record(ctx, by, "freeze.break_ask", "", map[string]string{"reason": reason}); err != nil {
		return err
	}
	return f.keep(ctx, func(s *frozen) error {
		s.Break = &Break{By: by, Reason: reason, At: f.now().UTC()}
		return nil
	})
}

// AgreeBreak breaks the glass that somebody else asked for. It mends itself
// after an hour.
func (f *Freezer) AgreeBreak(ctx context.Context, by string) error {
	b := f.State().Break
	if b == nil || b.ApprovedBy != "" {
		return errs.New(errs.Conflict, "nobody asks for break-glass; muster freeze break -m REASON asks")
	}
	if b.By == by {
		if err := f.audit.Refused(ctx, by, "freeze.break", "", "own request", nil); err != nil {
			return err
		}
		return errs.New(errs.Forbidden, "you asked for it yourself; a second person must agree")
	}
	if err := f.audit.Record(ctx, by, "freeze.break", "", map[string]string{"asked_by": b.By, "reason": b.Reason}); err != nil {
		return err
	}
	return f.keep(ctx, func(s *frozen) error {
		if s.Break == nil || s.Break.By != b.By || !s.Break.At.Equal(b.At) {
			return errs.New(errs.Conflict, "the request changed meanwhile; look again")
		}
		agreed := *s.Break
		agreed.ApprovedBy, agreed.Until = by, f.now().UTC().Add(breakLife)
		s.Break = &agreed
		return nil
	})
}

// keep changes what is kept.
func (f *Freezer) keep(ctx context.Context, edit func(*frozen) error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.state
	if err := edit(&s); err != nil {
		return err
	}
	b, err := json.Marshal(s)
	if err != nil {
		return err
	}
	if err := f.settings.SetSetting(ctx, FreezeSetting, string(b)); err != nil {
		return err
	}
	f.state = s
	return nil
}
