package agentwire_test

import (
	"context"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/musterhq/muster/internal/agentwire"
)

// TestCheck goes through the table of answers in osquery's
// TLSRequestHelper::go.
func TestCheck(t *testing.T) {
	var refused *agentwire.ServerError
	for body, want := range map[string]string{
		``:                                    "",
		`{}`:                                  "",
		`{"node_key":"x"}`:                    "",
		`[]`:                                  "",
		`null`:                                "",
		`{"node_invalid":"true"}`:             "", // no boolean: ignored
		`{"node_invalid":false}`:              "",
		`{"node_invalid":true}`:               "invalid",
		`{"node_invalid":true,"error":"why"}`: "invalid",
		`{"error":"full"}`:                    "full",
		`{"error":""}`:                        "",
		`{"error":null}`:                      "<unknown>",
		`<html>`:                              "parse",
		`{`:                                   "parse",
	} {
		err := agentwire.Check([]byte(body))
		switch want {
		case "":
			if body == `{"error":""}` { // an error key is an error, whatever it holds
				if !errors.As(err, &refused) {
					t.Errorf("%s: %v", body, err)
				}
			} else if err != nil {
				t.Errorf("%s: %v", body, err)
			}
		case "invalid":
			if !errors.Is(err, agentwire.ErrNodeInvalid) {
				t.Errorf("%s: %v", body, err)
			}
		case "parse":
			if err == nil || errors.As(err, &refused) {
				t.Errorf("%s: %v", body, err)
			}
		default:
			if !errors.As(err, &refused) || refused.Message != want {
				t.Errorf("%s: %v", body, err)
			}
		}
	}
}

// server answers with handle and counts connections.
func server(t *testing.T, handle http.HandlerFunc) (s *httptest.Server, connections *atomic.Int32) {
	t.Helper()
	connections = new(atomic.Int32)
	s = httptest.NewUnstartedServer(handle)
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	s.StartTLS()
	t.Cleanup(s.Close)
	return s, connections
}

func client(t *testing.T, s *httptest.Server, mode agentwire.Conn) *agentwire.Client {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	c, err := agentwire.New(agentwire.Options{URL: s.URL, RootCAs: roots, Version: "5.23.1", Conn: mode})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// TestConnections counts connections: a real agent opens one per request.
func TestConnections(t *testing.T) {
	for mode, want := range map[agentwire.Conn]int32{agentwire.Full: 3, agentwire.Resume: 3, agentwire.KeepAlive: 1} {
		s, connections := server(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{}`)) })
		c := client(t, s, mode)
		for range 3 {
			if _, err := c.Post(t.Context(), agentwire.Request{Path: "/x", NodeKey: "k", Body: []byte(`{}`)}); err != nil {
				t.Fatal(err)
			}
		}
		if got := connections.Load(); got != want {
			t.Errorf("%s: %d connections for 3 requests; want %d", mode, got, want)
		}
	}
}

// TestResend breaks the first connection: the same request comes again at once.
func TestResend(t *testing.T) {
	var bodies []string
	s, _ := server(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		bodies = append(bodies, string(b))
		if len(bodies) == 1 {
			panic(http.ErrAbortHandler) //nolint:forbidigo // how net/http cuts a connection
		}
		w.WriteHeader(http.StatusInternalServerError) // the status means nothing
	})
	answer, err := client(t, s, agentwire.Full).Post(t.Context(), agentwire.Request{Path: "/log", Body: []byte("same")})
	if err != nil || len(answer) != 0 || len(bodies) != 2 || bodies[0] != bodies[1] {
		t.Errorf("%q %v after %q", answer, err, bodies)
	}
}

// TestRedirect checks that a redirect is refused, unlike in the real agent.
func TestRedirect(t *testing.T) {
	s, _ := server(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
	})
	_, err := client(t, s, agentwire.Full).Post(t.Context(), agentwire.Request{Path: "/x", Body: []byte(`{}`)})
	if err == nil || !strings.Contains(err.Error(), "redirect") {
		t.Errorf("%v", err)
	}
}

// TestUntrusted checks that nothing is sent to a server of another CA.
func TestUntrusted(t *testing.T) {
	asked := false
	s, _ := server(t, func(http.ResponseWriter, *http.Request) { asked = true })
	c, err := agentwire.New(agentwire.Options{URL: s.URL, RootCAs: x509.NewCertPool(), Version: "5.23.1"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Post(t.Context(), agentwire.Request{Path: "/x", Body: []byte(`{}`)}); err == nil || asked {
		t.Errorf("%v, asked %v", err, asked)
	}
}

// TestCancelled ends the context while the server thinks.
func TestCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	thinking := make(chan struct{})
	s, _ := server(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // so that the server notices the client going away
		cancel()
		<-r.Context().Done()
		close(thinking)
	})
	if _, err := client(t, s, agentwire.Full).Post(ctx, agentwire.Request{Path: "/x", Body: []byte(`{}`)}); err == nil {
		t.Error("an answer after the context ended")
	}
	<-thinking
}

func TestNew(t *testing.T) {
	for _, url := range []string{"", "http://x", "x:1", "https://"} {
		if _, err := agentwire.New(agentwire.Options{URL: url}); err == nil {
			t.Errorf("%q was accepted", url)
		}
	}
}
