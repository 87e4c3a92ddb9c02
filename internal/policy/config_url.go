package policy

import (
	"net/netip"
	"net/url"
	"regexp/syntax"
	"strings"
)

// maxURL bounds a URL or its pattern; servers refuse longer ones.
const maxURL = 2048

// prometheusURL judges one target: a GET that every agent sends, as root, from
// where it stands.
func prometheusURL(text string) Verdict {
	v := newVerdict()
	v.Platforms = []string{"darwin", "linux"}
	v.add(Reason{Kind: "url", Name: shownURL(text), Tier: Dangerous, Why: "every node sends requests there from inside its network, and the answer comes back as rows"})
	if problem := textProblem(text, maxURL); problem != "" {
		v.refuse("url", shownURL(text), "bad-url", problem)
		return v
	}
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https" || strings.ContainsAny(text, ` \`):
		v.refuse("url", shownURL(text), "bad-url", "it is no URL that begins with http:// or https:// and names a host")
		return v
	case u.User != nil:
		v.refuse("url", shownURL(text), "bad-url", "it holds a user or password, which every agent and every log would show; remove it")
	}
	v.host(u.Hostname())
	return v.sorted()
}

// shownURL is a URL as verdicts show it: without user and password.
func shownURL(text string) string {
	if i := strings.LastIndexByte(text, '@'); i >= 0 {
		return clip("…" + text[i:])
	}
	return clip(text)
}

// host adds the reason of an address that only the node itself reaches.
func (v *Verdict) host(name string) {
	if why := innerHost(name); why != "" {
		v.add(Reason{Kind: "url", Name: clip(name), Tier: Dangerous, Why: why})
	}
}

// innerHost says which place inside a node's network a host names; "" if none
// that the name shows. Numbers in odd forms (0x7f.1) are taken for one.
func innerHost(name string) string {
	name = strings.TrimSuffix(strings.ToLower(name), ".")
	addr, err := netip.ParseAddr(strings.Trim(name, "[]"))
	addr = addr.Unmap()
	switch {
	case name == "localhost" || strings.HasSuffix(name, ".localhost") || addr.IsLoopback() || addr.IsUnspecified():
		return "it is the node itself: services that trust local requests answer"
	case strings.HasPrefix(name, "metadata.") || addr.IsLinkLocalUnicast() || name == "fd00:ec2::254" || name == "100.100.100.200":
		return "it is the cloud's metadata service, which gives out credentials"
	case addr.IsPrivate():
		return "it is an address of the node's own network"
	case err != nil && !strings.ContainsFunc(name, func(r rune) bool { return r >= 'g' && r <= 'z' && r != 'x' }):
		return "it is an address in an odd form, which may be the node itself"
	}
	return ""
}

// signatureURL judges an entry of yara.signature_urls: scheme and host are
// compared as they are, and the path is a regular expression that has to match
// all of a URL's path (osquery/tables/yara). Queries can then fetch any URL that
// it matches.
func signatureURL(text string) Verdict {
	v := newVerdict()
	v.add(Reason{Kind: "url", Name: shownURL(text), Tier: Dangerous, Why: "leak: queries can make every node fetch what it matches, with the agent's client certificate; install rule files on hosts"})
	if problem := textProblem(text, maxURL); problem != "" {
		v.refuse("url", shownURL(text), "bad-url", problem)
		return v
	}
	rest, secure := strings.CutPrefix(text, "https://")
	host, pattern, _ := strings.Cut(rest, "/")
	name, _, _ := strings.Cut(host, ":")
	switch {
	case !secure:
		v.refuse("url", shownURL(text), "bad-url", "it does not begin with https://: anyone on the way could say what is scanned for")
		return v
	case !plainHost(host):
		v.refuse("url", shownURL(text), "bad-url", "its host is no plain name; agents compare it letter by letter; only the path may be a pattern")
		return v
	}
	if problem := pathProblem(pattern); problem != "" {
		v.refuse("url", shownURL(text), "wide-pattern", problem)
	}
	v.host(name)
	return v.sorted()
}

// plainHost reports whether a host is letters, digits, dots and dashes, with or
// without a port.
func plainHost(host string) bool {
	name, port, hasPort := strings.Cut(host, ":")
	return name != "" && strings.IndexFunc(name, func(r rune) bool { return !isWordRune(r) && r != '.' && r != '-' }) < 0 &&
		(!hasPort || port != "" && strings.Trim(port, "0123456789") == "")
}

// pathProblem says what is wrong with the pattern of a URL's path.
func pathProblem(pattern string) string {
	const example = "; write something like yara/[a-z]+[.]yar"
	re, err := syntax.Parse(pattern, syntax.Perl)
	switch {
	case pattern == "":
		return "it has no path" + example
	case err != nil:
		return "its path is no regular expression that can be judged" + example
	case strings.ContainsAny(pattern[:1], `.[(\^*+?`):
		return "its path begins with a pattern; begin with a directory" + example
	case wide(re, false):
		return "its path matches almost anything: a wildcard that repeats, a choice, or a set that holds the slash" + example
	}
	return ""
}

// wide reports whether an expression repeats what can be nearly anything, or
// offers a choice, one branch of which may be short.
func wide(re *syntax.Regexp, repeated bool) bool {
	const letters = 256 // a class beyond them is a negated one
	switch re.Op {
	case syntax.OpAnyChar, syntax.OpAnyCharNotNL, syntax.OpAlternate:
		return repeated || re.Op == syntax.OpAlternate
	case syntax.OpCharClass:
		size := 0
		for i := 0; i+1 < len(re.Rune); i += 2 {
			size += int(re.Rune[i+1]-re.Rune[i]) + 1
			if repeated && re.Rune[i] <= '/' && '/' <= re.Rune[i+1] {
				return true
			}
		}
		return size > letters
	case syntax.OpStar, syntax.OpPlus, syntax.OpRepeat, syntax.OpQuest:
		repeated = true
	default:
	}
	for _, sub := range re.Sub {
		if wide(sub, repeated) {
			return true
		}
	}
	return false
}
