package hostsql

import (
	"crypto/md5"  //nolint:gosec // osquery's SQL has a function of this name
	"crypto/sha1" //nolint:gosec // as above
	"crypto/sha256"
	"database/sql/driver"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"unicode"

	"modernc.org/sqlite"
)

// function is one of the SQL functions that osquery adds to SQLite
// (osquery/sql/sqlite_{string,hashing,encoding,...}.cpp). concat and
// concat_ws, also osquery's, come with SQLite itself now.
type function struct {
	name  string
	arity int32 // -1 for any
	call  func(args []string) (driver.Value, error)
}

func functions() []function {
	return []function{
		{"md5", 1, func(a []string) (driver.Value, error) {
			sum := md5.Sum([]byte(a[0])) //nolint:gosec // as above
			return hex.EncodeToString(sum[:]), nil
		}},
		{"sha1", 1, func(a []string) (driver.Value, error) {
			sum := sha1.Sum([]byte(a[0])) //nolint:gosec // as above
			return hex.EncodeToString(sum[:]), nil
		}},
		{"sha256", 1, func(a []string) (driver.Value, error) {
			sum := sha256.Sum256([]byte(a[0]))
			return hex.EncodeToString(sum[:]), nil
		}},
		{"to_base64", 1, func(a []string) (driver.Value, error) {
			return base64.StdEncoding.EncodeToString([]byte(a[0])), nil
		}},
		{"from_base64", 1, func(a []string) (driver.Value, error) {
			b, err := base64.StdEncoding.DecodeString(a[0])
			if err != nil {
				return "", nil //nolint:nilerr // osquery answers "" for bad input
			}
			return string(b), nil
		}},
		{"conditional_to_base64", 1, func(a []string) (driver.Value, error) {
			if strings.IndexFunc(a[0], func(r rune) bool { return r > unicode.MaxASCII }) < 0 {
				return a[0], nil
			}
			return base64.StdEncoding.EncodeToString([]byte(a[0])), nil
		}},
		{"split", 3, func(a []string) (driver.Value, error) {
			return pick(strings.FieldsFunc(a[0], func(r rune) bool { return strings.ContainsRune(a[1], r) }), a[2])
		}},
		{"regex_split", 3, func(a []string) (driver.Value, error) {
			re, err := regexp.Compile(a[1])
			if err != nil {
				return nil, fmt.Errorf("invalid regex: %w", err)
			}
			return pick(re.Split(a[0], -1), a[2])
		}},
		{"regex_match", 3, func(a []string) (driver.Value, error) {
			re, err := regexp.Compile(a[1])
			if err != nil {
				return nil, fmt.Errorf("invalid regex: %w", err)
			}
			return pick(re.FindStringSubmatch(a[0]), a[2])
		}},
		{"in_cidr_block", 2, inCIDRBlock},
		{"inet_aton", 1, func(a []string) (driver.Value, error) {
			address, err := netip.ParseAddr(a[0])
			if err != nil || !address.Is4() {
				return nil, nil //nolint:nilerr // NULL for what is no address
			}
			b := address.As4()
			return int64(b[0])<<24 | int64(b[1])<<16 | int64(b[2])<<8 | int64(b[3]), nil
		}},
		{"version_compare", -1, func(a []string) (driver.Value, error) {
			if len(a) != 2 && len(a) != 3 {
				return nil, errors.New("wrong number of arguments to function version_compare()")
			}
			return int64(CompareVersions(a[0], a[1])), nil // the flavours (DPKG, RHEL, ARCH) are taken as one
		}},
	}
}

// registerFunction registers f. A NULL argument makes the result NULL, as with
// nearly all of osquery's functions.
func registerFunction(d *sqlite.Driver, f function) error {
	return d.RegisterFunction(f.name, &sqlite.FunctionImpl{
		NArgs:         f.arity,
		Deterministic: true,
		Scalar: func(_ *sqlite.FunctionContext, args []driver.Value) (driver.Value, error) {
			texts := make([]string, len(args))
			for i, a := range args {
				if a == nil {
					return nil, nil
				}
				if b, ok := a.([]byte); ok {
					texts[i] = string(b) // whole: a digest covers NULs too
					continue
				}
				texts[i] = Text(a)
			}
			return f.call(texts)
		},
	})
}

// pick returns the element at a decimal index, NULL if there is none.
func pick(parts []string, index string) (driver.Value, error) {
	i, err := strconv.Atoi(index)
	if err != nil || i < 0 || i >= len(parts) {
		return nil, nil //nolint:nilerr // NULL, as osquery
	}
	return parts[i], nil
}

func inCIDRBlock(a []string) (driver.Value, error) {
	prefix, err := netip.ParsePrefix(a[0])
	if err != nil {
		return nil, fmt.Errorf("invalid CIDR block %q", a[0])
	}
	address, err := netip.ParseAddr(a[1])
	if err != nil {
		return nil, fmt.Errorf("invalid IP address %q", a[1])
	}
	if prefix.Contains(address) {
		return int64(1), nil
	}
	return int64(0), nil
}

// CompareVersions returns -1, 0 or 1 as version a is below, equal to or above
// b: runs of digits compare as numbers, other runs as text, and punctuation
// only separates.
func CompareVersions(a, b string) int {
	x, y := versionParts(a), versionParts(b)
	for i := range max(len(x), len(y)) {
		switch {
		case i >= len(x):
			return -1
		case i >= len(y):
			return 1
		}
		if c := comparePart(x[i], y[i]); c != 0 {
			return c
		}
	}
	return 0
}

func comparePart(a, b string) int {
	aDigits, bDigits := isDigit(a[0]), isDigit(b[0])
	switch {
	case aDigits && bDigits:
		a, b = strings.TrimLeft(a, "0"), strings.TrimLeft(b, "0")
		if len(a) != len(b) {
			if len(a) < len(b) {
				return -1
			}
			return 1
		}
		return strings.Compare(a, b)
	case aDigits:
		return 1 // a number is newer than a word: 1.0 > 1.rc
	case bDigits:
		return -1
	}
	return strings.Compare(a, b)
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func isLetter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }

// versionParts cuts a version into runs of digits and runs of letters.
func versionParts(s string) []string {
	var parts []string
	for i := 0; i < len(s); {
		class := isDigit
		if isLetter(s[i]) {
			class = isLetter
		} else if !isDigit(s[i]) {
			i++
			continue
		}
		start := i
		for i < len(s) && class(s[i]) {
			i++
		}
		parts = append(parts, s[start:i])
	}
	return parts
}
