package hostsql

import (
	"context"
	"encoding/binary"
	"net/netip"
	"path"
	"path/filepath"
	"strconv"
	"strings"
)

// signed is an id as a signed 32-bit number.
func signed(id string) int32 {
	n, err := strconv.ParseUint(id, 10, 32)
	if err != nil {
		return 0
	}
	return int32(uint32(n)) //nolint:gosec // the wrap is the column's meaning
}

// A person is a line of /etc/passwd.
type person struct{ name, uid, gid, gecos, home, shell string }

func (h *host) passwd() []person {
	var people []person
	for line := range strings.Lines(h.read("etc/passwd")) {
		f := strings.Split(strings.TrimSpace(line), ":")
		if len(f) >= 7 && !strings.HasPrefix(f[0], "#") {
			people = append(people, person{f[0], f[2], f[3], f[4], f[5], f[6]})
		}
	}
	return people
}

func (h *host) users(_ context.Context, q Constraints, yield func(Values) error) error {
	for _, p := range h.passwd() {
		if !wanted(q, "uid", p.uid) || !wanted(q, "username", p.name) {
			continue
		}
		err := yield(Values{
			"uid": p.uid, "gid": p.gid, "uid_signed": int64(signed(p.uid)), "gid_signed": int64(signed(p.gid)),
			"username": p.name, "description": p.gecos, "directory": p.home, "shell": p.shell, "uuid": "",
			"pid_with_namespace": 0, "include_remote": 0,
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// A team is a line of /etc/group.
type team struct {
	name, gid string
	members   []string
}

func (h *host) group() []team {
	var teams []team
	for line := range strings.Lines(h.read("etc/group")) {
		f := strings.Split(strings.TrimSpace(line), ":")
		if len(f) >= 4 && !strings.HasPrefix(f[0], "#") {
			teams = append(teams, team{f[0], f[2], strings.FieldsFunc(f[3], func(r rune) bool { return r == ',' })})
		}
	}
	return teams
}

func (h *host) groups(_ context.Context, q Constraints, yield func(Values) error) error {
	for _, t := range h.group() {
		if !wanted(q, "gid", t.gid) {
			continue
		}
		if err := yield(Values{"gid": t.gid, "gid_signed": int64(signed(t.gid)), "groupname": t.name, "pid_with_namespace": 0}); err != nil {
			return err
		}
	}
	return nil
}

func (h *host) userGroups(_ context.Context, q Constraints, yield func(Values) error) error {
	teams := h.group()
	for _, p := range h.passwd() {
		if !wanted(q, "uid", p.uid) {
			continue
		}
		gids := []string{p.gid}
		for _, t := range teams {
			for _, member := range t.members {
				if member == p.name && t.gid != p.gid {
					gids = append(gids, t.gid)
				}
			}
		}
		for _, gid := range gids {
			if err := yield(Values{"uid": p.uid, "gid": gid}); err != nil {
				return err
			}
		}
	}
	return nil
}

// A session record of utmp(5): fixed size, the same layout on all 64-bit
// architectures, for glibc keeps 32-bit times in it.
type utmp struct {
	kind, pid  int32
	line, user string
	host       string
	time       int64
}

const utmpSize = 384

func (h *host) utmp(file string) []utmp {
	text := []byte(h.read(file))
	var records []utmp
	for ; len(text) >= utmpSize; text = text[utmpSize:] {
		b := text[:utmpSize]
		r := utmp{
			kind: int32(binary.NativeEndian.Uint16(b)),
			pid:  int32(binary.NativeEndian.Uint32(b[4:])), //nolint:gosec // a pid
			line: cString(b[8:40]), user: cString(b[44:76]), host: cString(b[76:332]),
			time: int64(binary.NativeEndian.Uint32(b[340:])),
		}
		if r.host == "" {
			r.host = utmpAddress(b[348:364])
		}
		records = append(records, r)
	}
	return records
}

// utmpAddress is the remote address, "" if there is none.
func utmpAddress(b []byte) string {
	var a netip.Addr
	if [12]byte(b[4:]) == [12]byte{} {
		a = netip.AddrFrom4([4]byte(b))
	} else {
		a = netip.AddrFrom16([16]byte(b))
	}
	if a.IsUnspecified() {
		return ""
	}
	return a.String()
}

// utmpType names a record's type.
func utmpType(kind int32) string {
	names := []string{"empty", "run-level", "boot-time", "new-time", "old-time", "init", "login", "user", "dead", "accounting"}
	if kind < 0 || int(kind) >= len(names) {
		return "unknown"
	}
	return names[kind]
}

func (h *host) loggedInUsers(_ context.Context, _ Constraints, yield func(Values) error) error {
	for _, r := range h.utmp("run/utmp") {
		if r.pid == 1 {
			continue
		}
		err := yield(Values{"type": utmpType(r.kind), "user": r.user, "tty": r.line, "host": r.host, "time": r.time, "pid": r.pid})
		if err != nil {
			return err
		}
	}
	return nil
}

func (h *host) last(_ context.Context, _ Constraints, yield func(Values) error) error {
	const userProcess, deadProcess = 7, 8
	for _, r := range h.utmp("var/log/wtmp") {
		if r.kind != userProcess && r.kind != deadProcess {
			continue
		}
		err := yield(Values{
			"username": r.user, "tty": r.line, "pid": r.pid, "type": r.kind,
			"type_name": map[int32]string{userProcess: "user-process", deadProcess: "dead-process"}[r.kind],
			"time":      r.time, "host": r.host,
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (h *host) authorizedKeys(_ context.Context, q Constraints, yield func(Values) error) error {
	for _, p := range h.passwd() {
		if !wanted(q, "uid", p.uid) || p.home == "" {
			continue
		}
		for _, name := range []string{".ssh/authorized_keys", ".ssh/authorized_keys2"} {
			err := each(h.read(p.home, name), func(line string) error {
				line = strings.TrimSpace(line)
				if line == "" || line[0] == '#' {
					return nil
				}
				options, algorithm, key, comment := authorizedKey(line)
				return yield(Values{
					"uid": p.uid, "algorithm": algorithm, "key": key, "options": options, "comment": comment,
					"key_file": path.Join(p.home, name), "pid_with_namespace": 0,
				})
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// authorizedKey cuts a line at its algorithm, which options may precede.
func authorizedKey(line string) (options, algorithm, key, comment string) {
	fields := strings.Fields(line)
	for i, f := range fields {
		if strings.HasPrefix(f, "ssh-") || strings.HasPrefix(f, "ecdsa-") || strings.HasPrefix(f, "sk-") {
			return strings.Join(fields[:i], " "), f, field(fields, i+1), strings.Join(fields[min(i+2, len(fields)):], " ")
		}
	}
	return "", "", line, ""
}

func (h *host) shellHistory(_ context.Context, q Constraints, yield func(Values) error) error {
	for _, p := range h.passwd() {
		if !wanted(q, "uid", p.uid) || p.home == "" {
			continue
		}
		for _, name := range []string{".bash_history", ".zsh_history", ".sh_history", ".ash_history"} {
			stamp := "0"
			err := each(h.read(p.home, name), func(line string) error {
				if rest, ok := strings.CutPrefix(line, "#"); ok && number(rest) > 0 {
					stamp = rest // bash with HISTTIMEFORMAT writes it on a line of its own
					return nil
				}
				if rest, ok := strings.CutPrefix(line, ": "); ok { // zsh: ": time:duration;command"
					if head, command, ok := strings.Cut(rest, ";"); ok {
						at, _, _ := strings.Cut(head, ":")
						stamp, line = at, command
					}
				}
				if strings.TrimSpace(line) == "" {
					return nil
				}
				v := Values{"uid": p.uid, "time": number(stamp), "command": line, "history_file": path.Join(p.home, name)}
				stamp = "0"
				return yield(v)
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func (h *host) sudoers(_ context.Context, _ Constraints, yield func(Values) error) error {
	files := []string{"/etc/sudoers"}
	for _, e := range h.list("etc/sudoers.d") {
		// sudo itself skips backup files and names with a dot.
		if e.Type().IsRegular() && !strings.ContainsAny(e.Name(), ".~") {
			files = append(files, filepath.Join("/etc/sudoers.d", e.Name()))
		}
	}
	for _, file := range files {
		text := strings.ReplaceAll(h.read(file), "\\\n", " ")
		err := each(text, func(line string) error {
			line = strings.TrimSpace(line)
			if line == "" || line[0] == '#' && !strings.HasPrefix(line, "#include") {
				return nil
			}
			header, rule, _ := strings.Cut(strings.ReplaceAll(line, "\t", " "), " ")
			return yield(Values{"source": file, "header": header, "rule_details": strings.TrimSpace(rule)})
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (h *host) crontab(_ context.Context, _ Constraints, yield func(Values) error) error {
	files := []string{"/etc/crontab"}
	for _, dir := range []string{"/etc/cron.d", "/var/at/tabs", "/var/spool/cron", "/var/spool/cron/crontabs"} {
		for _, e := range h.list(dir) {
			if !e.IsDir() && !strings.HasPrefix(e.Name(), ".") {
				files = append(files, filepath.Join(dir, e.Name()))
			}
		}
	}
	for _, file := range files {
		err := each(h.read(file), func(line string) error {
			if v := cronLine(line); v != nil {
				v["path"] = file
				return yield(v)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// cronLine reads a job; nil for comments and variables. A system crontab's
// user stays in the command, as in osquery.
func cronLine(line string) Values {
	const times = 5 // minute, hour, day of month, month, day of week
	fields := strings.Fields(line)
	if len(fields) < 2 || fields[0][0] == '#' {
		return nil
	}
	if fields[0][0] == '@' {
		return Values{"event": fields[0], "command": strings.Join(fields[1:], " "), "pid_with_namespace": 0}
	}
	if len(fields) <= times || strings.Contains(fields[0], "=") || strings.HasPrefix(fields[1], "=") {
		return nil
	}
	return Values{
		"event": "", "minute": fields[0], "hour": fields[1], "day_of_month": fields[2], "month": fields[3],
		"day_of_week": fields[4], "command": strings.Join(fields[times:], " "), "pid_with_namespace": 0,
	}
}
