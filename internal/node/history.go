package node

import "time"

// Names of the attributes that every node has a history of, besides those that
// its decorators give it.
const (
	AttributeAddress        = "address" // as the server saw it
	AttributeHostname       = "hostname"
	AttributeHostIdentifier = "host_identifier"
	AttributePlatform       = "platform"
	AttributeOS             = "os"
	AttributeOsqueryVersion = "osquery_version"
	AttributeInstance       = "instance"
	AttributeCertificate    = "certificate"
)

// Sighting is a value that an attribute of a node had for some time. Those of
// one attribute may overlap: a node with two addresses that take turns has two
// long sightings, not thousands of short ones.
type Sighting struct {
	NodeID         string
	HostIdentifier string // of the node now
	Hostname       string // of the node now
	Attribute      string
	Value          string
	First          time.Time // when it was seen first
	Last           time.Time // when the node was last heard of with it
	// Until is when another value was seen, or the node was removed; zero as
	// long as it holds.
	Until time.Time
}

// Who asks which nodes had a value of an attribute at a time.
type Who struct {
	Attribute string
	Value     string
	At        time.Time
	Limit     int
}
