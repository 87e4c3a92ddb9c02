package health_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/musterhq/muster/internal/health"
)

func TestParseInventory(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		text string
		want string // names, or the error
	}{
		"lines":     {"web-1\n\n# comment\nweb-2\r\n", "web-1 web-2"},
		"head":      {"hostname\nweb-1\n", "web-1"},
		"csv":       {"Owner,Hostname,IP Address\nann,web-1,192.0.2.1\nbob,,192.0.2.2\n,,\n", "web-1 192.0.2.2"},
		"semicolon": {"name;owner\nweb-1;ann\n", "web-1"},
		"array":     {`["web-1",{"fqdn":"web-2.example.com","cores":4}]`, "web-1 web-2.example.com"},
		"ndjson":    {"{\"name\":\"a\"}\n{\"name\":\"b\"}\n", "a b"},
		"empty":     {" \n", "inventory: is empty"},
		"nothing":   {"owner,size\nann,4\n", "inventory: names no host; use one of the columns hostname, host, name, fqdn, computer_name, dns_name, host_identifier, uuid, hardware_uuid, node_id, id, ip, ip_address, address"},
		"number":    {`[1]`, "inventory: has 1 where a host should be; use an object or a text"},
		"no json":   {`{"name":`, "inventory: is no JSON: unexpected EOF"},
	} {
		hosts, err := health.ParseInventory(strings.NewReader(c.text))
		var names []string
		for _, h := range hosts {
			names = append(names, h.Name)
		}
		got := strings.Join(names, " ")
		if err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}

func TestCompare(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 30, 0, 0, 0, 0, time.UTC)
	nodes := []health.Known{
		{ID: "1", Hostname: "web-1.example.com", LastSeen: now},
		{ID: "2", Hostname: "WEB-2", LastSeen: now.AddDate(0, 0, -30)},
		{ID: "3", Hostname: "db", HostIdentifier: "uuid-3", LastSeen: now},
		{ID: "4", Hostname: "db", LastSeen: now},
		{ID: "5", Hostname: "nobodys", LastSeen: now},
	}
	hosts := []health.Host{
		{Name: "web-1", Words: []string{"web-1"}},
		{Name: "web-2.example.com", Words: []string{"web-2.example.com"}},
		{Name: "three", Words: []string{"UUID-3"}},
		{Name: "db", Words: []string{"db"}},
		{Name: "ghost", Words: []string{"ghost", "192.0.2.9"}},
	}
	c := health.Compare(hosts, nodes, now.AddDate(0, 0, -7))
	got := map[string][]string{}
	for _, m := range c.Covered {
		got["covered"] = append(got["covered"], m.Host.Name+"="+m.Node.ID)
	}
	for _, m := range c.Stale {
		got["stale"] = append(got["stale"], m.Host.Name+"="+m.Node.ID)
	}
	for _, h := range c.Missing {
		got["missing"] = append(got["missing"], h.Name)
	}
	for _, h := range c.Unclear {
		got["unclear"] = append(got["unclear"], h.Name)
	}
	for _, n := range c.Unknown {
		got["unknown"] = append(got["unknown"], n.ID)
	}
	want := map[string][]string{
		"covered": {"web-1=1", "three=3"}, "stale": {"web-2.example.com=2"}, "missing": {"ghost"}, "unclear": {"db"}, "unknown": {"5"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// FuzzParseInventory: whatever a list holds, each host has a name.
func FuzzParseInventory(f *testing.F) {
	for _, text := range []string{"a\nb", "hostname,ip\na,b\n", `[{"name":"x"},"y"]`, "a;b\n\"c"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		hosts, err := health.ParseInventory(strings.NewReader(text))
		if err != nil {
			return
		}
		for _, h := range hosts {
			if h.Name == "" || len(h.Words) == 0 {
				t.Errorf("%+v", h)
			}
		}
		health.Compare(hosts, []health.Known{{ID: "1", Hostname: "a"}}, time.Time{})
	})
}
