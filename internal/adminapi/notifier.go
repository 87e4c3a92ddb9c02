package adminapi

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/musterhq/muster/internal/account"
	"github.com/musterhq/muster/internal/alert"
	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/resource"
)

func (a *API) registerNotifiers() {
	register(a, account.AlertRead, http.MethodGet, "/notifiers", "List notifiers, and how they do", a.listNotifiers)
	register(a, account.NotifierWrite, http.MethodPost, "/notifiers/{name}/test", "Tell a notifier that this is a test, and return what the other side said", a.testNotifier)
	register(a, account.AlertRead, http.MethodGet, "/notifications", "List what notifiers are to be told, were told, or could not be told, the newest first", a.listNotifications)
	register(a, account.NotifierWrite, http.MethodPost, "/notifications/retry", "Have dead letters told again", a.retryNotifications)
}

func (a *API) listNotifiers(ctx context.Context, _ *none) (*body[[]Notifier], error) {
	backlogs, err := a.AlertStore.Backlogs(ctx)
	if err != nil {
		return nil, err
	}
	of := map[string]alert.Backlog{}
	for _, b := range backlogs {
		of[b.Notifier] = b
	}
	out := []Notifier{}
	served := a.Catalog.Plan().Newest()
	for _, p := range served.Notifiers() {
		n := Notifier{
			Name: p.Route.Name, Way: p.Way, Target: target(p), Default: p.Route.Default, MinSeverity: string(p.Route.MinSeverity),
			Match: slices.Clone(p.Spec.Match), Selector: p.Spec.Selector, Served: true,
		}
		if o, ok := served.Set().Get(resource.Key{Kind: "Notifier", Name: n.Name}); ok {
			n.Description = o.Description
		}
		if n.Match == nil {
			n.Match = []string{}
		}
		n.count(of[n.Name])
		delete(of, n.Name)
		out = append(out, n)
	}
	for _, b := range backlogs {
		if _, gone := of[b.Notifier]; gone {
			n := Notifier{Name: b.Notifier, Match: []string{}}
			n.count(b)
			out = append(out, n)
		}
	}
	return &body[[]Notifier]{out}, nil
}

func (n *Notifier) count(b alert.Backlog) {
	n.Waiting, n.Dead, n.OldestDue = b.Waiting, b.Dead, at(b.Oldest)
}

// target says where a notifier tells, without secrets.
func target(p *resource.NotifierPlan) string {
	switch s := p.Spec; {
	case s.PagerDuty != nil:
		return host(s.PagerDuty.URL, resource.DefaultPagerDuty)
	case s.Email != nil:
		return fmt.Sprintf("%s by %s", strings.Join(s.Email.To, ", "), s.Email.Server)
	case s.Slack != nil:
		return "the URL in " + s.Slack.URL.String()
	case s.Webhook.URLFrom != nil:
		return "the URL in " + s.Webhook.URLFrom.String()
	default:
		return host(s.Webhook.URL, "")
	}
}

// host returns the host of a URL: paths and queries may hold secrets.
func host(text, otherwise string) string {
	if text == "" {
		text = otherwise
	}
	u, err := url.Parse(text)
	if err != nil {
		return ""
	}
	return u.Host
}

// NotifierRef names a notifier in a path.
type NotifierRef struct {
	Name string `path:"name" maxLength:"64"`
}

func (a *API) testNotifier(ctx context.Context, in *NotifierRef) (*body[NotifierAnswer], error) {
	if a.Catalog.Notifier(in.Name) == nil {
		return nil, errs.New(errs.NotFound, "there is no notifier %s; apply one first", in.Name)
	}
	by := session(ctx).UserName
	if err := a.Audit.Record(ctx, by, "notifier.test", in.Name, nil); err != nil {
		return nil, err
	}
	answer, err := a.Courier.Test(ctx, in.Name, by)
	if err != nil {
		return nil, err
	}
	const millisecond = 1e6
	return &body[NotifierAnswer]{NotifierAnswer{Answer: answer.Text, Took: float64(answer.Took.Nanoseconds()) / millisecond}}, nil
}

type listNotificationsInput struct {
	State    string `query:"state" enum:"waiting,delivered,dead"`
	Notifier string `query:"notifier" maxLength:"64"`
	Before   int64  `query:"before" minimum:"0" doc:"Those with lower numbers: the lowest of the page before"`
	Limit    int    `query:"limit" minimum:"1" maximum:"1000" default:"100"`
}

func (a *API) listNotifications(ctx context.Context, in *listNotificationsInput) (*body[[]AlertNotification], error) {
	list, err := a.AlertStore.Notifications(ctx, alert.NotificationFilter{State: alert.Delivery(in.State), Notifier: in.Notifier, Before: in.Before, Limit: in.Limit})
	if err != nil {
		return nil, err
	}
	out := make([]AlertNotification, 0, len(list))
	for i := range list {
		out = append(out, notificationDocument(&list[i]))
	}
	return &body[[]AlertNotification]{out}, nil
}

type retryInput struct{ Body RetryInput }

func (a *API) retryNotifications(ctx context.Context, in *retryInput) (*body[Retried], error) {
	if (in.Body.Notifier == "") == (len(in.Body.Seqs) == 0) {
		return nil, errs.Field("notifier", "or seqs must be there, one of the two")
	}
	detail := map[string]any{}
	if len(in.Body.Seqs) > 0 {
		detail["seqs"] = in.Body.Seqs
	}
	if err := a.Audit.Record(ctx, session(ctx).UserName, "notification.retry", in.Body.Notifier, detail); err != nil {
		return nil, err
	}
	n, err := a.AlertStore.RetryNotifications(ctx, in.Body.Notifier, in.Body.Seqs, a.Now())
	if err != nil {
		return nil, err
	}
	var names []string
	for _, r := range a.Catalog.Routes() {
		names = append(names, r.Name)
	}
	a.Courier.Wake(names)
	return &body[Retried]{Retried{n}}, nil
}
