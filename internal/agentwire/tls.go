package agentwire

import (
	"crypto/tls"
	"fmt"
	"net/url"
)

// KeyExchange says which groups a client offers for the TLS key exchange,
// which is a good part of what a full handshake costs both sides.
type KeyExchange string

// The key exchanges. With each, Go sends a key share for the first group that
// is named here (with MLKEM for X25519 too), and the rest is offered in case
// the server wants another. The order is Go's own; see tls.Config.
const (
	// X25519, P-256, P-384 are what real agents offer: osquery links OpenSSL 3
	// before 3.5, which knows no ML-KEM. (It offers X448, P-521 and finite
	// fields besides, and a share for X25519 alone; seen with OpenSSL 3.0.)
	X25519 KeyExchange = "x25519"
	// P256 leaves X25519 out, as a FIPS build of OpenSSL does.
	P256 KeyExchange = "p256"
	// MLKEM is X25519MLKEM768 before those of X25519: OpenSSL from 3.5 on, and
	// any Go program.
	MLKEM KeyExchange = "mlkem"
)

func (k KeyExchange) groups() ([]tls.CurveID, error) {
	switch k {
	case "", X25519:
		return []tls.CurveID{tls.X25519, tls.CurveP256, tls.CurveP384}, nil
	case P256:
		return []tls.CurveID{tls.CurveP256, tls.CurveP384}, nil
	case MLKEM:
		return []tls.CurveID{tls.X25519MLKEM768, tls.X25519, tls.CurveP256, tls.CurveP384}, nil
	}
	return nil, fmt.Errorf("key exchange %q: must be x25519, p256 or mlkem", string(k))
}

// TLSConfig returns how an agent speaks TLS with the server that the options
// name: URL, RootCAs, Certificate and KeyExchange count.
func TLSConfig(o Options) (*tls.Config, error) {
	u, err := url.Parse(o.URL)
	if err != nil || u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("agent url %q: must be https://host:port", o.URL)
	}
	groups, err := o.KeyExchange.groups()
	if err != nil {
		return nil, err
	}
	c := &tls.Config{
		RootCAs: o.RootCAs, ServerName: u.Hostname(), MinVersion: tls.VersionTLS12,
		CurvePreferences: groups, ClientSessionCache: noSessions{},
	}
	if o.Certificate != nil {
		// Certificates would keep it back from a server that names other CAs;
		// osquery's OpenSSL shows it to whoever asks.
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return o.Certificate, nil }
	}
	return c, nil
}

// noSessions makes the client ask for session tickets and never use one. So do
// real agents, and a server that issues tickets pays for each of them.
type noSessions struct{}

// Get has no session.
func (noSessions) Get(string) (*tls.ClientSessionState, bool) { return nil, false }

// Put forgets the session.
func (noSessions) Put(string, *tls.ClientSessionState) {}
