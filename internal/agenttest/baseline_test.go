package agenttest_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/musterhq/muster/internal/agenttest"
	"github.com/musterhq/muster/internal/agentwire"
)

// bareEnv makes the test binary the bare server of a load.
const bareEnv = "MUSTER_TEST_BARE_SERVER"

func TestMain(m *testing.M) {
	if os.Getenv(bareEnv) != "" {
		if err := agenttest.ServeBaseline(context.Background(), os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1) //nolint:forbidigo // this is main
		}
		return
	}
	os.Exit(m.Run()) //nolint:forbidigo // this is main
}

// TestServeBaseline talks to the bare server as its parent does.
func TestServeBaseline(t *testing.T) {
	for _, useRSA := range []bool{false, true} {
		in, orders := io.Pipe()
		says, out := io.Pipe()
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := agenttest.ServeBaseline(t.Context(), in, out); err != nil {
				t.Error(err)
			}
		})
		must(t, json.NewEncoder(orders).Encode(map[string]any{"rsa": useRSA, "config_bytes": 5000}))
		var address struct {
			URL         string
			Certificate []byte
		}
		must(t, json.NewDecoder(says).Decode(&address))
		leaf, err := x509.ParseCertificate(address.Certificate)
		must(t, err)
		switch key := leaf.PublicKey.(type) {
		case *rsa.PublicKey:
			if !useRSA || key.N.BitLen() != 2048 {
				t.Errorf("RSA of %d bits; wanted: %t", key.N.BitLen(), useRSA)
			}
		case *ecdsa.PublicKey:
			if useRSA || key.Params().Name != "P-256" {
				t.Errorf("a key of %s; RSA wanted: %t", key.Params().Name, useRSA)
			}
		}
		roots := x509.NewCertPool()
		roots.AddCert(leaf)
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}}}
		for path, want := range map[string]string{
			"config": "{" + strings.Repeat(" ", 4998) + "}", "distributed/read": `{"queries":{}}`, "log": `{}`,
		} {
			r, err := client.Post(address.URL+"/api/osquery/"+path, "application/json", bytes.NewReader(make([]byte, 100_000)))
			must(t, err)
			got, err := io.ReadAll(r.Body)
			must(t, err)
			if string(got) != want || r.ContentLength != int64(len(want)) {
				t.Errorf("%s: %d bytes, announced %d, want %d", path, len(got), r.ContentLength, len(want))
			}
			must(t, r.Body.Close())
		}
		must(t, orders.Close()) // what the kernel does when the parent dies
		wg.Wait()
		if _, err := client.Get(address.URL); err == nil {
			t.Error("it serves on after its parent")
		}
	}
	if err := agenttest.ServeBaseline(t.Context(), strings.NewReader("no JSON"), io.Discard); err == nil {
		t.Error("it serves without being told what")
	}
}

// TestLoadBaseline compares the test's own server with the bare one.
func TestLoadBaseline(t *testing.T) {
	t.Setenv(bareEnv, "1")
	s := newServer(t)
	options := agenttest.LoadOptions{
		Fleet: agenttest.FleetOptions{URL: s.url(), RootCAs: s.pool, Secret: secret, Nodes: 20, Rows: 3},
		Alone: true, Concurrency: 4, Warmup: 20 * time.Millisecond, Duration: 400 * time.Millisecond, ServerPID: os.Getpid(),
		Baseline: &agenttest.Baseline{Command: os.Args[:1]},
	}
	for op, conn := range map[agenttest.Op]agentwire.Conn{
		agenttest.OpConfig: agentwire.Full, agenttest.OpRead: agentwire.KeepAlive, agenttest.OpLog: agentwire.KeepAlive,
	} {
		options.Only, options.Fleet.Conn = op, conn
		r, err := agenttest.Load(t.Context(), options)
		must(t, err)
		if b := r.Baseline; b == nil || b.Count == 0 || b.Errors != 0 || b.P50 <= 0 || b.ServerCPU == nil || b.Key != "ecdsa-p256" || len(b.Handshakes) != 1 {
			t.Fatalf("only %s: baseline %+v", op, b)
		}
		if conn == agentwire.KeepAlive && r.Baseline.Handshakes[0].Count != 20 {
			t.Errorf("only %s: %d connections for 20 nodes", op, r.Baseline.Handshakes[0].Count)
		}
		if r.Count == 0 || r.Errors != 0 || r.Ratio == nil || *r.Ratio <= 0 || r.RatioMedian == nil || r.Generator.CPUPerRequest <= 0 {
			t.Errorf("only %s: %+v", op, r)
		}
		if r.Seconds <= 0 || r.Seconds > 0.4+r.Operations[op.String()].Max/1000 {
			t.Errorf("only %s: %g s measured, want half of 0.4 s", op, r.Seconds)
		}
	}
	options.Baseline = &agenttest.Baseline{Command: []string{"/nonexistent"}}
	if _, err := agenttest.Load(t.Context(), options); err == nil || !strings.Contains(err.Error(), "start the bare server") {
		t.Errorf("no such program: %v", err)
	}
	options.Baseline.Command = []string{"/bin/true"}
	if _, err := agenttest.Load(t.Context(), options); err == nil || !strings.Contains(err.Error(), "start the bare server") {
		t.Errorf("a program that is none: %v", err)
	}
	options.ServerPID = 0
	if _, err := agenttest.Load(t.Context(), options); err == nil || !strings.Contains(err.Error(), "ServerPID") {
		t.Errorf("without a process to compare: %v", err)
	}
}

// TestHandshakes checks what a fleet says of its handshakes.
func TestHandshakes(t *testing.T) {
	s := newServer(t)
	for k, want := range map[agentwire.KeyExchange]string{
		"": "X25519", agentwire.P256: "CurveP256", agentwire.MLKEM: "X25519MLKEM768",
	} {
		f := s.fleet(t, agenttest.FleetOptions{Nodes: 3, KeyExchange: k})
		_, err := f.Enroll(t.Context())
		must(t, err)
		if got := f.Handshakes(); len(got) != 1 || got[0] != (agenttest.Handshake{Version: "TLS 1.3", KeyExchange: want, Count: 3}) {
			t.Errorf("%q: %+v", k, got)
		}
	}
}

// TestVerify checks that remembering a good certificate lets no other in.
func TestVerify(t *testing.T) {
	s := newServer(t)
	n := s.node(t)
	must(t, n.Enroll(t.Context()))
	must(t, n.Enroll(t.Context()))
	s.stop()
	s.cert = newServer(t).cert // of the same name, but nobody trusts it
	s.start()
	if err := n.Enroll(t.Context()); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a certificate of another authority: %v", err)
	}
	other := newServer(t)
	named := agenttest.NewNodes(t, strings.Replace(other.url(), "127.0.0.1", "localhost", 1), other.pool, secret, 1)[0]
	if err := named.Enroll(t.Context()); err == nil || !strings.Contains(err.Error(), "localhost") {
		t.Errorf("a certificate of another name: %v", err)
	}
}

// TestLargeAnswers checks that a large config is judged each time, though an
// equal one was good before.
func TestLargeAnswers(t *testing.T) {
	s := newServer(t)
	n := s.node(t)
	padding := strings.Repeat(" ", 1000)
	for answer, good := range map[string]bool{
		`{"schedule":{}` + padding + `}`:         true,
		`{"error":"no",` + padding + `"a":1}`:    false,
		`{"options":{"error":1}` + padding + `}`: true,
		padding + `<html>`:                       false,
	} {
		s.setConfig(answer)
		for range 2 {
			if _, err := n.Config(t.Context()); (err == nil) != good {
				t.Errorf("%.30q: %v", answer, err)
			}
		}
	}
}
