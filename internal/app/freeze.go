package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"sync"
	"time"
)

// freezeSource asks a system outside whether what agents run may change: a file
// or a URL that holds {"frozen": true, "reason": "…"}. One that cannot be asked,
// or answers anything else, is a freeze: a lock that is gone must not be open.
type freezeSource struct {
	name string
	read func(ctx context.Context) ([]byte, error)
	// tell is called when the answer changed, and with the first.
	tell func(ctx context.Context, source, reason string, frozen bool)
	log  *slog.Logger
	now  func() time.Time

	mu     sync.Mutex
	asked  time.Time // zero before the first answer
	frozen bool
	reason string
}

// How a freeze source is asked.
const (
	askEvery    = 15 * time.Second
	askTimeout  = 10 * time.Second
	askedFor    = time.Minute // an answer that is older does not count
	maxFreezing = 64 << 10    // bytes of an answer
)

// newFreezeSource returns a source by its path or URL.
func newFreezeSource(text string, tell func(ctx context.Context, source, reason string, frozen bool), log *slog.Logger, now func() time.Time) (*freezeSource, error) {
	u, err := url.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("freeze_source: %w", err)
	}
	s := &freezeSource{name: u.Redacted(), tell: tell, log: log, now: now}
	switch u.Scheme {
	case "http", "https":
		s.read = fetch(u.String())
	case "file", "":
		path := u.Path
		s.read = func(context.Context) ([]byte, error) { return readSmall(path) }
	default:
		return nil, fmt.Errorf("freeze_source: %q is none of https://host/path and file:///path", s.name) //nolint:err113 // told at start
	}
	return s, nil
}

func fetch(from string) func(ctx context.Context) ([]byte, error) {
	client := &http.Client{Timeout: askTimeout, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return func(ctx context.Context) ([]byte, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
		if err != nil {
			return nil, err
		}
		answer, err := client.Do(req)
		if err != nil {
			if u, ok := errors.AsType[*url.Error](err); ok {
				err = u.Err // its text would hold the URL with its password
			}
			return nil, err
		}
		defer answer.Body.Close() //nolint:errcheck // only read
		if answer.StatusCode != http.StatusOK {
			return nil, fmt.Errorf("it answers %s", answer.Status) //nolint:err113 // told to people
		}
		return io.ReadAll(io.LimitReader(answer.Body, maxFreezing))
	}
}

func readSmall(path string) ([]byte, error) {
	f, err := os.Open(path) //nolint:gosec // the operator names it
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read
	return io.ReadAll(io.LimitReader(f, maxFreezing))
}

// Run asks until ctx ends.
func (s *freezeSource) Run(ctx context.Context) error {
	t := time.NewTicker(askEvery)
	defer t.Stop()
	for {
		s.ask(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

func (s *freezeSource) ask(ctx context.Context) {
	var answer struct {
		Frozen *bool  `json:"frozen"`
		Reason string `json:"reason"`
	}
	b, err := s.read(ctx)
	if err == nil {
		err = json.Unmarshal(b, &answer)
	}
	if err == nil && answer.Frozen == nil {
		err = errors.New("its answer has no frozen") //nolint:err113 // told to people
	}
	if reason, frozen, changed := s.take(answer.Frozen, answer.Reason, err); changed {
		s.log.InfoContext(ctx, "the outside freeze changed", "frozen", frozen, "reason", reason)
		s.tell(ctx, s.name, reason, frozen)
	}
}

// take keeps an answer, and reports whether it is another than before.
func (s *freezeSource) take(is *bool, why string, err error) (reason string, frozen, changed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	was, first := s.frozen, s.asked.IsZero()
	s.asked = s.now()
	if err != nil {
		s.frozen, s.reason = true, fmt.Sprintf("%s cannot be asked: %v", s.name, err)
	} else {
		s.frozen, s.reason = *is, fmt.Sprintf("%s: %s", s.name, why)
	}
	return s.reason, s.frozen, s.frozen != was || first
}

// Frozen implements change.External.
func (s *freezeSource) Frozen() (reason string, frozen bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	age := s.now().Sub(s.asked)
	if s.asked.IsZero() || age > askedFor || age < -askedFor {
		return s.name + " has not been asked lately", true
	}
	return s.reason, s.frozen
}
