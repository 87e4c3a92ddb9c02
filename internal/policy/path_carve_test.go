package policy

import (
	"strings"
	"testing"
)

func TestCarve(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		path string
		tier Tier
		code string // of the refusal; "" for none
	}{
		{"/etc/hosts", Sensitive, ""},
		{"/var/log/auth.log", Sensitive, ""},
		{"/var/log/%.log", Sensitive, ""},
		{"/var/log/*.gz", Sensitive, ""},
		{"/tmp/it's.txt", Sensitive, ""},
		{"/tmp/a[1].txt", Sensitive, ""},
		{`C:\Windows\System32\drivers\etc\hosts`, Sensitive, ""},
		{"/home/alice/%", Sensitive, ""},
		{"/etc/ssh/ssh_host_rsa_key.pub", Sensitive, ""},

		{"/etc/shadow", Dangerous, ""},
		{"/etc/SHADOW", Dangerous, ""},
		{"/etc/%", Dangerous, ""},
		{"/etc/sh%", Dangerous, ""},
		{"/%/shadow", Dangerous, ""},
		{"/e%/shadow", Dangerous, ""},
		{"/etc/ssh/%", Dangerous, ""},
		{"/etc/ssh/ssh_host_rsa_key", Dangerous, ""},
		{"/etc/ssh/ssh%key", Dangerous, ""},
		{"/home/%/.ssh/id_rsa", Dangerous, ""},
		{"/home/alice/.ssh/config", Dangerous, ""},
		{"/home/alice/.s%/x", Dangerous, ""},
		{"/srv/app/server.key", Dangerous, ""},
		{"/srv/app/%.key", Dangerous, ""},
		{"/srv/app/server.%", Dangerous, ""},
		{"/home/%/notes.txt", Dangerous, ""},
		{"/root/x", Dangerous, ""},
		{`C:\Windows\System32\config\SAM`, Dangerous, ""},
		{`C:\Windows\System32\%\SAM`, Dangerous, ""},

		{"/%%", Dangerous, "bad-path"},
		{"/home/%%", Dangerous, "bad-path"},
		{"/home/**", Dangerous, "bad-path"},
		{"/a/%%/b", Dangerous, "bad-path"},
		{"/", Dangerous, "bad-path"},
		{"", Dangerous, "bad-path"},
		{"etc/hosts", Dangerous, "bad-path"},
		{"/etc/a,/etc/shadow", Dangerous, "bad-path"},
		{"/etc/../etc/shadow", Dangerous, "bad-path"},
		{"/etc/a\nb", Dangerous, "bad-path"},
		{"/etc/{shadow}", Dangerous, "bad-path"},
		{"/etc/[s]hadow%", Dangerous, "bad-path"},
		{"/" + strings.Repeat("x", 600), Dangerous, "bad-path"},
		{"/proc/1/root/etc/shadow", Dangerous, "pseudo-files"},
		{"/sys/kernel/x", Dangerous, "pseudo-files"},
		{"/dev/sda", Dangerous, "pseudo-files"},
		{"/pr%/1/environ", Dangerous, "pseudo-files"},
		{"//proc//kcore", Dangerous, "pseudo-files"},
	} {
		v := carved(tt.path)
		code := ""
		for _, f := range v.Findings {
			if f.Severity == Refused {
				code = f.Code
			}
		}
		if v.Tier != tt.tier || code != tt.code {
			t.Errorf("%q: tier %s %q %+v", tt.path, v.Tier, code, v.Reasons)
		}
	}
}
