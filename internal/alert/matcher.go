package alert

import (
	"slices"
	"strings"

	"github.com/musterhq/muster/internal/errs"
)

// Matcher is one condition on an alert, written as
//
//	rule = ssh-*
//	severity >= high
//	label.team != web
//
// Keys are rule, key, severity, title, query, node (its id or host identifier) and
// label.NAME; a label that an alert does not have is empty. = and != compare
// without case, * standing for any text and ? for any letter; <=, >= are for
// severity alone.
type Matcher struct {
	key, op, value string
}

// Limits of conditions, which are looked at for every notification.
const (
	MaxMatchers = 16
	maxMatcher  = 512
)

// ParseMatchers reads conditions, all of which must hold. None is no error.
func ParseMatchers(field string, texts []string) ([]Matcher, error) {
	if len(texts) > MaxMatchers {
		return nil, errs.Field(field, "are more than %d conditions", MaxMatchers)
	}
	list := make([]Matcher, 0, len(texts))
	for _, text := range texts {
		m, err := parseMatcher(field, text)
		if err != nil {
			return nil, err
		}
		list = append(list, m)
	}
	return list, nil
}

func parseMatcher(field, text string) (Matcher, error) {
	if len(text) > maxMatcher {
		return Matcher{}, errs.Field(field, "has a condition of more than %d bytes", maxMatcher)
	}
	i := strings.IndexAny(text, "=!<>")
	if i < 0 {
		return Matcher{}, errs.Field(field, "%q is no condition; write it as rule = ssh-*, severity >= high or label.team = web", Line(text, maxLabel))
	}
	m := Matcher{key: strings.ToLower(strings.TrimSpace(text[:i])), op: "="}
	rest := text[i:]
	for _, op := range []string{">=", "<=", "!=", "="} {
		if after, ok := strings.CutPrefix(rest, op); ok {
			m.op, rest = op, after
			break
		}
	}
	if m.value = strings.TrimSpace(rest); strings.IndexAny(m.value, "=!<>") == 0 {
		return Matcher{}, errs.Field(field, "%q has no operator that is known; use =, !=, >= or <=", Line(text, maxLabel))
	}
	if quoted, ok := strings.CutPrefix(m.value, `"`); ok && strings.HasSuffix(quoted, `"`) {
		m.value = strings.TrimSuffix(quoted, `"`)
	}
	label, isLabel := strings.CutPrefix(m.key, "label.")
	switch {
	case isLabel && label == "", !isLabel && !slices.Contains([]string{"rule", "key", "severity", "title", "query", "node"}, m.key):
		return Matcher{}, errs.Field(field, "%q is nothing that an alert has; use rule, key, severity, title, query, node or label.NAME", Line(m.key, maxLabel))
	case m.key == "severity":
		if _, err := ParseSeverity(field, strings.ToLower(m.value)); err != nil && (m.op == ">=" || m.op == "<=" || !strings.ContainsAny(m.value, "*?")) {
			return Matcher{}, err
		}
	case m.op == ">=" || m.op == "<=":
		return Matcher{}, errs.Field(field, "%s compares severities alone; use = or != for %s", m.op, Line(m.key, maxLabel))
	}
	m.value = strings.ToLower(m.value)
	return m, nil
}

// String returns the condition in its one form.
func (m Matcher) String() string { return m.key + " " + m.op + " " + m.value }

// Matches reports whether all conditions hold of an alert.
func Matches(list []Matcher, a *Alert) bool {
	return !slices.ContainsFunc(list, func(m Matcher) bool { return !m.match(a) })
}

func (m Matcher) match(a *Alert) bool {
	switch m.op {
	case ">=":
		return a.Severity.Rank() >= Severity(m.value).Rank()
	case "<=":
		return a.Severity.Rank() <= Severity(m.value).Rank()
	}
	holds := slices.ContainsFunc(m.values(a), func(v string) bool { return wild(m.value, strings.ToLower(v)) })
	return holds == (m.op == "=")
}

func (m Matcher) values(a *Alert) []string {
	switch m.key {
	case "rule":
		return []string{a.Rule}
	case "key":
		return []string{a.Key}
	case "severity":
		return []string{string(a.Severity)}
	case "title":
		return []string{a.Title}
	case "query":
		return []string{a.Query}
	case "node":
		return []string{a.NodeID, a.HostIdentifier}
	}
	name := strings.TrimPrefix(m.key, "label.")
	for k, v := range a.Labels {
		if strings.EqualFold(k, name) {
			return []string{v}
		}
	}
	return []string{""}
}

// wild reports whether s fits a pattern, in time of their product at most.
func wild(pattern, s string) bool {
	p, t := []rune(pattern), []rune(s)
	i, j, star, from := 0, 0, -1, 0
	for j < len(t) {
		switch {
		case i < len(p) && p[i] == '*':
			star, from = i, j
			i++
		case i < len(p) && (p[i] == '?' || p[i] == t[j]):
			i++
			j++
		case star >= 0:
			from++
			i, j = star+1, from
		default:
			return false
		}
	}
	for i < len(p) && p[i] == '*' {
		i++
	}
	return i == len(p)
}
