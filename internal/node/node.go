// Package node is about enrolled agents: how they enrol, how a request is
// known to be theirs, what they are, and which of them a selector means. It
// decides; the store keeps.
package node

import (
	"cmp"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/musterhq/muster/internal/errs"
)

// OfflineAfter is how long a node that polls often may be silent and still
// count as online: several of the default config's polls, and as long as an
// agent's longest retry of a failed poll. One that polls seldom may be silent
// longer; see Node.Patience.
const OfflineAfter = 90 * time.Second

// Node is one enrolled agent.
type Node struct {
	ID             string
	HostIdentifier string
	Hostname       string
	Platform       string // linux, darwin, windows, or "" if it never said
	OS             string // name and version, for people
	OsqueryVersion string
	Address        string   // of its last request
	Tags           []string // sorted; those of TagSources
	Secret         string   // name of the enroll secret that it used last; "" for an imported node
	Enrolments     int      // how often it enrolled; 0 for an imported node that never did
	EnrolledAt     time.Time
	LastSeen       time.Time // zero if it never was
	Seen           Seen
	// Patience is how long it may be silent and still count as online: a
	// multiple of its own intervals, as they were observed. 0 is OfflineAfter.
	Patience time.Duration

	// What tells its machine from another with the same host identifier; "" is
	// not known.
	Instance    string // osquery_info.instance_id, which is in the agent's database
	Machine     string // hardware UUID and serial number
	Certificate string // fingerprint of the one it enrolled with

	// Clashes counts the times that another live machine claimed its host
	// identifier or its key. ClashReason says how the last was known.
	Clashes     int
	LastClash   time.Time
	ClashReason string
	// CloneOf is the id of the node whose host identifier it claims, if it was
	// kept apart as a clone; "" otherwise.
	CloneOf string
	// QuarantinedAt is when it was put under quarantine, with a reason; zero if
	// it is not. Such a node gets an empty config and no queries; its logs are
	// kept and marked.
	QuarantinedAt    time.Time
	QuarantineReason string
	// GoneAt is when it was removed; zero if it is there. What was a node keeps
	// its id, names and history, so that its events can be joined.
	GoneAt time.Time

	// TagSources say what gives it its tags, sorted. Lists leave them out.
	TagSources []TagSource
	// Attributes are what its decorators say, by name. Lists leave them out.
	Attributes map[string]string
	// Details is what it said at enrolment: the first row of os_version,
	// osquery_info, platform_info and system_info, by table. Lists leave it out.
	Details map[string]map[string]string
	// Version grows with every change but presence; of two states of a node
	// the one with the higher version is the newer.
	Version int64
}

// Online reports whether the node was heard from lately.
func (n Node) Online(now time.Time) bool {
	return n.GoneAt.IsZero() && online(n.LastSeen, now, cmp.Or(n.Patience, OfflineAfter))
}

// Quarantined reports whether the node is kept apart.
func (n Node) Quarantined() bool { return !n.QuarantinedAt.IsZero() }

// Endpoint is what an agent asks for.
type Endpoint uint8

// The endpoints that say when a node was last heard of there.
const (
	EndpointEnroll Endpoint = iota
	EndpointConfig
	EndpointLog
	EndpointRead
	EndpointWrite
	endpoints
)

// Seen is when a node last used each endpoint; zero is never.
type Seen [endpoints]time.Time

// describe fills the fields that lists show from the details.
func (n *Node) describe(platformType string) {
	os, system := n.Details["os_version"], n.Details["system_info"]
	n.Hostname = cmp.Or(system["hostname"], system["computer_name"], n.HostIdentifier)
	n.OsqueryVersion = n.Details["osquery_info"]["version"]
	n.OS = strings.TrimSpace(os["name"] + " " + os["version"])
	n.Instance, n.Machine = n.Details["osquery_info"]["instance_id"], machineOf(system)
	n.Platform = cmp.Or(family(n.Details["osquery_info"]["build_platform"]), family(os["platform"]), familyOfMask(platformType))
}

// family returns osquery's name of the platform that a table's SQL must fit.
func family(platform string) string {
	switch platform {
	case "darwin", "windows", "linux":
		return platform
	case "":
		return ""
	}
	return "linux" // os_version.platform holds the distribution there
}

// familyOfMask reads platform_type, for agents that send no details. The bits
// are those of osquery/utils/info/platform_type.h.
func familyOfMask(mask string) string {
	switch mask {
	case "9":
		return "linux"
	case "21":
		return "darwin"
	case "2":
		return "windows"
	}
	return ""
}

// MaxTags bounds the tags of one node.
const MaxTags = 64

var tagPattern = regexp.MustCompile(`^[a-z0-9][a-z0-9._:/-]{0,62}$`)

// CleanTags sorts tags and removes doubles; a tag that is no tag is an error
// about the given field.
func CleanTags(field string, tags []string) ([]string, error) {
	for _, t := range tags {
		if !tagPattern.MatchString(t) {
			return nil, errs.Field(field, "%q is no tag; use up to 63 lower-case letters, digits and . _ : / -", t)
		}
	}
	tags = slices.Compact(slices.Sorted(slices.Values(tags)))
	if len(tags) > MaxTags {
		return nil, errs.Field(field, "has more than %d tags", MaxTags)
	}
	if tags == nil {
		tags = []string{}
	}
	return tags, nil
}

// Selector says which nodes: those that any of its fields means. The zero value
// means none.
type Selector struct {
	All   bool     `json:"all,omitempty"`
	Nodes []string `json:"nodes,omitempty"` // ids, host identifiers or hostnames
	Tags  []string `json:"tags,omitempty"`  // nodes with any of these
	Where string   `json:"where,omitempty"` // an expression, see Where; "" is none
}

// IsZero reports whether the selector means no nodes.
func (s Selector) IsZero() bool {
	return !s.All && len(s.Nodes) == 0 && len(s.Tags) == 0 && s.Where == ""
}

// where reads the expression; without one it means no node.
func (s Selector) where() (Where, error) {
	if s.Where == "" {
		return Where{}, nil
	}
	return ParseWhere("selector.where", s.Where)
}
