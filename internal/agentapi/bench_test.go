package agentapi_test

import (
	"io"
	"net/http"
	"net/http/httptest"
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
