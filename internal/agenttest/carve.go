package agenttest

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/musterhq/muster/internal/agentwire"
	"github.com/musterhq/muster/internal/osquery"
)

// CarveOptions of a Carver.
type CarveOptions struct {
	Size        int64 // bytes of each archive; 1 MiB if 0, at least 2 KiB
	BlockSize   int   // 1 MiB if 0
	Concurrency int   // uploads at a time, of all nodes together; 10 if 0
	// Early begins an upload before the server has the row that tells of it, as a
	// real agent may when it is asked just before the minute is full.
	Early bool
}

const (
	defaultCarve       = 1 << 20
	minCarve           = 2 << 10 // a header, a block of content, the end
	defaultUploads     = 10
	maxWaitingUploads  = 10_000
	maxCarvesOfNode    = 64
	osqueryReadMax     = 50 << 20 // above it osquery makes no SHA-256
	carveScheduled     = "SCHEDULED"
	carvePending       = "PENDING"
	carveSuccess       = "SUCCESS"
	carveFailed        = "DATA POST FAILED"
	tarBlock           = 512
	tarEnd             = 2 * tarBlock
	carveContentPrefix = "/tmp/osquery_carve_"
)

// Carver makes simulated nodes carve: a query of table carves with carve = 1 is
// answered with a row SCHEDULED, and an archive of pseudo-random content is sent
// as soon as the server acknowledged that, where a real agent waits for the next
// full minute. It is shared by the nodes of a fleet.
type Carver struct {
	o       CarveOptions
	slots   chan struct{}
	uploads sync.WaitGroup
	waiting atomic.Int64

	mu                  sync.Mutex
	done, failed        int
	firstStart, lastEnd time.Time
	changed             chan struct{} // closed when done or failed changes
}

// NewCarver returns a Carver.
func NewCarver(o CarveOptions) (*Carver, error) {
	o.Size = cmp.Or(o.Size, defaultCarve)
	o.BlockSize = cmp.Or(o.BlockSize, defaultCarve)
	o.Concurrency = cmp.Or(o.Concurrency, defaultUploads)
	if o.Size < minCarve || o.BlockSize < 1 || o.Concurrency < 1 {
		return nil, fmt.Errorf("simulated carves: %d bytes in blocks of %d, %d at a time; an archive has at least %d bytes", o.Size, o.BlockSize, o.Concurrency, minCarve)
	}
	return &Carver{o: o, slots: make(chan struct{}, o.Concurrency), changed: make(chan struct{})}, nil
}

// Wait waits for the uploads under way, which end with the context of the poll
// that began them.
func (c *Carver) Wait() { c.uploads.Wait() }

// Counts returns how many uploads succeeded and failed, and a channel that is
// closed when there are more.
func (c *Carver) Counts() (done, failed int, changed <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.done, c.failed, c.changed
}

// span is the time from the first start to the end of the last upload.
func (c *Carver) span() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lastEnd.Sub(c.firstStart)
}

func (c *Carver) began() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.firstStart.IsZero() {
		c.firstStart = time.Now()
	}
}

func (c *Carver) ended(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lastEnd = time.Now(); err == nil {
		c.done++
	} else {
		c.failed++
	}
	close(c.changed)
	c.changed = make(chan struct{})
}

// nodeCarve is a row of table carves.
type nodeCarve struct {
	guid, request, path, status, sha256 string
	time, size                          int64
}

func (c nodeCarve) row(fresh bool) map[string]string {
	carve := "0"
	if fresh {
		carve = "1"
	}
	return map[string]string{
		"time": strconv.FormatInt(c.time, 10), "sha256": c.sha256, "size": strconv.FormatInt(c.size, 10), "path": c.path,
		"status": c.status, "carve_guid": c.guid, "request_id": c.request, "carve": carve,
	}
}

// carveColumns are those of the table, in its order.
func carveColumns() []string {
	return []string{"time", "sha256", "size", "path", "status", "carve_guid", "request_id", "carve"}
}

var (
	unionAll     = regexp.MustCompile(`(?is)\bunion\s+all\b`)
	carveWanted  = regexp.MustCompile(`(?i)\bcarve\s*=\s*'?1\b`)
	carvePath    = regexp.MustCompile(`(?is)\bpath\s*(?:=|like)\s*'((?:[^']|'')*)'`)
	carveGUID    = regexp.MustCompile(`(?is)\bcarve_guid\s*(?:=|in)\s*\(?\s*('[^']*'(?:\s*,\s*'[^']*')*)`)
	quotedString = regexp.MustCompile(`'([^']*)'`)
)

// carvesAnswer answers a query of table carves and begins the uploads that it
// asks for; ok is false for any other query. Each SELECT of a UNION ALL is a
// carve of its own, as in osquery.
func (n *Node) carvesAnswer(ctx context.Context, sql string) (rows []osquery.Row, ok bool) {
	kind := n.o.Behaviour.Kind
	if n.o.Carver == nil || !strings.Contains(sql, "carves") || kind == Fail || kind == Deny {
		return nil, false
	}
	rows = []osquery.Row{}
	for _, part := range unionAll.Split(comments.ReplaceAllString(sql, " "), -1) {
		m := selectPattern.FindStringSubmatch(part)
		if m == nil || !strings.EqualFold(m[2], "carves") {
			return nil, false
		}
		list, where := splitList(m[1]), m[3]
		if carveWanted.MatchString(where) {
			if p := carvePath.FindStringSubmatch(where); p != nil {
				c := n.schedule(strings.ReplaceAll(p[1], "''", "'"))
				rows = append(rows, project(list, carveColumns(), c.row(true), 1))
			}
			continue
		}
		for _, c := range n.carvesOf(where) {
			rows = append(rows, project(list, carveColumns(), c.row(false), 1))
		}
	}
	if n.o.Carver.o.Early {
		n.uploadScheduled(ctx)
	}
	return rows, true
}

// uploadScheduled sends the carves that are not under way.
func (n *Node) uploadScheduled(ctx context.Context) {
	n.mu.Lock()
	waiting := n.scheduled
	n.scheduled = nil
	n.mu.Unlock()
	for _, c := range waiting {
		n.upload(ctx, c)
	}
}

// carvesOf returns the node's carves, those that a WHERE clause names by guid if
// it names any.
func (n *Node) carvesOf(where string) []nodeCarve {
	var wanted []string
	if m := carveGUID.FindStringSubmatch(where); m != nil {
		for _, s := range quotedString.FindAllStringSubmatch(m[1], -1) {
			wanted = append(wanted, strings.ToLower(s[1]))
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(n.carves), func(c nodeCarve) bool {
		return wanted != nil && !slices.Contains(wanted, c.guid)
	})
}

// schedule keeps a new carve.
func (n *Node) schedule(path string) nodeCarve {
	// No number of ours: another run must not repeat the ids of this one.
	c := nodeCarve{
		guid: uuid(rand.Uint64(), rand.Uint64()), request: uuid(rand.Uint64(), rand.Uint64()), //nolint:gosec // no secrets
		path: path, status: carveScheduled, time: time.Now().Unix(), size: -1,
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.carves) >= maxCarvesOfNode {
		n.carves = slices.Delete(n.carves, 0, 1)
	}
	n.carves, n.scheduled = append(n.carves, c), append(n.scheduled, c)
	return c
}

func (n *Node) setCarve(guid string, change func(*nodeCarve)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for i := range n.carves {
		if n.carves[i].guid == guid {
			change(&n.carves[i])
		}
	}
}

// upload sends a carve as soon as there is a place for it. The real agent's
// carver has a thread and a connection of its own, and so it is here.
func (n *Node) upload(ctx context.Context, c nodeCarve) {
	carver := n.o.Carver
	if carver.waiting.Add(1) > maxWaitingUploads {
		carver.waiting.Add(-1)
		n.setCarve(c.guid, func(c *nodeCarve) { c.status = carveFailed })
		carver.ended(errors.New("too many"))
		return
	}
	carver.uploads.Go(func() {
		defer carver.waiting.Add(-1)
		select {
		case carver.slots <- struct{}{}:
			defer func() { <-carver.slots }()
		case <-ctx.Done():
			return
		}
		sum, err := n.sendCarve(ctx, c)
		n.setCarve(c.guid, func(c *nodeCarve) {
			if c.status, c.sha256 = carveSuccess, sum; err != nil {
				c.status = carveFailed
			}
		})
		carver.ended(err)
	})
}

// sendCarve returns the SHA-256 of what it sent, as table carves shows it.
func (n *Node) sendCarve(ctx context.Context, c nodeCarve) (string, error) {
	o := n.o.Carver.o
	wire, err := agentwire.New(agentwire.Options{
		URL: n.o.URL, TLS: n.o.tls, Version: n.Host().Version, Conn: n.o.Conn, Dial: n.o.dial, Connected: n.o.connected,
	})
	if err != nil {
		return "", err
	}
	defer wire.Close()
	n.setCarve(c.guid, func(c *nodeCarve) { c.status, c.size = carvePending, o.Size })
	archive, err := simulatedArchive(c.guid, c.path, o.Size)
	if err != nil {
		return "", err
	}
	sum, hashed := sha256.New(), o.Size <= osqueryReadMax
	if hashed {
		archive = io.TeeReader(archive, sum)
	}
	n.o.Carver.began()
	err = wire.Upload(ctx, agentwire.Carve{
		Start: n.o.Paths.CarveStart, Continue: n.o.Paths.CarveContinue,
		ID: c.guid, RequestID: c.request, Size: o.Size, BlockSize: o.BlockSize,
		Key: func(ctx context.Context) string {
			key, _ := n.ensureKey(ctx) // without one the server says what it thinks of it
			return key
		},
		Observe: func(start bool, took time.Duration, err error) {
			op := OpCarveBlock
			if start {
				op = OpCarveStart
			}
			n.o.Stats.Observe(op, took, err)
		},
	}, archive)
	if !hashed {
		return "-1", err
	}
	return hex.EncodeToString(sum.Sum(nil)), err
}

// simulatedArchive returns a tar archive of exactly size bytes with one file of
// pseudo-random content, which no compression makes smaller.
func simulatedArchive(guid, path string, size int64) (io.Reader, error) {
	content := (size - tarBlock - tarEnd) / tarBlock * tarBlock
	var head bytes.Buffer
	name := carveContentPrefix + guid + "/" + strings.TrimPrefix(path, "/")
	if len(name) > 99 { // what a header of one block takes
		name = name[:99]
	}
	const mode = 0o644
	err := tar.NewWriter(&head).WriteHeader(&tar.Header{
		Typeflag: tar.TypeReg, Name: name, Size: content, Mode: mode, ModTime: time.Unix(1700000000, 0), Format: tar.FormatGNU,
	})
	if err != nil {
		return nil, fmt.Errorf("simulated archive: %w", err)
	}
	var seed [32]byte
	copy(seed[:], guid)
	binary.LittleEndian.PutUint64(seed[24:], uint64(size)) //nolint:gosec // any bits will do
	random := io.LimitReader(rand.NewChaCha8(seed), content)
	return io.LimitReader(io.MultiReader(&head, random, zeros{}), size), nil
}

// zeros has no end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
