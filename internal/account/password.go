package account

import (
	"context"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/musterhq/muster/internal/errs"
)

// MinPassword is the shortest password, in characters (ASVS 5.0, 6.2.1).
const MinPassword = 15

// maxPassword bounds what is hashed, in bytes.
const maxPassword = 1024

// checkPassword refuses passwords that a user cannot have.
func checkPassword(name, password string) error {
	if utf8.RuneCountInString(password) < MinPassword || len(password) > maxPassword {
		return errs.Field("password", "must have %d to %d characters", MinPassword, maxPassword)
	}
	if guessable(name, password) {
		return errs.Field("password", "is one that is tried early; take some words that have nothing to do with one another")
	}
	return nil
}

// ownLetters is how many different letters a password must have besides what
// everybody's have.
const ownLetters = 5

// guessable reports whether a password is made of what is tried first: words of known
// passwords, the user's name, rows of keys, repetitions (ASVS 5.0, 6.2.4 and 6.2.11).
// Lists of known passwords hold few that are as long as ours must be, and those few are
// made so.
func guessable(name, password string) bool {
	// What stands around the letters is mostly counted up.
	rest := strings.TrimFunc(strings.ToLower(password), func(r rune) bool { return !unicode.IsLetter(r) })
	names := strings.FieldsFunc(strings.ToLower(name), func(r rune) bool { return !unicode.IsLetter(r) })
	own := func(text string) int {
		text = unrepeated(text)
		for _, word := range append(commonWords(), names...) {
			if len(word) > 2 {
				text = strings.ReplaceAll(text, word, "\x00")
			}
		}
		letters := []rune(withoutRuns(strings.ReplaceAll(text, "\x00", "")))
		slices.Sort(letters)
		return len(slices.Compact(letters))
	}
	return min(own(rest), own(plainLetters(rest))) < ownLetters
}

// plainLetters undoes what people write for letters, and between them.
func plainLetters(s string) string {
	return strings.NewReplacer("@", "a", "4", "a", "3", "e", "0", "o", "$", "s", "5", "s", "1", "i", "!", "i", "7", "t", " ", "", "-", "", "_", "", ".", "").Replace(s)
}

// unrepeated returns the part that a text repeats, or the text.
func unrepeated(s string) string {
	for n := 1; n <= len(s)/2; n++ {
		if strings.HasPrefix(s, s[n:]) {
			return s[:n]
		}
	}
	return s
}

// withoutRuns leaves out characters that follow from the one before: the same, the
// next, or the one beside it on a keyboard.
func withoutRuns(s string) string {
	const rows = "qwertyuiop asdfghjkl zxcvbnm poiuytrewq lkjhgfdsa mnbvcxz qazwsxedcrfvtgbyhnujmikolp 1q2w3e4r5t6y7u8i9o0p"
	var out strings.Builder
	var before rune
	for _, r := range s {
		step := r - before
		if follows := step >= -1 && step <= 1 || strings.Contains(rows, string([]rune{before, r})); !follows {
			out.WriteRune(r)
		}
		before = r
	}
	return out.String()
}

// commonWords are what long known passwords are made of, in the letters of
// plainLetters; what others contain comes after them.
func commonWords() []string {
	return []string{
		"correcthorsebatterystaple", "administrator", "thequickbrownfox", "passphrase", "password", "passwort", "motdepasse", "contrasena",
		"changeme", "changeit", "letmein", "welcome", "iloveyou", "sunshine", "princess", "football", "baseball", "superman", "batman", "dragon", "monkey", "shadow", "master",
		"qwertyuiop", "qwerty", "azerty", "qwertz", "trustno", "starwars", "michael", "jennifer", "computer", "internet", "security", "secret", "default", "system", "server",
		"service", "support", "manager", "operator", "osquery", "muster", "admin", "login", "access", "private", "testing", "test", "temp", "guest", "user", "root", "pass", "word",
		"january", "february", "march", "april", "june", "july", "august", "september", "october", "november", "december", "monday", "tuesday", "wednesday", "thursday", "friday",
		"saturday", "sunday", "spring", "summer", "autumn", "winter", "company", "london", "paris", "berlin", "whatever", "hello", "world", "love",
	}
}

// outdated reports whether a hash was made with other parameters than are in use.
func outdated(hashed string) bool {
	return !strings.HasPrefix(hashed, strings.TrimSuffix(encode(nil, nil), "$"))
}

// renew hashes a password that was right with the parameters in use.
func (a *Accounts) renew(ctx context.Context, u User, password string) error {
	hashed, err := a.hashed(ctx, password)
	if err != nil {
		return err
	}
	_, err = a.store.UpdateUser(ctx, u.Name, func(now *User, _ []User) error {
		if now.PasswordHash == u.PasswordHash { // nobody changed it meanwhile
			now.PasswordHash = hashed
		}
		return nil
	})
	return err
}
