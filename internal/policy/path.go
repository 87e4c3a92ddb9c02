package policy

import (
	_ "embed"
	"fmt"
	"path"
	"slices"
	"strings"
)

//go:embed data/paths.tsv
var pathsTSV string

// maxPattern bounds one path or pattern, as the systems that agents run on do
// (PATH_MAX of Linux is 4096, and nobody writes that).
const maxPattern = 1024

// maxDepth bounds the names of a path: each is compared with every place.
const maxDepth = 64

// filePattern is one pattern of file monitoring, understood as osquery does
// (osquery/filesystem): % is any text within a name, %% at the end everything
// below; * and ** mean the same.
type filePattern struct {
	windows   bool
	drive     string   // "c:", "" elsewhere
	parts     []string // lower-case names between slashes, with * as the wildcard
	recursive bool
	inner     bool // ** stands before the end, where it means *
}

// parsePattern reads a pattern; problem says what is wrong with it, "" if
// nothing is. Everything that could hide what a pattern covers is refused:
// .., backslashes that escape, braces.
func parsePattern(text string) (p filePattern, problem string) {
	if problem = textProblem(text, maxPattern); problem != "" {
		return p, problem
	}
	rest := strings.ReplaceAll(strings.ToLower(text), "%", "*")
	switch {
	case len(rest) > 2 && rest[0] >= 'a' && rest[0] <= 'z' && rest[1] == ':' && (rest[2] == '\\' || rest[2] == '/'):
		p.windows, p.drive, rest = true, rest[:2], strings.ReplaceAll(rest[2:], `\`, "/")
	case !strings.HasPrefix(rest, "/"):
		return p, `it is not absolute; begin with / or with a drive such as C:\`
	case strings.ContainsAny(rest, `\{}`):
		return p, "a backslash or braces would hide what it covers; write one pattern for each place"
	}
	for part := range strings.SplitSeq(rest, "/") {
		if p.windows {
			part = strings.TrimRight(part, " ") // Windows ignores them
		}
		switch {
		case part == "" || part == ".":
		case strings.Trim(part, ".") == "" || p.windows && strings.HasSuffix(part, "."):
			return p, "it holds .. or a name that ends in a dot; write the directory that you mean"
		default:
			p.parts = append(p.parts, part)
		}
	}
	if len(p.parts) > maxDepth {
		return p, fmt.Sprintf("it is %d directories deep; at most %d are allowed", len(p.parts), maxDepth)
	}
	p.wildcards()
	return p, ""
}

// wildcards finds out whether the pattern is recursive, and leaves one * for
// each run of them.
func (p *filePattern) wildcards() {
	for i, part := range p.parts {
		single := part
		for strings.Contains(single, "**") {
			single = strings.ReplaceAll(single, "**", "*")
		}
		last := i == len(p.parts)-1
		p.recursive = p.recursive || last && strings.HasSuffix(part, "**")
		p.inner = p.inner || single != part && !p.recursive
		p.parts[i] = single
	}
	if n := len(p.parts); p.recursive && p.parts[n-1] == "*" {
		p.parts = p.parts[:n-1]
	}
}

func hasWildcard(part string) bool { return strings.ContainsAny(part, "*?[") }

// isOpen reports whether a name has no letter of its own: *, ?*, [a-z]*.
func isOpen(part string) bool {
	for part != "" {
		switch part[0] {
		case '*', '?':
			part = part[1:]
		case '[':
			i := strings.IndexByte(part, ']')
			if i < 0 {
				return false
			}
			part = part[i+1:]
		default:
			return false
		}
	}
	return true
}

// isTelling reports whether a name with wildcards has enough letters to say what
// is meant.
func isTelling(part string) bool {
	letters := 0
	for i := range len(part) {
		if !strings.ContainsRune("*?[]", rune(part[i])) {
			letters++
		}
	}
	return letters > 1 && !isOpen(part)
}

// base returns the parts before the wildcards at the end.
func (p filePattern) base(wild func(string) bool) []string {
	n := len(p.parts)
	for n > 0 && wild(p.parts[n-1]) {
		n--
	}
	return p.parts[:n]
}

func (p filePattern) platforms() []string {
	if p.windows {
		return []string{"windows"}
	}
	return []string{"darwin", "linux"}
}

// place is one line of paths.tsv.
type place struct{ path, why string }

// places calls yield with those of one kind.
func places(kind string) func(yield func(place) bool) {
	return func(yield func(place) bool) {
		for line := range strings.Lines(pathsTSV) {
			path, rest, _ := strings.Cut(line, "\t")
			is, why, _ := strings.Cut(rest, "\t")
			if is == kind && !yield(place{path, strings.TrimSuffix(why, "\n")}) {
				return
			}
		}
	}
}

// at returns the place of a kind that parts name exactly.
func at(kind, dir string) (place, bool) {
	for p := range places(kind) {
		if p.path == dir {
			return p, true
		}
	}
	return place{}, false
}

// within returns the place of a kind that dir is, or lies in.
func within(kind, dir string) (place, bool) {
	for p := range places(kind) {
		if dir == p.path || strings.HasPrefix(dir, p.path+"/") {
			return p, true
		}
	}
	return place{}, false
}

// literal returns the directory that the first parts name: all before the first
// wildcard.
func (p filePattern) literal() string {
	n := slices.IndexFunc(p.parts, hasWildcard)
	if n < 0 {
		n = len(p.parts)
	}
	return p.dir(p.parts[:n])
}

func (p filePattern) dir(parts []string) string { return p.drive + "/" + strings.Join(parts, "/") }

// secret returns why a pattern touches secrets; "" if it does not, as far as
// its words say.
func (p filePattern) secret() string {
	dir := p.literal()
	for s := range places("secret") {
		name := !strings.Contains(s.path, "/")
		if !name && (dir == s.path || strings.HasPrefix(dir, s.path+"/")) {
			return s.why
		}
		if name && slices.ContainsFunc(p.parts, func(part string) bool { return part == s.path || isTelling(part) && matches(part, s.path) }) {
			return s.why
		}
	}
	return ""
}

// matches reports whether a name with wildcards covers another name. A
// malformed one covers none but itself.
func matches(part, name string) bool {
	ok, err := path.Match(part, name)
	return part == name || err == nil && ok
}

// monitored judges a pattern of file_paths.
func monitored(text string) Verdict {
	v := newVerdict()
	p, problem := parsePattern(text)
	if problem != "" {
		v.refuse("path", clip(text), "bad-path", problem)
		return v.sorted()
	}
	v.Platforms = p.platforms()
	if p.inner {
		v.find("inner-wildcard", Warning, "%%%% stands for everything below only at the end; before it, it means one level")
	}
	if dir := p.literal(); !p.windows {
		if found, ok := within("pseudo", dir); ok {
			v.refuse("path", clip(text), "pseudo-files", found.why+"; monitoring it yields nothing or endless events; use tables such as processes")
			return v.sorted()
		}
	}
	v.breadth(text, p)
	if why := p.secret(); why != "" {
		v.find("secret-path", Note, "%s; events tell names, times and hashes of what is there", why)
		v.add(Reason{Kind: "path", Name: clip(text), Tier: Sensitive, Why: why})
	}
	v.add(Reason{Kind: "path", Name: clip(text), Tier: Internal, Why: "every change there is an event"})
	return v.sorted()
}

// breadth judges how much a pattern covers: each directory costs the host a
// watch, and each file events.
func (v *Verdict) breadth(text string, p filePattern) {
	tier, why := Harmless, ""
	base := p.base(hasWildcard)
	dir, open, top := p.dir(base), len(p.parts)-len(base), len(base) <= 1
	big, isBig := at("big", dir)
	_, isSmall := at("small", dir)
	busy, isBusy := within("busy", p.literal())
	person, isPerson := within("people", dir)
	switch {
	case len(p.parts) == 0 && p.recursive, len(p.parts) > 0 && hasWildcard(p.parts[0]) && p.recursive:
		v.refuse("path", clip(text), "whole-disk", "it covers the whole file system: hosts run out of watches and drown in events; name the directories that matter, such as /etc/%%")
		return
	case len(p.parts) == 0, hasWildcard(p.parts[0]):
		tier, why = Dangerous, "it covers directories of the root, of every disk and kind; name the directories that matter"
	case p.recursive && isBig, open > 2 && isBig:
		tier, why = Dangerous, big.why+"; hosts run out of watches and drown in events; name the directories below that matter"
	case p.recursive && top && !isSmall && !isBusy:
		tier, why = Dangerous, "all below a directory of the root, of which nobody knows the size; name the directories below that matter"
	case p.recursive && isPerson && strings.Count(dir, "/") == strings.Count(person.path, "/")+1:
		tier, why = Dangerous, "all files of a person; name the directories that matter"
	case isPerson:
		tier, why = Sensitive, person.why
	case isBusy && (p.recursive || open > 0):
		tier, why = Sensitive, busy.why
	case open > 1 && (isBig || top && !isSmall):
		tier, why = Sensitive, "several levels of a large directory; name the directories that matter"
	}
	v.add(Reason{Kind: "path", Name: clip(text), Tier: tier, Why: why})
}

// hides reports whether an exclusion hides all, or all of one level, of what a
// pattern covers. It is generous: what nearly hides everything counts.
func (p filePattern) hides(of filePattern) bool {
	if p.drive != of.drive {
		return false
	}
	base := p.base(isOpen)
	sweeping := p.recursive || len(base) < len(p.parts)
	switch {
	case !of.recursive && !p.recursive:
		return len(p.parts) == len(of.parts) && covers(p.parts, of.parts)
	case !sweeping || !p.recursive && len(p.parts) <= len(of.parts):
		return false
	}
	return len(base) <= len(of.parts) && covers(base, of.parts)
}

// covers compares name by name, as far as the first list goes.
func covers(parts, names []string) bool {
	for i, part := range parts {
		if !isOpen(part) && part != names[i] && (hasWildcard(names[i]) || !matches(part, names[i])) {
			return false
		}
	}
	return true
}

// exclusion judges a pattern of exclude_paths for a category that monitors
// these patterns; known is false if a query on the host says what it monitors.
func exclusion(text string, monitored []filePattern, known bool) Verdict {
	v := newVerdict()
	p, problem := parsePattern(text)
	if problem != "" {
		v.refuse("path", clip(text), "bad-path", problem)
		return v.sorted()
	}
	v.Platforms = p.platforms()
	hidden := 0
	for _, of := range monitored {
		if p.hides(of) {
			hidden++
		}
	}
	r := Reason{Kind: "path", Name: clip(text), Tier: Internal, Why: "what happens there is not seen"}
	switch {
	case hidden > 0 && hidden == len(monitored):
		r.Tier, r.Why = Dangerous, "blind: it hides the whole category; remove the category instead, so that everybody sees it"
	case hidden > 0:
		r.Tier, r.Why = Dangerous, fmt.Sprintf("blind: it hides %d of the category's patterns; remove the patterns instead, so that everybody sees it", hidden)
	case !known && p.recursive:
		r.Tier, r.Why = Sensitive, "what the category monitors is known only on the host; this may hide all of it"
	case p.secret() != "":
		r.Tier, r.Why = Sensitive, "blind: changes of secrets are hidden; "+p.secret()
	}
	v.add(r)
	return v.sorted()
}

// ruleFile judges a YARA rule file of the host.
func ruleFile(text string) Verdict {
	v := newVerdict()
	p, problem := parsePattern(text)
	if problem == "" && (p.recursive || slices.ContainsFunc(p.parts, hasWildcard)) {
		problem = "it has a wildcard; agents open one file; name it"
	}
	if problem != "" {
		v.refuse("path", clip(text), "bad-path", problem)
		return v.sorted()
	}
	v.Platforms = p.platforms()
	dir := p.dir(p.parts)
	_, pseudo := within("pseudo", dir)
	_, busy := within("busy", dir)
	_, belongs := within("rules", dir)
	r := Reason{Kind: "path", Name: clip(text), Tier: Sensitive, Why: "its rules say which content of files is reported"}
	switch {
	case pseudo || busy:
		v.refuse("path", clip(text), "bad-path", "others than root may write there, and say what is scanned for; install rules below /etc/osquery")
	case !belongs:
		r.Tier, r.Why = Dangerous, "it is no place of the agent: who may write there says what is scanned for, and errors of the compiler show lines of the file; install rules below /etc/osquery"
	}
	v.add(r)
	return v.sorted()
}
