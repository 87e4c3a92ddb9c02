package foreign

import (
	"regexp"
	"strconv"
	"strings"

	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/resource"
)

// Sigma are rules in the format of the Sigma project.
const Sigma Format = "sigma"

// RuleFormats returns what Rules reads.
func RuleFormats() []Format { return []Format{Doorman, Sigma} }

// Rules reads alert rules of another system. One that cannot be taken over as it
// is meant is left out whole, with a Note that says why: a rule that matches
// something else is worse than none.
func Rules(format Format, files []File) (Imported, error) {
	if err := checkFiles(files); err != nil {
		return Imported{}, err
	}
	c := newCollector()
	switch format {
	case Doorman:
		c.doormanRules(files)
	case Sigma:
		c.sigma(files)
	case Unknown, OsqueryPack, OsqueryConfig, Fleet, Osctrl:
		return Imported{}, errs.Field("from", "%q has no rules that are read; there are %v", clip(string(format)), RuleFormats())
	default:
		return Imported{}, errs.Field("from", "%q is not known; there are %v", clip(string(format)), RuleFormats())
	}
	return c.result()
}

// addRule adds a rule that compiles.
func (c *collector) addRule(source, name, description string, r *resource.Rule) {
	o := resource.Object{Key: resource.Key{Kind: "Rule", Name: cleanName("Rule", name)}, Description: description, Spec: r}
	if _, err := resource.NewRulePlan(o); err != nil {
		c.note(source, name, "left out: %v", err)
		return
	}
	c.add(source, name, description, "Rule", r)
}

// errConvert is why a rule cannot be taken over.
func errConvert(format string, args ...any) error { return errs.New(errs.Invalid, format, args...) }

// plainName is a column that can stand behind a point in a condition.
var plainName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// columnExpr returns a column in the language of conditions.
func columnExpr(name string) string {
	if plainName.MatchString(name) && !reserved(name) {
		return "columns." + name
	}
	return "columns[" + quoteExpr(name) + "]"
}

// reserved reports whether a word is an operator of expr.
func reserved(word string) bool {
	switch word {
	case "in", "not", "and", "or", "matches", "contains", "startsWith", "endsWith", "let", "if", "else", "nil", "true", "false":
		return true
	}
	return false
}

// quoteExpr returns a text as it is written in a condition.
func quoteExpr(s string) string { return strconv.Quote(strings.ToValidUTF8(s, "\uFFFD")) }

// joinExpr joins conditions; one is as it is.
func joinExpr(word string, parts []string) string {
	if len(parts) == 1 {
		return parts[0]
	}
	return "(" + strings.Join(parts, " "+word+" ") + ")"
}

// bare returns a text in which nothing is a template.
func bare(s string) string { return strings.ReplaceAll(s, "{{", "{ {") }
