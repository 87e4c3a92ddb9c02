package account

import (
	"slices"
	"strings"

	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/node"
	"github.com/musterhq/muster/internal/policy"
)

// Role is what its holders may do, to which nodes, and how far. It never changes
// once it is made: safe for concurrent use.
type Role struct {
	Name        string
	Description string
	Permissions []Permission // sorted
	// Where is which nodes it is about; nil for all.
	Where *node.Where
	Limits
}

// Limits are how far a role's permissions reach.
type Limits struct {
	// LiveTier is the highest tier of a live query's text.
	LiveTier policy.Tier
	// ScheduleTier is the highest tier of what a change may bring to agents.
	ScheduleTier policy.Tier
	// RowTier is the highest tier of queries whose rows may be read.
	RowTier policy.Tier
	// MaxNodes is how many nodes a live query may ask; 0 for any.
	MaxNodes int
}

// Scope is what a role gives, or what is left to a token of what its owner can do,
// as people write it. What is nil is not said.
type Scope struct {
	Permissions  []string `json:"permissions,omitempty"` // patterns: node.read, live.*, *
	Selector     string   `json:"selector,omitempty"`    // "" for all nodes
	LiveTier     *int     `json:"live_tier,omitempty"`
	ScheduleTier *int     `json:"schedule_tier,omitempty"`
	RowTier      *int     `json:"row_tier,omitempty"`
	MaxNodes     int      `json:"max_nodes,omitempty"`
}

// DefaultTier is the highest tier of a role that names none: what everybody may
// know.
const DefaultTier = policy.Internal

// NewRole makes a role. An error names the field.
func NewRole(name, description string, s Scope) (*Role, error) {
	r := &Role{Name: name, Description: description, Limits: Limits{LiveTier: DefaultTier, ScheduleTier: DefaultTier, RowTier: DefaultTier}}
	if slices.ContainsFunc(Builtin(), func(b *Role) bool { return b.Name == name }) {
		return nil, errs.Field("name", "%s is one of Muster's own roles; choose another name", name)
	}
	if err := r.read(s); err != nil {
		return nil, err
	}
	return r, r.check()
}

// read takes over what a scope says.
func (r *Role) read(s Scope) error {
	for _, pattern := range s.Permissions {
		means := expand(pattern)
		if len(means) == 0 {
			return errs.Field("permissions", "%q is no permission; there are %s", pattern, words(Permissions()))
		}
		r.grant(means...)
	}
	if len(r.Permissions) == 0 {
		return errs.Field("permissions", "is empty; write some, as node.read or live.*")
	}
	if s.Selector != "" {
		where, err := node.ParseWhere("selector", s.Selector)
		if err != nil {
			return err
		}
		r.Where = &where
	}
	if s.MaxNodes < 0 {
		return errs.Field("max_nodes", "must not be negative")
	}
	r.MaxNodes = s.MaxNodes
	for _, t := range []struct {
		field string
		from  *int
		to    *policy.Tier
	}{{"live_tier", s.LiveTier, &r.LiveTier}, {"schedule_tier", s.ScheduleTier, &r.ScheduleTier}, {"row_tier", s.RowTier, &r.RowTier}} {
		if t.from == nil {
			continue
		}
		if *t.from < 0 || *t.from > int(policy.Dangerous) {
			return errs.Field(t.field, "must be 0 to %d", int(policy.Dangerous))
		}
		*t.to = policy.Tier(*t.from)
	}
	return nil
}

// check refuses what no role may have.
func (r *Role) check() error {
	if slices.ContainsFunc(approving(), r.has) && r.has(GovernWrite) {
		return errs.Field("permissions", "no role can both approve and change what must be approved; leave out %s, or %s", GovernWrite, words(approving()))
	}
	if r.Where == nil {
		return nil
	}
	var beyond []Permission
	for _, p := range r.Permissions {
		if !slices.Contains(perNode(), p) {
			beyond = append(beyond, p)
		}
	}
	if len(beyond) > 0 {
		return errs.Field("selector", "cannot narrow %s, which reach every node; give those by a role without a selector", words(beyond))
	}
	return nil
}

func (r *Role) has(p Permission) bool { return slices.Contains(r.Permissions, p) }

func (r *Role) grant(permissions ...Permission) {
	for _, p := range permissions {
		r.Permissions = append(append(r.Permissions, p), implied(p)...)
	}
	slices.Sort(r.Permissions)
	r.Permissions = slices.Compact(r.Permissions)
}

func words(permissions []Permission) string {
	list := make([]string, 0, len(permissions))
	for _, p := range permissions {
		list = append(list, string(p))
	}
	return strings.Join(list, ", ")
}

// The names of Muster's own roles.
const (
	Admin      = "admin"
	Operator   = "operator"
	Responder  = "responder"
	Analyst    = "analyst"
	Auditor    = "auditor"
	Automation = "automation"
)

// Builtin returns Muster's own roles, which cannot be changed. As any role, none
// has both consent and a say in what needs consent.
func Builtin() []*Role {
	all := Limits{LiveTier: policy.Dangerous, ScheduleTier: policy.Dangerous, RowTier: policy.Dangerous}
	without := func(gone ...Permission) []Permission {
		return slices.DeleteFunc(Permissions(), func(p Permission) bool { return slices.Contains(gone, p) })
	}
	role := func(name, description string, l Limits, permissions ...Permission) *Role {
		r := &Role{Name: name, Description: description, Limits: l}
		r.grant(permissions...)
		return r
	}
	return []*Role{
		role(Admin, "Everything but consent to what others want.", all, without(approving()...)...),
		role(Operator, "Runs the fleet and consents to changes; neither people, nor what governs, nor backups.", all, without(GovernWrite, UserWrite, SystemBackup)...),
		role(Responder, "Asks nodes, fetches files, looks after alerts, and consents to live queries.", all,
			NodeRead, NodeWrite, EventRead, LiveRead, LiveRun, LiveApprove, CarveRead, CarveRun, CarveDownload, AlertRead, AlertWrite, SilenceWrite, ResourceRead, SystemRead),
		role(Analyst, "Reads, and runs saved queries.", Limits{LiveTier: policy.Sensitive, RowTier: policy.Sensitive},
			NodeRead, EventRead, LiveRead, LiveRunSaved, CarveRead, AlertRead, ResourceRead, SystemRead),
		role(Auditor, "Reads what was done, by whom, and how all is set; rows of no sensitive query.", Limits{RowTier: DefaultTier}, reading()...),
		role(Automation, "Proposes changes from a pipeline, which people approve.", Limits{ScheduleTier: policy.Dangerous},
			NodeRead, ResourceRead, ChangeWrite, GovernWrite, SystemRead),
	}
}
