package agentwire

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/valyala/fastjson"
)

// carveAttempts is how often the start and each block are tried, with n²
// seconds in between (osquery/carver/carver.cpp, from 5.22.0 on).
const carveAttempts = 3

// ErrNoSession is a start that was answered without a session. It is not tried
// again.
var ErrNoSession = errors.New("no session_id received from remote endpoint")

// Carve is the upload of one archive.
type Carve struct {
	Start, Continue string // paths of the endpoints
	ID, RequestID   string
	Size            int64
	BlockSize       int
	// Key returns the node key, for each request anew as the node may enrol
	// meanwhile.
	Key func(context.Context) string
	// Observe, if set, is told of every try of the start and of a block.
	Observe func(start bool, took time.Duration, err error)
}

// Blocks returns how many blocks there are.
func (u Carve) Blocks() int64 {
	size := int64(u.BlockSize)
	return (u.Size + size - 1) / size
}

// Upload sends an archive of exactly Size bytes as osquery's carver does: a
// start, then the blocks in order, one at a time. Of the answers to blocks only
// those that are no JSON are failures, whatever they say. It holds one block at
// a time in memory, as bytes, as base64 and as a request.
func (c *Client) Upload(ctx context.Context, u Carve, archive io.Reader) error {
	if u.BlockSize <= 0 {
		return errors.New("carve: the block size must be more than 0")
	}
	session, err := c.startCarve(ctx, u)
	if err != nil {
		return err
	}
	head, err := blockHead(session, u.RequestID)
	if err != nil {
		return err
	}
	block := make([]byte, min(int64(u.BlockSize), u.Size))
	var body []byte
	for i, left := int64(0), u.Size; i < u.Blocks(); i++ {
		n := min(int64(len(block)), left)
		if _, err := io.ReadFull(archive, block[:n]); err != nil {
			return fmt.Errorf("read block %d: %w", i, err)
		}
		left -= n
		body = append(strconv.AppendInt(append(body[:0], `{"block_id":`...), i, 10), head...)
		body = append(base64.StdEncoding.AppendEncode(body, block[:n]), `"}`...)
		if err := c.sendBlock(ctx, u, body); err != nil {
			return fmt.Errorf("block %d: %w", i, err)
		}
	}
	return nil
}

// startCarve announces the archive and returns the session.
func (c *Client) startCarve(ctx context.Context, u Carve) (string, error) {
	var session string
	err := tries(ctx, func() error {
		key := u.Key(ctx)
		body, err := encodeJSON(carveStart{u.Blocks(), u.BlockSize, u.Size, u.ID, u.RequestID, key})
		if err != nil {
			return err
		}
		answer, err := c.observed(ctx, u, true, Request{Path: u.Start, NodeKey: key, Body: body})
		if err != nil {
			return err
		}
		session = fastjson.GetString(answer, "session_id") // of a string only
		return nil
	})
	if err == nil && session == "" {
		err = ErrNoSession
	}
	return session, err
}

// carveStart is the start's body, with its members in osquery's order.
type carveStart struct {
	BlockCount int64  `json:"block_count"`
	BlockSize  int    `json:"block_size"`
	CarveSize  int64  `json:"carve_size"`
	CarveID    string `json:"carve_id"`
	RequestID  string `json:"request_id"`
	NodeKey    string `json:"node_key"`
}

// blockHead is what the bodies of all blocks have between the number and the
// data.
func blockHead(session, request string) ([]byte, error) {
	s, err1 := encodeJSON(session)
	r, err2 := encodeJSON(request)
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	return fmt.Appendf(nil, `,"session_id":%s,"request_id":%s,"data":"`, s, r), nil
}

// sendBlock sends one block. There is no key in its body, and before 5.23 none
// in its head either: the session is all that says whose it is.
func (c *Client) sendBlock(ctx context.Context, u Carve, body []byte) error {
	return tries(ctx, func() error {
		_, err := c.observed(ctx, u, false, Request{Path: u.Continue, NodeKey: u.Key(ctx), Body: body})
		return err
	})
}

// observed makes one try. An answer that is JSON, or empty, is success.
func (c *Client) observed(ctx context.Context, u Carve, start bool, r Request) ([]byte, error) {
	begin := time.Now()
	answer, err := c.PostRaw(ctx, r)
	if err == nil && len(answer) > 0 {
		if invalid := fastjson.ValidateBytes(answer); invalid != nil {
			err = fmt.Errorf("cannot parse JSON answer: %w", invalid)
		}
	}
	if u.Observe != nil && ctx.Err() == nil {
		u.Observe(start, time.Since(begin), err)
	}
	return answer, err
}

// tries calls do up to carveAttempts times.
func tries(ctx context.Context, do func() error) error {
	for n := 1; ; n++ {
		err := do()
		if err == nil || n == carveAttempts || ctx.Err() != nil {
			return err
		}
		timer := time.NewTimer(time.Duration(n*n) * time.Second)
		select {
		case <-ctx.Done():
			timer.Stop()
			return errors.Join(err, ctx.Err())
		case <-timer.C:
		}
	}
}

func encodeJSON(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false) // as RapidJSON
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}
