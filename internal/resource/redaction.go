package resource

import (
	"slices"
	"strings"

	"github.com/musterhq/muster/internal/redact"
)

// Redaction says what becomes of values that agents send, before they are kept:
// rules for columns, detectors beside the built-in ones, and what is no secret.
// Several are joined, read by name. They hold at once when they change, for all
// that comes from then on, and roll out to nobody: agents know nothing of them.
type Redaction struct {
	Columns   []RedactColumn   `json:"columns,omitempty" yaml:"columns,omitempty" doc:"Rules for columns; the first that fits holds. What none fits is looked through by the detectors"`
	Detectors []RedactDetector `json:"detectors,omitempty" yaml:"detectors,omitempty" doc:"Detectors beside the built-in ones"`
	Off       []string         `json:"off,omitempty" yaml:"off,omitempty" doc:"Kinds of secrets that are not looked for, as entropy"`
	Allow     RedactAllow      `json:"allow,omitzero" yaml:"allow,omitempty" doc:"Values that are no secret, though a detector says so"`
}

// RedactColumn is a rule for columns. In its patterns * stands for any text.
type RedactColumn struct {
	Table  string `json:"table,omitempty" yaml:"table,omitempty" doc:"Pattern of tables, as process_envs; all if it is left out. Of a query whose text is not known, any table"`
	Query  string `json:"query,omitempty" yaml:"query,omitempty" doc:"Pattern of scheduled queries, as pack_base_*; all, and live queries too, if it is left out"`
	Column string `json:"column,omitempty" yaml:"column,omitempty" doc:"Pattern of columns, as value; all if it is left out"`
	Action string `json:"action" yaml:"action" doc:"detect: detectors look at the value; keep: it stays as it is; redact: it is replaced as a whole, and nothing is known of it; hash: it is replaced by a keyed hash, so that equal values can be told; drop: it is left empty" enum:"detect,keep,redact,hash,drop"`
}

// RedactDetector is a detector of one's own.
type RedactDetector struct {
	Kind     string   `json:"kind" yaml:"kind" doc:"What placeholders call it: small letters, digits and -"`
	Keywords []string `json:"keywords" yaml:"keywords" doc:"Texts of at least 4 bytes, of which one is in every value that has such a secret; either case"`
	Pattern  string   `json:"pattern" yaml:"pattern" doc:"RE2 pattern; its first group, if it has one, is the secret"`
}

// RedactAllow is what is no secret.
type RedactAllow struct {
	IDs      []string `json:"ids,omitempty" yaml:"ids,omitempty" doc:"Ids of values, as the placeholders that replaced them have it"`
	Patterns []string `json:"patterns,omitempty" yaml:"patterns,omitempty" doc:"RE2 patterns that fit a value as a whole"`
}

func (p *Redaction) check(c *checker) {
	for _, l := range []struct {
		path      string
		len, most int
	}{
		{"columns", len(p.Columns), redact.MaxColumns},
		{"detectors", len(p.Detectors), redact.MaxDetectors},
		{"allow.ids", len(p.Allow.IDs), redact.MaxAllowed},
		{"allow.patterns", len(p.Allow.Patterns), redact.MaxDetectors},
	} {
		if l.len > l.most {
			c.refuse(l.path, "range", "must be at most %d", l.most)
		}
	}
	for i, r := range p.Columns {
		at := indexed("columns", i)
		if !slices.Contains(redact.Actions(), redact.Action(r.Action)) {
			c.refuse(at+".action", "unknown", "must be detect, keep, redact, hash or drop")
		}
		if strings.Trim(r.Table+r.Query+r.Column, "*") == "" {
			c.refuse(at, "too-wide", "fits every value, also what Muster itself reads in them; name a table, a query or a column")
		}
	}
	for i, d := range p.Detectors {
		d.check(c, indexed("detectors", i))
	}
	for i, kind := range p.Off {
		if !slices.Contains(redact.Kinds(), kind) {
			c.refuse(indexed("off", i), "unknown", "%q is no kind of secret; muster redact kinds lists them", kind)
		}
	}
	for i, id := range p.Allow.IDs {
		if !redact.CheckID(id) {
			c.refuse(indexed("allow.ids", i), "bad-id", "%q is no id; take the 12 letters and digits at the end of a placeholder", id)
		}
	}
	for i, pattern := range p.Allow.Patterns {
		if _, err := redact.CheckPattern(pattern); err != nil {
			c.refuse(indexed("allow.patterns", i), "bad-pattern", "%v", err)
		}
	}
}

func (d RedactDetector) check(c *checker, at string) {
	if !redact.CheckKind(d.Kind) {
		c.refuse(at+".kind", "bad-kind", "%q must be up to 32 small letters, digits and -", d.Kind)
	}
	if len(d.Keywords) == 0 {
		c.refuse(at+".keywords", "missing", "are missing; without one the pattern would have to be tried on every value")
	}
	for i, word := range d.Keywords {
		if len(word) < redact.MinKeyword {
			c.refuse(indexed(at+".keywords", i), "short", "%q is shorter than %d bytes", word, redact.MinKeyword)
		}
	}
	if _, err := redact.CheckPattern(d.Pattern); err != nil {
		c.refuse(at+".pattern", "bad-pattern", "%v", err)
	}
}

// Redaction returns what the set's objects say about redaction.
func (s *Set) Redaction() redact.Rules {
	var r redact.Rules
	for _, p := range Specs[*Redaction](s) {
		for _, c := range p.Columns {
			r.Columns = append(r.Columns, redact.Column{Table: c.Table, Query: c.Query, Column: c.Column, Action: redact.Action(c.Action)})
		}
		for _, d := range p.Detectors {
			r.Detectors = append(r.Detectors, redact.Detector{Kind: d.Kind, Keywords: d.Keywords, Pattern: d.Pattern})
		}
		r.Off = append(r.Off, p.Off...)
		r.AllowIDs = append(r.AllowIDs, p.Allow.IDs...)
		r.AllowPatterns = append(r.AllowPatterns, p.Allow.Patterns...)
	}
	return r
}

// QueryText returns the text of a scheduled query by its name on agents; false if
// no pack has it.
func (s *Set) QueryText(agentName string) (string, bool) {
	for k, p := range Specs[*Pack](s) {
		if name, ok := strings.CutPrefix(agentName, AgentName(k.Name, "")); ok {
			if q, ok := p.Queries[name]; ok {
				return q.Query, true
			}
		}
	}
	return "", false
}
