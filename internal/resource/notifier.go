package resource

import (
	"cmp"
	"net"
	"net/mail"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/musterhq/muster/internal/alert"
	"github.com/musterhq/muster/internal/credential"
	"github.com/musterhq/muster/internal/node"
	"github.com/musterhq/muster/internal/policy"
)

// Notifier is where alerts are told. Exactly one of pagerduty, email, slack and
// webhook is set. It is no part of any config.
type Notifier struct {
	Default      bool     `json:"default,omitempty" yaml:"default,omitempty" doc:"Told of alerts whose rule names no notifier"`
	MinSeverity  string   `json:"min_severity,omitempty" yaml:"min_severity,omitempty" enum:"info,low,medium,high,critical" doc:"Told of alerts of this severity and above; of all if it is left out"`
	Match        []string `json:"match,omitempty" yaml:"match,omitempty" doc:"Told of alerts for which all of these hold, as rule = ssh-*, severity >= high, node != web-1 or label.team = web"`
	Selector     string   `json:"selector,omitempty" yaml:"selector,omitempty" doc:"Told of alerts about these nodes alone; of all, and of those about no one node, if it is left out"`
	SendResolved *bool    `json:"send_resolved,omitempty" yaml:"send_resolved,omitempty" doc:"Told what is over, too; true if it is left out"`
	GroupBy      []string `json:"group_by,omitempty" yaml:"group_by,omitempty" doc:"Alerts that are equal in these are told together: rule, key, severity, node, query, label.NAME; rule if it is left out. PagerDuty is told of each alert by itself"`
	GroupWait    Duration `json:"group_wait,omitempty" yaml:"group_wait,omitempty" doc:"How long the first alert of a group waits for others, 1s to 1h; 10s if it is left out"`
	Repeat       Duration `json:"repeat,omitempty" yaml:"repeat,omitempty" doc:"How often it is told again of what is open and not acknowledged, 1m to 720h; never if it is left out"`
	GiveUp       Duration `json:"give_up,omitempty" yaml:"give_up,omitempty" doc:"How long what cannot be told is tried again, 1m to 720h; 24h if it is left out"`

	PagerDuty *PagerDuty `json:"pagerduty,omitempty" yaml:"pagerduty,omitempty" doc:"Events API v2 of PagerDuty, or what speaks it"`
	Email     *Email     `json:"email,omitempty" yaml:"email,omitempty" doc:"Mail by SMTP"`
	Slack     *Slack     `json:"slack,omitempty" yaml:"slack,omitempty" doc:"Incoming webhook of Slack, Mattermost, Rocket.Chat or what speaks like them"`
	Webhook   *Webhook   `json:"webhook,omitempty" yaml:"webhook,omitempty" doc:"JSON by POST, signed"`
}

// PagerDuty is a service of PagerDuty.
type PagerDuty struct {
	RoutingKey credential.Reference `json:"routing_key" yaml:"routing_key" doc:"Integration key of the service"`
	URL        string               `json:"url,omitempty" yaml:"url,omitempty" doc:"Where events go; https://events.pagerduty.com/v2/enqueue if it is left out, https://events.eu.pagerduty.com/v2/enqueue in its EU region"`
}

// Email is a mail server, and to whom it is to send.
type Email struct {
	Server   string                `json:"server" yaml:"server" doc:"host:port; 587 is usual for starttls, 465 for tls"`
	TLS      string                `json:"tls,omitempty" yaml:"tls,omitempty" enum:"starttls,tls,none" doc:"starttls, the default: it must be offered; tls from the first byte; none: anybody on the way reads along, and no password is sent"`
	CA       *credential.Reference `json:"ca,omitempty" yaml:"ca,omitempty" doc:"CAs that the server's certificate is checked against, PEM; the system's if it is left out"`
	Username string                `json:"username,omitempty" yaml:"username,omitempty" doc:"For the server; it is asked for none if it is left out"`
	Password *credential.Reference `json:"password,omitempty" yaml:"password,omitempty" doc:"Of username"`
	From     string                `json:"from" yaml:"from" doc:"Address of the sender, as Muster <muster@example.com>"`
	To       []string              `json:"to" yaml:"to" doc:"Addresses of the receivers"`
}

// Slack is an incoming webhook of a chat.
type Slack struct {
	URL     credential.Reference  `json:"url" yaml:"url" doc:"The webhook's URL, which is a secret"`
	CA      *credential.Reference `json:"ca,omitempty" yaml:"ca,omitempty" doc:"CAs that the server's certificate is checked against, PEM; the system's if it is left out"`
	Channel string                `json:"channel,omitempty" yaml:"channel,omitempty" doc:"Where the chat lets webhooks choose: the channel"`
}

// Webhook is a URL that takes JSON.
type Webhook struct {
	URL       string                          `json:"url,omitempty" yaml:"url,omitempty" doc:"Where it is sent"`
	URLFrom   *credential.Reference           `json:"url_from,omitempty" yaml:"url_from,omitempty" doc:"The same, where the URL is a secret"`
	CA        *credential.Reference           `json:"ca,omitempty" yaml:"ca,omitempty" doc:"CAs that the server's certificate is checked against, PEM; the system's if it is left out"`
	SecretKey *credential.Reference           `json:"secret,omitempty" yaml:"secret,omitempty" doc:"Signs what is sent: X-Muster-Signature is v1= and the HMAC-SHA-256, in hex, of X-Muster-Timestamp, a dot and the body"`
	Headers   map[string]credential.Reference `json:"headers,omitempty" yaml:"headers,omitempty" doc:"Headers whose values are secrets, as Authorization"`
	Body      any                             `json:"body,omitempty" yaml:"body,omitempty" doc:"What is sent instead of Muster's own document: any JSON, in whose texts ${title}, ${severity}, ${label.team}, ${column.path} and others stand for what the alert says; one request for each alert then, unless it has ${alerts}"`
}

// DefaultPagerDuty is where PagerDuty takes events.
const DefaultPagerDuty = "https://events.pagerduty.com/v2/enqueue"

// Bounds of a Notifier.
const (
	maxReceivers  = 50
	maxHeaders    = 16
	minGroupWait  = time.Second
	maxGroupWait  = time.Hour
	minRepeat     = time.Minute
	maxRepeat     = 30 * 24 * time.Hour
	maxAddress    = 254 // RFC 5321
	maxChannel    = 80
	maxURL        = 2 << 10
	maxHeaderName = 64
)

func (n *Notifier) check(c *checker) {
	c.selector("selector", n.Selector)
	if n.MinSeverity != "" {
		if _, err := alert.ParseSeverity("min_severity", n.MinSeverity); err != nil {
			c.refuse("min_severity", "bad-severity", "%v", err)
		}
	}
	if _, err := alert.ParseMatchers("match", n.Match); err != nil {
		c.refuse("match", "bad-condition", "%v", err)
	}
	if err := alert.GroupKeys("group_by", n.GroupBy); err != nil {
		c.refuse("group_by", "bad-key", "%v", err)
	}
	c.between("group_wait", n.GroupWait, minGroupWait, maxGroupWait)
	c.between("repeat", n.Repeat, minRepeat, maxRepeat)
	c.between("give_up", n.GiveUp, minRepeat, maxRepeat)
	set := 0
	for _, is := range []bool{n.PagerDuty != nil, n.Email != nil, n.Slack != nil, n.Webhook != nil} {
		if is {
			set++
		}
	}
	if set != 1 {
		c.refuse("", "one-way", "must have exactly one of pagerduty, email, slack and webhook")
		return
	}
	// What agents said leaves the server, to wherever this says.
	c.item("", policy.Verdict{Tier: policy.Sensitive, Reasons: []policy.Reason{{
		Kind: "notifier", Name: n.way(), Tier: policy.Sensitive, Why: "what alerts say is sent outside",
	}}})
	switch {
	case n.PagerDuty != nil:
		c.reference("pagerduty.routing_key", &n.PagerDuty.RoutingKey)
		if n.PagerDuty.URL != "" {
			c.url("pagerduty.url", n.PagerDuty.URL)
		}
	case n.Email != nil:
		n.Email.check(c)
	case n.Slack != nil:
		c.reference("slack.url", &n.Slack.URL)
		c.reference("slack.ca", n.Slack.CA)
		if len(n.Slack.Channel) > maxChannel {
			c.refuse("slack.channel", "range", "must have at most %d bytes", maxChannel)
		}
	default:
		n.Webhook.check(c)
	}
}

// way is the key by which a notifier speaks.
func (n *Notifier) way() string {
	switch {
	case n.PagerDuty != nil:
		return "pagerduty"
	case n.Email != nil:
		return "email"
	case n.Slack != nil:
		return "slack"
	}
	return "webhook"
}

func (e *Email) check(c *checker) {
	host, port, err := net.SplitHostPort(e.Server)
	if err != nil || host == "" || port == "" || strings.ContainsAny(e.Server, " \r\n\t/@") {
		c.refuse("email.server", "bad-server", "%q is no host:port, as smtp.example.com:587", e.Server)
	}
	if !slices.Contains([]string{"", "starttls", "tls", "none"}, e.TLS) {
		c.refuse("email.tls", "bad-tls", "is %q; use starttls, tls or none", e.TLS)
	}
	switch {
	case e.TLS == "none" && (e.Username != "" || e.Password != nil):
		c.refuse("email.tls", "open-password", "is none, and there is a password; use starttls or tls")
	case e.TLS == "none":
		c.warn("email.tls", "plain-mail", "is none: anybody on the way reads what alerts say")
	case (e.Username == "") != (e.Password == nil):
		c.refuse("email.password", "half-login", "and username must both be there, or neither")
	}
	c.reference("email.ca", e.CA)
	c.reference("email.password", e.Password)
	c.address("email.from", e.From)
	if len(e.To) == 0 || len(e.To) > maxReceivers {
		c.refuse("email.to", "range", "must have 1 to %d addresses", maxReceivers)
	}
	for i, to := range e.To {
		c.address(indexed("email.to", i), to)
	}
}

func (w *Webhook) check(c *checker) {
	switch {
	case (w.URL == "") == (w.URLFrom == nil):
		c.refuse("webhook.url", "one-url", "or url_from must be there, one of the two")
	case w.URL != "":
		c.url("webhook.url", w.URL)
	}
	c.reference("webhook.url_from", w.URLFrom)
	c.reference("webhook.ca", w.CA)
	c.reference("webhook.secret", w.SecretKey)
	if len(w.Headers) > maxHeaders {
		c.refuse("webhook.headers", "range", "must be at most %d", maxHeaders)
	}
	for name, from := range w.Headers {
		if !headerName(name) {
			c.refuse("webhook.headers", "bad-header", "%q cannot be set; use letters, digits and -, and none of Host, Content-Length, Transfer-Encoding, Connection and X-Muster-*", name)
		}
		c.reference("webhook.headers."+name, &from)
	}
	if w.Body != nil {
		if _, err := alert.ParseTemplate("webhook.body", w.Body); err != nil {
			c.refuse("webhook.body", "bad-template", "%v", err)
		}
	}
}

func headerName(name string) bool {
	lower := strings.ToLower(name)
	if name == "" || len(name) > maxHeaderName || strings.HasPrefix(lower, "x-muster-") ||
		slices.Contains([]string{"host", "content-length", "transfer-encoding", "connection", "content-encoding", "te", "trailer", "upgrade"}, lower) {
		return false
	}
	return !strings.ContainsFunc(lower, func(r rune) bool { return r != '-' && (r < '0' || r > '9') && (r < 'a' || r > 'z') })
}

func (c *checker) between(path string, d Duration, least, most time.Duration) {
	if d != 0 && (time.Duration(d) < least || time.Duration(d) > most) {
		c.refuse(path, "range", "must be %s to %s, or left out", least, most)
	}
}

// reference checks where a secret is; nil is none.
func (c *checker) reference(path string, r *credential.Reference) {
	if r == nil {
		return
	}
	if err := r.Check(path); err != nil {
		c.refuse(path, "bad-reference", "%v", err)
	}
}

func (c *checker) url(path, text string) {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || len(text) > maxURL:
		c.refuse(path, "bad-url", "is no URL, as https://host/path") // the text may hold a secret
	case u.User != nil:
		c.refuse(path, "open-password", "holds a password; put it into headers, or the whole URL into url_from")
	case u.Scheme == "http":
		c.warn(path, "plain-http", "is http: anybody on the way reads what alerts say")
	}
}

func (c *checker) address(path, text string) {
	a, err := mail.ParseAddress(text)
	if err != nil || len(text) > maxAddress || strings.ContainsAny(text, "\r\n") || a.Address == "" {
		c.refuse(path, "bad-address", "%q is no mail address", text)
	}
}

// NotifierPlan is a Notifier as it is served.
type NotifierPlan struct {
	Route alert.Route
	Spec  *Notifier
	Way   string          // pagerduty, email, slack or webhook
	Body  *alert.Template // of a webhook that has one
}

func (s *Snapshot) addNotifier(o Object, n *Notifier) error {
	match, err := alert.ParseMatchers("match", n.Match)
	if err != nil {
		return err
	}
	p := &NotifierPlan{Spec: n, Way: n.way(), Route: alert.Route{
		Name: o.Name, Default: n.Default, MinSeverity: alert.Severity(cmp.Or(n.MinSeverity, string(alert.Info))), Match: match,
		GroupBy: n.GroupBy, GroupWait: orDefault(n.GroupWait, alert.DefaultGroupWait), Repeat: time.Duration(n.Repeat),
		GiveUp: orDefault(n.GiveUp, alert.DefaultGiveUp), Resolved: n.SendResolved == nil || *n.SendResolved,
		Single: n.PagerDuty != nil, Acked: n.PagerDuty != nil,
	}}
	if len(n.GroupBy) == 0 {
		p.Route.GroupBy = []string{"rule"}
	}
	if n.Webhook != nil && n.Webhook.Body != nil {
		if p.Body, err = alert.ParseTemplate("webhook.body", n.Webhook.Body); err != nil {
			return err
		}
	}
	if n.Selector != "" {
		who, err := node.ParseWhere("selector", n.Selector)
		if err != nil {
			return err
		}
		p.Route.Selector = &who
	}
	s.notifiers = append(s.notifiers, p)
	return nil
}

// Notifiers returns the notifiers by name. Do not change it.
func (s *Snapshot) Notifiers() []*NotifierPlan { return s.notifiers }

// Notifier returns a notifier by its name; nil without one.
func (s *Snapshot) Notifier(name string) *NotifierPlan {
	for _, n := range s.notifiers {
		if n.Route.Name == name {
			return n
		}
	}
	return nil
}

var _ alert.Routes = (*Catalog)(nil)

// Notifier returns a notifier of the newest revision by its name; nil without one.
// Notifiers are about no node, so no stage of a rollout is about them.
func (c *Catalog) Notifier(name string) *NotifierPlan { return c.Plan().Newest().Notifier(name) }

// Routes implements [alert.Routes].
func (c *Catalog) Routes() []*alert.Route {
	plans := c.Plan().Newest().Notifiers()
	routes := make([]*alert.Route, 0, len(plans))
	for _, p := range plans {
		routes = append(routes, &p.Route)
	}
	return routes
}
