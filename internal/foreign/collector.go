package foreign

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/node"
	"github.com/musterhq/muster/internal/policy"
	"github.com/musterhq/muster/internal/resource"
)

// collector gathers what is made of all files of an import.
type collector struct {
	objects []resource.Object
	sources map[resource.Key]string // the file of each object
	given   map[resource.Key]string // the file that gave a name, by the name as it was there
	tags    map[string]string       // by what the tag was called
	taken   map[string]bool         // tags
	numbers map[string]int          // the last behind a name
	notes   []placed
	index   map[string]int // of notes, by what is equal of those that are one
	wrong   []string
	full    bool // no more objects are taken
}

// placed is a note with the places that it is about.
type placed struct {
	Note

	place string // the first
	more  int    // others
}

func newCollector() *collector {
	return &collector{
		sources: map[resource.Key]string{}, given: map[resource.Key]string{},
		tags: map[string]string{}, taken: map[string]bool{}, index: map[string]int{}, numbers: map[string]int{},
	}
}

// maxWrong bounds how many errors are told at once.
const maxWrong = 20

func (c *collector) result() (Imported, error) {
	if n := len(c.wrong); n > 0 {
		told := c.wrong[:min(n, maxWrong)]
		if n > maxWrong {
			told = append(slices.Clone(told), fmt.Sprintf("and %d more", n-maxWrong))
		}
		return Imported{}, errs.New(errs.Invalid, "%s", strings.Join(told, "; "))
	}
	r := Imported{Objects: c.objects, Notes: []Note{}}
	for _, p := range c.notes {
		n := p.Note
		switch {
		case p.more > 0:
			n.Message = fmt.Sprintf("%s and %d more: %s", p.place, p.more, n.Message)
		case p.place != "":
			n.Message = p.place + ": " + n.Message
		}
		r.Notes = append(r.Notes, n)
	}
	slices.SortFunc(r.Objects, func(a, b resource.Object) int { return a.Compare(b.Key) })
	_, err := resource.NewSet(r.Objects)
	if err != nil {
		return Imported{}, err
	}
	return r, nil
}

// note tells of something at a place in a file, "" for all of it.
func (c *collector) note(source, place, format string, args ...any) {
	n := Note{clip(source), fmt.Sprintf(format, args...)}
	key := place[strings.LastIndex(place, ".")+1:] // the owner of one query, and of another
	same := n.Source + "\x00" + key + "\x00" + n.Message
	if i, ok := c.index[same]; ok && place != "" {
		c.notes[i].more++
		return
	}
	c.index[same] = len(c.notes)
	c.notes = append(c.notes, placed{Note: n, place: place})
}

func (c *collector) fail(source, format string, args ...any) {
	c.wrong = append(c.wrong, clip(source)+": "+fmt.Sprintf(format, args...))
}

// claim notes which file gave an object its name. Another that gives the same is
// an error.
func (c *collector) claim(source, kind, name string) bool {
	key := resource.Key{Kind: kind, Name: name}
	if had, ok := c.given[key]; ok {
		c.fail(source, "the %s %s is also in %s; rename or remove one", strings.ToLower(kind), clip(name), clip(had))
		return false
	}
	c.given[key] = source
	return true
}

// add adds an object under a name that is valid and free, and returns the name.
func (c *collector) add(source, name, description, kind string, spec resource.Spec) string {
	if len(c.objects) == maxObjects && !c.full {
		c.full = true
		c.fail(source, "the files make over %d objects; import some of them at a time", maxObjects)
	}
	if c.full {
		return name
	}
	free := c.free(kind, cleanName(kind, name))
	switch {
	case free == name:
	case kind == "Pack":
		c.note(source, "", "the pack %s is called %s here, and its queries pack_%s_NAME on agents and in logs; their differential state starts anew", clip(name), free, free)
	default:
		c.note(source, "", "the %s %s is called %s here", strings.ToLower(kind), clip(name), free)
	}
	key := resource.Key{Kind: kind, Name: free}
	c.sources[key] = source
	c.objects = append(c.objects, resource.Object{Key: key, Description: description, Spec: spec})
	return free
}

// maxObjects is what fits into a set.
const maxObjects = 5000

// free returns the name, with a number behind it if an object has it already.
func (c *collector) free(kind, name string) string {
	return c.unique(name, maxName, func(s string) bool { return c.sources[resource.Key{Kind: kind, Name: s}] != "" })
}

// unique returns a name that is not taken: the given one, or with a number
// behind it. Numbers go on where they were, so that thousands of equal names
// take no time.
func (c *collector) unique(name string, limit int, taken func(string) bool) string {
	candidate := name
	for taken(candidate) {
		c.numbers[name]++
		suffix := fmt.Sprintf("-%d", c.numbers[name]+1)
		candidate = strings.ToValidUTF8(name[:min(len(name), limit-len(suffix))], "") + suffix
	}
	return candidate
}

// maxName is how long the name of an object may be.
const maxName = 63

// isNameLetter reports whether the name of an object can have a letter.
func isNameLetter(r rune) bool {
	return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("._-", r)
}

// cleanName returns a valid name that is as near to the given one as can be.
func cleanName(kind, name string) string {
	var b strings.Builder
	for _, r := range name {
		switch {
		case isNameLetter(r):
			b.WriteRune(r)
		case b.Len() > 0 && !strings.HasSuffix(b.String(), "-"):
			b.WriteByte('-')
		}
		if b.Len() >= maxName {
			break
		}
	}
	clean := strings.TrimRight(strings.TrimLeft(b.String(), "._-"), "-")
	clean = cmp.Or(clean, strings.ToLower(kind))
	if kind == "Pack" && policy.PackName(clean) != nil {
		clean += "-pack"
	}
	return clean
}

// maxQueryName is how long the name of a query may be (policy.QueryName).
const maxQueryName = 128

// queryName returns a name that agents take for a query in a pack, and that the
// pack does not have yet.
func (c *collector) queryName(name string, taken map[string]resource.Query) string {
	clean := strings.TrimSpace(strings.Map(func(r rune) rune {
		if r == ':' || r < ' ' || r == 0x7f {
			return '-'
		}
		return r
	}, name))
	tries := []string{"query"}
	if clean != "" {
		tries = []string{clean, "q-" + clean, clean + "-q", "q-" + clean + "-q", cleanName("query", name), "query"}
	}
	clean = tries[slices.IndexFunc(tries, func(s string) bool { return policy.QueryName(s) == nil })]
	return c.unique(clean, maxQueryName, func(s string) bool {
		_, ok := taken[s]
		return ok
	})
}

// tag returns the tag for a word of another system, the same each time.
func (c *collector) tag(source, word string) string {
	if t, ok := c.tags[word]; ok {
		return t
	}
	candidate := c.unique(cleanName("tag", strings.ToLower(word)), maxName, func(s string) bool { return c.taken[s] })
	c.tags[word], c.taken[candidate] = candidate, true
	if candidate != word {
		c.note(source, "", "%s is the tag %s here", clip(word), candidate)
	}
	return candidate
}

var plainWord = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:/-]*$`)

// in returns the test that an attribute has one of some values.
func in(attribute string, values ...string) string {
	quoted := make([]string, len(values))
	for i, v := range values {
		quoted[i] = v
		if !plainWord.MatchString(v) || slices.Contains([]string{"and", "or", "not", "in", "all", "none"}, strings.ToLower(v)) {
			quoted[i] = `"` + strings.ReplaceAll(v, `"`, `""`) + `"`
		}
	}
	if len(quoted) == 1 {
		return attribute + " = " + quoted[0]
	}
	return attribute + " in (" + strings.Join(quoted, ", ") + ")"
}

// both joins tests, of which "" is every node.
func both(tests ...string) string {
	tests = slices.DeleteFunc(slices.Clone(tests), func(s string) bool { return s == "" })
	if len(tests) > 1 {
		for i, t := range tests {
			if strings.Contains(t, " or ") {
				tests[i] = "(" + t + ")"
			}
		}
	}
	return strings.Join(tests, " and ")
}

// nobody is the selector of what no node gets.
const nobody = "none"

// selector returns a selector if it is one; else nobody, with a note.
func (c *collector) selector(source, what, text string) string {
	if text == "" {
		return ""
	}
	if _, err := node.ParseWhere("selector", text); err != nil {
		c.note(source, what, "is for no node, because its targets make no selector (%s); write one", clip(err.Error()))
		return nobody
	}
	return text
}
