package node

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/musterhq/muster/internal/errs"
)

// Secret is what a new node shows to enrol. Only a keyed hash of its value is
// kept.
type Secret struct {
	Name      string
	Tags      []string       // that it confers
	CIDRs     []netip.Prefix // from where it may be used; empty is from everywhere
	AgentTags []string       // that an agent may choose itself, see Grant; empty is none
	MaxUses   int            // 0 is no limit
	Uses      int
	CreatedAt time.Time
	CreatedBy string
	ExpiresAt time.Time // zero is never
	RevokedAt time.Time // zero is not
	LastUsed  time.Time
	// OldUntil is when the value before the last rotation stops working; zero
	// without one. The store then no longer finds the secret by it.
	OldUntil time.Time
}

// Usable says why a secret may not be used now by an agent at an address, or
// nothing. An address that is not known is in no network.
func (s Secret) Usable(now time.Time, from netip.Addr) error {
	from = from.Unmap().WithZone("")
	switch {
	case !s.RevokedAt.IsZero():
		return errs.New(errs.Forbidden, "this enroll secret was revoked")
	case !s.ExpiresAt.IsZero() && !now.Before(s.ExpiresAt):
		return errs.New(errs.Forbidden, "this enroll secret has expired")
	case s.MaxUses > 0 && s.Uses >= s.MaxUses:
		return errs.New(errs.Forbidden, "this enroll secret was used as often as it may be")
	case len(s.CIDRs) > 0 && !slices.ContainsFunc(s.CIDRs, func(p netip.Prefix) bool { return p.Contains(from) }):
		return errs.New(errs.Forbidden, "this enroll secret may not be used from this address")
	}
	return nil
}

// maxAsked is how many tags an agent may choose itself, as many as Doorman
// takes.
const maxAsked = 10

// Grant returns the tags that an agent asked for and gets, in order and each
// once, and those that it does not get: what is no tag, what AgentTags do not
// allow, and whatever comes after the tenth. A * at the end of one of AgentTags
// stands for any rest.
func (s Secret) Grant(asked []string) (tags, refused []string) {
	for i, tag := range asked {
		switch {
		case i >= maxAsked || !tagPattern.MatchString(tag) || !s.allows(tag):
			refused = append(refused, tag)
		case !slices.Contains(tags, tag):
			tags = append(tags, tag)
		}
	}
	slices.Sort(tags)
	return tags, refused
}

func (s Secret) allows(tag string) bool {
	return slices.ContainsFunc(s.AgentTags, func(allowed string) bool {
		prefix, open := strings.CutSuffix(allowed, "*")
		return allowed == tag || open && strings.HasPrefix(tag, prefix)
	})
}

// splitSecret parts what an agent shows as "secret:tag:tag", the form of
// Doorman's agents, into the secret and the tags that it asks for. Without a
// colon it is not of that form. What comes after the last tag that Grant would
// give stays in one piece.
func splitSecret(shown string) (secret string, asked []string, ok bool) {
	secret, rest, ok := strings.Cut(shown, ":")
	if !ok || secret == "" {
		return "", nil, false
	}
	for _, tag := range strings.SplitN(rest, ":", maxAsked+1) {
		if tag = strings.TrimSpace(tag); tag != "" {
			asked = append(asked, tag)
		}
	}
	return secret, asked, true
}
