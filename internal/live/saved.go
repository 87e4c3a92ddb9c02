package live

import (
	"regexp"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/node"
)

// Saved is a query that people keep, for all who may ask.
type Saved struct {
	Name        string
	Description string
	SQL         string
	Selector    node.Selector // whom it is for; the zero one says nothing of that
	CreatedBy   string
	CreatedAt   time.Time
	UpdatedBy   string
	UpdatedAt   time.Time
}

// MaxSaved is how many saved queries there may be: people choose from a list.
const MaxSaved = 1000

// maxDescription is about a page.
const maxDescription = 4 << 10

var savedName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)

// Check refuses what cannot be kept. It does not judge the SQL: what the policy
// refuses today may be kept, and does not run.
func (s Saved) Check() error {
	switch {
	case !savedName.MatchString(s.Name):
		return errs.Field("name", "%q is no name; use up to 63 letters, digits and . _ -, a letter or digit first", s.Name)
	case len(s.Description) > maxDescription:
		return errs.Field("description", "has over %d bytes", maxDescription)
	case strings.TrimSpace(s.SQL) == "":
		return errs.Field("sql", "is empty; write a SELECT")
	case !utf8.ValidString(s.SQL) || strings.ContainsRune(s.SQL, 0):
		return errs.Field("sql", "is not UTF-8 text")
	}
	if s.Selector.Where == "" {
		return nil
	}
	_, err := node.ParseWhere("selector.where", s.Selector.Where)
	return err
}
