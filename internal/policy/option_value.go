package policy

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	// maxOption bounds the text of an option's value. osquery has no limit; the
	// longest sensible ones are lists of paths.
	maxOption = 4096
	// maxDelimiter bounds pack_delimiter, which is in every query's name.
	maxDelimiter = 8
	// maxNesting bounds objects in objects of a custom option, so that the config
	// stays below the 32 levels at which agents drop everything.
	maxNesting = 16
	// exactFloat is the largest integer that a JSON number keeps in a float64.
	exactFloat = 1 << 53
)

// option judges one flag in a config's options.
func (c checker) option(name string, value any) Verdict {
	v := newVerdict()
	f, known := c.flag(name)
	switch {
	case strings.HasPrefix(name, "custom_") && plainName(name):
		v.custom(name, value)
	case !known:
		v.unknownOption(name)
	case !f.settable():
		v.refuse("option", name, "flagfile-only", f.reason())
	default:
		v.setting(f, value)
	}
	if len(f.Platforms) > 0 {
		v.Platforms = f.Platforms
	}
	return v.sorted()
}

func (v *Verdict) unknownOption(name string) {
	why := "osquery has no such flag, and agents ignore it"
	if near := nearestFlags(name); len(near) > 0 {
		why += "; did you mean " + strings.Join(near, " or ") + "?"
	}
	v.refuse("option", clip(name), "unknown-option", why+"; settings of extensions begin with custom_")
}

// custom judges a setting that agents keep for extensions. Only its form is
// known.
func (v *Verdict) custom(name string, value any) {
	text, problem := optionText(value)
	if kind := reflect.ValueOf(value).Kind(); kind == reflect.Map || kind == reflect.Slice {
		b, err := json.Marshal(value)
		text, problem = string(b), ""
		switch {
		case err != nil:
			problem = "it cannot be written as JSON"
		case nesting(reflect.ValueOf(value)) > maxNesting:
			problem = fmt.Sprintf("it is nested more than %d deep; agents drop their whole schedule at 32", maxNesting)
		}
	}
	if problem == "" {
		problem = textProblem(text, maxOption)
	}
	if problem != "" {
		v.refuse("option", name, "option-type", problem)
	}
}

// nesting is how many arrays and objects are within each other. What JSON could
// write has an end.
func nesting(v reflect.Value) int {
	deepest := 0
	switch v.Kind() {
	case reflect.Interface:
		return nesting(v.Elem())
	case reflect.Map:
		for _, key := range v.MapKeys() {
			deepest = max(deepest, nesting(v.MapIndex(key)))
		}
	case reflect.Slice:
		for i := range v.Len() {
			deepest = max(deepest, nesting(v.Index(i)))
		}
	default:
		return 0
	}
	return deepest + 1
}

func (v *Verdict) setting(f FlagInfo, value any) {
	if f.AliasOf != "" {
		v.find("option-alias", Warning, "%s is another name of %s; write that, so that it is found", f.Name, f.AliasOf)
	}
	if f.Kind == "shell" {
		v.find("shell-option", Warning, "%s is for the interactive shell; it does nothing in an agent", f.Name)
	}
	text, problem := optionText(value)
	if problem == "" {
		text, problem = f.parse(text)
	}
	switch {
	case problem != "":
		v.refuse("option", f.Name, "option-type", problem)
	case text == "":
		v.find("option-empty", Warning, "agents skip an empty value: %s keeps what it has; leave it out", f.Name)
	default:
		v.value(f, text)
	}
}

// value judges a value in its plain form.
func (v *Verdict) value(f FlagInfo, text string) {
	tier, allowed := f.tierOf(text)
	why := f.Class + ": " + f.reason()
	switch {
	case !allowed:
		v.refuse("option", f.Name, "option-range", fmt.Sprintf("%s is not allowed; %s", clip(text), why))
	case f.isEndpoint() && !plainEndpoint(text):
		v.refuse("option", f.Name, "foreign-server", "it is not one plain path: it has to begin with a single / and to hold only letters, digits and . _ ~ - between slashes; the agent appends it to its server's name, so that @evil.example or .evil.example names another server; "+f.Instead)
	case f.Name == "pack_delimiter" && (strings.ContainsRune(text, ':') || len(text) > maxDelimiter):
		v.refuse("option", f.Name, "option-range", "a colon, or a long text, in the names of queries breaks the agent's denylist; "+f.Instead)
	default:
		v.add(Reason{Kind: "option", Name: f.Name, Tier: tier, Why: why})
	}
}

// optionText returns the text that an agent makes of a JSON value, or what is
// wrong with it. Agents read numbers with a fraction or an exponent as garbage.
func optionText(value any) (text, problem string) {
	if n, ok := value.(json.Number); ok {
		if strings.ContainsAny(string(n), ".eE") {
			return "", "agents misread numbers with a fraction or an exponent; write a whole number"
		}
		return string(n), ""
	}
	switch r := reflect.ValueOf(value); r.Kind() {
	case reflect.Invalid:
		return "", "it is null, which agents warn about; leave it out"
	case reflect.String:
		return r.String(), ""
	case reflect.Bool:
		return strconv.FormatBool(r.Bool()), ""
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return strconv.FormatInt(r.Int(), 10), ""
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return strconv.FormatUint(r.Uint(), 10), ""
	case reflect.Float32, reflect.Float64:
		if x := r.Float(); x == math.Trunc(x) && math.Abs(x) <= exactFloat {
			return strconv.FormatInt(int64(x), 10), ""
		}
		return "", "agents misread numbers with a fraction or beyond 2^53; write a whole number"
	default:
		return "", "it is an array or an object; write one text, number or true or false"
	}
}

// parse returns a value's plain form, or what is wrong with it, as gflags reads
// it: what it cannot read, agents ignore without a word.
func (f FlagInfo) parse(text string) (plain, problem string) {
	if problem = textProblem(text, maxOption); problem != "" || text == "" {
		return "", problem
	}
	switch f.Type {
	case "bool":
		return parseBool(text)
	case "int32":
		return parseInt(text)
	case "uint32":
		return parseUint(text, 32)
	case "uint64":
		return parseUint(text, 64)
	}
	return text, ""
}

func parseBool(text string) (plain, problem string) {
	switch strings.ToLower(text) {
	case "1", "t", "true", "y", "yes":
		return "true", ""
	case "0", "f", "false", "n", "no":
		return "false", ""
	}
	return "", "agents ignore " + clip(text) + " here; write true or false"
}

func parseInt(text string) (plain, problem string) {
	digits, base := radix(text)
	n, err := strconv.ParseInt(digits, base, 32)
	if err != nil {
		return "", "agents ignore " + clip(text) + " here; write a whole number between -2147483648 and 2147483647"
	}
	return strconv.FormatInt(n, 10), ""
}

func parseUint(text string, bits int) (plain, problem string) {
	digits, base := radix(text)
	n, err := strconv.ParseUint(digits, base, bits)
	if err != nil {
		return "", fmt.Sprintf("agents ignore %s here; write a whole number from 0 to %d", clip(text), uint64(math.MaxUint64)>>(64-bits))
	}
	return strconv.FormatUint(n, 10), ""
}

// radix follows gflags: 0x is hexadecimal, and a leading zero means nothing.
func radix(text string) (digits string, base int) {
	if hex, ok := strings.CutPrefix(strings.ToLower(text), "0x"); ok {
		return hex, 16
	}
	return text, 10
}

// isEndpoint reports whether the value is appended to the server's name.
func (f FlagInfo) isEndpoint() bool {
	return strings.Contains(f.Name, "_tls_") && strings.HasSuffix(f.Name, "_endpoint")
}

// plainEndpoint reports whether a path stays on the agent's server: osquery
// writes https://, tls_hostname and it one after the other
// (osquery/remote/utility.h).
func plainEndpoint(path string) bool {
	rest, ok := strings.CutPrefix(path, "/")
	for part := range strings.SplitSeq(strings.TrimSuffix(rest, "/"), "/") {
		ok = ok && part != "" && strings.Trim(part, ".") != "" && strings.IndexFunc(part, func(r rune) bool {
			return !isWordRune(r) && r != '.' && r != '~' && r != '-'
		}) < 0
	}
	return ok
}

// nearestFlags returns at most two flags whose names are near enough to be meant.
func nearestFlags(name string) []string {
	best, near := 4, []string(nil) // more than three changes is another word
	for line := range strings.Lines(flagsTSV) {
		candidate, _, _ := strings.Cut(line, "\t")
		if max(len(name), len(candidate))-min(len(name), len(candidate)) > best {
			continue
		}
		d := distance(name, candidate)
		f, known := lookupFlag(candidate)
		switch {
		case d > best || d >= len(candidate) || !known || !f.settable():
		case d < best:
			best, near = d, []string{candidate}
		case len(near) == 1:
			near = append(near, candidate)
		}
	}
	return near
}

// distance is the number of letters to insert, remove or replace.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			above := row[j+1]
			row[j+1] = min(above, row[j]) + 1
			if a[i] == b[j] {
				row[j+1] = min(row[j+1], diagonal)
			} else {
				row[j+1] = min(row[j+1], diagonal+1)
			}
			diagonal = above
		}
	}
	return row[len(b)]
}

// textProblem says what is wrong with a text that goes into a config; "" if
// nothing is. Characters that do not print hide what a text says, or end it in
// the agent.
func textProblem(text string, limit int) string {
	switch {
	case len(text) > limit:
		return fmt.Sprintf("it has %d bytes; at most %d are allowed", len(text), limit)
	case !utf8.ValidString(text):
		return "it is not UTF-8"
	}
	if i := strings.IndexFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }); i >= 0 {
		return fmt.Sprintf("it holds the character %q, which does not print; remove it", firstRune(text[i:]))
	}
	return ""
}

func firstRune(s string) rune {
	r, _ := utf8.DecodeRuneInString(s)
	return r
}

// clip returns a hostile text in a form that fits a message.
func clip(text string) string {
	const most = 60
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "…"
	}
	if text == "" || textProblem(text, maxOption) != "" || strings.ContainsRune(text, ' ') {
		return strconv.Quote(text)
	}
	return text
}

// plainName reports whether a name is made of letters, digits and _ only.
func plainName(name string) bool {
	return name != "" && strings.IndexFunc(name, func(r rune) bool { return !isWordRune(r) }) < 0
}

func isWordRune(r rune) bool {
	return r == '_' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
}
