package agenttest

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Baseline is how a load starts a bare server to compare the server under test
// with: what anybody gets from Go's net/http over TLS with nothing tuned, in a
// process of its own, so that its CPU time is known.
type Baseline struct {
	// Command is a program and its arguments that run ServeBaseline on their
	// standard input and output.
	Command []string
	// RSA gives it an RSA-2048 certificate in place of an ECDSA P-256 one.
	RSA bool
}

// bareOrder is what the bare server is told: one line of JSON on its input.
type bareOrder struct {
	RSA         bool `json:"rsa"`
	ConfigBytes int  `json:"config_bytes"` // size of an answer to config
}

// bareAddress is what it answers: one line of JSON on its output.
type bareAddress struct {
	URL         string `json:"url"`
	Certificate []byte `json:"certificate"` // DER, its own root
}

// ServeBaseline is a bare HTTPS server on the loopback, which reads each
// request to its end and answers a constant. It reads what it shall be from in,
// writes where it listens to out, and serves until in ends, so that it does not
// outlive who holds the other end, or until ctx does.
func ServeBaseline(ctx context.Context, in io.Reader, out io.Writer) error {
	var order bareOrder
	if err := json.NewDecoder(in).Decode(&order); err != nil {
		return fmt.Errorf("read what the bare server shall be: %w", err)
	}
	certificate, err := bareCertificate(order.RSA)
	if err != nil {
		return fmt.Errorf("certificate of the bare server: %w", err)
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{ //nolint:gosec // no timeouts: nothing is tuned, and only its parent finds it
		Handler:   bareHandler(order.ConfigBytes),
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12},
	}
	defer context.AfterFunc(ctx, func() { _ = server.Close() })()
	go func() {
		_, _ = io.Copy(io.Discard, in)
		_ = server.Close()
	}()
	address := bareAddress{URL: "https://" + listener.Addr().String(), Certificate: certificate.Certificate[0]}
	if err := json.NewEncoder(out).Encode(address); err != nil {
		return errors.Join(err, listener.Close())
	}
	if err := server.ServeTLS(listener, "", ""); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// bareHandler answers configs of the given size. It says how long answers are
// and of which type, because a server that lets net/http find out pays for it.
func bareHandler(configBytes int) http.Handler {
	answers, paths := map[string][]byte{}, Paths{}.filled()
	answers[paths.Config] = []byte("{" + strings.Repeat(" ", max(0, configBytes-len("{}"))) + "}")
	answers[paths.Enroll] = []byte(`{"node_key":"any"}`)
	answers[paths.Read] = []byte(`{"queries":{}}`)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		answer, ok := answers[r.URL.Path]
		if !ok {
			answer = []byte(`{}`)
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", strconv.Itoa(len(answer)))
		_, _ = w.Write(answer)
	})
}

// bareCertificate makes a certificate that lasts for a day.
func bareCertificate(useRSA bool) (tls.Certificate, error) {
	var (
		key crypto.Signer
		err error
	)
	if useRSA {
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	} else {
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	if err != nil {
		return tls.Certificate{}, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: "bare server"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}

// bareGC makes up for the program around the bare server, whose variables the
// collector looks at each time: with Go's 100, a small program of the same code
// took 8 % less CPU time for direct requests, with 200 it took 4 % more, and
// with this as much.
const bareGC = "GOGC=150"

// bareProcess is a bare server that runs, and the same nodes as its agents.
type bareProcess struct {
	cmd    *exec.Cmd
	orders io.Closer // it ends with this
	fleet  *Fleet
}

// startBare starts the process, in a session of its own if apart, and makes the
// fleet's nodes known to it: it answers any key, and requests are to be of the
// same size.
func startBare(ctx context.Context, o Baseline, configBytes int, like *Fleet, apart bool) (_ *bareProcess, err error) {
	b := &bareProcess{cmd: exec.CommandContext(ctx, o.Command[0], o.Command[1:]...)} //nolint:gosec // the caller names its own program
	b.cmd.Stderr = os.Stderr
	b.cmd.Env = append(os.Environ(), bareGC)
	if apart {
		newSession(b.cmd)
	}
	orders, err := b.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	b.orders = orders
	out, err := b.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := b.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the bare server: %w", err)
	}
	defer func() {
		if err != nil {
			b.stop()
		}
	}()
	if err := json.NewEncoder(orders).Encode(bareOrder{RSA: o.RSA, ConfigBytes: configBytes}); err != nil {
		return nil, fmt.Errorf("start the bare server: %w", err)
	}
	var address bareAddress
	if err := json.NewDecoder(out).Decode(&address); err != nil {
		return nil, fmt.Errorf("start the bare server: it does not say where it listens: %w", err)
	}
	certificate, err := x509.ParseCertificate(address.Certificate)
	if err != nil {
		return nil, fmt.Errorf("certificate of the bare server: %w", err)
	}
	options := like.o
	options.URL, options.Paths, options.Certificate, options.EnrollRate = address.URL, Paths{}, nil, 0
	options.RootCAs = x509.NewCertPool()
	options.RootCAs.AddCert(certificate)
	if b.fleet, err = NewFleet(options); err != nil {
		return nil, err
	}
	// Enrolling opens the connections that are to be kept, as it did with the
	// server under test.
	if _, err := b.fleet.Enroll(ctx); err != nil {
		return nil, fmt.Errorf("connect to the bare server: %w", err)
	}
	for i, n := range b.fleet.nodes {
		n.key = like.nodes[i].Key()
	}
	return b, nil
}

// stop ends the process and waits for it.
func (b *bareProcess) stop() {
	if b.fleet != nil {
		b.fleet.Close()
	}
	_ = b.orders.Close()
	_ = b.cmd.Wait() // it was told to end, however it does
}

// turn is about how long one of two servers is measured before the other is:
// short, so that what else the machine does hits both alike, and long beside the
// ticks in which CPU time is counted and the wait for the last answers.
const turn = time.Second

// compare measures the server under test and a bare one in turns. The CPU time
// of each is counted in the other's turns too, so that what it puts off until it
// has no requests (an index, collecting garbage) is not lost.
func (l *load) compare(ctx context.Context) error {
	configBytes := 0
	if l.o.Only == OpConfig {
		config, err := l.fleet.nodes[0].Config(ctx)
		if err != nil {
			return fmt.Errorf("ask for a config, to know its size: %w", err)
		}
		configBytes = len(config)
	}
	now, err := l.mark()
	if err != nil {
		return err
	}
	// Linux shares the processors out by sessions (sched_autogroup), and a
	// server that often runs at once, for little, takes more CPU time for the
	// same work: up to a fifth was seen. So if the server under test is in
	// another session than the generator, the bare one has to be, too.
	apart := now.server.Session != now.own.Session
	if l.bare, err = startBare(ctx, *l.o.Baseline, configBytes, l.fleet, apart); err != nil {
		return err
	}
	defer l.bare.stop()
	server, err := l.fleet.newLoop(l.o.Only, l.o.Concurrency)
	if err != nil {
		return err
	}
	bare, err := l.bare.fleet.newLoop(l.o.Only, l.o.Concurrency)
	if err != nil {
		return err
	}
	log, turns := l.o.Fleet.Logger, []*loop{server, bare}
	if l.o.Warmup > 0 {
		log.InfoContext(ctx, "warming up", "for", l.o.Warmup)
	}
	for _, t := range turns {
		if l.o.Warmup > 0 {
			t.runFor(ctx, l.o.Warmup/2)
		}
		t.forget()
	}
	begin, err := l.mark()
	if err != nil {
		return err
	}
	log.InfoContext(ctx, "measuring, in turns with a bare server", "for", l.o.Duration)
	rounds := make([]mark, 1+max(1, int((l.o.Duration+turn)/(2*turn))))
	rounds[0] = begin
	for i := range rounds[1:] {
		for _, t := range turns {
			t.runFor(ctx, l.o.Duration/time.Duration(2*(len(rounds)-1)))
		}
		slices.Reverse(turns) // so that a machine that slows down favours neither
		if rounds[i+1], err = l.mark(); err != nil {
			return err
		}
	}
	l.fill(begin, rounds[len(rounds)-1], server.took)
	l.fillBaseline(rounds, bare.took)
	return nil
}

// fillBaseline adds the bare server, which had requests for the time took.
func (l *load) fillBaseline(rounds []mark, took time.Duration) {
	r, s := &l.report, l.bare.fleet.Stats().Of(l.o.Only)
	begin, end := rounds[0], rounds[len(rounds)-1]
	r.Baseline = &BaselineReport{
		Key: "ecdsa-p256", OperationReport: operation(s, took), Handshakes: l.bare.fleet.Handshakes(),
	}
	if l.o.Baseline.RSA {
		r.Baseline.Key = "rsa-2048"
	}
	r.Baseline.ServerCPU = perThousand(end.bare.CPU-begin.bare.CPU, s.Count)
	r.Generator.CPUPerRequest = perRequest(end.own.CPU-begin.own.CPU, r.Count+s.Count)
	r.Ratio = ratio(begin, end)
	var each []float64
	for i, end := range rounds[1:] {
		if v := ratio(rounds[i], end); v != nil {
			each = append(each, *v)
		}
	}
	if len(each) > 0 {
		slices.Sort(each)
		r.RatioMedian = &each[len(each)/2]
	}
}

// ratio is how much CPU time a request took the server under test for each
// second that one took the bare server; nil if either is not known.
func ratio(begin, end mark) *float64 {
	requests, bareRequests := end.requests-begin.requests, end.bareRequests-begin.bareRequests
	cpu, bareCPU := end.server.CPU-begin.server.CPU, end.bare.CPU-begin.bare.CPU
	if requests == 0 || bareRequests == 0 || bareCPU == 0 {
		return nil
	}
	return new(round(float64(cpu) / float64(requests) / (float64(bareCPU) / float64(bareRequests))))
}
