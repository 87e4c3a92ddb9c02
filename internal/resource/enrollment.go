package resource

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"time"

	"github.com/musterhq/muster/internal/node"
	"github.com/musterhq/muster/internal/policy"
)

// EnrollmentQuery is asked of every matching node once after each enrolment. It
// is no part of any config.
type EnrollmentQuery struct {
	Selector string   `json:"selector,omitempty" yaml:"selector,omitempty" doc:"Nodes that are asked; all if it is left out"`
	SQL      string   `json:"sql" yaml:"sql" doc:"One SELECT"`
	Expires  Duration `json:"expires,omitempty" yaml:"expires,omitempty" doc:"How long after its enrolment a node is asked until it answers, 1m to 720h; 24h if it is left out"`
	Existing bool     `json:"existing,omitempty" yaml:"existing,omitempty" doc:"Ask nodes that enrolled before it was made, too"`
}

// Bounds of the time that queries wait for nodes.
const (
	defaultEnrollmentExpiry = 24 * time.Hour
	maxExpiry               = 30 * 24 * time.Hour // live queries are kept as long
	minExpiry               = time.Minute         // agents poll that often
)

func (q *EnrollmentQuery) check(c *checker) {
	c.selector("selector", q.Selector)
	c.expires("expires", q.Expires)
	c.query("sql", policy.Query{SQL: q.SQL, Use: policy.Enrollment})
}

func (c *checker) expires(path string, d Duration) {
	if d != 0 && (time.Duration(d) < minExpiry || time.Duration(d) > maxExpiry) {
		c.refuse(path, "range", "must be 1m to 720h, or left out")
	}
}

// ExpiresAfter returns how long after its enrolment a node is asked.
func (q *EnrollmentQuery) ExpiresAfter() time.Duration {
	return orDefault(q.Expires, defaultEnrollmentExpiry)
}

func orDefault(d Duration, otherwise time.Duration) time.Duration {
	if d == 0 {
		return otherwise
	}
	return time.Duration(d)
}

// Enrollment is an EnrollmentQuery as it is served.
type Enrollment struct {
	// ID is the same wherever one name asks one text: that of its live query.
	ID   string
	Name string
	*EnrollmentQuery

	who chosen[struct{}]
}

// Means reports whether a node is asked.
func (e *Enrollment) Means(n *node.Identity) bool { return e.who.means(n) }

// EnrollmentID returns the id of the live query by which an EnrollmentQuery asks.
// Another text is another question, which nodes have not answered.
func EnrollmentID(name, sql string) string {
	sum := sha256.Sum256([]byte(name + "\x00" + sql))
	const bytes = 8
	return "enrol-" + hex.EncodeToString(sum[:bytes])
}

func (s *Snapshot) addEnrollment(o Object, q *EnrollmentQuery) error {
	who, err := choose(o, q.Selector, struct{}{})
	s.enrollments = append(s.enrollments, &Enrollment{ID: EnrollmentID(o.Name, q.SQL), Name: o.Name, EnrollmentQuery: q, who: who})
	return err
}

// Enrollments returns what nodes are asked when they enrol, by name. Do not
// change it.
func (s *Snapshot) Enrollments() []*Enrollment { return s.enrollments }

// asks returns the objects that ask a node something by themselves, with their
// hashes: what may reach it besides its config.
func (s *Snapshot) asks(n *node.Identity) string {
	var b strings.Builder
	for _, e := range s.enrollments {
		if e.Means(n) {
			b.WriteString(s.set.HashOf(e.who.key))
		}
	}
	for _, t := range s.triggers {
		if t.Means(n) {
			b.WriteString(s.set.HashOf(t.who.key))
		}
	}
	for _, r := range s.eventRules {
		if r.Question != nil && r.Means(n) {
			b.WriteString(r.Hash)
		}
	}
	return b.String()
}

// AsksOther reports whether another snapshot has other enrollment queries,
// triggers or asking rules for a node, or changed ones; then is the node as that one makes it.
func (s *Snapshot) AsksOther(n *node.Identity, other *Snapshot, then *node.Identity) bool {
	return s.asks(n) != other.asks(then)
}
