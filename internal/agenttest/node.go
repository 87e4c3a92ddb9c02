// Package agenttest simulates osquery agents: light enough for thousands in
// one process, exact enough to test and load a server. They share the wire
// code of package agentwire and keep osquery's rules for enrolling, buffering
// log lines and answering live queries. They run no SQL: their rows are made
// up, plausibly and repeatably, from each node's number.
package agenttest

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/musterhq/muster/internal/agentwire"
	"github.com/musterhq/muster/internal/osquery"
)

// Paths of the server's endpoints. An empty one is Muster's own.
type Paths struct{ Enroll, Config, Log, Read, Write, CarveStart, CarveContinue string }

func (p Paths) filled() Paths {
	fill := func(s *string, path string) {
		if *s == "" {
			*s = path
		}
	}
	fill(&p.Enroll, "/api/osquery/enroll")
	fill(&p.Config, "/api/osquery/config")
	fill(&p.Log, "/api/osquery/log")
	fill(&p.Read, "/api/osquery/distributed/read")
	fill(&p.Write, "/api/osquery/distributed/write")
	fill(&p.CarveStart, "/api/osquery/carve/start")
	fill(&p.CarveContinue, "/api/osquery/carve/continue")
	return p
}

// Options of a Node. URL, RootCAs and Secret are required; all else has a
// sensible zero value.
type Options struct {
	URL     string // https://host:port
	RootCAs *x509.CertPool
	Secret  string // shown when enrolling
	// Certificate is shown when the server asks; nil for none.
	Certificate *tls.Certificate
	KeyExchange agentwire.KeyExchange // agentwire.X25519, as real agents do, if empty
	Conn        agentwire.Conn        // agentwire.Full, as real agents do, if empty
	Paths       Paths

	// Number decides what the host is: platform, versions, names, rows.
	Number         int
	HostIdentifier string // the host's UUID if empty
	Platform       string // linux, darwin or windows; by Number if empty
	// Details changes the host_details of the enrolment before they are sent.
	Details func(map[string]map[string]string)

	// MaxBuffered bounds the log lines that wait, 10,000 if 0 (real agents:
	// a million). Above it the oldest are dropped.
	MaxBuffered int
	// Stats receives every request; nil keeps them in the node alone.
	Stats *Stats
	// Tables answers live queries; share one among many nodes. New makes one
	// if nil.
	Tables *Tables
	// Schedules makes the node run its config, see Worker; share one among many
	// nodes. With nil it ignores what it is served.
	Schedules *Schedules

	// Behaviour is how it treats live queries.
	Behaviour Behaviour
	// Carver makes it send files; without one it knows no carves. Share one among
	// many nodes.
	Carver *Carver
	// Answered, if set, is called for each answer to a live query that the server
	// acknowledged.
	Answered func(n *Node, id string)
	// Asked, if set, is called after each poll with the queries that it got.
	Asked func(n *Node, queries map[string]string)

	// What follows is shared by a fleet.
	tls       *tls.Config
	dial      func(ctx context.Context, network, address string) (net.Conn, error)
	connected func(tls.ConnectionState)
	good      *goodAnswer
}

// Node is one simulated agent. It is safe for concurrent use, but has only one
// connection, so that it makes one request at a time where a real agent has
// some threads.
type Node struct {
	o    Options
	wire *agentwire.Client

	enrolling sync.Mutex // held while enrolling, as osquery's own mutex
	wireTurn  sync.Mutex // held during a request, so that waiting is not latency

	mu          sync.Mutex // guards all below
	host        Host
	key         string
	accelerated time.Time // poll faster until then
	answers     []osquery.QueryAnswer
	conduct     conduct
	carves      []nodeCarve
	scheduled   []nodeCarve // of them, not yet told of

	log    logBuffer
	worker *Worker // nil if it ignores its config
}

// New returns a node. It does not connect: the first request enrols it.
func New(o Options) (*Node, error) {
	if o.RootCAs == nil && o.tls == nil {
		return nil, errors.New("simulated agent: RootCAs is missing")
	}
	o.Paths = o.Paths.filled()
	if o.Stats == nil {
		o.Stats = new(Stats)
	}
	if o.Tables == nil {
		o.Tables = new(Tables)
	}
	if o.MaxBuffered <= 0 {
		o.MaxBuffered = 10_000
	}
	if o.good == nil {
		o.good = new(goodAnswer)
	}
	n := &Node{o: o, host: NewHost(o.Number, o.Platform)}
	if n.o.tls == nil {
		var err error
		if n.o.tls, err = clientTLS(o); err != nil {
			return nil, err
		}
	}
	wire, err := agentwire.New(agentwire.Options{
		URL: o.URL, TLS: n.o.tls, Version: n.host.Version, Conn: o.Conn, Dial: o.dial, Connected: o.connected,
	})
	if err != nil {
		return nil, err
	}
	n.wire = wire
	if o.Schedules != nil {
		n.worker = NewWorker(n.host, n.HostIdentifier(), o.Schedules)
	}
	return n, nil
}

// TB is the part of testing.TB that NewNodes needs.
type TB interface {
	Helper()
	Fatal(args ...any)
	Cleanup(f func())
}

// NewNodes returns nodes 1 to count, not yet enrolled, that close with the
// test.
func NewNodes(t TB, serverURL string, roots *x509.CertPool, secret string, count int) []*Node {
	t.Helper()
	tables, nodes := new(Tables), make([]*Node, count)
	for i := range nodes {
		n, err := New(Options{URL: serverURL, RootCAs: roots, Secret: secret, Number: i + 1, Tables: tables})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(n.Close)
		nodes[i] = n
	}
	return nodes
}

// Close drops a kept connection. The node can still be used.
func (n *Node) Close() { n.wire.Close() }

// Host returns what the node pretends to be.
func (n *Node) Host() Host {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.host
}

// HostIdentifier returns the name that the node enrols with.
func (n *Node) HostIdentifier() string {
	if n.o.HostIdentifier != "" {
		return n.o.HostIdentifier
	}
	return n.Host().UUID
}

// Key returns the node key, "" before enrolment and after it was refused.
func (n *Node) Key() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.key
}

// Enroll enrols, also when the node has a key already. It tries once; real
// agents wait n² seconds after the n-th failure.
func (n *Node) Enroll(ctx context.Context) error {
	n.enrolling.Lock()
	defer n.enrolling.Unlock()
	return n.enroll(ctx)
}

// enroll needs n.enrolling.
func (n *Node) enroll(ctx context.Context) error {
	host := n.Host()
	details := host.Details()
	if n.o.Details != nil {
		n.o.Details(details)
	}
	body, err := osquery.EnrollRequest{
		EnrollSecret: n.o.Secret, HostIdentifier: n.HostIdentifier(),
		PlatformType: host.platformType(), HostDetails: details,
	}.Encode()
	if err != nil {
		return fmt.Errorf("enrol: %w", err)
	}
	var key string
	_, err = n.request(ctx, OpEnroll, agentwire.Request{Path: n.o.Paths.Enroll, Body: body}, func(answer []byte) error {
		key, err = nodeKey(answer)
		return err
	})
	if err != nil {
		return fmt.Errorf("enrol: %w", err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.key = key
	return nil
}

// nodeKey reads the answer to an enrolment as the agent does: a key, by either
// name, is all that counts.
func nodeKey(answer []byte) (string, error) {
	var a struct {
		NodeKey any `json:"node_key"`
		ID      any `json:"id"`
	}
	if err := json.Unmarshal(answer, &a); err != nil {
		return "", fmt.Errorf("cannot parse the answer: %w", err)
	}
	if a.NodeKey == nil {
		a.NodeKey = a.ID
	}
	if key, ok := a.NodeKey.(string); ok && key != "" {
		return key, nil
	}
	if err := agentwire.Check(answer); err != nil {
		return "", err
	}
	return "", errors.New("the answer has no node key")
}

// request makes one request, judges the answer and counts both.
func (n *Node) request(ctx context.Context, op Op, r agentwire.Request, judge func([]byte) error) ([]byte, error) {
	n.wireTurn.Lock()
	defer n.wireTurn.Unlock()
	start := time.Now()
	answer, err := n.wire.PostRaw(ctx, r)
	took := time.Since(start)
	if err == nil {
		err = judge(answer)
	}
	if err == nil || ctx.Err() == nil { // giving up is no error of the server
		n.o.Stats.Observe(op, took, err)
	}
	return answer, err
}

// call makes a request with the node's key, enrolling if there is none. If the
// key is refused it enrols and asks once more.
func (n *Node) call(ctx context.Context, op Op, path string, body func(key string) ([]byte, error)) ([]byte, error) {
	for again := false; ; again = true {
		key, err := n.ensureKey(ctx)
		if err != nil {
			return nil, err
		}
		b, err := body(key)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", op, err)
		}
		answer, err := n.request(ctx, op, agentwire.Request{Path: path, NodeKey: key, Body: b}, n.o.good.judge)
		if err == nil {
			return answer, nil
		}
		if errors.Is(err, agentwire.ErrNodeInvalid) {
			n.forget(key)
			if !again {
				continue
			}
		}
		return nil, fmt.Errorf("%s: %w", op, err)
	}
}

func (n *Node) ensureKey(ctx context.Context) (string, error) {
	if key := n.Key(); key != "" {
		return key, nil
	}
	n.enrolling.Lock()
	defer n.enrolling.Unlock()
	if key := n.Key(); key != "" {
		return key, nil
	}
	if err := n.enroll(ctx); err != nil {
		return "", err
	}
	return n.Key(), nil
}

// forget drops a key that was refused. A newer one stays; the real agent would
// lose that too.
func (n *Node) forget(key string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.key == key {
		n.key = ""
	}
}

// keyed is osquery.KeyedRequest.Encode for keys that came as JSON.
func keyed(key string) ([]byte, error) {
	const form = `{"node_key":""}`
	body := append(make([]byte, 0, len(form)+len(key)), `{"node_key":`...)
	return append(appendString(body, key), '}'), nil
}

// Config fetches the config document and returns it as it came. Do not write to
// it. A node with Options.Schedules runs it from then on.
func (n *Node) Config(ctx context.Context) ([]byte, error) {
	body, err := n.call(ctx, OpConfig, n.o.Paths.Config, keyed)
	if err == nil && n.worker != nil {
		err = n.worker.Configure(body, time.Now())
	}
	return body, err
}

// Work buffers the result lines that the node's config asks for up to now, and
// sends its status lines. It needs Options.Schedules; without, it does nothing.
func (n *Node) Work(ctx context.Context, now time.Time) error {
	if n.worker == nil {
		return nil
	}
	results, statuses := n.worker.Run(now)
	n.Buffer(results...)
	if len(statuses) == 0 {
		return nil
	}
	return n.Log(ctx, statuses, osquery.LogTypeStatus)
}

// Log sends lines at once, past the buffer. The type is osquery.LogTypeResult
// or osquery.LogTypeStatus.
func (n *Node) Log(ctx context.Context, lines []json.RawMessage, logType string) error {
	_, err := n.call(ctx, OpLog, n.o.Paths.Log, func(key string) ([]byte, error) {
		return osquery.EncodeLog(key, logType, lines, false), nil
	})
	return err
}

// Read asks for live queries.
func (n *Node) Read(ctx context.Context) (osquery.DistributedReadResponse, error) {
	answer, err := n.call(ctx, OpRead, n.o.Paths.Read, keyed)
	if err != nil {
		return osquery.DistributedReadResponse{}, err
	}
	return decodeRead(answer)
}

// Write sends the answers to live queries.
func (n *Node) Write(ctx context.Context, answers []osquery.QueryAnswer) error {
	_, err := n.call(ctx, OpWrite, n.o.Paths.Write, func(key string) ([]byte, error) {
		return osquery.EncodeDistributedWrite(key, answers)
	})
	return err
}

// become makes the node another one, not enrolled, that uses the same
// connection.
func (n *Node) become(number int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.host, n.key = NewHost(number, n.o.Platform), ""
}
