package resource

import (
	"strconv"
	"strings"

	"github.com/musterhq/muster/internal/errs"
)

// Pointer says where in a JSON document a value is, as RFC 6901 writes it:
// /actor/attributes/io.kubernetes.pod.name, /items/0. ~1 in a name is a slash,
// ~0 a tilde.
type Pointer string

// Bounds of a pointer, which people write.
const (
	maxPointer      = 1 << 10
	maxPointerDepth = 32
)

func (p Pointer) check() error {
	switch {
	case p == "":
		return errs.New(errs.Invalid, "is missing; write a JSON pointer, as /actor/host")
	case p[0] != '/':
		return errs.New(errs.Invalid, "%q is no JSON pointer; it begins with /, as /actor/host", string(p))
	case len(p) > maxPointer || strings.Count(string(p), "/") > maxPointerDepth:
		return errs.New(errs.Invalid, "is longer than %d characters or %d levels", maxPointer, maxPointerDepth)
	}
	for i := range len(p) {
		if p[i] == '~' && (i+1 == len(p) || p[i+1] != '0' && p[i+1] != '1') {
			return errs.New(errs.Invalid, "%q has a ~ that means nothing; ~0 is a tilde, ~1 a slash", string(p))
		}
	}
	return nil
}

// In returns the value at the pointer of a document as encoding/json decodes one;
// false if it has none there.
func (p Pointer) In(document any) (any, bool) {
	if p == "" {
		return document, true
	}
	for name := range strings.SplitSeq(string(p[1:]), "/") {
		name = strings.ReplaceAll(strings.ReplaceAll(name, "~1", "/"), "~0", "~")
		switch v := document.(type) {
		case map[string]any:
			child, ok := v[name]
			if !ok {
				return nil, false
			}
			document = child
		case []any:
			i, err := strconv.Atoi(name)
			if err != nil || i < 0 || i >= len(v) || strconv.Itoa(i) != name {
				return nil, false
			}
			document = v[i]
		default:
			return nil, false
		}
	}
	return document, true
}
