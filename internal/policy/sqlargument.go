package policy

import (
	"encoding/binary"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"
)

// restricts reports whether the rules name allowed arguments of the table.
func (e *Engine) restricts(t *table) bool {
	return slices.ContainsFunc(t.columns, func(c column) bool {
		_, ok := e.rules.Arguments[t.name+"."+c.name()]
		return ok
	})
}

// allows reports whether a plan proves that the table is only asked for what
// the rules allow: at least one restricted column has a literal, and whatever
// equals one or is LIKE one, here or in another plan's order, is an allowed
// literal. Otherwise an agent, whose planner may choose differently, could be
// asked for something else. Tables look at no other comparison.
func (e *Engine) allows(p plan) bool {
	if !e.restricts(p.table) {
		return true
	}
	proven := false
	for _, t := range p.terms {
		if t.column == nil || !t.equal() && !t.like() {
			continue
		}
		patterns, restricted := e.rules.Arguments[p.table.name+"."+t.column.name()]
		if !restricted {
			if t.column.arg != nil {
				return false // another way to say what to read
			}
			continue
		}
		if !t.literal || !slices.ContainsFunc(patterns, func(pattern string) bool { return t.within(pattern) }) {
			return false
		}
		proven = proven || t.usable
	}
	return proven
}

// within reports whether all that a term can match is within a pattern.
func (t *term) within(pattern string) bool {
	return literalWithin(t.value, pattern, t.like())
}

// literalWithin compares level by level: % in the pattern is any text of one
// level, %% at its end any number of levels.
func literalWithin(value, pattern string, like bool) bool {
	if strings.ContainsAny(value, "*?[]{}~") && like {
		return false // osquery expands those too
	}
	values, patterns := strings.FieldsFunc(value, isSlash), strings.FieldsFunc(pattern, isSlash)
	if slices.Contains(values, "..") || isRooted(value) != isRooted(pattern) {
		return false
	}
	deep := len(patterns) > 0 && patterns[len(patterns)-1] == "%%"
	if deep {
		patterns = patterns[:len(patterns)-1]
	}
	if len(values) < len(patterns) || !deep && len(values) != len(patterns) || deep && len(values) == len(patterns) && like {
		return false
	}
	for i, p := range patterns {
		if !levelWithin(values[i], p, like) {
			return false
		}
	}
	return true
}

// levelWithin reports whether a name is within a pattern of one level. A
// wildcard of LIKE counts as a letter that only % covers.
func levelWithin(name, pattern string, like bool) bool {
	if like && strings.Contains(name, "%%") {
		return false
	}
	if name == pattern {
		return true
	}
	if like && strings.ContainsRune(strings.ReplaceAll(pattern, "%", ""), '_') {
		return false
	}
	before, after, wild := strings.Cut(pattern, "%")
	if !wild {
		return false
	}
	rest, ok := strings.CutPrefix(name, before)
	if !ok {
		return false
	}
	if !strings.Contains(after, "%") {
		return strings.HasSuffix(rest, after)
	}
	for i := range len(rest) + 1 {
		if levelWithin(rest[i:], after, like) {
			return true
		}
	}
	return false
}

func isSlash(r rune) bool { return r == '/' || r == '\\' }

func isRooted(s string) bool { return s != "" && isSlash(rune(s[0])) }

// secretPlaces are parts of paths, in lower case and with /, whose very names
// or digests tell too much. The list is short on purpose: the table's tier
// protects everything else.
func secretPlaces() []string {
	return []string{
		"/etc/shadow", "/etc/gshadow", "/etc/master.passwd", "/etc/krb5.keytab", "/etc/security/passwd",
		"/etc/ssl/private/", "/etc/pki/tls/private/", "/etc/ssh/ssh_host_",
		"/.ssh/id_", "/.ssh/identity", "/.gnupg/private-keys", "/.gnupg/secring",
		"/.aws/credentials", "/.azure/accesstokens", "/.azure/msal_token", "/.config/gcloud/", "/.kube/config", "/.docker/config.json",
		"/.netrc", "/.git-credentials", "/.pgpass", "/.my.cnf", "/.vault-token", "/.npmrc", "/.pypirc",
		"/.bash_history", "/.zsh_history", "/.mysql_history", "/.psql_history",
		"/var/run/secrets/", "/run/secrets/", "/etc/kubernetes/admin.conf", "/etc/kubernetes/pki/",
		"/library/keychains/", "login.keychain", "/chrome/default/login data", "/login data", "cookies.sqlite", "logins.json", "key4.db",
		"/config/sam", "/config/security", "/ntds.dit", "/unattend.xml",
		"hkey_local_machine/sam", "hkey_local_machine/security", "hklm/sam", "hklm/security", "/winlogon/defaultpassword",
		"/var/db/systemkey", "/proc/kcore", "/dev/mem", "/dev/kmem", "/etc/osquery/enroll", "osquery.secret",
	}
}

// secretArgument reports whether a literal that goes to a path argument names
// a secret. A wildcard counts when it stands for a few letters of a name, not
// for a whole one: /etc/% lists a directory, /etc/shado_ hides what it asks.
func secretArgument(value string) bool {
	if decoded := unescaped(value); decoded != value && secretArgument(decoded) {
		return true
	}
	v := strings.ToLower(strings.ReplaceAll(value, `\`, "/"))
	v = strings.ReplaceAll(v, "//", "/")
	clean := path.Clean(v) // takes /../ and /./ out
	if strings.HasSuffix(v, "/") {
		clean += "/"
	}
	if isProcessSecret(clean) {
		return true
	}
	if isSystemKeychain(clean) {
		return false
	}
	for _, s := range secretPlaces() {
		if strings.Contains(clean, s) || likeTail(clean, s) {
			return true
		}
	}
	return false
}

// unescaped resolves \uXXXX, by which a text in JSON can hide a letter.
func unescaped(value string) string {
	var b strings.Builder
	for rest := value; ; {
		before, after, ok := strings.Cut(rest, `\u`)
		b.WriteString(before)
		if !ok {
			return b.String()
		}
		const digits = 4
		if n, err := strconv.ParseUint(after[:min(digits, len(after))], 16, 16); err == nil && len(after) >= digits {
			b.WriteRune(rune(n))
			rest = after[digits:]
			continue
		}
		b.WriteString(`\u`)
		rest = after
	}
}

// isSystemKeychain reports whether a path is one of the system's keychains,
// whose certificates everybody asks for. What is secret in them needs
// /var/db/SystemKey.
func isSystemKeychain(clean string) bool {
	return !strings.ContainsAny(clean, "%_*?[{") &&
		(strings.HasPrefix(clean, "/library/keychains/system") || strings.HasPrefix(clean, "/system/library/keychains/"))
}

// isProcessSecret reports whether a path is an environment or the memory of a
// process: /proc/*/environ and the like.
func isProcessSecret(clean string) bool {
	if !strings.HasPrefix(clean, "/proc/") {
		return false
	}
	switch path.Base(clean) {
	case "environ", "mem", "maps", "cmdline", "auxv", "pagemap":
		return true
	}
	return strings.HasSuffix(clean, "/%%")
}

// likeTail reports whether a pattern of LIKE or of the shell, some letters of
// whose last name are written, could mean the secret path.
func likeTail(pattern, secret string) bool {
	const letters = 2 // fewer mean too much to be about a secret
	names, secrets := strings.FieldsFunc(pattern, isSlash), strings.FieldsFunc(secret, isSlash)
	if len(names) == 0 || !strings.ContainsAny(pattern, "%_*?[{") {
		return false
	}
	last := names[len(names)-1]
	if len(strings.Trim(last, "%_*?.[]{}")) < letters {
		return false
	}
	if strings.Contains(last, "{") {
		return strings.Contains(last, secrets[len(secrets)-1])
	}
	for i := 1; i <= min(len(names), len(secrets)); i++ {
		glob := strings.NewReplacer("%", "*", "_", "?").Replace(names[len(names)-i])
		if ok, err := path.Match(glob, secrets[len(secrets)-i]); !ok || err != nil {
			return false
		}
	}
	return true
}

// coversDisk reports whether a path pattern means everything below the root of
// a disk or hive: %% before any name. One without a root begins where the agent
// runs, which is the root for a service.
func coversDisk(value string) bool {
	if len(value) > 1 && value[1] == ':' {
		value = value[2:]
	}
	if !strings.ContainsFunc(value, isSlash) {
		return false // a pattern of something else, as LIKE '%%x%%'
	}
	for _, part := range strings.FieldsFunc(value, isSlash) {
		if strings.Contains(part, "%%") || strings.Contains(part, "**") {
			return strings.Trim(part, "%*") == ""
		}
		if strings.Trim(part, "%_*?.") != "" {
			return false
		}
	}
	return false
}

// hostReason says why a URL, or a host that stands alone, must not be asked;
// "" if nothing is known against it.
func hostReason(value string) string {
	host := strings.ToLower(hostOf(value))
	switch {
	case host == "metadata" || host == "metadata.google.internal" || host == "instance-data" || strings.HasSuffix(host, ".metadata.google.internal"):
		return "a cloud's metadata service hands out credentials of the host"
	case host == "localhost" || strings.HasSuffix(host, ".localhost"):
		return "services on the host itself trust it"
	}
	a, ok := address(host)
	if !ok {
		return ""
	}
	a = a.Unmap()
	awsIPv6 := netip.MustParseAddr("fd00:ec2::254")
	alibaba := netip.MustParseAddr("100.100.100.200")
	switch {
	case a.IsLinkLocalUnicast(), a == awsIPv6, a == alibaba:
		return "link-local addresses and metadata services hand out credentials of the host"
	case a.IsLoopback(), a.IsUnspecified():
		return "services on the host itself trust it"
	case a.IsPrivate():
		return "services of the private network are reached from inside"
	}
	return ""
}

// hostOf cuts the host out of a URL, or of host:port.
func hostOf(value string) string {
	_, rest, ok := strings.Cut(value, "//")
	if !ok {
		rest = value
	}
	if i := strings.IndexAny(rest, `/\?#`); i >= 0 {
		rest = rest[:i]
	}
	rest = rest[strings.LastIndexByte(rest, '@')+1:]
	if strings.HasPrefix(rest, "[") {
		host, _, _ := strings.Cut(rest[1:], "]")
		return host
	}
	if strings.Count(rest, ":") == 1 {
		rest, _, _ = strings.Cut(rest, ":")
	}
	return strings.TrimSuffix(rest, ".")
}

// address reads an IP address in all the forms that inet_aton takes: one to
// four numbers, decimal, octal or hexadecimal, the last filling the rest.
func address(host string) (netip.Addr, bool) {
	if a, err := netip.ParseAddr(host); err == nil {
		return a.WithZone(""), true
	}
	parts := strings.Split(host, ".")
	if len(parts) > 4 {
		return netip.Addr{}, false
	}
	var ip uint64
	for i, p := range parts {
		n, err := strconv.ParseUint(p, 0, 32)
		if err != nil {
			return netip.Addr{}, false
		}
		if i < len(parts)-1 {
			ip |= (n & 0xff) << (24 - 8*i)
			continue
		}
		ip |= n
	}
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], uint32(ip&0xffffffff))
	return netip.AddrFrom4(b), true
}
