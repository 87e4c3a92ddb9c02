package adminapi

import (
	"cmp"
	"context"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/musterhq/muster/internal/account"
	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/node"
)

func (a *API) registerNodes() {
	registerScoped(a, account.NodeRead, http.MethodGet, "/nodes", "List nodes", a.listNodes)
	registerScoped(a, account.NodeRead, http.MethodGet, "/nodes/facets", "Count nodes by platform, tag, version and status", a.nodeFacets)
	registerScoped(a, account.NodeRead, http.MethodGet, "/nodes/{id}", "Show a node", a.showNode)
	registerScoped(a, account.NodeRead, http.MethodGet, "/nodes/{id}/history", "List what a node's attributes were, also of one that is gone", a.nodeHistory)
	registerScoped(a, account.NodeRead, http.MethodGet, "/nodes/who", "Find the nodes that had an address, or another attribute, at a time", a.whoHad)
	registerScoped(a, account.NodeRead, http.MethodGet, "/nodes/{id}/tags/history", "List what gives and gave a node its tags, also of one that is gone", a.tagHistory)
	registerScoped(a, account.NodeWrite, http.MethodPut, "/nodes/{id}/tags", "Replace a node's tags; those that rules and queries give stay", a.tagNode)
	registerScoped(a, account.NodeWrite, http.MethodPost, "/nodes/{id}/quarantine", "Put a node under quarantine: an empty config, no queries", a.quarantineNode)
	registerScoped(a, account.NodeWrite, http.MethodDelete, "/nodes/{id}/quarantine", "Release a node from quarantine", a.releaseNode)
	registerScoped(a, account.NodeWrite, http.MethodPost, "/nodes/{id}/revoke", "Take a node's key away; it may enrol again, as the same node", a.revokeNode)
	registerScoped(a, account.NodeWrite, http.MethodDelete, "/nodes/{id}", "Remove a node; its key is refused from then on", a.deleteNode)
}

type listNodesInput struct {
	Search   string `query:"search" maxLength:"255" doc:"In hostname, host identifier, address or id"`
	Tag      string `query:"tag" maxLength:"64"`
	Platform string `query:"platform" maxLength:"64"`
	Version  string `query:"version" maxLength:"64" doc:"Of osquery"`
	Status   string `query:"status" enum:"online,offline,quarantined,gone" doc:"Nodes that are gone are listed when asked for"`
	Sort     string `query:"sort" enum:"hostname,platform,os,osquery_version,status,last_seen,enrolled_at,address" default:"hostname"`
	Order    string `query:"order" enum:"asc,desc" default:"asc"`
	Limit    int    `query:"limit" minimum:"1" maximum:"1000" default:"100"`
	Cursor   string `query:"cursor" maxLength:"1024"`
}

func (a *API) listNodes(ctx context.Context, in *listNodesInput) (*body[NodePage], error) {
	page, err := a.Nodes.Nodes(ctx, node.Filter{
		Search: in.Search, Tag: in.Tag, Platform: in.Platform, Version: in.Version, Status: in.Status,
		Sort: in.Sort, Desc: in.Order == "desc", Limit: in.Limit, Cursor: in.Cursor, Now: a.Now(),
		Nodes: a.scope(ctx, account.NodeRead),
	})
	if err != nil {
		return nil, err
	}
	out := NodePage{Nodes: make([]Node, 0, len(page.Nodes)), Total: page.Total, NextCursor: page.Next}
	for _, n := range page.Nodes {
		out.Nodes = append(out.Nodes, a.node(n))
	}
	return &body[NodePage]{out}, nil
}

// node shows a node, with what memory knows better than the store.
func (a *API) node(n node.Node) Node {
	now := a.Now()
	online := n.Online(now)
	if i := a.Registry.Lookup(n.ID); i != nil {
		n.LastSeen, online = i.LastSeen(), i.Online(now)
	}
	return Node{
		ID: n.ID, HostIdentifier: n.HostIdentifier, Hostname: n.Hostname, Platform: n.Platform, OS: n.OS,
		OsqueryVersion: n.OsqueryVersion, Address: n.Address, Tags: list(n.Tags), Status: status(n, online),
		LastSeen: at(n.LastSeen), Seen: seen(n.Seen), OfflineAfter: int(cmp.Or(n.Patience, node.OfflineAfter).Seconds()),
		EnrolledAt: n.EnrolledAt.UTC(), EnrollSecret: n.Secret, Enrolments: n.Enrolments, Certificate: n.Certificate,
		Clashes: n.Clashes, LastClash: at(n.LastClash), ClashReason: n.ClashReason, CloneOf: n.CloneOf,
		QuarantinedAt: at(n.QuarantinedAt), QuarantineReason: n.QuarantineReason, GoneAt: at(n.GoneAt),
	}
}

// status is the one word for a node, the gravest first.
func status(n node.Node, online bool) string {
	switch {
	case !n.GoneAt.IsZero():
		return node.StatusGone
	case n.Quarantined():
		return node.StatusQuarantined
	case online:
		return node.StatusOnline
	}
	return node.StatusOffline
}

func seen(s node.Seen) Seen {
	return Seen{
		Enroll: at(s[node.EndpointEnroll]), Config: at(s[node.EndpointConfig]), Log: at(s[node.EndpointLog]),
		Read: at(s[node.EndpointRead]), Write: at(s[node.EndpointWrite]),
	}
}

// list is never null.
func list[T any](values []T) []T {
	if values == nil {
		return []T{}
	}
	return values
}

func (a *API) nodeFacets(ctx context.Context, _ *none) (*body[Facets], error) {
	f, err := a.Nodes.NodeFacets(ctx, a.scope(ctx, account.NodeRead), a.Now())
	if err != nil {
		return nil, err
	}
	return &body[Facets]{facetsOf(f)}, nil
}

func facetsOf(f node.Facets) Facets {
	return Facets{
		Total: f.Total, Online: f.Online, Quarantined: f.Quarantined, Clashes24h: f.Clashes24h,
		Platforms: counts(f.Platforms), Tags: counts(f.Tags), Versions: counts(f.Versions),
	}
}

func counts(in []node.Count) []Count {
	out := make([]Count, 0, len(in))
	for _, c := range in {
		out = append(out, Count{Value: c.Value, Count: c.Count})
	}
	return out
}

// NodeRef names a node in a path.
type NodeRef struct {
	ID string `path:"id" maxLength:"255" doc:"Id of the node"`
}

func (a *API) showNode(ctx context.Context, in *NodeRef) (*body[NodeDetail], error) {
	n, err := a.Nodes.FindNode(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	if err := a.on(ctx, account.NodeRead, n.ID); err != nil {
		return nil, err
	}
	details := n.Details
	if details == nil {
		details = map[string]map[string]string{}
	}
	attributes := n.Attributes
	if attributes == nil {
		attributes = map[string]string{}
	}
	return &body[NodeDetail]{NodeDetail{Node: a.node(n), TagSources: tagSources(n.TagSources), Attributes: attributes, Details: details}}, nil
}

type tagNodeInput struct {
	NodeRef
	Body TagsInput
}

func (a *API) tagNode(ctx context.Context, in *tagNodeInput) (*body[TaggedNode], error) {
	if err := a.on(ctx, account.NodeWrite, in.ID); err != nil {
		return nil, err
	}
	tags, err := node.CleanTags("tags", in.Body.Tags)
	if err != nil {
		return nil, err
	}
	if err := a.mayTag(ctx, in.ID, tags); err != nil {
		return nil, err
	}
	if err := a.Audit.Record(ctx, session(ctx).UserName, "node.tag", in.ID, in.Body); err != nil {
		return nil, err
	}
	n, err := a.Nodes.SetNodeTags(ctx, in.ID, tags)
	if err != nil {
		return nil, err
	}
	out := TaggedNode{Node: a.node(n), TagSources: tagSources(n.TagSources), Kept: []TagSource{}}
	for _, t := range out.TagSources {
		if !slices.Contains(tags, t.Tag) {
			out.Kept = append(out.Kept, t)
		}
	}
	out.Message = stays(out.Kept)
	return &body[TaggedNode]{out}, nil
}

// mayTag refuses tags during a freeze if they give the node another config, by
// themselves, by what tag rules make of them, or by a stage or the safe config that
// looks at them: they would change what it runs as an edit of a selector does.
func (a *API) mayTag(ctx context.Context, id string, tags []string) error {
	reason, frozen := a.Freezer.Frozen()
	n := a.Registry.Lookup(id)
	if !frozen || n == nil {
		return nil
	}
	given := slices.Clone(tags)
	for _, t := range n.TagSources {
		if t.Source != node.SourceHand && !strings.HasPrefix(t.Source, node.RuleSource("")) { // stays, or at most goes
			given = append(given, t.Tag)
		}
	}
	tagged := n.WithTags(given)
	tagged = a.Catalog.Snapshot(tagged).As(tagged)
	if a.Catalog.Expected(n).Hash == a.Catalog.Expected(tagged).Hash {
		return nil
	}
	reason = "the tags give the node another config, and changes are frozen: " + reason
	if err := a.Audit.Refused(ctx, session(ctx).UserName, "node.tag", id, reason, map[string]any{"tags": tags}); err != nil {
		return err
	}
	return errs.New(errs.Forbidden, "%s", reason)
}

// stays explains why tags stay that somebody took away; "" for none.
func stays(kept []TagSource) string {
	if len(kept) == 0 {
		return ""
	}
	parts := make([]string, 0, len(kept))
	for _, t := range kept {
		parts = append(parts, t.Tag+" (by "+strings.Join(t.Sources, ", ")+")")
	}
	return "tags stay that rules or queries give: " + strings.Join(parts, ", ") + "; change the rule or the query"
}

// tagSources puts the sources of each tag together; they are sorted by tag.
func tagSources(sources []node.TagSource) []TagSource {
	list := []TagSource{}
	for _, s := range sources {
		if n := len(list); n == 0 || list[n-1].Tag != s.Tag {
			list = append(list, TagSource{Tag: s.Tag})
		}
		last := &list[len(list)-1]
		last.Sources = append(last.Sources, s.Source)
	}
	return list
}

func (a *API) tagHistory(ctx context.Context, in *NodeRef) (*body[TagHistory], error) {
	if err := a.on(ctx, account.NodeRead, in.ID); err != nil {
		return nil, err
	}
	spans, err := a.Nodes.TagHistory(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	out := TagHistory{Tags: make([]TagSpan, 0, len(spans))}
	for _, s := range spans {
		out.Tags = append(out.Tags, TagSpan{Tag: s.Tag, Source: s.Source, Since: s.Since.UTC(), Until: at(s.Until)})
	}
	return &body[TagHistory]{out}, nil
}

type quarantineInput struct {
	NodeRef
	Body QuarantineInput
}

func (a *API) quarantineNode(ctx context.Context, in *quarantineInput) (*body[Node], error) {
	if strings.TrimSpace(in.Body.Reason) == "" {
		return nil, errs.Field("reason", "is empty; say why, for whoever finds it later")
	}
	return a.setQuarantine(ctx, "node.quarantine", in.ID, in.Body.Reason, a.Now())
}

func (a *API) releaseNode(ctx context.Context, in *NodeRef) (*body[Node], error) {
	return a.setQuarantine(ctx, "node.release", in.ID, "", time.Time{})
}

// setQuarantine records the action and keeps it. Registries, this server's
// too, learn of it with their next Sync.
func (a *API) setQuarantine(ctx context.Context, action, id, reason string, since time.Time) (*body[Node], error) {
	if err := a.on(ctx, account.NodeWrite, id); err != nil {
		return nil, err
	}
	var detail any
	if reason != "" {
		detail = map[string]string{"reason": reason}
	}
	if err := a.Audit.Record(ctx, session(ctx).UserName, action, id, detail); err != nil {
		return nil, err
	}
	n, err := a.Nodes.SetQuarantine(ctx, id, reason, since)
	if err != nil {
		return nil, err
	}
	return &body[Node]{a.node(n)}, nil
}

func (a *API) revokeNode(ctx context.Context, in *NodeRef) (*none, error) {
	return a.shutOut(ctx, "node.revoke", in.ID, a.Nodes.RevokeNode)
}

func (a *API) deleteNode(ctx context.Context, in *NodeRef) (*none, error) {
	return a.shutOut(ctx, "node.delete", in.ID, a.Nodes.DeleteNode)
}

// shutOut does what ends a node's key, which this server refuses at once.
func (a *API) shutOut(ctx context.Context, action, id string, do func(context.Context, string) error) (*none, error) {
	if err := a.on(ctx, account.NodeWrite, id); err != nil {
		return nil, err
	}
	if err := a.Audit.Record(ctx, session(ctx).UserName, action, id, nil); err != nil {
		return nil, err
	}
	if err := do(ctx, id); err != nil {
		return nil, err
	}
	a.Registry.Forget(id)
	return nil, nil
}

func (a *API) nodeHistory(ctx context.Context, in *NodeRef) (*body[Sightings], error) {
	if err := a.on(ctx, account.NodeRead, in.ID); err != nil {
		return nil, err
	}
	return sightings(a.Nodes.NodeHistory(ctx, in.ID))
}

type whoInput struct {
	IP        string `query:"ip" maxLength:"64" doc:"An address, as the server saw it"`
	Attribute string `query:"attribute" maxLength:"64" doc:"Without ip: address, hostname, host_identifier, platform, os, osquery_version, instance, certificate, or the name of a decorator"`
	Value     string `query:"value" maxLength:"1024" doc:"Of the attribute, exactly"`
	At        string `query:"at" maxLength:"64" doc:"RFC 3339, or how long ago, as in 2h or 3d; now if empty"`
	Limit     int    `query:"limit" minimum:"1" maximum:"1000" default:"100"`
}

func (a *API) whoHad(ctx context.Context, in *whoInput) (*body[Sightings], error) {
	w, err := in.who()
	if err != nil {
		return nil, err
	}
	if w.At, err = moment("at", in.At, a.Now()); err != nil {
		return nil, err
	}
	if w.At.IsZero() {
		w.At = a.Now()
	}
	found, err := a.Nodes.Who(ctx, w)
	found = wherePermitted(ctx, a, account.NodeRead, found, func(s node.Sighting) string { return s.NodeID })
	return sightings(found, err)
}

// who reads which attribute is asked for. Addresses are kept in one form, so
// that is how they are looked for.
func (in *whoInput) who() (node.Who, error) {
	w := node.Who{Attribute: in.Attribute, Value: in.Value, Limit: in.Limit}
	field := "value"
	switch {
	case in.IP != "" && in.Attribute+in.Value != "":
		return w, errs.Field("ip", "stands beside attribute or value; give one or the other")
	case in.IP != "":
		w.Attribute, w.Value, field = node.AttributeAddress, in.IP, "ip"
	case in.Attribute == "":
		return w, errs.Field("ip", "is missing; give ip, or attribute and value")
	case in.Value == "":
		return w, errs.Field("value", "is missing; give the value that %s had", in.Attribute)
	}
	if w.Attribute != node.AttributeAddress {
		return w, nil
	}
	addr, err := netip.ParseAddr(w.Value)
	if err != nil {
		return w, errs.Field(field, "%q is no address; write 192.0.2.7 or 2001:db8::7", w.Value)
	}
	w.Value = addr.Unmap().String()
	return w, nil
}

func sightings(found []node.Sighting, err error) (*body[Sightings], error) {
	if err != nil {
		return nil, err
	}
	out := Sightings{Sightings: make([]Sighting, 0, len(found))}
	for _, s := range found {
		out.Sightings = append(out.Sightings, Sighting{
			NodeID: s.NodeID, HostIdentifier: s.HostIdentifier, Hostname: s.Hostname, Attribute: s.Attribute, Value: s.Value,
			FirstSeen: s.First.UTC(), LastSeen: at(s.Last), Until: at(s.Until),
		})
	}
	return &body[Sightings]{out}, nil
}

// at returns nil for the zero time, so that it is left out.
func at(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}
