package agenttest_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/musterhq/muster/internal/agenttest"
)

func TestMisbehaviour(t *testing.T) {
	m, err := agenttest.ParseMisbehaviour("die=1%, fail=2%,deny=10,late=0.5%:3s,slow=5%")
	must(t, err)
	if got, want := m.String(), "die=1%,fail=2%,deny=10%,late=0.5%:3s,slow=5%:5s"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	counts := map[agenttest.Behaviour]int{}
	for number := 1; number <= 10_000; number++ {
		b := m.Of(number)
		if b != m.Of(number) {
			t.Fatal("not always the same")
		}
		counts[b]++
	}
	for want, b := range map[int]agenttest.Behaviour{
		100: {Kind: agenttest.Die}, 200: {Kind: agenttest.Fail}, 1000: {Kind: agenttest.Deny},
		50: {Kind: agenttest.Late, Delay: 3 * time.Second}, 500: {Kind: agenttest.Slow, Delay: 5 * time.Second}, 8150: {},
	} {
		if got := counts[b]; got < want-3 || got > want+3 {
			t.Errorf("%+v: %d nodes, want %d", b, got, want)
		}
	}
	for _, bad := range []string{"die", "die=", "die=x%", "die=-1%", "die=NaN%", "die=101%", "die=60%,fail=60%", "sing=1%", "die=1%:3s", "late=1%:soon", "late=1%:-1s", "=1%"} {
		if _, err := agenttest.ParseMisbehaviour(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
	if m, err := agenttest.ParseMisbehaviour(""); err != nil || m.Of(1) != (agenttest.Behaviour{}) {
		t.Errorf("none: %v, %v", m, err)
	}
}

// TestBehave delivers one query three times to nodes of each kind.
func TestBehave(t *testing.T) {
	for _, test := range []struct {
		behaviour agenttest.Behaviour
		want      []string // of each poll
	}{
		{agenttest.Behaviour{}, []string{"q:0::1", "q:0::1", "q:0::1"}},
		{agenttest.Behaviour{Kind: agenttest.Die}, []string{"", "q:0::1", "q:0::1"}},
		{agenttest.Behaviour{Kind: agenttest.Fail}, []string{"q:1:no such table: simulated_failure:0", "q:1:no such table: simulated_failure:0", "q:1:no such table: simulated_failure:0"}},
		{agenttest.Behaviour{Kind: agenttest.Deny}, []string{"q:1:distributed query is denylisted:0", "q:1:distributed query is denylisted:0", "q:1:distributed query is denylisted:0"}},
		{agenttest.Behaviour{Kind: agenttest.Late, Delay: time.Hour}, []string{"", "", ""}},
		{agenttest.Behaviour{Kind: agenttest.Late}, []string{"q:0::1", "q:0::1", "q:0::1"}},
		{agenttest.Behaviour{Kind: agenttest.Slow, Delay: time.Millisecond}, []string{"q:0::1", "q:0::1", "q:0::1"}},
	} {
		t.Run(fmt.Sprint(test.behaviour), func(t *testing.T) {
			s := newServer(t)
			s.setRead(`{"queries":{"q":"SELECT 1"}}`)
			var acknowledged int
			n, err := agenttest.New(agenttest.Options{
				URL: s.url(), RootCAs: s.pool, Secret: secret, Behaviour: test.behaviour,
				Answered: func(*agenttest.Node, string) { acknowledged++ },
			})
			must(t, err)
			t.Cleanup(n.Close)
			var got []string
			for range 3 {
				before := len(s.answers())
				_, err := n.Poll(t.Context())
				must(t, err)
				poll := ""
				for _, a := range s.answers()[before:] {
					poll += fmt.Sprintf("%s:%d:%s:%d", a.ID, a.Status, a.Message, len(a.Rows))
				}
				got = append(got, poll)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if acknowledged != len(s.answers()) {
				t.Errorf("%d acknowledged of %d", acknowledged, len(s.answers()))
			}
		})
	}
}
