package redact

// Kinds of what is no detector's.
const (
	// KindColumn is of a whole value that a rule named.
	KindColumn = "column"
	// KindDropped is of one that a rule left empty.
	KindDropped = "dropped"
	// KindMany is of the rest of a value that has too many secrets; see
	// maxFindings.
	KindMany = "many"
)

// shortest is what a value with a secret in it has at least: "pwd=abcd".
const shortest = 8

// detect finds what is secret in a value, by what its column is called.
func (sc *scanner) detect(name, v []byte) {
	if kind := columnName(name); kind != "" && isSecret(v, kind, false) && !isNumber(v) {
		sc.add(0, len(v), kind, byName)
	}
	sc.parts(v, isCommand(name))
}

// parts looks at what is between the placeholders of a value. random says that
// also what only looks random is a secret in it.
func (sc *scanner) parts(v []byte, random bool) {
	from := 0
	if sc.marks {
		for {
			start, end := nextPlaceholder(v, from)
			if start < 0 {
				break
			}
			sc.segment(v, from, start, random)
			from = end
		}
	}
	sc.segment(v, from, len(v), random)
}

// segment looks at what is between placeholders. What they stand for was taken
// out before, and must not be looked into.
func (sc *scanner) segment(v []byte, from, to int, random bool) {
	if to-from < shortest {
		return
	}
	n := len(sc.spans)
	sc.skip, sc.budget = 0, toolBudget*(to-from)
	if len(sc.rules.custom) > 0 {
		sc.tried = append(sc.tried[:0], make([]bool, len(sc.rules.custom))...)
	}
	part := v[from:to:to]
	sc.rules.filter.each(sc, part)
	if random && len(part) >= minRandom {
		sc.findRandom(part, 0, len(part))
	}
	for i := n; i < len(sc.spans); i++ {
		sc.spans[i].start += from
		sc.spans[i].end += from
	}
}

func isNumber(v []byte) bool { return run(v, 0, len(v), digit|dot|dash) == len(v) }

// columnName returns the kind of secret that a column has by its name; "" for
// most. Only few columns of osquery are so called, but a query may call its own so.
func columnName(name []byte) string {
	n := len(name)
	if n < len("pass") {
		return ""
	}
	switch string(name[n-2:]) { // as nearly no other name ends
	case "rd", "wd", "rt", "se", "de", "ss", "en", "et", "al", "ls", "ey", "RD", "WD", "SS", "EN", "ET", "EY":
		return secretName(name)
	}
	return ""
}

// isCommand reports whether a column holds command lines or environments, where
// also what only looks random is a secret.
func isCommand(name []byte) bool {
	switch string(name) {
	case "cmdline", "command", "command_line", "commandline", "cmd", "arguments", "args", "argv", "program_arguments", "command_line_template",
		"script_text", "env", "envs", "environment", "env_variables", "exec_start", "start_command":
		return true
	}
	return false
}

// pair is a name and its value in two columns of one row, as process_envs has
// them. The value is looked at last, when its name is known. The zero value has
// neither.
type pair struct {
	kind   string // of the secret that the name says; "" if it says none
	env    bool   // the name is that of a variable
	valued bool
	value  place
	column []byte // of the value
}

// maxPairName is the longest name of a column of a pair.
const maxPairName = len("subkey")

// note takes a column in, and reports whether it is the value, to be looked at
// last.
func (p *pair) note(name, value []byte, at place) bool {
	if len(name) > maxPairName {
		return false
	}
	switch string(name) {
	case "key", "name", "subkey", "label", "option":
		if kind := secretName(value); kind != "" {
			p.kind = kind
		}
		p.env = p.env || string(name) == "key" && len(value) > 1 && run(value, 0, len(value), upper|digit|underscore) == len(value)
	case "value", "data":
		if !p.valued {
			p.column, p.value, p.valued = name, at, true
			return true
		}
	}
	return false
}

// lookPair looks at the value of a pair.
func (sc *scanner) lookPair(v []byte, p *pair) bool {
	sc.spans = sc.spans[:0]
	if p.kind != "" && isSecret(v, p.kind, false) && !isPlaceholder(v) {
		sc.add(0, len(v), p.kind, byName)
	} else {
		sc.parts(v, p.env)
	}
	sc.settle(v)
	return len(sc.spans) > 0
}
