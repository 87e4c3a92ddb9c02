package transparency_test

import (
	"crypto/sha256"
	"encoding/base64"
	"flag"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/musterhq/muster/internal/policy"
	"github.com/musterhq/muster/internal/transparency"
)

var update = flag.Bool("update", false, "write the golden files")

// disclosure has something in every place, in which text stands.
func disclosure(text string) transparency.Disclosure {
	at := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	later := at.Add(36 * time.Hour)
	return transparency.Disclosure{
		Hostname: text, HostIdentifier: text, Platform: text, EnrolledAt: &at, MadeAt: at, ExpiresAt: later,
		Collected: transparency.Collected{
			Revision: 7, Note: text, More: true,
			Queries: []transparency.ScheduledQuery{{
				Pack: text, PackDescription: text, Name: text, Description: text, SQL: text, IntervalSeconds: 5400, Tier: 2,
				Means: transparency.Means(policy.Sensitive), Only: text, Discovery: []string{text},
			}},
			Files:      []transparency.WatchedFiles{{Category: text, Paths: []string{text}, Excluded: []string{text}, Query: []string{text}, Reads: true, Scans: true}},
			Decorators: []transparency.AddedFact{{SQL: text, When: text}},
			Databases:  []transparency.ForeignDatabase{{Table: text, Path: text, SQL: text}},
			Views:      []transparency.NamedView{{Name: text, SQL: text}},
		},
		Asked: transparency.Asked{More: true, Questions: []transparency.Question{{
			Time: at, SQL: text, By: text, Why: text, Reason: text, Approved: text, Tier: 3, Means: text, Outcome: text,
		}}},
		Fetched: transparency.Fetched{More: true, Carves: []transparency.FileRequest{
			{Time: at, Paths: []string{text}, By: text, Reason: text, Outcome: text, KeptUntil: &later}, {Time: at, Outcome: text},
		}},
		Changes: transparency.ChangeHistory{More: true, Served: []transparency.ServedRevision{
			{Revision: 7, From: at, Until: &later, MadeAt: &at, Author: text, Approved: []string{text, text}}, {Revision: 6, From: at},
		}},
		Tags:      []transparency.GivenTag{{Tag: text, From: text, Since: at}},
		Rules:     []transparency.WatchingRule{{Name: text, Description: text, Severity: text, Does: text}},
		Kept:      []transparency.KeptFor{{What: text, Seconds: 7 * 24 * 3600}, {What: text}},
		Redaction: transparency.TakenOut{Kinds: []string{text, text}, Off: []string{text}, Columns: []transparency.ColumnRule{{Of: text, Does: text}}},
		Sinks:     []transparency.Destination{{Name: text, Type: text, Gets: text}},
	}
}

func page(t *testing.T, d transparency.Disclosure) string {
	t.Helper()
	b, err := transparency.NewWriter().Page(d)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestPage compares the page with the one that people looked at.
func TestPage(t *testing.T) {
	t.Parallel()
	for path, got := range map[string]string{"testdata/page.html": page(t, disclosure("text")), "testdata/empty.html": page(t, transparency.Disclosure{Hostname: "h"})} {
		if *update {
			if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), got); diff != "" {
			t.Errorf("%s (-want +got; write it with -update):\n%s", path, diff)
		}
	}
}

// TestHostile: text from machines and people is text, wherever it stands: the tags
// of the page are those that it has with harmless text.
func TestHostile(t *testing.T) {
	t.Parallel()
	tags := func(page string) string {
		var b strings.Builder
		for rest := page; ; {
			_, after, more := strings.Cut(rest, "<")
			if !more {
				return b.String()
			}
			tag, next, _ := strings.Cut(after, ">")
			b.WriteString("<" + tag + ">\n")
			rest = next
		}
	}
	harmless := tags(page(t, disclosure("text")))
	for _, text := range []string{
		`<script>alert(1)</script>`, `</pre><script src=//x></script>`, `"><img src=x onerror=alert(1)>`, `' onmouseover='alert(1)`,
		`</style><script>`, `{{.Hostname}}{{template "head"}}`, `<!--`, `]]>`, `javascript:alert(1)`, `<svg/onload=alert(1)>`, "<\x00script>", "\xff<script>",
		`<meta http-equiv=refresh content="0;url=//x">`, `<base href=//x>`, "\u2028<iframe>",
	} {
		if got := tags(page(t, disclosure(text))); got != harmless {
			t.Errorf("%q: %s", text, cmp.Diff(harmless, got))
		}
	}
	turned := page(t, disclosure("a\u202eb\x1b[31mc\u2066d"))
	if strings.ContainsAny(turned, "\u202e\u2066\x1b") || !strings.Contains(turned, `a\u202eb\u001b[31mc\u2066d`) {
		t.Error("what turns the direction of writing is not made visible")
	}
}

// TestSecurityPolicy: the page's one style is the one that the policy allows.
func TestSecurityPolicy(t *testing.T) {
	t.Parallel()
	notice, err := transparency.NewWriter().Notice("<b>", "text")
	if err != nil {
		t.Fatal(err)
	}
	for name, p := range map[string]string{"page": page(t, disclosure("text")), "notice": string(notice)} {
		_, rest, _ := strings.Cut(p, "<style>")
		style, after, ok := strings.Cut(rest, "</style>")
		sum := sha256.Sum256([]byte(style))
		if !ok || !strings.Contains(transparency.SecurityPolicy(), "'sha256-"+base64.StdEncoding.EncodeToString(sum[:])+"'") {
			t.Errorf("%s: browsers would refuse the style", name)
		}
		if strings.Contains(after, "<style") || strings.Contains(p, "style=") || strings.Contains(p, "<script") || strings.Contains(p, "<b>") {
			t.Errorf("%s has what the policy does not allow: %s", name, after)
		}
	}
}

func TestWords(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		time.Second: "1 second", 90 * time.Second: "90 seconds", 15 * time.Minute: "15 minutes", time.Hour: "1 hour", 90 * time.Minute: "90 minutes",
		24 * time.Hour: "1 day", 36 * time.Hour: "36 hours", 0: "0s", 1500 * time.Millisecond: "1.5s",
	} {
		if got := transparency.Span(d); got != want {
			t.Errorf("%v is %q, not %q", d, got, want)
		}
	}
	for source, want := range map[string]string{
		"hand": "set by a person", "secret:laptops": "given when the machine joined", "rule:eu": "given by the tag rule eu",
		"query:pack_a_b": "given by what the query pack_a_b found", "match:usb": "given by the rule usb", "else:x": "else",
	} {
		if got := transparency.TagFrom(source); got != want {
			t.Errorf("%s is %q, not %q", source, got, want)
		}
	}
	long := strings.Repeat("ä", transparency.MaxText)
	if got := transparency.Cut(long); !strings.HasPrefix(long, strings.TrimSuffix(got, " … (cut)")) || len(got) > transparency.MaxText+len(" … (cut)") || got == long {
		t.Errorf("a long text has %d bytes", len(got))
	}
	if got := transparency.Cut("short"); got != "short" {
		t.Errorf("a short text is %q", got)
	}
}
