package app

import (
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/musterhq/muster/internal/config"
)

// described returns the names of all metrics that the server can show, also those of
// which there is nothing to show yet.
func described(t *testing.T) map[string]bool {
	t.Helper()
	cfg := config.Default()
	cfg.DataDir, cfg.AgentListen, cfg.AdminListen = filepath.Join(t.TempDir(), "data"), "127.0.0.1:0", "127.0.0.1:0"
	cfg.AuditWitness = []string{"file://" + filepath.Join(t.TempDir(), "audit")}
	a, err := New(t.Context(), cfg, "test", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := a.close(); err != nil {
			t.Error(err)
		}
	}()
	descs := make(chan *prometheus.Desc)
	go func() { a.metrics.registry.Describe(descs); close(descs) }()
	names := map[string]bool{}
	named := regexp.MustCompile(`fqName: "([^"]+)"`)
	for d := range descs {
		if m := named.FindStringSubmatch(d.String()); m != nil {
			names[m[1]] = true
		}
	}
	return names
}

// TestMonitoring: the examples for Prometheus and Grafana name metrics that there
// are, and runbooks that there are.
func TestMonitoring(t *testing.T) {
	t.Parallel()
	exprs := slices.Concat(alertExprs(t), dashboardExprs(t))
	known := described(t)
	metric := regexp.MustCompile(`\b(muster|process|go)_[a-z0-9_]+`)
	named := 0
	for _, e := range exprs {
		for _, name := range metric.FindAllString(e, -1) {
			named++
			if base := regexp.MustCompile(`_(bucket|count|sum)$`).ReplaceAllString(name, ""); !known[name] && !known[base] {
				t.Errorf("%s: there is no metric %s", e, name)
			}
		}
	}
	if named < len(exprs)-1 { // up is Prometheus' own
		t.Errorf("%d metrics in %d expressions", named, len(exprs))
	}
}

func alertExprs(t *testing.T) (exprs []string) {
	t.Helper()
	var file struct {
		Groups []struct {
			Rules []struct {
				Alert, Expr string
				Annotations map[string]string
			}
		}
	}
	if err := yaml.Unmarshal(readDoc(t, "examples/monitoring/alerts.yaml"), &file); err != nil || len(file.Groups) != 1 {
		t.Fatal(err)
	}
	headings := anchors(string(readDoc(t, "operations.md")))
	for _, r := range file.Groups[0].Rules {
		exprs = append(exprs, r.Expr)
		if r.Alert == "" || r.Expr == "" || r.Annotations["summary"] == "" {
			t.Errorf("%+v", r)
		}
		if _, anchor, ok := strings.Cut(r.Annotations["runbook"], "operations.md#"); ok && !slices.Contains(headings, anchor) {
			t.Errorf("%s: docs/operations.md has no %s, but %v", r.Alert, anchor, headings)
		}
	}
	return exprs
}

func dashboardExprs(t *testing.T) (exprs []string) {
	t.Helper()
	var file struct {
		Panels []struct{ Targets []struct{ Expr string } }
	}
	if err := json.Unmarshal(readDoc(t, "examples/monitoring/dashboard.json"), &file); err != nil || len(file.Panels) == 0 {
		t.Fatal(err)
	}
	for _, p := range file.Panels {
		for _, target := range p.Targets {
			exprs = append(exprs, target.Expr)
		}
	}
	return exprs
}

func readDoc(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("../../docs", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// anchors returns the headings of a page as links name them.
func anchors(page string) (list []string) {
	for line := range strings.Lines(page) {
		if title, ok := strings.CutPrefix(line, "#"); ok {
			title = strings.ToLower(strings.TrimSpace(strings.TrimLeft(title, "#")))
			list = append(list, strings.ReplaceAll(title, " ", "-"))
		}
	}
	return list
}
