package sink

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"

	"github.com/musterhq/muster/internal/egress"
	"github.com/musterhq/muster/internal/event"
	"github.com/musterhq/muster/internal/resource"
)

// maxDatagram is the most that a UDP packet takes over IPv4 (RFC 5426, 3.2); many
// receivers cut earlier.
const maxDatagram = 65507

// syslogSender sends messages of RFC 5424: a datagram each (RFC 5426), or with their
// length before them (RFC 6587, 3.4.1; RFC 5425). The protocol has no
// acknowledgement: what a receiver that dies has not read is lost, but for what the
// connection tells.
type syslogSender struct {
	egress   *egress.Guard
	network  string
	address  string
	tls      *tls.Config // nil without
	priority int         // of the facility
	app      string

	conn  net.Conn      // nil until the first message
	ended chan struct{} // closed when the receiver closed the connection
	buf   []byte
}

func (m *Manager) openSyslog(y *resource.SinkSyslog) (Sender, error) {
	facility, ok := resource.SyslogFacility(y.Facility)
	if !ok {
		return nil, fmt.Errorf("%q is no facility", y.Facility)
	}
	s := &syslogSender{
		egress: m.Egress, network: cmp.Or(y.Network, "tls"), address: y.Address, priority: facility << 3, app: cmp.Or(y.AppName, "osquery"),
	}
	if s.network != "tls" {
		return s, nil
	}
	host, _, err := net.SplitHostPort(y.Address)
	if err != nil {
		return nil, err
	}
	if s.tls, err = m.tls(&y.SinkTLS); err != nil {
		return nil, err
	}
	s.tls.ServerName = host
	return s, nil
}

func (s *syslogSender) connect(ctx context.Context) error {
	network := "tcp"
	if s.network == "udp" {
		network = "udp"
	}
	conn, err := s.egress.DialContext(ctx, network, s.address)
	if err != nil {
		return err
	}
	if s.tls != nil {
		t := tls.Client(conn, s.tls)
		if err := t.HandshakeContext(ctx); err != nil {
			return errors.Join(err, conn.Close())
		}
		conn = t
	}
	s.conn = conn
	if s.network != "udp" {
		ended := make(chan struct{})
		s.ended = ended
		go func() { // a receiver says nothing; when reading ends, it is gone
			_, _ = io.Copy(io.Discard, conn)
			close(ended)
		}()
	}
	return nil
}

// Send implements Sender.
func (s *syslogSender) Send(ctx context.Context, items []Item) (refused []Refusal, err error) {
	if s.gone() {
		s.hangUp()
	}
	if s.conn == nil {
		if err := s.connect(ctx); err != nil {
			return nil, err
		}
	}
	defer func() {
		if err != nil {
			s.hangUp()
		}
	}()
	if deadline, ok := ctx.Deadline(); ok {
		if err := s.conn.SetWriteDeadline(deadline); err != nil {
			return nil, err
		}
	}
	stop := context.AfterFunc(ctx, func() { _ = s.conn.SetWriteDeadline(time.Unix(1, 0)) })
	defer stop()
	if s.network == "udp" {
		return s.datagrams(items)
	}
	s.buf = s.buf[:0]
	var message []byte
	for i := range items {
		message = s.message(message[:0], &items[i])
		s.buf = strconv.AppendInt(s.buf, int64(len(message)), 10)
		s.buf = append(append(s.buf, ' '), message...)
	}
	if _, err := s.conn.Write(s.buf); err != nil {
		return nil, err
	}
	if s.gone() { // it may have read the end, or not
		return nil, errors.New("the receiver closed the connection")
	}
	return nil, nil
}

func (s *syslogSender) datagrams(items []Item) ([]Refusal, error) {
	var refused []Refusal
	for i := range items {
		s.buf = s.message(s.buf[:0], &items[i])
		if len(s.buf) > maxDatagram {
			refused = append(refused, Refusal{i, fmt.Sprintf("has %d bytes, and a datagram at most %d; use tls or tcp", len(s.buf), maxDatagram)})
			continue
		}
		if _, err := s.conn.Write(s.buf); err != nil {
			return nil, err
		}
	}
	return refused, nil
}

// gone reports whether the receiver closed the connection.
func (s *syslogSender) gone() bool {
	if s.conn == nil || s.ended == nil {
		return false
	}
	select {
	case <-s.ended:
		return true
	default:
		return false
	}
}

func (s *syslogSender) hangUp() {
	if s.conn != nil {
		_ = s.conn.Close()
	}
	s.conn, s.ended = nil, nil
}

// Severities of syslog (RFC 5424, 6.2.1).
const (
	syslogError   = 3
	syslogWarning = 4
	syslogInfo    = 6
)

// message appends a message: its head, and the event as the text.
func (s *syslogSender) message(dst []byte, it *Item) []byte {
	dst = append(dst, '<')
	dst = strconv.AppendInt(dst, int64(s.priority|syslogSeverity(&it.Record)), 10)
	dst = append(dst, ">1 "...)
	dst = it.Record.Time.UTC().AppendFormat(dst, "2006-01-02T15:04:05.999999Z07:00") // six digits at most
	dst = append(dst, ' ')
	dst = appendWord(dst, it.Record.HostIdentifier, 255)
	dst = append(dst, ' ')
	dst = append(dst, s.app...)
	dst = append(dst, " - "...)
	dst = appendWord(dst, it.Record.Action, 32)
	dst = append(dst, " - "...)
	return append(dst, it.Line...)
}

func syslogSeverity(r *event.Record) int {
	if r.Action != event.Status {
		return syslogInfo
	}
	var w row
	w.read(r)
	switch w.column("severity") {
	case "1":
		return syslogWarning
	case "2", "3":
		return syslogError
	}
	return syslogInfo
}

// appendWord appends a field of the head: printable ASCII without spaces, and - for
// nothing.
func appendWord(dst []byte, s string, most int) []byte {
	if s == "" {
		return append(dst, '-')
	}
	for i := range min(len(s), most) {
		if c := s[i]; c > ' ' && c < 0x7f {
			dst = append(dst, c)
		} else {
			dst = append(dst, '_')
		}
	}
	return dst
}

// Close implements Sender.
func (s *syslogSender) Close() error {
	s.hangUp()
	return nil
}
