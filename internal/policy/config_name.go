package policy

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/musterhq/muster/internal/errs"
)

// maxName bounds the name of a query, pack or category, which is in every log
// line.
const maxName = 128

// QueryName refuses names that agents trip over: their database keeps what a
// query saw under the name, with prefixes and suffixes of its own
// (osquery/config/packs.cpp, osquery/core/query.cpp), and their denylist is
// names with colons between them.
func QueryName(name string) error {
	if problem := nameProblem(name); problem != "" {
		return errs.Field("name", "%s", problem)
	}
	for _, prefix := range []string{"query.", "cache.", "config_views."} {
		if strings.HasPrefix(name, prefix) {
			return errs.Field("name", "begins with %s, which agents keep for themselves; they skip such a query; choose another", prefix)
		}
	}
	for _, suffix := range []string{"epoch", "counter"} {
		if strings.HasSuffix(name, suffix) {
			return errs.Field("name", "ends with %s, which agents keep for themselves; they skip such a query; choose another", suffix)
		}
	}
	return nil
}

// PackName refuses names of packs that agents trip over.
func PackName(name string) error {
	switch problem := nameProblem(name); {
	case problem != "":
		return errs.Field("name", "%s", problem)
	case name == "main":
		return errs.Field("name", "is main, under which agents keep the schedule; the pack would replace it; choose another")
	case name == "*":
		return errs.Field("name", "is *, which agents take for a list of packs; choose another")
	}
	return nil
}

// nameProblem says what is wrong with any name of a config; "" if nothing is.
func nameProblem(name string) string {
	switch {
	case name == "":
		return "the name is empty"
	case strings.TrimSpace(name) != name:
		return "the name begins or ends with a space; remove it"
	case strings.ContainsRune(name, ':'):
		return "the name holds a colon, after which agents cannot read their denylist; choose another"
	}
	return textProblem(name, maxName)
}

// Interval refuses intervals, in seconds, at which agents skip a query.
func Interval(seconds int) error {
	if seconds < 1 || seconds > maxInterval {
		return errs.Field("interval", "is %d; agents skip queries whose interval is not 1 to %d seconds", seconds, maxInterval)
	}
	return nil
}

// Collisions finds queries that have one name on agents: there, a query is
// called pack, delimiter, the pack's name, delimiter, its own name, so that b_c
// in a and c in a_b are one, and each spoils what the other saw. packs are the
// names of queries by pack; delimiter is osquery's pack_delimiter.
func Collisions(packs map[string][]string, delimiter string) []Finding {
	sources := map[string][]string{}
	for _, pack := range slices.Sorted(maps.Keys(packs)) {
		for _, query := range slices.Sorted(slices.Values(packs[pack])) {
			name := "pack" + delimiter + pack + delimiter + query
			sources[name] = append(sources[name], fmt.Sprintf("%s in pack %s", clip(query), clip(pack)))
		}
	}
	findings := []Finding{}
	for _, name := range slices.Sorted(maps.Keys(sources)) {
		if same := sources[name]; len(same) > 1 {
			findings = append(findings, Finding{
				Code: "name-collision", Severity: Refused,
				Message: fmt.Sprintf("query %s are all called %s on agents, and spoil each other's results; rename all but one", strings.Join(same, " and "), clip(name)),
			})
		}
	}
	return findings
}
