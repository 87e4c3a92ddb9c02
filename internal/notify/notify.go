// Package notify tells the world of alerts: PagerDuty, mail servers, chats and any
// URL. It sends what it is given, once, and says what the other side answered; what
// to send when, and what to do after a failure, is for package alert.
//
// Addresses are checked when they are dialled (package egress), secrets are read
// when they are needed (package credential) and are in no error and no answer.
package notify

import (
	"context"
	"errors"
	"net"
	"net/url"
	"strings"

	"github.com/musterhq/muster/internal/alert"
	"github.com/musterhq/muster/internal/credential"
	"github.com/musterhq/muster/internal/egress"
	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/resource"
)

var _ alert.Sender = (*Sender)(nil)

// Notifiers are those that are served.
type Notifiers interface {
	// Notifier returns one by its name; nil without one.
	Notifier(name string) *resource.NotifierPlan
}

// Options are what a Sender needs. All but PublicURL are required.
type Options struct {
	Notifiers Notifiers
	Secrets   *credential.Reader
	Guard     *egress.Guard
	// PublicURL is where people reach the UI, for links; "" for no links.
	PublicURL string
	Version   string
}

// Sender tells notifiers. Safe for concurrent use.
type Sender struct {
	Options

	http clients
}

// New returns a Sender.
func New(o Options) *Sender {
	o.PublicURL = strings.TrimSuffix(o.PublicURL, "/")
	return &Sender{Options: o, http: clients{guard: o.Guard}}
}

// Send implements [alert.Sender].
func (s *Sender) Send(ctx context.Context, name string, m alert.Message) (string, error) {
	p := s.Notifiers.Notifier(name)
	if p == nil {
		return "", errs.New(errs.NotFound, "there is no notifier %s", name)
	}
	d := &delivery{s: s, plan: p, m: m}
	var answer string
	var err error
	switch {
	case p.Spec.PagerDuty != nil:
		answer, err = d.pagerDuty(ctx, p.Spec.PagerDuty)
	case p.Spec.Email != nil:
		answer, err = d.mail(ctx, p.Spec.Email)
	case p.Spec.Slack != nil:
		answer, err = d.chat(ctx, p.Spec.Slack)
	default:
		answer, err = d.webhook(ctx, p.Spec.Webhook)
	}
	return d.conceal(answer), d.explain(err)
}

// delivery is one message on its way.
type delivery struct {
	s       *Sender
	plan    *resource.NotifierPlan
	m       alert.Message
	secrets []string // that were read for it
}

// secret reads a secret, and remembers it to conceal it; nil is none.
func (d *delivery) secret(ref *credential.Reference) (string, error) {
	if ref == nil {
		return "", nil
	}
	v, err := d.s.Secrets.Read(*ref)
	if err != nil {
		return "", err
	}
	d.secrets = append(d.secrets, v)
	return v, nil
}

// minConcealed is the shortest text that is worth concealing: shorter ones are in
// any text.
const minConcealed = 6

// conceal takes secrets out of what the other side said: some say what they got.
func (d *delivery) conceal(text string) string {
	for _, v := range d.secrets {
		if len(v) >= minConcealed {
			text = strings.ReplaceAll(text, v, "‹secret›")
		}
	}
	return text
}

// explain returns an error in words for people, without secrets and URLs.
func (d *delivery) explain(err error) error {
	if err == nil {
		return nil
	}
	out := &alert.SendError{}
	if known, ok := errors.AsType[*alert.SendError](err); ok {
		out.Refused, out.After = known.Refused, known.After
	}
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err // its text would hold the URL, which may be a secret
	}
	text := err.Error()
	switch {
	case egress.IsRefusal(err):
		text = alert.ErrorText(err)
	case errors.Is(err, context.DeadlineExceeded):
		text = "it did not answer in time"
	default:
		if e, ok := errors.AsType[*errs.Error](err); ok {
			text = e.Message
		}
		if e, ok := errors.AsType[*net.OpError](err); ok && e.Err != nil {
			text = e.Op + ": " + e.Err.Error()
		}
	}
	out.Err = errs.New(errs.Invalid, "%s", d.conceal(text))
	return out
}

// link returns the URL of an alert; "" without a public URL.
func (d *delivery) link(a *alert.Alert) string {
	if d.s.PublicURL == "" || d.m.Test {
		return ""
	}
	return d.s.PublicURL + "/alerts/" + url.PathEscape(a.ID)
}
