package agentapi

import (
	"cmp"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
)

// Endpoint is one of the things that agents ask for, by the name under which it
// is configured, counted and logged.
type Endpoint string

// The endpoints.
const (
	Enroll        Endpoint = "enroll"
	Config        Endpoint = "config"
	Log           Endpoint = "log"
	Read          Endpoint = "distributed/read"
	Write         Endpoint = "distributed/write"
	CarveStart    Endpoint = "carve/start"
	CarveContinue Endpoint = "carve/continue"
)

// Endpoints returns all endpoints.
func Endpoints() []Endpoint {
	return []Endpoint{Enroll, Config, Log, Read, Write, CarveStart, CarveContinue}
}

// Canonical is the path under which each endpoint is found, whatever aliases
// there are.
const Canonical = "/api/osquery/"

// Alias is a further path of an endpoint, so that agents which were installed
// for another manager work as they are.
type Alias struct {
	Preset string `json:"preset"` // "" for one of the operator's own
	// Path is matched without doubled slashes and without slashes and spaces at
	// its end. A segment in braces stands for any.
	Path     string   `json:"path"`
	Endpoint Endpoint `json:"endpoint"`
}

// presets are the paths of the managers whose flagfiles are in the field.
//
//nolint:gochecknoglobals // a table
var presets = map[string]map[Endpoint][]string{
	"doorman": {
		Enroll: {"/enroll", "/v1/enroll"}, Config: {"/config", "/v1/config"}, Log: {"/log", "/v1/log"},
		Read: {"/distributed/read", "/v1/distributed/read"}, Write: {"/distributed/write", "/v1/distributed/write"},
	},
	"sgt": {
		Enroll: {"/node/enroll"}, Config: {"/node/configure"}, Read: {"/distributed/read"}, Write: {"/distributed/write"},
		CarveStart: {"/carve/start"}, CarveContinue: {"/carve/continue"},
	},
	"carve-server": {CarveStart: {"/start_uploads"}, CarveContinue: {"/upload_blocks"}},
	"kolide": {
		Enroll: {"/api/v1/osquery/enroll"}, Config: {"/api/v1/osquery/config"}, Log: {"/api/v1/osquery/log"},
		Read: {"/api/v1/osquery/distributed/read"}, Write: {"/api/v1/osquery/distributed/write"},
	},
	"fleet": {
		Enroll: {"/api/v1/osquery/enroll"}, Config: {"/api/v1/osquery/config"}, Log: {"/api/v1/osquery/log"},
		Read: {"/api/v1/osquery/distributed/read"}, Write: {"/api/v1/osquery/distributed/write"},
		CarveStart:    {"/api/osquery/carve/begin", "/api/v1/osquery/carve/begin"},
		CarveContinue: {"/api/osquery/carve/block", "/api/v1/osquery/carve/block"},
	},
	// The environment, by name or UUID, is not looked at: the enroll secret says
	// which tags a node gets.
	"osctrl": {
		Enroll: {"/{env}/enroll"}, Config: {"/{env}/config"}, Log: {"/{env}/log"}, Read: {"/{env}/read"}, Write: {"/{env}/write"},
		CarveStart: {"/{env}/init"}, CarveContinue: {"/{env}/block"},
	},
	"zentral": {
		Enroll: {"/public/osquery/enroll", "/osquery/enroll"}, Config: {"/public/osquery/config", "/osquery/config"},
		Log:        {"/public/osquery/log", "/osquery/log"},
		Read:       {"/public/osquery/distributed/read", "/osquery/distributed/read"},
		Write:      {"/public/osquery/distributed/write", "/osquery/distributed/write"},
		CarveStart: {"/public/osquery/carver/start", "/osquery/carver/start"}, CarveContinue: {"/public/osquery/carver/continue", "/osquery/carver/continue"},
	},
	// osquery's own test server; its documentation has /logger.
	"osquery": {
		Enroll: {"/enroll"}, Config: {"/config"}, Log: {"/log", "/logger"}, Read: {"/distributed_read"}, Write: {"/distributed_write"},
		CarveStart: {"/carve_init"}, CarveContinue: {"/carve_block"},
	},
}

// Presets returns the names of all presets, sorted.
func Presets() []string { return slices.Sorted(maps.Keys(presets)) }

// ParseAliases reads a list of presets and of paths of one's own, written as
// PATH=ENDPOINT. It returns them in order of path; two different endpoints at
// one path are an error.
func ParseAliases(list []string) ([]Alias, error) {
	var aliases []Alias
	for _, item := range list {
		if p, ok := presets[item]; ok {
			for endpoint, paths := range p {
				for _, path := range paths {
					aliases = append(aliases, Alias{item, path, endpoint})
				}
			}
			continue
		}
		at, name, ok := strings.Cut(item, "=")
		endpoint := Endpoint(strings.TrimSpace(name))
		at = strings.TrimSpace(at)
		switch {
		case !ok:
			return nil, fmt.Errorf("%q is no preset (%s) and no PATH=ENDPOINT", item, strings.Join(Presets(), ", "))
		case !slices.Contains(Endpoints(), endpoint):
			return nil, fmt.Errorf("%q names no endpoint; use one of %s", item, endpointNames())
		case !strings.HasPrefix(at, "/") || at != clean(at):
			return nil, fmt.Errorf("%q: the path must begin with a slash, and neither double it nor end with one", item)
		}
		aliases = append(aliases, Alias{"", at, endpoint})
	}
	slices.SortFunc(aliases, func(a, b Alias) int {
		return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Preset, b.Preset))
	})
	for i := 1; i < len(aliases); i++ {
		if a, b := aliases[i-1], aliases[i]; a.Path == b.Path && a.Endpoint != b.Endpoint {
			return nil, fmt.Errorf("the path %s would be %s and %s; leave one of them out", a.Path, a.Endpoint, b.Endpoint)
		}
	}
	return aliases, nil
}

func endpointNames() string {
	names := make([]string, 0, len(Endpoints()))
	for _, e := range Endpoints() {
		names = append(names, string(e))
	}
	return strings.Join(names, ", ")
}

// clean returns a path without what flagfiles have too much of: doubled
// slashes, and slashes and spaces at the end.
func clean(p string) string {
	if p == "" || p[0] != '/' {
		p = "/" + p
	}
	return path.Clean(strings.TrimRight(p, "/ \t"))
}

// paths finds the endpoint of a path.
type paths struct {
	exact    map[string]Endpoint
	patterns []pattern
}

type pattern struct {
	segments []string
	endpoint Endpoint
}

func newPaths(aliases []Alias) *paths {
	p := &paths{exact: map[string]Endpoint{}}
	for _, e := range Endpoints() {
		p.exact[Canonical+string(e)] = e
	}
	for _, a := range aliases {
		if strings.Contains(a.Path, "{") {
			p.patterns = append(p.patterns, pattern{strings.Split(a.Path, "/"), a.Endpoint})
		} else if _, ok := p.exact[a.Path]; !ok { // nothing takes a canonical path
			p.exact[a.Path] = a.Endpoint
		}
	}
	return p
}

// find returns the endpoint of a path, or "". Agents with --tls_node_api put
// their key before the path.
func (p *paths) find(at string) Endpoint {
	if e, ok := p.exact[at]; ok {
		return e
	}
	at = clean(at)
	if e, ok := p.exact[at]; ok {
		return e
	}
	segments := strings.Split(at, "/")
	for _, pattern := range p.patterns {
		if pattern.matches(segments) {
			return pattern.endpoint
		}
	}
	if len(segments) > 2 { // at is "/segment/…"
		return p.exact[at[1+len(segments[1]):]]
	}
	return ""
}

func (p pattern) matches(segments []string) bool {
	if len(segments) != len(p.segments) {
		return false
	}
	for i, s := range p.segments {
		if s != segments[i] && !strings.HasPrefix(s, "{") {
			return false
		}
	}
	return true
}
