package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/musterhq/muster/internal/adminapi"
)

func TestParseNodes(t *testing.T) {
	two := []lineNode{
		{adminapi.ImportNode{HostIdentifier: "A-1", NodeKey: "key one", Hostname: "a", Platform: "ubuntu", OsqueryVersion: "5.9.1", Tags: []string{"web", "db"}}, 0},
		{adminapi.ImportNode{HostIdentifier: "B-2", NodeKey: "key two"}, 0},
	}
	at := func(lines ...int) []lineNode {
		nodes := append([]lineNode(nil), two...)
		for i, line := range lines {
			nodes[i].line = line
		}
		return nodes
	}
	for name, c := range map[string]struct {
		text    string
		want    []lineNode
		bad     []badLine
		ignored []string
	}{
		"CSV": {
			text: "host_identifier,node_key,hostname,platform,osquery_version,tags\nA-1,key one,a,ubuntu,5.9.1,\"web,db\"\nB-2,key two,,,,\n",
			want: at(2, 3),
		},
		"CSV of a spreadsheet": {
			text: "\ufeffUUID;Node Key;Computer-Name;Platform;osquery_version;TAGS;Last User\r\n\r\nA-1;key one;a;ubuntu;5.9.1;web db;root\r\nB-2;key two;;;;;\r\n",
			want: at(3, 4), ignored: []string{"last_user"},
		},
		"MySQL's tabs": {
			text: "id\tosquery_host_id\tuuid\tnode_key\thostname\tcomputer_name\tplatform\tosquery_version\ttags\n" +
				"1\tA-1\tHW-1\tkey one\tNULL\ta\tubuntu\t5.9.1\t{web,db}\n2\tB-2\tHW-2\tkey two\tNULL\tNULL\tNULL\tNULL\tNULL\n",
			want: at(2, 3), ignored: []string{"id"},
		},
		"JSON array": {
			text: "[\n {\"uuid\": \"A-1\", \"key\": \"key one\", \"hostname\": \"a\", \"platform\": \"ubuntu\",\n  \"osquery_version\": \"5.9.1\", \"tags\": [\"web\", \"db\"]},\n" +
				" {\"host_identifier\": \"B-2\", \"node_key\": \"key two\", \"hostname\": null}\n]\n",
			want: at(2, 4),
		},
		"one object per line": {
			text: "\n{\"osquery_host_id\":\"A-1\",\"uuid\":\"HW\",\"node_key\":\"key one\",\"hostname\":\"a\",\"platform\":\"ubuntu\",\"osquery_version\":\"5.9.1\",\"tags\":\"web;db\"}\n\n" +
				"{\"uuid\":\"B-2\",\"node_key\":\"key two\",\"seen\":{\"x\":1}}",
			want: at(2, 4), ignored: []string{"seen"},
		},
		"a number as identifier": {
			text: `[{"uuid":12345678901234567890,"key":"k"}]`,
			want: []lineNode{{adminapi.ImportNode{HostIdentifier: "12345678901234567890", NodeKey: "k"}, 1}},
		},
		"bad lines of CSV": {
			text: "uuid,key\nA-1\nx,y,z\nA\"1,key\nlast,\"one\ntwo\n",
			bad: []badLine{
				{2, "has 1 columns, and the header has 2"},
				{3, "has 3 columns, and the header has 2"},
				{4, "has a quote in a field; put the field in quotes, and write the one inside twice"},
				{5, "has a quote that does not end; the lines up to 6 were not read"},
			},
		},
		"bad lines of objects": {
			text: "{\"uuid\":\"A-1\"\n{}{}\n{\"uuid\":\"B-2\",\"key\":\"key two\"}\nnull\n[1]\n",
			want: []lineNode{{two[1].ImportNode, 3}},
			bad: []badLine{
				{1, "is no JSON object"},
				{2, "holds more than one JSON object; write each on a line of its own"},
				{4, "is no JSON object"},
				{5, "is no JSON object"},
			},
		},
		"bad parts of an array": {
			text: "[{\"uuid\":\"B-2\",\"key\":\"key two\"},\n7,\n{\"uuid\"",
			want: []lineNode{{two[1].ImportNode, 1}},
			bad:  []badLine{{2, "is no JSON object"}, {3, "is not JSON; what comes after it was not read"}},
		},
		"two arrays": {
			text: "[{\"uuid\":\"B-2\",\"key\":\"key two\"}]\n\n[]",
			want: []lineNode{{two[1].ImportNode, 1}},
			bad:  []badLine{{3, "something comes after the array; it was not read"}},
		},
		"an array without end": {
			text: "[{\"uuid\":\"B-2\",\"key\":\"key two\"}\n",
			want: []lineNode{{two[1].ImportNode, 1}},
			bad:  []badLine{{2, "the array has no end; a part of the file may be missing"}},
		},
	} {
		got, err := parseNodes(strings.NewReader(c.text))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if diff := cmp.Diff(nodeFile{c.want, c.bad, c.ignored}, got, cmp.AllowUnexported(nodeFile{}, lineNode{}, badLine{}), cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	for name, c := range map[string]struct{ text, want string }{
		"empty":          {"\n \n", "is empty"},
		"no header":      {"A-1,key one\n", "osquery_host_id"},
		"no key":         {"uuid,hostname\nA-1,a\n", "node_key or key"},
		"a broken quote": {"\"uuid,key\n", "header line"},
	} {
		if _, err := parseNodes(strings.NewReader(c.text)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v; want one about %s", name, err, c.want)
		}
	}
}

// FuzzParseNodes checks that what was read of any file is read the same from
// lines of JSON, and that nothing is told of a place outside the file.
func FuzzParseNodes(f *testing.F) {
	f.Add("uuid,key,tags\na,b,\"c,d\"\n\"")
	f.Add("[{\"uuid\":\"a\",\"tags\":[\"x\"]},\n3")
	f.Add("{\"uuid\":\"a\"}\n{}")
	f.Add("\ufeffuuid\tkey\nNULL\tb")
	f.Fuzz(func(t *testing.T, text string) {
		got, err := parseNodes(strings.NewReader(text))
		if err != nil {
			return
		}
		lines := strings.Count(text, "\n") + 1
		var again strings.Builder
		for _, n := range got.nodes {
			if n.line < 1 || n.line > lines {
				t.Fatalf("line %d of %d", n.line, lines)
			}
			b, err := json.Marshal(n.ImportNode)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&again, "%s\n", b)
		}
		for _, b := range got.bad {
			if b.line < 1 || b.line > lines {
				t.Fatalf("line %d of %d", b.line, lines)
			}
		}
		if len(got.nodes) == 0 {
			return
		}
		second, err := parseNodes(strings.NewReader(again.String()))
		if err != nil || len(second.nodes) != len(got.nodes) || len(second.bad)+len(second.ignored) > 0 {
			t.Fatalf("%v: %d nodes of %d in\n%s", err, len(second.nodes), len(got.nodes), again.String())
		}
	})
}

func TestImport_dryRun(t *testing.T) {
	t.Setenv("MUSTER_HOME", t.TempDir()) // nobody is logged in: nothing is sent
	file := filepath.Join(t.TempDir(), "nodes.csv")
	text := "uuid,key,tags\nh1,0123456789abcdef,\nh2,the-short-key,\n,0123456789abcdef,\nh4,0123456789abcdef,No!\n\x1b[2J,0123456789abcde,\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	out, errOut, code := muster(t, "import", "nodes", file, "--dry-run")
	if code != exitPartly || !strings.Contains(errOut, "4 of 5 nodes were refused") {
		t.Errorf("exit code %d: %s", code, errOut)
	}
	for _, want := range []string{"3     h2", "node_key has fewer than 16 bytes", "4  ", "host_identifier is missing", "5     h4", "tags \"No!\" is no tag", `\u001b[2J`, "1 would be sent, 4 refused"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	if strings.Contains(out+errOut, "the-short-key") || strings.Contains(out+errOut, "\x1b") {
		t.Errorf("a key or an escape is shown:\n%s", out+errOut)
	}
	out, _, code = muster(t, "import", "nodes", file, "--dry-run", "-o", "json")
	var r importReport
	if err := json.Unmarshal([]byte(out), &r); err != nil || code != exitPartly || !r.DryRun || r.Nodes != 5 || r.Refused != 4 || len(r.Problems) != 4 || r.Problems[0].Line != 3 {
		t.Errorf("exit code %d, %v: %s", code, err, out)
	}
}
