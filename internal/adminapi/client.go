package adminapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// Client calls the API; the CLI uses it. Safe for concurrent use.
type Client struct {
	url   string
	token string
	http  *http.Client
}

// NewClient returns a client of the server at url; token may be empty for the
// few public calls.
func NewClient(url, token string, h *http.Client) *Client {
	return &Client{strings.TrimSuffix(url, "/"), token, h}
}

// Problem is a refusal by the server.
type Problem struct { //nolint:errname // the name that RFC 9457 gives it
	Status int            `json:"status"`
	Title  string         `json:"title"`
	Detail string         `json:"detail"`
	Errors []ProblemField `json:"errors"`
}

// ProblemField says what is wrong with one input.
type ProblemField struct {
	Message  string `json:"message"`
	Location string `json:"location"`
}

// Error returns the detail, and what is wrong with each input.
func (p *Problem) Error() string {
	text := p.Detail
	if text == "" {
		text = p.Title
	}
	for _, e := range p.Errors {
		if line := strings.TrimSpace(e.Location + " " + e.Message); !strings.Contains(text, line) {
			text += "; " + line
		}
	}
	return text
}

// About reports whether the refusal is about one input.
func (p *Problem) About(field string) bool {
	return slices.ContainsFunc(p.Errors, func(e ProblemField) bool { return e.Location == field })
}

// Call sends a request and reads the answer into out, unless that is nil. A
// refusal is a *Problem.
func (c *Client) Call(ctx context.Context, method, path string, query url.Values, in, out any) error {
	answer, err := c.send(ctx, method, path, query, in, nil)
	if err != nil {
		return err
	}
	defer answer.Body.Close() //nolint:errcheck // read to the end, or not needed
	if out == nil || answer.StatusCode == http.StatusNoContent {
		_, _ = io.Copy(io.Discard, answer.Body) // so that the connection is used again
		return nil
	}
	if err := json.NewDecoder(answer.Body).Decode(out); err != nil {
		return fmt.Errorf("answer to %s %s: %w", method, path, err)
	}
	return nil
}

func (c *Client) send(ctx context.Context, method, path string, query url.Values, in any, head http.Header) (*http.Response, error) {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(b)
	}
	target := c.url + base + path
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, target, body)
	if err != nil {
		return nil, err
	}
	maps.Copy(req.Header, head)
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	answer, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("cannot reach the server: %w", err)
	}
	if answer.StatusCode < http.StatusBadRequest {
		return answer, nil
	}
	defer answer.Body.Close() //nolint:errcheck // an error is returned already
	p := &Problem{Status: answer.StatusCode, Title: answer.Status}
	if err := json.NewDecoder(io.LimitReader(answer.Body, maxBody)).Decode(p); err != nil {
		p.Detail = "the server answered " + answer.Status
	}
	p.Status = answer.StatusCode
	return nil, p
}

// AllNodes calls use with every node that the query selects, page by page.
func (c *Client) AllNodes(ctx context.Context, query url.Values, limit int, use func(Node) error) error {
	const page = 1000
	if query == nil {
		query = url.Values{}
	}
	for limit > 0 {
		query.Set("limit", strconv.Itoa(min(page, limit)))
		var p NodePage
		if err := c.Call(ctx, http.MethodGet, "/nodes", query, nil, &p); err != nil {
			return err
		}
		for _, n := range p.Nodes {
			if err := use(n); err != nil {
				return err
			}
		}
		limit -= len(p.Nodes)
		if p.NextCursor == "" {
			return nil
		}
		query.Set("cursor", p.NextCursor)
	}
	return nil
}

// Status returns the HTTP status of a refusal; 0 of any other error.
func Status(err error) int {
	if p, ok := errors.AsType[*Problem](err); ok {
		return p.Status
	}
	return 0
}
