package config

import (
	"cmp"
	"net/netip"
	"net/url"
)

// Secrets returns SecretsDir, or where it is without one.
func (s *Server) Secrets() string { return cmp.Or(s.SecretsDir, s.Path("secrets")) }

// validateEgress checks what may be reached, and where people reach us.
func (s *Server) validateEgress(bad func(key, format string, args ...any)) {
	for _, text := range s.EgressAllow {
		_, errAddress := netip.ParseAddr(text)
		if _, err := netip.ParsePrefix(text); err != nil && errAddress != nil {
			bad("egress_allow", "%q is no network; write 10.0.0.0/8 or 10.1.2.3", text)
		}
	}
	if s.PublicURL == "" {
		return
	}
	u, err := url.Parse(s.PublicURL)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		bad("public_url", "must be as https://muster.example.com")
	}
}
