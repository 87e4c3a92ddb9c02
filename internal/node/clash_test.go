package node

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/musterhq/muster/internal/errs"
)

func TestMachineOf(t *testing.T) {
	t.Parallel()
	const uuid = "4C4C4544-0042-3510-8052-B4C04F4E4D32"
	low := strings.ToLower(uuid)
	tests := []struct{ uuid, serial, want string }{
		{"", "", ""},
		{uuid, "", low + "/"},
		{uuid, " ABC123 ", low + "/abc123"},
		{"", "ABC/123", "/abc-123"},
		{"00000000-0000-0000-0000-000000000000", "0", ""},
		{"FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF", "None", ""},
		{"03000200-0400-0500-0006-000700080009", "To be filled by O.E.M.", ""},
		{"Not Specified", "Default string", ""},
		{uuid, "Not Specified", low + "/"},
	}
	for _, tt := range tests {
		if got := machineOf(map[string]string{"uuid": tt.uuid, "hardware_serial": tt.serial}); got != tt.want {
			t.Errorf("%q, %q: got %q, want %q", tt.uuid, tt.serial, got, tt.want)
		}
	}
	for _, tt := range []struct {
		a, b string
		want bool
	}{
		{"", "", false},
		{"u/s", "", false},
		{"u/s", "u/s", false},
		{"u/s", "u/", false},
		{"u/", "/s", false},
		{"u/s", "v/s", true},
		{"u/s", "u/t", true},
		{"u/", "v/", true},
		{"/s", "/t", true},
		{"u/s", "v/", true},
	} {
		if got := otherMachine(tt.a, tt.b); got != tt.want || otherMachine(tt.b, tt.a) != got {
			t.Errorf("%q and %q are different: %v, want %v", tt.a, tt.b, got, tt.want)
		}
	}
}

// describe is a node in one word each: instance, machine, certificate and
// address, "-" for what is not known.
func described(text string) (n Node) {
	fields := strings.Fields(text)
	for i, f := range []*string{&n.Instance, &n.Machine, &n.Certificate, &n.Address} {
		if fields[i] != "-" {
			*f = fields[i]
		}
	}
	return n
}

func TestClash(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, live, enrolling, want string }{
		{"the same", "i m/ c 1", "i m/ c 1", ""},
		{"nothing is known", "- - - -", "- - - -", ""},
		{"nothing is said", "i m/ c 1", "- - - -", ""},
		{"nothing was known", "- - - -", "i m/ c 1", ""},
		{"reinstalled in its place", "i m/ c 1", "j m/ c 1", ""},
		{"moved", "i m/ c 1", "i m/ c 2", ""},
		{"reinstalled and moved", "i m/ c 1", "j m/ c 2", "another osquery database, from 2 instead of 1"},
		{"reinstalled, address not known", "i m/ c 1", "j m/ c -", ""},
		{"another certificate", "i m/ c 1", "i m/ d 1", "another certificate, from 1"},
		{"without its certificate", "i m/ c 1", "i m/ - 1", ""},
		{"another machine", "i m/ c 1", "i n/ c 1", "another machine, from 1"},
		{"another machine, address not known", "i m/ - 1", "i n/ - -", "another machine, from an unknown address"},
		{"serial number only now", "i m/ - 1", "i m/s - 1", ""},
		{"all different", "i m/ c 1", "j n/ d 2", "another certificate, from 2"},
	}
	for _, tt := range tests {
		if got := clash(described(tt.live), described(tt.enrolling)); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}

// TestClashPolicy_verdict: p is the node with the host identifier, a and b are
// clones of it.
func TestClashPolicy_verdict(t *testing.T) {
	t.Parallel()
	const p, a, b = "p: i m/ c 1", "a: j n/ d 2", "b: i o/ e 3"
	tests := []struct {
		name      string
		known     []string
		alive     string // ids
		enrolling string
		// What quarantine makes of it: an id, or "new", or "clone of" an id; then
		// on whom a clash is counted.
		want, clash string
	}{
		{"the first", nil, "", "i m/ c 1", "new", ""},
		{"again", []string{p}, "p", "i m/ c 1", "p", ""},
		{"again from elsewhere", []string{p}, "p", "i m/ c 9", "p", ""},
		{"reinstalled while it was away", []string{p}, "", "x x/ x 9", "p", ""},
		{"another while it lives", []string{p}, "p", "j n/ d 2", "clone of p", "p"},
		{"the copy of its disk", []string{p}, "p", "i n/ - 1", "clone of p", "p"},
		{"the clone again", []string{p, a}, "p a", "j n/ d 2", "a", ""},
		{"the clone again when the node is away", []string{p, a}, "a", "j n/ d 9", "a", ""},
		{"the clone again after all were away", []string{p, a}, "", "j n/ - 9", "a", ""},
		{"the clone reinstalled in its place", []string{p, a}, "p", "x n/ d 2", "a", ""},
		{"the clone reinstalled and moved", []string{p, a}, "", "x n/ d 9", "a", ""},
		{"the clone with another certificate", []string{p, a}, "p a", "j n/ x 2", "clone of p", "a"},
		{"the clone with another certificate, later", []string{p, a}, "p", "j n/ x 2", "a", ""},
		{"the node beside its disk's copy", []string{p, b}, "p b", "i m/ c 3", "p", ""},
		{"the disk's copy beside the node", []string{p, b}, "p b", "i o/ e 1", "b", ""},
		{"a third of the same disk", []string{p, b}, "p b", "i q/ f 1", "clone of p", "p"},
		{"neither is known by its machine", []string{"p: i - - 1", "a: i - - 2"}, "p a", "i - - 2", "a", ""},
		{"nothing decides: the node", []string{"p: i - - 1", "a: i - - 2"}, "p a", "i - - 3", "p", ""},
		{"a machine's second agent reinstalled", []string{"p: i m/ - 1", "a: j m/ - 2"}, "p a", "x m/ - 2", "a", ""},
		{"a machine's first agent reinstalled", []string{"p: i m/ - 1", "a: j m/ - 2"}, "p a", "x m/ - 1", "p", ""},
		{"a machine's third agent", []string{"p: i m/ - 1", "a: j m/ - 2"}, "p a", "x m/ - 3", "clone of p", "p"},
		{"the node is gone, its clone is not", []string{a}, "a", "j n/ d 2", "a", ""},
		{"the node is gone, somebody else comes", []string{a}, "a", "x x/ x 9", "new", ""},
		{"nothing is said", []string{p, a}, "p a", "- - - -", "p", ""},
	}
	for _, tt := range tests {
		var known []Node
		for _, text := range tt.known {
			id, rest, _ := strings.Cut(text, ": ")
			k := described(rest)
			if k.ID = id; id != "p" {
				k.CloneOf = "p"
			}
			known = append(known, k)
		}
		n := described(tt.enrolling)
		n.ID, n.EnrolledAt = "new", time.Now()
		alive := func(n Node) bool { return strings.Contains(tt.alive, n.ID) }

		v, err := ClashPolicy("").verdict(n, known, alive)
		got := v.Node.ID
		if got == "new" && v.Node.CloneOf != "" {
			got = "clone of " + v.Node.CloneOf
		}
		if err != nil || got != tt.want || v.ClashOf != tt.clash || (v.ClashReason != "") != (tt.clash != "") {
			t.Errorf("%s: got %s, clash of %q for %q, %v; want %s and %q", tt.name, got, v.ClashOf, v.ClashReason, err, tt.want, tt.clash)
		}
		if q := v.Node.Quarantined(); q != strings.HasPrefix(tt.want, "clone of") || q != strings.Contains(v.Node.QuarantineReason, "live") {
			t.Errorf("%s: quarantine is %v: %q", tt.name, q, v.Node.QuarantineReason)
		}
		if w, _ := ClashQuarantine.verdict(n, known, alive); !cmp.Equal(v, w) {
			t.Errorf("%s: quarantine is not what no policy means", tt.name)
		}

		// The other policies differ in clashes alone.
		v, err = ClashAllow.verdict(n, known, alive)
		if want := map[bool]string{false: tt.want, true: tt.clash}[tt.clash != ""]; err != nil || v.Node.ID != want || v.ClashOf != tt.clash {
			t.Errorf("%s: allow makes it %s, clash of %q, %v", tt.name, v.Node.ID, v.ClashOf, err)
		}
		v, err = ClashRefuse.verdict(n, known, alive)
		if errs.Is(err, errs.Forbidden) != (tt.clash != "") || v.ClashOf != tt.clash || err == nil && v.Node.ID != tt.want {
			t.Errorf("%s: refuse makes it %s, clash of %q, %v", tt.name, v.Node.ID, v.ClashOf, err)
		}
	}
}

// TestNode_as: what an agent says is new, the rest stays.
func TestNode_as(t *testing.T) {
	t.Parallel()
	then, now := time.Now().Add(-time.Hour), time.Now()
	k := Node{
		ID: "k", HostIdentifier: "h", Hostname: "old", Address: "1", Tags: []string{"hand", "old"}, Secret: "a", Enrolments: 3, EnrolledAt: then, LastSeen: then,
		Seen: Seen{EndpointLog: then}, Patience: time.Minute, Instance: "i", Clashes: 2, LastClash: then, ClashReason: "r",
		CloneOf: "p", QuarantinedAt: then, QuarantineReason: "q", Attributes: map[string]string{"a": "b"}, Version: 7,
		TagSources: []TagSource{{"hand", SourceHand}, {"old", "secret:a"}},
	}
	n := Node{
		ID: "n", HostIdentifier: "h", Hostname: "new", Tags: []string{"given"}, Secret: "b", Enrolments: 1, EnrolledAt: now, LastSeen: now,
		Seen: Seen{EndpointEnroll: now}, Instance: "j", Details: map[string]map[string]string{"os_version": {}},
		TagSources: []TagSource{{"given", "secret:b"}},
	}
	want := k
	want.Hostname, want.Tags, want.Secret, want.Enrolments, want.LastSeen = "new", []string{"given", "hand"}, "b", 4, now
	want.TagSources = []TagSource{{"given", "secret:b"}, {"hand", SourceHand}}
	want.Seen[EndpointEnroll], want.Instance, want.Details, want.Version = now, "j", n.Details, 0
	if d := cmp.Diff(want, n.as(k)); d != "" {
		t.Error(d)
	}
}

func TestCertBinding_admits(t *testing.T) {
	t.Parallel()
	mine, another := Certificate{Fingerprint: "f", Names: []string{"x", "Web-1"}}, Certificate{Fingerprint: "g", Names: []string{"web-2"}}
	for _, tt := range []struct {
		binding CertBinding
		want    string // for mine, another and none
	}{
		{"", "true true true"},
		{BindOff, "true true true"},
		{BindFingerprint, "true true false"},
		{BindSAN, "true false false"},
	} {
		var got []string
		for _, c := range []Certificate{mine, another, {}} {
			err := tt.binding.admits(c, "web-1")
			if err != nil && !errs.Is(err, errs.Forbidden) {
				t.Error(err)
			}
			got = append(got, fmt.Sprint(err == nil))
		}
		if strings.Join(got, " ") != tt.want {
			t.Errorf("%q admits %v, want %s", tt.binding, got, tt.want)
		}
	}
}

func TestMergeTags(t *testing.T) {
	t.Parallel()
	many := make([]string, 0, MaxTags)
	for i := range MaxTags {
		many = append(many, fmt.Sprintf("t%02d", i))
	}
	for _, tt := range []struct{ had, given, want []string }{
		{nil, nil, nil},
		{[]string{"c", "a"}, []string{"b", "a", "b"}, []string{"a", "b", "c"}},
		{many, []string{"t00", "more"}, many},
		{many[1:], []string{"a", "b"}, append([]string{"a"}, many[1:]...)},
		{append([]string{"a", "b"}, many...), []string{"c"}, append([]string{"a", "b"}, many...)}, // what it had it keeps
	} {
		if d := cmp.Diff(tt.want, MergeTags(tt.had, tt.given)); d != "" {
			t.Error(d)
		}
	}
}
