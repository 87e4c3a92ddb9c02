package adminapi

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
)

// Download is a carve on its way.
type Download struct {
	Body   io.ReadCloser
	Size   int64  // of what comes; -1 if that is not known
	From   int64  // where it begins
	SHA256 string // of the whole archive; "" of several in one
	// Verification is how that compares with what the node says it sent.
	Verification string
}

// Download asks for an archive of a carve, or for all if archive is negative,
// from a byte on if the server still has the one with that hash, else from the
// beginning. The caller closes the body.
func (c *Client) Download(ctx context.Context, id string, archive int, from int64, hash string) (*Download, error) {
	target := c.url + "/api/v1/carves/" + url.PathEscape(id) + "/download"
	if archive >= 0 {
		target += "?archive=" + strconv.Itoa(archive)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, http.NoBody)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept-Encoding", "identity")
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	if from > 0 && hash != "" {
		req.Header.Set("Range", "bytes="+strconv.FormatInt(from, 10)+"-")
		req.Header.Set("If-Range", `"`+hash+`"`)
	}
	answer, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("cannot reach the server: %w", err)
	}
	if answer.StatusCode >= http.StatusBadRequest {
		defer answer.Body.Close() //nolint:errcheck // an error is returned already
		p := &Problem{Status: answer.StatusCode, Title: answer.Status}
		if err := json.NewDecoder(io.LimitReader(answer.Body, maxBody)).Decode(p); err != nil {
			p.Detail = "the server answered " + answer.Status
		}
		p.Status = answer.StatusCode
		return nil, p
	}
	d := &Download{
		Body: answer.Body, Size: answer.ContentLength, SHA256: answer.Header.Get("X-Muster-SHA256"), Verification: answer.Header.Get("X-Muster-Verification"),
	}
	if answer.StatusCode == http.StatusPartialContent {
		d.From = from
	}
	return d, nil
}
