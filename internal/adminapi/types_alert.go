package adminapi

import (
	"encoding/json"
	"time"

	"github.com/musterhq/muster/internal/alert"
)

// Alert is what a rule opened.
type Alert struct {
	ID             string            `json:"id"`
	Rule           string            `json:"rule" doc:"With a colon: one of the server's own"`
	Key            string            `json:"key" doc:"What it is about: equal rule and key are one alert"`
	State          string            `json:"state" enum:"open,acknowledged,resolved"`
	Severity       string            `json:"severity" enum:"info,low,medium,high,critical"`
	Title          string            `json:"title"`
	Text           string            `json:"text"`
	Labels         map[string]string `json:"labels"`
	NodeID         string            `json:"node_id"`
	HostIdentifier string            `json:"host_identifier"`
	Hostname       string            `json:"hostname,omitempty" doc:"What the node is called now; nothing of one that is gone"`
	Query          string            `json:"query"`
	Count          int64             `json:"count" doc:"Firings"`
	Episodes       int               `json:"episodes" doc:"How often it was opened"`
	FirstAt        time.Time         `json:"first_at"`
	OpenedAt       time.Time         `json:"opened_at" doc:"The last time"`
	LastAt         time.Time         `json:"last_at" doc:"When it fired last"`
	ResolvedAt     *time.Time        `json:"resolved_at,omitempty"`
	ResolvedBy     string            `json:"resolved_by,omitempty" doc:"A person, or rule"`
	ResolvesAt     *time.Time        `json:"resolves_at,omitempty" doc:"When it is over unless it fires again"`
	AcknowledgedBy string            `json:"acknowledged_by,omitempty"`
	AcknowledgedAt *time.Time        `json:"acknowledged_at,omitempty"`
	Assignee       string            `json:"assignee"`
	SilencedBy     string            `json:"silenced_by,omitempty" doc:"Id of the silence that keeps it from being told"`
}

// AlertPage is a page of alerts.
type AlertPage struct {
	Alerts     []Alert        `json:"alerts"`
	NextCursor string         `json:"next_cursor,omitempty"`
	Counts     map[string]int `json:"counts" doc:"Of all that are not resolved, by state"`
	Open       map[string]int `json:"open" doc:"Of those that are open, by severity"`
}

// AlertDetail is all about an alert.
type AlertDetail struct {
	Alert
	Samples       []AlertSample       `json:"samples" doc:"Its newest firings, the newest first"`
	History       []AlertEntry        `json:"history" doc:"What happened, the first first"`
	Notifications []AlertNotification `json:"notifications" doc:"Who was told, and is to be, the newest first"`
}

// AlertSample is one of an alert's newest firings.
type AlertSample struct {
	Number    int64           `json:"number"`
	At        time.Time       `json:"at"`
	Event     string          `json:"event,omitempty" doc:"Its place in the stream"`
	EventTime *time.Time      `json:"event_time,omitempty"`
	Title     string          `json:"title"`
	Columns   json.RawMessage `json:"columns,omitempty" doc:"Of the event, unless they are large"`
}

// AlertEntry is one line of an alert's history.
type AlertEntry struct {
	Seq     int64     `json:"seq"`
	AlertID string    `json:"alert_id"`
	At      time.Time `json:"at"`
	Actor   string    `json:"actor" doc:"A person, or rule"`
	Action  string    `json:"action"`
	Detail  string    `json:"detail"`
}

// AlertUpdate is what the stream of alerts tells.
type AlertUpdate struct {
	Entry AlertEntry `json:"entry"`
	Alert Alert      `json:"alert" doc:"As it is now"`
}

// AlertNotification is one thing that a notifier is to be told, or was.
type AlertNotification struct {
	Seq         int64      `json:"seq"`
	Notifier    string     `json:"notifier"`
	AlertID     string     `json:"alert_id"`
	AlertTitle  string     `json:"alert_title"`
	Action      string     `json:"action"`
	State       string     `json:"state" enum:"waiting,delivered,dead"`
	CreatedAt   time.Time  `json:"created_at"`
	DueAt       *time.Time `json:"due_at,omitempty" doc:"When it is tried, if it waits"`
	DeliveredAt *time.Time `json:"delivered_at,omitempty"`
	Silence     string     `json:"silence,omitempty" doc:"Id of the silence that holds it"`
	Attempts    int        `json:"attempts" doc:"That failed"`
	Error       string     `json:"error,omitempty" doc:"Of the last attempt"`
}

// AlertComment says why something is done with an alert.
type AlertComment struct {
	Comment string `json:"comment,omitempty" maxLength:"2048"`
}

// AlertAssign says whose an alert is.
type AlertAssign struct {
	Assignee string `json:"assignee" maxLength:"64" doc:"Name of a user; empty for nobody"`
	Comment  string `json:"comment,omitempty" maxLength:"2048"`
}

// Silence keeps alerts from being told for a time.
type Silence struct {
	ID        string    `json:"id"`
	Match     []string  `json:"match"`
	Comment   string    `json:"comment"`
	CreatedBy string    `json:"created_by"`
	CreatedAt time.Time `json:"created_at"`
	StartsAt  time.Time `json:"starts_at"`
	ExpiresAt time.Time `json:"expires_at"`
	EndedBy   string    `json:"ended_by,omitempty" doc:"Who ended it early"`
	Active    bool      `json:"active"`
	Alerts    int       `json:"alerts" doc:"Alerts that are not resolved and that it fits, of the newest 1000"`
}

// SilenceInput makes a silence.
type SilenceInput struct {
	Match     []string   `json:"match" minItems:"1" maxItems:"16" doc:"Conditions, all of which must hold, as rule = ssh-*, severity <= low, node = web-1 or label.team = web"`
	Comment   string     `json:"comment" maxLength:"2048"`
	StartsAt  *time.Time `json:"starts_at,omitempty" doc:"Now if it is left out"`
	ExpiresAt time.Time  `json:"expires_at" doc:"At most 90 days later"`
}

// Notifier is a notifier and how it does.
type Notifier struct {
	Name        string     `json:"name"`
	Description string     `json:"description"`
	Way         string     `json:"way" enum:"pagerduty,email,slack,webhook"`
	Target      string     `json:"target" doc:"Where it tells, without secrets"`
	Default     bool       `json:"default"`
	MinSeverity string     `json:"min_severity"`
	Match       []string   `json:"match"`
	Selector    string     `json:"selector"`
	Served      bool       `json:"served" doc:"False for one that is no more, and that something waits for"`
	Waiting     int        `json:"waiting"`
	Dead        int        `json:"dead" doc:"Given up"`
	OldestDue   *time.Time `json:"oldest_due,omitempty" doc:"Since when the oldest waits, or when it is due"`
}

// NotifierAnswer is what became of a test.
type NotifierAnswer struct {
	Answer string  `json:"answer" doc:"What the other side said"`
	Took   float64 `json:"took_ms"`
}

// RetryInput says which dead letters are told again.
type RetryInput struct {
	Notifier string  `json:"notifier,omitempty" maxLength:"64" doc:"All of this notifier"`
	Seqs     []int64 `json:"seqs,omitempty" maxItems:"1000" doc:"These"`
}

// Retried is how many dead letters are told again.
type Retried struct {
	Notifications int64 `json:"notifications"`
}

// AlertLatency is how soon a notifier was told what a rule found.
type AlertLatency struct {
	Rule      string  `json:"rule"`
	Notifier  string  `json:"notifier"`
	Told      int     `json:"told" doc:"Within 30 days, of many the newest"`
	Total     Latency `json:"total" doc:"From the event until the notifier was told"`
	Received  Latency `json:"received" doc:"From the event until the server received it"`
	Matched   Latency `json:"matched" doc:"From then until the rule matched"`
	Delivered Latency `json:"delivered" doc:"From then until the notifier was told"`
}

// Latency is in milliseconds; 0 where nothing was measured.
type Latency struct {
	P50   int64 `json:"p50_ms"`
	P99   int64 `json:"p99_ms"`
	Worst int64 `json:"worst_ms"`
}

// alert shows an alert, with what its node is called now.
func (a *API) alert(found *alert.Alert, silences alert.Silences) Alert {
	out := alertDocument(found, silences, a.Now())
	if n := a.Registry.Lookup(found.NodeID); n != nil {
		out.Hostname = n.Hostname
	}
	return out
}

func alertDocument(a *alert.Alert, silences alert.Silences, now time.Time) Alert {
	out := Alert{
		ID: a.ID, Rule: a.Rule, Key: a.Key, State: string(a.State), Severity: string(a.Severity), Title: a.Title, Text: a.Text, Labels: a.Labels,
		NodeID: a.NodeID, HostIdentifier: a.HostIdentifier, Query: a.Query, Count: a.Count, Episodes: a.Episodes, FirstAt: a.FirstAt.UTC(),
		OpenedAt: a.OpenedAt.UTC(), LastAt: a.LastAt.UTC(), ResolvedAt: at(a.ResolvedAt), ResolvedBy: a.ResolvedBy, ResolvesAt: at(a.ResolveAt),
		AcknowledgedBy: a.AcknowledgedBy, AcknowledgedAt: at(a.AcknowledgedAt), Assignee: a.Assignee,
	}
	if out.Labels == nil {
		out.Labels = map[string]string{}
	}
	if s := silences.Of(a, now); s != nil && a.State != alert.Resolved {
		out.SilencedBy = s.ID
	}
	return out
}

func alertEntry(e alert.Entry) AlertEntry {
	return AlertEntry{Seq: e.Seq, AlertID: e.AlertID, At: e.At.UTC(), Actor: e.Actor, Action: string(e.Action), Detail: e.Detail}
}

func notificationDocument(n *alert.Notification) AlertNotification {
	out := AlertNotification{
		Seq: n.Seq, Notifier: n.Notifier, AlertID: n.AlertID, AlertTitle: n.Alert.Title, Action: string(n.Action), State: string(n.State),
		CreatedAt: n.CreatedAt.UTC(), DeliveredAt: at(n.Delivered), Attempts: n.Attempts, Error: n.Error,
	}
	if n.State == alert.Waiting {
		out.DueAt, out.Silence = at(n.DueAt), n.Silence
	}
	return out
}

func latency(p alert.Percentiles) Latency {
	return Latency{P50: p.P50.Milliseconds(), P99: p.P99.Milliseconds(), Worst: p.Worst.Milliseconds()}
}
