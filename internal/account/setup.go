package account

import (
	"context"
	"crypto/subtle"
	"sync"

	"github.com/musterhq/muster/internal/audit"
	"github.com/musterhq/muster/internal/errs"
)

// Setup guards the way to the first administrator: a token that only who can
// read the server's data directory, or its terminal, knows. Safe for concurrent
// use.
type Setup struct {
	accounts *Accounts
	audit    *audit.Log
	void     func() error

	mu    sync.Mutex
	token string
}

// NewSetup returns a Setup; token is "" when there is an administrator, and
// void is called when the token has been used.
func NewSetup(accounts *Accounts, log *audit.Log, token string, void func() error) *Setup {
	return &Setup{accounts: accounts, audit: log, token: token, void: void}
}

// Make makes the first administrator. After that the token is void.
func (s *Setup) Make(ctx context.Context, token, name, password string) (User, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.token == "" {
		return User{}, errs.New(errs.Conflict, "this server is set up; log in")
	}
	if subtle.ConstantTimeCompare([]byte(token), []byte(s.token)) != 1 {
		return User{}, errs.New(errs.Forbidden, "the setup token is wrong; it is in the file setup-token of the server's data directory")
	}
	if err := checkNew(name, password); err != nil {
		return User{}, err
	}
	if err := s.audit.Record(ctx, "setup", "user.create", name, nil); err != nil {
		return User{}, err
	}
	u, err := s.accounts.SetUp(ctx, name, password)
	if err != nil {
		return User{}, err
	}
	s.token = ""
	return u, s.void()
}
