package transparency

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/musterhq/muster/internal/policy"
)

// Means says what a tier is, to people who never heard of one.
func Means(t policy.Tier) string {
	switch t {
	case policy.Harmless:
		return "Harmless: an inventory of hardware, software and settings"
	case policy.Internal:
		return "Internal: says something of how the machine and its network are set up"
	case policy.Sensitive:
		return "Sensitive: may tell of people and what they do, or of files, or make the machine work hard"
	case policy.Dangerous:
	}
	return "Most sensitive: may read what people keep to themselves, or cannot be told beforehand"
}

// Outcome says what became of a question. A state that is not known is itself.
func Outcome(state string) string {
	switch state {
	case "waiting", "sent":
		return "Sent, and not answered yet"
	case "answered", "over_limit":
		return "Answered"
	case "empty":
		return "Answered: nothing was found"
	case "failed":
		return "The machine could not answer"
	case "denylisted":
		return "The machine refused"
	case "expired":
		return "Not answered in time"
	case "stopped":
		return "Stopped before the machine answered"
	}
	return state
}

// Why says why a question was asked, by its kind.
func Why(kind, source string) string {
	switch kind {
	case "enrollment":
		return "asked of every machine of its sort when it joins (" + source + ")"
	case "trigger":
		return "asked by itself, after something happened (" + source + ")"
	}
	return "asked by a person"
}

// Fate says what became of a request for files. A state that is not known is itself.
func Fate(state string) string {
	switch state {
	case "asked", "sent", "scheduled":
		return "asked for, and not fetched yet"
	case "uploading", "verifying":
		return "being fetched"
	case "done":
		return "fetched"
	case "failed":
		return "not fetched: it failed"
	case "cancelled":
		return "cancelled"
	case "expired":
		return "not there any more"
	}
	return state
}

// Treatment says what a redaction's action does to a value.
func Treatment(action string) string {
	switch action {
	case "keep":
		return "kept as it is, secrets too"
	case "redact":
		return "taken out as a whole"
	case "hash":
		return "replaced by a fingerprint, by which equal values can be told"
	case "drop":
		return "left empty"
	}
	return "looked through for secrets"
}

// TagFrom says what gives a tag, by its source. Names of enroll secrets are left
// out.
func TagFrom(source string) string {
	kind, name, _ := strings.Cut(source, ":")
	switch kind {
	case "hand":
		return "set by a person"
	case "secret":
		return "given when the machine joined"
	case "rule":
		return "given by the tag rule " + name
	case "query":
		return "given by what the query " + name + " found"
	case "match":
		return "given by the rule " + name
	}
	return kind
}

// Span is a time in words: 90 seconds, 15 minutes, 2 hours, 30 days. It names the
// largest unit that needs no fraction.
func Span(d time.Duration) string {
	for _, u := range []struct {
		of   time.Duration
		name string
	}{{24 * time.Hour, "day"}, {time.Hour, "hour"}, {time.Minute, "minute"}, {time.Second, "second"}} {
		if d >= u.of && d%u.of == 0 {
			n := int64(d / u.of)
			if n == 1 {
				return "1 " + u.name
			}
			return fmt.Sprintf("%d %ss", n, u.name)
		}
	}
	return d.String()
}

// Every says how often something is done each time.
func Every(d time.Duration) string { return "Every " + strings.TrimPrefix(Span(d), "1 ") }

// Platforms says which platforms an osquery key means, as linux,darwin.
func Platforms(key string) string {
	return strings.NewReplacer("posix", "Linux and macOS", "linux", "Linux", "darwin", "macOS", "windows", "Windows", ",", ", ").Replace(key)
}

// Cut returns a text of at most MaxText bytes, in whole characters.
func Cut(s string) string {
	if len(s) <= MaxText {
		return s
	}
	end := MaxText
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + " … (cut)"
}
