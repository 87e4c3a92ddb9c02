package foreign

import (
	"cmp"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/musterhq/muster/internal/event"
	"github.com/musterhq/muster/internal/resource"
)

// sigmaSource is what a log source is to osquery: the tables that have its events,
// and the columns that have its fields.
type sigmaSource struct {
	tables map[string][]string // by product
	fields map[string]string
}

// sigmaSources are the log sources that osquery has events of, by category. Of a
// field that is not here, no table has the value.
func sigmaSources() map[string]sigmaSource {
	return map[string]sigmaSource{
		"process_creation": {
			tables: map[string][]string{"windows": {"process_etw_events"}, "linux": {"process_events", "bpf_process_events"}, "macos": {"es_process_events", "process_events"}},
			fields: map[string]string{"Image": "path", "CommandLine": "cmdline", "User": "username", "ProcessId": "pid", "CurrentDirectory": "cwd", "IntegrityLevel": "mandatory_label"},
		},
		"network_connection": {
			tables: map[string][]string{"linux": {"socket_events"}, "macos": {"socket_events"}},
			fields: map[string]string{"Image": "path", "DestinationIp": "remote_address", "DestinationPort": "remote_port", "SourceIp": "local_address", "SourcePort": "local_port", "ProcessId": "pid"},
		},
		"file_event": {
			tables: map[string][]string{"windows": {"ntfs_journal_events"}, "linux": {"file_events"}, "macos": {"file_events"}},
			fields: map[string]string{"TargetFilename": "target_path"},
		},
		"dns_query": {
			tables: map[string][]string{"windows": {"dns_lookup_events"}},
			fields: map[string]string{"QueryName": "name", "Image": "path", "ProcessId": "pid", "QueryResults": "response"},
		},
		"ps_script": {
			tables: map[string][]string{"windows": {"powershell_events"}},
			fields: map[string]string{"ScriptBlockText": "script_text", "Path": "script_path"},
		},
	}
}

// sigma reads the common part of Sigma's rules: field lists with the modifiers
// contains, startswith, endswith, all, re, cidr, cased, exists, lt, lte, gt and
// gte, joined by and, or, not, 1 of and all of.
func (c *collector) sigma(files []File) {
	for _, file := range files {
		docs, err := readYAML(file.Bytes)
		if err != nil {
			c.fail(file.Name, "%v", err)
			continue
		}
		for i, doc := range docs {
			m, ok := doc.(map[string]any)
			if !ok || m["detection"] == nil {
				c.note(file.Name, "document "+strconv.Itoa(i+1), "left out: it is no rule, which has a detection")
				continue
			}
			c.sigmaRule(file, m)
		}
	}
}

func (c *collector) sigmaRule(file File, m map[string]any) {
	title, _ := m["title"].(string)
	place := cmp.Or(title, file.stem())
	source, product, err := sigmaSourceOf(m["logsource"])
	if err != nil {
		c.note(file.Name, place, "left out: %v", err)
		return
	}
	s := &sigmaRule{source: source, product: product}
	condition, err := s.detection(m["detection"])
	if err != nil {
		c.note(file.Name, place, "left out: %v", err)
		return
	}
	description, _ := m["description"].(string)
	r := &resource.Rule{
		Events: resource.RuleEvents{
			Tables: source.tables[product], Actions: []string{event.Added, event.Snapshot},
			Selector: "platform = " + map[string]string{"windows": "windows", "linux": "linux", "macos": "darwin"}[product],
		},
		Condition: condition, Severity: sigmaSeverity(m["level"]), Title: bare(place) + " on {{node.hostname}}", Text: bare(strings.TrimSpace(description)),
	}
	if id, _ := m["id"].(string); id != "" {
		r.Labels = map[string]string{"sigma": bare(id)}
	}
	if m["correlation"] != nil || m["action"] != nil {
		c.note(file.Name, place, "left out: it is made of several documents")
		return
	}
	name := file.stem()
	if name == "" || name == "-" {
		name = place
	}
	c.addRule(file.Name, name, title, r)
}

func sigmaSourceOf(v any) (source sigmaSource, product string, err error) {
	m, _ := v.(map[string]any)
	category, _ := m["category"].(string)
	product, _ = m["product"].(string)
	source, ok := sigmaSources()[category]
	if !ok {
		service, _ := m["service"].(string)
		return source, "", errConvert("osquery has no events of its log source %s; those of %s are read", clip(strings.TrimSpace(category+" "+product+" "+service)), strings.Join(slices.Sorted(maps.Keys(sigmaSources())), ", "))
	}
	if len(source.tables[product]) == 0 {
		return source, "", errConvert("osquery has no events of %s on %s", category, cmp.Or(clip(product), "no product"))
	}
	if category == "file_event" && product == "windows" {
		source.fields = map[string]string{"TargetFilename": "path"}
	}
	return source, product, nil
}

func sigmaSeverity(v any) string {
	level, _ := v.(string)
	if level == "informational" {
		return "info"
	}
	if slices.Contains(resource.Severities(), level) {
		return level
	}
	return ""
}

// sigmaRule is the detection of one rule.
type sigmaRule struct {
	source     sigmaSource
	product    string
	selections map[string]string // in the language of conditions, by name
	tokens     []string
	spent      int // characters that were written
}

// maxSigma bounds what a detection may become: 1 of x* may repeat selections.
const maxSigma = 64 << 10

func (s *sigmaRule) detection(v any) (string, error) {
	m, ok := v.(map[string]any)
	if !ok {
		return "", errConvert("its detection is %s", typeName(v))
	}
	condition := m["condition"]
	if list, ok := condition.([]any); ok && len(list) == 1 {
		condition = list[0]
	}
	text, ok := condition.(string)
	if !ok {
		return "", errConvert("its condition is %s; one text is read", typeName(condition))
	}
	if strings.Contains(text, "|") {
		return "", errConvert("its condition counts or joins events by |; write a threshold")
	}
	s.selections = map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(m)) {
		if name == "condition" || name == "timeframe" {
			continue
		}
		expr, err := s.selection(m[name])
		if err != nil {
			return "", errConvert("%s: %v", clip(name), err)
		}
		s.selections[name] = expr
	}
	s.tokens = strings.Fields(strings.NewReplacer("(", " ( ", ")", " ) ").Replace(text))
	out, err := s.or(0)
	if err == nil && len(s.tokens) > 0 {
		err = errConvert("its condition goes on with %s", clip(s.tokens[0]))
	}
	return out, err
}

func (s *sigmaRule) peek() string {
	if len(s.tokens) == 0 {
		return ""
	}
	return strings.ToLower(s.tokens[0])
}

func (s *sigmaRule) next() string {
	if len(s.tokens) == 0 {
		return ""
	}
	t := s.tokens[0]
	s.tokens = s.tokens[1:]
	return t
}

func (s *sigmaRule) or(depth int) (string, error) {
	return s.list("or", func() (string, error) {
		return s.list("and", func() (string, error) { return s.term(depth) })
	})
}

func (s *sigmaRule) list(word string, item func() (string, error)) (string, error) {
	var parts []string
	for {
		part, err := item()
		if err != nil {
			return "", err
		}
		if s.spent += len(part); s.spent > maxSigma {
			return "", errConvert("it becomes over %d characters", maxSigma)
		}
		parts = append(parts, part)
		if s.peek() != word {
			return joinExpr(word, parts), nil
		}
		s.next()
	}
}

// term reads not, parentheses, 1 of, all of, or a name.
func (s *sigmaRule) term(depth int) (string, error) {
	if depth > maxDepth {
		return "", errConvert("its condition has over %d levels", maxDepth)
	}
	switch word := s.peek(); {
	case word == "":
		return "", errConvert("its condition is incomplete")
	case word == "not":
		s.next()
		inner, err := s.term(depth + 1)
		// What is missing is not what is excluded.
		return "not is_true(" + inner + ")", err
	case word == "(":
		s.next()
		inner, err := s.or(depth + 1)
		if err == nil && s.next() != ")" {
			err = errConvert("its condition has ( without )")
		}
		return inner, err
	case (word == "1" || word == "any" || word == "all") && len(s.tokens) > 1 && strings.EqualFold(s.tokens[1], "of"):
		s.next()
		s.next()
		return s.of(word, s.next())
	}
	name := s.next()
	expr, ok := s.selections[name]
	if !ok {
		return "", errConvert("its condition names %s, which is no selection", clip(name))
	}
	return expr, nil
}

// of joins the selections whose names fit a pattern.
func (s *sigmaRule) of(word, pattern string) (string, error) {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(s.selections)) {
		if pattern == "them" && !strings.HasPrefix(name, "_") || resource.MatchName(pattern, name) {
			parts = append(parts, s.selections[name])
		}
	}
	if len(parts) == 0 {
		return "", errConvert("its condition names %s, which no selection fits", clip(pattern))
	}
	if word == "all" {
		return joinExpr("and", parts), nil
	}
	return joinExpr("or", parts), nil
}

// selection reads fields that must all fit, or a list of which one must.
func (s *sigmaRule) selection(v any) (string, error) {
	switch v := v.(type) {
	case map[string]any:
		var parts []string
		for _, key := range slices.Sorted(maps.Keys(v)) {
			part, err := s.field(key, v[key])
			if err != nil {
				return "", err
			}
			parts = append(parts, part)
		}
		if len(parts) > 0 {
			return joinExpr("and", parts), nil
		}
	case []any:
		var parts []string
		for _, item := range v {
			if !isObject(item) {
				return "", errConvert("it looks for words in any field; name a field")
			}
			part, err := s.selection(item)
			if err != nil {
				return "", err
			}
			parts = append(parts, part)
		}
		if len(parts) > 0 {
			return joinExpr("or", parts), nil
		}
	}
	return "", errConvert("it selects nothing that can be read")
}

// field reads a field with its modifiers and values.
func (s *sigmaRule) field(key string, v any) (string, error) {
	words := strings.Split(key, "|")
	column, ok := s.source.fields[words[0]]
	if !ok || column == "username" && s.product == "linux" {
		return "", errConvert("osquery's events have no %s", clip(words[0]))
	}
	t := sigmaTest{subject: columnExpr(column)}
	all := false
	for _, m := range words[1:] {
		switch m {
		case "contains", "startswith", "endswith", "re", "cidr", "exists", "lt", "lte", "gt", "gte":
			if t.operator != "" {
				return "", errConvert("%s has two of the modifiers that cannot be joined", clip(key))
			}
			t.operator = m
		case "all":
			all = true
		case "cased":
			t.cased = true
		default:
			return "", errConvert("the modifier %s cannot be taken over", clip(m))
		}
	}
	values, isList := v.([]any)
	if !isList {
		values = []any{v}
	}
	if len(values) == 0 {
		return "", errConvert("%s has no values", clip(key))
	}
	var parts []string
	for _, value := range values {
		part, err := t.test(value)
		if err != nil {
			return "", err
		}
		parts = append(parts, part)
	}
	if all {
		return joinExpr("and", parts), nil
	}
	return joinExpr("or", parts), nil
}

// sigmaTest compares a field with values.
type sigmaTest struct {
	subject  string
	operator string
	cased    bool
}

func (t sigmaTest) test(v any) (string, error) {
	if t.operator == "exists" {
		if v == false {
			return "not has(" + t.subject + ")", nil
		}
		return "has(" + t.subject + ")", nil
	}
	if v == nil {
		return "(" + t.subject + ` ?? "") == ""`, nil
	}
	value, ok := scalarText(v)
	if !ok {
		return "", errConvert("a value is %s", typeName(v))
	}
	switch t.operator {
	case "re":
		if _, err := regexp.Compile(value); err != nil {
			return "", errConvert("its pattern %s is none of RE2: %v", clip(value), err)
		}
		return t.subject + " matches " + quoteExpr(value), nil
	case "cidr":
		if _, err := netip.ParsePrefix(value); err != nil {
			return "", errConvert("%s is no network", clip(value))
		}
		return "cidr(" + t.subject + ", " + quoteExpr(value) + ")", nil
	case "lt", "lte", "gt", "gte":
		n, err := strconv.ParseFloat(value, 64)
		if err != nil || strings.Trim(value, "0123456789.-") != "" {
			return "", errConvert("%s is no number", clip(value))
		}
		sign := map[string]string{"lt": "<", "lte": "<=", "gt": ">", "gte": ">="}[t.operator]
		return "float(" + t.subject + ") " + sign + " " + strconv.FormatFloat(n, 'f', -1, 64), nil
	}
	return t.words(value), nil
}

// words compares with a text in which * and ? stand for any letters, without
// case unless it is asked for.
func (t sigmaTest) words(value string) string {
	parts := sigmaParts(value)
	switch t.operator {
	case "contains":
		parts = append(append([]sigmaPart{{any: true}}, parts...), sigmaPart{any: true})
	case "startswith":
		parts = append(parts, sigmaPart{any: true})
	case "endswith":
		parts = append([]sigmaPart{{any: true}}, parts...)
	}
	parts = slices.CompactFunc(parts, func(a, b sigmaPart) bool { return a.any && b.any })
	subject, fold := t.subject, func(s string) string { return s }
	if !t.cased {
		subject, fold = "lower("+t.subject+")", strings.ToLower
	}
	text := func(i int) bool { return !parts[i].any && !parts[i].one }
	switch n := len(parts); {
	case n == 0:
		return subject + ` == ""`
	case n == 1 && parts[0].any:
		return "has(" + t.subject + ")"
	case n == 1 && text(0):
		return subject + " == " + quoteExpr(fold(parts[0].text))
	case n == 2 && parts[0].any && text(1):
		return subject + " endsWith " + quoteExpr(fold(parts[1].text))
	case n == 2 && text(0) && parts[1].any:
		return subject + " startsWith " + quoteExpr(fold(parts[0].text))
	case n == 3 && parts[0].any && text(1) && parts[2].any:
		return subject + " contains " + quoteExpr(fold(parts[1].text))
	}
	flags := "s"
	if !t.cased {
		flags = "is"
	}
	var b strings.Builder
	b.WriteString("(?" + flags + ")^")
	for _, p := range parts {
		switch {
		case p.any:
			b.WriteString(".*")
		case p.one:
			b.WriteString(".")
		default:
			b.WriteString(regexp.QuoteMeta(p.text))
		}
	}
	return t.subject + " matches " + quoteExpr(b.String()+"$")
}

// sigmaPart is a text, * or ?.
type sigmaPart struct {
	text string
	any  bool
	one  bool
}

// sigmaParts splits a value. A backslash before *, ? or another backslash takes
// their meaning; elsewhere it is itself.
func sigmaParts(value string) []sigmaPart {
	var parts []sigmaPart
	var b strings.Builder
	flush := func() {
		if b.Len() > 0 {
			parts = append(parts, sigmaPart{text: b.String()})
			b.Reset()
		}
	}
	for i := 0; i < len(value); i++ {
		switch c := value[i]; {
		case c == '\\' && i+1 < len(value) && strings.IndexByte(`*?\`, value[i+1]) >= 0:
			i++
			b.WriteByte(value[i])
		case c == '*':
			flush()
			parts = append(parts, sigmaPart{any: true})
		case c == '?':
			flush()
			parts = append(parts, sigmaPart{one: true})
		default:
			b.WriteByte(c)
		}
	}
	flush()
	return parts
}
