package sink_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/parquet-go/parquet-go"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/musterhq/muster/internal/event"
	"github.com/musterhq/muster/internal/sink"
)

// TestFile: lines are whole and once, whatever a crash left; the file is put aside
// when it is large, compressed, and the oldest goes; who moves it gets another.
func TestFile(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "f {file: {name: events.ndjson, max_mib: 1, keep: 2}, "+fast+"}")
	files := filepath.Join(w.dir, "files")
	path := filepath.Join(files, "events.ndjson")
	left := filepath.Join(files, "events-20260101T000000.000000000Z.ndjson") // a crash left it as it is
	other := filepath.Join(files, "events-other.ndjson")
	for _, err := range []error{
		os.MkdirAll(files, 0o700), os.WriteFile(path, []byte("{\"id\":\"whole\"}\n{\"id\":\"to"), 0o600), os.WriteFile(left, []byte("old\n"), 0o600), os.WriteFile(other, nil, 0o600),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	read := func() []string {
		b, err := os.ReadFile(path)
		if err != nil {
			return nil
		}
		return strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
	}
	w.run()
	ids := append([]string{"whole"}, w.log("q", "1", "2")...)
	w.until("the lines are there", func() bool { return slices.Equal(idsIn(read()), ids) })
	if _, err := os.Stat(left); err == nil {
		t.Error("what was put aside is not compressed")
	}
	moved := path + ".moved"
	if err := os.Rename(path, moved); err != nil {
		t.Fatal(err)
	}
	if err := w.manager.Reopen(); err != nil {
		t.Fatal(err)
	}
	ids = w.log("q", "3")
	w.until("the next is in another", func() bool { return slices.Equal(idsIn(read()), ids) })
	big := strings.Repeat("x", 1<<20)
	for i := range 4 {
		w.log("q", big)
		w.until("it is sent", func() bool { return w.show("f").Sent == int64(4+i) })
	}
	zipped, err := filepath.Glob(filepath.Join(files, "*.gz"))
	if err != nil || len(zipped) != 2 {
		t.Errorf("put aside are %v, %v", zipped, err)
	}
	for _, name := range zipped {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		z, err := gzip.NewReader(f)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(z); err != nil || !bytes.HasSuffix(b, []byte("}\n")) {
			t.Errorf("%s holds %d bytes, %v", name, len(b), err)
		}
		_ = f.Close()
	}
	if _, err := os.Stat(other); err != nil {
		t.Error("a file of another is gone")
	}
}

// syslogLine is RFC 5424, 6, without structured data.
var syslogLine = regexp.MustCompile(`^<(\d{1,3})>1 (\S+) ([!-~]{1,255}) ([!-~]{1,48}) - ([!-~]{1,32}) - (\{.*\})$`)

func parseSyslog(t *testing.T, message string) (priority, host, text string) {
	t.Helper()
	m := syslogLine.FindStringSubmatch(message)
	if m == nil {
		t.Fatalf("%q is no message of RFC 5424", message)
	}
	if _, err := time.Parse("2006-01-02T15:04:05.999999Z07:00", m[2]); err != nil {
		t.Error(err)
	}
	return m[1], m[3], m[6]
}

// serveSyslog takes messages with their length before them.
func serveSyslog(t *testing.T, l net.Listener, got *taken) {
	t.Helper()
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { _ = c.Close() })
			go func() {
				r := bufio.NewReader(c)
				for {
					head, err := r.ReadString(' ')
					if err != nil {
						return
					}
					n, err := strconv.Atoi(strings.TrimSuffix(head, " "))
					if err != nil {
						t.Errorf("%q is no length", head)
						return
					}
					b := make([]byte, n)
					if _, err := io.ReadFull(r, b); err != nil {
						return
					}
					if string(b) == "bye" {
						return
					}
					got.add(string(b))
				}
			}()
		}
	}()
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestSyslog(t *testing.T) {
	t.Parallel()
	var plain, secure, packets taken
	tcp := listen(t)
	serveSyslog(t, tcp, &plain)
	https := httptest.NewTLSServer(nil) // for its certificate
	defer https.Close()
	over := newTLS(t, https)
	serveSyslog(t, over, &secure)
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	go func() {
		b := make([]byte, 1<<16)
		for {
			n, _, err := udp.ReadFrom(b)
			if err != nil {
				return
			}
			packets.add(string(b[:n]))
		}
	}()
	w := newWorld(t,
		"tcp {syslog: {network: tcp, address: '"+tcp.Addr().String()+"'}, "+fast+"}",
		"tls {syslog: {address: '"+over.Addr().String()+"', ca: {file: ca.pem}, facility: auth, app_name: fleet}, "+fast+"}",
		"udp {syslog: {network: udp, address: '"+udp.LocalAddr().String()+"'}, "+fast+"}")
	writeCA(t, w, https)
	w.run()
	ids := w.log("q", "a\nb", "2")
	b := event.Batch{NodeID: "n", HostIdentifier: "my höst", Received: time.Now(), Events: []event.Event{{
		Time: time.Now(), Query: event.StatusQuery, Action: event.Status, Columns: []byte(`{"severity":"2","message":"m"}`),
	}}}
	ids = append(ids, w.append(b)...)
	for name, got := range map[string]*taken{"tcp": &plain, "tls": &secure, "udp": &packets} {
		w.got(got, ids)
		var priorities []string
		for _, m := range got.all() {
			p, host, text := parseSyslog(t, m)
			priorities = append(priorities, p+" "+host)
			if !json.Valid([]byte(text)) {
				t.Errorf("%s: %s", name, text)
			}
		}
		want := []string{"134 host-1", "134 host-1", "131 my_h__st"}
		if name == "tls" {
			want = []string{"38 host-1", "38 host-1", "35 my_h__st"}
		}
		if !slices.Equal(priorities, want) {
			t.Errorf("%s: %v", name, priorities)
		}
	}
	w.log("q", strings.Repeat("x", 70_000))
	w.until("what fits no packet is dead", func() bool { return w.show("udp").Letters == 1 })
	w.until("others take it", func() bool { return len(plain.all()) == 4 && len(secure.all()) == 4 })
}

// TestSyslog_closed: a receiver that goes is found out before the next batch.
func TestSyslog_closed(t *testing.T) {
	t.Parallel()
	l := listen(t)
	defer l.Close()
	conns := make(chan net.Conn, 10)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			conns <- c
		}
	}()
	w := newWorld(t, "s {syslog: {network: tcp, address: '"+l.Addr().String()+"'}, "+fast+"}")
	w.run()
	for range 3 {
		id := w.log("q", "1")[0]
		c := <-conns
		buf := make([]byte, 4096)
		if n, err := c.Read(buf); err != nil || !strings.Contains(string(buf[:n]), `"id":"`+id+`"`) {
			t.Fatalf("got %q, %v", buf[:n], err)
		}
		w.until("it is sent", func() bool { return w.show("s").Backlog.Messages == 0 })
		_ = c.Close()
	}
}

// TestHTTP: what is sent is signed, compressed, and says what secrets say.
func TestHTTP(t *testing.T) {
	t.Parallel()
	var got taken
	s := httptest.NewTLSServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		stamp := r.Header.Get("X-Muster-Timestamp")
		mac := hmac.New(sha256.New, []byte("a-key"))
		mac.Write([]byte(stamp + "." + string(body)))
		sent, err := strconv.ParseInt(stamp, 10, 64)
		if r.Header.Get("X-Muster-Signature") != "v1="+hex.EncodeToString(mac.Sum(nil)) || err != nil || time.Since(time.Unix(sent, 0)) > time.Minute {
			t.Errorf("signed %s at %s", r.Header.Get("X-Muster-Signature"), stamp)
		}
		if r.Header.Get("Authorization") != "a-token" || r.Header.Get("Content-Type") != "application/x-ndjson" {
			t.Errorf("headers %v", r.Header)
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		got.add(linesOf(t, r)...)
	}))
	defer s.Close()
	w := newWorld(t, "s {http: {url: '"+s.URL+"', ca: {file: ca.pem}, secret: {env: MUSTER_SECRET_KEY}, headers: {Authorization: {env: MUSTER_SECRET_TOKEN}}}, "+fast+"}")
	w.run()
	ids := w.log("q", "1", "2")
	w.until("the CA is missed", func() bool { return strings.Contains(w.show("s").Error, "there is no file ca.pem") })
	writeCA(t, w, s)
	w.got(&got, ids)
}

// TestHTTP_guard: an address that is not allowed is not reached, also behind a
// redirect.
func TestHTTP_guard(t *testing.T) {
	t.Parallel()
	h := newHook(t)
	moved := httptest.NewServer(http.RedirectHandler(h.URL, http.StatusTemporaryRedirect))
	defer moved.Close()
	w := newWorld(t, "metadata {http: {url: 'http://169.254.169.254/x'}, "+fast+"}", "moved {http: {url: '"+moved.URL+"'}, "+fast+"}")
	w.run()
	w.log("q", "1")
	w.until("both are refused", func() bool {
		return strings.Contains(w.show("metadata").Error, "no public address") && strings.Contains(w.show("moved").Error, "redirect")
	})
	if h.asked.Load() != 0 {
		t.Error("a redirect was followed")
	}
}

// TestSplunk speaks to a stand-in that holds what Splunk's documents say: it takes
// events, and says later that they are indexed.
func TestSplunk(t *testing.T) {
	t.Parallel()
	var got taken
	var asked, acks atomic.Int64
	channel := ""
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Splunk a-token" {
			t.Errorf("headers %v", r.Header)
		}
		if c := r.Header.Get("X-Splunk-Request-Channel"); channel != "" && c != channel || len(c) != 36 {
			t.Errorf("channel %q", c)
		} else {
			channel = c
		}
		switch r.URL.Path {
		case "/services/collector/event":
			lines := linesOf(t, r)
			switch {
			case asked.Add(1) == 1:
				w.WriteHeader(http.StatusServiceUnavailable)
				_, _ = io.WriteString(w, `{"text":"Server is busy","code":9}`)
			case strings.Contains(lines[0], `"n":"bad"`):
				w.WriteHeader(http.StatusBadRequest)
				_, _ = io.WriteString(w, `{"text":"Invalid data format","code":6,"invalid-event-number":1}`)
			case asked.Load() == 2:
				w.WriteHeader(http.StatusBadRequest)
				_, _ = io.WriteString(w, `{"text":"Incorrect index","code":7}`)
			default:
				d := json.NewDecoder(strings.NewReader(lines[0]))
				for d.More() {
					var e struct {
						Time       float64
						Host       string
						Source     string
						Sourcetype string
						Index      string
						Event      json.RawMessage
					}
					if err := d.Decode(&e); err != nil || e.Host != "host-1" || e.Source != "muster" || e.Sourcetype != "osquery:results" || e.Index != "main" || e.Time < 1e9 {
						t.Errorf("%+v, %v", e, err)
					}
					got.add(string(e.Event))
				}
				_, _ = fmt.Fprintf(w, `{"text":"Success","code":0,"ackId":%d}`, asked.Load())
			}
		case "/services/collector/ack":
			_, _ = fmt.Fprintf(w, `{"acks":{"%d":%v}}`, asked.Load(), acks.Add(1) >= 3)
		}
	}))
	defer s.Close()
	w := newWorld(t, "s {splunk_hec: {url: '"+s.URL+"', token: {env: MUSTER_SECRET_TOKEN}, index: main}, "+fast+"}")
	w.run()
	ids := w.log("q", "1", "bad", "3")
	w.got(&got, []string{ids[0], ids[2]})
	w.until("it is acknowledged", func() bool { s := w.show("s"); return s.Sent == 2 && s.Letters == 1 })
	if acks.Load() < 4 {
		t.Errorf("asked %d times whether it is indexed", acks.Load())
	}
}

// TestElastic speaks to a stand-in that holds what the bulk API's documents say: it
// makes documents once, refuses one for good and another for a while.
func TestElastic(t *testing.T) {
	t.Parallel()
	made := map[string]string{}
	var calls atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user != "me" || password != "a-key" || r.URL.Path != "/_bulk" {
			t.Errorf("%s, headers %v", r.URL.Path, r.Header)
		}
		first := calls.Add(1) == 1
		var items []string
		failed := false
		lines := linesOf(t, r)
		for i := 0; i+1 < len(lines); i += 2 {
			var action struct {
				Create struct {
					Index string `json:"_index"`
					ID    string `json:"_id"`
				}
			}
			var doc struct {
				At      time.Time `json:"@timestamp"`
				Columns struct{ N string }
			}
			if err := errors.Join(json.Unmarshal([]byte(lines[i]), &action), json.Unmarshal([]byte(lines[i+1]), &doc)); err != nil || doc.At.IsZero() {
				t.Errorf("%s %s: %v", lines[i], lines[i+1], err)
			}
			item, id := `{"create":{"status":201}}`, action.Create.ID
			switch _, ok := made[id]; {
			case ok:
				item = `{"create":{"status":409,"error":{"type":"version_conflict_engine_exception","reason":"there"}}}`
			case doc.Columns.N == "bad":
				item = `{"create":{"status":400,"error":{"type":"document_parsing_exception","reason":"no"}}}`
			case doc.Columns.N == "later" && first:
				item = `{"create":{"status":429,"error":{"type":"es_rejected_execution_exception","reason":"queue"}}}`
			default:
				made[id] = action.Create.Index
			}
			failed = failed || !strings.Contains(item, "201")
			items = append(items, item)
		}
		_, _ = fmt.Fprintf(w, `{"errors":%v,"items":[%s]}`, failed, strings.Join(items, ","))
	}))
	defer s.Close()
	w := newWorld(t, "s {elasticsearch: {url: '"+s.URL+"', index: 'osquery-{day}', username: me, password: {env: MUSTER_SECRET_KEY}}, "+fast+"}")
	w.run()
	ids := w.log("q", "1", "later", "bad", "4")
	w.until("all are told of", func() bool { s := w.show("s"); return s.Sent == 3 && s.Letters == 1 })
	want := map[string]string{}
	for _, i := range []int{0, 1, 3} {
		want[ids[i]] = "osquery-" + time.Now().UTC().Format("2006.01.02")
	}
	if calls.Load() != 2 || len(made) != 3 || made[ids[1]] == "" || !strings.HasPrefix(made[ids[0]], "osquery-2") {
		t.Errorf("made %v in %d calls, want %v", made, calls.Load(), want)
	}
}

// FuzzBulkAnswer: an answer that is not understood is no success.
func FuzzBulkAnswer(f *testing.F) {
	for _, s := range []string{`{"errors":false}`, `{"errors":true,"items":[{"create":{"status":400}}]}`, `{}`, `<html>`, `{"errors":true,"items":[{}]}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		refused, err := sink.BulkAnswer(b, 1)
		if err == nil && !bytes.Contains(b, []byte("rrors")) && !bytes.Contains(bytes.ToLower(b), []byte("errors")) && !bytes.Contains(b, []byte(`\u`)) {
			t.Fatalf("%q is a success", b)
		}
		for _, r := range refused {
			if r.Index != 0 {
				t.Fatalf("%q refuses %d", b, r.Index)
			}
		}
	})
}

// TestKafka produces to franz-go's own fake of a cluster, which speaks the protocol.
func TestKafka(t *testing.T) {
	t.Parallel()
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(3, "events"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	brokers := "['" + strings.Join(c.ListenAddrs(), "','") + "']"
	w := newWorld(t, "s {kafka: {brokers: "+brokers+", topic: events, plain_text: true}, "+fast+"}", "none {kafka: {brokers: "+brokers+", topic: none, plain_text: true}, "+fast+"}")
	w.run()
	ids := w.log("q", numbers(1, 10)...)
	ids = append(ids, w.log("q", "11")...)
	consumer, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...), kgo.ConsumeTopics("events"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer consumer.Close()
	var got taken
	for len(got.all()) < len(ids) {
		fetched := consumer.PollFetches(t.Context())
		if err := fetched.Err(); err != nil {
			t.Fatal(err)
		}
		fetched.EachRecord(func(r *kgo.Record) {
			got.add(string(r.Value))
			if string(r.Key) != "node-1" || len(r.Headers) != 2 || string(r.Headers[0].Value) != idsIn([]string{string(r.Value)})[0] || string(r.Headers[1].Value) != "q" {
				t.Errorf("key %s, headers %v", r.Key, r.Headers)
			}
		})
	}
	w.got(&got, ids) // of one node, so of one partition, in order
	w.until("a topic that is not there is told", func() bool { return strings.Contains(w.show("none").Error, "UNKNOWN_TOPIC") })
}

// TestNATS publishes to a real server; what comes twice is there once.
func TestNATS(t *testing.T) {
	t.Parallel()
	start := func(port int) *server.Server {
		s, err := server.NewServer(&server.Options{
			Host: "127.0.0.1", Port: port, JetStream: true, StoreDir: t.TempDir(), NoLog: true, NoSigs: true, Authorization: "a-token", MaxPayload: 4096,
		})
		if err != nil {
			t.Fatal(err)
		}
		s.Start()
		t.Cleanup(s.Shutdown)
		if !s.ReadyForConnections(10 * time.Second) {
			t.Fatal("NATS does not start")
		}
		return s
	}
	s := start(-1)
	conn, err := nats.Connect(s.ClientURL(), nats.Token("a-token"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	kept, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "EVENTS", Subjects: []string{"osquery.>"}})
	if err != nil {
		t.Fatal(err)
	}
	core, err := conn.SubscribeSync("core.>")
	if err != nil {
		t.Fatal(err)
	}
	spec := "nats: {url: '" + s.ClientURL() + "', token: {env: MUSTER_SECRET_TOKEN}, subject: "
	w := newWorld(t,
		"core {"+spec+"core.all, core: true}, "+fast+"}",
		"js {"+spec+"'osquery.{query}.{action}'}, "+fast+"}",
		"lost {"+spec+"nobody}, "+fast+"}")
	w.run()
	began := time.Now()
	ids := w.log("pack.a b>*", "1", "2")
	w.log("q", strings.Repeat("x", 5000))
	for i := range 2 {
		m, err := core.NextMsg(10 * time.Second)
		if err != nil || idsIn([]string{string(m.Data)})[0] != ids[i] {
			t.Fatalf("got %v, %v", m, err)
		}
	}
	w.until("what is too large is dead", func() bool { return w.show("js").Letters == 1 && w.show("core").Letters == 1 })
	w.until("what no stream has is told", func() bool { return strings.Contains(w.show("lost").Error, "no stream") })
	if err := w.manager.Replay(t.Context(), "js", began.Add(-time.Minute), time.Time{}, "ann"); err != nil {
		t.Fatal(err)
	}
	w.until("all were sent twice", func() bool { s := w.show("js"); return s.Replay == nil && s.Sent == 4 })
	info, err := kept.Info(t.Context(), jetstream.WithSubjectFilter("osquery.pack_a_b__.added"))
	if err != nil || info.State.Msgs != 2 || info.State.Subjects["osquery.pack_a_b__.added"] != 2 {
		t.Errorf("%+v, %v", info.State, err)
	}
}

// TestS3 puts objects into a real S3 server, whose program MUSTER_VERSITYGW names.
func TestS3(t *testing.T) {
	t.Parallel()
	endpoint := startS3(t)
	spec := ", s3: {endpoint: '" + endpoint + "', bucket: events, region: us-east-1, path_style: true, access_key: {env: MUSTER_SECRET_ACCESS}, secret_key: {env: MUSTER_SECRET_SECRET}, prefix: "
	w := newWorld(t, "lines {"+fast+spec+"a/b}}", "columns {"+fast+spec+"parquet, objects: parquet}}")
	w.run()
	at := time.Date(2026, 11, 30, 11, 59, 59, 0, time.UTC)
	b := event.Batch{NodeID: "n", HostIdentifier: "h", Received: at, Tags: []string{"t"}, Events: []event.Event{
		{Time: at, Query: "q", Action: event.Added, Columns: []byte(`{"a":"1"}`)}, {Time: at, Query: "q", Action: event.Removed, Columns: []byte(`{"a":"2"}`)},
	}}
	ids := w.append(b)
	w.until("it is there", func() bool { return w.show("lines").Sent == 2 && w.show("columns").Sent == 2 })
	client, err := minio.New(strings.TrimPrefix(endpoint, "http://"), &minio.Options{Creds: credentials.NewStaticV4(accessKey, secretKey, ""), BucketLookup: minio.BucketLookupPath})
	if err != nil {
		t.Fatal(err)
	}
	get := func(key string) []byte {
		t.Helper()
		o, err := client.GetObject(t.Context(), "events", key, minio.GetObjectOptions{})
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(o)
		if err != nil {
			t.Fatal(key, err)
		}
		return b
	}
	z, err := gzip.NewReader(bytes.NewReader(get("a/b/2026/11/30/11/" + ids[0] + ".ndjson.gz")))
	if err != nil {
		t.Fatal(err)
	}
	lines, err := io.ReadAll(z)
	if err != nil || !slices.Equal(idsIn(strings.Split(strings.TrimSpace(string(lines)), "\n")), ids) {
		t.Errorf("got %s, %v", lines, err)
	}
	type row struct {
		ID      string    `parquet:"id"`
		Time    time.Time `parquet:"time,timestamp(microsecond)"`
		Tags    []string  `parquet:"tags,list"`
		Action  string    `parquet:"action"`
		Columns string    `parquet:"columns,json"`
	}
	file := get("parquet/2026/11/30/11/" + ids[0] + ".parquet")
	rows, err := parquet.Read[row](bytes.NewReader(file), int64(len(file)))
	if err != nil || len(rows) != 2 || rows[1].ID != ids[1] || !rows[0].Time.Equal(at) || rows[0].Tags[0] != "t" || rows[1].Action != event.Removed || rows[0].Columns != `{"a":"1"}` {
		t.Errorf("got %+v, %v", rows, err)
	}
}

// startS3 starts versitygw with a bucket, and returns its URL.
func startS3(t *testing.T) string {
	t.Helper()
	program := os.Getenv("MUSTER_VERSITYGW")
	if program == "" && os.Getenv("MUSTER_TEST_REQUIRE_ALL") == "1" {
		t.Fatal("MUSTER_VERSITYGW names no S3 server")
	}
	if program == "" {
		t.Skip("MUSTER_VERSITYGW names no S3 server; make test builds one")
	}
	dir := t.TempDir()
	for _, d := range []string{"data/events", "meta"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for range 5 { // it does not tell the port that it got, so it is told one that was free
		l := listen(t)
		address := l.Addr().String()
		_ = l.Close()
		ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
		cmd := exec.CommandContext(ctx, program, "--access", accessKey, "--secret", secretKey, "--quiet", "--port", address, "posix", "--sidecar", filepath.Join(dir, "meta"), filepath.Join(dir, "data"))
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		ended, started := make(chan struct{}), make(chan error)
		go func() {
			defer close(ended)
			runtime.LockOSThread() // the system ends it with this thread
			defer runtime.UnlockOSThread()
			err := cmd.Start()
			started <- err
			if err == nil {
				_ = cmd.Wait()
			}
		}()
		if err := <-started; err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			cancel()
			<-ended
		})
		if answers(address, ended) {
			return "http://" + address
		}
	}
	t.Fatal("versitygw does not start")
	return ""
}

// answers waits until an address takes connections; false if the program ended.
func answers(address string, ended <-chan struct{}) bool {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if c, err := net.Dial("tcp", address); err == nil {
			_ = c.Close()
			return true
		}
		select {
		case <-ended:
			return false
		case <-tick.C:
		}
	}
}

func writeCA(t *testing.T, w *world, s *httptest.Server) {
	t.Helper()
	b := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	if err := os.WriteFile(filepath.Join(w.dir, "ca.pem"), b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// newTLS listens with a test server's certificate.
func newTLS(t *testing.T, s *httptest.Server) net.Listener {
	t.Helper()
	return tls.NewListener(listen(t), &tls.Config{Certificates: s.TLS.Certificates})
}
