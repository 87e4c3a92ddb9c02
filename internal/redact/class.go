package redact

// Classes of bytes, joined by |. A byte may be in several.
const (
	digit uint16 = 1 << iota
	upper
	lower
	hexLower // 0-9a-f
	dash
	underscore
	dot
	slash  // + and /, of base64
	equals // =, at its end
	tilde

	letter    = upper | lower
	alnum     = letter | digit
	word      = alnum | underscore
	base64URL = word | dash
	base64Any = alnum | slash | equals
)

// classes has the classes of each byte.
var classes = func() (t [256]uint16) { //nolint:gochecknoglobals // read only
	for c := '0'; c <= '9'; c++ {
		t[c] = digit | hexLower
	}
	for c := 'a'; c <= 'z'; c++ {
		t[c], t[c-'a'+'A'] = lower, upper
	}
	for c := 'a'; c <= 'f'; c++ {
		t[c] |= hexLower
	}
	t['-'], t['_'], t['.'], t['+'], t['/'], t['='], t['~'] = dash, underscore, dot, slash, slash, equals, tilde
	return t
}()

func class(c byte) uint16 { return classes[c] }

// run returns how many bytes from a place on are of some classes, until end.
func run(v []byte, from, end int, of uint16) int {
	end = min(end, len(v))
	i := from
	for i < end && class(v[i])&of != 0 {
		i++
	}
	return i - from
}

// back returns how many bytes before a place are of some classes, at most most.
func back(v []byte, from, most int, of uint16) int {
	n := 0
	for n < most && n < from && class(v[from-1-n])&of != 0 {
		n++
	}
	return n
}

// at returns a byte, 0 outside.
func at(v []byte, i int) byte {
	if i < 0 || i >= len(v) {
		return 0
	}
	return v[i]
}
