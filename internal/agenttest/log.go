package agenttest

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/musterhq/muster/internal/osquery"
)

// MaxLines is how many log lines an agent sends at most in one request
// (osquery's logger_tls_max_lines).
const MaxLines = 1024

// logBuffer holds the result lines that the server has not acknowledged.
type logBuffer struct {
	flushing sync.Mutex // held while sending: lines leave the front only there

	mu      sync.Mutex // guards all below; never held during a request
	lines   []bufferedLine
	gone    int64 // lines that left the front, sent or dropped
	dropped int64
	made    int64 // highest number given to a line
	sent    int64 // highest number that was in a request
	acked   int64 // highest number whose request succeeded
	batch   int64 // executions so far, for the counter of differential lines
}

type bufferedLine struct {
	line   json.RawMessage
	number int64 // 0 for lines without
}

// Buffer adds result lines to be sent by Flush. Above Options.MaxBuffered the
// oldest lines without a number are dropped.
func (n *Node) Buffer(lines ...json.RawMessage) {
	l := &n.log
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range lines {
		l.lines = append(l.lines, bufferedLine{line: line})
	}
	for len(l.lines) > n.o.MaxBuffered && l.lines[0].number == 0 {
		l.lines = l.lines[1:]
		l.gone++
		l.dropped++
	}
}

// BufferRows adds result lines of made-up differential rows, as the schedule
// of a host would.
func (n *Node) BufferRows(rows int, now time.Time) {
	host, id := n.Host(), n.HostIdentifier()
	n.Buffer(resultLines(host, id, n.nextBatch(), rows, now)...)
}

func (n *Node) nextBatch() int64 {
	n.log.mu.Lock()
	defer n.log.mu.Unlock()
	n.log.batch++
	return n.log.batch - 1
}

// batches returns how many executions were made up.
func (n *Node) batches() int64 {
	n.log.mu.Lock()
	defer n.log.mu.Unlock()
	return n.log.batch
}

// NumberedQuery is the query name of numbered lines.
const NumberedQuery = "agenttest_numbered"

// BufferNumbered adds up to count lines with the columns n, counting up from 1
// for this node, and node, its host identifier. Numbered lines are never
// dropped: when the buffer is full fewer are made. It returns how many were.
func (n *Node) BufferNumbered(count int, now time.Time) int {
	id := n.HostIdentifier()
	batch := n.nextBatch()
	l := &n.log
	l.mu.Lock()
	defer l.mu.Unlock()
	made := max(0, min(count, n.o.MaxBuffered-len(l.lines)))
	for range made {
		l.made++
		line := appendHead(nil, NumberedQuery, id, batch, now)
		line = append(line, `"columns":{"n":"`...)
		line = strconv.AppendInt(line, l.made, 10)
		line = append(line, `","node":`...)
		line = appendString(line, id)
		line = append(line, `},"action":"added"}`...)
		l.lines = append(l.lines, bufferedLine{line, l.made})
	}
	return made
}

// Pending returns how many lines wait, and Dropped how many were dropped.
func (n *Node) Pending() int {
	n.log.mu.Lock()
	defer n.log.mu.Unlock()
	return len(n.log.lines)
}

// Dropped returns how many lines were dropped because the buffer was full.
func (n *Node) Dropped() int64 {
	n.log.mu.Lock()
	defer n.log.mu.Unlock()
	return n.log.dropped
}

// Flush sends the oldest lines, MaxLines at most, and removes them when the
// server says success. On any failure it keeps them, so that the next call
// sends the same lines again, then newer ones. With none waiting it does
// nothing, as real agents do.
func (n *Node) Flush(ctx context.Context) error {
	l := &n.log
	l.flushing.Lock()
	defer l.flushing.Unlock()
	lines, end, last := l.front()
	if len(lines) == 0 {
		return nil
	}
	if err := n.Log(ctx, lines, osquery.LogTypeResult); err != nil {
		return err
	}
	l.remove(end, last)
	return nil
}

// front returns the lines to send, where they end, counted from the first line
// ever, and the highest number among them.
func (l *logBuffer) front() (lines []json.RawMessage, end, last int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	count := min(len(l.lines), MaxLines)
	lines = make([]json.RawMessage, count)
	for i, b := range l.lines[:count] {
		lines[i] = b.line
		last = max(last, b.number)
	}
	l.sent = max(l.sent, last)
	return lines, l.gone + int64(count), last
}

// remove takes the lines before end, which are stored, from the buffer. Some
// may have been dropped meanwhile.
func (l *logBuffer) remove(end, last int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if k := end - l.gone; k > 0 {
		l.lines = l.lines[k:]
		l.gone = end
	}
	if len(l.lines) == 0 {
		l.lines = nil // thousands of nodes idle between two flushes
	}
	l.acked = max(l.acked, last)
}

// Ledger is what one node knows of its numbered lines. Numbers count up from 1
// and are sent in order, so that each fact is one number.
type Ledger struct {
	HostIdentifier string
	Made           int64 // 1 to Made exist
	Sent           int64 // 1 to Sent were in some request
	Acked          int64 // 1 to Acked were in a request that succeeded
}

// Ledger returns what became of the node's numbered lines.
func (n *Node) Ledger() Ledger {
	id := n.HostIdentifier()
	n.log.mu.Lock()
	defer n.log.mu.Unlock()
	return Ledger{HostIdentifier: id, Made: n.log.made, Sent: n.log.sent, Acked: n.log.acked}
}

// Check compares the ledger with the numbers that a server has stored for the
// node, in any order. A server that keeps its word has every acknowledged
// number, none twice, and none that was never sent; of those sent but not
// acknowledged it may have any.
func (l Ledger) Check(stored []int64) error {
	seen := make(map[int64]int, len(stored))
	var twice, unknown, missing []int64
	for _, number := range stored {
		if seen[number]++; seen[number] == 2 {
			twice = append(twice, number)
		}
		if number < 1 || number > l.Sent {
			unknown = append(unknown, number)
		}
	}
	for number := int64(1); number <= l.Acked; number++ {
		if seen[number] == 0 {
			missing = append(missing, number)
		}
	}
	if len(twice)+len(unknown)+len(missing) == 0 {
		return nil
	}
	return fmt.Errorf("node %s, %d acknowledged of %d sent: %s acknowledged but missing, %s stored twice, %s never sent",
		l.HostIdentifier, l.Acked, l.Sent, some(missing), some(twice), some(unknown))
}

// some shows how many numbers there are and the first of them.
func some(numbers []int64) string {
	if len(numbers) == 0 {
		return "none"
	}
	return fmt.Sprintf("%d (%d …)", len(numbers), numbers[0])
}
