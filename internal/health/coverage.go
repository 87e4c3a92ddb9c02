package health

import (
	"bytes"
	"cmp"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/musterhq/muster/internal/errs"
)

// Host is one that somebody else's list has.
type Host struct {
	Name string // for people
	// Words are all that may tell which node it is: names, identifiers, addresses.
	Words []string
}

// Known is a node, as far as it can be compared with a list.
type Known struct {
	ID, HostIdentifier, Hostname, Address string
	LastSeen                              time.Time // zero if it never was
}

// Coverage is how a list of hosts and the nodes agree.
type Coverage struct {
	Covered []Match
	Missing []Host  // of the list, without a node
	Stale   []Match // nodes that were not heard of for long
	Unknown []Known // nodes that the list does not have
	// Unclear are hosts that several nodes fit; the nodes are not among Unknown.
	Unclear []Host
}

// Match is a host and its node.
type Match struct {
	Host Host
	Node Known
}

// Compare tells which hosts have a node, by any word, without regard to case. A
// name without a domain fits the one node whose first label it is, and the reverse.
func Compare(hosts []Host, nodes []Known, stale time.Time) Coverage {
	full, short := map[string][]int{}, map[string][]int{}
	for i, n := range nodes {
		for _, w := range []string{n.ID, n.HostIdentifier, n.Hostname, n.Address} {
			if w = word(w); w != "" && !slices.Contains(full[w], i) {
				full[w] = append(full[w], i)
			}
		}
		if label := firstLabel(n.Hostname); label != "" {
			short[label] = append(short[label], i)
		}
	}
	var c Coverage
	taken := make([]bool, len(nodes))
	for _, h := range hosts {
		found := fits(h, full, short)
		for _, i := range found {
			taken[i] = true
		}
		switch {
		case len(found) == 0:
			c.Missing = append(c.Missing, h)
		case len(found) > 1:
			c.Unclear = append(c.Unclear, h)
		case nodes[found[0]].LastSeen.Before(stale):
			c.Stale = append(c.Stale, Match{h, nodes[found[0]]})
		default:
			c.Covered = append(c.Covered, Match{h, nodes[found[0]]})
		}
	}
	for i, n := range nodes {
		if !taken[i] {
			c.Unknown = append(c.Unknown, n)
		}
	}
	return c
}

// fits returns the nodes that a host may be.
func fits(h Host, full, short map[string][]int) []int {
	var found []int
	for _, w := range h.Words {
		for _, i := range full[word(w)] {
			if !slices.Contains(found, i) {
				found = append(found, i)
			}
		}
	}
	if len(found) > 0 {
		return found
	}
	for _, w := range h.Words {
		if label := firstLabel(w); label != "" && (!strings.Contains(w, ".") || len(short[label]) == 1) {
			for _, i := range short[label] {
				if !slices.Contains(found, i) {
					found = append(found, i)
				}
			}
		}
	}
	return found
}

func word(s string) string { return strings.TrimSuffix(strings.ToLower(strings.TrimSpace(s)), ".") }

// firstLabel returns the first label of a host name; "" of an address.
func firstLabel(s string) string {
	label, _, _ := strings.Cut(word(s), ".")
	if strings.Trim(label, "0123456789") == "" || strings.Contains(label, ":") {
		return ""
	}
	return label
}

// maxInventory bounds the hosts of a list.
const maxInventory = 1_000_000

// hostColumns are names of columns that tell which host it is; the first that is
// there is its name.
func hostColumns() []string {
	return []string{
		"hostname", "host", "name", "fqdn", "computer_name", "dns_name", "host_identifier", "uuid", "hardware_uuid", "node_id", "id",
		"ip", "ip_address", "address",
	}
}

// ParseInventory reads a list of hosts: CSV with a head, JSON (an array, or an
// object on each line), or one host on each line. Of columns and members it reads
// those that name a host; a list without any is an error.
func ParseInventory(r io.Reader) ([]Host, error) {
	b, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	b = bytes.TrimSpace(bytes.TrimPrefix(b, []byte("\ufeff"))) // spreadsheets put it there
	var hosts []Host
	switch {
	case len(b) == 0:
		return nil, errs.Field("inventory", "is empty")
	case b[0] == '[' || b[0] == '{':
		hosts, err = inventoryJSON(b)
	case bytes.ContainsAny(firstLine(b), ",;\t"):
		hosts, err = inventoryCSV(b)
	default:
		hosts = inventoryLines(b)
	}
	switch {
	case err != nil:
		return nil, err
	case len(hosts) > maxInventory:
		return nil, errs.Field("inventory", "has over %d hosts", maxInventory)
	case len(hosts) == 0:
		return nil, errs.Field("inventory", "names no host; use one of the columns %s", strings.Join(hostColumns(), ", "))
	}
	return hosts, nil
}

func firstLine(b []byte) []byte {
	line, _, _ := bytes.Cut(b, []byte("\n"))
	return line
}

func inventoryLines(b []byte) []Host {
	var hosts []Host
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") || slices.Contains(hostColumns(), strings.ToLower(line)) && len(hosts) == 0 {
			continue
		}
		hosts = append(hosts, Host{line, []string{line}})
	}
	return hosts
}

func inventoryCSV(b []byte) ([]Host, error) {
	r := csv.NewReader(bytes.NewReader(b))
	r.FieldsPerRecord, r.LazyQuotes, r.TrimLeadingSpace = -1, true, true
	head := firstLine(b)
	for _, comma := range ";\t" {
		if !bytes.ContainsRune(head, ',') && bytes.ContainsRune(head, comma) {
			r.Comma = comma
		}
	}
	names, err := r.Read()
	if err != nil {
		return nil, errs.Field("inventory", "is no CSV: %v", err)
	}
	for i := range names {
		names[i] = strings.ReplaceAll(word(names[i]), " ", "_")
	}
	var hosts []Host
	for {
		row, err := r.Read()
		if errors.Is(err, io.EOF) {
			return hosts, nil
		}
		if err != nil {
			return nil, errs.Field("inventory", "is no CSV: %v", err)
		}
		said := map[string]string{}
		for i, value := range row {
			if i < len(names) && said[names[i]] == "" {
				said[names[i]] = value
			}
		}
		hosts = appendHost(hosts, said)
	}
}

func inventoryJSON(b []byte) ([]Host, error) {
	var hosts []Host
	d := json.NewDecoder(bytes.NewReader(b))
	for {
		var v any
		if err := d.Decode(&v); errors.Is(err, io.EOF) {
			return hosts, nil
		} else if err != nil {
			return nil, errs.Field("inventory", "is no JSON: %v", err)
		}
		list, ok := v.([]any)
		if !ok {
			list = []any{v}
		}
		for _, entry := range list {
			switch entry := entry.(type) {
			case string:
				hosts = append(hosts, Host{entry, []string{entry}})
			case map[string]any:
				said := map[string]string{}
				for name, value := range entry {
					if value, ok := value.(string); ok {
						said[strings.ReplaceAll(word(name), " ", "_")] = value
					}
				}
				hosts = appendHost(hosts, said)
			default:
				return nil, errs.Field("inventory", "has %s where a host should be; use an object or a text", short(fmt.Sprint(entry)))
			}
		}
	}
}

func short(s string) string { return bounded(s, 40) }

// appendHost adds the host that columns tell of, if they do.
func appendHost(hosts []Host, said map[string]string) []Host {
	var h Host
	for _, column := range hostColumns() {
		if value := strings.TrimSpace(said[column]); value != "" {
			h.Name = cmp.Or(h.Name, value)
			h.Words = append(h.Words, value)
		}
	}
	if h.Name == "" {
		return hosts
	}
	return append(hosts, h)
}
