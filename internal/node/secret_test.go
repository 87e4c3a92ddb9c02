package node

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/musterhq/muster/internal/errs"
)

func prefixes(texts ...string) (list []netip.Prefix) {
	for _, t := range texts {
		list = append(list, netip.MustParsePrefix(t))
	}
	return list
}

func TestSecret_Usable(t *testing.T) {
	t.Parallel()
	now := time.Now()
	office := prefixes("192.0.2.0/24", "2001:db8::/32")
	tests := []struct {
		name   string
		secret Secret
		from   string
		want   string // in the error; "" for none
	}{
		{"plain", Secret{}, "203.0.113.1", ""},
		{"address not known", Secret{}, "", ""},
		{"uses left", Secret{MaxUses: 2, Uses: 1}, "", ""},
		{"used up", Secret{MaxUses: 2, Uses: 2}, "", "as often as it may"},
		{"expires", Secret{ExpiresAt: now.Add(time.Nanosecond)}, "", ""},
		{"expired", Secret{ExpiresAt: now}, "", "expired"},
		{"revoked", Secret{RevokedAt: now.Add(time.Hour)}, "", "revoked"},
		{"old value ended", Secret{OldUntil: now.Add(-time.Hour)}, "", ""}, // the store finds only the new one
		{"in a network", Secret{CIDRs: office}, "192.0.2.77", ""},
		{"as IPv6", Secret{CIDRs: office}, "::ffff:192.0.2.77", ""},
		{"IPv6", Secret{CIDRs: office}, "2001:db8:1::1", ""},
		{"IPv6 with a zone", Secret{CIDRs: prefixes("fe80::/10")}, "fe80::1%eth0", ""},
		{"elsewhere", Secret{CIDRs: office}, "192.0.3.1", "from this address"},
		{"IPv4 is not in ::/0", Secret{CIDRs: prefixes("::/0")}, "192.0.2.1", "from this address"},
		{"nowhere", Secret{CIDRs: office}, "", "from this address"},
		{"everywhere is somewhere", Secret{CIDRs: prefixes("0.0.0.0/0", "::/0")}, "", "from this address"},
	}
	for _, tt := range tests {
		var from netip.Addr
		if tt.from != "" {
			from = netip.MustParseAddr(tt.from)
		}
		err := tt.secret.Usable(now, from)
		if tt.want == "" && err != nil || tt.want != "" && (!errs.Is(err, errs.Forbidden) || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: got %v, want %q", tt.name, err, tt.want)
		}
	}
}

func TestSecret_Grant(t *testing.T) {
	t.Parallel()
	many := strings.Fields("a a1 a2 a3 a4 a5 a6 a7 a8 a9 a10 a11")
	tests := []struct {
		allowed, asked, tags, refused []string
	}{
		{nil, nil, nil, nil},
		{nil, []string{"web"}, nil, []string{"web"}},
		{[]string{"web"}, []string{"web", "web", "db"}, []string{"web"}, []string{"db"}},
		{[]string{"site:*", "web"}, []string{"web", "site:dc1", "site:", "sit", "webs"}, []string{"site:", "site:dc1", "web"}, []string{"sit", "webs"}},
		{[]string{"*"}, []string{"x", "ok", "NO", "", "a b", "*"}, []string{"ok", "x"}, []string{"NO", "", "a b", "*"}},
		{[]string{"*"}, many, []string{"a", "a1", "a2", "a3", "a4", "a5", "a6", "a7", "a8", "a9"}, []string{"a10", "a11"}},
		{[]string{"a*c"}, []string{"abc", "a*c"}, nil, []string{"abc", "a*c"}},
	}
	for _, tt := range tests {
		tags, refused := Secret{AgentTags: tt.allowed}.Grant(tt.asked)
		if d := cmp.Diff([][]string{tt.tags, tt.refused}, [][]string{tags, refused}); d != "" {
			t.Errorf("%q asks for %q (-want +got):\n%s", tt.allowed, tt.asked, d)
		}
	}
}

func TestSplitSecret(t *testing.T) {
	t.Parallel()
	for shown, want := range map[string]string{
		"":                            `"" [] false`,
		"secret":                      `"" [] false`,
		":tag":                        `"" [] false`,
		"secret:":                     `"secret" [] true`,
		"secret: web :: db ":          `"secret" ["web" "db"] true`,
		"s:1:2:3:4:5:6:7:8:9:10":      `"s" ["1" "2" "3" "4" "5" "6" "7" "8" "9" "10"] true`,
		"s:1:2:3:4:5:6:7:8:9:a:b":     `"s" ["1" "2" "3" "4" "5" "6" "7" "8" "9" "a" "b"] true`,
		"s:1:2:3:4:5:6:7:8:9:a:b:c:d": `"s" ["1" "2" "3" "4" "5" "6" "7" "8" "9" "a" "b:c:d"] true`,
	} {
		secret, asked, ok := splitSecret(shown)
		if got := fmt.Sprintf("%q %q %v", secret, asked, ok); got != want {
			t.Errorf("%q: got %s, want %s", shown, got, want)
		}
	}
}

// FuzzSplitSecret: whatever an agent shows, it gets no tag that is none, that
// is not allowed or that is one too many.
func FuzzSplitSecret(f *testing.F) {
	for _, s := range []string{"", "secret", "secret:web:db", ":", "::::", "s:1:2:3:4:5:6:7:8:9:10:11:12", "s:\xff:\x00", "s:site:dc1"} {
		f.Add(s, "web")
		f.Add(s, "site*")
		f.Add(s, "*")
	}
	f.Fuzz(func(t *testing.T, shown, allowed string) {
		secret, asked, ok := splitSecret(shown)
		if !ok {
			if asked != nil || secret != "" || strings.Index(shown, ":") > 0 {
				t.Errorf("%q: %q %q", shown, secret, asked)
			}
			return
		}
		if strings.Contains(secret, ":") || !strings.HasPrefix(shown, secret+":") || len(asked) > maxAsked+1 {
			t.Errorf("%q: %q %q", shown, secret, asked)
		}
		tags, refused := Secret{AgentTags: []string{allowed}}.Grant(asked)
		if len(tags) > maxAsked || len(tags)+len(refused) > len(asked) || !slices.IsSorted(tags) {
			t.Errorf("asked for %q: got %q, refused %q", asked, tags, refused)
		}
		if _, err := CleanTags("tags", tags); err != nil {
			t.Error(err)
		}
		prefix, open := strings.CutSuffix(allowed, "*")
		for _, tag := range tags {
			if !strings.Contains(shown, tag) || tag != allowed && (!open || !strings.HasPrefix(tag, prefix)) {
				t.Errorf("%q got %q, but only %q is allowed", shown, tag, allowed)
			}
		}
	})
}
