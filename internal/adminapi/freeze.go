package adminapi

import (
	"context"
	"net/http"

	"github.com/musterhq/muster/internal/account"
	"github.com/musterhq/muster/internal/change"
)

func (a *API) registerFreeze() {
	register(a, account.ResourceRead, http.MethodGet, "/freeze", "Whether what agents run may change", a.showFreeze)
	register(a, account.FreezeWrite, http.MethodPost, "/freeze/on", "Freeze: refuse all changes", a.freezeOn)
	register(a, account.FreezeWrite, http.MethodPost, "/freeze/off", "End the freeze that was made by hand", a.freezeOff)
	register(a, account.FreezeWrite, http.MethodPost, "/freeze/break", "Ask for break-glass: changes in spite of a freeze, for an hour", a.askBreak)
	register(a, account.ChangeApprove, http.MethodPost, "/freeze/break/agree", "Agree to somebody else's break-glass", a.agreeBreak)
	register(a, account.ResourceRead, http.MethodGet, "/emergency", "Whom the safe config is served", a.showSafe)
	register(a, account.Emergency, http.MethodPost, "/emergency/safe-config", "Serve the settings alone, and nothing to run, at once", a.serveSafe)
	register(a, account.Emergency, http.MethodPost, "/emergency/end", "Serve everybody what their revision says again", a.endSafe)
}

func (a *API) showFreeze(context.Context, *none) (*body[Freeze], error) {
	s := a.Freezer.State()
	out := Freeze{Frozen: s.Frozen, Reasons: list(s.Reasons), ByHand: s.ByHand, Since: at(s.Since)}
	if b := s.Break; b != nil {
		out.Break = &Break{By: b.By, Reason: b.Reason, At: b.At.UTC(), ApprovedBy: b.ApprovedBy, Until: at(b.Until)}
	}
	return &body[Freeze]{out}, nil
}

func (a *API) freezeOn(ctx context.Context, in *body[ReasonInput]) (*body[Freeze], error) {
	return a.frozen(ctx, a.Freezer.Freeze(ctx, session(ctx).UserName, in.Body.Reason))
}

func (a *API) freezeOff(ctx context.Context, in *body[ReasonInput]) (*body[Freeze], error) {
	return a.frozen(ctx, a.Freezer.Thaw(ctx, session(ctx).UserName, in.Body.Reason))
}

func (a *API) askBreak(ctx context.Context, in *body[ReasonInput]) (*body[Freeze], error) {
	return a.frozen(ctx, a.Freezer.AskBreak(ctx, session(ctx).UserName, in.Body.Reason))
}

func (a *API) agreeBreak(ctx context.Context, in *body[PasswordInput]) (*body[Freeze], error) {
	if err := a.prove(ctx, "freeze.break", "", in.Body.Password); err != nil {
		return nil, err
	}
	err := a.Freezer.AgreeBreak(ctx, session(ctx).UserName)
	if err == nil {
		a.Log.WarnContext(ctx, "break-glass: changes are accepted in spite of a freeze", "by", a.Freezer.State().Break.By, "agreed_by", session(ctx).UserName)
	}
	return a.frozen(ctx, err)
}

// frozen is the answer of what changes a freeze.
func (a *API) frozen(ctx context.Context, err error) (*body[Freeze], error) {
	if err != nil {
		return nil, err
	}
	return a.showFreeze(ctx, nil)
}

func (a *API) showSafe(context.Context, *none) (*body[Safe], error) {
	_, safe := a.Publisher.Serving()
	return &body[Safe]{safeDocument(safe)}, nil
}

func safeDocument(s *change.Safe) Safe {
	if s == nil {
		return Safe{}
	}
	return Safe{Active: true, Selector: s.Selector, By: s.By, Reason: s.Reason, At: at(s.At)}
}

func (a *API) serveSafe(ctx context.Context, in *body[SafeInput]) (*body[Safe], error) {
	if err := a.Publisher.ServeSafe(ctx, session(ctx).UserName, in.Body.Selector, in.Body.Reason); err != nil {
		return nil, err
	}
	return a.showSafe(ctx, nil)
}

func (a *API) endSafe(ctx context.Context, in *body[ReasonInput]) (*body[Safe], error) {
	if err := a.Publisher.EndSafe(ctx, session(ctx).UserName, in.Body.Reason); err != nil {
		return nil, err
	}
	return a.showSafe(ctx, nil)
}
