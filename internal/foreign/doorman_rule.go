package foreign

import (
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/musterhq/muster/internal/event"
	"github.com/musterhq/muster/internal/resource"
)

// doormanRules reads rules as Doorman keeps them: rows with name, description,
// alerters and conditions, in a list, under the key rules, or one by itself.
//
// What is different on purpose: a condition of a column that is not there does
// not match, nor does its negation; equal compares texts (Doorman took 007 and 7
// for the same), and less and greater numbers.
func (c *collector) doormanRules(files []File) {
	for _, file := range files {
		v, err := readJSON(file.Bytes)
		if err != nil {
			c.fail(file.Name, "%v", err)
			continue
		}
		if m, ok := v.(map[string]any); ok {
			if m["conditions"] != nil {
				v = []any{m}
			} else {
				v = m["rules"]
			}
		}
		rows, ok := v.([]any)
		if !ok {
			c.fail(file.Name, "has no rules; they are a list, or under the key rules")
			continue
		}
		for i, row := range rows {
			m, ok := row.(map[string]any)
			if !ok {
				c.note(file.Name, "rules["+strconv.Itoa(i)+"]", "left out: it is %s, and should be an object", typeName(row))
				continue
			}
			c.doormanRule(c.fields(file.Name, "rules["+strconv.Itoa(i)+"]", m))
		}
	}
}

func (c *collector) doormanRule(f *fields) {
	name, description := f.text("name"), f.text("description")
	if name == "" {
		name = "rule"
	}
	d := &doormanGroup{}
	expr, err := d.group(f.take("conditions"), 0)
	if err != nil {
		c.note(f.source, name, "left out: %v", err)
		return
	}
	if len(d.queries) == 0 || d.elsewhere {
		d.queries = []string{"*"}
	}
	slices.Sort(d.queries)
	r := &resource.Rule{
		Events:    resource.RuleEvents{Queries: slices.Compact(d.queries), Actions: []string{event.Added, event.Removed, event.Snapshot}},
		Condition: expr, Title: doormanTemplate(name) + " on {{node.hostname}}", Text: doormanTemplate(description),
	}
	if alerters := f.texts("alerters"); len(alerters) > 0 {
		c.note(f.source, name, "its alerters %s are left out: name notifiers in actions.alert; without, the default ones are told", clip(strings.Join(alerters, ", ")))
	}
	f.drop("rules have no numbers and times here", "id", "updated_at", "type")
	f.done("it is no part of a rule")
	c.addRule(f.source, name, "", r)
}

// doormanGroup reads the conditions of one rule.
type doormanGroup struct {
	queries []string // names that it asks for
	// elsewhere says that it may match events of other queries.
	elsewhere bool
}

// group reads {"condition": "AND", "rules": [...]}.
func (d *doormanGroup) group(v any, depth int) (string, error) {
	m, ok := v.(map[string]any)
	if !ok {
		return "", errConvert("its conditions are %s; they should be an object", typeName(v))
	}
	rules, isGroup := m["rules"].([]any)
	if !isGroup {
		return d.one(m)
	}
	word, _ := m["condition"].(string)
	word = strings.ToLower(word)
	if word != "and" && word != "or" {
		return "", errConvert("a group is joined by %s; there are AND and OR", clip(word))
	}
	if len(rules) == 0 {
		return "", errConvert("a group has no rules")
	}
	var parts []string
	named := 0
	for _, r := range rules {
		before := len(d.queries)
		part, err := d.group(r, depth+1)
		if err != nil {
			return "", err
		}
		if len(d.queries) > before {
			named++
		}
		parts = append(parts, part)
	}
	// Of an OR, the side that names no query matches events of any.
	if word == "or" && named > 0 && named < len(rules) || word == "or" && named == 0 && depth == 0 {
		d.elsewhere = true
	}
	out := joinExpr(word, parts)
	if m["not"] == true {
		d.elsewhere = true
		return "not (" + out + ")", nil
	}
	return out, nil
}

// one reads a condition of a field.
func (d *doormanGroup) one(m map[string]any) (string, error) {
	field, _ := m["field"].(string)
	operator, _ := m["operator"].(string)
	value := m["value"]
	var subject string
	switch field {
	case "query_name":
		subject = "query"
	case "action":
		subject = "action"
	case "host_identifier":
		subject = "node.host_identifier"
	case "timestamp":
		return "", errConvert("it compares the time of events, which conditions do not know")
	case "column":
		name, of, ok := doormanColumn(value)
		if !ok {
			return "", errConvert("a condition of a column does not say which")
		}
		subject, value = columnExpr(name), of
	default:
		return "", errConvert("%s is no field that is known", clip(field))
	}
	text, ok := scalarText(value)
	if !ok {
		return "", errConvert("it compares %s with %s", clip(field), typeName(value))
	}
	operator = strings.TrimPrefix(operator, "column_")
	if field == "query_name" {
		return d.queryName(operator, text)
	}
	return doormanTest(subject, operator, text)
}

// doormanColumn reads ["name", "value"], or the name alone.
func doormanColumn(v any) (name string, value any, ok bool) {
	switch v := v.(type) {
	case string:
		return v, "", v != ""
	case []any:
		if len(v) == 2 {
			name, ok = v[0].(string)
			return name, v[1], ok && name != ""
		}
	}
	return "", nil, false
}

// queryName compares the name of a query. Those in packs have another delimiter
// here, and others are in packs that their tags made.
func (d *doormanGroup) queryName(operator, name string) (string, error) {
	if strings.HasPrefix(name, "doorman/tasks/") {
		return "", errConvert("it looks at %s, which Doorman made itself; write a rule of the query %s", clip(name), event.FindingQuery)
	}
	own := strings.ReplaceAll(name, "/", "_")
	if operator != "equal" {
		d.elsewhere = true
		return doormanTest("query", operator, own)
	}
	if strings.HasPrefix(name, "pack/") {
		d.queries = append(d.queries, own)
		return "query == " + quoteExpr(own), nil
	}
	if strings.Contains(own, "*") {
		d.elsewhere = true
	} else {
		d.queries = append(d.queries, own, "pack_*_"+own)
	}
	return "(query == " + quoteExpr(own) + " or query endsWith " + quoteExpr("_"+own) + ")", nil
}

// doormanTest returns one of Doorman's operators in the language of conditions.
func doormanTest(subject, operator, value string) (string, error) {
	v := quoteExpr(value)
	positive, negated := strings.CutPrefix(operator, "not_")
	switch positive {
	case "equal":
		if negated {
			return subject + " != " + v, nil
		}
		return subject + " == " + v, nil
	case "begins_with", "contains", "ends_with":
		word := map[string]string{"begins_with": "startsWith", "contains": "contains", "ends_with": "endsWith"}[positive]
		if negated {
			return subject + " not " + word + " " + v, nil
		}
		return subject + " " + word + " " + v, nil
	case "matches_regex": // Python's match, which begins at the beginning
		pattern := "^(?:" + value + ")"
		if _, err := regexp.Compile(pattern); err != nil {
			return "", errConvert("its pattern %s is none of RE2: %v", clip(value), err)
		}
		if negated {
			return subject + " not matches " + quoteExpr(pattern), nil
		}
		return subject + " matches " + quoteExpr(pattern), nil
	}
	switch operator {
	case "is_empty":
		return "(" + subject + ` ?? "") == ""`, nil
	case "is_not_empty":
		return subject + ` != ""`, nil
	case "less", "less_or_equal", "greater", "greater_or_equal":
		n, err := strconv.ParseFloat(value, 64)
		if err != nil || strings.Trim(value, "0123456789.-") != "" {
			return "", errConvert("it compares with %s, which is no number", clip(value))
		}
		sign := map[string]string{"less": "<", "less_or_equal": "<=", "greater": ">", "greater_or_equal": ">="}[operator]
		return "float(" + subject + ") " + sign + " " + strconv.FormatFloat(n, 'f', -1, 64), nil
	}
	return "", errConvert("%s is no operator of Doorman", clip(operator))
}

// variable is $column in a name or description.
var variable = regexp.MustCompile(`\$\{?([A-Za-z_][A-Za-z0-9_]*)\}?`)

// doormanTemplate returns a template of Doorman's as one of ours.
func doormanTemplate(s string) string {
	return variable.ReplaceAllStringFunc(bare(s), func(m string) string {
		name := variable.FindStringSubmatch(m)[1]
		if name == "host_identifier" {
			return "{{node.host_identifier}}"
		}
		return "{{" + columnExpr(name) + "}}"
	})
}
