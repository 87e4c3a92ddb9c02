package policy

import (
	"slices"
	"strings"
)

// maxCarvePath bounds one path of a carve, and so the text that asks for it.
const maxCarvePath = 512

// Carve judges a path, or a pattern with % for any text within a name, whose
// files a node is to send as they are. Carving a file shows all of its content,
// so that nothing is harmless: what is known to hold secrets has the highest
// tier, and so has what covers more than anybody looks through.
func (e *Engine) Carve(path string) Verdict { return carved(path) }

func carved(text string) Verdict {
	v := newVerdict()
	p, problem := parsePattern(text)
	switch {
	case problem != "":
	case len(text) > maxCarvePath:
		problem = "it is longer than any path that people carve"
	case strings.Contains(text, ","):
		problem = "it holds a comma; agents join paths with commas, and would take it for two"
	case strings.ContainsAny(text, "?[]") && strings.ContainsAny(text, "*%"):
		problem = "it holds ? or brackets beside a wildcard, which agents understand as wildcards, too; use % alone"
	case p.recursive || p.inner:
		problem = "it covers everything below a directory; an archive of that has no bound; name one level with %"
	case len(p.parts) == 0:
		problem = "it names no file"
	}
	if problem != "" {
		v.refuse("path", clip(text), "bad-path", problem)
		return v.sorted()
	}
	v.Platforms = p.platforms()
	if !p.windows && len(p.parts) > 0 {
		for found := range places("pseudo") {
			if first := "/" + p.parts[0]; first == found.path || isTelling(p.parts[0]) && matches(p.parts[0], found.path[1:]) {
				v.refuse("path", clip(text), "pseudo-files", found.why+"; a carve of it may never end; use tables such as processes")
				return v.sorted()
			}
		}
	}
	v.add(Reason{Kind: "path", Name: clip(text), Tier: Sensitive, Why: "the files leave the host as they are"})
	if open := slices.IndexFunc(p.parts, isOpen); open == 0 || open >= 0 && open < len(p.parts)-1 {
		v.add(Reason{Kind: "path", Name: clip(text), Tier: Dangerous, Why: "it covers directories of which nobody knows what is in them; name the directory"})
	}
	if why := p.exposes(); why != "" {
		v.add(Reason{Kind: "path", Name: clip(text), Tier: Dangerous, Why: "it holds " + why})
	}
	return v.sorted()
}

// exposes returns which secrets files that a pattern covers may hold; "" for
// none that are known. Names of one level that only wildcards cover count for
// the places that are listed by path, not by name: else no directory of a person
// could be looked at.
func (p filePattern) exposes() string {
	for _, kind := range []string{"secret", "content"} {
		for s := range places(kind) {
			if !strings.Contains(s.path, "/") {
				if slices.ContainsFunc(p.parts, func(part string) bool { return overlaps(part, s.path) && !isOpen(part) }) {
					return s.why
				}
				continue
			}
			if p.reaches(s.path) {
				return s.why
			}
		}
	}
	return ""
}

// reaches reports whether a pattern that is not recursive covers a place, or
// something in it.
func (p filePattern) reaches(place string) bool {
	drive, rest, _ := strings.Cut(place, "/")
	if drive != p.drive {
		return false
	}
	names := strings.Split(rest, "/")
	if len(p.parts) < len(names) {
		return false
	}
	for i, name := range names {
		if !overlaps(p.parts[i], name) {
			return false
		}
	}
	return true
}

// overlaps reports whether some name may fit both, each of which may have
// wildcards.
func overlaps(a, b string) bool {
	switch {
	case !hasWildcard(b):
		return matches(a, b)
	case !hasWildcard(a):
		return matches(b, a)
	}
	// Both begin and end with letters of their own, or one of them does not.
	head := func(s string) string { return s[:strings.IndexAny(s, "*?[")] }
	tail := func(s string) string { return s[strings.LastIndexAny(s, "*?]")+1:] }
	ha, hb, ta, tb := head(a), head(b), tail(a), tail(b)
	return (strings.HasPrefix(ha, hb) || strings.HasPrefix(hb, ha)) && (strings.HasSuffix(ta, tb) || strings.HasSuffix(tb, ta))
}
