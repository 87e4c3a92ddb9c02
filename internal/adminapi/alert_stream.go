package adminapi

import (
	"context"
	"strconv"

	"github.com/danielgtaylor/huma/v2"

	"github.com/musterhq/muster/internal/account"
	"github.com/musterhq/muster/internal/errs"
)

type streamAlertsInput struct {
	LastEventID string `header:"Last-Event-ID" doc:"Id of the last event that was seen; what came after it is sent. Without one, what happens from now on" maxLength:"32"`
}

// EventAlert is the name of the events of the stream of alerts; EventReady is of
// the first, which tells that what happens from now on is sent.
const (
	EventAlert = "alert"
	EventReady = "ready"
)

// AlertStream is the path of the stream of alerts.
const AlertStream = "/alerts/stream"

func (a *API) streamAlerts(ctx context.Context, in *streamAlertsInput) (*huma.StreamResponse, error) {
	after, err := strconv.ParseInt(in.LastEventID, 10, 64)
	if err != nil { // none, or not one of ours
		if after, err = a.AlertStore.LastAlertEntry(ctx); err != nil {
			return nil, err
		}
	}
	return &huma.StreamResponse{Body: func(ctx huma.Context) {
		s := a.stream(ctx)
		a.report(ctx.Context(), "follow alerts", a.followAlerts(ctx.Context(), after, s))
	}}, nil
}

// followAlerts sends what happens to alerts after an entry, until the client or the
// server ends it, which is the error.
func (a *API) followAlerts(ctx context.Context, after int64, s *sse) error {
	if err := s.send(EventReady, strconv.FormatInt(after, 10), struct{}{}); err != nil {
		return err
	}
	for {
		changed := a.Alerts.Watch() // before looking, so that no change is missed
		var err error
		if after, err = a.sendEntries(ctx, after, s); err != nil {
			return err
		}
		if err := s.wait(ctx, changed); err != nil {
			return err
		}
	}
}

// sendEntries sends what there is after an entry, and returns the last one.
func (a *API) sendEntries(ctx context.Context, after int64, s *sse) (int64, error) {
	for {
		entries, err := a.AlertStore.AlertEntries(ctx, after, streamPage)
		if err != nil {
			return after, err
		}
		silences, err := a.Alerts.Active(ctx)
		if err != nil {
			return after, err
		}
		for _, e := range entries {
			after = e.Seq
			found, err := a.AlertStore.Alert(ctx, e.AlertID)
			if errs.Is(err, errs.NotFound) {
				continue // it was pruned
			}
			if err != nil {
				return after, err
			}
			if !session(ctx).On(account.AlertRead, a.Registry.Lookup(found.NodeID)) {
				continue
			}
			u := AlertUpdate{Entry: alertEntry(e), Alert: a.alert(&found, silences)}
			if err := s.send(EventAlert, strconv.FormatInt(e.Seq, 10), u); err != nil {
				return after, err
			}
		}
		if len(entries) < streamPage {
			return after, nil
		}
	}
}
