package node

import (
	"context"
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

// EnrolStore keeps enrolments. All of an enrolment is one transaction.
type EnrolStore interface {
	// Enrol takes the secret with that hash, calls admit with it, counts a use
	// of it, and keeps the node: as the node with n.HostIdentifier if there is
	// one, whose id, first enrolment and tags set by hand stay, else as a new
	// one. It returns the node as kept. Without such a secret, admit gets nil.
	// An error of admit undoes everything and is returned as it is.
	Enrol(ctx context.Context, e Enrolment, admit func(*Secret) error) (Node, error)
}

// Enrolment is what the store keeps of one.
type Enrolment struct {
	Node       Node // as described by the agent; ID is used if it is new
	SecretHash KeyHash
	KeyHash    KeyHash
	Now        time.Time
}

// Enroller admits agents. Safe for concurrent use.
type Enroller struct {
	store    EnrolStore
	registry *Registry
	keyer    Keyer
	now      func() time.Time
}

// NewEnroller returns an Enroller that adds who it admits to the registry.
func NewEnroller(store EnrolStore, registry *Registry, keyer Keyer, now func() time.Time) *Enroller {
	return &Enroller{store, registry, keyer, now}
}

// Enrol admits an agent that shows a usable secret and returns its new key,
// which nobody can read again. A host identifier that is known gets a new key
// too, never an existing one. The error is Unauthenticated for a secret that
// is not known, Forbidden for one that may not be used, else a failure after
// which the agent tries again.
func (e *Enroller) Enrol(ctx context.Context, req osquery.EnrollRequest, from netip.Addr) (key string, n Node, err error) {
	now := e.now()
	key = ident.Secret()
	n = Node{
		ID: ident.New(), HostIdentifier: req.HostIdentifier, Details: req.HostDetails,
		EnrolledAt: now, LastSeen: now, Enrolments: 1,
	}
	if from.IsValid() {
		n.Address = from.String()
	}
	n.describe(req.PlatformType)
	enrolment := Enrolment{
		Node:       n,
		SecretHash: e.keyer.Hash(PurposeEnrollSecret, req.EnrollSecret),
		KeyHash:    e.keyer.Hash(PurposeNodeKey, key),
		Now:        now,
	}
	n, err = e.store.Enrol(ctx, enrolment, func(s *Secret) error {
		if s == nil {
			return errs.New(errs.Unauthenticated, "enroll secret is not known")
		}
		return s.Usable(now)
	})
	if err != nil {
		return "", Node{}, err
	}
	e.registry.add(n, enrolment.KeyHash, now)
	return key, n, nil
}

// MergeTags returns the tags that a node has after it enrolled with a secret.
func MergeTags(had, given []string) []string {
	tags := slices.Concat(had, given)
	slices.Sort(tags)
	return slices.Compact(tags)
}
