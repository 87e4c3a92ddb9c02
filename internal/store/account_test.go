//nolint:thelper // the functions of the suite are tests, not helpers
package store_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/musterhq/muster/internal/account"
	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/store"
)

func testAccount(t *testing.T, s *store.Store) {
	if must(s.HasUsers(t.Context()))(t) {
		t.Error("users out of nothing")
	}
	u := account.User{ID: "u1", Name: "ada", PasswordHash: "$argon2id$…", CreatedAt: start}
	ok(t, s.CreateFirstUser(t.Context(), u))
	wantKind(t, s.CreateFirstUser(t.Context(), account.User{ID: "u2", Name: "eve"}), errs.Conflict)
	if !must(s.HasUsers(t.Context()))(t) {
		t.Error("no users")
	}
	if diff := cmp.Diff(u, must(s.UserByName(t.Context(), "ada"))(t)); diff != "" {
		t.Errorf("user (-want +got):\n%s", diff)
	}
	ok(t, s.CreateUser(t.Context(), account.User{ID: "u3", Name: "bob", PasswordHash: "x", CreatedAt: start}))
	wantKind(t, s.CreateUser(t.Context(), account.User{ID: "u4", Name: "bob"}), errs.Conflict)
	if users := must(s.Users(t.Context()))(t); len(users) != 2 || users[0].Name != "ada" || users[1].Name != "bob" || users[0].PasswordHash != "" {
		t.Errorf("users: %+v", users)
	}
	for _, name := range []string{"eve", "Ada", "", "ada\x00"} {
		_, err := s.UserByName(t.Context(), name)
		wantKind(t, err, errs.NotFound)
	}
}

func testAccountFirst(t *testing.T, s *store.Store) {
	made := 0
	for _, err := range together(8, func(i int) error {
		name := string(rune('a' + i))
		return s.CreateFirstUser(t.Context(), account.User{ID: name, Name: name})
	}) {
		if err == nil {
			made++
		} else {
			wantKind(t, err, errs.Conflict)
		}
	}
	if made != 1 {
		t.Errorf("%d first users", made)
	}
}

func testSession(t *testing.T, s *store.Store) {
	ok(t, s.CreateFirstUser(t.Context(), account.User{ID: "u1", Name: "ada", CreatedAt: start}))
	session := account.Session{UserID: "u1", UserName: "ada", Kind: account.Bearer, CreatedAt: start, ExpiresAt: start.Add(time.Hour)}
	ok(t, s.CreateSession(t.Context(), keyHash("s1"), session))
	got := must(s.SessionByHash(t.Context(), keyHash("s1"), start.Add(time.Hour-time.Microsecond)))(t)
	if diff := cmp.Diff(session, got, cmpopts.IgnoreUnexported(account.Session{})); diff != "" {
		t.Errorf("session (-want +got):\n%s", diff)
	}
	_, err := s.SessionByHash(t.Context(), keyHash("s1"), start.Add(time.Hour))
	wantKind(t, err, errs.NotFound)
	later := session
	later.CreatedAt, later.ExpiresAt = start.Add(2*time.Hour), start.Add(3*time.Hour)
	ok(t, s.CreateSession(t.Context(), keyHash("s2"), later))
	_, err = s.SessionByHash(t.Context(), keyHash("s1"), start) // forgotten, as it had ended
	wantKind(t, err, errs.NotFound)
	ok(t, s.DeleteSession(t.Context(), keyHash("s2")))
	ok(t, s.DeleteSession(t.Context(), keyHash("s2")))
	_, err = s.SessionByHash(t.Context(), keyHash("s2"), start)
	wantKind(t, err, errs.NotFound)
	if err := s.CreateSession(t.Context(), keyHash("s3"), account.Session{UserID: "nobody"}); err == nil {
		t.Error("a session of nobody")
	}
}
