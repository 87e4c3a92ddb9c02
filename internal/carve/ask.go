package carve

import (
	"slices"
	"strings"

	"github.com/musterhq/muster/internal/errs"
)

// maxPath bounds one path; see policy.Engine.Carve, which bounds it likewise.
const maxPath = 512

// columns are what a carve's row tells.
const columns = "path, carve_guid, request_id, status, size, sha256"

// AskSQL returns the text that makes a node's carver pack each path into an
// archive of its own. A % or * in a path is a wildcard within a name.
func AskSQL(paths []string) (string, error) {
	if len(paths) == 0 || len(paths) > MaxPaths {
		return "", errs.Field("paths", "are %d; name 1 to %d", len(paths), MaxPaths)
	}
	var b strings.Builder
	for i, path := range paths {
		if err := checkPath(path); err != nil {
			return "", err
		}
		if slices.Contains(paths[:i], path) {
			return "", errs.Field("paths", "name %q twice", path)
		}
		if i > 0 {
			b.WriteString(" UNION ALL ")
		}
		b.WriteString("SELECT " + columns + " FROM carves WHERE carve = 1 AND path ")
		if isPattern(path) {
			b.WriteString("LIKE " + quote(strings.ReplaceAll(path, "*", "%")))
		} else {
			b.WriteString("= " + quote(path))
		}
	}
	return b.String(), nil
}

// checkPath refuses what would not mean to an agent what it says, whatever the
// policy allows.
func checkPath(path string) error {
	switch {
	case path == "" || len(path) > maxPath:
		return errs.Field("paths", "holds one of %d bytes; a path has 1 to %d", len(path), maxPath)
	case strings.ContainsFunc(path, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\ufffd' }):
		return errs.Field("paths", "holds %q, with a character that does not print", path)
	case strings.Contains(path, ","):
		return errs.Field("paths", "holds %q; agents take a comma for the end of a path", path)
	case !strings.HasPrefix(path, "/") && !hasDrive(path):
		return errs.Field("paths", "holds %q, which is not absolute", path)
	}
	return nil
}

func hasDrive(path string) bool {
	return len(path) > 2 && path[1] == ':' && (path[2] == '\\' || path[2] == '/')
}

func isPattern(path string) bool { return strings.ContainsAny(path, "%*") }

// quote makes a SQL literal of a text. SQLite knows no escapes in one but the
// doubled quote.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

// checkSQL returns the text that asks what became of archives. The names were
// checked by goodName.
func checkSQL(guids []string) string {
	quoted := make([]string, 0, len(guids))
	for _, g := range guids {
		quoted = append(quoted, quote(g))
	}
	return "SELECT carve_guid, sha256, size, status FROM carves WHERE carve_guid IN (" + strings.Join(quoted, ", ") + ")"
}

// goodName reports whether a name that a node chose looks like the UUID that it
// should be. It names nothing here, but is shown, and sent back in SQL.
func goodName(s string) bool {
	return len(s) <= 64 && !strings.ContainsFunc(s, func(r rune) bool {
		return r != '-' && r != '_' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	})
}

// fits reports whether a path that a node told is one that a request means. Of
// several, joined with commas, the first counts.
func fits(asked, told string) bool {
	first, _, _ := strings.Cut(told, ",")
	if !isPattern(asked) {
		return strings.EqualFold(asked, told) || strings.EqualFold(asked, first)
	}
	parts := strings.Split(strings.ToLower(strings.ReplaceAll(asked, "*", "%")), "%")
	rest, ok := strings.CutPrefix(strings.ToLower(first), parts[0])
	for _, p := range parts[1:] {
		i := strings.Index(rest, p)
		if !ok || i < 0 {
			return false
		}
		rest = rest[i+len(p):]
	}
	return ok && (rest == "" || parts[len(parts)-1] == "" || strings.HasSuffix(strings.ToLower(first), parts[len(parts)-1]))
}
