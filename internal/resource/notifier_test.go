package resource_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/musterhq/muster/internal/alert"
	"github.com/musterhq/muster/internal/policy"
	"github.com/musterhq/muster/internal/resource"
)

// notifier reads one with a spec in YAML's flow form.
func notifier(t *testing.T, spec string) *resource.Set {
	t.Helper()
	objects, err := resource.Parse("test", []byte("{apiVersion: muster/v1, kind: Notifier, name: n, spec: "+spec+"}"))
	if err != nil {
		t.Fatalf("%s: %v", spec, err)
	}
	set, err := resource.NewSet(objects)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func TestNotifier_check(t *testing.T) {
	t.Parallel()
	engine, err := policy.New(policy.Rules{})
	if err != nil {
		t.Fatal(err)
	}
	defer engine.Close()
	for _, c := range []struct{ spec, want string }{ // codes of findings, sorted
		{`{pagerduty: {routing_key: {file: key}}}`, ""},
		{`{pagerduty: {routing_key: {env: MUSTER_SECRET_PD}, url: "http://127.0.0.1/x"}}`, "plain-http"},
		{`{slack: {url: {file: url}}, default: true, send_resolved: false, match: ["label.a != b"], group_by: [node, label.a], group_wait: 1m, repeat: 4h, give_up: 1h}`, ""},
		{`{webhook: {url: "https://a/b", headers: {X-Token: {file: t}}, body: {n: 1.5, t: "${title} $$"}}}`, ""},
		{`{email: {server: "a:587", from: "M <m@a>", to: [b@c], username: u, password: {file: p}}}`, ""},
		{`{email: {server: "a:25", from: m@a, to: [b@c], tls: none}}`, "plain-mail"},
		{`{}`, "one-way"},
		{`{slack: {url: {file: a}}, webhook: {url: "https://a"}}`, "one-way"},
		{
			`{slack: {url: {}}, selector: "tag =", min_severity: dire, match: ["rulez = x"], group_by: [foo], group_wait: 1ms, repeat: 1s, give_up: 10000h}`,
			"bad-condition bad-key bad-reference bad-selector bad-severity range range range",
		},
		{`{webhook: {url: "http://u:p@a", url_from: {file: a}}}`, "one-url"},
		{`{webhook: {url: "https://u:p@a", secret: {file: ../a}, headers: {Host: {env: HOME}}, body: "${titel}"}}`, "bad-header bad-reference bad-reference bad-template open-password"},
		{`{webhook: {url: "file:///etc/passwd"}}`, "bad-url"},
		{`{email: {server: a, from: "a\r\nBcc: b@c", to: [], tls: maybe, username: u}}`, "bad-address bad-server bad-tls half-login range"},
		{`{email: {server: "a:25", from: m@a, to: [b@c], tls: none, username: u, password: {file: p}}}`, "open-password"},
	} {
		report, err := resource.Check(notifier(t, c.spec), engine, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		var codes []string
		sent := false
		for _, i := range report.Items {
			sent = sent || i.Verdict.Tier == policy.Sensitive
			for _, f := range i.Verdict.Findings {
				codes = append(codes, f.Code)
			}
		}
		slices.Sort(codes)
		if got := strings.Join(codes, " "); got != c.want || sent == strings.Contains(c.want, "one-way") {
			t.Errorf("%s: %s, want %s; tier %v", c.spec, got, c.want, report.Items)
		}
	}
}

func TestNotifier_plan(t *testing.T) {
	t.Parallel()
	s, err := resource.Compile(1, notifier(t, `{pagerduty: {routing_key: {file: key}}, send_resolved: false, min_severity: high, selector: "tag = web"}`))
	if err != nil {
		t.Fatal(err)
	}
	p := s.Notifier("n")
	if r := p.Route; p.Way != "pagerduty" || r.Name != "n" || r.Resolved || !r.Single || !r.Acked || r.MinSeverity != alert.High || r.Selector == nil || r.GroupWait != alert.DefaultGroupWait {
		t.Errorf("%+v", r)
	}
	if s, err = resource.Compile(1, notifier(t, `{webhook: {url: "https://a", body: ["${alerts}"]}}`)); err != nil {
		t.Fatal(err)
	}
	if p := s.Notifiers()[0]; p.Body == nil || !p.Route.Resolved || p.Route.Single || p.Route.MinSeverity != alert.Info || !slices.Equal(p.Route.GroupBy, []string{"rule"}) {
		t.Errorf("%+v", p)
	}
	if s.Notifier("m") != nil {
		t.Error("found what is not there")
	}
}
