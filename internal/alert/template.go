package alert

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/musterhq/muster/internal/errs"
)

// Template is a document with places for what an alert says, as ${title}. It is
// filled in as a document, not as text: whatever an agent wrote becomes one string
// and nothing else, and it costs no more than what is in it. $$ is a dollar sign.
//
// It never changes: safe for concurrent use.
type Template struct{ root any }

// Limits of a template.
const (
	maxTemplateDepth = 16
	maxTemplateParts = 1000
	maxTemplateText  = 16 << 10
)

// TemplateFields are what may stand in ${}, besides label.NAME and column.NAME.
func TemplateFields() []string {
	return []string{
		"title", "text", "severity", "state", "action", "rule", "key", "id", "node_id", "host_identifier", "query",
		"count", "assignee", "opened_at", "last_at", "url", "notifier", "message_id", "more", "labels", "columns", "alerts",
	}
}

// ParseTemplate reads a template: a document as JSON has it.
func ParseTemplate(field string, document any) (*Template, error) {
	c := &templateCheck{field: field}
	if err := c.look(document, 0); err != nil {
		return nil, err
	}
	return &Template{document}, nil
}

type templateCheck struct {
	field       string
	parts, text int
}

func (c *templateCheck) look(v any, depth int) error {
	if c.parts++; c.parts > maxTemplateParts || depth > maxTemplateDepth {
		return errs.Field(c.field, "has more than %d parts, or %d levels", maxTemplateParts, maxTemplateDepth)
	}
	switch v := v.(type) {
	case string:
		return c.string(v)
	case []any:
		for _, part := range v {
			if err := c.look(part, depth+1); err != nil {
				return err
			}
		}
	case map[string]any:
		for _, k := range slices.Sorted(maps.Keys(v)) {
			if err := c.look(v[k], depth+1); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *templateCheck) string(s string) error {
	if c.text += len(s); c.text > maxTemplateText {
		return errs.Field(c.field, "has more than %d bytes of text", maxTemplateText)
	}
	var wrong error
	expand(s, func(name string) string {
		label, isLabel := strings.CutPrefix(name, "label.")
		column, isColumn := strings.CutPrefix(name, "column.")
		if !slices.Contains(TemplateFields(), name) && (!isLabel || label == "") && (!isColumn || column == "") && wrong == nil {
			wrong = errs.Field(c.field, "${%s} is nothing that an alert has; use %s, label.NAME or column.NAME, and $$ for a dollar sign",
				Line(name, maxLabel), strings.Join(TemplateFields(), ", "))
		}
		return ""
	})
	return wrong
}

// Fill returns the document with its places filled. A text that is one place alone
// becomes the value itself, as a number or a list.
func (t *Template) Fill(value func(name string) any) any { return fill(t.root, value) }

func fill(v any, value func(name string) any) any {
	switch v := v.(type) {
	case string:
		if name, ok := place(v); ok {
			return value(name)
		}
		return expand(v, func(name string) string { return plain(value(name)) })
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = fill(v[i], value)
		}
		return out
	case map[string]any:
		out := make(map[string]any, len(v))
		for k := range v {
			out[k] = fill(v[k], value)
		}
		return out
	}
	return v
}

// place reports whether a text is one place alone, and which.
func place(s string) (name string, ok bool) {
	inner, ok := strings.CutPrefix(s, "${")
	if !ok {
		return "", false
	}
	name, ok = strings.CutSuffix(inner, "}")
	return name, ok && !strings.ContainsAny(name, "${}")
}

// plain returns a value as part of a text.
func plain(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return v
	}
	b, err := json.Marshal(v)
	if err != nil {
		return ""
	}
	return string(b)
}

// expand replaces each ${name}, and $$ by a dollar sign. A place without an end is
// no place.
func expand(s string, value func(name string) string) string {
	var b strings.Builder
	for {
		i := strings.IndexByte(s, '$')
		if i < 0 || i+1 == len(s) {
			b.WriteString(s)
			return b.String()
		}
		b.WriteString(s[:i])
		s = s[i:]
		end := strings.IndexByte(s, '}')
		switch {
		case s[1] == '$':
			b.WriteByte('$')
			s = s[2:]
		case s[1] == '{' && end > 0:
			b.WriteString(value(s[2:end]))
			s = s[end+1:]
		default:
			b.WriteByte('$')
			s = s[1:]
		}
	}
}
