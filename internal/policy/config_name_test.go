package policy

import (
	"strings"
	"testing"

	"github.com/musterhq/muster/internal/errs"
)

func TestName(t *testing.T) {
	t.Parallel()
	good := []string{"users", "a", "disk usage", "pack/users", "query_x", "Query.x", "encounters", "epochs", "größe", "a.b", strings.Repeat("a", maxName)}
	for _, name := range good {
		if err := QueryName(name); err != nil {
			t.Errorf("%q: %v", name, err)
		}
		if err := PackName(name); err != nil {
			t.Errorf("pack %q: %v", name, err)
		}
	}
	bad := []string{"", " a", "a ", "a:b", ":", "a\x00b", "a\nb", "a\tb", "a\x7f", "a\u202eb", "a\u200bb", "a\xff", strings.Repeat("a", maxName+1)}
	for _, name := range bad {
		for _, err := range []error{QueryName(name), PackName(name)} {
			if !errs.Is(err, errs.Invalid) {
				t.Errorf("%q: %v", name, err)
			}
		}
	}
	for _, name := range []string{"query.x", "cache.x", "config_views.x", "my_counter", "counter", "epoch", "xepoch"} {
		if err := QueryName(name); !errs.Is(err, errs.Invalid) {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, name := range []string{"main", "*"} {
		if err := PackName(name); !errs.Is(err, errs.Invalid) {
			t.Errorf("pack %q: %v", name, err)
		}
	}
}

func TestInterval(t *testing.T) {
	t.Parallel()
	for seconds, good := range map[int]bool{-1: false, 0: false, 1: true, 60: true, 604800: true, 604801: false, 1 << 62: false} {
		if err := Interval(seconds); (err == nil) != good {
			t.Errorf("%d: %v", seconds, err)
		}
	}
}

func TestCollisions(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name      string
		packs     map[string][]string
		delimiter string
		want      int
		says      string
	}{
		{"none", map[string][]string{"a": {"b", "c"}, "b": {"b"}}, "_", 0, ""},
		{"across packs", map[string][]string{"a": {"b_c"}, "a_b": {"c"}}, "_", 1, "b_c in pack a and c in pack a_b are all called pack_a_b_c"},
		{"three", map[string][]string{"a": {"b_c_d"}, "a_b": {"c_d"}, "a_b_c": {"d"}}, "_", 1, "b_c_d in pack a and c_d in pack a_b and d in pack a_b_c"},
		{"another delimiter", map[string][]string{"a": {"b_c"}, "a_b": {"c"}}, "/", 0, ""},
		{"that delimiter", map[string][]string{"a": {"b/c"}, "a/b": {"c"}}, "/", 1, ""},
		{"no delimiter", map[string][]string{"a": {"bc"}, "ab": {"c"}}, "", 1, ""},
		{"twice in one", map[string][]string{"a": {"b", "b"}}, "_", 1, ""},
		{"two pairs", map[string][]string{"a": {"b_c", "b_d"}, "a_b": {"c", "d"}}, "_", 2, ""},
		{"empty", nil, "_", 0, ""},
	}
	for _, tt := range tests {
		got := Collisions(tt.packs, tt.delimiter)
		if got == nil || len(got) != tt.want || tt.want > 0 && (got[0].Severity != Refused || !strings.Contains(got[0].Message, tt.says)) {
			t.Errorf("%s: %+v", tt.name, got)
		}
	}
}
