package redact

import "math"

// What a random token has at least, and at most before it is a blob.
const (
	minRandom = 20
	maxRandom = 512
)

// looksRandom reports whether a token looks drawn by lot from letters and
// digits. Entropy alone does not tell: a long name in camel case has as much.
// But between neighbours, chance changes the class (small, capital, digit) in
// six of ten places, and names in one of five.
func looksRandom(v []byte) bool {
	if len(v) < minRandom {
		return false
	}
	var of [3]int
	changes, last, rest := 0, -1, 0
	for _, c := range v {
		var now int
		switch class(c) & alnum {
		case lower:
			now = 0
		case upper:
			now = 1
		case digit:
			now = 2
		default:
			rest++
			continue
		}
		of[now]++
		if last >= 0 && now != last {
			changes++
		}
		last = now
	}
	n := len(v) - rest
	if of[0] < 2 || of[1] < 2 || of[2] < 1 || rest*5 > len(v) {
		return false
	}
	return changes*100 >= n*45 && entropy(v) >= wanted(len(v))
}

// wanted is the entropy in bits per character that a random token of that length
// nearly always has.
func wanted(n int) float64 {
	switch {
	case n < 24:
		return 3.6
	case n < 40:
		return 4.0
	default:
		return 4.4
	}
}

// entropy returns that of the characters, in bits for each (Shannon).
func entropy(v []byte) float64 {
	var count [256]int
	for _, c := range v {
		count[c]++
	}
	h, n := 0.0, float64(len(v))
	for _, k := range count {
		if k > 0 {
			p := float64(k) / n
			h -= p * math.Log2(p)
		}
	}
	return h
}

// findRandom finds random tokens in a command line or an environment.
func (sc *scanner) findRandom(v []byte, from, to int) {
	const of = alnum | dash | underscore | slash | equals | tilde
	for i := from; i < to; {
		n := run(v, i, to, of)
		if n == 0 {
			i++
			continue
		}
		start, end := i, i+n
		i = end
		if n < minRandom {
			continue
		}
		if class(at(v, start-1))&dot != 0 || at(v, start-1) == '@' {
			continue // a file's suffix or a digest
		}
		sc.random(v, start, end)
	}
}

// random looks at a run of characters that a token may have: name=token, or a
// path with one in it.
func (sc *scanner) random(v []byte, start, end int) {
	name := v[start:start]
	for start < end {
		stop := start
		for stop < end && v[stop] != '=' {
			stop++
		}
		part := v[start:stop]
		padded := stop
		for padded < end && v[padded] == '=' {
			padded++
		}
		if len(part) >= minRandom && len(part) <= maxRandom && !public(v, part, start) && !isPath(part) && !namesPublic(name) && looksRandom(part) {
			if padded < end { // it is the name of something, not padding
				padded = stop
			}
			sc.add(start, padded, "entropy", byLook)
		}
		name, start = part, max(padded, stop+1)
	}
}

// namesPublic reports whether a name says that its value is drawn by lot or by a
// hash, and no secret.
func namesPublic(name []byte) bool {
	return suffix(name, "id", "ID", "Id", "hash", "digest", "checksum", "integrity", "fingerprint", "commit", "etag", "nonce")
}

// isPath reports whether slashes divide a text into words, not into what chance
// leaves between them: base64 has one in 32 characters.
func isPath(v []byte) bool {
	slashes := 0
	for _, c := range v {
		if c == '/' {
			slashes++
		}
	}
	return slashes > 0 && (v[0] == '/' || slashes*12 > len(v))
}

// public reports whether a token is known to be no secret: public keys,
// certificates and digests.
func public(v, part []byte, start int) bool {
	for _, head := range []string{"AAAAB3NzaC1", "AAAAC3NzaC1", "AAAAE2VjZHNh", "AAAAGnNr", "AAAAInNr", "MIIB", "MIIC", "MIID", "MIIE", "MIIF", "MIIG", "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS"} {
		if len(part) >= len(head) && string(part[:len(head)]) == head {
			return head[:3] != "MII" || !privateDER(part)
		}
	}
	for _, label := range []string{"sha1", "sha256", "sha384", "sha512", "SHA256", "md5", "h1"} {
		if len(part) > len(label) && string(part[:len(label)]) == label && part[len(label)] == '-' {
			return true
		}
		n := len(label) + 1
		if start >= n && string(v[start-n:start-1]) == label && (v[start-1] == ':' || v[start-1] == '-' || v[start-1] == '=') {
			return true
		}
	}
	return false
}

// privateDER reports whether base64 of DER is that of a private key: PKCS #8 or
// PKCS #1 have version 0 after the outer length, a certificate another sequence.
func privateDER(part []byte) bool {
	return len(part) > 12 && (string(part[6:9]) == "IBA" || string(part[5:8]) == "gIB")
}
