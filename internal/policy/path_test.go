package policy

import (
	"regexp"
	"strings"
	"testing"
)

func TestPath_monitored(t *testing.T) {
	t.Parallel()
	tests := []struct{ pattern, want string }{
		{"/etc/%%", "1"},
		{"/etc/**", "1"},
		{"/etc/%", "1"},
		{"/etc/passwd", "1"},
		{"/ETC/%%", "1"},
		{"/etc//./ssh/%%", "1"},
		{"/usr/bin/%%", "1"},
		{"/usr/local/bin/%", "1"},
		{"/opt/app/config/%%", "1"},
		{"/Library/LaunchDaemons/%", "1"},
		{`C:\Windows\System32\drivers\etc\%%`, "1"},
		{`c:/Program Files/app/%%`, "1"},
		{"/usr/%", "1"},
		{"/", "3"},
		{`C:\`, "3"},
		{"/tmp/%%", "2"},
		{"/var/log/%%", "2"},
		{"/home/%/%", "2"},
		{"/home/%/.bashrc", "2"},
		{"/home/%/.ssh/%%", "2 secret-path"},
		{"/Users/%/Library/Keychains/%%", "2 secret-path"},
		{"/home/alice/.aws/credentials", "2 secret-path"},
		{"/etc/shadow", "2 secret-path"},
		{"/etc/ssl/private/%%", "2 secret-path"},
		{"/root/%%", "2 secret-path"},
		{`C:\Windows\System32\config\SAM`, "2 secret-path"},
		{"/etc/osquery/%", "2 secret-path"},
		{"/usr/%/%", "2"},
		// Too much.
		{"/%", "3"},
		{"/*", "3"},
		{"/%/%", "3"},
		{"/%/bin/x", "3"},
		{"/usr/%%", "3"},
		{"/usr/l%%", "3"},
		{"/usr/%/%%", "3"},
		{"/var/%%", "3"},
		{"/var/lib/%%", "3"},
		{"/home/%%", "3"},
		{"/home/%/%%", "3"},
		{"/home/a%/%%", "3"},
		{"/home/alice/%%", "3"},
		{"/Users/alice/**", "3"},
		{"/srv/%/%/%/%", "3"},
		{"/something/%%", "3"},
		{`C:\Users\%%`, "3"},
		{`C:\Windows\%%`, "3"},
		{"/System/Volumes/Data/%%", "3"},
		// Everything.
		{"/%%", "x whole-disk"},
		{"/**", "x whole-disk"},
		{"//%%", "x whole-disk"},
		{"/./%%", "x whole-disk"},
		{"/%%%", "x whole-disk"},
		{"/%/%%", "x whole-disk"},
		{"/*/**", "x whole-disk"},
		{"/e%%", "x whole-disk"},
		{"/[a-z]%/%%", "x whole-disk"},
		{"/???/%%", "x whole-disk"},
		{"/%/.ssh/%%", "x whole-disk secret-path"},
		{`C:\%%`, "x whole-disk"},
		{`c:/%%`, "x whole-disk"},
		{`C:\\%%`, "x whole-disk"},
		{`C:\ \%%`, "x whole-disk"},
		{"/proc/%%", "x pseudo-files"},
		{"/proc/1/root/%%", "x pseudo-files"},
		{"/PROC/self/%", "x pseudo-files"},
		{"/sys/%%", "x pseudo-files"},
		{"/dev/sda", "x pseudo-files"},
		{"/processes/x", "1"},
		// No pattern.
		{"", "x bad-path"},
		{"etc/%%", "x bad-path"},
		{"~/.ssh/%%", "x bad-path"},
		{"%%", "x bad-path"},
		{"%/etc", "x bad-path"},
		{`\\server\share\%%`, "x bad-path"},
		{`\\?\C:\%%`, "x bad-path"},
		{"C:", "x bad-path"},
		{"C:%%", "x bad-path"},
		{"%:/%%", "x bad-path"},
		{"/etc/../%%", "x bad-path"},
		{"/..", "x bad-path"},
		{"/.../x", "x bad-path"},
		{`C:\Windows\..\%%`, "x bad-path"},
		{`C:\Windows.\%%`, "x bad-path"},
		{"/{etc,proc}/%%", "x bad-path"},
		{`/p\roc/%%`, "x bad-path"},
		{"/etc/\x00%%", "x bad-path"},
		{"/etc/\n%%", "x bad-path"},
		{"/etc/\u202e%%", "x bad-path"},
		{"/etc/\xff", "x bad-path"},
		{"/" + strings.Repeat("a", maxPattern), "x bad-path"},
		{"file:///etc/%%", "x bad-path"},
		{"$HOME/%%", "x bad-path"},
		{strings.Repeat("/a", maxDepth), "1"},
		{strings.Repeat("/a", maxDepth+1), "x bad-path"},
		// Not as meant.
		{"/opt/app/%%/conf", "1 inner-wildcard"},
		{"/opt/app/a%%b/%%", "1 inner-wildcard"},
		{"/home/%%/.ssh/%%", "2 inner-wildcard secret-path"},
	}
	for _, tt := range tests {
		if got := outcome(monitored(tt.pattern)); got != tt.want {
			t.Errorf("%.60q is %q, want %q: %+v", tt.pattern, got, tt.want, monitored(tt.pattern).Reasons)
		}
	}
	if v := monitored(`C:\x\%%`); strings.Join(v.Platforms, " ") != "windows" {
		t.Errorf("%v", v.Platforms)
	}
}

func patterns(t *testing.T, texts ...string) (list []filePattern) {
	t.Helper()
	for _, text := range texts {
		p, problem := parsePattern(text)
		if problem != "" {
			t.Fatal(text, problem)
		}
		list = append(list, p)
	}
	return list
}

func TestPath_exclusion(t *testing.T) {
	t.Parallel()
	tests := []struct{ exclude, monitored, want string }{
		{"/etc/cron.d/%%", "/etc/%%", "1"},
		{"/etc/%.swp", "/etc/%%", "1"},
		{"/etc/tmp/x", "/etc/%%", "1"},
		{"/etcetera/%%", "/etc/%%", "1"},
		{"/home/%/.cache/%%", "/home/%/.config/%%", "1"},
		{"/etc/shadow", "/etc/%%", "2"},
		{"/etc/%%", "/etc/%%", "3"},
		{"/ETC/**", "/etc/%%", "3"},
		{"/etc/%", "/etc/%%", "3"},
		{"/etc/%/%%", "/etc/%%", "3"},
		{"/etc/[a-z]%", "/etc/%%", "3"},
		{"/%%", "/etc/%%", "3"},
		{"/%/%%", "/etc/%%", "3"},
		{"/e%/%%", "/etc/%%", "3"},
		{"/[e]tc/%%", "/etc/%%", "3"},
		{"/etc//./%%", "/etc/ssh/%%", "3"},
		{"/etc/passwd", "/etc/passwd", "3"},
		{"/etc/passw%", "/etc/passwd", "3"},
		{"/etc/%", "/etc/passwd", "3"},
		{"/etc/%", "/etc/ssh/sshd_config", "1"},
		{"/home/%/%%", "/home/%/.ssh/%%", "3"},
		{`C:\Windows\%%`, `c:\windows\system32\%%`, "3"},
		{`C:\Windows\%%`, `d:\windows\system32\%%`, "1"},
		{"/%%", `c:\windows\%%`, "1"},
		{"/etc/../%%", "/etc/%%", "x bad-path"},
		{"etc", "/etc/%%", "x bad-path"},
	}
	for _, tt := range tests {
		if got := outcome(exclusion(tt.exclude, patterns(t, tt.monitored), true)); got != tt.want {
			t.Errorf("%q of %q is %q, want %q", tt.exclude, tt.monitored, got, tt.want)
		}
	}
	if got := outcome(exclusion("/etc/%%", patterns(t, "/etc/%%", "/usr/bin/%%"), true)); got != "3" {
		t.Errorf("one pattern of two hidden: %s", got)
	}
	if got := outcome(exclusion("/etc/x/%%", nil, false)); got != "2" {
		t.Errorf("of what a query names: %s", got)
	}
}

func TestPath_ruleFile(t *testing.T) {
	t.Parallel()
	tests := []struct{ path, want string }{
		{"/etc/osquery/yara/a.yar", "2"},
		{`C:\Program Files\osquery\yara\a.yar`, "2"},
		{"/home/alice/a.yar", "3"},
		{"/etc/osqueryx/a.yar", "3"},
		{"/etc/shadow", "3"},
		{"/tmp/a.yar", "x bad-path"},
		{"/dev/shm/a.yar", "x bad-path"},
		{"/proc/self/environ", "x bad-path"},
		{"/etc/osquery/%.yar", "x bad-path"},
		{"/etc/osquery/*", "x bad-path"},
		{"/etc/osquery/../shadow", "x bad-path"},
		{"a.yar", "x bad-path"},
		{"", "x bad-path"},
	}
	for _, tt := range tests {
		if got := outcome(ruleFile(tt.path)); got != tt.want {
			t.Errorf("%q is %q, want %q", tt.path, got, tt.want)
		}
	}
}

// asAgent reads a pattern as agents do, in the plainest way: a regular
// expression over whole paths.
func asAgent(pattern string) *regexp.Regexp {
	p := strings.ToLower(strings.ReplaceAll(pattern, "%", "*"))
	all, recursive := strings.CutSuffix(p, "**")
	var b strings.Builder
	b.WriteString("^")
	for _, r := range all {
		switch r {
		case '*':
			b.WriteString("[^/]*")
		case '?':
			b.WriteString("[^/]")
		default:
			b.WriteString(regexp.QuoteMeta(string(r)))
		}
	}
	if recursive {
		b.WriteString(".*")
	}
	return regexp.MustCompile(b.String() + "$")
}

// FuzzPath has files in many corners of a host: a pattern that reaches several
// corners, as agents read it, is never harmless, and one that reaches processes
// or devices is refused.
func FuzzPath(f *testing.F) {
	for _, s := range []string{
		"/etc/%%", "/%%", "/%", "/*/**", "/proc/%%", `C:\%%`, "/%/%/%%", "/home/%/%%", "/./%%", "/e%%", "/[e]tc/%%",
		"//proc//1/%%", "/usr/%%/x", "/{a,b}/%%", "/etc/..", "/*c/%%", "/h?me/%%", "/var/%%%",
	} {
		f.Add(s)
	}
	corners := []string{
		"/etc/passwd", "/usr/lib/x/y", "/home/alice/x/y/z", "/var/lib/x/y/z", "/opt/x/y", "/root/x", "/a/b/c/d", "/boot/x", "/srv/x/y",
	}
	kernel := []string{"/proc/1/environ", "/sys/kernel/x", "/dev/sda"}
	f.Fuzz(func(t *testing.T, pattern string) {
		v := monitored(pattern)
		if !v.Allowed(Sensitive) || strings.ContainsAny(pattern, "[") {
			return
		}
		if strings.Contains(pattern+"/", "/../") || pattern == "" || len(pattern) > 1024 {
			t.Fatalf("%q is allowed", pattern)
		}
		re := asAgent(regexp.MustCompile(`/(\./|/)+`).ReplaceAllString(pattern, "/"))
		reached := 0
		for _, path := range corners {
			if re.MatchString(path) {
				reached++
			}
		}
		if reached > 1 {
			t.Errorf("%q reaches %d corners of the host and is allowed: %+v", pattern, reached, v)
		}
		for _, path := range kernel {
			if re.MatchString(path) {
				t.Errorf("%q reaches %s and is allowed", pattern, path)
			}
		}
		if of, problem := parsePattern(pattern); problem != "" || !(filePattern{drive: of.drive, windows: of.windows, recursive: true}).hides(of) {
			t.Errorf("excluding everything does not hide %q", pattern)
		}
	})
}
