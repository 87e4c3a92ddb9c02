package agent

import (
	"bytes"
	"crypto/sha1" //nolint:gosec // osquery's config hash and shard are SHA-1
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/musterhq/muster/internal/hostsql"
)

// Limits of a config (osquery/config/config.cpp, release 5.23.1).
const (
	maxConfig   = 1 << 20
	maxDepth    = 32
	maxInterval = 604800
)

// A Config is what the agent takes from a config document.
type Config struct {
	Packs      []Pack // the schedule is the pack "main"
	Options    []Option
	Decorators Decorators
	// Warnings are what osquery would log as status lines.
	Warnings []string
	// Ignored are top-level keys of osquery that have no effect here.
	Ignored []string
}

// A Pack is a group of queries with conditions.
type Pack struct {
	Name, Platform, Version string
	Shard                   int64
	Discovery               []string
	Queries                 []Query
	Fits                    bool // its platform, version and shard are this host's
}

// A Query is one scheduled query.
type Query struct {
	Name     string // with its pack's
	SQL      string
	Interval int64
	Snapshot bool
	Removed  bool  // log removed rows
	Startup  int64 // startup_priority; -1 for none
}

// An Option is one member of "options".
type Option struct{ Name, Value string }

// Decorators are queries whose first row goes into every log line.
type Decorators struct {
	Load, Always []string
	Interval     map[int64][]string // by seconds
}

// A Host is what the filters of a config are matched against.
type Host struct {
	Hostname      string
	PackDelimiter string
	Default       int64 // interval of a query without one
	// ReadPack returns the text of a pack that the config names by a string;
	// nil if the config's source has none, as with TLS.
	ReadPack func(name string) ([]byte, error)
}

// ParseConfig reads a config document by osquery's rules. An error means that
// nothing of it can be used.
func ParseConfig(body []byte, h Host) (*Config, error) {
	if len(body) > maxConfig {
		return nil, fmt.Errorf("the config has %d bytes; the limit is %d", len(body), maxConfig)
	}
	if depth(body) > maxDepth {
		return nil, fmt.Errorf("the config nests deeper than %d levels", maxDepth)
	}
	root := map[string]json.RawMessage{}
	if !isArrayOrNull(body) { // for osquery [] and null are empty objects
		if err := json.Unmarshal(body, &root); err != nil {
			return nil, fmt.Errorf("parse config: %w", err)
		}
	}
	p := &configParser{host: h, config: &Config{}}
	p.object(root)
	if schedule, ok := p.member(root, "schedule"); ok {
		p.pack("main", map[string]json.RawMessage{"queries": schedule})
	}
	if packs, ok := p.member(root, "packs"); ok {
		p.packs(packs)
	}
	known := []string{"schedule", "packs", "options", "decorators", "node_invalid"}
	for _, key := range slices.Sorted(maps.Keys(root)) {
		if !slices.Contains(known, key) {
			p.config.Ignored = append(p.config.Ignored, key)
		}
	}
	return p.config, nil
}

type configParser struct {
	host   Host
	config *Config
}

func (p *configParser) warn(format string, args ...any) {
	p.config.Warnings = append(p.config.Warnings, fmt.Sprintf(format, args...))
}

// member returns a member that is an object; anything else is left out.
func (p *configParser) member(o map[string]json.RawMessage, key string) (json.RawMessage, bool) {
	raw, ok := o[key]
	return raw, ok && len(raw) > 0 && raw[0] == '{'
}

// object reads what the root and every pack may hold.
func (p *configParser) object(o map[string]json.RawMessage) {
	if raw, ok := p.member(o, "options"); ok {
		var options map[string]json.RawMessage
		if json.Unmarshal(raw, &options) != nil {
			options = nil // a member of a valid document
		}
		for _, name := range slices.Sorted(maps.Keys(options)) {
			value := scalar(options[name])
			if string(options[name]) == "null" {
				p.warn("Cannot set unknown or invalid flag: %s", name)
				continue
			}
			if value != "" { // osquery cannot set a flag to empty
				p.config.Options = append(p.config.Options, Option{name, value})
			}
		}
	}
	if raw, ok := o["decorators"]; ok {
		p.decorators(raw)
	}
}

func (p *configParser) decorators(raw json.RawMessage) {
	var d map[string]json.RawMessage
	if err := json.Unmarshal(raw, &d); err != nil {
		p.warn("Error config decorators should be an array or object")
		return
	}
	p.config.Decorators.Load = append(p.config.Decorators.Load, texts(d["load"])...)
	p.config.Decorators.Always = append(p.config.Decorators.Always, texts(d["always"])...)
	var interval map[string]json.RawMessage
	if json.Unmarshal(d["interval"], &interval) != nil {
		return
	}
	for _, key := range slices.Sorted(maps.Keys(interval)) {
		n, err := strconv.ParseInt(key, 10, 64)
		if err != nil || n <= 0 || n%60 != 0 { // osquery divides by a 0 and dies
			p.warn("Invalid decorator interval rate %s in config source: tls_plugin", key)
			continue
		}
		if p.config.Decorators.Interval == nil {
			p.config.Decorators.Interval = map[int64][]string{}
		}
		p.config.Decorators.Interval[n] = append(p.config.Decorators.Interval[n], texts(interval[key])...)
	}
}

func (p *configParser) packs(raw json.RawMessage) {
	var packs map[string]json.RawMessage
	if json.Unmarshal(raw, &packs) != nil {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(packs)) {
		text := packs[name]
		if path := ""; json.Unmarshal(text, &path) == nil {
			if p.host.ReadPack == nil {
				p.warn("Error reading the query pack named: %s", name)
				continue
			}
			read, err := p.host.ReadPack(path)
			if err != nil {
				p.warn("Error reading the query pack named: %s", name)
				continue
			}
			text = StripComments(read)
		} else if name == "*" { // an object of packs
			p.packs(text)
			continue
		}
		var pack map[string]json.RawMessage
		if json.Unmarshal(text, &pack) != nil {
			p.warn("Error reading the query pack named: %s", name)
			continue
		}
		p.pack(name, pack)
	}
}

func (p *configParser) pack(name string, o map[string]json.RawMessage) {
	pack := Pack{Name: name, Platform: scalar(o["platform"]), Version: scalar(o["version"]), Discovery: texts(o["discovery"])}
	pack.Shard, _ = integer(o["shard"])
	pack.Fits = p.fits(pack.Platform, pack.Version, pack.Shard)
	if pack.Fits && name != "main" {
		p.object(o)
	}
	var queries map[string]json.RawMessage
	if json.Unmarshal(o["queries"], &queries) != nil {
		queries = nil
	}
	for _, short := range slices.Sorted(maps.Keys(queries)) {
		if q, ok := p.query(name, short, queries[short]); ok {
			pack.Queries = append(pack.Queries, q)
		}
	}
	// A pack called main replaces the schedule.
	p.config.Packs = slices.DeleteFunc(p.config.Packs, func(o Pack) bool { return o.Name == name })
	p.config.Packs = append(p.config.Packs, pack)
}

func (p *configParser) query(pack, short string, raw json.RawMessage) (Query, bool) {
	var o map[string]json.RawMessage
	if json.Unmarshal(raw, &o) != nil || o == nil {
		return Query{}, false
	}
	for _, prefix := range []string{"query.", "cache.", "config_views."} {
		if strings.HasPrefix(short, prefix) {
			p.warn("Invalid query name: %s", short)
			return Query{}, false
		}
	}
	if strings.HasSuffix(short, "epoch") || strings.HasSuffix(short, "counter") {
		p.warn("Invalid query name: %s", short)
		return Query{}, false
	}
	q := Query{Name: short, Interval: p.host.Default, Removed: true, Startup: -1}
	if pack != "main" {
		q.Name = "pack" + p.host.PackDelimiter + pack + p.host.PackDelimiter + short
	}
	if json.Unmarshal(o["query"], &q.SQL) != nil || q.SQL == "" {
		return Query{}, false
	}
	if raw, ok := o["interval"]; ok {
		q.Interval, _ = integer(raw)
	}
	if q.Interval < 1 || q.Interval > maxInterval {
		p.warn("Query has invalid interval: %s: %s", short, scalar(o["interval"]))
		return Query{}, false
	}
	shard, _ := integer(o["shard"])
	if !p.fits(scalar(o["platform"]), scalar(o["version"]), shard) {
		return Query{}, false
	}
	q.Snapshot = truth(o["snapshot"], false)
	q.Removed = truth(o["removed"], true)
	if n, ok := integer(o["startup_priority"]); ok && n >= 0 {
		q.Startup = n
	}
	return q, true
}

// fits applies the filters that packs and queries share.
func (p *configParser) fits(platform, version string, shard int64) bool {
	if !platformFits(platform) {
		return false
	}
	if version != "" && version != "0.0.0" && hostsql.CompareVersions(hostsql.Version, version) < 0 {
		return false
	}
	return shard <= 0 || shard >= machineShard(p.host.Hostname)
}

// platformFits tests for substrings, as osquery does: "notlinux" is Linux.
func platformFits(platform string) bool {
	if platform == "" || platform == "null" {
		return true
	}
	for _, word := range []string{"any", "all", "linux", "ubuntu", "centos", "posix"} {
		if strings.Contains(platform, word) {
			return true
		}
	}
	return false
}

// machineShard places a host among 0 to 100 (osquery/config/packs.cpp).
func machineShard(hostname string) int64 {
	sum := sha1.Sum([]byte(hostname)) //nolint:gosec // as above
	return int64(sum[0]) * 100 / 255
}

// Hash returns osquery_info.config_hash for a config from one source, and the
// inner hash by which osquery tells a changed config.
func Hash(body []byte) (string, error) {
	compact, err := compactJSON(body)
	if err != nil {
		return "", err
	}
	inner := sha1.Sum(compact)                              //nolint:gosec // as above
	outer := sha1.Sum([]byte(hex.EncodeToString(inner[:]))) //nolint:gosec // as above
	return hex.EncodeToString(outer[:]), nil
}

// compactJSON writes a document as RapidJSON would.
func compactJSON(body []byte) ([]byte, error) {
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	var out []byte
	type level struct{ object, value, some bool }
	var levels []level
	for {
		t, err := d.Token()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, fmt.Errorf("parse config: %w", err)
		}
		if delim, ok := t.(json.Delim); ok && (delim == '}' || delim == ']') {
			out = append(out, byte(delim))
			levels = levels[:len(levels)-1]
			continue
		}
		if n := len(levels); n > 0 {
			l := &levels[n-1]
			switch {
			case l.object && l.value:
				out, l.value = append(out, ':'), false
			default:
				if l.some {
					out = append(out, ',')
				}
				l.some, l.value = true, l.object
			}
		}
		switch t := t.(type) {
		case json.Delim:
			out = append(out, byte(t)) //nolint:gosec // { or [
			levels = append(levels, level{object: t == '{'})
		case string:
			out = appendQuoted(out, t)
		case json.Number:
			out = append(out, t...)
		case bool:
			out = strconv.AppendBool(out, t)
		case nil:
			out = append(out, "null"...)
		}
	}
}

// StripComments makes a config file strict JSON as osquery's filesystem plugin
// does: line continuations and whole-line comments go.
func StripComments(text []byte) []byte {
	var out []byte
	for line := range strings.Lines(strings.ReplaceAll(string(text), "\\\n", "")) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "#") || strings.HasPrefix(line, "//") {
			continue
		}
		out = append(append(out, line...), '\n')
	}
	return out
}

func isArrayOrNull(body []byte) bool {
	b := bytes.TrimSpace(body)
	return len(b) > 0 && b[0] == '[' && json.Valid(b) || string(b) == "null" || len(b) == 0
}

// depth is how deep objects and arrays nest.
func depth(body []byte) int {
	now, most, quoted := 0, 0, false
	for i := 0; i < len(body); i++ {
		switch c := body[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			now++
			most = max(most, now)
		case c == '}' || c == ']':
			now--
		}
	}
	return most
}

// scalar is a string, number or boolean as text; an array or object as JSON.
func scalar(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) == nil {
		return s
	}
	return string(raw)
}

// integer reads a whole number or a string of one.
func integer(raw json.RawMessage) (int64, bool) {
	n, err := strconv.ParseInt(scalar(raw), 10, 64)
	return n, err == nil
}

// truth reads a boolean, "true", "t" or a number.
func truth(raw json.RawMessage, otherwise bool) bool {
	if raw == nil {
		return otherwise
	}
	s := scalar(raw)
	if n, err := strconv.ParseFloat(s, 64); err == nil {
		return n != 0
	}
	b, ok := parseBool(s)
	if !ok {
		return otherwise
	}
	return b
}

// texts reads an array of strings, leaving out what is not one.
func texts(raw json.RawMessage) []string {
	var items []json.RawMessage
	if json.Unmarshal(raw, &items) != nil {
		return nil
	}
	var all []string
	for _, item := range items {
		var s string
		if json.Unmarshal(item, &s) == nil && s != "" {
			all = append(all, s)
		}
	}
	return all
}
