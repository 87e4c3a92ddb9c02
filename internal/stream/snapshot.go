package stream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/musterhq/muster/internal/errs"
)

// snapshotTimeout is how long a part of a snapshot may be away.
const snapshotTimeout = time.Minute

// Snapshot writes the stream with the positions of its readers to w, as they are at
// one moment, while it is used. It returns what Restore needs beside it.
func (s *Stream) Snapshot(ctx context.Context, w io.Writer) (config []byte, err error) {
	inbox := s.conn.NewInbox()
	parts, err := s.conn.SubscribeSync(inbox)
	if err != nil {
		return nil, err
	}
	defer parts.Unsubscribe() //nolint:errcheck // it ends with the connection at the latest
	if err := parts.SetPendingLimits(-1, -1); err != nil {
		return nil, err
	}
	request, err := json.Marshal(server.JSApiStreamSnapshotRequest{DeliverSubject: inbox})
	if err != nil {
		return nil, err
	}
	answer, err := s.conn.RequestWithContext(ctx, fmt.Sprintf(server.JSApiStreamSnapshotT, streamName), request)
	if err != nil {
		return nil, fmt.Errorf("snapshot of the stream: %w", err)
	}
	var begun server.JSApiStreamSnapshotResponse
	if err := json.Unmarshal(answer.Data, &begun); err != nil {
		return nil, err
	}
	if begun.Error != nil {
		return nil, fmt.Errorf("snapshot of the stream: %s", begun.Error.Description)
	}
	if err := copyParts(ctx, parts, w); err != nil {
		return nil, fmt.Errorf("snapshot of the stream: %w", err)
	}
	return json.Marshal(begun.Config)
}

// copyParts writes the parts of a snapshot up to the empty one, and asks for more by
// answering each.
func copyParts(ctx context.Context, parts *nats.Subscription, w io.Writer) error {
	for {
		limited, cancel := context.WithTimeout(ctx, snapshotTimeout)
		part, err := parts.NextMsgWithContext(limited)
		cancel()
		if err != nil {
			return err
		}
		if len(part.Data) == 0 {
			if status := part.Header.Get("Status"); status != "" && status != "204" { // which says that this was all
				return errors.New(status + " " + part.Header.Get("Description"))
			}
			return nil
		}
		if _, err := w.Write(part.Data); err != nil {
			return err
		}
		if part.Reply != "" {
			if err := part.Respond(nil); err != nil {
				return err
			}
		}
	}
}

// Restore makes a stream in a directory that has none, of what Snapshot wrote and
// returned. Sequences and positions are as they were.
func Restore(ctx context.Context, o Options, config []byte, r io.Reader) error {
	var c server.StreamConfig
	if err := json.Unmarshal(config, &c); err != nil || c.Name != streamName {
		return errs.New(errs.Invalid, "the stream's own description is damaged")
	}
	srv, err := newServer(o)
	if err != nil {
		return err
	}
	defer func() {
		srv.Shutdown()
		srv.WaitForShutdown()
	}()
	if _, err := srv.GlobalAccount().RestoreStreamV2(&c, r); err != nil {
		return fmt.Errorf("restore the stream: %w", err)
	}
	return ctx.Err()
}
