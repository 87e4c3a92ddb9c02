package app

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/musterhq/muster/internal/audit"
)

// witness is a place outside that is told each checkpoint of the audit log, so
// that who can write to the server's disk cannot make the log anew unnoticed.
// One that cannot be reached is tried again, and stops nothing.
type witness struct {
	name string // for people: without a password
	tell func(ctx context.Context, signed []byte) error
	told atomic.Int64 // size of the newest checkpoint that it was told
}

// Timing of witnesses.
const (
	witnessTimeout = 10 * time.Second
	witnessPause   = 5 * time.Second // after a failure; it doubles
	witnessMaxWait = time.Minute
	// witnessAlarmAfter is how long a witness fails before people are told.
	witnessAlarmAfter = 5 * time.Minute
)

// newWitness reads a URL as audit_witness has it; see config.Server.
func newWitness(text string) (*witness, error) {
	u, err := url.Parse(text)
	if err != nil {
		return nil, err
	}
	w := &witness{name: u.Redacted()}
	switch u.Scheme {
	case "http", "https":
		w.tell = post(text)
	case "syslog", "syslog+tcp":
		w.tell = syslog(u)
	case "file":
		w.tell = func(_ context.Context, signed []byte) error { return appendLine(u.Path, audit.Line(signed)) }
	default:
		return nil, fmt.Errorf("%s is no http, https, syslog, syslog+tcp or file URL", w.name)
	}
	return w, nil
}

// run tells the witness until ctx ends. It is told the newest only: that
// vouches for all before it.
func (w *witness) run(ctx context.Context, n *audit.Notary, alarm func(ctx context.Context, witness string, err error), log *slog.Logger) {
	pause := witnessPause
	var failing time.Time      // since when; zero if it answers
	told, fresh := false, true // people know; they may from before the start
	for {
		signed, err := n.Next(ctx, w.told.Load())
		if err != nil {
			return
		}
		if err = w.try(ctx, signed.Note); err == nil {
			w.told.Store(signed.Size)
			if pause > witnessPause {
				log.InfoContext(ctx, "the witness of the audit log answers again", "witness", w.name)
			}
			if told || fresh {
				alarm(ctx, w.name, nil)
			}
			pause, failing, told, fresh = witnessPause, time.Time{}, false, false
			continue
		}
		if pause == witnessPause {
			log.ErrorContext(ctx, "the witness of the audit log cannot be told; trying again", "witness", w.name, "error", err)
		}
		if failing.IsZero() {
			failing = time.Now()
		} else if !told && time.Since(failing) >= witnessAlarmAfter {
			told = true
			alarm(ctx, w.name, err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		pause = max(min(2*pause, witnessMaxWait), witnessPause+1)
	}
}

func (w *witness) try(ctx context.Context, signed []byte) error {
	ctx, cancel := context.WithTimeout(ctx, witnessTimeout)
	defer cancel()
	return w.tell(ctx, signed)
}

// post sends the signed note as the body of a POST; any 2xx is an answer. What
// redirects is not followed: it is not what the operator named.
func post(target string) func(context.Context, []byte) error {
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return func(ctx context.Context, signed []byte) error {
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, target, strings.NewReader(string(signed)))
		if err != nil {
			return err
		}
		r.Header.Set("Content-Type", "text/plain; charset=utf-8")
		answer, err := client.Do(r)
		if err != nil {
			return err
		}
		_, _ = io.CopyN(io.Discard, answer.Body, 4<<10) // so that the connection is used again
		_ = answer.Body.Close()
		if answer.StatusCode/100 != 2 {
			return fmt.Errorf("it answered %s", answer.Status)
		}
		return nil
	}
}

// syslogPriority is facility 13 (log audit) and severity 5 (notice), as RFC 5424
// numbers them.
const syslogPriority = 13*8 + 5

// syslog sends one message (RFC 5424) with the checkpoint as a line: to a local
// socket if the URL has a path, over TCP with its length in front (RFC 6587), or
// else over UDP. None of the three says that it arrived.
func syslog(u *url.URL) func(context.Context, []byte) error {
	network, address := "udp", u.Host
	switch {
	case u.Path != "" && u.Host == "":
		network, address = "unixgram", u.Path
	case u.Scheme == "syslog+tcp":
		network = "tcp"
	}
	if u.Host != "" && u.Port() == "" {
		address = net.JoinHostPort(u.Hostname(), "514")
	}
	host, err := os.Hostname()
	if err != nil || host == "" {
		host = "-"
	}
	return func(ctx context.Context, signed []byte) error {
		conn, err := new(net.Dialer).DialContext(ctx, network, address)
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close() }() // Write told
		if deadline, ok := ctx.Deadline(); ok {
			_ = conn.SetDeadline(deadline) // it is a network connection: it has deadlines
		}
		message := fmt.Sprintf("<%d>1 %s %s muster %d audit - %s", syslogPriority, time.Now().UTC().Format(time.RFC3339Nano), host, os.Getpid(), audit.Line(signed))
		if network == "tcp" {
			message = fmt.Sprintf("%d %s", len(message), message)
		}
		_, err = io.WriteString(conn, message)
		return err
	}
}
