package adminapi_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/musterhq/muster/internal/adminapi"
	"github.com/musterhq/muster/internal/errs"
)

// TestSecret_limits makes a secret with everything, and enrols with it.
func TestSecret_limits(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	var s adminapi.NewSecret
	in := adminapi.SecretInput{
		Name: "legacy", Value: "used-elsewhere", Tags: []string{"old"},
		AgentTags: []string{"site-*", "db"}, CIDRs: []string{"192.0.2.0/24", "2001:db8::1"},
	}
	if err := w.call("POST", "/secrets", nil, in, &s); err != nil {
		t.Fatal(err)
	}
	if s.Value != "used-elsewhere" || !cmp.Equal(s.CIDRs, []string{"192.0.2.0/24", "2001:db8::1/128"}) || !cmp.Equal(s.AgentTags, []string{"db", "site-*"}) {
		t.Errorf("%+v", s)
	}
	_, n := w.enrolFrom("192.0.2.7", "used-elsewhere:site-berlin:db", "h1")
	if diff := cmp.Diff([]string{"db", "old", "site-berlin"}, n.Tags); diff != "" {
		t.Error(diff)
	}
	if _, _, err := w.tryEnrol("198.51.100.7", "used-elsewhere", "h2"); !errs.Is(err, errs.Forbidden) {
		t.Errorf("from another network: %v", err)
	}
	var list adminapi.SecretList
	if err := w.call("GET", "/secrets", nil, nil, &list); err != nil || len(list.Secrets) != 1 {
		t.Fatal(list, err)
	}
	if got := list.Secrets[0]; !cmp.Equal(got.CIDRs, s.CIDRs) || !cmp.Equal(got.AgentTags, s.AgentTags) || got.Uses != 1 || got.OldUntil != nil {
		t.Errorf("%+v", got)
	}
	e := w.audited()[0]
	if e.Action != "secret.create" || strings.Contains(e.Detail, "elsewhere") || !strings.Contains(e.Detail, `"own_value":true`) || !strings.Contains(e.Detail, "192.0.2.0/24") {
		t.Errorf("%+v", e)
	}
}

// TestSecret_refused checks that each error is about its field, says what to do,
// and does not repeat the value.
func TestSecret_refused(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	w.secret("servers")
	past := time.Now().Add(-time.Hour)
	for what, c := range map[string]struct {
		in    adminapi.SecretInput
		field string
	}{
		"short value":   {adminapi.SecretInput{Value: "hunter2"}, "value"},
		"long value":    {adminapi.SecretInput{Value: strings.Repeat("hunter2", 40)}, "value"},
		"spaces":        {adminapi.SecretInput{Value: " hunter2hunter2"}, "value"},
		"control":       {adminapi.SecretInput{Value: "hunter2\x00hunter2"}, "value"},
		"odd tag":       {adminapi.SecretInput{Tags: []string{"No Tag"}}, "tags"},
		"odd agent tag": {adminapi.SecretInput{AgentTags: []string{"No *"}}, "agent_tags"},
		"inner star":    {adminapi.SecretInput{AgentTags: []string{"a*b"}}, "agent_tags"},
		"empty tag":     {adminapi.SecretInput{AgentTags: []string{""}}, "agent_tags"},
		"no network":    {adminapi.SecretInput{CIDRs: []string{"office"}}, "cidrs"},
		"zone":          {adminapi.SecretInput{CIDRs: []string{"fe80::1%eth0"}}, "cidrs"},
		"IPv4 in IPv6":  {adminapi.SecretInput{CIDRs: []string{"::ffff:10.0.0.0/104"}}, "cidrs"},
		"host bits":     {adminapi.SecretInput{CIDRs: []string{"10.1.2.3/8"}}, "cidrs"},
		"expired":       {adminapi.SecretInput{ExpiresAt: &past}, "expires_at"},
	} {
		c.in.Name = "new"
		err := w.call("POST", "/secrets", nil, c.in, nil)
		if adminapi.Status(err) != 400 || !strings.HasPrefix(err.Error(), c.field+" ") || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v; want one about %s", what, err, c.field)
		}
		if c.field != "value" {
			continue
		}
		if err := w.call("POST", "/secrets/servers/rotate", nil, adminapi.RotateInput{Value: c.in.Value}, nil); adminapi.Status(err) != 400 {
			t.Errorf("%s to rotate to: %v", what, err)
		}
	}
	for what, seconds := range map[string]int{"before now": -1, "over a year": 400 * 24 * 3600} {
		if err := w.call("POST", "/secrets/servers/rotate", nil, adminapi.RotateInput{OverlapSeconds: seconds}, nil); adminapi.Status(err) != 422 {
			t.Errorf("overlap %s: %v", what, err)
		}
	}
	if err := w.call("POST", "/secrets/unknown/rotate", nil, adminapi.RotateInput{}, nil); adminapi.Status(err) != 404 {
		t.Errorf("rotating what is not there: %v", err)
	}
}

func TestRotate(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	first := w.secret("servers")
	rotate := func(in adminapi.RotateInput) adminapi.NewSecret {
		t.Helper()
		var s adminapi.NewSecret
		if err := w.call("POST", "/secrets/servers/rotate", nil, in, &s); err != nil {
			t.Fatal(err)
		}
		return s
	}
	second := rotate(adminapi.RotateInput{OverlapSeconds: 3600})
	if second.Value == first || len(second.Value) < 40 || second.OldUntil == nil || !second.OldUntil.After(time.Now()) {
		t.Errorf("%+v", second)
	}
	for what, value := range map[string]string{"old": first, "new": second.Value} {
		if _, _, err := w.tryEnrol("192.0.2.7", value, what); err != nil {
			t.Errorf("the %s value: %v", what, err)
		}
	}
	third := rotate(adminapi.RotateInput{Value: "my-own-value"})
	if third.Value != "my-own-value" || (third.OldUntil != nil && third.OldUntil.After(time.Now())) {
		t.Errorf("%+v", third)
	}
	for what, value := range map[string]string{"first": first, "second": second.Value} {
		if _, _, err := w.tryEnrol("192.0.2.7", value, what); !errs.Is(err, errs.Unauthenticated) && !errs.Is(err, errs.Forbidden) {
			t.Errorf("the %s value still works: %v", what, err)
		}
	}
	if _, _, err := w.tryEnrol("192.0.2.7", third.Value, "third"); err != nil {
		t.Error(err)
	}
	for _, e := range w.audited() {
		if strings.Contains(e.Detail, "my-own") || strings.Contains(e.Detail, second.Value) {
			t.Errorf("the audit log holds a value: %+v", e)
		}
	}
	if e := w.audited()[0]; e.Action != "secret.rotate" || e.Target != "servers" || e.Detail != `{"overlap_seconds":0,"own_value":true}` {
		t.Errorf("%+v", e)
	}
	if err := w.call("DELETE", "/secrets/servers", nil, nil, nil); err != nil {
		t.Fatal(err)
	}
	if err := w.call("POST", "/secrets/servers/rotate", nil, adminapi.RotateInput{}, nil); adminapi.Status(err) != 409 {
		t.Errorf("rotating a revoked one: %v", err)
	}
}
