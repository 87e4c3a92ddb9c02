package pki

import (
	"cmp"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"unicode"

	"github.com/musterhq/muster/internal/errs"
)

// Limits of a header with a client certificate.
const (
	// maxForwarded bounds its bytes: the head of a request to the agents'
	// listener may have as many. Four RSA certificates of 4096 bits take 12 KiB.
	maxForwarded = 16 << 10
	// maxChain bounds its certificates; real chains have two to four.
	maxChain = 8
)

// Marks of PEM.
const (
	pemBegin = "-----BEGIN CERTIFICATE-----"
	pemEnd   = "-----END CERTIFICATE-----"
)

// ParseForwarded reads the certificate that an agent showed to the proxy in
// front, which ends TLS and passes the certificate on in a header: the leaf, then
// what came with it. Nothing is verified; ClientCAs.Verify does. An empty value
// is none and no error. Every other error is Invalid, or TooLarge over 16 KiB.
//
// A value has one of the forms
//
//	-----BEGIN%20CERTIFICATE-----%0AMII…   nginx $ssl_client_escaped_cert, AWS ALB, one or a chain
//	:MII…:                                 RFC 9440 Client-Cert, Google load balancers
//	MII…                                   HAProxy %[ssl_c_der,base64], or ssl_c_chain_der
//	By=…;Hash=…;Cert="-----BEGIN%20…"      Envoy x-forwarded-client-cert, its last element
//
// The header is worth what the proxy is: it must remove such a header that came
// from outside, or the agent writes it. A request with two lines of it must be
// refused by the caller, and two that a proxy has joined are refused here.
func ParseForwarded(value string) ([]*x509.Certificate, error) {
	value = strings.TrimSpace(value)
	if value == "" {
		return nil, nil
	}
	if len(value) > maxForwarded {
		return nil, errs.New(errs.TooLarge, "the header with the client certificate has %d bytes; at most %d are read", len(value), maxForwarded)
	}
	chain, err := forwarded(value)
	if err != nil {
		return nil, &errs.Error{
			Kind: errs.Invalid, Field: "client certificate header",
			Message: "is in none of the known forms; check what the proxy in front writes into it", Err: err,
		}
	}
	return chain, nil
}

func forwarded(value string) ([]*x509.Certificate, error) {
	if strings.HasPrefix(value, pemBegin[:len("-----BEGIN")]) {
		return parsePEM(value)
	}
	if key, _, ok := strings.Cut(value, "="); ok && isMember(key) {
		return parseEnvoy(value)
	}
	if inner, ok := strings.CutPrefix(value, ":"); ok {
		if value, ok = strings.CutSuffix(inner, ":"); !ok {
			return nil, errors.New("the closing colon is missing")
		}
	}
	der, err := decode(value)
	if err != nil {
		return nil, err
	}
	return parseDER(der)
}

// parsePEM reads percent-encoded PEM blocks with nothing between them but space.
// A plus sign is itself: ALB leaves it as it is, so this is not the encoding of
// a query. Line ends may have become spaces, as a proxy makes them that unfolds
// PEM into one line.
func parsePEM(value string) ([]*x509.Certificate, error) {
	text, err := url.PathUnescape(value)
	if err != nil {
		return nil, err
	}
	var all []byte
	for text = strings.TrimSpace(text); text != ""; text = strings.TrimSpace(text) {
		inner, ok := strings.CutPrefix(text, pemBegin)
		if !ok {
			return nil, errors.New("there is text beside the certificates")
		}
		body, rest, ok := strings.Cut(inner, pemEnd)
		if !ok {
			return nil, errors.New("a certificate does not end")
		}
		der, err := decode(strings.Join(strings.Fields(body), ""))
		if err != nil {
			return nil, err
		}
		all, text = append(all, der...), rest
	}
	return parseDER(all)
}

// decode reads base64 with or without its padding, which RFC 8941 lets be left
// out.
func decode(s string) ([]byte, error) {
	return base64.RawStdEncoding.DecodeString(strings.TrimRight(s, "="))
}

func parseDER(der []byte) ([]*x509.Certificate, error) {
	chain, err := x509.ParseCertificates(der)
	switch {
	case err != nil:
		return nil, err
	case len(chain) == 0:
		return nil, errors.New("there is no certificate")
	case len(chain) > maxChain:
		return nil, fmt.Errorf("there are %d certificates; at most %d are taken", len(chain), maxChain)
	}
	return chain, nil
}

// isMember reports whether key is one of x-forwarded-client-cert, in which
// letters are of either case. Base64 of a certificate is never one.
func isMember(key string) bool {
	return slices.Contains([]string{"by", "hash", "cert", "chain", "subject", "uri", "dns", "san"}, strings.ToLower(strings.TrimSpace(key)))
}

// parseEnvoy reads x-forwarded-client-cert: one element per proxy between
// commas, the nearest proxy's last, so that an agent's own comes before it.
//
// Envoy writes the names of the certificate, after it, without quotes or
// escapes (Utility::mutateXfccRequestHeader in its source). Where it accepts
// certificates that nobody has verified, a name may so hold what looks like an
// element with another certificate. Therefore every element must carry a
// certificate before its names, one whose names cannot be taken for more.
func parseEnvoy(value string) ([]*x509.Certificate, error) {
	for {
		text, rest, err := cutElement(value)
		if err != nil {
			return nil, err
		}
		chain, err := parsePEM(text)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(altNames(chain[0]), func(n string) bool { return strings.ContainsAny(n, `,;"`) }) {
			return nil, errors.New("a certificate has a name that could be taken for a part of the header")
		}
		if rest == "" {
			return chain, nil
		}
		value = rest
	}
}

// cutElement cuts the first element off and returns its Chain, which begins
// with the leaf, or else its Cert.
func cutElement(text string) (found, rest string, err error) {
	members := map[string]string{}
	for {
		key, value, ok := strings.Cut(text, "=")
		key = strings.ToLower(strings.TrimSpace(key))
		if !ok || key == "" || strings.ContainsFunc(key, func(r rune) bool { return !unicode.IsLetter(r) }) {
			return "", "", errors.New("an element is not made of key=value")
		}
		value, after, err := cutValue(value)
		if err != nil {
			return "", "", err
		}
		_, twice := members[key]
		_, uri := members["uri"]
		_, dns := members["dns"]
		if (key == "cert" || key == "chain") && (twice || uri || dns) {
			return "", "", errors.New("an element has a certificate twice, or after the names of one")
		}
		members[key] = value
		separator := after[:min(1, len(after))]
		text = after[len(separator):]
		if separator == ";" {
			continue
		}
		if separator == "," && strings.TrimSpace(text) == "" {
			return "", "", errors.New("the last element is empty")
		}
		if found = cmp.Or(members["chain"], members["cert"]); found == "" {
			return "", "", errors.New("an element has no Cert or Chain; let Envoy set them (set_current_client_cert_details)")
		}
		return found, text, nil
	}
}

// cutValue cuts a value off, quoted or up to the next separator, with which, if
// there is one, rest begins.
func cutValue(text string) (value, rest string, err error) {
	if !strings.HasPrefix(text, `"`) {
		end := strings.IndexAny(text, ",;")
		if end < 0 {
			end = len(text)
		}
		return text[:end], text[end:], nil
	}
	for i := 1; i < len(text); i++ {
		switch text[i] {
		case '\\':
			i++ // whatever comes, it does not end the value
		case '"':
			value, rest = text[1:i], text[i+1:]
			if rest != "" && rest[0] != ',' && rest[0] != ';' {
				return "", "", errors.New("there is text behind a quoted value")
			}
			return value, rest, nil
		}
	}
	return "", "", errors.New("a quoted value does not end")
}
