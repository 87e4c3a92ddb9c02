package condition

import (
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/expr-lang/expr/ast"

	"github.com/musterhq/muster/internal/node"
)

// call compiles a call of one of the language's functions.
func (c *compiler) call(n ast.Node, name string, arguments []ast.Node) value {
	args := make([]value, 0, len(arguments))
	for _, a := range arguments {
		args = append(args, c.value(a))
	}
	if c.err != nil {
		return value{}
	}
	switch name {
	case "int", "float", "len", "lower", "upper", "trim", "has":
		if len(args) != 1 || args[0].kind != isText {
			return c.fail(n, "%s takes one text, as %[1]s(columns.pid)", name)
		}
	case "is_true":
		if len(args) != 1 || args[0].kind != isTest {
			return c.fail(n, `is_true takes one condition, as is_true(columns.user == "root")`)
		}
		return value{kind: isTest, test: func(e *Event) Truth { return truth(args[0].test(e) == Yes) }}
	case "older", "newer":
		return c.versions(n, name, args)
	case "cidr":
		return c.cidr(n, args)
	default:
		return c.fail(n, "%q is no function of conditions; there are int, float, len, lower, upper, trim, has, is_true, older, newer and cidr", name)
	}
	return function(name, args[0].text)
}

// function returns a function of one text.
func function(name string, a text) value {
	switch name {
	case "int":
		return value{kind: isNumber, number: func(e *Event) (float64, bool) { return whole(a(e)) }}
	case "float":
		return value{kind: isNumber, number: func(e *Event) (float64, bool) { return decimal(a(e)) }}
	case "len":
		return value{kind: isNumber, number: func(e *Event) (float64, bool) {
			s, ok := a(e)
			return float64(len(s)), ok
		}}
	case "has":
		return value{kind: isTest, test: func(e *Event) Truth {
			_, ok := a(e)
			return truth(ok)
		}}
	}
	change := map[string]func(string) string{"lower": strings.ToLower, "upper": strings.ToUpper, "trim": strings.TrimSpace}[name]
	return value{kind: isText, text: func(e *Event) (string, bool) {
		s, ok := a(e)
		return change(s), ok
	}}
}

// whole reads a whole number in decimal digits. Above 2^53 neighbours are equal.
func whole(s string, ok bool) (float64, bool) {
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err == nil {
		return float64(n), true
	}
	u, err := strconv.ParseUint(s, 10, 64) // as osquery's UNSIGNED_BIGINT
	return float64(u), err == nil
}

// decimal reads a number in decimal digits. Words that Go takes for one, as inf,
// are none.
func decimal(s string, ok bool) (float64, bool) {
	if !ok || s == "" || strings.Trim(s, "0123456789+-.eE") != "" {
		return 0, false
	}
	f, err := strconv.ParseFloat(s, 64)
	return f, err == nil && !math.IsInf(f, 0)
}

func (c *compiler) versions(n ast.Node, name string, args []value) value {
	if len(args) != 2 || args[0].kind != isText || args[1].kind != isText {
		return c.fail(n, `%s takes two versions, as %[1]s(columns.version, "1.2.3")`, name)
	}
	want := 1
	if name == "older" {
		want = -1
	}
	a, b := args[0].text, args[1].text
	return value{kind: isTest, test: func(e *Event) Truth {
		x, okA := a(e)
		y, okB := b(e)
		if !okA || !okB {
			return Unknown
		}
		order, ok := node.CompareVersions(x, y)
		if !ok {
			return Unknown
		}
		return truth(order == want)
	}}
}

// cidr tests whether an address is in one of some networks.
func (c *compiler) cidr(n ast.Node, args []value) value {
	if len(args) < 2 || args[0].kind != isText {
		return c.fail(n, `cidr takes an address and networks, as cidr(columns.remote_address, "10.0.0.0/8", "fd00::/8")`)
	}
	var networks []netip.Prefix
	for _, a := range args[1:] {
		list := a.texts
		if !a.constant && a.kind != isTexts || len(list) == 0 {
			return c.fail(n, "the networks of cidr are texts in quotes")
		}
		for _, s := range list {
			p, err := netip.ParsePrefix(s)
			if err != nil {
				return c.fail(n, "%q is no network; write it as 10.0.0.0/8", s)
			}
			networks = append(networks, p.Masked())
		}
	}
	a := args[0].text
	return value{kind: isTest, test: func(e *Event) Truth {
		s, ok := a(e)
		if !ok {
			return Unknown
		}
		at, err := netip.ParseAddr(s)
		if err != nil {
			return Unknown
		}
		at = at.WithZone("").Unmap()
		return truth(slices.ContainsFunc(networks, func(p netip.Prefix) bool { return p.Contains(at) }))
	}}
}
