package redact

import (
	"bytes"
	"slices"
)

// Kinds of what is a secret by its name or place.
const (
	kindPassword = "password"
	kindToken    = "token"
	kindSecret   = "secret"
	kindKey      = "key"
	kindHeader   = "header"
	kindURL      = "url"
)

// Limits of what is looked through around a keyword; what is longer was not
// written by people.
const (
	maxName     = 64   // of a name, each way
	maxValue    = 8192 // of what follows it
	maxArgument = 4096 // from a tool to the flag with its password
)

// names returns the keywords of names that say what follows, and of places where
// secrets are.
func names() []keyword {
	k := []keyword{
		{text: "://", before: alnum, find: findURL},
		{text: "authorization", find: findHeader},
		{text: "x-api-key", find: findHeader},
		{text: "x-auth-token", find: findHeader},
		{text: "x-vault-token", find: findHeader},
		{text: "private-token", find: findHeader},
		{text: "cookie:", find: findCookie},
		{text: "bearer ", find: findBearer},
		{text: "convertto-securestring", find: findSecureString},
		{text: "identified by", find: findIdentified},
	}
	for _, word := range []string{
		"pass", "token", "secret", "credential", "_auth", "pwd=", "pwd:", "pwd ", `pwd"`, "pwd'", "sig=", "signature=", "sessid", "sessionid",
		"apikey", "api_key", "api-key", "api.key", "_key", "-key", ".key", "skey", "ikey", "tkey", "ekey", "gkey", "nkey", "hkey", "dkey", "rkey",
	} {
		k = append(k, keyword{text: word, find: findName})
	}
	for _, t := range tools() {
		k = append(k, keyword{text: t.name, find: t.findArgument})
	}
	return k
}

// secretName returns the kind of secret that a name says its value is; "" if it
// does not. The end of the name counts: a token_type is no token.
func secretName(name []byte) string {
	for len(name) > 0 && class(name[len(name)-1])&(digit|underscore|dash|dot) != 0 {
		name = name[:len(name)-1] // password_2
	}
	var buf [maxName]byte
	n := 0
	for _, c := range name[max(0, len(name)-maxName):] {
		switch has := class(c); {
		case has&upper != 0:
			buf[n] = c | 0x20
		case has&(lower|digit) != 0:
			buf[n] = c
		default:
			continue
		}
		n++
	}
	plain := buf[:n]
	switch {
	case suffix(plain, "password", "passwd", "passwort", "passphrase", "pwd", "passcode"):
		return kindPassword
	case suffix(plain, "pass") && wordEnd(name, len("pass")):
		return kindPassword
	case suffix(plain, "token", "sessionid", "sessid", "amzsignature"):
		return kindToken
	case suffix(plain, "secret", "credential", "credentials"):
		return kindSecret
	case suffix(plain, "apikey", "accesskey", "secretkey", "privatekey", "signingkey", "encryptionkey", "authkey", "accountkey",
		"masterkey", "storagekey", "sharedkey", "licensekey", "servicekey", "sessionkey", "deploykey", "hmackey", "secretkeybase"):
		return kindKey
	case suffix(name, "_auth") || suffix(plain, "sig") && len(plain) == len("sig"):
		return kindToken
	}
	return ""
}

func suffix(b []byte, of ...string) bool {
	for _, s := range of {
		if len(b) >= len(s) && string(b[len(b)-len(s):]) == s {
			return true
		}
	}
	return false
}

// wordEnd reports whether the last n letters of a name are a word: bypass is no
// password.
func wordEnd(name []byte, n int) bool {
	if len(name) == n {
		return true
	}
	before, first := name[len(name)-n-1], name[len(name)-n]
	return class(before)&alnum == 0 || class(first)&upper != 0 && class(before)&upper == 0
}

// findName finds name=value, name: value, --name value and the like, where the
// name has the keyword.
func findName(sc *scanner, v []byte, start, end int) {
	if start < sc.skip {
		return
	}
	// The keyword may be in the middle of the name, or hold its separator.
	for class(v[end-1])&word == 0 && end > start {
		end--
	}
	end += run(v, end, end+maxName, word|dash|dot)
	for end > start && class(v[end-1])&(dash|dot) != 0 {
		end--
	}
	sc.skip = end
	if !separates(at(v, end)) {
		return
	}
	start -= back(v, start, maxName, word|dash|dot)
	if at(v, start-1) == ':' && at(v, end) == ':' {
		return // a word of a list, as in arn:aws:…:secret:name
	}
	if at(v, start-1) == '/' && isWord(at(v, start-2)) && at(v, end) != '=' {
		return // the end of a path
	}
	name := bytes.TrimLeft(v[start:end], "-")
	flag := len(name) < end-start
	kind := secretName(name)
	if kind == "" {
		return
	}
	from, bare, ok := separator(v, end, flag)
	if !ok {
		return
	}
	whole := flag || isVariable(v, start, name)
	stop, from := valueEnd(v, from, whole)
	if string(name) == "sig" && stop-from < minRandom {
		return // of something else than a URL
	}
	if isSecret(v[from:stop], kind, bare) {
		sc.add(from, stop, kind, byName)
	}
}

func isWord(c byte) bool { return class(c)&word != 0 }

// separates reports whether a name may end before a byte.
func separates(c byte) bool {
	switch c {
	case '=', ':', ' ', '"', '\'', '\\', '\t', 0, ']', '`', ',':
		return true
	}
	return false
}

// isVariable reports whether a name stands where a shell or an environment has
// one, so that its value goes to the end of the word.
func isVariable(v []byte, start int, name []byte) bool {
	switch c := at(v, start-1); {
	case c != 0 && c != ' ' && c != '\n' && c != '"' && c != '\'':
		return false
	}
	return !slices.ContainsFunc(name, func(c byte) bool { return class(c)&lower != 0 })
}

// separator goes over what is between a name and its value. bare says that it was
// a colon with a space, as also prose has.
func separator(v []byte, i int, flag bool) (from int, bare, ok bool) {
	start := i
	i = overQuote(v, i)
	quoted := i > start
	if at(v, i) == ']' { // args["password"] = …
		i++
	}
	spaces := run2(v, i, 4)
	switch c := at(v, i+spaces); {
	case c == '=' || c == ':':
		i += spaces + 1
		for at(v, i) == '=' || at(v, i) == '>' || at(v, i) == ':' {
			i++
		}
		n := run2(v, i, 8)
		return i + n, c == ':' && n > 0 && !quoted, true
	case flag && (spaces > 0 || at(v, i) == 0 && i < len(v)):
		i += max(spaces, 1)
		if at(v, i) == '-' {
			return 0, false, false // the next flag
		}
		return i, false, i < len(v)
	case flag && quoted && (c == ',' || c == '"' || c == '\''):
		// ["--password", "value"]
		i += spaces
		if c == ',' {
			i++
			i += run2(v, i, 4)
		}
		return i, false, isQuote(at(v, i)) && at(v, i+1) != '-'
	}
	return 0, false, false
}

// run2 returns how many spaces and tabs there are.
func run2(v []byte, i, most int) int {
	n := 0
	for n < most && (at(v, i+n) == ' ' || at(v, i+n) == '\t') && i+n < len(v) {
		n++
	}
	return n
}

func isQuote(c byte) bool { return c == '"' || c == '\'' || c == '`' }

// overQuote goes over a quote, which may be escaped.
func overQuote(v []byte, i int) int {
	j := i
	for at(v, j) == '\\' && j-i < 4 {
		j++
	}
	if isQuote(at(v, j)) {
		return j + 1
	}
	return i
}

// valueEnd returns where a value begins, after its quote, and ends. whole says
// that it is a word of a command line, which only space and quotes end.
func valueEnd(v []byte, from int, whole bool) (end, start int) {
	inside := overQuote(v, from)
	if inside > from {
		quote := v[inside-1]
		for i := inside; i < len(v) && i < inside+maxValue; i++ {
			if v[i] == quote {
				for i > inside && v[i-1] == '\\' {
					i--
				}
				return i, inside
			}
		}
		from = inside // it was cut, or the quote is a part of it
	}
	i := from
	for i < len(v) && !ends(v[i], whole) {
		if v[i] == '\\' && isQuote(at(v, i+1)) {
			break
		}
		i++
	}
	return i, from
}

func ends(c byte, whole bool) bool {
	switch c {
	case ' ', '\t', '\n', '\r', 0, '"', '\'', '`':
		return true
	case ';', '&', '|', ',', ')', '}', ']', '<', '>':
		return !whole
	}
	return false
}

// isSecret reports whether what follows a name that says so can be a secret: no
// reference to one, no file with one, no word of a program's own.
func isSecret(v []byte, kind string, bare bool) bool {
	if len(v) < 4 || isPlaceholder(v) || same(v) || isReference(v) || isReserved(v) {
		return false
	}
	if looksRandom(v) {
		return true
	}
	if isFile(v) {
		return false
	}
	lowers := run(v, 0, len(v), lower|dash|dot|underscore) == len(v)
	if kind == kindPassword {
		return !bare || !lowers && run(v, 0, len(v), letter|dash) != len(v)
	}
	// Names of tokens and keys are also names of what is not one: of a secret in a
	// cluster, or of a setting.
	return !lowers && run(v, 0, len(v), digit|dot) != len(v) && run(v, 0, len(v), letter) != len(v) && len(v) >= 6
}

func same(v []byte) bool {
	for _, c := range v {
		if c != v[0] {
			return false
		}
	}
	return true
}

// isReference reports whether a value stands for another, as $VAR or {{ .x }}.
func isReference(v []byte) bool {
	switch c := at(v, 1); v[0] {
	case '$':
		return class(c)&(letter|underscore) != 0 && run(v, 1, len(v), word) == len(v)-1 || c == '{' || c == '('
	case '%': // also of messages in Windows' logs, as %%1842, and of formats
		return v[len(v)-1] == '%' || c == '%' || len(v) == 2
	case '<':
		return true
	case '{':
		return c == '{' || c == '}'
	case '@':
		return c == '/' || c == '.'
	case '[':
		return v[len(v)-1] == ']' && run(v, 1, len(v)-1, letter|underscore|dash) == len(v)-2
	}
	return bytes.HasPrefix(v, []byte("env:")) || bytes.HasPrefix(v, []byte("file:")) || bytes.HasPrefix(v, []byte("vault:")) ||
		bytes.HasPrefix(v, []byte("id=")) || bytes.HasPrefix(v, []byte("arn:")) || bytes.HasPrefix(v, []byte("op://"))
}

func isReserved(v []byte) bool {
	if len(v) > 12 {
		return false
	}
	var buf [12]byte
	for i, c := range v {
		if class(c)&upper != 0 {
			c |= 0x20
		}
		buf[i] = c
	}
	switch string(buf[:len(v)]) {
	case "true", "false", "null", "none", "undefined", "required", "optional", "enabled", "disabled", "default", "prompt", "never", "always",
		"empty", "stdin", "file", "auto", "basic", "bearer", "string", "locked", "unlocked", "expired", "unknown", "active", "inactive",
		"redacted", "[redacted]", "not_set", "unset", "(null)", "keyring", "keychain":
		return true
	}
	return false
}

// isFile reports whether a value is a path, or the name of a file as programs
// keep secrets in.
func isFile(v []byte) bool {
	switch {
	case v[0] == '/', v[0] == '~' && at(v, 1) == '/', v[0] == '.' && (at(v, 1) == '/' || at(v, 1) == '.'):
		return true
	case class(v[0])&letter != 0 && at(v, 1) == ':' && (at(v, 2) == '\\' || at(v, 2) == '/'):
		return true
	}
	i := bytes.LastIndexByte(v, '.')
	if i <= 0 || run(v, 0, len(v), word|dash|dot|slash) != len(v) {
		return false
	}
	switch string(v[i+1:]) {
	case "pem", "key", "crt", "cer", "p12", "pfx", "jks", "json", "yaml", "yml", "txt", "conf", "cfg", "ini", "env", "toml", "gpg", "asc", "pub", "properties", "kdbx", "so", "py", "go", "js", "ts", "sh":
		return true
	}
	return false
}

// findHeader finds the value of an HTTP header: after a scheme, if there is one,
// to the end of the line or the argument.
func findHeader(sc *scanner, v []byte, _, end int) {
	end = overQuote(v, end)
	n := run2(v, end, 4)
	if c := at(v, end+n); c != ':' && c != '=' {
		return
	}
	from := end + n + 1
	from += run2(v, from, 8)
	from = overQuote(v, from)
	if n := run(v, from, from+24, alnum|dash); at(v, from+n) == ' ' && scheme(v[from:from+n]) {
		from += n
		from += run2(v, from, 8)
	}
	stop := from
	for stop < len(v) && stop < from+maxValue && !lineEnd(v[stop]) {
		stop++
	}
	for stop > from && (v[stop-1] == '\\' || v[stop-1] == ' ') {
		stop--
	}
	if stop-from >= 6 && !isPlaceholder(v[from:stop]) && !isReference(v[from:stop]) && !isReserved(v[from:stop]) {
		sc.add(from, stop, kindHeader, byName)
	}
}

func scheme(v []byte) bool {
	for _, s := range []string{"bearer", "basic", "token", "digest", "negotiate", "ntlm", "apikey", "splunk", "aws4-hmac-sha256", "key", "sso-key", "nodekey"} {
		if len(v) == len(s) && bytes.EqualFold(v, []byte(s)) {
			return true
		}
	}
	return false
}

func lineEnd(c byte) bool {
	return c == '\n' || c == '\r' || c == '"' || c == '\'' || c == 0
}

// findCookie finds what a request's cookies say.
func findCookie(sc *scanner, v []byte, _, end int) {
	from := end + run2(v, end, 8)
	stop := from
	for stop < len(v) && stop < from+maxValue && !lineEnd(v[stop]) {
		stop++
	}
	if bytes.IndexByte(v[from:stop], '=') > 0 && stop-from >= 12 {
		sc.add(from, stop, kindHeader, byName)
	}
}

// findBearer finds a token after its scheme, where no header's name is.
func findBearer(sc *scanner, v []byte, _, end int) {
	n := run(v, end, end+maxValue, alnum|dash|underscore|dot|slash|equals|tilde)
	if n >= 16 && run(v, end, end+n, lower|dash|dot) != n {
		sc.add(end, end+n, kindHeader, byName)
	}
}

// findSecureString finds PowerShell's ConvertTo-SecureString "x" -AsPlainText.
func findSecureString(sc *scanner, v []byte, _, end int) {
	from := end + run2(v, end, 8)
	if len(v)-from > 8 && bytes.EqualFold(v[from:from+8], []byte("-string ")) {
		from += 8
	}
	if !isQuote(at(v, from)) {
		return
	}
	stop, from := valueEnd(v, from, true)
	if isSecret(v[from:stop], kindPassword, false) {
		sc.add(from, stop, kindPassword, byName)
	}
}

// findIdentified finds SQL's IDENTIFIED BY 'x'.
func findIdentified(sc *scanner, v []byte, _, end int) {
	from := end + run2(v, end, 8)
	if !isQuote(at(v, from)) && at(v, from) != '\\' {
		return
	}
	stop, from := valueEnd(v, from, true)
	if isSecret(v[from:stop], kindPassword, false) {
		sc.add(from, stop, kindPassword, byName)
	}
}

// findURL finds the credentials in scheme://user:password@host. A long user that
// looks random and has no password is a token.
func findURL(sc *scanner, v []byte, _, end int) {
	stop, sign, colon := end, -1, -1
	for ; stop < len(v) && stop < end+512; stop++ {
		c := v[stop]
		if c == '@' {
			sign = stop // the last one counts: passwords have them, too
		}
		if c == ':' && colon < 0 {
			colon = stop
		}
		if c == '/' || c == '?' || c == '#' || ends(c, true) || c == '\\' || c == '<' || c == '>' {
			break
		}
	}
	if sign < 0 {
		return
	}
	if colon < 0 || colon > sign {
		if user := v[end:sign]; looksRandom(user) || len(user) >= 32 && run(v, end, sign, hexLower) == len(user) {
			sc.add(end, sign, kindURL, byName)
		}
		return
	}
	if p := v[colon+1 : sign]; len(p) > 0 && !isPlaceholder(p) && !isReference(p) && !same3(p) {
		sc.add(colon+1, sign, kindURL, byName)
	}
}

// same3 reports whether a password is a mask, as ***.
func same3(v []byte) bool { return (v[0] == '*' || v[0] == 'x') && same(v) }
