package osquery

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"io"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/musterhq/muster/internal/errs"
)

// sample is one request of a real agent, see testdata.
type sample struct {
	name       string // label and kind
	kind       string
	body       []byte // inflated
	compressed bool
}

// samples returns all captured requests.
func samples(tb testing.TB) []sample {
	tb.Helper()
	b, err := os.ReadFile("testdata/wire-samples.json")
	if err != nil {
		tb.Fatal(err)
	}
	var file struct {
		Requests []struct {
			Label, Kind string
			Headers     [][2]string
			Body        string `json:"body_base64"`
		}
	}
	if err := json.Unmarshal(b, &file); err != nil {
		tb.Fatal(err)
	}
	var all []sample
	for _, r := range file.Requests {
		s := sample{name: r.Label + r.Kind, kind: r.Kind}
		if s.body, err = base64.StdEncoding.DecodeString(r.Body); err != nil {
			tb.Fatal(err)
		}
		for _, h := range r.Headers {
			s.compressed = s.compressed || h[0] == "Content-Encoding" && h[1] == "gzip"
		}
		if s.compressed {
			z, err := gzip.NewReader(bytes.NewReader(s.body))
			if err != nil {
				tb.Fatal(err)
			}
			if s.body, err = io.ReadAll(z); err != nil {
				tb.Fatal(err)
			}
		}
		all = append(all, s)
	}
	if len(all) != 21 {
		tb.Fatalf("testdata has %d requests, want 21", len(all))
	}
	return all
}

// TestSamples decodes each request of a real agent and encodes it again: the
// bytes must be those of the agent, but for bytes that are not UTF-8.
func TestSamples(t *testing.T) {
	keys := map[string]string{"default-event-format": "nk-1", "batch+numerics+snapshot-events+gzip": "nk-2", "decorations-top-level": "nk-3"}
	for _, s := range samples(t) {
		t.Run(s.name, func(t *testing.T) {
			wantKey := keys[s.name[:strings.IndexByte(s.name, '/')]]
			if s.kind == "/enroll" || s.kind == "/cblock" {
				wantKey = "" // they have none
			}
			key, err := DecodeNodeKey(s.body)
			if err != nil || key != wantKey {
				t.Fatalf("DecodeNodeKey = %q, %v; want %q", key, err, wantKey)
			}
			want := bytes.ReplaceAll(s.body, []byte("\xff"), []byte(`\\xFF`))
			var got []byte
			switch path, _, _ := strings.Cut(s.kind, ":"); path {
			case "/enroll":
				req, err := DecodeEnroll(s.body, EnrollSecretName)
				if err != nil {
					t.Fatal(err)
				}
				got, err = req.Encode()
				if err != nil {
					t.Fatal(err)
				}
			case "/config", "/read":
				got, err = KeyedRequest{NodeKey: key}.Encode()
			case "/write":
				answers, err := DecodeDistributedWrite(s.body)
				if err != nil {
					t.Fatal(err)
				}
				got, err = EncodeDistributedWrite(key, answers)
				if err != nil {
					t.Fatal(err)
				}
			case "/log":
				var req LogRequest
				if err := json.Unmarshal(s.body, &req); err != nil {
					t.Fatal(err)
				}
				want = s.body // lines are passed on as they are
				got = EncodeLog(req.NodeKey, req.LogType, req.Data, s.compressed)
			default:
				return // carving is not spoken yet; its key was read
			}
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("encoded again:\n got %s\nwant %s", got, want)
			}
		})
	}
}

func TestStatusLine_sample(t *testing.T) {
	t.Parallel()
	for _, s := range samples(t) {
		var req struct{ Data []json.RawMessage }
		if !strings.HasPrefix(s.kind, "/log:status") || strings.HasPrefix(s.name, "decorations-top-level") {
			continue
		}
		if err := json.Unmarshal(s.body, &req); err != nil || len(req.Data) == 0 {
			t.Fatal(err)
		}
		for _, line := range req.Data {
			var l StatusLine
			if err := json.Unmarshal(line, &l); err != nil {
				t.Fatal(err)
			}
			if got, err := l.Encode(); err != nil || !bytes.Equal(got, line) {
				t.Errorf("%v\n got %s\nwant %s", err, got, line)
			}
		}
	}
}

func TestDecodeEnroll_sample(t *testing.T) {
	t.Parallel()
	got, err := DecodeEnroll(samples(t)[0].body, EnrollSecretName)
	if err != nil {
		t.Fatal(err)
	}
	want := EnrollRequest{
		EnrollSecret: "s3cret-enroll", HostIdentifier: "example-host-1", PlatformType: "9",
		HostDetails: map[string]map[string]string{
			"os_version": {
				"_id": "12", "arch": "x86_64", "codename": "bookworm", "major": "12", "minor": "0",
				"name": "Debian GNU/Linux", "patch": "0", "pid_with_namespace": "0", "platform": "debian", "version": "12 (bookworm)",
			},
			"osquery_info": {
				"build_distro": "debian12", "build_platform": "linux", "config_hash": "", "config_valid": "0",
				"extensions": "inactive", "instance_id": "410bf454-89b7-40d1-8043-f60fcde20f3f", "pid": "24085",
				"platform_mask": "9", "start_time": "1795250701", "uuid": "b3e68175-1323-402d-9372-360437bfd488",
				"version": "5.23.0-38-ga5b14f63d", "watcher": "24083",
			},
		},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestDecodeEnroll(t *testing.T) {
	t.Parallel()
	tables := func(n int) string {
		var b strings.Builder
		for i := range n {
			if i > 0 {
				b.WriteByte(',')
			}
			b.WriteString(`"t` + strings.Repeat("x", i) + `":{"a":"b"}`)
		}
		return b.String()
	}
	long := strings.Repeat("ä", 1000) // 2,000 bytes
	tests := []struct {
		name, body string
		want       EnrollRequest
		problem    string // part of the error
	}{
		{
			name: "before 2.8, without details",
			body: `{"enroll_secret":" s \n","host_identifier":"h"}`,
			want: EnrollRequest{EnrollSecret: "s", HostIdentifier: "h", HostDetails: map[string]map[string]string{}},
		},
		{
			name: "numbers, null and odd details",
			body: `{"host_identifier":"h","platform_type":21,"host_details":{"os_version":{"major":12,"x":null,"y":true,"z":[1]},"odd":"","none":null}}`,
			want: EnrollRequest{HostIdentifier: "h", PlatformType: "21", HostDetails: map[string]map[string]string{
				"os_version": {"major": "12", "x": "", "y": "true", "z": ""},
			}},
		},
		{
			name: "NULs and white space at the end of cpu_brand, as 5.23.1 sends them",
			body: `{"host_identifier":"h","host_details":{"system_info":{"cpu_brand":"Intel(R) Xeon(R) CPU` + strings.Repeat(`\u0000`, 22) + `","hostname":"a\u0000b "}}}`,
			want: EnrollRequest{HostIdentifier: "h", HostDetails: map[string]map[string]string{
				"system_info": {"cpu_brand": "Intel(R) Xeon(R) CPU", "hostname": "ab"},
			}},
		},
		{
			name: "not UTF-8",
			body: "{\"host_identifier\":\"h\xff\",\"host_details\":{\"t\xfe\":{\"c\xfd\":\"v\xfc\"}}}",
			want: EnrollRequest{HostIdentifier: `h\xFF`, HostDetails: map[string]map[string]string{`t\xFE`: {`c\xFD`: `v\xFC`}}},
		},
		{
			name: "a long value is cut between characters",
			body: `{"host_identifier":"h","host_details":{"t":{"c":"x` + long + `"}}}`,
			want: EnrollRequest{HostIdentifier: "h", HostDetails: map[string]map[string]string{"t": {"c": "x" + strings.Repeat("ä", 511)}}},
		},
		{name: "no identifier", body: `{"enroll_secret":"s"}`, problem: "host_identifier: is missing"},
		{name: "identifier of NULs", body: `{"host_identifier":"\u0000\u0000"}`, problem: "host_identifier: is missing"},
		{name: "long identifier", body: `{"host_identifier":"` + strings.Repeat("h", 256) + `"}`, problem: "longer than 255"},
		{name: "no object", body: `[]`, problem: "array"},
		{name: "no JSON", body: `{"host_identifier"`, problem: "not JSON"},
		{name: "empty", body: ``, problem: "not JSON"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := DecodeEnroll([]byte(tt.body), EnrollSecretName)
			if tt.problem != "" {
				if !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), tt.problem) {
					t.Fatalf("error %v, want one with %q", err, tt.problem)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Error(d)
			}
		})
	}
	t.Run("too many tables and columns", func(t *testing.T) {
		t.Parallel()
		got, err := DecodeEnroll([]byte(`{"host_identifier":"h","host_details":{`+tables(100)+`}}`), EnrollSecretName)
		if err != nil || len(got.HostDetails) != maxDetailTables {
			t.Errorf("%d tables, %v", len(got.HostDetails), err)
		}
		columns := strings.ReplaceAll(tables(100), `{"a":"b"}`, `"v"`)
		got, err = DecodeEnroll([]byte(`{"host_identifier":"h","host_details":{"t":{`+columns+`}}}`), EnrollSecretName)
		if err != nil || len(got.HostDetails["t"]) != maxDetailColumns {
			t.Errorf("%d columns, %v", len(got.HostDetails["t"]), err)
		}
	})
}

func TestDecodeNodeKey(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, body, want string }{
		{"config", `{"node_key":"k"}`, "k"},
		{"empty", `{"node_key":""}`, ""},
		{"none", `{}`, ""},
		{"null", `{"node_key":null}`, ""},
		{"number", `{"node_key":12}`, "12"},
		{"spaces", ` { "node_key" : "k" } `, "k"},
		{"escapes", `{"node_key":"a\"b\\c\u0041"}`, `a"b\cA`},
		{"last, as in plain logs", `{"data":[{"a":"b"}],"log_type":"result","node_key":"k"}`, "k"},
		{"first, as in compressed logs", `{"node_key":"k","log_type":"result","data":[{"a":"b"}]}`, "k"},
		{"inside another", `{"data":[{"node_key":"no"}],"log_type":"result"}`, ""},
		{"inside a text at the end", `{"node_key":"k","a":",\"node_key\":\"no"}`, "k"},
		{"inside an object at the end", `{"node_key":"k","a":{"b":1,"node_key":"no"}}`, "k"},
		{"first with an escape", `{"node_key":"a\"","x":"y"}`, `a"`},
		{"last with an escape", `{"x":"y","node_key":"a\\"}`, `a\`},
		{"not UTF-8", "{\"node_key\":\"k\xff\"}", `k\xFF`},
		{"long", `{"x":1,"node_key":"` + strings.Repeat("k", 5000) + `"}`, strings.Repeat("k", 5000)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got, err := DecodeNodeKey([]byte(tt.body)); err != nil || got != tt.want {
				t.Errorf("got %q, %v; want %q", got, err, tt.want)
			}
		})
	}
	for _, body := range []string{``, `"`, `"}`, `{`, `{"node_key":"k`, `{"node_key":"k"`, `{"node_key":`, `"x"`, `42`, `null`, `[]`, `{"node_key":"k"x}`, `x,"node_key":"k"}`, `["a","node_key":"k"}`} {
		if key, err := DecodeNodeKey([]byte(body)); !errs.Is(err, errs.Invalid) {
			t.Errorf("%s: %q, %v; want an error", body, key, err)
		}
	}
}

// TestDecodeNodeKey_cost holds the two hottest calls, and the key of a large
// log request, to no more than the key itself.
func TestDecodeNodeKey_cost(t *testing.T) {
	lines := strings.Repeat(`{"name":"q","columns":{"a":"b"}},`, 30_000)
	for name, body := range map[string]string{
		"config":        `{"node_key":"nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn"}`,
		"log":           `{"data":[` + lines + `{}],"log_type":"result","node_key":"k"}`,
		"log with gzip": `{"node_key":"k","log_type":"result","data":[` + lines + `{}]}`,
	} {
		b := []byte(body)
		if n := testing.AllocsPerRun(20, func() {
			if _, err := DecodeNodeKey(b); err != nil {
				t.Fatal(err)
			}
		}); n > 1 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

// TestParseObject_cost: a small body must not cost memory without proportion.
func TestParseObject_cost(t *testing.T) {
	const size = 10 << 20
	junk := strings.Repeat("x", size)
	tests := []struct {
		name, body string
		kind       errs.Kind
	}{
		{"misspelt word in many levels", strings.Repeat(`{"a":[`, 140) + "nope" + junk, errs.Invalid},
		{"misspelt true", `{"a":tru` + junk, errs.Invalid},
		{"not a number", `{"a":nan}`, errs.Invalid},
		{"many small values", `{"a":[` + strings.Repeat("1,", size/2) + `1]}`, errs.TooLarge},
		{"many empty objects", `{"a":[` + strings.Repeat("{},", maxValues) + `1]}`, errs.TooLarge},
		{"string without end", `{"a":"` + strings.Repeat(`\"`, 1<<20), errs.Invalid},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			body := []byte(tt.body)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := DecodeDistributedWrite(body)
			runtime.ReadMemStats(&after)
			if errs.KindOf(err) != tt.kind || err == nil || len(err.Error()) > 1000 {
				t.Errorf("error of %d bytes: %.200v", len(err.Error()), err)
			}
			if n := after.TotalAlloc - before.TotalAlloc; n > size {
				t.Errorf("%d bytes for a body of %d", n, len(body))
			}
		})
	}
	if err := precheck([]byte(`{"a":"\\","b\"":[true,false,null,-1.5E+3],"c":"nope \\\" t"}`)); err != nil {
		t.Error("refused JSON:", err)
	}
}

func TestDecodeDistributedWrite(t *testing.T) {
	t.Parallel()
	stats := QueryStats{WallTimeMs: 3, UserTime: 10, SystemTime: 1, Memory: 1118208}
	tests := []struct {
		name, body string
		want       []QueryAnswer
	}{
		{"the sample with all kinds", string(samples(t)[5].body), []QueryAnswer{
			{ID: "q-empty", Rows: []Row{}},
			{ID: "q-err", Rows: []Row{}, Status: 1, Message: "no such table: no_such_table"},
			{ID: "q-ok", Rows: []Row{{{"version", "5.23.0-38-ga5b14f63d"}, {"running", "1"}}}, Stats: QueryStats{UserTime: 10}},
			{ID: "q-raw", Rows: []Row{{{"raw", `\xFFA`}}}},
			{ID: "q-req", Rows: []Row{}, Status: 1, Message: "Table file was queried without a required column in the WHERE clause"},
		}},
		{"the carve row", string(samples(t)[7].body), []QueryAnswer{{ID: "carve", Rows: []Row{{
			{"time", "1795250712"},
			{"sha256", ""},
			{"size", "-1"},
			{"path", "/tmp/proto/run/cv/b.txt"},
			{"status", "SCHEDULED"},
			{"carve_guid", "7c3556a5-ae36-4ba4-b7d3-d7d643be26cb"},
			{"request_id", "eb75b1e6-b19a-4517-8a3b-9f951c8e418c"},
			{"carve", "1"},
		}}}}},
		{"numbers as texts, rows as text, as before 3.0", `{"queries":{"a":"","b":[{"x":"1"}]},"statuses":{"a":"1","b":"0"}}`, []QueryAnswer{
			{ID: "a", Rows: []Row{}, Status: 1}, {ID: "b", Rows: []Row{{{"x", "1"}}}},
		}},
		{"stats as texts", `{"queries":{"a":[]},"stats":{"a":{"wall_time_ms":"3","user_time":" 10","system_time":1.0,"memory":1118208}}}`, []QueryAnswer{
			{ID: "a", Rows: []Row{}, Stats: stats},
		}},
		{"denylisted, with empty stats", `{"queries":{"a":[]},"statuses":{"a":1},"messages":{"a":"distributed query is denylisted"},"stats":{"a":{}}}`, []QueryAnswer{
			{ID: "a", Rows: []Row{}, Status: 1, Message: DenylistedMessage},
		}},
		{"scalars, null and nests in a row", `{"queries":{"a":[{"i":1,"f":1.50,"t":true,"n":null,"o":{"x":1}},[],"",null]}}`, []QueryAnswer{
			{ID: "a", Rows: []Row{{{"i", "1"}, {"f", "1.50"}, {"t", "true"}, {"n", ""}, {"o", ""}}, nil, nil, nil}},
		}},
		{"ids of any characters", `{"queries":{"a.b/\u00e4\"":[]},"statuses":{"a.b/ä\"":2}}`, []QueryAnswer{{ID: `a.b/ä"`, Rows: []Row{}, Status: 2}}},
		{"mad numbers", `{"queries":{"a":[]},"statuses":{"a":1e300},"stats":{"a":{"memory":"x"}}}`, []QueryAnswer{{ID: "a", Rows: []Row{}}}},
		{"nothing", `{"node_key":"k"}`, []QueryAnswer{}},
		{"null", `{"queries":null,"node_key":"k"}`, []QueryAnswer{}},
		{"empty", `{"queries":{},"node_key":"k"}`, []QueryAnswer{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := DecodeDistributedWrite([]byte(tt.body))
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Error(d)
			}
		})
	}
	if _, err := DecodeDistributedWrite([]byte(`"x"`)); !errs.Is(err, errs.Invalid) {
		t.Errorf("a scalar: %v", err)
	}
}

func TestEncodeDistributedWrite_denylisted(t *testing.T) {
	t.Parallel()
	got, err := EncodeDistributedWrite("k", []QueryAnswer{{ID: "a", Status: 1, Message: DenylistedMessage, Stats: QueryStats{Memory: 1}}})
	const want = `{"queries":{"a":[]},"statuses":{"a":1},"messages":{"a":"distributed query is denylisted"},"stats":{"a":{}},"node_key":"k"}`
	if err != nil || string(got) != want {
		t.Errorf("%s, %v", got, err)
	}
	if (QueryAnswer{Message: DenylistedMessage}).Denylisted() {
		t.Error("a success is denylisted")
	}
}

func TestDistributedReadResponse(t *testing.T) {
	t.Parallel()
	tests := []struct {
		r    DistributedReadResponse
		want string
	}{
		{DistributedReadResponse{Queries: map[string]string{}}, `{"queries":{}}`},
		{
			DistributedReadResponse{Queries: map[string]string{"b": "SELECT 1 WHERE 1<2 & 3>2", "a": "SELECT 'ä'"}, Discovery: map[string]string{"b": "SELECT 1"}, Accelerate: 60},
			`{"queries":{"a":"SELECT 'ä'","b":"SELECT 1 WHERE 1<2 & 3>2"},"discovery":{"b":"SELECT 1"},"accelerate":60}`,
		},
	}
	for _, tt := range tests {
		if got, err := tt.r.Encode(); err != nil || string(got) != tt.want {
			t.Errorf("%s, %v; want %s", got, err, tt.want)
		}
	}
}

func TestLogRequest_empty(t *testing.T) {
	t.Parallel()
	got := EncodeLog[[]byte]("k", LogTypeStatus, nil, false)
	if want := `{"data":[],"log_type":"status","node_key":"k"}`; string(got) != want {
		t.Errorf("%s; want %s", got, want)
	}
}
