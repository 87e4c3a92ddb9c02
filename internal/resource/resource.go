// Package resource is what agents run, as declarative objects: packs, profiles,
// tag rules, and the rules by which these may change. A Set of objects is
// checked as a whole, compared with another, and compiled into a Snapshot, which
// renders the config of any node.
//
// An object has a kind, a name that is its own within the kind, and a spec. It
// is written in YAML (apiVersion: muster/v1) and kept as canonical JSON, by
// whose hash it is known. Kinds lists the kinds; a new one is added there.
package resource

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"

	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/policy"
)

// APIVersion is what a document says before its kind.
const APIVersion = "muster/v1"

// Key names an object.
type Key struct {
	Kind string `json:"kind"`
	Name string `json:"name"`
}

// String returns kind and name, as "Pack/base".
func (k Key) String() string { return k.Kind + "/" + k.Name }

// Compare orders keys by kind, in the order of Kinds, then by name.
func (k Key) Compare(other Key) int {
	return cmp.Or(cmp.Compare(kindOrder(k.Kind), kindOrder(other.Kind)), cmp.Compare(k.Kind, other.Kind), cmp.Compare(k.Name, other.Name))
}

// Object is one resource. Do not change it after it went into a Set.
type Object struct {
	Key
	Description string
	Spec        Spec
}

// Spec is what an object says, a pointer to a struct of its kind.
type Spec interface {
	// check judges the object by itself and by the Set that it is in.
	check(c *checker)
}

// Kind is one kind of object.
type Kind struct {
	Name string
	// New returns an empty spec to decode into.
	New func() Spec
	// Doc says in a sentence what it is for.
	Doc string
	// Governs says that objects of the kind decide what may change and how: a
	// change of them has the highest tier.
	Governs bool
}

// Kinds returns all kinds, in the order in which people read them.
func Kinds() []Kind {
	return []Kind{
		{Name: "Pack", New: func() Spec { return new(Pack) }, Doc: "Scheduled queries for the nodes that a selector means."},
		{Name: "Profile", New: func() Spec { return new(Profile) }, Doc: "Everything else in an agent's config: options, decorators, monitored files, YARA, views, automatic tables, events."},
		{Name: "TagRule", New: func() Spec { return new(TagRule) }, Doc: "Tags for nodes whose attributes fit."},
		{Name: "EnrollmentQuery", New: func() Spec { return new(EnrollmentQuery) }, Doc: "A query that every matching node answers once, right after it enrols."},
		{Name: "Trigger", New: func() Spec { return new(Trigger) }, Doc: "Lets something outside, with a token of its own, start one live query on one node."},
		{Name: "Rule", New: func() Spec { return new(Rule) }, Doc: "Looks at events as they come, and alerts, asks the node, or tags it. It runs on the server alone."},
		{Name: "Notifier", New: func() Spec { return new(Notifier) }, Doc: "Where alerts are told: PagerDuty, mail, a chat, or any URL."},
		{Name: "Sink", New: func() Spec { return new(Sink) }, Doc: "A system outside that receives events: a file, syslog, Splunk, Kafka and others."},
		{Name: "TablePolicy", New: func() Spec { return new(TablePolicy) }, Doc: "Tiers of tables, columns, functions and options that differ from the shipped ones, allowed arguments, and tables of extensions.", Governs: true},
		{Name: "PolicyException", New: func() Spec { return new(PolicyException) }, Doc: "Allows one exact SQL text or option that the policy refuses.", Governs: true},
		{Name: "ApprovalPolicy", New: func() Spec { return new(ApprovalPolicy) }, Doc: "How many other people must approve a change.", Governs: true},
		{Name: "LivePolicy", New: func() Spec { return new(LivePolicy) }, Doc: "Which live queries run at once, and which need a reason or a second person.", Governs: true},
		{Name: "RolloutPolicy", New: func() Spec { return new(RolloutPolicy) }, Doc: "In which stages a revision reaches the nodes, and what must hold before the next.", Governs: true},
		{Name: "FreezeWindow", New: func() Spec { return new(FreezeWindow) }, Doc: "When nothing that agents run may change.", Governs: true},
		{Name: "Budget", New: func() Spec { return new(Budget) }, Doc: "What the queries of a group of nodes may cost.", Governs: true},
		{Name: "Redaction", New: func() Spec { return new(Redaction) }, Doc: "What becomes of secrets in what agents send, before it is kept: rules for columns, detectors, and what is no secret.", Governs: true},
		{Name: "Role", New: func() Spec { return new(Role) }, Doc: "What its holders may do, to which nodes, and how far.", Governs: true},
		{Name: "OnDisk", New: func() Spec { return new(OnDisk) }, Doc: "Nodes that take their config from files alone: the server answers them an empty one and reports drift."},
	}
}

// LookupKind returns a kind by its name; false without one.
func LookupKind(name string) (Kind, bool) {
	kinds := Kinds()
	i := slices.IndexFunc(kinds, func(k Kind) bool { return k.Name == name })
	if i < 0 {
		return Kind{}, false
	}
	return kinds[i], true
}

func kindOrder(name string) int {
	return slices.IndexFunc(Kinds(), func(k Kind) bool { return k.Name == name })
}

var namePattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)

// checkName refuses a name that cannot be part of a path, a file name or a
// query's name on agents.
func checkName(kind, name string) error {
	if !namePattern.MatchString(name) {
		return errs.Field("name", "%q is no name; use up to 63 letters, digits and . _ -, a letter or digit first", name)
	}
	if kind == "Pack" {
		return policy.PackName(name)
	}
	return nil
}

// stored is the form in which an object is kept and hashed.
type stored struct {
	Kind        string          `json:"kind"`
	Name        string          `json:"name"`
	Description string          `json:"description,omitempty"`
	Spec        json.RawMessage `json:"spec"`
}

// Canonical returns the object as JSON in its one form: fields in order, keys
// of maps sorted, defaults left out.
func (o Object) Canonical() ([]byte, error) {
	spec, err := encode(o.Spec)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", o.Key, err)
	}
	return encode(stored{o.Kind, o.Name, o.Description, spec})
}

// Hash returns the SHA-256 of a canonical form in hex.
func Hash(canonical []byte) string {
	sum := sha256.Sum256(canonical)
	return hex.EncodeToString(sum[:])
}

// Decode reads a canonical form.
func Decode(canonical []byte) (Object, error) {
	var s stored
	if err := json.Unmarshal(canonical, &s); err != nil {
		return Object{}, fmt.Errorf("stored object: %w", err)
	}
	kind, ok := LookupKind(s.Kind)
	if !ok {
		return Object{}, fmt.Errorf("stored object %s/%s: this version of Muster does not know the kind", s.Kind, s.Name)
	}
	o := Object{Key: Key{s.Kind, s.Name}, Description: s.Description, Spec: kind.New()}
	d := json.NewDecoder(bytes.NewReader(s.Spec))
	d.UseNumber() // options keep their digits
	if err := d.Decode(o.Spec); err != nil {
		return Object{}, fmt.Errorf("stored object %s: %w", o.Key, err)
	}
	switch spec := o.Spec.(type) {
	case *Profile:
		for name, v := range spec.Options {
			spec.Options[name] = number(v)
		}
	case *PolicyException:
		spec.Value = number(spec.Value)
	}
	return o, nil
}

// number returns a number as int64 or float64, and anything else as it is.
func number(v any) any {
	n, ok := v.(json.Number)
	if !ok {
		return v
	}
	if i, err := n.Int64(); err == nil {
		return i
	}
	if f, err := n.Float64(); err == nil {
		return f
	}
	return n.String()
}

// encode writes compact JSON as osquery does, with <, > and & as they are.
func encode(v any) ([]byte, error) {
	var buf bytes.Buffer
	e := json.NewEncoder(&buf)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return bytes.TrimSpace(buf.Bytes()), err
}
