package weather

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/musterhq/muster/internal/agenttest"
	"github.com/musterhq/muster/internal/osquery"
)

// Rubbish of whom, and for how long if nothing else is said.
const (
	rubbishFor     = 10 * time.Second
	rubbishWorkers = 4
	// rubbishWait bounds the wait for an answer to what deserves none.
	rubbishWait = 50 * time.Millisecond
)

// Rubbish sends what no agent would, at random but repeatably: bytes, broken
// handshakes, HTTP without TLS, wrong methods and paths, bodies with flipped
// bits; and rows whose text is none, which must be found as they were said.
func Rubbish(ctx context.Context, o Options) (*Report, error) {
	// A handler that panics is logged at the level debug.
	s, err := raise(ctx, o, "MUSTER_LOG_LEVEL=debug", "MUSTER_FLUSH_EVENTS=2000")
	defer s.close()
	if err != nil {
		return s.report, err
	}
	random := s.random()
	err = s.populate(ctx, agenttest.FleetOptions{
		Nodes: 20, LogInterval: 200 * time.Millisecond, Rows: 5,
		ConfigInterval: 200 * time.Millisecond, ReadInterval: 200 * time.Millisecond,
	})
	if err != nil {
		return s.report, err
	}
	calm, err := s.calm(ctx, time.Second)
	if err != nil {
		return s.report, err
	}
	if err := s.litter(ctx, random.Uint64()); err != nil {
		return s.report, err
	}
	storm := s.lap("rubbish")
	s.report.polls("", storm)
	s.report.zero("logs refused", storm.log.Errors)
	s.report.zero("panics", int64(strings.Count(s.server.Log().String(), "panic")))
	if err := s.oddRows(ctx, random); err != nil {
		return s.report, err
	}
	s.report.compare(calm, storm)
	return s.finish(ctx)
}

// litterer sends rubbish and counts how it was answered. Each worker has its
// own.
type litterer struct {
	*stranger

	url, secret, key string
	random           *rand.Rand
	hello            []byte // a good first record of TLS
	sent             map[string]int64
	wrong            map[string]int64 // answers that break a promise
}

// litter sends rubbish from several workers.
func (s *stage) litter(ctx context.Context, seed uint64) error {
	from, err := s.stranger()
	if err != nil {
		return err
	}
	hello, err := clientHello(ctx, from.tls)
	if err != nil {
		return err
	}
	// What is under way when the time is over still gets its answer.
	going, cancel := context.WithTimeout(ctx, cmp.Or(s.For, rubbishFor))
	defer cancel()
	var wg sync.WaitGroup
	workers := make([]*litterer, rubbishWorkers)
	for i := range workers {
		l := &litterer{
			stranger: from, url: s.server.AgentURL, secret: s.secret, key: s.keys[i], hello: hello,
			random: rand.New(rand.NewPCG(seed, uint64(i))), //nolint:gosec // repeatable, not secret
			sent:   map[string]int64{}, wrong: map[string]int64{},
		}
		workers[i] = l
		wg.Go(func() {
			for going.Err() == nil {
				l.drop(ctx)
			}
		})
	}
	wg.Wait()
	sent, wrong := map[string]int64{}, map[string]int64{}
	for _, l := range workers {
		for kind, count := range l.sent {
			sent[kind] += count
		}
		for problem, count := range l.wrong {
			wrong[problem] += count
		}
	}
	for _, kind := range slices.Sorted(maps.Keys(sent)) {
		s.report.fact("sent: "+kind, "%d", sent[kind])
	}
	var all int64
	for problem, count := range wrong {
		all += count
		s.say("%d × %s", count, problem)
	}
	s.report.zero("answers that harm an agent, or none", all)
	return s.server.Alive()
}

// drop sends one piece of rubbish.
func (l *litterer) drop(ctx context.Context) {
	type piece struct {
		kind string
		send func(context.Context) error
	}
	p := []piece{
		{"random bytes", l.bytes},
		{"half or broken handshakes", l.halfHandshake},
		{"HTTP without TLS", l.withoutTLS},
		{"random bytes in TLS", l.bytesInTLS},
		{"wrong methods and paths", l.wrongPlace},
		{"keys that are not known", l.unknownKey},
		{"bodies with flipped bits", l.flipped},
	}[l.random.IntN(7)]
	l.sent[p.kind]++
	if err := p.send(ctx); err != nil {
		l.wrong[p.kind+": "+err.Error()]++
	}
}

// one returns one of the choices.
func one(random *rand.Rand, choices ...string) string { return choices[random.IntN(len(choices))] }

// some returns up to n random bytes.
func (l *litterer) some(n int) []byte {
	b := make([]byte, 1+l.random.IntN(n))
	for i := range b {
		b[i] = byte(l.random.UintN(256)) //nolint:gosec // under 256
	}
	return b
}

// spill writes to a connection and reads what comes until it is closed or a
// moment has passed. How the server ends it does not matter.
func spill(conn net.Conn, b []byte) {
	defer conn.Close() //nolint:errcheck // nothing is lost
	_ = conn.SetDeadline(time.Now().Add(rubbishWait))
	if _, err := conn.Write(b); err == nil {
		_, _ = io.Copy(io.Discard, io.LimitReader(conn, 1<<16))
	}
}

func (l *litterer) bytes(ctx context.Context) error {
	conn, err := l.dial(ctx)
	if err != nil {
		return err
	}
	spill(conn, l.some(4096))
	return nil
}

func (l *litterer) halfHandshake(ctx context.Context) error {
	conn, err := l.dial(ctx)
	if err != nil {
		return err
	}
	hello := slices.Clone(l.hello)
	if l.random.IntN(2) == 0 {
		hello = hello[:l.random.IntN(len(hello))]
	} else {
		l.flip(hello)
	}
	spill(conn, hello)
	return nil
}

func (l *litterer) withoutTLS(ctx context.Context) error {
	conn, err := l.dial(ctx)
	if err != nil {
		return err
	}
	spill(conn, []byte("POST "+configPath+" HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"))
	return nil
}

func (l *litterer) bytesInTLS(ctx context.Context) error {
	conn, err := l.dialTLS(ctx)
	if err != nil {
		return err
	}
	b := l.some(4096)
	if l.random.IntN(2) == 0 {
		b = append([]byte("POST "+logPath+" HTTP/1.1\r\nHost: x\r\n"), b...)
	}
	spill(conn, b)
	return nil
}

// post makes a request with a known key and judges the answer.
func (l *litterer) post(ctx context.Context, method, path, key string, body []byte) (answer, error) {
	r, err := http.NewRequestWithContext(ctx, method, l.url+path, bytes.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	r.Header.Set("Authorization", "NodeKey "+key)
	a, err := l.send(r)
	if err == nil && a.status >= http.StatusInternalServerError {
		err = fmt.Errorf("answered %d %q to what is merely wrong", a.status, a.refusal)
	}
	return a, err
}

func (l *litterer) wrongPlace(ctx context.Context) error {
	method, path := one(l.random, http.MethodDelete, http.MethodPatch, http.MethodOptions, "MUSTER"), one(l.random, configPath, logPath, readPath)
	if l.random.IntN(2) == 0 {
		method = one(l.random, http.MethodGet, http.MethodPost, http.MethodPut, method)
		path = one(l.random, "/", "/api/v1/nodes", "/api/osquery/nothing", "/api/osquery/%2e%2e/%00", "/api/osquery//config//x")
	}
	a, err := l.post(ctx, method, path, l.key, nil)
	if err == nil && (a.refusal == "" || a.nodeInvalid) {
		return fmt.Errorf("%s %s was answered %d %q", method, path, a.status, a.refusal)
	}
	return err
}

func (l *litterer) unknownKey(ctx context.Context) error {
	key := fmt.Sprintf("%x", l.some(40))
	a, err := l.post(ctx, http.MethodPost, configPath, key, []byte(`{"node_key":"`+key+`"}`))
	if err == nil && !a.nodeInvalid {
		return fmt.Errorf("an unknown key was answered %d %q without node_invalid", a.status, a.refusal)
	}
	return err
}

// flip changes some bits.
func (l *litterer) flip(b []byte) {
	for range 1 + l.random.IntN(8) {
		b[l.random.IntN(len(b))] ^= 1 << l.random.IntN(8)
	}
}

func (l *litterer) flipped(ctx context.Context) error {
	bodies := map[string]string{
		enrollPath: `{"enroll_secret":"` + l.secret + `","host_identifier":"rubbish","platform_type":"9","host_details":{"os_version":{"name":"x"},"system_info":{"hostname":"rubbish"}}}`,
		configPath: `{"node_key":"` + l.key + `"}`,
		logPath: `{"node_key":"` + l.key + `","log_type":"result","data":[{"name":"rubbish","hostIdentifier":"h","calendarTime":"","unixTime":1700000000,"epoch":0,"counter":1,"numerics":false,` +
			`"decorations":{"a":"b"},"columns":{"a":"1","b":"\u00e4\u0000"},"action":"added"},{"name":"rubbish","snapshot":[{"a":"b"}],"action":"snapshot"}]}`,
		readPath:  `{"node_key":"` + l.key + `"}`,
		writePath: `{"node_key":"` + l.key + `","queries":{"x":[{"a":"b"}],"y":""},"statuses":{"x":0,"y":"1"},"messages":{"y":"no"}}`,
	}
	path := one(l.random, enrollPath, configPath, logPath, readPath, writePath)
	body := []byte(bodies[path])
	if l.random.IntN(4) > 0 {
		l.flip(body)
	} else {
		body = l.some(4096)
	}
	a, err := l.post(ctx, http.MethodPost, path, l.key, body)
	if err == nil && a.nodeInvalid {
		return fmt.Errorf("answered node_invalid on %s to a key that is known", path)
	}
	return err
}

// clientHello returns what a TLS client says first.
func clientHello(ctx context.Context, c *tls.Config) ([]byte, error) {
	ours, theirs := net.Pipe()
	var shaking sync.WaitGroup
	shaking.Go(func() { _ = tls.Client(theirs, c).HandshakeContext(ctx) }) // it never gets an answer
	hello := make([]byte, 4096)
	n, err := ours.Read(hello)
	_ = ours.Close() // ends the handshake
	shaking.Wait()
	return hello[:n], err
}

// oddQuery names the rows of oddRows.
const oddQuery = "weather_odd_rows"

// oddRows logs rows whose text is not UTF-8 or holds NULs, and finds each: a
// byte that is no text as \xNN, as osquery itself writes it, a NUL as it is.
func (s *stage) oddRows(ctx context.Context, random *rand.Rand) error {
	const count = 50
	want := map[string]string{}
	var lines []json.RawMessage
	for i := range count {
		raw, text := oddText(random)
		id := strconv.Itoa(i)
		want[id] = text
		lines = append(lines, json.RawMessage(`{"name":"`+oddQuery+`","unixTime":`+strconv.FormatInt(time.Now().Unix(), 10)+
			`,"columns":{"id":"`+id+`","text":"`+raw+`"},"action":"added"}`))
	}
	if err := s.fleet.Nodes()[0].Log(ctx, lines, osquery.LogTypeResult); err != nil {
		return fmt.Errorf("log rows that are no text: %w", err)
	}
	found, err := s.odd(ctx)
	if err != nil {
		return err
	}
	different := int64(0)
	for id, text := range want {
		if !slices.Equal(found[id], []string{text}) {
			different++
			s.say("row %s is %q, found as %q", id, text, found[id])
		}
	}
	s.report.fact("rows that are no text", "%d", count)
	s.report.zero("not found as they were said", different)
	return s.oddWhere(ctx, want)
}

// oddWhere looks for one row by its text, as a person would who copied it.
func (s *stage) oddWhere(ctx context.Context, want map[string]string) error {
	for _, id := range slices.Sorted(maps.Keys(want)) {
		text := want[id]
		if strings.ContainsRune(text, 0) || !strings.Contains(text, `\x`) {
			continue // no command line can hold a NUL
		}
		found, err := s.odd(ctx, "--where", `text = "`+text+`"`)
		if err != nil {
			return err
		}
		s.report.promise(slices.Contains(found[id], text), `found by its \xNN`, fmt.Sprintf("%d row", len(found)), "must be found")
		return nil
	}
	return errors.New("no row had a byte that is no text; use another seed")
}

// odd returns the odd rows that a search finds, by id.
func (s *stage) odd(ctx context.Context, args ...string) (map[string][]string, error) {
	var events []struct {
		Columns map[string]string `json:"columns"`
	}
	err := s.server.JSON(ctx, &events, append([]string{"event", "search", "--query", oddQuery, "--limit", "1000"}, args...)...)
	found := map[string][]string{}
	for _, e := range events {
		id := e.Columns["id"]
		found[id] = append(found[id], e.Columns["text"])
	}
	return found, err
}

// oddText returns random bytes as they stand within a JSON string, and the text
// that must be found.
func oddText(random *rand.Rand) (raw, text string) {
	var b, said []byte
	for range 1 + random.IntN(40) {
		switch c := byte(random.UintN(256)); { //nolint:gosec // under 256
		case c == '"' || c == '\\':
		case c < ' ':
			b, said = fmt.Appendf(b, `\u%04x`, c), append(said, c)
		default:
			b, said = append(b, c), append(said, c)
		}
	}
	return string(b), osquery.Clean(said)
}
