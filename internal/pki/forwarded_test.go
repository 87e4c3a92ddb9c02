package pki_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"math/big"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/pki"
)

// The forms in which proxies pass certificates on.

func nginx(certs ...*x509.Certificate) string {
	return strings.ReplaceAll(url.QueryEscape(string(encode(certs...))), "+", "%20")
}

// alb leaves + = / as they are.
func alb(certs ...*x509.Certificate) string {
	return strings.NewReplacer("%2B", "+", "%3D", "=", "%2F", "/").Replace(nginx(certs...))
}

func base64DER(certs ...*x509.Certificate) string {
	var der []byte
	for _, c := range certs {
		der = append(der, c.Raw...)
	}
	return base64.StdEncoding.EncodeToString(der)
}

func rfc9440(cert *x509.Certificate) string { return ":" + base64DER(cert) + ":" }

func unfolded(certs ...*x509.Certificate) string {
	return strings.TrimSpace(strings.ReplaceAll(string(encode(certs...)), "\n", " "))
}

// envoy is an element as Envoy writes it.
func envoy(cert, chain string) string {
	s := `By=spiffe://example.com/muster;Hash=0123;`
	if cert != "" {
		s += `Cert="` + cert + `";`
	}
	if chain != "" {
		s += `Chain="` + chain + `";`
	}
	return s + `Subject="CN=web\, \"one\",O=x;y=z\\";URI=spiffe://example.com/web;DNS=web;DNS=web.example.com`
}

func equal(a, b []*x509.Certificate) bool {
	return slices.EqualFunc(a, b, func(a, b *x509.Certificate) bool { return a.Equal(b) })
}

func TestParseForwarded(t *testing.T) {
	t.Parallel()
	root := newIssuer(t, "root")
	middle := root.intermediate(t, "middle")
	// Enough of them hold a plus sign that the test would notice one lost.
	leaf, other := middle.client(t, nil).Leaf, middle.client(t, nil).Leaf
	for !strings.Contains(base64DER(leaf), "+") {
		leaf = middle.client(t, nil).Leaf
	}
	one, chain := []*x509.Certificate{leaf}, []*x509.Certificate{leaf, middle.cert, root.cert}
	// A name as nobody verified it, who passes it on without escapes.
	forged := func(name string) *x509.Certificate {
		return middle.client(t, func(c *x509.Certificate) { c.DNSNames = []string{name} }).Leaf
	}
	comma := `x,Hash=1;Cert="` + nginx(leaf) + `"`
	semicolon := `x;Cert="` + nginx(leaf) + `"`
	freeText := middle.client(t, func(c *x509.Certificate) { c.Subject, c.DNSNames = pkix.Name{CommonName: `a, "b"; c`}, nil }).Leaf
	for _, tt := range []struct {
		what  string
		value string
		want  []*x509.Certificate // nil if it must be refused
	}{
		{"nginx", nginx(leaf), one},
		{"nginx, chain", nginx(chain...), chain},
		{"alb", alb(leaf), one},
		{"alb, chain", alb(chain...), chain},
		{"PEM in one line", unfolded(chain...), chain},
		{"RFC 9440", rfc9440(leaf), one},
		{"RFC 9440 without padding", ":" + strings.TrimRight(base64DER(leaf), "=") + ":", one},
		{"HAProxy", base64DER(leaf), one},
		{"HAProxy, chain", base64DER(chain...), chain},
		{"HAProxy with space around", " " + base64DER(leaf) + "\t", one},
		{"Envoy", envoy(nginx(leaf), ""), one},
		{"Envoy, chain", envoy("", nginx(chain...)), chain},
		{"Envoy, both", envoy(nginx(leaf), nginx(chain...)), chain},
		{"Envoy, keys of either case", `hash=1;cERT="` + nginx(leaf) + `"`, one},
		{"Envoy without quotes", "Cert=" + nginx(leaf), one},
		{"Envoy, the last element", envoy(nginx(other), "") + "," + envoy(nginx(leaf), ""), one},
		{"Envoy, the last element after a space", envoy(nginx(other), "") + ", " + envoy("", nginx(chain...)), chain},
		{"Envoy, a free common name", envoy(nginx(freeText), ""), []*x509.Certificate{freeText}},

		{"words", "no certificate", nil},
		{"one colon", ":", nil},
		{"nothing between colons", "::", nil},
		{"RFC 9440 without end", rfc9440(leaf)[:len(rfc9440(leaf))-1], nil},
		{"two RFC 9440 joined", rfc9440(other) + ", " + rfc9440(leaf), nil},
		{"two base64 joined", base64DER(other) + "," + base64DER(leaf), nil},
		{"two nginx joined", nginx(other) + ", " + nginx(leaf), nil},
		{"Envoy behind nginx", nginx(other) + "," + envoy(nginx(leaf), ""), nil},
		{"half base64", base64DER(leaf)[:400], nil},
		{"more than the certificate", base64.StdEncoding.EncodeToString(append(slices.Clone(leaf.Raw), "more"...)), nil},
		{"half PEM", nginx(leaf)[:400], nil},
		{"half percent", nginx(leaf) + "%0", nil},
		{"empty PEM", "-----BEGIN%20CERTIFICATE-----%0A-----END%20CERTIFICATE-----", nil},
		{"a key", "-----BEGIN%20PRIVATE%20KEY-----%0AAAAA%0A-----END%20PRIVATE%20KEY-----", nil},
		{"PEM as a query is encoded", strings.ReplaceAll(alb(leaf), "%20", "+"), nil},
		{"too many", base64DER(leaf, leaf, leaf, leaf, leaf, leaf, leaf, leaf, leaf), nil},
		{"Envoy without certificate", envoy("", ""), nil},
		{"Envoy, empty certificate", `Cert=""`, nil},
		{"Envoy, a quote that does not end", `Cert="` + nginx(leaf), nil},
		{"Envoy, escaped end of quote", `Cert="` + nginx(leaf) + `\"`, nil},
		{"Envoy, text behind a quote", `Cert="` + nginx(leaf) + `"x`, nil},
		{"Envoy, comma at the end", envoy(nginx(leaf), "") + ",", nil},
		{"Envoy, comma and space at the end", envoy(nginx(leaf), "") + ", ", nil},
		{"Envoy, semicolon at the end", `Cert="` + nginx(leaf) + `";`, nil},
		{"Envoy, a certificate twice", `Cert="` + nginx(other) + `";Cert="` + nginx(leaf) + `"`, nil},
		{"Envoy, last element without certificate", envoy(nginx(leaf), "") + ",By=x;Hash=1", nil},
		{"Envoy, first element without certificate", `Hash=1;URI=` + comma, nil},
		{"Envoy, a quote opened before", `By="x,` + envoy(nginx(leaf), ""), nil},
		{"Envoy, a quote opened just before", `By=",` + envoy(nginx(leaf), ""), nil},
		{"Envoy, words before", `x,` + envoy(nginx(leaf), ""), nil},
		{"Envoy, a name forged with a comma", `Hash=1;Cert="` + nginx(forged(comma)) + `";DNS=` + comma, nil},
		{"Envoy, a name forged with a semicolon", `Hash=1;Cert="` + nginx(forged(semicolon)) + `";DNS=` + semicolon, nil},
		{"Envoy, a name forged where no Cert is set", `Hash=1;DNS=` + semicolon, nil},
	} {
		got, err := pki.ParseForwarded(tt.value)
		switch {
		case tt.want == nil && (!errs.Is(err, errs.Invalid) || got != nil):
			t.Errorf("%s: %d certificates, %v", tt.what, len(got), err)
		case tt.want != nil && (err != nil || !equal(got, tt.want)):
			t.Errorf("%s: %d certificates, want %d: %v", tt.what, len(got), len(tt.want), err)
		}
	}
	if got, err := pki.ParseForwarded(" "); got != nil || err != nil {
		t.Errorf("an empty header: %v, %v", got, err)
	}
	if _, err := pki.ParseForwarded(strings.Repeat("A", 16<<10+1)); !errs.Is(err, errs.TooLarge) {
		t.Errorf("a large header: %v", err)
	}
}

// fixed makes two certificates that are the same in every process, as the
// fuzzer's are many: Ed25519 signs without chance.
func fixed(tb testing.TB) []*x509.Certificate {
	tb.Helper()
	var certs []*x509.Certificate
	for i, name := range []string{"one", "two"} {
		key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{byte(i)}, ed25519.SeedSize))
		template := &x509.Certificate{SerialNumber: big.NewInt(int64(i + 1)), DNSNames: []string{name}}
		der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
		if err != nil {
			tb.Fatal(err)
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			tb.Fatal(err)
		}
		certs = append(certs, cert)
	}
	return certs
}

// FuzzParseForwarded checks that whatever is accepted means the same in every
// form, and that a certificate behind it is the one that counts with Envoy.
func FuzzParseForwarded(f *testing.F) {
	certs := fixed(f)
	for _, value := range []string{
		"", "words", ":", nginx(certs[0]), alb(certs...), unfolded(certs[0]), rfc9440(certs[0]), base64DER(certs...),
		envoy(nginx(certs[0]), ""), envoy("", alb(certs...)), envoy(nginx(certs[1]), "") + "," + envoy(nginx(certs[0]), nginx(certs...)),
		`Hash=1;Cert="` + nginx(certs[1]) + `";URI=x,Hash=1;Cert="` + nginx(certs[0]) + `"`,
	} {
		f.Add(value)
	}
	f.Fuzz(func(t *testing.T, value string) {
		chain, err := pki.ParseForwarded(value)
		if err != nil {
			if chain != nil {
				t.Errorf("%d certificates and %v", len(chain), err)
			}
			return
		}
		if len(chain) == 0 {
			if strings.TrimSpace(value) != "" {
				t.Errorf("%q is taken for none", value)
			}
			return
		}
		for _, form := range []string{nginx(chain...), alb(chain...), unfolded(chain...), base64DER(chain...)} {
			if len(form) > 16<<10 {
				continue
			}
			if again, err := pki.ParseForwarded(form); err != nil || !equal(again, chain) {
				t.Errorf("%q became %q, which is %v", value, form, err)
			}
		}
		// What a client sends may stand before what Envoy adds, never for it.
		joined := value + "," + envoy(nginx(certs[1]), "")
		if got, err := pki.ParseForwarded(joined); err == nil && !equal(got, certs[1:2]) {
			t.Errorf("%q stands for what Envoy added", value)
		}
	})
}
