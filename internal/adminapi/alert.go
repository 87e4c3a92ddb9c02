package adminapi

import (
	"context"
	"net/http"
	"time"

	"github.com/musterhq/muster/internal/account"
	"github.com/musterhq/muster/internal/alert"
	"github.com/musterhq/muster/internal/errs"
)

// AlertStore reads alerts, and what notifiers were told.
type AlertStore interface {
	AlertReader
	NotificationStore
	alert.SilenceStore
}

// AlertReader reads alerts.
type AlertReader interface {
	Alerts(ctx context.Context, f alert.Filter) (list []alert.Alert, next string, err error)
	// Alert returns an alert; NotFound without one.
	Alert(ctx context.Context, id string) (alert.Alert, error)
	AlertSamples(ctx context.Context, id string) ([]alert.Sample, error)
	AlertHistory(ctx context.Context, id string) ([]alert.Entry, error)
	// AlertEntries returns what happened to any alert after an entry, in order.
	AlertEntries(ctx context.Context, after int64, limit int) ([]alert.Entry, error)
	// LastAlertEntry returns the number of the newest entry; 0 without one.
	LastAlertEntry(ctx context.Context) (int64, error)
	AlertCounts(ctx context.Context, nodes []string) (alert.Counts, error)
}

// NotificationStore reads the outbox.
type NotificationStore interface {
	// Notifications returns notifications, the newest first.
	Notifications(ctx context.Context, f alert.NotificationFilter) ([]alert.Notification, error)
	// RetryNotifications has dead letters told again: those with some numbers, or else
	// all of a notifier.
	RetryNotifications(ctx context.Context, notifier string, seqs []int64, now time.Time) (int64, error)
	Backlogs(ctx context.Context) ([]alert.Backlog, error)
	ToldSpans(ctx context.Context, since time.Time) ([]alert.Told, error)
}

func (a *API) registerAlerts() {
	registerScoped(a, account.AlertRead, http.MethodGet, "/alerts", "List alerts, those that were opened last first", a.listAlerts)
	registerScoped(a, account.AlertRead, http.MethodGet, "/alerts/stream", "Follow what happens to alerts as server-sent events", a.streamAlerts)
	a.answers("/alerts/stream", eventStream)
	register(a, account.AlertRead, http.MethodGet, "/alerts/latency", "How soon notifiers were told what rules found", a.alertLatency)
	registerScoped(a, account.AlertRead, http.MethodGet, "/alerts/{id}", "Show an alert, its newest firings, its history, and who was told", a.showAlert)
	registerScoped(a, account.AlertWrite, http.MethodPost, "/alerts/{id}/acknowledge", "Say that you look after an alert: nobody is reminded of it", a.actAlert(alert.Acked))
	registerScoped(a, account.AlertWrite, http.MethodPost, "/alerts/{id}/resolve", "Say that an alert is over", a.actAlert(alert.Ended))
	registerScoped(a, account.AlertWrite, http.MethodPost, "/alerts/{id}/reopen", "Open an alert that was acknowledged or resolved", a.actAlert(alert.Reopened))
	registerScoped(a, account.AlertWrite, http.MethodPost, "/alerts/{id}/comment", "Write into an alert's history", a.actAlert(alert.Commented))
	registerScoped(a, account.AlertWrite, http.MethodPost, "/alerts/{id}/assign", "Say whose an alert is", a.assignAlert)
	a.registerSilences()
	a.registerNotifiers()
}

type listAlertsInput struct {
	State       string `query:"state" enum:"open,acknowledged,resolved,unresolved" doc:"unresolved is open or acknowledged; all if it is left out"`
	Rule        string `query:"rule" maxLength:"128"`
	Node        string `query:"node" maxLength:"256" doc:"Id, host identifier or hostname"`
	Assignee    string `query:"assignee" maxLength:"64"`
	MinSeverity string `query:"min_severity" enum:"info,low,medium,high,critical"`
	Text        string `query:"text" maxLength:"256" doc:"Part of title, host identifier or key"`
	Limit       int    `query:"limit" minimum:"1" maximum:"1000" default:"100"`
	Cursor      string `query:"cursor" maxLength:"512"`
}

func (a *API) listAlerts(ctx context.Context, in *listAlertsInput) (*body[AlertPage], error) {
	f := alert.Filter{
		State: alert.State(in.State), Rule: in.Rule, Assignee: in.Assignee, MinSeverity: alert.Severity(in.MinSeverity), Text: in.Text, Limit: in.Limit, Cursor: in.Cursor,
	}
	if in.State == "unresolved" {
		f.State, f.Unresolved = "", true
	}
	if in.Node != "" {
		n, err := a.Nodes.FindNode(ctx, in.Node)
		switch {
		case err == nil:
			f.NodeID = n.ID
		case errs.Is(err, errs.NotFound):
			f.NodeID = in.Node // it may be gone
		default:
			return nil, err
		}
	}
	f.Nodes = a.scope(ctx, account.AlertRead)
	list, next, err := a.AlertStore.Alerts(ctx, f)
	if err != nil {
		return nil, err
	}
	counts, err := a.AlertStore.AlertCounts(ctx, f.Nodes)
	if err != nil {
		return nil, err
	}
	silences, err := a.Alerts.Active(ctx)
	if err != nil {
		return nil, err
	}
	page := AlertPage{Alerts: make([]Alert, 0, len(list)), NextCursor: next, Counts: map[string]int{}, Open: map[string]int{}}
	for i := range list {
		page.Alerts = append(page.Alerts, a.alert(&list[i], silences))
	}
	for _, s := range []alert.State{alert.Open, alert.Acknowledged} {
		page.Counts[string(s)] = counts.States[s]
	}
	for _, s := range alert.Severities() {
		page.Open[string(s)] = counts.Open[s]
	}
	return &body[AlertPage]{page}, nil
}

// AlertRef names an alert in a path.
type AlertRef struct {
	ID string `path:"id" maxLength:"64"`
}

func (a *API) showAlert(ctx context.Context, in *AlertRef) (*body[AlertDetail], error) {
	found, err := a.AlertStore.Alert(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	if err := a.alertOn(ctx, account.AlertRead, found.NodeID); err != nil {
		return nil, err
	}
	silences, err := a.Alerts.Active(ctx)
	if err != nil {
		return nil, err
	}
	samples, err := a.AlertStore.AlertSamples(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	history, err := a.AlertStore.AlertHistory(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	told, err := a.AlertStore.Notifications(ctx, alert.NotificationFilter{AlertID: in.ID})
	if err != nil {
		return nil, err
	}
	out := AlertDetail{Alert: a.alert(&found, silences), Samples: []AlertSample{}, History: []AlertEntry{}, Notifications: []AlertNotification{}}
	for _, s := range samples {
		out.Samples = append(out.Samples, AlertSample{Number: s.Number, At: s.At.UTC(), Event: s.Event, EventTime: at(s.EventTime), Title: s.Title, Columns: s.Columns})
	}
	for _, e := range history {
		out.History = append(out.History, alertEntry(e))
	}
	for i := range told {
		out.Notifications = append(out.Notifications, notificationDocument(&told[i]))
	}
	return &body[AlertDetail]{out}, nil
}

// alertOn refuses a caller without a permission for an alert's node; of an alert
// about none, for all.
func (a *API) alertOn(ctx context.Context, p account.Permission, nodeID string) error {
	if err := a.on(ctx, p, nodeID); err != nil {
		return errs.New(errs.NotFound, "there is no such alert, or your roles do not show it")
	}
	return nil
}

type actAlertInput struct {
	AlertRef
	Body *AlertComment
}

// actAlert returns the operation by which a person does something with an alert.
func (a *API) actAlert(action alert.Action) func(context.Context, *actAlertInput) (*body[Alert], error) {
	return func(ctx context.Context, in *actAlertInput) (*body[Alert], error) {
		act := alert.Act{Action: action}
		if in.Body != nil {
			act.Comment = in.Body.Comment
		}
		return a.act(ctx, in.ID, act)
	}
}

type assignAlertInput struct {
	AlertRef
	Body AlertAssign
}

func (a *API) assignAlert(ctx context.Context, in *assignAlertInput) (*body[Alert], error) {
	if in.Body.Assignee != "" {
		if err := a.knownUser(ctx, in.Body.Assignee); err != nil {
			return nil, err
		}
	}
	return a.act(ctx, in.ID, alert.Act{Action: alert.Assigned, Assignee: in.Body.Assignee, Comment: in.Body.Comment})
}

// knownUser refuses a name that nobody has.
func (a *API) knownUser(ctx context.Context, name string) error {
	users, err := a.Accounts.Users(ctx)
	if err != nil {
		return err
	}
	for _, u := range users {
		if u.Name == name {
			return nil
		}
	}
	return errs.Field("assignee", "%q is no user; muster user list tells who is", name)
}

func (a *API) act(ctx context.Context, id string, act alert.Act) (*body[Alert], error) {
	before, err := a.AlertStore.Alert(ctx, id)
	if err != nil {
		return nil, err
	}
	if err := a.alertOn(ctx, account.AlertWrite, before.NodeID); err != nil {
		return nil, err
	}
	act.Actor = session(ctx).UserName
	detail := map[string]string{"rule": before.Rule, "title": before.Title}
	for k, v := range map[string]string{"reason": act.Comment, "assignee": act.Assignee} {
		if v != "" {
			detail[k] = v
		}
	}
	if err := a.Audit.Record(ctx, act.Actor, "alert."+string(act.Action), id, detail); err != nil {
		return nil, err
	}
	after, err := a.Alerts.Act(ctx, id, act)
	if err != nil {
		return nil, err
	}
	silences, err := a.Alerts.Active(ctx)
	if err != nil {
		return nil, err
	}
	return &body[Alert]{a.alert(&after, silences)}, nil
}

func (a *API) alertLatency(ctx context.Context, _ *none) (*body[[]AlertLatency], error) {
	spans, err := a.AlertStore.ToldSpans(ctx, a.Now().Add(-statsSince))
	if err != nil {
		return nil, err
	}
	out := []AlertLatency{}
	for _, l := range alert.Measure(spans) {
		out = append(out, AlertLatency{
			Rule: l.Rule, Notifier: l.Notifier, Told: l.Told,
			Total: latency(l.Total), Received: latency(l.Received), Matched: latency(l.Matched), Delivered: latency(l.Delivered),
		})
	}
	return &body[[]AlertLatency]{out}, nil
}
