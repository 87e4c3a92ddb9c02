package notify_test

import (
	"context"
	"crypto/tls"
	"encoding/pem"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	"github.com/musterhq/muster/internal/alert"
	"github.com/musterhq/muster/internal/credential"
	"github.com/musterhq/muster/internal/egress"
	"github.com/musterhq/muster/internal/notify"
	"github.com/musterhq/muster/internal/resource"
)

var at = time.Date(2026, 3, 29, 1, 30, 0, 0, time.UTC)

// world is a Sender of the notifiers that a YAML document describes, with a
// directory of secrets. This host may be reached.
type world struct {
	t      *testing.T
	dir    string
	sender *notify.Sender
}

func newWorld(t *testing.T, spec string) *world {
	t.Helper()
	return newWorldOpen(t, spec, "127.0.0.0/8")
}

func newWorldOpen(t *testing.T, spec string, networks ...string) *world {
	t.Helper()
	objects, err := resource.Parse("test", []byte("apiVersion: muster/v1\nkind: Notifier\nname: n\nspec:\n"+indent(spec)))
	if err != nil {
		t.Fatal(err)
	}
	set, err := resource.NewSet(objects)
	if err != nil {
		t.Fatal(err)
	}
	snapshot, err := resource.Compile(1, set)
	if err != nil {
		t.Fatal(err)
	}
	allow, err := egress.ParseNetworks(networks)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, dir: t.TempDir()}
	w.sender = notify.New(notify.Options{
		Notifiers: snapshot, Secrets: &credential.Reader{Dir: w.dir, Getenv: os.LookupEnv}, Guard: &egress.Guard{Allow: allow},
		PublicURL: "https://muster.example.com/", Version: "test",
	})
	return w
}

func indent(s string) string {
	return "  " + strings.ReplaceAll(strings.TrimSpace(s), "\n", "\n  ") + "\n"
}

func (w *world) secret(name, value string) {
	w.t.Helper()
	if err := os.WriteFile(filepath.Join(w.dir, name), []byte(value), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) send(m alert.Message) (string, error) {
	w.t.Helper()
	return w.sender.Send(w.t.Context(), "n", m)
}

// wantError sends and wants an error that says something, and is for good or not.
func (w *world) wantError(refused bool, say string) {
	w.t.Helper()
	_, err := w.send(message(item(alert.Opened)))
	e, ok := err.(*alert.SendError) //nolint:errorlint // it is what Send promises
	if !ok || e.Refused != refused || !strings.Contains(alert.ErrorText(err), say) {
		w.t.Errorf("got %+v, want %q", err, say)
	}
}

func message(items ...alert.Item) alert.Message {
	return alert.Message{ID: "0123456789abcdef", Notifier: "n", Items: items, SentAt: at}
}

// item is of an alert whose texts a node chose. What Raise does to them was done.
func item(action alert.Action) alert.Item {
	i := alert.Item{ID: 7, Action: action, Alert: alert.Alert{
		ID: "a1", Rule: "r", Key: "k", State: alert.Open, Severity: alert.High, Title: alert.Line("<script>alert(1)</script> @channel\r\nBcc: evil@example.com", 200),
		Text: "<b>*bold*</b> <!channel>\n```", Labels: map[string]string{"team": "web"}, NodeID: "n1", HostIdentifier: "web-1", Query: "q", Count: 3, Episodes: 1,
		Current: true, FirstAt: at, OpenedAt: at, LastAt: at,
	}, Columns: []byte(`{"path":"/tmp/\u202ex","pid":12,"list":[1]}`)}
	if action == alert.Ended {
		i.Alert.State, i.Alert.ResolvedAt, i.Alert.ResolvedBy = alert.Resolved, at.Add(time.Minute), "rule"
	}
	return i
}

// receiver is an HTTP server that notes what it gets. It is a stand-in for
// services that cannot be had here.
type receiver struct {
	*httptest.Server

	mu     sync.Mutex
	got    []*http.Request
	bodies []string
	status int
	answer string
	head   http.Header
}

func newReceiver(t *testing.T, secure bool) *receiver {
	t.Helper()
	r := &receiver{status: http.StatusOK, answer: "ok", head: http.Header{}}
	h := http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		b, _ := io.ReadAll(req.Body)
		r.mu.Lock()
		defer r.mu.Unlock()
		r.got, r.bodies = append(r.got, req), append(r.bodies, string(b))
		maps.Copy(w.Header(), r.head)
		w.WriteHeader(r.status)
		_, _ = io.WriteString(w, r.answer)
	})
	if secure {
		r.Server = httptest.NewTLSServer(h)
	} else {
		r.Server = httptest.NewServer(h)
	}
	t.Cleanup(r.Close)
	return r
}

// ca returns the CA of a test server in PEM.
func ca(s *httptest.Server) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}))
}

// mailServer is a real SMTP server, which keeps what it takes.
type mailServer struct {
	address string
	ca      string

	mu     sync.Mutex
	mails  []string
	from   string
	to     []string
	user   string
	secure bool
	refuse error // of a receiver
}

// newMailServer starts one that offers STARTTLS ("starttls"), speaks TLS at once
// ("tls") or has none ("none").
func newMailServer(t *testing.T, mode string) *mailServer {
	t.Helper()
	certified := httptest.NewTLSServer(http.NotFoundHandler())
	certified.Close()
	m := &mailServer{ca: ca(certified)}
	s := smtp.NewServer(smtp.BackendFunc(func(c *smtp.Conn) (smtp.Session, error) { return &mailSession{m: m, c: c}, nil }))
	s.Domain, s.ReadTimeout, s.WriteTimeout = "mail.example.com", 10*time.Second, 10*time.Second
	config := certified.TLS.Clone()
	config.NextProtos = nil
	if mode == "starttls" {
		s.TLSConfig = config
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m.address = l.Addr().String()
	done := make(chan struct{})
	go func() {
		defer close(done)
		if mode == "tls" {
			s.TLSConfig = config
			_ = s.Serve(tls.NewListener(l, config))
		} else {
			_ = s.Serve(l)
		}
	}()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = s.Shutdown(ctx)
		<-done
	})
	return m
}

type mailSession struct {
	m    *mailServer
	c    *smtp.Conn
	user string
}

func (s *mailSession) AuthMechanisms() []string { return []string{sasl.Plain} }
func (s *mailSession) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, password string) error {
		if user != "muster" || password != "pass-word" {
			return &smtp.SMTPError{Code: 535, EnhancedCode: smtp.EnhancedCode{5, 7, 8}, Message: "no"}
		}
		s.user = user
		return nil
	}), nil
}

func (s *mailSession) Mail(from string, _ *smtp.MailOptions) error {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	s.m.from, s.m.to, s.m.user = from, nil, s.user
	_, s.m.secure = s.c.TLSConnectionState()
	return nil
}

func (s *mailSession) Rcpt(to string, _ *smtp.RcptOptions) error {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	s.m.to = append(s.m.to, to)
	return s.m.refuse
}

func (s *mailSession) Data(r io.Reader) error {
	b, err := io.ReadAll(r)
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	s.m.mails = append(s.m.mails, string(b))
	return err
}
func (*mailSession) Reset()        {}
func (*mailSession) Logout() error { return nil }
