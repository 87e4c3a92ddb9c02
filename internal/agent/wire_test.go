package agent

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// A sample is a request captured from a real agent.
type sample struct {
	Label   string      `json:"label"`
	Kind    string      `json:"kind"`
	Path    string      `json:"path"`
	Method  string      `json:"method"`
	Headers [][2]string `json:"headers"`
	Body    []byte      `json:"body_base64"`
}

func samples(t *testing.T) []sample {
	t.Helper()
	text, err := os.ReadFile("../osquery/testdata/wire-samples.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Requests []sample }
	if err := json.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	for i, s := range file.Requests {
		if slices.Contains(s.Headers, [2]string{"Content-Encoding", "gzip"}) {
			z, err := gzip.NewReader(bytes.NewReader(s.Body))
			if err != nil {
				t.Fatal(err)
			}
			if file.Requests[i].Body, err = io.ReadAll(z); err != nil {
				t.Fatal(err)
			}
		}
	}
	return file.Requests
}

// isData reports whether a member's own keys are data: columns, query ids.
func isData(key string) bool {
	return slices.Contains([]string{
		"columns", "decorations", "queries", "statuses", "messages", "stats", "host_details",
	}, key)
}

// shapes returns the forms of a JSON value: its members in order with their
// types. Members that are data appear as their types alone, array elements as
// the set of their forms, and rows of snapshots and differences as objects.
func shapes(t *testing.T, body []byte) string {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	var value func(key string) string
	value = func(key string) string {
		token, err := d.Token()
		if err != nil {
			t.Fatalf("%s: %v", body, err)
		}
		switch v := token.(type) {
		case json.Delim:
			var parts []string
			for d.More() {
				if v == '[' {
					parts = append(parts, value(key))
					continue
				}
				name, err := d.Token()
				if err != nil {
					t.Fatal(err)
				}
				part := value(name.(string))
				if !isData(key) && !slices.Contains([]string{"snapshot", "added", "removed", "os_version", "osquery_info", "system_info", "platform_info"}, key) {
					part = name.(string) + ":" + part
				}
				parts = append(parts, part)
			}
			end, err := d.Token()
			if err != nil {
				t.Fatal(err)
			}
			if v == '[' || isData(key) {
				slices.Sort(parts)
				parts = slices.Compact(parts)
			}
			if strings.Contains("snapshot added removed os_version osquery_info system_info platform_info", key) && key != "" && v == '{' {
				slices.Sort(parts)
				parts = slices.Compact(parts)
			}
			return v.String() + strings.Join(parts, " ") + end.(json.Delim).String()
		case string:
			return "string"
		case json.Number:
			if strings.ContainsAny(v.String(), ".eE") {
				return "double"
			}
			return "integer"
		case bool:
			return "bool"
		}
		return "null"
	}
	return value("")
}

// kind groups requests that must look alike.
func kind(path string, body []byte) string {
	if path != "/log" {
		return path
	}
	if bytes.Contains(body, []byte(`"log_type":"status"`)) {
		return "/log status"
	}
	return "/log result"
}

func headerNames(headers [][2]string) string {
	var names []string
	for _, h := range headers {
		name := h[0]
		if !slices.Contains([]string{"User-Agent", "Authorization", "Host", "Content-Length"}, name) {
			name += "=" + h[1]
		}
		names = append(names, name)
	}
	return strings.Join(names, ", ")
}

// split returns the forms of a body, and of the lines of a log request each.
func split(t *testing.T, path string, body []byte) (whole string, lines []string) {
	t.Helper()
	if path != "/log" {
		return shapes(t, body), nil
	}
	var log struct {
		Data []json.RawMessage `json:"data"`
	}
	if err := json.Unmarshal(body, &log); err != nil {
		t.Fatal(err)
	}
	for _, line := range log.Data {
		lines = append(lines, shapes(t, line))
	}
	whole = shapes(t, body)
	from, to := strings.Index(whole, "["), strings.LastIndex(whole, "]")
	return whole[:from+1] + whole[to:], lines
}

// TestRequests_likeSamples compares what this agent sends with what a real
// one sent under the same three sets of options.
func TestRequests_likeSamples(t *testing.T) {
	schedule := `"schedule":{
		"processes_like":{"query":"SELECT 'osqueryd' AS name, unix_time AS pid, 1.5 AS load FROM time","interval":2},
		"pack_it_one":{"query":"SELECT 1 AS one","interval":2},
		SNAPSHOTS"broken":{"query":"SELECT * FROM no_such_table","interval":5}},
		"decorators":{"load":["SELECT 'dc1' AS site"],"always":["SELECT 'always' AS mode"]}`
	snapshots := `"empty_snapshot":{"query":"SELECT 1 WHERE 0","interval":5,"snapshot":true},
		"nonutf8_snapshot":{"query":"SELECT 'ab' || CAST(x'ff' AS TEXT) AS raw, char(1) AS ctl, 1 AS id","interval":5,"snapshot":true},`
	for _, test := range []struct{ label, flags, options string }{
		{"default-event-format", "", ``},
		{"batch+numerics+snapshot-events+gzip", "--logger_event_type=false\n--logger_numerics=true\n--logger_snapshot_event_type=true\n--logger_tls_compress=true", ``},
		{"decorations-top-level", "", `,"options":{"decorations_top_level":true}`},
	} {
		t.Run(test.label, func(t *testing.T) {
			heads, wholes, lines := map[string][]string{}, map[string][]string{}, map[string][]string{}
			for _, s := range samples(t) {
				if s.Label != test.label {
					continue
				}
				k := kind(s.Path, s.Body)
				whole, each := split(t, s.Path, s.Body)
				heads[k] = append(heads[k], s.Method+" "+headerNames(s.Headers))
				wholes[k] = append(wholes[k], whole)
				lines[k] = append(lines[k], each...)
			}
			synctest.Test(t, func(t *testing.T) {
				more := snapshots
				if len(test.flags) > 0 {
					more = "" // no line of a snapshot was captured with these
				}
				sc := &script{config: `{` + strings.Replace(schedule, "SNAPSHOTS", more, 1) + test.options + `}`, read: []string{
					`{"queries":{"q-empty":"SELECT 1 WHERE 0","q-err":"SELECT * FROM no_such_table","q-ok":"SELECT version, 1 AS running FROM osquery_info","q-raw":"SELECT CAST(x'ff41' AS TEXT) AS raw","q-req":"SELECT * FROM file"}}`,
				}}
				file := filepath.Join(t.TempDir(), "b.txt")
				if err := os.WriteFile(file, []byte("carved"), 0o600); err != nil {
					t.Fatal(err)
				}
				sc.read = append(sc.read, `{"queries":{"carve":"SELECT * FROM carves WHERE path = '`+file+`' AND carve = 1"}}`)
				s := newServer(t, sc.answer)
				_, stop := startWith(t, s, Options{
					Flags: testFlags(t, test.flags+carveFlags+"--carver_block_size=1000"),
					Carve: CarveOptions{Every: time.Second, TempDir: t.TempDir()},
				})
				pass(t, 30*time.Second)
				stop()
				seen := map[string]bool{}
				for _, r := range s.requests {
					k := kind(r.path, r.body)
					if len(heads[k]) == 0 {
						continue // this set of samples has none
					}
					seen[k] = true
					if head := r.method + " " + headerNames(r.headers); !slices.Contains(heads[k], head) {
						t.Errorf("%s: head\n got %s\nwant %s", k, head, heads[k][0])
					}
					whole, each := split(t, r.path, r.body)
					if k == "/enroll" { // osquery left out system_info when these were captured
						whole = strings.Replace(whole, " system_info:{string}", "", 1)
						whole = strings.Replace(whole, " platform_info:{string}", "", 1)
						whole = strings.ReplaceAll(whole, "{string} {string}", "{string}")
					}
					if !slices.Contains(wholes[k], whole) {
						t.Errorf("%s: body\n got %s\nwant %s", k, whole, strings.Join(slices.Compact(wholes[k]), "\n  or "))
					}
					for i, line := range each {
						if k == "/log status" { // captured before the always decorators first ran
							line = strings.Replace(line, " mode:string site:string", " site:string", 1)
						}
						if len(test.flags) > 0 { // nothing was removed while these were captured
							line = strings.Replace(line, "removed:[{double integer string}]", "removed:[]", 1)
						}
						if !slices.Contains(lines[k], line) {
							t.Fatalf("%s: line %d of %.300s\n got %s\nwant %s", k, i, r.body, line, strings.Join(slices.Compact(slices.Sorted(slices.Values(lines[k]))), "\n  or "))
						}
					}
					if want := "muster.test:8443"; r.header("Host") != want {
						t.Errorf("Host %s, want %s", r.header("Host"), want)
					}
				}
				for k := range heads {
					if !seen[k] {
						t.Errorf("no request %s", k)
					}
				}
			})
		})
	}
}

// TestRequests_bytes makes captured lines again, byte for byte.
func TestRequests_bytes(t *testing.T) {
	f := format{perRow: true}
	e := execution{
		name: "processes_like", host: "example-host-1", at: time.Unix(1795250724, 0), counter: 4,
		decorations: map[string]string{"site": "dc1", "mode": "always"},
		removed:     [][]byte{[]byte(`{"load":"1.5","name":"osqueryd","pid":"299208453"}`)},
		added:       [][]byte{[]byte(`{"load":"1.5","name":"osqueryd","pid":"299208454"}`)},
	}
	got := f.lines(e)
	e.snapshot, e.name, e.counter, e.at = true, "nonutf8_snapshot", 0, time.Unix(1795250725, 0)
	e.snapshotResults = [][]byte{(&object{
		keys:   []string{"ctl", "id", "raw"},
		values: map[string][]byte{"ctl": quoted("\x01"), "id": quoted("1"), "raw": quoted("ab\xff")},
	}).encode()}
	got = append(got, f.lines(e)...)
	for _, s := range samples(t) {
		if s.Kind != "/log:result:big" || s.Label != "default-event-format" {
			continue
		}
		for _, line := range got {
			if !bytes.Contains(s.Body, line) {
				t.Errorf("the captured request does not hold\n%s", line)
			}
		}
		return
	}
	t.Error("no such sample")
}

func TestHash(t *testing.T) {
	for _, test := range []struct{ a, b string }{
		{`{ "a" : [1, 2.50, {"x":null}], "b":{"c":true,"d":"e\/fü"} }`, "{\"a\":[1,2.50,{\"x\":null}],\n\"b\":{\"c\":true,\"d\":\"e/fü\"}}"},
	} {
		a, err := Hash([]byte(test.a))
		if err != nil {
			t.Fatal(err)
		}
		b, err := Hash([]byte(test.b))
		if err != nil || a != b {
			t.Errorf("got %s and %s, %v", a, b, err)
		}
	}
	compact, err := compactJSON([]byte(`{ "a" : [ ] , "b": {} , "c" : [ {} , [1,"\u001f"] ] }`))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(`{"a":[],"b":{},"c":[{},[1,"\u001F"]]}`, string(compact)); diff != "" {
		t.Error(diff)
	}
}
