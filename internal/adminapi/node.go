package adminapi

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/musterhq/muster/internal/account"
	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/node"
)

func (a *API) registerNodes() {
	register(a, account.NodeRead, http.MethodGet, "/nodes", "List nodes", a.listNodes)
	register(a, account.NodeRead, http.MethodGet, "/nodes/facets", "Count nodes by platform, tag, version and status", a.nodeFacets)
	register(a, account.NodeRead, http.MethodGet, "/nodes/{id}", "Show a node", a.showNode)
	register(a, account.NodeRead, http.MethodGet, "/nodes/{id}/config", "Show what a node is served as its config", a.nodeConfig)
	register(a, account.NodeWrite, http.MethodPut, "/nodes/{id}/tags", "Replace a node's tags", a.tagNode)
	register(a, account.NodeWrite, http.MethodDelete, "/nodes/{id}", "Remove a node; its key is refused from then on", a.deleteNode)
}

type listNodesInput struct {
	Search   string `query:"search" maxLength:"255" doc:"In hostname, host identifier, address or id"`
	Tag      string `query:"tag"`
	Platform string `query:"platform"`
	Version  string `query:"version" doc:"Of osquery"`
	Status   string `query:"status" enum:"online,offline"`
	Sort     string `query:"sort" enum:"hostname,platform,os,osquery_version,status,last_seen,enrolled_at,address" default:"hostname"`
	Order    string `query:"order" enum:"asc,desc" default:"asc"`
	Limit    int    `query:"limit" minimum:"1" maximum:"1000" default:"100"`
	Cursor   string `query:"cursor" maxLength:"1024"`
}

func (a *API) listNodes(ctx context.Context, in *listNodesInput) (*body[NodePage], error) {
	page, err := a.Nodes.Nodes(ctx, node.Filter{
		Search: in.Search, Tag: in.Tag, Platform: in.Platform, Version: in.Version, Status: in.Status,
		Sort: in.Sort, Desc: in.Order == "desc", Limit: in.Limit, Cursor: in.Cursor, Now: a.Now(),
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
	if i := a.Registry.Lookup(n.ID); i != nil {
		n.LastSeen = i.LastSeen()
	}
	status := "offline"
	if n.Online(a.Now()) {
		status = "online"
	}
	tags := n.Tags
	if tags == nil {
		tags = []string{}
	}
	return Node{
		ID: n.ID, HostIdentifier: n.HostIdentifier, Hostname: n.Hostname, Platform: n.Platform, OS: n.OS,
		OsqueryVersion: n.OsqueryVersion, Address: n.Address, Tags: tags, Status: status,
		LastSeen: n.LastSeen.UTC(), EnrolledAt: n.EnrolledAt.UTC(), EnrollSecret: n.Secret, Enrolments: n.Enrolments,
	}
}

func (a *API) nodeFacets(ctx context.Context, _ *none) (*body[Facets], error) {
	f, err := a.Nodes.NodeFacets(ctx, a.Now())
	if err != nil {
		return nil, err
	}
	return &body[Facets]{facetsOf(f)}, nil
}

func facetsOf(f node.Facets) Facets {
	return Facets{
		Total: f.Total, Online: f.Online,
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
	details := n.Details
	if details == nil {
		details = map[string]map[string]string{}
	}
	return &body[NodeDetail]{NodeDetail{Node: a.node(n), Details: details}}, nil
}

func (a *API) nodeConfig(_ context.Context, in *NodeRef) (*body[ConfigDocument], error) {
	n := a.Registry.Lookup(in.ID)
	if n == nil {
		return nil, errs.New(errs.NotFound, "no node has the id %q", in.ID)
	}
	c := a.Catalog.Config(n)
	return &body[ConfigDocument]{ConfigDocument{Revision: c.Revision, Hash: c.Hash, Config: json.RawMessage(c.JSON)}}, nil
}

type tagNodeInput struct {
	NodeRef
	Body TagsInput
}

func (a *API) tagNode(ctx context.Context, in *tagNodeInput) (*body[Node], error) {
	tags, err := node.CleanTags("tags", in.Body.Tags)
	if err != nil {
		return nil, err
	}
	if err := a.Audit.Record(ctx, session(ctx).UserName, "node.tag", in.ID, in.Body); err != nil {
		return nil, err
	}
	n, err := a.Nodes.SetNodeTags(ctx, in.ID, tags)
	if err != nil {
		return nil, err
	}
	return &body[Node]{a.node(n)}, nil
}

func (a *API) deleteNode(ctx context.Context, in *NodeRef) (*none, error) {
	if err := a.Audit.Record(ctx, session(ctx).UserName, "node.delete", in.ID, nil); err != nil {
		return nil, err
	}
	if err := a.Nodes.DeleteNode(ctx, in.ID); err != nil {
		return nil, err
	}
	a.Registry.Forget(in.ID)
	return nil, nil
}

// at returns nil for the zero time, so that it is left out.
func at(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}
