package notify

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/musterhq/muster/internal/alert"
)

// document is what a webhook gets.
type document struct {
	Version  int       `json:"version"`
	ID       string    `json:"id"`
	Notifier string    `json:"notifier"`
	Test     bool      `json:"test"`
	SentAt   time.Time `json:"sent_at"`
	More     int       `json:"more"`
	Alerts   []telling `json:"alerts"`
}

// telling is one alert of a document.
type telling struct {
	ID             string            `json:"id"`
	NotificationID int64             `json:"notification_id"`
	Action         alert.Action      `json:"action"`
	State          alert.State       `json:"state"`
	Severity       alert.Severity    `json:"severity"`
	Title          string            `json:"title"`
	Text           string            `json:"text"`
	Rule           string            `json:"rule"`
	Key            string            `json:"key"`
	Labels         map[string]string `json:"labels"`
	NodeID         string            `json:"node_id"`
	HostIdentifier string            `json:"host_identifier"`
	Query          string            `json:"query"`
	Columns        map[string]string `json:"columns"`
	Count          int64             `json:"count"`
	Assignee       string            `json:"assignee"`
	AcknowledgedBy string            `json:"acknowledged_by"`
	ResolvedBy     string            `json:"resolved_by"`
	OpenedAt       time.Time         `json:"opened_at"`
	LastAt         time.Time         `json:"last_at"`
	ResolvedAt     *time.Time        `json:"resolved_at,omitempty"`
	URL            string            `json:"url,omitempty"`
}

func (d *delivery) document() document {
	out := document{Version: 1, ID: d.m.ID, Notifier: d.m.Notifier, Test: d.m.Test, SentAt: d.m.SentAt.UTC(), More: d.m.More}
	for i := range d.m.Items {
		out.Alerts = append(out.Alerts, d.telling(&d.m.Items[i]))
	}
	return out
}

func (d *delivery) telling(i *alert.Item) telling {
	a := &i.Alert
	t := telling{
		ID: a.ID, NotificationID: i.ID, Action: i.Action, State: a.State, Severity: a.Severity, Title: a.Title, Text: a.Text, Rule: a.Rule, Key: a.Key,
		Labels: a.Labels, NodeID: a.NodeID, HostIdentifier: a.HostIdentifier, Query: a.Query, Columns: columns(i.Columns), Count: a.Count,
		Assignee: a.Assignee, AcknowledgedBy: a.AcknowledgedBy, ResolvedBy: a.ResolvedBy, OpenedAt: a.OpenedAt.UTC(), LastAt: a.LastAt.UTC(), URL: d.link(a),
	}
	if t.Labels == nil {
		t.Labels = map[string]string{}
	}
	if !a.ResolvedAt.IsZero() {
		at := a.ResolvedAt.UTC()
		t.ResolvedAt = &at
	}
	return t
}

// Bounds of an event's columns in a message.
const (
	maxColumns = 64
	maxColumn  = 1 << 10
)

// columns reads what a node said, tamed. What is no object of texts and numbers is
// left out.
func columns(raw json.RawMessage) map[string]string {
	out := map[string]string{}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var m map[string]any
	if len(raw) == 0 || d.Decode(&m) != nil {
		return out
	}
	for _, k := range slices.Sorted(maps.Keys(m)) {
		if len(out) == maxColumns {
			break
		}
		switch v := m[k].(type) {
		case string:
			out[alert.Line(k, maxColumn)] = alert.Line(v, maxColumn)
		case json.Number:
			out[alert.Line(k, maxColumn)] = v.String()
		}
	}
	return out
}

// field returns what stands in ${} of a template.
func (d *delivery) field(t *telling, name string) any {
	if label, ok := strings.CutPrefix(name, "label."); ok {
		return t.Labels[label]
	}
	if column, ok := strings.CutPrefix(name, "column."); ok {
		return t.Columns[column]
	}
	switch name {
	case "notifier":
		return d.m.Notifier
	case "message_id":
		return d.m.ID
	case "more":
		return d.m.More
	case "alerts":
		return d.document().Alerts
	}
	b, err := json.Marshal(t)
	var all map[string]any
	if err != nil || json.Unmarshal(b, &all) != nil {
		return nil
	}
	return all[name]
}

// verb says what happened, for people.
func verb(i *alert.Item) string {
	switch i.Action {
	case alert.Ended:
		return "resolved"
	case alert.Acked:
		return "acknowledged"
	case alert.Reminded:
		return "still open"
	case alert.Reopened:
		return "again"
	case alert.Escalated:
		return "worse"
	case alert.Opened, alert.Assigned, alert.Commented:
	}
	return ""
}

// headline is one line about a message.
func (d *delivery) headline() string {
	worst := &d.m.Items[0]
	for i := range d.m.Items {
		if d.m.Items[i].Alert.Severity.Rank() > worst.Alert.Severity.Rank() {
			worst = &d.m.Items[i]
		}
	}
	mark := strings.ToUpper(string(worst.Alert.Severity))
	if v := verb(worst); v != "" {
		mark += ", " + v
	}
	if d.m.Test {
		mark = "TEST"
	}
	line := fmt.Sprintf("[%s] %s", mark, worst.Alert.Title)
	if worst.Alert.HostIdentifier != "" {
		line += " on " + worst.Alert.HostIdentifier
	}
	if n := len(d.m.Items) + d.m.More - 1; n > 0 {
		line += fmt.Sprintf(" (and %d more)", n)
	}
	return line
}

// facts are what is said of an alert beside its title and text.
func facts(t *telling) [][2]string {
	list := [][2]string{{"Severity", string(t.Severity)}, {"State", string(t.State)}, {"Rule", t.Rule}}
	add := func(name, value string) {
		if value != "" {
			list = append(list, [2]string{name, value})
		}
	}
	add("Host", t.HostIdentifier)
	add("Node", t.NodeID)
	add("Query", t.Query)
	if t.Count > 1 {
		add("Fired", fmt.Sprintf("%d times", t.Count))
	}
	add("Opened", t.OpenedAt.Format(time.RFC3339))
	if t.ResolvedAt != nil {
		add("Resolved", fmt.Sprintf("%s by %s", t.ResolvedAt.Format(time.RFC3339), t.ResolvedBy))
	}
	add("Acknowledged by", t.AcknowledgedBy)
	add("Assigned to", t.Assignee)
	for _, k := range slices.Sorted(maps.Keys(t.Labels)) {
		add("Label "+k, t.Labels[k])
	}
	return list
}

func sortedKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }
