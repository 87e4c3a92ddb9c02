package transparency

import "time"

// Disclosure is what the page says, and what its JSON has. It holds no rows, no
// addresses and no secrets. Lists end at the bounds below, the newest first; More
// says that older ones are left out.
type Disclosure struct {
	Hostname       string     `json:"hostname" doc:"As the machine calls itself"`
	HostIdentifier string     `json:"host_identifier"`
	Platform       string     `json:"platform"`
	EnrolledAt     *time.Time `json:"enrolled_at,omitempty" doc:"When it enrolled last; left out if that is not known"`
	MadeAt         time.Time  `json:"made_at" doc:"When this was put together"`
	ExpiresAt      time.Time  `json:"expires_at" doc:"Until when the link works"`

	Collected Collected      `json:"collected" doc:"What the machine is to collect now"`
	Asked     Asked          `json:"asked" doc:"What the machine was asked besides"`
	Fetched   Fetched        `json:"fetched" doc:"Files that were asked for"`
	Changes   ChangeHistory  `json:"changes" doc:"What the machine was given to run, the newest first"`
	Tags      []GivenTag     `json:"tags" doc:"Tags decide what a machine is given"`
	Rules     []WatchingRule `json:"rules" doc:"Rules that look at what the machine sends"`
	Kept      []KeptFor      `json:"kept" doc:"How long things are kept"`
	Redaction TakenOut       `json:"redaction" doc:"What is taken out before anything is kept"`
	Sinks     []Destination  `json:"sinks" doc:"Where what the machine sends is passed on to"`
}

// Bounds of the lists.
const (
	MaxQueries = 500
	MaxAsked   = 200
	MaxFetched = 100
	MaxChanges = 100
	MaxPaths   = 500
	MaxRules   = 200
	MaxOthers  = 200     // facts, databases, views, tags, systems outside
	MaxText    = 8 << 10 // bytes of one text; what is longer is cut
)

// Collected is what a machine is to collect.
type Collected struct {
	Revision   int64             `json:"revision" doc:"Number of what it is given"`
	Note       string            `json:"note,omitempty" doc:"Why it is given nothing, or takes it from elsewhere"`
	Queries    []ScheduledQuery  `json:"queries"`
	Files      []WatchedFiles    `json:"files" doc:"Files and directories that are watched"`
	Decorators []AddedFact       `json:"decorators" doc:"Facts that are added to everything that is sent"`
	Databases  []ForeignDatabase `json:"databases" doc:"Databases of other programs that queries may read"`
	Views      []NamedView       `json:"views" doc:"Names that stand for questions, as queries may use them"`
	More       bool              `json:"more" doc:"Some are left out: there are too many"`
}

// NamedView is a name for a question.
type NamedView struct {
	Name string `json:"name"`
	SQL  string `json:"sql"`
}

// ScheduledQuery is one scheduled query.
type ScheduledQuery struct {
	Pack            string   `json:"pack" doc:"The set of queries that it belongs to"`
	PackDescription string   `json:"pack_description,omitempty" doc:"What that set is for"`
	Name            string   `json:"name"`
	Description     string   `json:"description,omitempty" doc:"What it is for, in its author's words"`
	SQL             string   `json:"sql"`
	IntervalSeconds int      `json:"interval_seconds"`
	Tier            int      `json:"tier" doc:"0 harmless, 1 internal, 2 sensitive, 3 dangerous; 3 as well if it cannot be told"`
	Means           string   `json:"means" doc:"The tier in plain words"`
	Only            string   `json:"only,omitempty" doc:"When the machine may leave it out"`
	Discovery       []string `json:"discovery,omitempty" doc:"Questions that must find something first; what they find stays on the machine"`
}

// Every is its interval in words.
func (q ScheduledQuery) Every() string { return Every(time.Duration(q.IntervalSeconds) * time.Second) }

// WatchedFiles are paths that are watched. % and * stand for any text.
type WatchedFiles struct {
	Category string   `json:"category" doc:"The name under which they are watched"`
	Paths    []string `json:"paths"`
	Excluded []string `json:"excluded,omitempty" doc:"Paths among them that are not watched"`
	// Query finds paths besides.
	Query []string `json:"query,omitempty" doc:"Queries whose rows are paths that are watched"`
	Reads bool     `json:"reads" doc:"Whether it is told who opens them, too"`
	Scans bool     `json:"scans" doc:"Whether their content is compared with YARA rules"`
}

// AddedFact is a query whose first row is added.
type AddedFact struct {
	SQL  string `json:"sql"`
	When string `json:"when" doc:"How often it is asked, in words"`
}

// ForeignDatabase is another program's database.
type ForeignDatabase struct {
	Table string `json:"table" doc:"Its name in queries"`
	Path  string `json:"path"`
	SQL   string `json:"sql"`
}

// Asked are live queries.
type Asked struct {
	Questions []Question `json:"questions"`
	More      bool       `json:"more" doc:"Older ones are left out"`
}

// Question is one live query that was sent to the machine.
type Question struct {
	Time     time.Time `json:"time" doc:"When it was sent"`
	SQL      string    `json:"sql"`
	By       string    `json:"by" doc:"Who asked: a person, or what did by itself"`
	Kind     string    `json:"kind" enum:"person,enrollment,trigger"`
	Why      string    `json:"why" doc:"The kind in plain words"`
	Reason   string    `json:"reason,omitempty" doc:"In the words of who asked"`
	Approved string    `json:"approved_by,omitempty" doc:"The second person who agreed"`
	Tier     int       `json:"tier"`
	Means    string    `json:"means" doc:"The tier in plain words"`
	State    string    `json:"state"`
	Outcome  string    `json:"outcome" doc:"The state in plain words"`
}

// Fetched are carves.
type Fetched struct {
	Carves []FileRequest `json:"carves"`
	More   bool          `json:"more" doc:"Older ones are left out"`
}

// FileRequest is a request for files.
type FileRequest struct {
	Time      time.Time  `json:"time"`
	Paths     []string   `json:"paths"`
	By        string     `json:"by,omitempty" doc:"Who asked; nobody did if it is left out"`
	Reason    string     `json:"reason,omitempty"`
	State     string     `json:"state"`
	Outcome   string     `json:"outcome" doc:"The state in plain words"`
	KeptUntil *time.Time `json:"kept_until,omitempty" doc:"When what was fetched is removed"`
}

// ChangeHistory are what the machine was given to run.
type ChangeHistory struct {
	Served []ServedRevision `json:"served"`
	More   bool             `json:"more" doc:"Older ones are left out"`
}

// ServedRevision is one config, by the revision that it is of.
type ServedRevision struct {
	Revision int64      `json:"revision"`
	From     time.Time  `json:"from" doc:"When the machine was given it first"`
	Until    *time.Time `json:"until,omitempty" doc:"When it asked for it last"`
	MadeAt   *time.Time `json:"made_at,omitempty" doc:"When the revision was made"`
	Author   string     `json:"author,omitempty"`
	Approved []string   `json:"approved_by" doc:"Who agreed besides"`
}

// GivenTag is a tag of the machine.
type GivenTag struct {
	Tag   string    `json:"tag"`
	From  string    `json:"from" doc:"What gives it, in words"`
	Since time.Time `json:"since"`
}

// WatchingRule is one that looks at what the machine sends.
type WatchingRule struct {
	Name        string `json:"name"`
	Description string `json:"description,omitempty"`
	Severity    string `json:"severity"`
	Does        string `json:"does" doc:"What follows when it fits, in words"`
}

// KeptFor is how long something is kept.
type KeptFor struct {
	What    string `json:"what" doc:"What is kept, in words"`
	Seconds int64  `json:"seconds" doc:"0: there is no end"`
}

// HowLong is the time in words.
func (k KeptFor) HowLong() string {
	if k.Seconds == 0 {
		return "without an end"
	}
	return Span(time.Duration(k.Seconds) * time.Second)
}

// TakenOut is what is taken out.
type TakenOut struct {
	Kinds   []string     `json:"kinds" doc:"Kinds of secrets that are looked for in everything"`
	Off     []string     `json:"off" doc:"Kinds that are not looked for"`
	Columns []ColumnRule `json:"columns" doc:"Rules about columns, the first that fits holds"`
}

// ColumnRule is a rule about columns.
type ColumnRule struct {
	Of   string `json:"of" doc:"Table, query and column, * for any text"`
	Does string `json:"does" doc:"What happens to the value, in words"`
}

// Destination is a system outside.
type Destination struct {
	Name string `json:"name"`
	Type string `json:"type"`
	Gets string `json:"gets" doc:"What it gets, in words"`
}
