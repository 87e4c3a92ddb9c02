package adminapi

import (
	"encoding/json"
	"time"

	"github.com/musterhq/muster/internal/doctor"
)

// The documents of the REST API. Times are RFC 3339 in UTC; a zero time is
// left out. Lists are never null.

// SetupState says whether the first administrator is still to be made.
type SetupState struct {
	Needed bool `json:"needed"`
}

// SetupInput makes the first administrator.
type SetupInput struct {
	Token    string `json:"token" doc:"What the data directory's setup-token file holds" maxLength:"128"`
	Username string `json:"username" doc:"Name of the administrator" minLength:"1" maxLength:"64"`
	Password string `json:"password" doc:"At least 15 characters" maxLength:"1024"`
	Kind     string `json:"kind,omitempty" doc:"cookie (the default, for browsers) or bearer (answers a token, for programs)" enum:"cookie,bearer"`
}

// LoginInput opens a session.
type LoginInput struct {
	SecondInput // an error about code or passkey says that it is needed

	Username string `json:"username" maxLength:"64"`
	Password string `json:"password" maxLength:"1024"`
	Kind     string `json:"kind,omitempty" doc:"cookie (the default, for browsers) or bearer (answers a token, for programs)" enum:"cookie,bearer"`
}

// Session tells who is calling and what they may do.
type Session struct {
	ID          string     `json:"id" doc:"Names the session; it opens nothing"`
	Username    string     `json:"username"`
	Roles       []string   `json:"roles"`
	Permissions []string   `json:"permissions" doc:"All that the roles give, be it for some nodes alone"`
	MustEnrol   bool       `json:"must_enrol" doc:"A second factor is needed first: until then the session may do nothing else"`
	MustProve   bool       `json:"must_prove" doc:"A second factor is to be shown first; see /session/prove"`
	Proofs      []string   `json:"proofs" enum:"password,code,passkey,provider" doc:"By what one can prove once more who one is; see /session/prove"`
	Provider    string     `json:"provider,omitempty" doc:"Of sign-on, that one logs in at"`
	ProvedUntil *time.Time `json:"proved_until,omitempty" doc:"Until then nothing asks for one's password"`
	ExpiresAt   time.Time  `json:"expires_at"`
	Token       string     `json:"token,omitempty" doc:"Only in the answer that opens a bearer session"`
	Version     string     `json:"version" doc:"The server's version"`
}

// Node is one enrolled agent, or what was one.
type Node struct {
	ID             string     `json:"id"`
	HostIdentifier string     `json:"host_identifier"`
	Hostname       string     `json:"hostname"`
	Platform       string     `json:"platform" doc:"linux, darwin or windows"`
	OS             string     `json:"os" doc:"Name and version of the operating system"`
	OsqueryVersion string     `json:"osquery_version"`
	Address        string     `json:"address" doc:"Where its last request came from"`
	Tags           []string   `json:"tags"`
	Status         string     `json:"status" doc:"gone if it was removed, else quarantined if it is, whether it is heard from or not, else online or offline" enum:"online,offline,quarantined,gone"`
	LastSeen       *time.Time `json:"last_seen,omitempty" doc:"Absent if it was imported and never heard from"`
	Seen           Seen       `json:"seen" doc:"When it last used each endpoint; a few seconds behind last_seen"`
	OfflineAfter   int        `json:"offline_after_seconds" doc:"So long it may be silent and still count as online: a multiple of its own intervals"`
	EnrolledAt     time.Time  `json:"enrolled_at" doc:"For the first time; of an imported node, when it was imported"`
	EnrollSecret   string     `json:"enroll_secret" doc:"Name of the enroll secret it used last; empty for an imported node"`
	Enrolments     int        `json:"enrolments" doc:"How often it enrolled; more than one means that it lost its key or was cloned"`
	Certificate    string     `json:"certificate,omitempty" doc:"SHA-256 of the public key of the certificate that it enrolled with"`

	Clashes          int        `json:"clashes" doc:"How often another live machine claimed its host identifier or its key"`
	LastClash        *time.Time `json:"last_clash,omitempty"`
	ClashReason      string     `json:"clash_reason,omitempty" doc:"How the last clash was known"`
	CloneOf          string     `json:"clone_of,omitempty" doc:"Id of the node whose host identifier it claims"`
	QuarantinedAt    *time.Time `json:"quarantined_at,omitempty" doc:"Since then it gets an empty config and no queries; its logs are kept and marked"`
	QuarantineReason string     `json:"quarantine_reason,omitempty"`
	GoneAt           *time.Time `json:"gone_at,omitempty" doc:"When it was removed"`
}

// Seen is when a node last used each endpoint; one that it never used is left
// out.
type Seen struct {
	Enroll *time.Time `json:"enroll,omitempty"`
	Config *time.Time `json:"config,omitempty"`
	Log    *time.Time `json:"log,omitempty"`
	Read   *time.Time `json:"read,omitempty" doc:"Asked for live queries"`
	Write  *time.Time `json:"write,omitempty" doc:"Answered live queries"`
}

// NodeDetail is a node with everything it says of itself.
type NodeDetail struct {
	Node
	TagSources []TagSource                  `json:"tag_sources" doc:"What gives it its tags"`
	Attributes map[string]string            `json:"attributes" doc:"What its decorators say, by name"`
	Details    map[string]map[string]string `json:"details" doc:"First row of os_version, osquery_info, platform_info and system_info at enrolment, by table"`
}

// QuarantineInput puts a node under quarantine.
type QuarantineInput struct {
	Reason string `json:"reason" doc:"Why, for whoever finds it later" minLength:"1" maxLength:"500"`
}

// Sighting is a value that an attribute of a node had for some time. Those of
// one attribute may overlap: a node may use two addresses in turn.
type Sighting struct {
	NodeID         string     `json:"node_id"`
	HostIdentifier string     `json:"host_identifier" doc:"Of the node today"`
	Hostname       string     `json:"hostname" doc:"Of the node today"`
	Attribute      string     `json:"attribute" doc:"address, hostname, host_identifier, platform, os, osquery_version, instance, certificate, or the name of a decorator"`
	Value          string     `json:"value"`
	FirstSeen      time.Time  `json:"first_seen"`
	LastSeen       *time.Time `json:"last_seen,omitempty" doc:"When the node was last heard of with it; absent if it was imported and never was"`
	Until          *time.Time `json:"until,omitempty" doc:"When another value was seen or the node was removed; absent as long as it holds"`
}

// Sightings is what nodes have and had: first what holds, then the newest.
type Sightings struct {
	Sightings []Sighting `json:"sightings"`
}

// ImportNode is a node as another manager's database has it. No field is
// required by the schema, so that one bad node does not refuse the others.
type ImportNode struct {
	HostIdentifier string   `json:"host_identifier,omitempty" doc:"As its agent says it; required, at most 255 bytes"`
	NodeKey        string   `json:"node_key,omitempty" doc:"The key that its agent has; required, 16 to 512 bytes, since a shorter one can be guessed"`
	Hostname       string   `json:"hostname,omitempty"`
	Platform       string   `json:"platform,omitempty" doc:"linux, darwin, windows, or the name of a distribution"`
	OsqueryVersion string   `json:"osquery_version,omitempty"`
	Tags           []string `json:"tags,omitempty"`
}

// ImportInput is nodes of another manager, to be known by the keys that they
// have.
type ImportInput struct {
	Nodes []ImportNode `json:"nodes" minItems:"1" maxItems:"1000"`
}

// ImportResult is what became of an import. Its counts add up to the nodes
// that were sent.
type ImportResult struct {
	Added    int            `json:"added"`
	Known    int            `json:"known" doc:"They were there with the same key"`
	Clashes  int            `json:"clashes" doc:"Their host identifier is there with another key"`
	KeysUsed int            `json:"keys_used" doc:"Another node has their key"`
	Refused  int            `json:"refused"`
	Results  []ImportedNode `json:"results" doc:"One for each node, in order"`
}

// ImportedNode is what became of one node of an import.
type ImportedNode struct {
	Index          int    `json:"index" doc:"In the nodes that were sent, from 0"`
	HostIdentifier string `json:"host_identifier"`
	ID             string `json:"id,omitempty" doc:"Of a node that was added"`
	Result         string `json:"result" enum:"added,known,clash,key_used,refused"`
	Field          string `json:"field,omitempty" doc:"What is wrong with a node that was not taken"`
	Message        string `json:"message,omitempty"`
}

// NodePage is one page of nodes.
type NodePage struct {
	Nodes      []Node `json:"nodes"`
	Total      int    `json:"total" doc:"Nodes that match, on all pages"`
	NextCursor string `json:"next_cursor,omitempty" doc:"Absent on the last page"`
}

// Facets counts nodes by what one can filter them by.
type Facets struct {
	Total       int     `json:"total" doc:"Those that are gone are not counted"`
	Online      int     `json:"online"`
	Quarantined int     `json:"quarantined"`
	Clashes24h  int     `json:"clashes_24h" doc:"Nodes whose identity another machine claimed within a day"`
	Platforms   []Count `json:"platforms"`
	Tags        []Count `json:"tags"`
	Versions    []Count `json:"versions" doc:"By osquery version"`
}

// Count is how many things have a value.
type Count struct {
	Value string `json:"value"`
	Count int    `json:"count"`
}

// TagsInput replaces a node's tags. Those that rules and queries give stay.
type TagsInput struct {
	Tags []string `json:"tags" maxItems:"64"`
}

// TagSource is a tag of a node with all that gives it. The node has it as long
// as anything does.
type TagSource struct {
	Tag     string   `json:"tag"`
	Sources []string `json:"sources" doc:"hand, or secret:, rule: or query: and a name"`
}

// TaggedNode is a node whose tags were replaced.
type TaggedNode struct {
	Node
	TagSources []TagSource `json:"tag_sources" doc:"What gives it its tags"`
	Kept       []TagSource `json:"kept" doc:"Tags that were not asked for and stay, because rules or queries give them"`
	Message    string      `json:"message,omitempty" doc:"Why they stay, and what to do"`
}

// TagSpan is a time in which something gave a node a tag.
type TagSpan struct {
	Tag    string     `json:"tag"`
	Source string     `json:"source" doc:"hand, or secret:, rule: or query: and a name"`
	Since  time.Time  `json:"since" doc:"Of what gave tags before there was a history: when the node enrolled first"`
	Until  *time.Time `json:"until,omitempty" doc:"Absent as long as it does"`
}

// TagHistory is what gives a node its tags, then what did, the last first.
type TagHistory struct {
	Tags []TagSpan `json:"tags"`
}

// Secret is an enroll secret without its value, which is not kept.
type Secret struct {
	Name      string     `json:"name"`
	Tags      []string   `json:"tags" doc:"Given to nodes that enrol with it"`
	AgentTags []string   `json:"agent_tags" doc:"Tags that an agent may choose itself by showing value:tag:tag; one that ends with * means all that begin so"`
	CIDRs     []string   `json:"cidrs" doc:"It works from these networks only; empty is from anywhere"`
	MaxUses   int        `json:"max_uses" doc:"0 is no limit"`
	Uses      int        `json:"uses"`
	CreatedAt time.Time  `json:"created_at"`
	CreatedBy string     `json:"created_by"`
	ExpiresAt *time.Time `json:"expires_at,omitempty"`
	RevokedAt *time.Time `json:"revoked_at,omitempty"`
	LastUsed  *time.Time `json:"last_used,omitempty"`
	OldUntil  *time.Time `json:"old_until,omitempty" doc:"Until then the value before the last rotation works too"`
}

// SecretInput makes an enroll secret.
type SecretInput struct {
	Name      string     `json:"name" doc:"Lower-case letters, digits, dots, dashes" pattern:"^[a-z0-9][a-z0-9._-]*$" maxLength:"64"`
	Value     string     `json:"value,omitempty" doc:"8 to 255 bytes that agents show already, as for another manager; leave it out for 256 random bits. Whoever guesses it can enrol: one that is short or made of words needs cidrs, max_uses or expires_at beside it"`
	Tags      []string   `json:"tags,omitempty" maxItems:"16"`
	AgentTags []string   `json:"agent_tags,omitempty" doc:"Tags that an agent may choose itself by showing value:tag:tag; one that ends with * means all that begin so, * alone any tag" maxItems:"64"`
	CIDRs     []string   `json:"cidrs,omitempty" doc:"Networks it works from, as 10.0.0.0/8 or 2001:db8::1" maxItems:"64"`
	MaxUses   int        `json:"max_uses,omitempty" minimum:"0"`
	ExpiresAt *time.Time `json:"expires_at,omitempty"`
}

// RotateInput gives an enroll secret a new value.
type RotateInput struct {
	OverlapSeconds int    `json:"overlap_seconds,omitempty" doc:"So long the value before works too; 0 ends it at once" minimum:"0" maximum:"31622400"`
	Value          string `json:"value,omitempty" doc:"8 to 255 bytes; leave it out for 256 random bits"`
}

// NewSecret is the one answer that shows an enroll secret's value.
type NewSecret struct {
	Secret
	Value string `json:"value" doc:"Shown once; give it to agents as their enroll secret"`
}

// SecretList is all enroll secrets, revoked ones too.
type SecretList struct {
	Secrets []Secret `json:"secrets"`
}

// Selector says which nodes: those that any of its fields means. Nothing is
// selected unless asked for.
type Selector struct {
	All   bool     `json:"all,omitempty" doc:"Every node"`
	Nodes []string `json:"nodes,omitempty" doc:"Ids, host identifiers or hostnames" maxItems:"10000"`
	Tags  []string `json:"tags,omitempty" doc:"Nodes with any of these tags" maxItems:"64"`
	Where string   `json:"where,omitempty" doc:"Nodes that an expression means, as: platform = linux and not tag in (db, web)" maxLength:"4096"`
}

// LivePage is the newest live queries.
type LivePage struct {
	Live       []Live `json:"live"`
	NextCursor string `json:"next_cursor,omitempty"`
}

// LiveAnswers is a page of a live query's nodes with their rows, in the order
// in which they answered; nodes that did not are at the end.
type LiveAnswers struct {
	Answers    []LiveAnswer `json:"answers"`
	NextCursor string       `json:"next_cursor,omitempty"`
}

// LiveUpdate is one message of a live query's event stream. The event named
// "answer" carries Answer, the event named "counts" carries Live. The stream
// begins with all that is known and ends after the query's end.
type LiveUpdate struct {
	Live   *Live       `json:"live,omitempty"`
	Answer *LiveAnswer `json:"answer,omitempty"`
}

// Overview is the first page's figures.
type Overview struct {
	Nodes         Facets   `json:"nodes"`
	NewNodes      int      `json:"new_nodes" doc:"Enrolled within a day"`
	LiveRunning   int      `json:"live_running"`
	EventsStored  int64    `json:"events_stored"`
	BytesStored   int64    `json:"bytes_stored"`
	EventsPerHour []Bucket `json:"events_per_hour" doc:"Of the last 24 hours"`
	RequestsTotal int64    `json:"requests_total" doc:"Agents' requests since the server started"`
	UptimeSeconds int64    `json:"uptime_seconds"`
	Version       string   `json:"version"`
	AgentURL      string   `json:"agent_url" doc:"What agents put into tls_hostname"`
}

// Diagnosis is how the server fares.
type Diagnosis struct {
	Time     time.Time      `json:"time" doc:"Of the server's clock"`
	Version  string         `json:"version"`
	Status   doctor.Status  `json:"status" enum:"ok,warn,fail" doc:"The worst of all checks"`
	AgentURL string         `json:"agent_url" doc:"What agents put into tls_hostname"`
	Checks   []doctor.Check `json:"checks"`
}

// ConfigDocument is what agents are served.
type ConfigDocument struct {
	Revision string          `json:"revision"`
	Hash     string          `json:"hash" doc:"What osquery_info.config_hash says on a node that runs it"`
	Config   json.RawMessage `json:"config"`
}
