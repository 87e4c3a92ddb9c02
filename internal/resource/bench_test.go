package resource

import (
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/musterhq/muster/internal/node"
)

// BenchmarkRender renders the document that comes with the program, compressed
// bodies and all: what a config costs once.
func BenchmarkRender(b *testing.B) {
	var d document
	if err := yaml.Unmarshal(defaultYAML, &d); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := render(d); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkCatalog_Config is what it costs for each request.
func BenchmarkCatalog_Config(b *testing.B) {
	c, err := Default()
	if err != nil {
		b.Fatal(err)
	}
	n := new(node.Identity)
	b.ReportAllocs()
	for b.Loop() {
		if len(c.Config(n).JSON) == 0 {
			b.Fatal("an empty config")
		}
	}
}
