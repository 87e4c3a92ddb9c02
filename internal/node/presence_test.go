package node

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func addr(t *testing.T, s string) netip.Addr {
	t.Helper()
	a, err := netip.ParseAddr(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// TestPresence_patience: how long a node may be silent follows from its habits.
func TestPresence_patience(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	every := func(d time.Duration, n int) (gaps []time.Duration) {
		for range n {
			gaps = append(gaps, d)
		}
		return gaps
	}
	for _, tt := range []struct {
		name string
		gaps []time.Duration
		want time.Duration
	}{
		{"never seen", nil, OfflineAfter},
		{"seen once", every(0, 1), OfflineAfter},
		{"polls often", every(10*time.Second, 20), OfflineAfter},
		{"polls seldom", every(20*time.Minute, 3), time.Hour},
		{"hardly ever", every(24*time.Hour, 5), maxPatience},
		{"one night is no habit", append(every(10*time.Second, 5), 9*time.Hour, 10*time.Second), OfflineAfter},
		{"changed to often", append(every(20*time.Minute, 3), every(10*time.Second, 100)...), OfflineAfter},
		{"bursts", append(every(20*time.Minute, 3), every(100*time.Millisecond, 100)...), time.Hour},
		{"the clock goes back", append(every(20*time.Minute, 3), -365*24*time.Hour), time.Hour},
		{"the clock goes forward", append(every(time.Minute, 30), 365*24*time.Hour, time.Minute), 3 * time.Minute},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p, now := newPresence(Node{}), start
			for _, gap := range tt.gaps {
				now = now.Add(gap)
				p.touch(now, netip.Addr{}, EndpointRead)
			}
			if got := p.patience(); got != tt.want {
				t.Errorf("%s, want %s", got, tt.want)
			}
			// It is the same after a restart.
			if got := newPresence(Node{Patience: p.patience()}).patience(); got != tt.want {
				t.Errorf("after a restart %s, want %s", got, tt.want)
			}
		})
	}
}

// TestPresence_take: what the store is told, once, and again when it failed.
func TestPresence_take(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	p := newPresence(Node{Address: "192.0.2.1", LastSeen: now.Add(-time.Hour)})
	check := func(what string, want Touch) Touch {
		t.Helper()
		want.ID, want.Seen, want.Patience = "1", p.lastSeen(), OfflineAfter
		for i := range want.At {
			want.At[i] = micros(p.at[i].Load())
		}
		got := p.take("1", now)
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s: %s", what, d)
		}
		return got
	}
	p.touch(now, addr(t, "192.0.2.1"), EndpointConfig)
	got := check("the same address", Touch{Address: "192.0.2.1"})
	if !got.At[EndpointConfig].Equal(now) || !got.At[EndpointLog].IsZero() {
		t.Errorf("%v", got.At)
	}
	p.kept(got, now)
	p.touch(now, addr(t, "192.0.2.2"), EndpointLog)
	p.decorate([]byte(`{"rack":"r1","n":1}`))
	p.clash("why")
	want := Touch{Address: "192.0.2.2", Moved: "192.0.2.1", Attributes: map[string]string{"rack": "r1"}, Clash: "why"}
	p.giveBack(check("moved, described", want))
	got = check("again after a failure", want)
	if !p.dirty.Load() {
		t.Error("it is not tried again")
	}
	p.dirty.Store(false)
	p.kept(got, now)
	check("all is kept", Touch{Address: "192.0.2.2"})
	p.decorate([]byte(`{"rack":"r1","n":1}`)) // what was said before
	check("nothing new", Touch{Address: "192.0.2.2"})
	p.decorate([]byte(`{"rack":"r2"}`))
	p.kept(check("within the minute", Touch{Address: "192.0.2.2"}), now)
	if !p.dirty.Load() {
		t.Error("the attributes are forgotten")
	}
	now = now.Add(describeEvery)
	check("after it", Touch{Address: "192.0.2.2", Attributes: map[string]string{"rack": "r2"}})
}

func TestPresence_decorate(t *testing.T) {
	t.Parallel()
	var many strings.Builder
	for i := range 2 * maxAttributes {
		fmt.Fprintf(&many, `,"a%02d":"x"`, i)
	}
	long := strings.Repeat("ä", maxAttributeValue)
	for in, want := range map[string]int{
		``: 0, `{}`: 0, `[]`: 0, `{"a":`: 0, `{"a":"1","b":2,"c":null,"d":{}}`: 1, `{` + many.String()[1:] + `}`: maxAttributes,
		`{"` + long + `":"x"}`: 0, `{"a":"` + long + `"}`: 1,
	} {
		p := newPresence(Node{})
		p.decorate([]byte(in))
		if len(p.attributes) != want {
			t.Errorf("%.50s: %d attributes", in, len(p.attributes))
		}
		for name, value := range p.attributes {
			if len(value) > maxAttributeValue || strings.Contains(value, "\ufffd") {
				t.Errorf("%s: %q", name, value)
			}
		}
	}
}

// TestPresence_flips: one key that comes from two addresses in turn.
func TestPresence_flips(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		name  string
		order string // the last digits of addresses
		every time.Duration
		clash bool
	}{
		{"one", "1111111111", time.Second, false},
		{"a machine that travels", "1234567891", time.Minute, false},
		{"there and back", "11122211", time.Minute, false},
		{"two machines", "121212", time.Minute, true},
		{"slowly", "121212121212", flipWindow + time.Second, false},
	} {
		p := newPresence(Node{})
		for i, c := range tt.order {
			p.touch(start.Add(time.Duration(i)*tt.every), addr(t, "192.0.2."+string(c)), EndpointRead)
		}
		if got := p.take("1", start).Clash; (got != "") != tt.clash {
			t.Errorf("%s: %q", tt.name, got)
		}
	}
}

func BenchmarkIdentity_Touch(b *testing.B) {
	i := &Identity{presence: newPresence(Node{})}
	from, now := netip.MustParseAddr("192.0.2.1"), time.Now()
	b.ReportAllocs()
	for b.Loop() {
		now = now.Add(10 * time.Second)
		i.Touch(now, from, EndpointRead)
	}
}

func BenchmarkIdentity_Decorate(b *testing.B) {
	i := &Identity{presence: newPresence(Node{})}
	b.ReportAllocs()
	for b.Loop() {
		i.Decorate([]byte(`{"host_uuid":"b3e68175-1323-402d-9372-360437bfd488"}`))
	}
}

// TestOnline: what a clock that was ahead left behind says nothing.
func TestOnline(t *testing.T) {
	t.Parallel()
	now := time.Now().Truncate(time.Microsecond)
	for silent, want := range map[time.Duration]bool{
		0: true, OfflineAfter: true, OfflineAfter + time.Microsecond: false,
		-time.Minute: true, -MaxAhead: true, -MaxAhead - time.Microsecond: false, -365 * 24 * time.Hour: false,
	} {
		n := Node{LastSeen: now.Add(-silent)}
		i := &Identity{presence: newPresence(n)}
		if n.Online(now) != want || i.Online(now) != want {
			t.Errorf("silent for %s: %v, %v", silent, n.Online(now), i.Online(now))
		}
	}
}
