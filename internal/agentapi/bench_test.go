package agentapi_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
)

// discard is an answer that nobody reads.
type discard struct{ header http.Header }

func (d discard) Header() http.Header         { return d.header }
func (d discard) Write(b []byte) (int, error) { return len(b), nil }
func (d discard) WriteHeader(int)             {}

// BenchmarkAPI is what a request costs behind net/http: authenticating, and
// what its endpoint does, with a stream that keeps nothing.
func BenchmarkAPI(b *testing.B) {
	w := newWorld(b)
	key := w.enroll()
	for name, path := range map[string]string{"config": "/api/osquery/config", "read": "/api/osquery/distributed/read", "alias": "/dev/config"} {
		b.Run(name, func(b *testing.B) {
			body := strings.NewReader("")
			r := httptest.NewRequestWithContext(b.Context(), http.MethodPost, path, nil)
			r.Header.Set("Authorization", "NodeKey "+key)
			answer := discard{http.Header{}}
			b.ReportAllocs()
			for b.Loop() {
				body.Reset(`{"node_key":"` + key + `"}`)
				r.Body = io.NopCloser(body)
				clear(answer.header)
				w.api.ServeHTTP(answer, r)
			}
		})
	}
}

// BenchmarkLog is what ten rows of processes cost before the stream: decoded,
// known as new, redacted, encoded.
func BenchmarkLog(b *testing.B) {
	w := newWorld(b)
	key := w.enroll()
	w.stream.err = nil
	line := `{"name":"pack_base_processes","hostIdentifier":"h","unixTime":1764530000,"action":"added","epoch":0,"counter":%n,"columns":{"pid":"1234","name":"nginx","path":"/usr/sbin/nginx","cmdline":"nginx: master process /usr/sbin/nginx -g daemon on; master_process on;","state":"S","cwd":"/","root":"/","uid":"0","gid":"0","on_disk":"1","resident_size":"1720320","total_size":"56619008","start_time":"1700000000","parent":"1","threads":"1","nice":"0"},"decorations":{"hostname":"web-1","host_uuid":"12345678-9abc-def0-1234-56789abcdef0"}}`
	lines := make([]string, 10)
	r := httptest.NewRequestWithContext(b.Context(), http.MethodPost, "/api/osquery/log", nil)
	r.Header.Set("Authorization", "NodeKey "+key)
	answer := discard{http.Header{}}
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		for i := range lines {
			lines[i] = strings.Replace(line, "%n", strconv.Itoa(n*len(lines)+i), 1)
		}
		body := `{"node_key":"` + key + `","log_type":"result","data":[` + strings.Join(lines, ",") + `]}`
		r.Body = io.NopCloser(strings.NewReader(body))
		r.ContentLength = int64(len(body))
		w.stream.batches = w.stream.batches[:0]
		w.api.ServeHTTP(answer, r)
	}
}
