package notify

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"time"

	"github.com/musterhq/muster/internal/alert"
	"github.com/musterhq/muster/internal/resource"
)

// pagerEvent is an event of PagerDuty's Events API v2. Source of names and limits:
// developer.pagerduty.com, "Send an Alert Event".
type pagerEvent struct {
	RoutingKey string        `json:"routing_key"`
	Action     string        `json:"event_action"`
	DedupKey   string        `json:"dedup_key"`
	Payload    *pagerPayload `json:"payload,omitempty"`
	Client     string        `json:"client,omitempty"`
	ClientURL  string        `json:"client_url,omitempty"`
}

type pagerPayload struct {
	Summary   string            `json:"summary"`
	Source    string            `json:"source"`
	Severity  string            `json:"severity"`
	Timestamp string            `json:"timestamp,omitempty"`
	Component string            `json:"component,omitempty"`
	Group     string            `json:"group,omitempty"`
	Class     string            `json:"class,omitempty"`
	Details   map[string]string `json:"custom_details,omitempty"`
}

// maxSummary is PagerDuty's limit of a summary, in characters; ours are bytes.
const maxSummary = 1024

// pagerDuty sends an event for each change of each alert. The dedup key is the
// alert's, so the same event twice is one incident, and the end of an alert is the
// end of its incident.
func (d *delivery) pagerDuty(ctx context.Context, p *resource.PagerDuty) (answer string, err error) {
	key, err := d.secret(&p.RoutingKey)
	if err != nil {
		return "", err
	}
	for i := range d.m.Items {
		e := d.pagerEvent(&d.m.Items[i])
		e.RoutingKey = key
		body, err := json.Marshal(e)
		if err != nil {
			return "", err
		}
		if answer, err = d.post(ctx, cmp.Or(p.URL, resource.DefaultPagerDuty), "", body, nil); err != nil {
			return answer, err
		}
	}
	if d.m.Test { // nobody is to close the incident of a test
		e, _ := json.Marshal(pagerEvent{RoutingKey: key, Action: "resolve", DedupKey: dedupKey(&d.m.Items[0], d.m)}) //nolint:errchkjson // texts
		_, err = d.post(ctx, cmp.Or(p.URL, resource.DefaultPagerDuty), "", e, nil)
	}
	return answer, err
}

func dedupKey(i *alert.Item, m alert.Message) string {
	if m.Test {
		return "muster-test-" + m.ID
	}
	return "muster-" + i.Alert.ID
}

func (d *delivery) pagerEvent(i *alert.Item) pagerEvent {
	e := pagerEvent{Action: "trigger", DedupKey: dedupKey(i, d.m)}
	switch i.Action {
	case alert.Ended:
		e.Action = "resolve"
		return e
	case alert.Acked:
		e.Action = "acknowledge"
		return e
	case alert.Opened, alert.Reopened, alert.Escalated, alert.Reminded, alert.Assigned, alert.Commented:
	}
	t := d.telling(i)
	details := map[string]string{"text": t.Text, "rule": t.Rule, "key": t.Key, "severity": string(t.Severity), "fired": fmt.Sprint(t.Count)}
	for k, v := range t.Columns {
		details["column "+k] = v
	}
	for k, v := range t.Labels {
		details["label "+k] = v
	}
	maps.DeleteFunc(details, func(_, v string) bool { return v == "" })
	summary := t.Title
	if t.HostIdentifier != "" {
		summary += " on " + t.HostIdentifier
	}
	if d.m.Test {
		summary = "TEST: " + summary
	}
	e.Payload = &pagerPayload{
		Summary: alert.Line(summary, maxSummary), Source: cmp.Or(t.HostIdentifier, t.NodeID, "muster"), Severity: pagerSeverity(t.Severity),
		Timestamp: t.OpenedAt.Format(time.RFC3339), Component: t.Query, Group: t.Rule, Class: t.Rule, Details: details,
	}
	if e.ClientURL = t.URL; e.ClientURL != "" {
		e.Client = "Muster"
	}
	return e
}

// pagerSeverity is one of the four that PagerDuty knows.
func pagerSeverity(s alert.Severity) string {
	switch s {
	case alert.Critical:
		return "critical"
	case alert.High:
		return "error"
	case alert.Medium:
		return "warning"
	case alert.Low, alert.Info:
	}
	return "info"
}
