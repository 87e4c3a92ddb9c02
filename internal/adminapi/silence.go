package adminapi

import (
	"context"
	"net/http"

	"github.com/musterhq/muster/internal/account"
	"github.com/musterhq/muster/internal/alert"
	"github.com/musterhq/muster/internal/errs"
)

func (a *API) registerSilences() {
	register(a, account.AlertRead, http.MethodGet, "/silences", "List silences that hold or will, the newest first", a.listSilences)
	register(a, account.SilenceWrite, http.MethodPost, "/silences", "Keep alerts from being told for a time", a.createSilence)
	register(a, account.SilenceWrite, http.MethodDelete, "/silences/{id}", "End a silence: what is open and was not told is told now", a.endSilence)
}

// maxSilencedAlerts are looked at to count whom a silence fits.
const maxSilencedAlerts = 1000

func (a *API) listSilences(ctx context.Context, _ *none) (*body[[]Silence], error) {
	list, err := a.AlertStore.Silences(ctx, a.Now())
	if err != nil {
		return nil, err
	}
	out := make([]Silence, 0, len(list))
	if len(list) == 0 {
		return &body[[]Silence]{out}, nil
	}
	open, _, err := a.AlertStore.Alerts(ctx, alert.Filter{Unresolved: true, Limit: maxSilencedAlerts})
	if err != nil {
		return nil, err
	}
	for _, s := range list {
		d := a.silenceDocument(s)
		if match, err := alert.ParseMatchers("match", s.Match); err == nil {
			for i := range open {
				if alert.Matches(match, &open[i]) {
					d.Alerts++
				}
			}
		}
		out = append(out, d)
	}
	return &body[[]Silence]{out}, nil
}

func (a *API) silenceDocument(s alert.Silence) Silence {
	return Silence{
		ID: s.ID, Match: s.Match, Comment: s.Comment, CreatedBy: s.CreatedBy, CreatedAt: s.CreatedAt.UTC(), StartsAt: s.StartsAt.UTC(), ExpiresAt: s.ExpiresAt.UTC(),
		EndedBy: s.EndedBy, Active: s.Active(a.Now()),
	}
}

type createSilenceInput struct{ Body SilenceInput }

func (a *API) createSilence(ctx context.Context, in *createSilenceInput) (*body[Silence], error) {
	s := alert.Silence{Match: in.Body.Match, Comment: in.Body.Comment, CreatedBy: session(ctx).UserName, ExpiresAt: in.Body.ExpiresAt}
	if in.Body.StartsAt != nil {
		s.StartsAt = *in.Body.StartsAt
	}
	if err := s.Check(a.Now()); err != nil {
		return nil, err
	}
	detail := map[string]any{"match": s.Match, "expires_at": s.ExpiresAt.UTC(), "reason": s.Comment}
	if err := a.Audit.Record(ctx, s.CreatedBy, "silence.create", "", detail); err != nil {
		return nil, err
	}
	made, err := a.Alerts.Silence(ctx, s)
	if err != nil {
		return nil, err
	}
	return &body[Silence]{a.silenceDocument(made)}, nil
}

// SilenceRef names a silence in a path.
type SilenceRef struct {
	ID string `path:"id" maxLength:"64"`
}

func (a *API) endSilence(ctx context.Context, in *SilenceRef) (*body[Silence], error) {
	list, err := a.AlertStore.Silences(ctx, a.Now())
	if err != nil {
		return nil, err
	}
	known := false
	for _, s := range list {
		known = known || s.ID == in.ID
	}
	if !known {
		return nil, errs.New(errs.NotFound, "there is no silence with that id that holds")
	}
	by := session(ctx).UserName
	if err := a.Audit.Record(ctx, by, "silence.end", in.ID, nil); err != nil {
		return nil, err
	}
	ended, err := a.Alerts.EndSilence(ctx, in.ID, by)
	if err != nil {
		return nil, err
	}
	return &body[Silence]{a.silenceDocument(ended)}, nil
}
