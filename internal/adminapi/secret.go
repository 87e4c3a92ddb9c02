package adminapi

import (
	"context"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/musterhq/muster/internal/account"
	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/ident"
	"github.com/musterhq/muster/internal/node"
)

func (a *API) registerSecrets() {
	register(a, account.SecretRead, http.MethodGet, "/secrets", "List enroll secrets", a.listSecrets)
	register(a, account.SecretWrite, http.MethodPost, "/secrets", "Make an enroll secret; the answer is the only one that shows it", a.createSecret)
	register(a, account.SecretWrite, http.MethodPost, "/secrets/{name}/rotate", "Give an enroll secret a new value; the answer is the only one that shows it", a.rotateSecret)
	register(a, account.SecretWrite, http.MethodDelete, "/secrets/{name}", "Revoke an enroll secret; nodes that used it stay", a.revokeSecret)
}

func (a *API) listSecrets(ctx context.Context, _ *none) (*body[SecretList], error) {
	secrets, err := a.Secrets.Secrets(ctx)
	if err != nil {
		return nil, err
	}
	out := SecretList{Secrets: make([]Secret, 0, len(secrets))}
	for _, s := range secrets {
		out.Secrets = append(out.Secrets, secret(s))
	}
	return &body[SecretList]{out}, nil
}

func secret(s node.Secret) Secret {
	cidrs := make([]string, 0, len(s.CIDRs))
	for _, c := range s.CIDRs {
		cidrs = append(cidrs, c.String())
	}
	return Secret{
		Name: s.Name, Tags: list(s.Tags), AgentTags: list(s.AgentTags), CIDRs: cidrs, MaxUses: s.MaxUses, Uses: s.Uses,
		CreatedAt: s.CreatedAt.UTC(), CreatedBy: s.CreatedBy,
		ExpiresAt: at(s.ExpiresAt), RevokedAt: at(s.RevokedAt), LastUsed: at(s.LastUsed), OldUntil: at(s.OldUntil),
	}
}

func (a *API) createSecret(ctx context.Context, in *body[SecretInput]) (*body[NewSecret], error) {
	s, err := a.newSecret(in.Body)
	if err != nil {
		return nil, err
	}
	value, err := secretValue(in.Body.Value)
	if err != nil {
		return nil, err
	}
	s.CreatedBy = session(ctx).UserName
	if err := a.Audit.Record(ctx, s.CreatedBy, "secret.create", s.Name, secretDetail(in.Body)); err != nil {
		return nil, err
	}
	if err := a.Secrets.CreateSecret(ctx, s, a.Keyer.Hash(node.PurposeEnrollSecret, value)); err != nil {
		return nil, err
	}
	return &body[NewSecret]{NewSecret{Secret: secret(s), Value: value}}, nil
}

// secretDetail is what the audit log keeps of a new secret: all but its value,
// of which it says only who chose it.
func secretDetail(in SecretInput) any {
	own := in.Value != ""
	in.Value = ""
	return struct {
		SecretInput
		OwnValue bool `json:"own_value"`
	}{in, own}
}

// newSecret reads everything but the value.
func (a *API) newSecret(in SecretInput) (s node.Secret, err error) {
	s = node.Secret{Name: in.Name, MaxUses: in.MaxUses, CreatedAt: a.Now()}
	if s.Tags, err = node.CleanTags("tags", in.Tags); err != nil {
		return s, err
	}
	if s.AgentTags, err = agentTags(in.AgentTags); err != nil {
		return s, err
	}
	if s.CIDRs, err = prefixes(in.CIDRs); err != nil {
		return s, err
	}
	if e := in.ExpiresAt; e != nil {
		if !e.After(a.Now()) {
			return s, errs.Field("expires_at", "is in the past; give a later time, or leave it out")
		}
		s.ExpiresAt = *e
	}
	return s, nil
}

// Bounds of a value that somebody else chose. The lower one keeps out values
// that a program can try one by one; it does not make a good one.
const (
	minSecret = 8
	maxSecret = 255
)

// secretValue returns the value to use: the one that was given, else a random
// one. Limits are checked here, not by the schema, whose errors repeat the value.
func secretValue(own string) (string, error) {
	switch {
	case own == "":
		return ident.Secret(), nil
	case len(own) < minSecret:
		return "", errs.Field("value", "has fewer than %d bytes and can be guessed; give a longer one, or leave it out for a random one", minSecret)
	case len(own) > maxSecret:
		return "", errs.Field("value", "has more than %d bytes; give a shorter one, or leave it out for a random one", maxSecret)
	case strings.TrimSpace(own) != own || strings.ContainsFunc(own, unicode.IsControl):
		return "", errs.Field("value", "begins or ends with white space, which agents cut off, or holds a control character; remove it")
	}
	return own, nil
}

// agentTags checks tags of which one may end with *, to mean all that begin so.
func agentTags(tags []string) ([]string, error) {
	for _, t := range tags {
		if prefix := strings.TrimSuffix(t, "*"); prefix != "" || t == "" {
			if _, err := node.CleanTags("agent_tags", []string{prefix}); err != nil {
				return nil, err
			}
		}
	}
	return slices.Compact(slices.Sorted(slices.Values(tags))), nil
}

// prefixes reads networks. One with bits beyond its length is more likely a
// mistake than a network.
func prefixes(texts []string) ([]netip.Prefix, error) {
	out := make([]netip.Prefix, 0, len(texts))
	for _, text := range texts {
		p, err := netip.ParsePrefix(text)
		if addr, alone := netip.ParseAddr(text); alone == nil && addr.Zone() == "" {
			p, err = addr.Prefix(addr.BitLen())
		}
		switch {
		case err != nil || p.Addr().Is4In6():
			return nil, errs.Field("cidrs", "%q is no network; write 10.0.0.0/8, 2001:db8::/32, or one address", text)
		case p != p.Masked():
			return nil, errs.Field("cidrs", "%q is one address in a network; write %s for the network or %s for the address", text, p.Masked(), p.Addr())
		}
		out = append(out, p)
	}
	return out, nil
}

// SecretRef names an enroll secret in a path.
type SecretRef struct {
	Name string `path:"name" maxLength:"64"`
}

type rotateInput struct {
	SecretRef
	Body RotateInput
}

func (a *API) rotateSecret(ctx context.Context, in *rotateInput) (*body[NewSecret], error) {
	value, err := secretValue(in.Body.Value)
	if err != nil {
		return nil, err
	}
	var until time.Time
	if overlap := in.Body.OverlapSeconds; overlap > 0 {
		until = a.Now().Add(time.Duration(overlap) * time.Second)
	}
	detail := map[string]any{"overlap_seconds": in.Body.OverlapSeconds, "own_value": in.Body.Value != ""}
	if err := a.Audit.Record(ctx, session(ctx).UserName, "secret.rotate", in.Name, detail); err != nil {
		return nil, err
	}
	s, err := a.Secrets.RotateSecret(ctx, in.Name, a.Keyer.Hash(node.PurposeEnrollSecret, value), until)
	if err != nil {
		return nil, err
	}
	return &body[NewSecret]{NewSecret{Secret: secret(s), Value: value}}, nil
}

func (a *API) revokeSecret(ctx context.Context, in *SecretRef) (*none, error) {
	if err := a.Audit.Record(ctx, session(ctx).UserName, "secret.revoke", in.Name, nil); err != nil {
		return nil, err
	}
	return nil, a.Secrets.RevokeSecret(ctx, in.Name, a.Now())
}
