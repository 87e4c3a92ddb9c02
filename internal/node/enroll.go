package node

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/ident"
	"github.com/musterhq/muster/internal/osquery"
)

// KeyGrace is how long a node's former key still works after it enrolled
// again. A real agent's threads enrol one after another when a key is refused,
// and the loser's request in flight still carries the key before.
const KeyGrace = time.Minute

// enrolTimeout bounds the work of the store: an agent gives up after 16 s, and
// is to hear an error before.
const enrolTimeout = 10 * time.Second

// MaxKnown bounds what an agent that enrols again and again as another clone of
// one node costs.
const MaxKnown = 10

// EnrolStore keeps enrolments.
type EnrolStore interface {
	// Enrol takes the secret with that hash, calls admit with it and with the
	// known nodes of that host identifier, counts a use of the secret, and keeps
	// the verdict; all in one transaction. Known are at most MaxKnown, without
	// details and none of them gone: the one that is no clone, and clones that
	// have the enrolling node's instance or machine, those that changed last. It
	// returns the node as kept, with Tags that its TagSources give. Without such a
	// secret, admit gets nil. An error of admit undoes everything and is
	// returned as it is. Admit may be called several times; the last counts.
	Enrol(ctx context.Context, e Enrolment, admit func(s *Secret, known []Node) (Verdict, error)) (Node, error)
	// RecordClash counts a clash on a node, as a verdict would that was not kept.
	// A node that is gone is no error.
	RecordClash(ctx context.Context, id, reason string, at time.Time) error
}

// Enrolment is what an agent showed.
type Enrolment struct {
	Node       Node // as described by the agent; ID is used if it is new
	SecretHash KeyHash
	KeyHash    KeyHash
	Now        time.Time
}

// Verdict is what becomes of an enrolment that is admitted.
type Verdict struct {
	// Node is kept as it is. With the ID of a known one it is that one, enrolling
	// again: its key before works for KeyGrace more. Else it is new.
	Node Node
	// ClashOf is the id of the node on which a clash is counted; "" for none.
	ClashOf, ClashReason string
}

// EnrollerOptions are what an Enroller needs.
type EnrollerOptions struct {
	Store    EnrolStore
	Registry *Registry
	Keyer    Keyer
	Clash    ClashPolicy
	Binding  CertBinding
	Rules    Tagger // nil for none; what rules gave a node before stays then
	// Admitted hears of each node that enrolled, before its agent does: whatever it
	// costs is added to every enrolment. nil for nobody.
	Admitted func(n *Identity, enrolledAt time.Time)
	Log      *slog.Logger // of clashes and tags refused; nil for none
	Now      func() time.Time
}

// Enroller admits agents. Safe for concurrent use.
type Enroller struct{ EnrollerOptions }

// NewEnroller returns an Enroller that adds who it admits to the registry.
func NewEnroller(o EnrollerOptions) *Enroller {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Enroller{o}
}

// Enrol admits an agent that shows a usable secret and returns its new key,
// which nobody can read again. A host identifier that is known gets a new key
// too, never an existing one. The secret may be followed by tags, as in
// "secret:tag:tag"; those that it does not allow are left out. The error is
// Unauthenticated for a secret that is not known, Forbidden for one that may
// not be used, for a certificate that is not as it has to be, and for a clash
// that is refused, else a failure after which the agent tries again. Nobody
// waits longer than enrolTimeout.
func (e *Enroller) Enrol(ctx context.Context, req osquery.EnrollRequest, from netip.Addr, cert Certificate) (key string, n Node, err error) {
	if err := e.Binding.admits(cert, req.HostIdentifier); err != nil {
		return "", Node{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, enrolTimeout)
	defer cancel()
	a := e.arrival(req, from, cert)
	n, err = a.enrol(ctx, req.EnrollSecret, nil)
	if secret, asked, ok := splitSecret(req.EnrollSecret); a.unknown && ok {
		n, err = a.enrol(ctx, secret, asked)
	}
	if err != nil {
		return "", Node{}, a.refused(ctx, err)
	}
	e.Registry.add(n, a.details, a.as.KeyHash, a.as.Now)
	a.tell(ctx, n)
	if e.Admitted != nil {
		if i := e.Registry.Lookup(n.ID); i != nil {
			e.Admitted(i, n.EnrolledAt)
		}
	}
	return a.key, n, nil
}

// arrival is one agent that wants to enrol.
type arrival struct {
	*Enroller
	as      Enrolment
	from    netip.Addr
	key     string
	details Details
	unknown bool // the secret was
	denied  int  // tags that it asked for
	verdict Verdict
}

func (e *Enroller) arrival(req osquery.EnrollRequest, from netip.Addr, cert Certificate) *arrival {
	now := e.Now()
	n := Node{
		ID: ident.New(), HostIdentifier: req.HostIdentifier, Details: req.HostDetails, Certificate: cert.Fingerprint,
		EnrolledAt: now, LastSeen: now, Seen: Seen{EndpointEnroll: now}, Enrolments: 1,
	}
	if from = from.Unmap(); from.IsValid() {
		n.Address = from.String()
	}
	n.describe(req.PlatformType)
	key := ident.Secret()
	return &arrival{Enroller: e, details: PackDetails(n.Details), as: Enrolment{Node: n, KeyHash: e.Keyer.Hash(PurposeNodeKey, key), Now: now}, from: from, key: key}
}

// enrol tries one secret.
func (a *arrival) enrol(ctx context.Context, secret string, asked []string) (Node, error) {
	a.as.SecretHash = a.Keyer.Hash(PurposeEnrollSecret, secret)
	return a.Store.Enrol(ctx, a.as, func(s *Secret, known []Node) (v Verdict, err error) {
		a.unknown, a.verdict = s == nil, Verdict{}
		if s == nil {
			return v, errs.New(errs.Unauthenticated, "enroll secret is not known")
		}
		if err := s.Usable(a.as.Now, a.from); err != nil {
			return v, err
		}
		n := a.as.Node
		tags, denied := s.Grant(asked)
		n.Secret, n.Tags, a.denied = s.Name, MergeTags(s.Tags, tags), len(denied)
		n.TagSources = TaggedBy(SecretSource(s.Name), n.Tags)
		if a.verdict, err = a.Clash.verdict(n, known, a.alive); err == nil && a.Rules != nil {
			a.verdict.Node.retag(a.Rules, a.details)
		}
		return a.verdict, err
	})
}

// alive reports whether a node is heard of: here, or by another server.
func (a *arrival) alive(n Node) bool {
	i := a.Registry.Lookup(n.ID)
	return i != nil && i.Online(a.as.Now) || n.Online(a.as.Now)
}

// refused counts the clash for which an agent was refused: what the verdict
// changed went with it.
func (a *arrival) refused(ctx context.Context, err error) error {
	if v := a.verdict; v.ClashOf != "" && errs.Is(err, errs.Forbidden) {
		a.Log.WarnContext(ctx, "refused a host identifier that another live machine uses", "node_id", v.ClashOf, "host_identifier", a.as.Node.HostIdentifier, "reason", v.ClashReason)
		if err := a.Store.RecordClash(ctx, v.ClashOf, v.ClashReason, a.as.Now); err != nil {
			a.Log.WarnContext(ctx, "the clash was not counted", "node_id", v.ClashOf, "error", err)
		}
	}
	return err
}

func (a *arrival) tell(ctx context.Context, n Node) {
	if v := a.verdict; v.ClashOf != "" {
		a.Log.WarnContext(ctx, "two live machines use one host identifier", "node_id", n.ID, "clash_of", v.ClashOf, "quarantined", n.Quarantined(), "host_identifier", n.HostIdentifier, "reason", v.ClashReason)
	}
	if a.denied > 0 {
		a.Log.InfoContext(ctx, "an agent asked for tags that its enroll secret does not allow; see its agent tags", "node_id", n.ID, "secret", n.Secret, "count", a.denied)
	}
}

// MergeTags returns the tags that a node has and those that it is given: at most
// MaxTags, or as many as it had.
func MergeTags(had, given []string) []string {
	tags := slices.Compact(slices.Sorted(slices.Values(had)))
	for _, tag := range given {
		if len(tags) < MaxTags && !slices.Contains(tags, tag) {
			tags = append(tags, tag)
		}
	}
	slices.Sort(tags)
	return tags
}
