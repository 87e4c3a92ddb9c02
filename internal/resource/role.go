package resource

import (
	"errors"
	"slices"

	"github.com/musterhq/muster/internal/account"
	"github.com/musterhq/muster/internal/errs"
)

// Role says what its holders may do, to which nodes, and how far.
type Role struct {
	Permissions  []string `json:"permissions" yaml:"permissions" doc:"As node.read, live.* or *; muster role permissions lists them"`
	Selector     string   `json:"selector,omitempty" yaml:"selector,omitempty" doc:"Nodes that it is about; all if it is left out"`
	LiveTier     *int     `json:"live_tier,omitempty" yaml:"live_tier,omitempty" doc:"Highest tier of live queries, 0 to 3; 1 if it is left out"`
	ScheduleTier *int     `json:"schedule_tier,omitempty" yaml:"schedule_tier,omitempty" doc:"Highest tier of what a change may bring to agents, 0 to 3; 1 if it is left out"`
	RowTier      *int     `json:"row_tier,omitempty" yaml:"row_tier,omitempty" doc:"Highest tier of queries whose rows may be read, 0 to 3; 1 if it is left out"`
	MaxNodes     int      `json:"max_nodes,omitempty" yaml:"max_nodes,omitempty" doc:"How many nodes a live query may ask; any number if it is left out"`
}

func (r *Role) role(o Object) (*account.Role, error) {
	return account.NewRole(o.Name, o.Description, account.Scope(*r))
}

func (r *Role) check(c *checker) {
	_, err := r.role(c.object)
	if e, ok := errors.AsType[*errs.Error](err); ok {
		c.refuse(e.Field, "bad-role", "%s", e.Message)
	} else if err != nil {
		c.refuse("", "bad-role", "%v", err)
	}
}

func (s *Snapshot) addRole(o Object, r *Role) error {
	role, err := r.role(o)
	if err == nil {
		s.roles = append(s.roles, role)
	}
	return err
}

// Roles returns Muster's own roles, then the Roles by name. Do not change them.
func (s *Snapshot) Roles() []*account.Role { return s.roles }

// Role returns a role by name; nil without one. It implements [account.Roles]: a
// role holds as soon as its revision is there.
func (c *Catalog) Role(name string) *account.Role {
	roles := c.Plan().Newest().Roles()
	if i := slices.IndexFunc(roles, func(r *account.Role) bool { return r.Name == name }); i >= 0 {
		return roles[i]
	}
	return nil
}
