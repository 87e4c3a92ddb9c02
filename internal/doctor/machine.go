package doctor

import (
	"crypto/x509"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// Disk is where a data directory is.
type Disk struct {
	Dir                     string
	Free, Total             uint64 // bytes
	InodesFree, InodesTotal uint64 // 0 of 0 where the file system counts none
}

// Bounds of a disk. Below 128 MiB the stream refuses what agents send.
const (
	diskFail  = 512 << 20
	diskWarn  = 10 // percent free
	nodesWarn = 5  // percent of inodes free
)

// Check judges a disk.
func (d Disk) Check() []Check {
	checks := []Check{d.space()}
	if d.InodesTotal > 0 {
		percent := d.InodesFree * 100 / d.InodesTotal
		if percent < nodesWarn {
			checks = append(checks, doubt("inodes", "Remove small files from this file system, or make it anew with more inodes.", "%d%% of the inodes are free", percent))
		} else {
			checks = append(checks, Well("inodes", "%d%% are free", percent))
		}
	}
	return checks
}

func (d Disk) space() Check {
	percent := d.Free * 100 / max(d.Total, 1)
	saw := fmt.Sprintf("%s of %s are free where %s is", size(d.Free), size(d.Total), d.Dir)
	const do = "Free some space or grow the disk; lower retention_bytes or retention to keep less. Agents keep their data meanwhile, up to buffered_log_max."
	switch {
	case d.Free < diskFail:
		return Check{"disk", Fail, saw, do}
	case percent < diskWarn:
		return Check{"disk", Warn, saw, do}
	}
	return Check{"disk", OK, saw, ""}
}

// Growth is what events take, and will.
type Growth struct {
	Bytes     int64
	Oldest    time.Time     // zero without events
	Retention time.Duration // 0 keeps all
	MaxBytes  int64         // retention_bytes; 0 is any
	Free      uint64
}

// leastSpan is the time of events from which more can be concluded.
const leastSpan = day

// Check says whether what retention keeps will fit.
func (g Growth) Check(now time.Time) Check {
	const name = "events and disk"
	span := now.Sub(g.Oldest)
	if g.Oldest.IsZero() || span < leastSpan {
		return Well(name, "%s of events; too few days to tell how they grow", size(uint64(max(0, g.Bytes))))
	}
	perDay := float64(g.Bytes) / (float64(span) / float64(day))
	lasts := time.Duration(min(float64(g.Free)/max(perDay, 1), 36500) * float64(day))
	saw := fmt.Sprintf("%s a day; the free space is enough for %s", size(uint64(perDay)), days(lasts))
	const do = "Set retention_bytes to what the disk can hold, or lower retention."
	left := g.Retention - span // until days are dropped
	switch {
	case g.MaxBytes > 0 && uint64(max(0, g.MaxBytes-g.Bytes)) < g.Free:
		return Well(name, "%s a day; retention_bytes holds them at %s", size(uint64(perDay)), size(uint64(g.MaxBytes)))
	case g.Retention > 0 && left <= lasts:
		return Well(name, "%s a day, dropped after %s; that fits", size(uint64(perDay)), days(g.Retention))
	case lasts < 7*day:
		return Check{name, Fail, saw, do}
	case g.Retention == 0:
		return Check{name, Warn, saw + ", and retention is 0: nothing is ever dropped", do}
	}
	return Check{name, Warn, fmt.Sprintf("%s, and events are dropped in %s only", saw, days(left)), do}
}

// Limits are those of a process.
type Limits struct {
	Files  uint64 // that it may have open; 0 if not known
	Memory uint64 // of its control group or the machine; 0 if not known
	Nodes  int
}

// Bounds of limits. A connection of an agent is a file; a server needs some
// hundred besides.
const (
	fewFiles   = 4096
	littleFail = 128 << 20
	littleWarn = 512 << 20
)

// Check judges the limits of a process.
func (l Limits) Check() []Check {
	files := Well("open files", "%s", count(l.Files))
	switch {
	case l.Files == 0:
		files = Well("open files", "how many may be open cannot be asked here")
	case l.Files < fewFiles:
		files = doubt("open files", "Set LimitNOFILE=65536 in the unit, or ulimit -n.", "%d may be open; each agent that is connected is one", l.Files)
	}
	if l.Memory == 0 {
		return []Check{files}
	}
	const do = "Give the service more memory (MemoryMax in its unit), or lower limit_body_memory."
	memory := Well("memory", "%s may be used", size(l.Memory))
	switch {
	case l.Memory < littleFail:
		memory = Bad("memory", do, "%s may be used; the kernel will kill the server", size(l.Memory))
	case l.Memory < littleWarn:
		memory = doubt("memory", do, "%s may be used; that is little for more than some hundred nodes", size(l.Memory))
	}
	return []Check{files, memory}
}

func count(n uint64) string {
	if n > math.MaxInt32 {
		return "any number"
	}
	return fmt.Sprintf("%d may be open", n)
}

// Bounds of certificates and clocks.
const (
	certFail  = 7 * day
	certWarn  = 21 * day // the server's own is renewed 30 days before
	clockWarn = 5 * time.Second
	clockFail = 5 * time.Minute // the times of certificates and events are wrong
)

// Certificate judges a certificate for names, some of which may be addresses.
func Certificate(name string, c *x509.Certificate, names []string, now time.Time) Check {
	left := c.NotAfter.Sub(now)
	const renew = "Replace the certificate; the server reads the files again by itself. Its own is renewed 30 days before, if the server runs."
	switch {
	case now.Before(c.NotBefore):
		return Bad(name, "Set the clock of the server, or make the certificate anew.", "it is good from %s on only", c.NotBefore.Format(time.RFC3339))
	case left <= 0:
		return Bad(name, renew, "it ended %s ago", days(-left))
	case left < certFail:
		return Bad(name, renew, "it ends in %s", days(left))
	}
	for _, n := range names {
		if err := c.VerifyHostname(n); err != nil {
			return Bad(name, "Add the name to agent_hostname, or to the certificate; whoever uses it cannot connect.", "it is not for %s, but for %s", n, forWhom(c))
		}
	}
	if left < certWarn {
		return doubt(name, renew, "it ends in %s", days(left))
	}
	return Well(name, "good for %s, until %s", forWhom(c), c.NotAfter.Format(time.DateOnly))
}

func forWhom(c *x509.Certificate) string {
	names := append([]string{}, c.DNSNames...)
	for _, a := range c.IPAddresses {
		names = append(names, a.String())
	}
	if len(names) == 0 {
		return c.Subject.CommonName
	}
	slices.Sort(names)
	return strings.Join(slices.Compact(names), ", ")
}

// Clock compares two clocks.
func Clock(whose string, theirs, ours time.Time) Check {
	name := "clock of " + whose
	d := theirs.Sub(ours).Abs()
	saw := fmt.Sprintf("it differs from the one here by %s", d.Round(time.Millisecond))
	const do = "Let chrony or systemd-timesyncd set the clocks; look at timedatectl on both machines."
	switch {
	case d >= clockFail:
		return Check{name, Fail, saw, do}
	case d >= clockWarn:
		return Check{name, Warn, saw, do}
	}
	return Check{name, OK, saw, ""}
}
