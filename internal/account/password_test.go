package account

import (
	"fmt"
	"strings"
	"testing"

	"golang.org/x/crypto/argon2"

	"github.com/musterhq/muster/internal/errs"
)

func TestCheckPassword(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{
		"short", "fourteen chars", "", strings.Repeat("kettle fjord ", 100),
		"passwordpassword", "Password12345678", "P@ssw0rd!P@ssw0rd!", "qwertyuiopasdfgh", "aaaaaaaaaaaaaaaaa", "abcdefghijklmnop", "123456789012345", "1q2w3e4r5t6y7u8i",
		"correct horse battery staple", "grace.hopper2026!", "Grace Hopper grace", "letmein-letmein-1", "Summer2026Winter2026", "osquery-muster-admin", "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
	} {
		if err := checkPassword("grace.hopper", bad); !errs.Is(err, errs.Invalid) {
			t.Errorf("%q passes: %v", bad, err)
		}
	}
	for _, good := range []string{"correct horse battery", "lusab-babad-gutih", "kettle umbrella fjord", "mein Hund heißt Wuff", "Xq7#kP2vLm9!tRz4", "пароль из шести слов", "лежебока наугад о"} {
		if err := checkPassword("grace.hopper", good); err != nil {
			t.Errorf("%q is refused: %v", good, err)
		}
	}
}

func FuzzCheckPassword(f *testing.F) {
	f.Add("ada", "correct horse battery")
	f.Add("", "\xff\xfe\xfd")
	f.Fuzz(func(t *testing.T, name, password string) {
		if checkPassword(name, password) == nil && (len(password) < MinPassword || len(password) > maxPassword || password == name) {
			t.Errorf("%q of %q", password, name)
		}
	})
}

// TestRenew: a hash that was made with other parameters is made anew at a login.
func TestRenew(t *testing.T) {
	t.Parallel()
	s := newStore()
	a := newAccounts(s)
	salt := []byte("0123456789abcdef")
	old := encode(salt, argon2.IDKey([]byte(password), salt, 1, 8<<10, 1, argonKey))
	old = strings.Replace(old, fmt.Sprintf("m=%d,t=%d,p=%d", argonMemory, argonTime, argonThreads), "m=8192,t=1,p=1", 1)
	s.users["ada"] = User{ID: "1", Name: "ada", PasswordHash: old}
	if _, err := a.Login(t.Context(), "ada", "another password!", Second{}); err == nil || s.users["ada"].PasswordHash != old {
		t.Errorf("a wrong password: %v", err)
	}
	var renewed []string
	for range 2 {
		if _, err := a.Login(t.Context(), "ada", password, Second{}); err != nil {
			t.Fatal(err)
		}
		renewed = append(renewed, s.users["ada"].PasswordHash)
	}
	if renewed[0] == old || outdated(renewed[0]) || renewed[1] != renewed[0] {
		t.Errorf("%s became %q", old, renewed)
	}
}
