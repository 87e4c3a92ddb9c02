package search

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"time"
)

// maxColumnName is how long the escaped name of a column in a segment may be;
// a column with a longer one stays in restColumn.
const maxColumnName = 128

// escapedPrefix marks a column name that was escaped. It starts with an
// underscore, as do the fixed columns, so that no column of an agent can take
// the name of one of ours.
const escapedPrefix = "_x_"

// columnName returns the name under which an osquery column is kept in a
// segment. Names that are plain identifiers, as nearly all are, keep theirs;
// in others every byte but letters and digits is escaped, so that any reader
// of Parquet can name the column. It reports false for a name too long to keep.
func columnName(name string) (string, bool) {
	if plainName(name) {
		return name, len(name) <= maxColumnName
	}
	if len(name) > maxColumnName {
		return "", false
	}
	b := []byte(escapedPrefix)
	for i := range len(name) {
		switch c := name[i]; {
		case alphanumeric(c):
			b = append(b, c)
		case c == '_':
			b = append(b, '_', '_')
		default:
			b = append(b, '_', hexDigits[c>>4], hexDigits[c&15])
		}
	}
	return string(b), len(b) <= maxColumnName
}

const hexDigits = "0123456789abcdef"

// originalName undoes columnName; it reports false for names that columnName
// does not make, such as those of the fixed columns.
func originalName(name string) (string, bool) {
	if plainName(name) {
		return name, true
	}
	rest, ok := strings.CutPrefix(name, escapedPrefix)
	if !ok {
		return "", false
	}
	var b strings.Builder
	for i := 0; i < len(rest); i++ {
		c := rest[i]
		switch {
		case alphanumeric(c):
			b.WriteByte(c)
		case c != '_' || i+1 >= len(rest):
			return "", false
		case rest[i+1] == '_':
			b.WriteByte('_')
			i++
		default:
			high, low := strings.IndexByte(hexDigits, rest[i+1]), -1
			if i+2 < len(rest) {
				low = strings.IndexByte(hexDigits, rest[i+2])
			}
			if high < 0 || low < 0 {
				return "", false
			}
			b.WriteByte(byte(high<<4 | low)) //nolint:gosec // both are below 16
			i += 2
		}
	}
	return b.String(), true
}

func plainName(name string) bool {
	if name == "" || !alphanumeric(name[0]) || name[0] <= '9' {
		return false
	}
	for i := range len(name) {
		if c := name[i]; !alphanumeric(c) && c != '_' {
			return false
		}
	}
	return true
}

func alphanumeric(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

// fileName returns a segment's path within the engine's directory. The query
// may hold any bytes and be of any length: the name has a readable start of it
// for people, and a hash of it. The number, which no other segment of this
// directory ever has, makes the name unique.
func fileName(day, query string, firstSeq, lastSeq, number uint64) string {
	const readable = 40
	var b strings.Builder
	for i := 0; i < len(query) && b.Len() < readable; i++ {
		if c := query[i]; alphanumeric(c) || c == '_' {
			b.WriteByte(c)
		} else {
			b.WriteByte('_')
		}
	}
	if b.Len() == 0 {
		b.WriteByte('_') // a file that starts with a dot is hidden
	}
	sum := sha256.Sum256([]byte(query))
	return fmt.Sprintf("%s/%s.%s-%d-%d-%d%s", day, b.String(), hex.EncodeToString(sum[:6]), firstSeq, lastSeq, number, segmentSuffix)
}

const segmentSuffix = ".parquet"

const dayLayout = time.DateOnly

// dayOf returns the UTC day of a time. Years that no clock means are taken as
// the nearest of four digits, so that days sort as text.
func dayOf(micros int64) string {
	t := time.UnixMicro(micros).UTC()
	switch {
	case t.Year() < 1:
		return "0001-01-01"
	case t.Year() > 9999:
		return "9999-12-31"
	}
	return t.Format(dayLayout)
}

// isDay reports whether name is that of a day's directory.
func isDay(name string) bool {
	_, err := time.Parse(dayLayout, name)
	return err == nil && len(name) == len(dayLayout)
}
