// Package signon lets people in whom an OpenID Connect provider vouches for
// (OpenID Connect Core 1.0, the authorization code flow with PKCE, RFC 7636).
//
// Who somebody is, is the provider's issuer and its subject, never an address of
// mail. A provider gives roles by groups, up to a ceiling. A provider that is down
// keeps nobody from logging in otherwise.
package signon

import (
	"bytes"
	"fmt"
	"net/url"
	"os"
	"regexp"
	"slices"

	"github.com/goccy/go-yaml"

	"github.com/musterhq/muster/internal/account"
	"github.com/musterhq/muster/internal/credential"
)

// Provider is one provider, as the file of them says it.
type Provider struct {
	Name         string               `yaml:"name"`  // in paths and in the audit log
	Title        string               `yaml:"title"` // on the login page; the name if it is empty
	Issuer       string               `yaml:"issuer"`
	ClientID     string               `yaml:"client_id"`
	ClientSecret credential.Reference `yaml:"client_secret"` // none: a public client
	Scopes       []string             `yaml:"scopes"`        // openid, profile and email if empty
	// UsernameClaim names the claim that a new user is called by.
	UsernameClaim string `yaml:"username_claim"` // preferred_username if empty
	GroupsClaim   string `yaml:"groups_claim"`   // groups if empty
	// Roles are what groups give; of * everybody.
	Roles map[string][]string `yaml:"roles"`
	// MayGive is the ceiling: roles beyond it are not given, whatever Roles says.
	MayGive []string `yaml:"may_give"`
	// Create says whether somebody who was never here becomes a user: always, or
	// never, so that an administrator links them first.
	Create string `yaml:"create"` // always if empty
	// RequireAMR are methods, one of which the provider must have used, as mfa
	// (RFC 8176).
	RequireAMR []string `yaml:"require_amr"`
	// SecondFactor says that the provider asks for one: then Muster asks for none.
	SecondFactor bool `yaml:"second_factor"`
}

// Whether users are made.
const (
	CreateAlways = "always"
	CreateNever  = "never"
)

// maxFile bounds the file of providers.
const maxFile = 1 << 20

var namePattern = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,30}$`)

// LoadProviders reads the file of providers.
func LoadProviders(path string) ([]Provider, error) {
	b, err := os.ReadFile(path) //nolint:gosec // the operator names it
	if err != nil {
		return nil, err
	}
	list, err := ParseProviders(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return list, nil
}

// ParseProviders reads providers. Unknown keys are errors.
func ParseProviders(b []byte) ([]Provider, error) {
	if len(b) > maxFile {
		return nil, fmt.Errorf("is larger than %d bytes", maxFile)
	}
	var file struct {
		Providers []Provider `yaml:"providers"`
	}
	if err := yaml.NewDecoder(bytes.NewReader(b), yaml.Strict()).Decode(&file); err != nil {
		return nil, err
	}
	names, issuers := map[string]bool{}, map[string]bool{}
	for i := range file.Providers {
		p := &file.Providers[i]
		if err := p.complete(); err != nil {
			return nil, fmt.Errorf("providers[%d]: %w", i, err)
		}
		if names[p.Name] || issuers[p.Issuer] {
			return nil, fmt.Errorf("providers[%d]: there is another of that name or issuer", i)
		}
		names[p.Name], issuers[p.Issuer] = true, true
	}
	return file.Providers, nil
}

// complete checks a provider and fills in what is left out.
func (p *Provider) complete() error {
	if !namePattern.MatchString(p.Name) {
		return fmt.Errorf("name: %q is no name; use up to 31 lower-case letters, digits and -", p.Name)
	}
	u, err := url.Parse(p.Issuer)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return fmt.Errorf("issuer: %q is no https URL of an issuer, exactly as its discovery document has it", p.Issuer)
	}
	if p.ClientID == "" {
		return fmt.Errorf("client_id: is missing")
	}
	if !p.ClientSecret.IsZero() {
		if err := p.ClientSecret.Check("client_secret"); err != nil {
			return err
		}
	}
	if p.Title == "" {
		p.Title = p.Name
	}
	if len(p.Scopes) == 0 {
		p.Scopes = []string{"openid", "profile", "email"}
	}
	if !slices.Contains(p.Scopes, "openid") {
		return fmt.Errorf("scopes: lack openid")
	}
	if p.UsernameClaim == "" {
		p.UsernameClaim = "preferred_username"
	}
	if p.GroupsClaim == "" {
		p.GroupsClaim = "groups"
	}
	switch p.Create {
	case "":
		p.Create = CreateAlways
	case CreateAlways, CreateNever:
	default:
		return fmt.Errorf("create: %q is neither always nor never", p.Create)
	}
	if len(p.MayGive) == 0 { // whoever may make people is named on purpose
		for _, roles := range p.Roles {
			p.MayGive = append(p.MayGive, slices.DeleteFunc(slices.Clone(roles), func(r string) bool { return r == account.Admin })...)
		}
	}
	slices.Sort(p.MayGive)
	p.MayGive = slices.Compact(p.MayGive)
	return nil
}

// rolesOf returns what groups give, up to the ceiling.
func (p *Provider) rolesOf(groups []string) []string {
	var roles []string
	for _, g := range append([]string{"*"}, groups...) {
		for _, r := range p.Roles[g] {
			if slices.Contains(p.MayGive, r) {
				roles = append(roles, r)
			}
		}
	}
	slices.Sort(roles)
	return slices.Compact(roles)
}
