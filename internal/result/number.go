package result

import (
	"cmp"
	"strconv"
	"strings"
)

// number is a decimal number as a text says it. Counters of 64 bits without sign
// are in osquery's tables, so whole numbers are compared by their digits.
type number struct {
	float  float64
	digits string // of a whole number, without sign and leading zeros
}

func (n number) whole() bool { return n.digits != "" }

// maxDigits is longer than any number that a table has; more is text.
const maxDigits = 64

// parseNumber reads a decimal number. Words that Go takes for one, as nan, inf
// or 0x1p4, are none.
func parseNumber(s string) (number, bool) {
	if s == "" || len(s) > maxDigits || strings.Trim(s, "0123456789+-.eE") != "" {
		return number{}, false
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return number{}, false
	}
	digits := strings.TrimLeft(s, "+-")
	if strings.Trim(digits, "0123456789") != "" {
		return number{float: f}, true
	}
	if digits = strings.TrimLeft(digits, "0"); digits == "" {
		digits = "0"
	}
	return number{f, digits}, true
}

func (n number) compare(m number) int {
	if c := cmp.Compare(n.float, m.float); c != 0 || !n.whole() || !m.whole() {
		return c
	}
	c := cmp.Or(cmp.Compare(len(n.digits), len(m.digits)), strings.Compare(n.digits, m.digits))
	if n.float < 0 {
		return -c
	}
	return c
}
