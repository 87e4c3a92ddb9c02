package agent

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/musterhq/muster/internal/pki"
)

// TestRun_clientCertificate runs an agent by the flags that Muster prints for a
// client certificate, against a listener of Muster's that requires one.
func TestRun_clientCertificate(t *testing.T) {
	t.Parallel()
	ca, err := pki.OpenAuthority(t.TempDir(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key, err := ca.IssueAgent("host-1", time.Hour, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{"cert.pem": cert, "key.pem": key} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	addr, seen := certified(t, ca)
	trust := "--tls_hostname=" + addr + "\n--tls_server_certs=" + ca.CertPath() + "\n--disable_distributed=true\n--tls_enroll_max_attempts=1\n"
	with := trust + "--tls_client_cert=" + filepath.Join(dir, "cert.pem") + "\n--tls_client_key=" + filepath.Join(dir, "key.pem") + "\n"

	failed := launch(t, testFlags(t, trust))
	<-failed
	select {
	case s := <-seen:
		t.Errorf("without a certificate the server sees %s", s)
	default:
	}
	launch(t, testFlags(t, with))
	for _, want := range []string{"/enroll by host-1", "/config by host-1"} {
		if got := <-seen; got != want {
			t.Errorf("the server sees %s, want %s", got, want)
		}
	}
}

// launch runs an agent until the test ends, and tells when it could not enrol.
func launch(t *testing.T, f *Flags) (failed <-chan struct{}) {
	t.Helper()
	h := &failures{Handler: slog.NewTextHandler(t.Output(), nil), seen: make(chan struct{}, 100)}
	a, err := New(Options{Flags: f, Log: slog.New(h)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return h.seen
}

// failures tells of enrolments that failed.
type failures struct {
	slog.Handler
	seen chan struct{}
}

func (f *failures) Handle(ctx context.Context, r slog.Record) error {
	if r.Message == "enrolment failed" {
		select {
		case f.seen <- struct{}{}:
		default: // nobody counts them
		}
	}
	return f.Handler.Handle(ctx, r)
}

// certified serves agents that show a certificate of ca, and tells who asked
// for what.
func certified(t *testing.T, ca *pki.Authority) (addr string, seen <-chan string) {
	t.Helper()
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	certFile, keyFile, err := ca.ServerCert([]string{"127.0.0.1"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	cert, err := pki.LoadCertificate(certFile, keyFile, log)
	if err != nil {
		t.Fatal(err)
	}
	clients, err := pki.LoadClientCAs(ca.CertPath(), log)
	if err != nil {
		t.Fatal(err)
	}
	config, err := cert.ServerConfigFor(clients, pki.ClientAuthRequired)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	asked := make(chan string, 1000) // more than a test waits for
	s := &http.Server{TLSConfig: config, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)}
	s.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r.URL.Path + " by " + pki.Describe(r.TLS.PeerCertificates[0]).Names[0]
		_, _ = io.WriteString(w, `{"node_key":"k"}`)
	})
	served := make(chan error, 1)
	go func() { served <- s.ServeTLS(l, "", "") }()
	t.Cleanup(func() {
		_ = s.Close()
		<-served
	})
	return l.Addr().String(), asked
}
