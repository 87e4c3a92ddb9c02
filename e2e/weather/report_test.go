package weather

import (
	"strings"
	"testing"
	"time"
)

// TestReport tells broken promises from kept ones and from facts.
func TestReport(t *testing.T) {
	var r Report
	r.fact("rows", "%d", 7)
	r.zero("twice", 0)
	r.within("config p99", 20*time.Millisecond, time.Second)
	if broken := r.Broken(); len(broken) != 0 {
		t.Errorf("broken: %v", broken)
	}
	r.zero("lost", 3)
	r.within("log p99", 2*time.Second, time.Second)
	if broken := r.Broken(); len(broken) != 2 || broken[0] != "lost: 3, must be 0" || broken[1] != "log p99: 2s, at most 1s" {
		t.Errorf("broken: %q", broken)
	}
	var out strings.Builder
	if err := r.Print(&out); err != nil {
		t.Fatal(err)
	}
	if lines := strings.Split(strings.TrimSpace(out.String()), "\n"); len(lines) != 5 ||
		strings.Contains(lines[1], "BROKEN") || !strings.Contains(lines[3], "BROKEN: must be 0") {
		t.Errorf("%s", out.String())
	}
}

// TestKinds lists errors, the most frequent first.
func TestKinds(t *testing.T) {
	if got := kinds(nil); got != "none" {
		t.Errorf("without errors: %q", got)
	}
	if got := kinds(map[string]int64{"timeout": 2, "closed": 9, "again": 2}); got != "9 × closed; 2 × again; 2 × timeout" {
		t.Errorf("%q", got)
	}
}
