package agentapi

import (
	"strings"
	"testing"
)

// TestPaths: one row for each path of each manager whose flagfiles are in the
// field, and what people make of them.
func TestPaths(t *testing.T) {
	t.Parallel()
	aliases, err := ParseAliases(append(Presets(), "/fleet/api/osquery/enroll=enroll", "/agents/{site}/log=log"))
	if err != nil {
		t.Fatal(err)
	}
	p := newPaths(aliases)
	const uuid = "8f1b9a52-6a2d-4d0e-9c55-1de4f4b0a3c1"
	for _, tt := range []struct {
		manager string
		paths   map[Endpoint]string // several with a space between
	}{
		{"muster", map[Endpoint]string{
			Enroll: "/api/osquery/enroll", Config: "/api/osquery/config", Log: "/api/osquery/log",
			Read: "/api/osquery/distributed/read", Write: "/api/osquery/distributed/write",
			CarveStart: "/api/osquery/carve/start", CarveContinue: "/api/osquery/carve/continue",
		}},
		{"doorman", map[Endpoint]string{
			Enroll: "/enroll /v1/enroll", Config: "/config /v1/config", Log: "/log /v1/log",
			Read: "/distributed/read /v1/distributed/read", Write: "/distributed/write /v1/distributed/write",
		}},
		{"sgt", map[Endpoint]string{
			Enroll: "/node/enroll", Config: "/node/configure", Read: "/distributed/read", Write: "/distributed/write",
			CarveStart: "/carve/start", CarveContinue: "/carve/continue",
		}},
		{"file carve server", map[Endpoint]string{CarveStart: "/start_uploads", CarveContinue: "/upload_blocks"}},
		{"kolide, fleet", map[Endpoint]string{
			Enroll: "/api/v1/osquery/enroll", Config: "/api/v1/osquery/config", Log: "/api/v1/osquery/log",
			Read: "/api/v1/osquery/distributed/read", Write: "/api/v1/osquery/distributed/write",
			CarveStart:    "/api/v1/osquery/carve/begin /api/osquery/carve/begin",
			CarveContinue: "/api/v1/osquery/carve/block /api/osquery/carve/block",
		}},
		{"osctrl by UUID and by name", map[Endpoint]string{
			Enroll: "/" + uuid + "/enroll /dev/enroll", Config: "/" + uuid + "/config /dev/config", Log: "/" + uuid + "/log /dev/log",
			Read: "/" + uuid + "/read /dev/read", Write: "/" + uuid + "/write /dev/write",
			CarveStart: "/" + uuid + "/init /dev/init", CarveContinue: "/" + uuid + "/block /dev/block",
		}},
		{"zentral", map[Endpoint]string{
			Enroll: "/public/osquery/enroll /osquery/enroll", Config: "/public/osquery/config /osquery/config", Log: "/public/osquery/log /osquery/log",
			Read:          "/public/osquery/distributed/read /osquery/distributed/read",
			Write:         "/public/osquery/distributed/write /osquery/distributed/write",
			CarveStart:    "/public/osquery/carver/start /osquery/carver/start",
			CarveContinue: "/public/osquery/carver/continue /osquery/carver/continue",
		}},
		{"osquery's test server", map[Endpoint]string{
			Enroll: "/enroll", Config: "/config", Log: "/log /logger", Read: "/distributed_read", Write: "/distributed_write",
			CarveStart: "/carve_init", CarveContinue: "/carve_block",
		}},
		{"--tls_node_api", map[Endpoint]string{
			Enroll: "//enroll", Config: "/s3cretnodekey/config", Log: "/s3cretnodekey/api/osquery/log", Read: "/s3cretnodekey/distributed/read",
		}},
		{"slashes", map[Endpoint]string{
			Enroll: "//api//osquery/enroll /api/osquery/enroll/ /api/osquery/enroll//", Read: "/distributed//read", Config: "//dev//config/",
		}},
		{"the operator's own", map[Endpoint]string{Enroll: "/fleet/api/osquery/enroll", Log: "/agents/berlin/log"}},
	} {
		for want, list := range tt.paths {
			for path := range strings.FieldsSeq(list) {
				if got := p.find(path); got != want {
					t.Errorf("%s: %s is %q, want %s", tt.manager, path, got, want)
				}
			}
		}
	}
	for _, path := range []string{"/start_uploads ", "/start_uploads  ", "/start_uploads \t", "/start_uploads /"} {
		if got := p.find(path); got != CarveStart {
			t.Errorf("%q is %q", path, got)
		}
	}
	for _, path := range []string{"", "/", "/api/osquery", "/api/osquery/", "/api/osquery/enrol", "/a/b/enroll", "/a/b/c/d/enroll", "/../..", "/{env}", "//"} {
		if got := p.find(path); got != "" {
			t.Errorf("%q is %q", path, got)
		}
	}
}

func TestParseAliases(t *testing.T) {
	t.Parallel()
	none, err := ParseAliases(nil)
	if err != nil || len(none) != 0 {
		t.Error(none, err)
	}
	p := newPaths(none)
	if p.find("/enroll") != "" || p.find("/api/osquery/enroll") != Enroll {
		t.Error("without aliases there are the canonical paths, and no others")
	}
	own, err := ParseAliases([]string{"/api/osquery/enroll=log"})
	if err != nil || newPaths(own).find("/api/osquery/enroll") != Enroll {
		t.Error("an alias took a canonical path", err)
	}
	for item, want := range map[string]string{
		"nobody": "no preset", "/x=nothing": "names no endpoint", "x=log": "must begin with a slash", "/x/=log": "end with one",
		"//x=log": "must begin", "=log": "must begin", "/x": "no preset", "/distributed/read=log": "leave one of them out",
	} {
		if _, err := ParseAliases([]string{"doorman", item}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v; want one that says %q", item, err, want)
		}
	}
}

// TestShown: a node key in a path does not reach the log.
func TestShown(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]string{
		"/api/osquery/enroll":                  "/api/osquery/enroll",
		"/0123456789abcdefghijklmnopq/nothing": "/…/nothing",
		"/config&node_key=0123":                "/config",
		"":                                     "",
	} {
		if got := shown(path); got != want {
			t.Errorf("%s: %s", path, got)
		}
	}
}

// FuzzFind: whatever the path, finding ends, and is not changed by what is
// forgiven.
func FuzzFind(f *testing.F) {
	aliases, err := ParseAliases(Presets())
	if err != nil {
		f.Fatal(err)
	}
	p := newPaths(aliases)
	for _, a := range aliases {
		f.Add(a.Path)
	}
	f.Fuzz(func(t *testing.T, path string) {
		got := p.find(path)
		if again := p.find(path + "/ "); again != got && strings.HasPrefix(path, "/") {
			t.Errorf("%q is %q, with a slash and a space behind %q", path, got, again)
		}
	})
}

func BenchmarkFind(b *testing.B) {
	aliases, err := ParseAliases(Presets())
	if err != nil {
		b.Fatal(err)
	}
	p := newPaths(aliases)
	for _, path := range []string{"/api/osquery/config", "/8f1b9a52-6a2d-4d0e-9c55-1de4f4b0a3c1/config"} {
		b.Run(path, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if p.find(path) != Config {
					b.Fatal("not found")
				}
			}
		})
	}
}
