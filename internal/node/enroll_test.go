package node

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/osquery"
)

// enrolStore keeps enrolments in memory, the way that EnrolStore says.
type enrolStore struct {
	secrets map[string]*Secret // by value
	nodes   []Node
	tries   int
	clashes []string
	err     error // after admit
	block   bool  // until ctx ends
}

func (s *enrolStore) Enrol(ctx context.Context, e Enrolment, admit func(*Secret, []Node) (Verdict, error)) (Node, error) {
	s.tries++
	if s.block {
		<-ctx.Done()
		return Node{}, ctx.Err()
	}
	var secret *Secret
	for value, known := range s.secrets {
		if keyer.Hash(PurposeEnrollSecret, value) == e.SecretHash {
			secret = known
		}
	}
	if secret == nil {
		_, err := admit(nil, nil)
		return Node{}, err
	}
	var known []Node
	for _, n := range s.nodes {
		if n.HostIdentifier == e.Node.HostIdentifier {
			known = append(known, n)
		}
	}
	v, err := admit(secret, known)
	if err == nil {
		err = s.err
	}
	if err != nil {
		return Node{}, err
	}
	secret.Uses++
	v.Node.Version = int64(len(s.nodes) + 1)
	s.nodes = append(slices.DeleteFunc(s.nodes, func(n Node) bool { return n.ID == v.Node.ID }), v.Node)
	return v.Node, nil
}

func (s *enrolStore) RecordClash(_ context.Context, id, reason string, _ time.Time) error {
	s.clashes = append(s.clashes, id+": "+reason)
	return s.err
}

// request is of one machine; instance tells it from another.
func request(secret, instance string) osquery.EnrollRequest {
	return osquery.EnrollRequest{EnrollSecret: secret, HostIdentifier: "web-1", PlatformType: "9", HostDetails: map[string]map[string]string{
		"os_version":   {"name": "Debian GNU/Linux", "version": "12", "platform": "debian"},
		"osquery_info": {"version": "5.23.1", "build_platform": "linux", "instance_id": instance},
		"system_info":  {"hostname": "web", "uuid": "U-" + instance, "hardware_serial": "None"},
	}}
}

func newEnroller(t *testing.T, s *enrolStore, change func(*EnrollerOptions)) (*Enroller, *Registry) {
	t.Helper()
	r := newRegistry(t, &store{})
	o := EnrollerOptions{Store: s, Registry: r, Keyer: keyer, Log: slog.New(slog.NewTextHandler(t.Output(), nil)), Now: time.Now}
	if change != nil {
		change(&o)
	}
	return NewEnroller(o), r
}

var home, elsewhere = netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("198.51.100.9")

func TestEnroller(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		s := &enrolStore{secrets: map[string]*Secret{
			"good":    {Name: "g", Tags: []string{"prod"}, MaxUses: 2, ExpiresAt: now.Add(time.Second)},
			"used":    {MaxUses: 2, Uses: 2},
			"expired": {ExpiresAt: now},
			"revoked": {RevokedAt: now.Add(-time.Hour)},
			"local":   {CIDRs: prefixes("10.0.0.0/8")},
		}}
		e, r := newEnroller(t, s, nil)
		req := request("good", "i")
		cert := Certificate{Fingerprint: "f", Names: []string{"web-1"}}
		key, n, err := e.Enrol(t.Context(), req, netip.MustParseAddr("::ffff:192.0.2.7"), cert)
		if err != nil || len(key) != 43 {
			t.Fatal(key, err)
		}
		want := Node{
			ID: n.ID, Version: 1, HostIdentifier: "web-1", Hostname: "web", Platform: "linux", OS: "Debian GNU/Linux 12", OsqueryVersion: "5.23.1",
			Address: "192.0.2.7", Tags: []string{"prod"}, Secret: "g", Instance: "i", Machine: "u-i/", Certificate: "f",
			EnrolledAt: now, LastSeen: now, Seen: Seen{EndpointEnroll: now}, Enrolments: 1, Details: req.HostDetails,
			TagSources: []TagSource{{"prod", "secret:g"}},
		}
		if d := cmp.Diff(want, n); d != "" || n.ID == "" {
			t.Error(d)
		}
		if i := r.Authenticate(key); i == nil || i.ID != n.ID || !i.LastSeen().Equal(now) || i.Certificate != "f" {
			t.Errorf("the new key is of %+v", i)
		}
		again, m, err := e.Enrol(t.Context(), req, home, cert)
		if err != nil || again == key || m.ID != n.ID || m.Enrolments != 2 || r.Authenticate(key) == nil {
			t.Errorf("once more: %+v, %v", m, err)
		}
		for secret, kind := range map[string]errs.Kind{
			"used": errs.Forbidden, "expired": errs.Forbidden, "revoked": errs.Forbidden, "local": errs.Forbidden, "good": errs.Forbidden,
			"unknown": errs.Unauthenticated, "": errs.Unauthenticated, "unknown:good": errs.Unauthenticated, ":good": errs.Unauthenticated,
		} {
			if key, _, err := e.Enrol(t.Context(), request(secret, "i"), home, cert); !errs.Is(err, kind) || key != "" {
				t.Errorf("secret %q: %q, %v", secret, key, err)
			}
		}
		if all, _ := r.Len(); all != 1 || len(s.clashes) != 0 {
			t.Errorf("%d nodes, clashes %v", all, s.clashes)
		}
	})
}

// TestEnroller_tags: what an agent may ask for, and that a secret with colons
// is tried as it is first.
func TestEnroller_tags(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		shown, want string
		tries       int
	}{
		{"open", "base", 1},
		{"open:web:site:db", "base db site web", 2},
		{"open:WEB:site", "base site", 2},
		{"closed:web", "", 2},
		{"with:colon", "whole", 1},
		{"with:colon:web", "", 2}, // of a secret that is not known
	} {
		s := &enrolStore{secrets: map[string]*Secret{
			"open": {Name: "open", Tags: []string{"base"}, AgentTags: []string{"*"}}, "closed": {Name: "closed"},
			"with:colon": {Name: "with", Tags: []string{"whole"}},
		}}
		e, _ := newEnroller(t, s, nil)
		_, n, err := e.Enrol(t.Context(), request(tt.shown, "i"), home, Certificate{})
		if known := tt.shown != "with:colon:web"; (err == nil) != known || strings.Join(n.Tags, " ") != tt.want || s.tries != tt.tries {
			t.Errorf("%q: tags %q after %d tries, %v", tt.shown, n.Tags, s.tries, err)
		}
	}
}

func TestEnroller_clash(t *testing.T) {
	t.Parallel()
	for policy, want := range map[ClashPolicy]struct {
		same, known, quarantined bool
		nodes                    int
		counted                  int
	}{
		ClashAllow:      {same: true, known: true, nodes: 1},
		ClashQuarantine: {known: true, quarantined: true, nodes: 2},
		ClashRefuse:     {nodes: 1, counted: 1},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := &enrolStore{secrets: map[string]*Secret{"s": {Name: "s"}}}
			e, r := newEnroller(t, s, func(o *EnrollerOptions) { o.Clash = policy })
			first, n, err := e.Enrol(t.Context(), request("s", "i"), home, Certificate{})
			if err != nil {
				t.Fatal(err)
			}
			s.nodes[0].LastSeen = time.Time{} // only this server heard of it
			second, m, err := e.Enrol(t.Context(), request("s", "j"), elsewhere, Certificate{})
			if (err == nil) != want.known || err != nil && !errs.Is(err, errs.Forbidden) || (m.ID == n.ID) != want.same {
				t.Fatalf("%s: %+v, %v", policy, m, err)
			}
			if len(s.nodes) != want.nodes || len(s.clashes) != want.counted {
				t.Errorf("%s: %d nodes, clashes counted apart: %v", policy, len(s.nodes), s.clashes)
			}
			if i := r.Authenticate(second); (i != nil) != want.known || i != nil && i.Quarantined != want.quarantined {
				t.Errorf("%s: the newcomer is %+v", policy, i)
			}
			if i := r.Authenticate(first); i == nil || i.ID != n.ID || i.Quarantined {
				t.Errorf("%s: the victim is %+v", policy, i)
			}

			// Whoever comes when nobody lives is the node, reinstalled.
			time.Sleep(OfflineAfter + time.Second) //nolint:forbidigo // synctest's clock
			s.clashes = nil
			for i := range s.nodes {
				s.nodes[i].LastSeen = time.Time{}
			}
			_, m, err = e.Enrol(t.Context(), request("s", "k"), elsewhere, Certificate{})
			if err != nil || m.ID != n.ID || m.Quarantined() || len(s.clashes) != 0 {
				t.Errorf("%s: later it is %+v, %v", policy, m, err)
			}
		})
	}
}

// TestEnroller_clashElsewhere: another server heard of the node.
func TestEnroller_clashElsewhere(t *testing.T) {
	t.Parallel()
	s := &enrolStore{secrets: map[string]*Secret{"s": {Name: "s"}}, nodes: []Node{{ID: "n", HostIdentifier: "web-1", Machine: "other/", LastSeen: time.Now()}}}
	e, _ := newEnroller(t, s, nil)
	if _, n, err := e.Enrol(t.Context(), request("s", "i"), home, Certificate{}); err != nil || n.CloneOf != "n" {
		t.Errorf("%+v, %v", n, err)
	}
}

func TestEnroller_failures(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		live := Node{ID: "n", HostIdentifier: "web-1", Machine: "other/", LastSeen: time.Now()}
		var log bytes.Buffer
		s := &enrolStore{secrets: map[string]*Secret{"s": {Name: "s"}}, nodes: []Node{live}}
		e, r := newEnroller(t, s, func(o *EnrollerOptions) {
			o.Clash, o.Log = ClashRefuse, slog.New(slog.NewTextHandler(&log, nil))
		})

		// A clash that cannot be counted is refused all the same.
		s.err = errStore
		if key, _, err := e.Enrol(t.Context(), request("s", "i"), home, Certificate{}); !errs.Is(err, errs.Forbidden) || key != "" {
			t.Errorf("refused: %q, %v", key, err)
		}
		if len(s.clashes) != 1 || !strings.Contains(log.String(), "not counted") {
			t.Errorf("clashes %v, log %s", s.clashes, &log)
		}

		// A store that fails leaves nothing, and is no clash.
		e.Clash, s.clashes = ClashAllow, nil
		if key, _, err := e.Enrol(t.Context(), request("s", "i"), home, Certificate{}); !errors.Is(err, errStore) || key != "" {
			t.Errorf("a failing store: %q, %v", key, err)
		}
		// Nor does one that does not answer, and the agent hears it in time.
		s.block = true
		start := time.Now()
		if key, _, err := e.Enrol(t.Context(), request("s:tag", "i"), home, Certificate{}); !errors.Is(err, context.DeadlineExceeded) || key != "" {
			t.Errorf("a store that does not answer: %q, %v", key, err)
		}
		if d := time.Since(start); d != enrolTimeout {
			t.Errorf("it took %v", d)
		}
		if all, _ := r.Len(); all != 0 || len(s.clashes) != 0 {
			t.Errorf("%d nodes, clashes %v", all, s.clashes)
		}

		// Without its certificate nobody gets as far as the store.
		e.Binding, s.tries = BindSAN, 0
		if key, _, err := e.Enrol(t.Context(), request("s", "i"), home, Certificate{}); !errs.Is(err, errs.Forbidden) || key != "" || s.tries != 0 {
			t.Errorf("without a certificate: %q, %v, %d tries", key, err, s.tries)
		}
	})
}

// TestRegistry_expire: the wall clock may jump as it likes; a current key stays
// known, and a grace does not become long.
func TestRegistry_expire(t *testing.T) {
	t.Parallel()
	for _, by := range []time.Duration{-365 * 24 * time.Hour, -time.Hour, -time.Second, 0, time.Hour, 365 * 24 * time.Hour} {
		start := time.Now()
		s := &store{}
		for i, key := range []string{"a2", "b2", "c"} {
			c := change(key, int64(i+1), key)
			if old, ok := strings.CutSuffix(key, "2"); ok {
				c.OldKey, c.OldUntil = hash(old), start.Add(KeyGrace)
			}
			s.changes = append(s.changes, c)
		}
		r := newRegistry(t, s)
		r.now = func() time.Time { return start }
		sync1(t, r)
		r.now = func() time.Time { return start.Add(by) }
		r.expire()
		old := "a=a2 b=b2 "
		if by.Abs() > time.Second {
			old = "" // its grace has passed, or would last too long
		}
		if got := known(r, "a", "b", "a2", "b2", "c"); got != old+"a2=a2 b2=b2 c=c" {
			t.Errorf("after a jump by %v: %q", by, got)
		}
		r.now = func() time.Time { return start.Add(KeyGrace) } // the clock is right again
		r.expire()
		if got := known(r, "a", "b", "a2", "b2", "c"); got != "a2=a2 b2=b2 c=c" {
			t.Errorf("after a jump by %v and back: %q", by, got)
		}
	}
}
