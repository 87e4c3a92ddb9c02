package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/musterhq/muster/internal/errs"
)

// Limits of names: a common name (ub-common-name in RFC 5280, there in
// characters), and a host name with one of its labels (RFC 1035).
const (
	maxCommonName = 64
	maxDNSName    = 253
	maxDNSLabel   = 63
)

// IssueAgent makes a certificate that is good for a client alone, and its key
// (ECDSA P-256, PKCS #8), for the agent whose host identifier is name. Host
// names and UUIDs become a DNS name of it. What cannot be one, as free text or
// an address, becomes the common name alone, at most 64 bytes: among the names
// that node.Certificate.For compares it is then the only one, letter by letter.
// A name or a life that cannot be is an Invalid error of that field.
func (a *Authority) IssueAgent(name string, life time.Duration, now time.Time) (certPEM, keyPEM []byte, err error) {
	template := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{Organization: []string{"Muster"}},
		NotBefore: now.Add(-backdate), NotAfter: now.Add(life),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	if err := nameAgent(template, name); err != nil {
		return nil, nil, err
	}
	if life <= 0 {
		return nil, nil, errs.Field("life", "must be longer than nothing")
	}
	if template.NotAfter.After(a.cert.NotAfter) {
		return nil, nil, errs.Field("life", "would be longer than that of the CA, which ends on %s", a.cert.NotAfter.UTC().Format(time.DateOnly))
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		return nil, nil, err
	}
	if keyPEM, err = encodeKey(key); err != nil {
		return nil, nil, err
	}
	return encodeCert(der), keyPEM, nil
}

func nameAgent(template *x509.Certificate, name string) error {
	dns := isDNSName(name)
	switch {
	case name == "":
		return errs.Field("name", "must not be empty; it is the host identifier that the agent enrols with")
	case !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl):
		return errs.Field("name", "must be text without control characters")
	case !dns && len(name) > maxCommonName:
		return errs.Field("name", "has %d bytes; one that is no host name may have %d", len(name), maxCommonName)
	}
	if dns {
		template.DNSNames = []string{name}
	}
	if len(name) <= maxCommonName {
		template.Subject.CommonName = name
	}
	return nil
}

// isDNSName reports whether name is a host name of letters, digits and hyphens
// (RFC 1123) that cannot be taken for an IPv4 address.
func isDNSName(name string) bool {
	if len(name) > maxDNSName {
		return false
	}
	labels := strings.Split(name, ".")
	for _, l := range labels {
		if l == "" || len(l) > maxDNSLabel || l[0] == '-' || l[len(l)-1] == '-' || strings.ContainsFunc(l, notLDH) {
			return false
		}
	}
	return strings.ContainsFunc(labels[len(labels)-1], func(r rune) bool { return r < '0' || r > '9' })
}

func notLDH(r rune) bool {
	return r != '-' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
}
