package internal_test

import (
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// layers is the architecture: a package imports only from layers above its own
// line, and of its own line only what beside allows.
func layers() [][]string {
	return [][]string{
		{"errs", "ident", "durable", "sheet"}, // vocabulary
		{"backup", "doctor"},                  // all there is, in one file; how a server fares
		{"seal", "credential"},                // what nobody else may read
		{"yamldoc"},                           // the language that people write
		{"osquery"},                           // the language of agents
		{"policy"},                            // what a text or setting may do
		{"audit", "node", "event", "live", "account", "carve", "alert", "redact"}, // domain: decides
		{"condition"},                                  // what events may be asked for
		{"resource", "result", "transparency"},         // what agents run, what they answered, and what their owners may see
		{"foreign", "hostfiles", "rollout", "trigger"}, // how it comes, and how it goes out
		{"health"},         // how nodes fare
		{"change", "rule"}, // how it changes, and what follows from events
		{"httpx", "agentwire", "agentconn", "egress"}, // how both sides speak HTTP
		{"sink"},                          // where events go
		{"hostsql", "agent", "agenttest"}, // agents: ours, and simulated ones
		{"agentapi", "adminapi", "web", "store", "stream", "search", "config", "pki", "blob", "vault", "spool", "notify", "signon"}, // adapters
		{"app"},  // wires the server
		{"demo"}, // a server with agents
	}
}

func beside() map[string][]string {
	return map[string][]string{
		"live":     {"node"},
		"carve":    {"node", "live"},
		"account":  {"node", "audit"},
		"alert":    {"node"},
		"agent":    {"hostsql"},
		"adminapi": {"signon"},
	}
}

// TestLayers reads the files themselves, not `go list`, so that the test cache
// sees every change.
func TestLayers(t *testing.T) {
	const module = "github.com/musterhq/muster/internal/"
	layer := map[string]int{}
	for i, names := range layers() {
		for _, name := range names {
			layer[name] = i
		}
	}
	files, err := filepath.Glob("*/*.go")
	if err != nil || len(files) == 0 {
		t.Fatal("no packages here", err)
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		from := filepath.Dir(file)
		if _, ok := layer[from]; !ok {
			t.Errorf("%s: package %s has no layer", file, from)
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, imp := range f.Imports {
			to, ok := strings.CutPrefix(strings.Trim(imp.Path.Value, `"`), module)
			to, _, _ = strings.Cut(to, "/")
			if ok && to != from && layer[to] >= layer[from] && !slices.Contains(beside()[from], to) {
				t.Errorf("%s: %s must not import %s", file, from, to)
			}
		}
	}
}
