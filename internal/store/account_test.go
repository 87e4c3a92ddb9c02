//nolint:thelper // the functions of the suite are tests, not helpers
package store_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/musterhq/muster/internal/account"
	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/node"
	"github.com/musterhq/muster/internal/store"
)

func testAccount(t *testing.T, s *store.Store) {
	if must(s.HasUsers(t.Context()))(t) {
		t.Error("users out of nothing")
	}
	u := account.User{ID: "u1", Name: "ada", PasswordHash: "$argon2id$…", Roles: []string{"admin", "x"}, CreatedAt: start}
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
	ok(t, s.CreateFirstUser(t.Context(), account.User{ID: "u1", Name: "ada", Roles: []string{"admin"}, CreatedAt: start}))
	session := account.Session{
		UserID: "u1", UserName: "ada", Roles: []string{"admin"}, Kind: account.Bearer, CreatedAt: start, ExpiresAt: start.Add(time.Hour), LastSeen: start,
		Origin: account.Origin{Address: "192.0.2.1", Agent: "curl\x00"}, Hash: keyHash("s1"),
	}
	ok(t, s.CreateSession(t.Context(), keyHash("s1"), session))
	got := must(s.SessionByHash(t.Context(), keyHash("s1"), start.Add(time.Hour-time.Microsecond)))(t)
	session.Agent = `curl\x00`
	if diff := cmp.Diff(session, got, cmpopts.IgnoreUnexported(account.Access{})); diff != "" {
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

// testUserUpdate: a change sees all others, is all or nothing, and disabling ends
// sessions with it.
func testUserUpdate(t *testing.T, s *store.Store) {
	ctx := t.Context()
	ok(t, s.CreateFirstUser(ctx, account.User{ID: "u1", Name: "ada", Roles: []string{"admin"}, CreatedAt: start}))
	ok(t, s.CreateUser(ctx, account.User{ID: "u2", Name: "bob", CreatedAt: start}))
	for i, user := range []string{"u2", "u2", "u1"} {
		at := start.Add(time.Duration(i) * time.Minute)
		ok(t, s.CreateSession(ctx, keyHash(string(rune('a'+i))), account.Session{UserID: user, Kind: account.Cookie, CreatedAt: at, LastSeen: at, ExpiresAt: start.Add(time.Hour)}))
	}
	u := must(s.UpdateUser(ctx, "bob", func(u *account.User, others []account.User) error {
		if len(others) != 1 || others[0].Name != "ada" {
			t.Errorf("others: %+v", others)
		}
		u.Roles = []string{"analyst", "é\x00"}
		return nil
	}))(t)
	if diff := cmp.Diff(u, must(s.UserByName(ctx, "bob"))(t)); diff != "" {
		t.Error(diff)
	}
	_, err := s.UpdateUser(ctx, "bob", func(u *account.User, _ []account.User) error {
		u.Roles = nil
		return errs.New(errs.Conflict, "no")
	})
	wantKind(t, err, errs.Conflict)
	_, err = s.UpdateUser(ctx, "eve", func(*account.User, []account.User) error { return nil })
	wantKind(t, err, errs.NotFound)
	if got := must(s.SessionByHash(ctx, keyHash("a"), start))(t); len(got.Roles) != 2 || got.Roles[0] != "analyst" {
		t.Errorf("%+v", got)
	}

	ok(t, s.SeeSession(ctx, keyHash("a"), start.Add(time.Minute)))
	ok(t, s.SeeSession(ctx, keyHash("a"), start)) // late
	activity := must(s.Activity(ctx, start))(t)
	slices.SortFunc(activity, func(a, b account.Activity) int { return strings.Compare(a.UserID, b.UserID) })
	if diff := cmp.Diff([]account.Activity{
		{UserID: "u1", LastLogin: start.Add(2 * time.Minute), Sessions: 1}, {UserID: "u2", LastLogin: start.Add(time.Minute), Sessions: 2},
	}, activity); diff != "" {
		t.Errorf("activity (-want +got):\n%s", diff)
	}
	list := must(s.Sessions(ctx, "u2", start))(t)
	if len(list) != 2 || list[0].Hash != keyHash("b") || !list[1].LastSeen.Equal(start.Add(time.Minute)) || list[1].Hash != keyHash("a") {
		t.Errorf("%+v", list)
	}
	if list := must(s.Sessions(ctx, "u2", start.Add(time.Hour)))(t); len(list) != 0 {
		t.Errorf("ended: %+v", list)
	}
	if list := must(s.Activity(ctx, start.Add(time.Hour)))(t); list[0].Sessions != 0 || list[1].Sessions != 0 || list[1].LastLogin.IsZero() {
		t.Errorf("after their end: %+v", list)
	}
	if n := must(s.EndSessions(ctx, "u2", keyHash("a")))(t); n != 1 {
		t.Errorf("%d ended", n)
	}
	must(s.UpdateUser(ctx, "bob", func(u *account.User, _ []account.User) error { u.DisabledAt = start; return nil }))(t)
	if list := must(s.Sessions(ctx, "u2", start))(t); len(list) != 0 {
		t.Errorf("of a disabled user: %+v", list)
	}
	ok(t, s.CreateSession(ctx, keyHash("d"), account.Session{UserID: "u2", Kind: account.Cookie, CreatedAt: start, ExpiresAt: start.Add(time.Hour)}))
	_, err = s.SessionByHash(ctx, keyHash("d"), start) // one that was being made
	wantKind(t, err, errs.NotFound)
	if got := must(s.SessionByHash(ctx, keyHash("c"), start))(t); got.UserName != "ada" {
		t.Errorf("another's session: %+v", got)
	}
}

func testToken(t *testing.T, s *store.Store) {
	ctx := t.Context()
	ok(t, s.CreateFirstUser(ctx, account.User{ID: "u1", Name: "ada", Roles: []string{"admin"}, CreatedAt: start}))
	ok(t, s.CreateUser(ctx, account.User{ID: "u2", Name: "ci", Service: true, Roles: []string{"automation"}, CreatedAt: start}))
	one := account.Token{
		ID: "t1", UserID: "u2", UserName: "ci", Name: "deploy", Scope: account.Scope{Permissions: []string{"node.*"}, Selector: "tag = a", RowTier: new(0), MaxNodes: 3},
		Networks: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, CreatedAt: start, CreatedBy: "ada", ExpiresAt: start.Add(time.Hour), Hash: keyHash("t1"),
	}
	ok(t, s.CreateToken(ctx, one))
	same := one
	same.ID, same.Hash = "t2", keyHash("t2")
	wantKind(t, s.CreateToken(ctx, same), errs.Conflict)
	got, owner, err := s.TokenByHash(ctx, keyHash("t1"), start)
	ok(t, err)
	want := one
	want.Hash = got.Hash // which is not read
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" || !owner.Service || owner.Name != "ci" || owner.Roles[0] != "automation" {
		t.Errorf("%+v (-want +got):\n%s", owner, diff)
	}
	for hash, at := range map[node.KeyHash]time.Time{keyHash("t1"): start.Add(time.Hour), keyHash("t2"): start} {
		_, _, err := s.TokenByHash(ctx, hash, at)
		wantKind(t, err, errs.NotFound)
	}
	ok(t, s.UseToken(ctx, "t1", start.Add(time.Minute), "10.1.1.1\x00"))
	ok(t, s.UseToken(ctx, "t1", start, "late"))
	if list := must(s.Tokens(ctx, "u2"))(t); len(list) != 1 || list[0].LastFrom != `10.1.1.1\x00` || !list[0].LastUsed.Equal(start.Add(time.Minute)) {
		t.Errorf("%+v", list)
	}
	wantKind(t, s.EndToken(ctx, "u1", "t1", start), errs.NotFound) // another's
	same.Factor = true
	others := same
	others.UserID = "u1"
	wantKind(t, s.ReplaceToken(ctx, "t1", start, others), errs.NotFound)
	ok(t, s.ReplaceToken(ctx, "t1", start.Add(2*time.Minute), same))
	if got, _, err := s.TokenByHash(ctx, keyHash("t2"), start); err != nil || !got.Factor {
		t.Errorf("%+v, %v", got, err)
	}
	_, _, err = s.TokenByHash(ctx, keyHash("t1"), start.Add(2*time.Minute))
	wantKind(t, err, errs.NotFound)
	again := same
	again.ID, again.Hash = "t1b", keyHash("t1b")
	ok(t, s.ReplaceToken(ctx, "t1", start.Add(time.Hour), again)) // makes no token longer
	_, _, err = s.TokenByHash(ctx, keyHash("t1"), start.Add(2*time.Minute))
	wantKind(t, err, errs.NotFound)
	ok(t, s.EndToken(ctx, "u2", "t1b", start))
	ok(t, s.EndToken(ctx, "u2", "t2", start))
	wantKind(t, s.EndToken(ctx, "u2", "t2", start), errs.NotFound)
	wantKind(t, s.ReplaceToken(ctx, "t2", start.Add(time.Hour), again), errs.NotFound)
	_, _, err = s.TokenByHash(ctx, keyHash("t2"), start)
	wantKind(t, err, errs.NotFound)
	third := one
	third.ID, third.Hash, third.CreatedAt, third.ExpiresAt = "t3", keyHash("t3"), start.AddDate(1, 0, 0), start.AddDate(1, 0, 1)
	ok(t, s.CreateToken(ctx, third))
	if list := must(s.Tokens(ctx, ""))(t); len(list) != 1 || list[0].ID != "t3" {
		t.Errorf("long after: %+v", list)
	}
	must(s.UpdateUser(ctx, "ci", func(u *account.User, _ []account.User) error { u.DisabledAt = start; return nil }))(t)
	_, _, err = s.TokenByHash(ctx, keyHash("t3"), third.CreatedAt)
	wantKind(t, err, errs.NotFound)
	must(s.UpdateUser(ctx, "ci", func(u *account.User, _ []account.User) error { u.DisabledAt = time.Time{}; return nil }))(t)
	_, _, err = s.TokenByHash(ctx, keyHash("t3"), third.CreatedAt)
	wantKind(t, err, errs.NotFound) // it ended with the account, for good
}

func testFactor(t *testing.T, s *store.Store) {
	ctx := t.Context()
	ok(t, s.CreateFirstUser(ctx, account.User{ID: "u1", Name: "ada", CreatedAt: start}))
	ok(t, s.CreateSession(ctx, keyHash("s"), account.Session{UserID: "u1", Kind: account.Cookie, CreatedAt: start, ExpiresAt: start.Add(time.Hour)}))
	has := func() bool { return must(s.SessionByHash(ctx, keyHash("s"), start))(t).Factor }
	f := account.Factor{ID: "f1", UserID: "u1", Name: "phone\x00", Sealed: []byte{0, 1, 255}, CreatedAt: start}
	ok(t, s.AddFactor(ctx, f))
	f.ID = "f2"
	ok(t, s.AddFactor(ctx, f)) // in place of the first, which was never confirmed
	f.Name = `phone\x00`
	if diff := cmp.Diff([]account.Factor{f}, must(s.Factors(ctx, "u1"))(t)); diff != "" || has() {
		t.Errorf("factors (-want +got):\n%s", diff)
	}
	wantKind(t, s.UseFactor(ctx, "f2", 7, start), errs.Conflict)
	ok(t, s.ConfirmFactor(ctx, "f2", 7, start))
	wantKind(t, s.ConfirmFactor(ctx, "f2", 8, start), errs.Conflict)
	wantKind(t, s.UseFactor(ctx, "f2", 7, start), errs.Conflict)
	ok(t, s.UseFactor(ctx, "f2", 9, start.Add(time.Minute)))
	wantKind(t, s.UseFactor(ctx, "f2", 8, start), errs.Conflict)
	if list := must(s.Factors(ctx, "u1"))(t); !has() || list[0].Step != 9 || !list[0].ConfirmedAt.Equal(start) || !list[0].LastUsed.Equal(start.Add(time.Minute)) {
		t.Errorf("%+v", list)
	}
	ok(t, s.SetRecovery(ctx, "u1", []node.KeyHash{keyHash("a"), keyHash("b")}))
	ok(t, s.SetRecovery(ctx, "u1", []node.KeyHash{keyHash("c"), keyHash("d")}))
	wantKind(t, s.UseRecovery(ctx, "u1", keyHash("a")), errs.NotFound)
	ok(t, s.UseRecovery(ctx, "u1", keyHash("c")))
	wantKind(t, s.UseRecovery(ctx, "u1", keyHash("c")), errs.NotFound)
	if n := must(s.RecoveryLeft(ctx, "u1"))(t); n != 1 {
		t.Errorf("%d left", n)
	}
	wantKind(t, s.DeleteFactor(ctx, "u1", "f1"), errs.NotFound)
	wantKind(t, s.DeleteFactor(ctx, "u2", "f2"), errs.NotFound)
	ok(t, s.DeleteFactor(ctx, "u1", "f2"))
	if n := must(s.RecoveryLeft(ctx, "u1"))(t); n != 0 || has() {
		t.Errorf("%d recovery codes without a factor", n)
	}
}

func testIdentity(t *testing.T, s *store.Store) {
	ctx := t.Context()
	ok(t, s.CreateFirstUser(ctx, account.User{ID: "u1", Name: "ada", Roles: []string{"admin"}, CreatedAt: start}))
	one, other := account.Identity{Issuer: "https://a", Subject: "1"}, account.Identity{Issuer: "https://b", Subject: "1"}
	_, err := s.UserByIdentity(ctx, one)
	wantKind(t, err, errs.NotFound)
	bob := account.User{ID: "u2", Name: "bob", Roles: []string{"analyst"}, Origin: "idp", CreatedAt: start}
	ok(t, s.CreateLinked(ctx, bob, one))
	if diff := cmp.Diff(bob, must(s.UserByIdentity(ctx, one))(t)); diff != "" {
		t.Errorf("user (-want +got):\n%s", diff)
	}
	_, err = s.UserByIdentity(ctx, other)
	wantKind(t, err, errs.NotFound)
	wantKind(t, s.CreateLinked(ctx, account.User{ID: "u3", Name: "carol"}, one), errs.Conflict)
	wantKind(t, s.CreateLinked(ctx, account.User{ID: "u4", Name: "bob"}, other), errs.Conflict)
	if users := must(s.Users(ctx))(t); len(users) != 2 {
		t.Errorf("half a user: %+v", users)
	}
	wantKind(t, s.Link(ctx, "u1", one, start), errs.Conflict)
	ok(t, s.Link(ctx, "u1", other, start))
	if list := must(s.Identities(ctx, "u1"))(t); len(list) != 1 || list[0] != other {
		t.Errorf("%+v", list)
	}
	wantKind(t, s.Unlink(ctx, "u1", one), errs.NotFound)
	ok(t, s.Unlink(ctx, "u1", other))
	_, err = s.UserByIdentity(ctx, other)
	wantKind(t, err, errs.NotFound)
	ok(t, s.CreateSession(ctx, keyHash("s"), account.Session{
		UserID: "u2", Kind: account.Cookie, CreatedAt: start, ExpiresAt: start.Add(time.Hour), Origin: account.Origin{SecondFactor: true, ProvedAt: start},
	}))
	if got := must(s.SessionByHash(ctx, keyHash("s"), start))(t); !got.Factor || !got.ProvedAt.Equal(start) {
		t.Errorf("%+v", got)
	}
}

func testInvitation(t *testing.T, s *store.Store) {
	ctx := t.Context()
	ok(t, s.CreateFirstUser(ctx, account.User{ID: "u1", Name: "ada", PasswordHash: "old", Roles: []string{"admin"}, CreatedAt: start}))
	one := account.Invitation{ID: "i1", Name: "bob", Roles: []string{"analyst"}, By: "ada", CreatedAt: start, ExpiresAt: start.Add(time.Hour), Hash: keyHash("i1")}
	ok(t, s.CreateInvitation(ctx, one))
	if diff := cmp.Diff([]account.Invitation{one}, must(s.Invitations(ctx, start))(t)); diff != "" {
		t.Errorf("invitations (-want +got):\n%s", diff)
	}
	again := one
	again.ID, again.Hash, again.CreatedAt, again.ExpiresAt = "i2", keyHash("i2"), start.Add(time.Minute), start.Add(2*time.Hour)
	ok(t, s.CreateInvitation(ctx, again))
	_, err := s.InvitationByHash(ctx, keyHash("i1"), start) // one for a name
	wantKind(t, err, errs.NotFound)
	_, err = s.InvitationByHash(ctx, keyHash("i2"), start.Add(2*time.Hour))
	wantKind(t, err, errs.NotFound)
	got := must(s.InvitationByHash(ctx, keyHash("i2"), start))(t)

	taken := account.User{ID: "u2", Name: "ada", PasswordHash: "x", CreatedAt: start}
	wantKind(t, s.AcceptInvitation(ctx, got, taken), errs.Conflict)
	ok(t, s.AcceptInvitation(ctx, got, account.User{ID: "u2", Name: "bob", PasswordHash: "new", Roles: got.Roles, CreatedAt: start}))
	if u := must(s.UserByName(ctx, "bob"))(t); u.PasswordHash != "new" || u.Roles[0] != "analyst" {
		t.Errorf("%+v", u)
	}
	wantKind(t, s.AcceptInvitation(ctx, got, account.User{ID: "u3", Name: "eve", CreatedAt: start}), errs.NotFound)
	if users := must(s.Users(ctx))(t); len(users) != 2 {
		t.Errorf("a link worked twice: %+v", users)
	}

	reset := account.Invitation{ID: "i3", Name: "ada", Reset: true, By: "ada", CreatedAt: start, ExpiresAt: start.Add(time.Hour), Hash: keyHash("i3")}
	ok(t, s.CreateInvitation(ctx, reset))
	ok(t, s.CreateSession(ctx, keyHash("s"), account.Session{UserID: "u1", Kind: account.Cookie, CreatedAt: start, ExpiresAt: start.Add(time.Hour)}))
	ok(t, s.AcceptInvitation(ctx, reset, account.User{Name: "ada", PasswordHash: "newer"}))
	if u := must(s.UserByName(ctx, "ada"))(t); u.PasswordHash != "newer" || u.Roles[0] != "admin" {
		t.Errorf("%+v", u)
	}
	_, err = s.SessionByHash(ctx, keyHash("s"), start)
	wantKind(t, err, errs.NotFound)

	must(s.UpdateUser(ctx, "bob", func(u *account.User, _ []account.User) error { u.DisabledAt = start; return nil }))(t)
	reset.Name, reset.Hash = "bob", keyHash("i4")
	ok(t, s.CreateInvitation(ctx, reset))
	wantKind(t, s.AcceptInvitation(ctx, reset, account.User{Name: "bob", PasswordHash: "z"}), errs.NotFound)
	if list := must(s.Invitations(ctx, start))(t); len(list) != 1 { // nothing happened
		t.Errorf("%+v", list)
	}
	ok(t, s.DeleteInvitation(ctx, "i3"))
	wantKind(t, s.DeleteInvitation(ctx, "i3"), errs.NotFound)
}
