package redact

import "bytes"

// tool is a program that takes a password by a flag whose name does not say so.
type tool struct {
	name  string
	flags []flag
}

type flag struct {
	name string
	// attached: -pSECRET; apart: -p SECRET.
	attached, apart bool
	// after is the byte behind which the password is, as in user:password.
	after byte
}

func tools() []tool {
	attached := func(name string) flag { return flag{name: name, attached: true} }
	apart := func(name string) flag { return flag{name: name, apart: true} }
	return []tool{
		{"mysql", []flag{attached("-p")}},
		{"mariadb", []flag{attached("-p")}},
		{"mongo", []flag{apart("-p")}},
		{"sshpass", []flag{{"-p", true, true, 0}}},
		{"curl", []flag{{"-u", true, true, ':'}, {"--user", false, true, ':'}, {"--proxy-user", false, true, ':'}}},
		{"login", []flag{apart("-p")}}, // of docker, podman, helm, az …
		{"redis-cli", []flag{apart("-a")}},
		{"ldapsearch", []flag{apart("-w")}},
		{"ldapmodify", []flag{apart("-w")}},
		{"ldapadd", []flag{apart("-w")}},
		{"ldapwhoami", []flag{apart("-w")}},
		{"sqlcmd", []flag{{"-P", true, true, 0}}},
		{"ipmitool", []flag{apart("-P")}},
		{"smbclient", []flag{{"-U", false, true, '%'}}},
		{"rpcclient", []flag{{"-U", false, true, '%'}}},
		{"xfreerdp", []flag{attached("/p:")}},
		{"rdesktop", []flag{apart("-p")}},
		{"7z a", []flag{attached("-p")}},
		{"unzip", []flag{apart("-P")}},
		{"psexec", []flag{apart("-p")}},
		{"snmpwalk", []flag{apart("-A"), apart("-X")}},
		{"snmpget", []flag{apart("-A"), apart("-X")}},
		{"lftp", []flag{{"-u", false, true, ','}}},
	}
}

// toolBudget bounds the bytes that are looked through for flags, in lengths of
// the text: one that names a tool a thousand times would be looked through as
// often.
const toolBudget = 8

// findArgument finds the flags of a tool among its arguments.
func (t tool) findArgument(sc *scanner, v []byte, start, end int) {
	if isWord(at(v, start-1)) || sc.budget <= 0 {
		return
	}
	stop := min(len(v), end+maxArgument)
	for i := end; i < stop; i++ {
		if c := v[i]; c == ';' || c == '|' || c == '\n' && at(v, i-1) != '\\' {
			stop = i // another command
		}
	}
	sc.budget -= stop - end
	for i := end; i < stop; i++ {
		if c := v[i]; c != '-' && c != '/' || !argumentStart(at(v, i-1)) {
			continue
		}
		for _, f := range t.flags {
			f.find(sc, v[:stop], i)
		}
	}
}

// find finds the password if the flag stands at a place.
func (f flag) find(sc *scanner, v []byte, i int) {
	if !bytes.HasPrefix(v[i:], []byte(f.name)) {
		return
	}
	from := i + len(f.name)
	switch c := at(v, from); {
	case f.apart && argumentStart(c):
		from = nextArgument(v, from)
	case !f.attached || argumentStart(c) && (!isQuote(c) || isQuote(at(v, i-1))):
		return
	}
	to, from := valueEnd(v, from, true)
	if f.after != 0 {
		n := bytes.IndexByte(v[from:to], f.after)
		if n < 0 {
			return
		}
		from += n + 1
	}
	secret := v[from:to]
	if len(secret) < 3 || secret[0] == '-' || isPlaceholder(secret) || isReference(secret) || isFile(secret) {
		return
	}
	if f.attached || f.after != 0 || run(v, from, to, digit) != len(secret) { // -p 22 is a port
		sc.add(from, to, kindPassword, byName)
	}
}

func argumentStart(c byte) bool { return c == ' ' || c == 0 || c == '\t' || isQuote(c) }

// nextArgument goes over what is between two arguments, also those of a list in
// JSON.
func nextArgument(v []byte, i int) int {
	if isQuote(at(v, i)) {
		i++
	}
	for i < len(v) && (v[i] == ' ' || v[i] == ',' || v[i] == 0 || v[i] == '\t') {
		i++
	}
	return i
}
