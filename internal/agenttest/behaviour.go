package agenttest

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/musterhq/muster/internal/osquery"
)

// Behaviour is how a simulated node treats live queries. The zero value answers
// each at once.
type Behaviour struct {
	Kind BehaviourKind
	// Delay is how long Slow and Late nodes take.
	Delay time.Duration
}

// BehaviourKind names a Behaviour.
type BehaviourKind string

// The behaviours besides answering.
const (
	// Die: the node reads a query and is gone, as if it lost its power. When the
	// same query is delivered again, because its lease is over, it answers.
	Die BehaviourKind = "die"
	// Late: the answer comes long after, by default when the lease is over and
	// the query was delivered again. Polls go on meanwhile.
	Late BehaviourKind = "late"
	// Slow: the node takes its time for each query, and does not poll meanwhile.
	Slow BehaviourKind = "slow"
	// Fail: every query fails with an SQL error.
	Fail BehaviourKind = "fail"
	// Deny: every query was denylisted.
	Deny BehaviourKind = "deny"
)

// Delays unless told otherwise. The server's lease is two minutes.
const (
	lateDelay = 150 * time.Second
	slowDelay = 5 * time.Second
)

// FailMessage is the error of a node that fails.
const FailMessage = "no such table: simulated_failure"

// Misbehaviour says which part of the nodes behaves how. A node's number alone
// decides what it is.
type Misbehaviour struct{ shares []share }

type share struct {
	Behaviour

	part float64 // of all nodes, 0 to 1
}

// ParseMisbehaviour reads a list such as "die=1%,fail=2%,late=1%:150s"; "" is
// none. The duration after the colon is the delay of late and slow.
func ParseMisbehaviour(text string) (Misbehaviour, error) {
	var m Misbehaviour
	total := 0.0
	for item := range strings.SplitSeq(text, ",") {
		if item = strings.TrimSpace(item); item == "" {
			continue
		}
		s, err := parseShare(item)
		if err != nil {
			return Misbehaviour{}, err
		}
		if total += s.part; total > 1 {
			return Misbehaviour{}, fmt.Errorf("misbehaviour %q: the parts are over 100%% together", text)
		}
		m.shares = append(m.shares, s)
	}
	return m, nil
}

func parseShare(item string) (share, error) {
	kind, rest, _ := strings.Cut(item, "=")
	part, delay, delayed := strings.Cut(rest, ":")
	s := share{Behaviour: Behaviour{Kind: BehaviourKind(kind)}}
	switch s.Kind {
	case Die, Fail, Deny:
		if delayed {
			return s, fmt.Errorf("misbehaviour %q: only late and slow have a duration", item)
		}
	case Late:
		s.Delay = lateDelay
	case Slow:
		s.Delay = slowDelay
	default:
		return s, fmt.Errorf("misbehaviour %q: must be die, late, slow, fail or deny, and =PERCENT%%", item)
	}
	percent, err := strconv.ParseFloat(strings.TrimSuffix(part, "%"), 64)
	if err != nil || !(percent >= 0 && percent <= 100) {
		return s, fmt.Errorf("misbehaviour %q: must have a percentage from 0%% to 100%%", item)
	}
	s.part = percent / 100
	if delayed {
		if s.Delay, err = time.ParseDuration(delay); err != nil || s.Delay < 0 {
			return s, fmt.Errorf("misbehaviour %q: %q is no duration, as 30s", item, delay)
		}
	}
	return s, nil
}

// Of returns the behaviour of a node. Multiples of the golden ratio spread
// evenly, so that even of few nodes about the wanted part is chosen.
func (m Misbehaviour) Of(number int) Behaviour {
	_, at := math.Modf(float64(number) * math.Phi)
	for _, s := range m.shares {
		if at < s.part {
			return s.Behaviour
		}
		at -= s.part
	}
	return Behaviour{}
}

// String returns the list as it is read.
func (m Misbehaviour) String() string {
	var items []string
	for _, s := range m.shares {
		item := fmt.Sprintf("%s=%g%%", s.Kind, s.part*100)
		if s.Delay > 0 {
			item += ":" + s.Delay.String()
		}
		items = append(items, item)
	}
	return strings.Join(items, ",")
}

// maxRemembered bounds what a node that misbehaves keeps, of queries it died of
// and of answers it holds back.
const maxRemembered = 1000

// conduct is what a node that misbehaves remembers.
type conduct struct {
	died []string // ids
	late []lateAnswers
}

type lateAnswers struct {
	due     time.Time
	answers []osquery.QueryAnswer
}

// behave makes of good answers those that the node's behaviour allows now.
func (n *Node) behave(ctx context.Context, answers []osquery.QueryAnswer) []osquery.QueryAnswer {
	b := n.o.Behaviour
	switch b.Kind {
	case Fail:
		return spoil(answers, FailMessage)
	case Deny:
		return spoil(answers, osquery.DenylistedMessage)
	case Slow:
		if len(answers) > 0 && wait(ctx, b.Delay) != nil {
			return nil
		}
		for i := range answers {
			answers[i].Stats.WallTimeMs = b.Delay.Milliseconds()
		}
	case Die:
		return n.survive(answers)
	case Late:
		return n.holdBack(answers, time.Now())
	}
	return answers
}

func spoil(answers []osquery.QueryAnswer, message string) []osquery.QueryAnswer {
	for i, a := range answers {
		answers[i] = osquery.QueryAnswer{ID: a.ID, Rows: []osquery.Row{}, Status: 1, Message: message}
	}
	return answers
}

// survive keeps the answers to queries that the node died of before.
func (n *Node) survive(answers []osquery.QueryAnswer) []osquery.QueryAnswer {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.DeleteFunc(answers, func(a osquery.QueryAnswer) bool {
		if slices.Contains(n.conduct.died, a.ID) {
			return false
		}
		if len(n.conduct.died) >= maxRemembered {
			n.conduct.died = slices.Delete(n.conduct.died, 0, 1)
		}
		n.conduct.died = append(n.conduct.died, a.ID)
		return true
	})
}

// holdBack keeps fresh answers for later and returns those that are due.
func (n *Node) holdBack(fresh []osquery.QueryAnswer, now time.Time) []osquery.QueryAnswer {
	n.mu.Lock()
	defer n.mu.Unlock()
	c := &n.conduct
	if len(fresh) > 0 && len(c.late) < maxRemembered {
		c.late = append(c.late, lateAnswers{now.Add(n.o.Behaviour.Delay), fresh})
	}
	var due []osquery.QueryAnswer
	for len(c.late) > 0 && !now.Before(c.late[0].due) {
		due, c.late = append(due, c.late[0].answers...), c.late[1:]
	}
	return due
}
