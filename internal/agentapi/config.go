package agentapi

import (
	"encoding/json"
	"net/http"

	"github.com/musterhq/muster/internal/osquery"
)

func (a *API) config(w http.ResponseWriter, r request, body []byte) error {
	n, err := a.authenticate(r, body)
	if err != nil {
		return err
	}
	c := a.Configs.Config(n)
	n.Serve(c.Revision)
	if r.Method == http.MethodGet {
		return writeEscaped(w, c.JSON)
	}
	plain, zipped := c.JSON, c.JSONGzip
	if etag, ok := osquery.ETag(body); ok {
		if etag == c.ETag {
			write(w, []byte(osquery.Unchanged))
			return nil
		}
		plain, zipped = c.Tagged, c.TaggedGzip
	}
	if len(plain) >= gzipFrom && takesGzip(r) {
		w.Header().Set("Content-Encoding", "gzip")
		plain = zipped
	}
	write(w, plain)
	return nil
}

// writeEscaped answers as --tls_node_api wants it: the config as a text.
func writeEscaped(w http.ResponseWriter, config []byte) error {
	b, err := json.Marshal(map[string]string{"config": string(config)})
	if err != nil {
		return err
	}
	write(w, b)
	return nil
}
