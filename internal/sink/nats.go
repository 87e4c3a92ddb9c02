package sink

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/musterhq/muster/internal/egress"
	"github.com/musterhq/muster/internal/resource"
)

// natsSender publishes to a subject: with JetStream, which says what it has, and
// knows by the event's id what comes twice within its window.
type natsSender struct {
	conn    *nats.Conn
	js      jetstream.JetStream // nil without
	subject string
}

// natsAcks is how many messages may be out without an acknowledgement.
const natsAcks = 1000

// natsDialer dials through the guard.
type natsDialer struct{ guard *egress.Guard }

// Dial implements nats.CustomDialer.
func (d natsDialer) Dial(network, address string) (net.Conn, error) {
	return d.guard.Dialer().Dial(network, address)
}

func (m *Manager) openNATS(n *resource.SinkNATS) (Sender, error) {
	conf, err := m.tls(&n.SinkTLS)
	if err != nil {
		return nil, err
	}
	o := []nats.Option{
		nats.Name("muster"), nats.SetCustomDialer(natsDialer{m.Egress}), nats.NoReconnect(), nats.Timeout(10 * time.Second),
		nats.IgnoreDiscoveredServers(),
	}
	if strings.HasPrefix(n.URL, "tls:") || n.CA != nil || n.ClientCert != nil {
		o = append(o, nats.Secure(conf))
	}
	login, err := m.natsLogin(n)
	if err != nil {
		return nil, err
	}
	conn, err := nats.Connect(n.URL, append(o, login...)...)
	if err != nil {
		return nil, err
	}
	s := &natsSender{conn: conn, subject: n.Subject}
	if n.Core {
		return s, nil
	}
	if s.js, err = jetstream.New(conn, jetstream.WithPublishAsyncMaxPending(natsAcks)); err != nil {
		conn.Close()
		return nil, err
	}
	return s, nil
}

func (m *Manager) natsLogin(n *resource.SinkNATS) ([]nats.Option, error) {
	switch {
	case n.Credentials != nil:
		text, err := m.secret(n.Credentials)
		return []nats.Option{nats.UserCredentialBytes([]byte(text))}, err
	case n.Token != nil:
		token, err := m.secret(n.Token)
		return []nats.Option{nats.Token(token)}, err
	case n.Password != nil:
		password, err := m.secret(n.Password)
		return []nats.Option{nats.UserInfo(n.Username, password)}, err
	}
	return nil, nil
}

// Send implements Sender.
func (s *natsSender) Send(ctx context.Context, items []Item) (refused []Refusal, err error) {
	if s.conn.IsClosed() {
		return nil, fmt.Errorf("%w: %w", errReconnect, nats.ErrConnectionClosed)
	}
	most := s.conn.MaxPayload()
	acks := make([]jetstream.PubAckFuture, 0, len(items))
	for i := range items {
		msg := &nats.Msg{Subject: s.subjectOf(&items[i]), Data: items[i].Line, Header: nats.Header{nats.MsgIdHdr: {items[i].ID}}}
		if int64(msg.Size()) > most {
			refused = append(refused, Refusal{i, fmt.Sprintf("has %d bytes, and the server takes %d", msg.Size(), most)})
			continue
		}
		if s.js == nil {
			if err := s.conn.PublishMsg(msg); err != nil {
				return nil, err
			}
			continue
		}
		ack, err := s.js.PublishMsgAsync(msg)
		if err != nil {
			return nil, err
		}
		acks = append(acks, ack)
	}
	if s.js == nil {
		return refused, s.conn.FlushWithContext(ctx)
	}
	for _, ack := range acks {
		select {
		case <-ack.Ok():
		case err := <-ack.Err():
			if errors.Is(err, nats.ErrNoResponders) || errors.Is(err, jetstream.ErrNoStreamResponse) {
				err = fmt.Errorf("no stream of JetStream has the subject %s: %w", ack.Msg().Subject, err)
			}
			return nil, err
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return refused, nil
}

// subjectOf puts what the event says into the subject. What agents say cannot add a
// word to it.
func (s *natsSender) subjectOf(it *Item) string {
	if !strings.Contains(s.subject, "{") {
		return s.subject
	}
	return strings.NewReplacer(
		"{query}", subjectWord(it.Record.Query), "{action}", subjectWord(it.Record.Action), "{node}", subjectWord(it.Record.NodeID),
	).Replace(s.subject)
}

func subjectWord(s string) string {
	if s == "" {
		return "_"
	}
	return strings.Map(func(r rune) rune {
		if r == '-' || r == '_' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' {
			return r
		}
		return '_'
	}, s[:min(len(s), 128)])
}

// Close implements Sender.
func (s *natsSender) Close() error {
	s.conn.Close()
	return nil
}
