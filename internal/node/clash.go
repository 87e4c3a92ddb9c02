package node

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/musterhq/muster/internal/errs"
)

// ClashPolicy says what becomes of an agent that enrols with the host
// identifier of another live machine.
type ClashPolicy string

// The policies. In each the clash is counted on the node that was there.
const (
	// ClashAllow takes it for that node: the one that was there loses its key
	// after KeyGrace, enrols again in its turn, and so on.
	ClashAllow ClashPolicy = "allow"
	// ClashQuarantine makes it a node of its own, under quarantine; the one that
	// was there works on. It is what an empty policy means.
	ClashQuarantine ClashPolicy = "quarantine"
	// ClashRefuse does not admit it.
	ClashRefuse ClashPolicy = "refuse"
)

// CertBinding says what ties a node to the certificate of its agent.
type CertBinding string

// The bindings.
const (
	BindOff         CertBinding = "off"         // nothing; also what an empty binding means
	BindFingerprint CertBinding = "fingerprint" // the key of the certificate that it enrolled with
	BindSAN         CertBinding = "san"         // a certificate made for its host identifier
)

// admits says why an agent with a certificate, or with none, may not enrol
// under a host identifier, or nothing.
func (b CertBinding) admits(cert Certificate, hostIdentifier string) error {
	switch {
	case b == BindFingerprint && cert.IsZero():
		return errs.New(errs.Forbidden, "enrolling needs a client certificate here; set --tls_client_cert and --tls_client_key")
	case b == BindSAN && !cert.For(hostIdentifier):
		return errs.New(errs.Forbidden, "enrolling needs a client certificate made for this host identifier")
	}
	return nil
}

// clash says how an agent that enrols as a live node is known to be another
// machine, or "" if it may well be the same: an agent that lost its database or
// moved to another address is no clash by that alone.
func clash(live, enrolling Node) string {
	from := enrolling.Address
	if from == "" {
		from = "an unknown address"
	}
	switch {
	case other(live.Certificate, enrolling.Certificate):
		return fmt.Sprintf("another certificate, from %s", from)
	case otherMachine(live.Machine, enrolling.Machine):
		return fmt.Sprintf("another machine, from %s", from)
	case other(live.Instance, enrolling.Instance) && other(live.Address, enrolling.Address):
		return fmt.Sprintf("another osquery database, from %s instead of %s", from, live.Address)
	}
	return ""
}

// verdict says which node an admitted agent is. known are those that have its
// host identifier; alive tells which of them are heard of now. With an error
// the verdict still tells the clash.
func (p ClashPolicy) verdict(n Node, known []Node, alive func(Node) bool) (Verdict, error) {
	i := match(n, known)
	if i < 0 {
		return Verdict{Node: n}, nil
	}
	k, reason := known[i], ""
	if alive(k) {
		reason = clash(k, n)
	}
	if reason == "" {
		return Verdict{Node: n.as(k)}, nil
	}
	v := Verdict{ClashOf: k.ID, ClashReason: reason}
	switch p {
	case ClashAllow:
		v.Node = n.as(k)
		return v, nil
	case ClashRefuse:
		return v, errs.New(errs.Forbidden,
			"another live machine uses this host identifier; give each machine its own, as --host_identifier=instance does, or remove the other node")
	case ClashQuarantine:
	}
	n.CloneOf = cmp.Or(k.CloneOf, k.ID)
	n.QuarantinedAt, n.QuarantineReason = n.EnrolledAt, "it claims the host identifier of a live node: "+reason
	v.Node = n
	return v, nil
}

// match returns the index of the known node that the enrolling one is, unless
// they clash, or -1 for none. The node that is no clone is for whoever is none
// of the clones: they never become it by enrolling while it is silent.
func match(n Node, known []Node) int {
	original := slices.IndexFunc(known, func(k Node) bool { return k.CloneOf == "" })
	best, most := -1, 0
	for i, k := range known {
		if likeness := like(n, k); likeness > most {
			best, most = i, likeness
		}
	}
	if best >= 0 {
		return best
	}
	for i, k := range known {
		if k.CloneOf != "" && same(k.Machine, n.Machine) &&
			(same(k.Address, n.Address) || original >= 0 && otherMachine(known[original].Machine, n.Machine)) {
			return i
		}
	}
	return original
}

// like says how much an enrolling node is like a known one with the same
// instance; 0 is not at all. The copy of a disk has its original's instance, so
// what else is the same decides between the two, and if nothing does, it is the
// original.
func like(n, k Node) int {
	if !same(k.Instance, n.Instance) || otherMachine(k.Machine, n.Machine) {
		return 0
	}
	likeness := 1
	for _, alike := range []bool{
		same(k.Certificate, n.Certificate),
		k.Machine != "" && n.Machine != "",
		same(k.Address, n.Address),
		k.CloneOf == "",
	} {
		likeness *= 2
		if alike {
			likeness++
		}
	}
	return likeness
}

// as returns the enrolling node as the known one that it is: what enrolling
// does not say stays, quarantine too.
func (n Node) as(k Node) Node {
	n.ID, n.EnrolledAt, n.Enrolments = k.ID, k.EnrolledAt, k.Enrolments+1
	n.Address = cmp.Or(n.Address, k.Address)
	n.grant(k.TagSources)
	enrolled := n.Seen[EndpointEnroll]
	n.Seen, n.Patience, n.Attributes = k.Seen, k.Patience, k.Attributes
	n.Seen[EndpointEnroll] = enrolled
	n.Clashes, n.LastClash, n.ClashReason = k.Clashes, k.LastClash, k.ClashReason
	n.CloneOf, n.QuarantinedAt, n.QuarantineReason = k.CloneOf, k.QuarantinedAt, k.QuarantineReason
	return n
}
