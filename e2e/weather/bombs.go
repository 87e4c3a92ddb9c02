package weather

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/klauspost/compress/gzip"

	"github.com/musterhq/muster/internal/agenttest"
	"github.com/musterhq/muster/internal/osquery"
)

// bombMemory is what bombs may cost beyond a legal body of the largest size.
const bombMemory = 32 << 20

// legalLines lines of legalLine bytes make nearly the 64 MiB that the log
// endpoint takes.
const (
	legalLines = agenttest.MaxLines
	legalLine  = 63 << 10
)

// bomb is a request that is not what it seems. Its body is made anew for each
// use, and not held as a whole.
type bomb struct {
	name, path, encoding string
	body                 func() io.Reader
	length               int64 // announced; -1 for none
	long                 bool  // left out when the scenario is short
	// harmless says that it may be taken: what there is of it makes sense.
	harmless bool
}

// Bombs sends bodies that are far larger inside than outside, deeper than any
// parser likes, or simply too large. Each is refused in JSON while there is an
// agent to hear it, and none costs much more memory than the largest legal body.
func Bombs(ctx context.Context, o Options) (*Report, error) {
	legal := int64(0)
	if !o.Short {
		var err error
		if legal, err = legalMemory(ctx, o); err != nil {
			return nil, err
		}
	}
	s, err := raise(ctx, o)
	defer s.close()
	if err != nil {
		return s.report, err
	}
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
	if err := s.throw(ctx, legal); err != nil {
		return s.report, err
	}
	storm := s.lap("bombs")
	s.report.polls("", storm)
	s.report.zero("logs refused", storm.log.Errors)
	s.report.compare(calm, storm)
	if _, err := s.finish(ctx); err != nil || o.Short {
		return s.report, err
	}
	began := time.Now()
	err = s.server.Stop()
	s.report.promise(err == nil, "the server stops", fmt.Sprintf("error %v, after %s", err, round(time.Since(began))), "must be none")
	return s.report, nil
}

// legalMemory returns how much memory the largest legal body costs a server
// that is otherwise idle: what an agent may send that was offline for long.
func legalMemory(ctx context.Context, o Options) (int64, error) {
	o.Dir = filepath.Join(o.Dir, "legal")
	s, err := raise(ctx, o)
	defer s.close()
	if err != nil {
		return 0, err
	}
	if err := s.populate(ctx, agenttest.FleetOptions{Nodes: 1}); err != nil {
		return 0, err
	}
	line, err := json.Marshal(map[string]any{
		"name": "bombs_legal", "action": "added", "columns": map[string]string{"text": strings.Repeat("a", legalLine)},
	})
	if err != nil {
		return 0, err
	}
	before, err := s.server.Usage()
	if err != nil {
		return 0, err
	}
	began := time.Now()
	lines := slices.Repeat([]json.RawMessage{line}, legalLines)
	if err := s.fleet.Nodes()[0].Log(ctx, lines, osquery.LogTypeResult); err != nil {
		return 0, fmt.Errorf("a legal body of %d lines: %w", legalLines, err)
	}
	took := time.Since(began)
	after, err := s.server.Usage()
	if err != nil {
		return 0, err
	}
	cost := after.PeakRSS - before.RSS
	s.say("another server takes a legal body of %s within %s; RSS grows by %s", mebibytes(legalLines*int64(len(line))), round(took), mebibytes(cost))
	return cost, s.fleet.Stop()
}

// throw sends all bombs, one after another. Legal is the memory that none may
// exceed by much; 0 looks at none.
func (s *stage) throw(ctx context.Context, legal int64) error {
	from, err := s.stranger()
	if err != nil {
		return err
	}
	all, err := bombs(s.keys[0])
	if err != nil {
		return err
	}
	if s.Short {
		all = slices.DeleteFunc(all, func(b bomb) bool { return b.long })
	}
	var wrong, most int64
	var slowest time.Duration
	for _, b := range all {
		a, grown, err := s.measured(ctx, from, b)
		slowest, most = max(slowest, a.took), max(most, grown)
		if err == nil {
			s.say("%s: %d after %s, RSS grows by %s: %.80q", b.name, a.status, round(a.took), mebibytes(grown), a.refusal)
			continue
		}
		wrong++
		s.say("%s: %v", b.name, err)
		if err := s.server.Alive(); err != nil {
			return err
		}
	}
	s.report.fact("bombs", "%d", len(all))
	s.report.zero("not refused in JSON, or not in time", wrong)
	s.report.fact("slowest answer to a bomb", "%s", round(slowest))
	if legal > 0 {
		s.report.fact("RSS for a legal body of 64 MiB", "%s", mebibytes(legal))
		s.report.promise(most <= legal+bombMemory, "RSS for the largest bomb", mebibytes(most), "at most "+mebibytes(bombMemory)+" more")
	}
	return nil
}

// measured sends one bomb and returns how much memory it cost.
func (s *stage) measured(ctx context.Context, from *stranger, b bomb) (a answer, grown int64, err error) {
	before, err := s.server.Usage()
	if err != nil {
		return a, 0, err
	}
	if err := s.server.ResetPeak(); err != nil {
		return a, 0, err
	}
	a, err = s.explode(ctx, from, b)
	after, usage := s.server.Usage()
	return a, max(0, after.PeakRSS-before.RSS), errors.Join(err, usage)
}

// explode sends one bomb; an answer that breaks a promise is an error.
func (s *stage) explode(ctx context.Context, from *stranger, b bomb) (answer, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.server.AgentURL+b.path, b.body())
	if err != nil {
		return answer{}, err
	}
	r.ContentLength = b.length
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", "NodeKey "+s.keys[0])
	if b.encoding != "" {
		r.Header.Set("Content-Encoding", b.encoding)
	}
	a, err := from.send(r)
	switch {
	case err != nil:
		return a, err
	case a.nodeInvalid:
		return a, errors.New("answered node_invalid to a key that is known")
	case b.harmless && a.status == http.StatusOK:
		return a, nil
	case a.refusal == "" || a.status != http.StatusBadRequest && a.status != http.StatusRequestEntityTooLarge:
		return a, fmt.Errorf("answered %d %q; it must be refused with 400 or 413", a.status, a.refusal)
	}
	return a, nil
}

// A gibibyte of zeros is a mebibyte in gzip. It is made of members, which gzip
// allows, as only the first costs time.
const (
	zeroMember  = 16 << 20
	zeroMembers = 1 << 30 / zeroMember
)

func bombs(key string) ([]bomb, error) {
	member, err := squeeze(make([]byte, zeroMember))
	if err != nil {
		return nil, err
	}
	zeros := bytes.Repeat(member, zeroMembers)
	nested, err := squeeze(zeros)
	if err != nil {
		return nil, err
	}
	log := `{"node_key":"` + key + `","log_type":"result","data":[`
	row := log + `{"name":"bombs","action":"added","columns":{`
	const many = 1_000_000
	all := []bomb{
		packed("1 GiB of zeros to log", logPath, "gzip", zeros),
		packed("1 GiB of zeros to config", configPath, "gzip", zeros),
		packed("1 GiB of zeros to distributed/write", writePath, "GZIP", zeros),
		packed("gzip in gzip, said once", logPath, "gzip", nested),
		packed("gzip in gzip, said twice", logPath, "gzip, gzip", nested),
		packed("half a gzip", logPath, "gzip", zeros[:len(zeros)/2]),
		plain("arrays a million deep", logPath, log+strings.Repeat("[", many)),
		plain("objects a million deep", logPath, log+strings.Repeat(`{"a":`, many)),
		plain("arrays a million deep, closed", writePath, log+strings.Repeat("[", many)+strings.Repeat("]", many)+"]}"),
		plain("32 million commas", logPath, log+strings.Repeat("0,", 32*many-many)+"0]}"),
		plain("a number of 10 MB to config", configPath, `{"node_key":`+strings.Repeat("9", 10*many)+`}`),
		harmless("a million keys in a body", `{"log_type":"result","data":[]`+keys(many)+`}`),
		harmless("every key twice", `{"node_key":"a","node_key":"`+key+`","log_type":"status","log_type":"result","data":[],"data":"x"}`),
		harmless("a number of 10 MB", row+`"n":`+strings.Repeat("9", 10*many)+`}}]}`),
		harmless("a time of 1e999999999", log+`{"name":"bombs","unixTime":1e999999999,"epoch":-1e999999999,"counter":`+strings.Repeat("9", 400)+`,"columns":{"a":"b"},"action":"added"}]}`),
	}
	wide := harmless("a million columns in a row", row+`"a":"b"`+keys(many)+`}}]}`)
	wide.long = true // it is taken, and written to files for seconds
	all = append(all, wide)
	for size := int64(1); size <= 100_000_000; size *= 10 {
		all = append(all,
			bomb{name: fmt.Sprintf("%d bytes that are no JSON", size), path: logPath, body: func() io.Reader { return io.LimitReader(endless('x'), size) }, length: size},
			bomb{name: fmt.Sprintf("a string of %d bytes, its length not announced", size), path: logPath, length: -1, body: func() io.Reader {
				return io.MultiReader(strings.NewReader(`"`), io.LimitReader(endless('x'), size))
			}})
	}
	return all, nil
}

func packed(name, path, encoding string, body []byte) bomb {
	return bomb{name: name, path: path, encoding: encoding, length: int64(len(body)), body: func() io.Reader { return bytes.NewReader(body) }}
}

func plain(name, path, body string) bomb { return packed(name, path, "", []byte(body)) }

// harmless goes to the log endpoint, which may take it.
func harmless(name, body string) bomb {
	b := plain(name, logPath, body)
	b.harmless = true
	return b
}

// keys returns more members of an object.
func keys(count int) string {
	var b strings.Builder
	for i := range count {
		fmt.Fprintf(&b, `,"%d":1`, i)
	}
	return b.String()
}

// squeeze returns b in gzip.
func squeeze(b []byte) ([]byte, error) {
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	if _, err := z.Write(b); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// endless is one byte again and again.
type endless byte

func (e endless) Read(p []byte) (int, error) {
	if len(p) > 0 {
		p[0] = byte(e)
	}
	for done := 1; done < len(p); done *= 2 {
		copy(p[done:], p[:done])
	}
	return len(p), nil
}
