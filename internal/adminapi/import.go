package adminapi

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/musterhq/muster/internal/account"
	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/httpx"
	"github.com/musterhq/muster/internal/ident"
	"github.com/musterhq/muster/internal/node"
)

func (a *API) registerImport() {
	register(a, account.NodeWrite, http.MethodPost, "/nodes/import", "Take over nodes of another manager with the keys that they have", a.importNodes)
}

// Limits of one imported node.
const (
	// minKey is the shortest key that nobody guesses: 16 bytes of hex are 64
	// bits, and each guess is a request.
	minKey        = 16
	maxKey        = 512 // osquery.DecodeNodeKey reads no longer one fast
	maxIdentifier = 255 // as at enrolment
	maxWord       = 255 // of hostname, platform and version
)

// Check says what is wrong with a node, or nothing; the error names the field.
func (n ImportNode) Check() error {
	switch {
	case strings.TrimSpace(n.HostIdentifier) == "":
		return errs.Field("host_identifier", "is missing; it is what the agent says it is, as a UUID or hostname")
	case len(n.HostIdentifier) > maxIdentifier:
		return errs.Field("host_identifier", "is longer than %d bytes; agents with a longer one cannot enrol", maxIdentifier)
	case n.NodeKey == "":
		return errs.Field("node_key", "is missing; without it the agent has to enrol")
	case len(n.NodeKey) < minKey:
		return errs.Field("node_key", "has fewer than %d bytes and can be guessed; leave the node out, and let its agent enrol", minKey)
	case len(n.NodeKey) > maxKey:
		return errs.Field("node_key", "is longer than %d bytes; leave the node out, and let its agent enrol", maxKey)
	}
	for _, word := range [][2]string{{"hostname", n.Hostname}, {"platform", n.Platform}, {"osquery_version", n.OsqueryVersion}} {
		if len(word[1]) > maxWord {
			return errs.Field(word[0], "is longer than %d bytes; shorten it, or leave it out", maxWord)
		}
	}
	_, err := node.CleanTags("tags", n.Tags)
	return err
}

// maxAudited bounds the host identifiers that one entry of the audit log names.
const maxAudited = 100

func (a *API) importNodes(ctx context.Context, in *body[ImportInput]) (*body[ImportResult], error) {
	out := ImportResult{Results: make([]ImportedNode, len(in.Body.Nodes))}
	var nodes []node.Import
	var indexes []int // of nodes in the results
	var names []string
	for i, n := range in.Body.Nodes {
		out.Results[i] = ImportedNode{Index: i, HostIdentifier: n.HostIdentifier}
		if err := n.Check(); err != nil {
			out.refuse(i, err)
			continue
		}
		nodes, indexes = append(nodes, a.imported(n)), append(indexes, i)
		if len(names) < maxAudited {
			names = append(names, n.HostIdentifier)
		}
	}
	if len(nodes) == 0 {
		return &body[ImportResult]{out}, nil
	}
	detail := map[string]any{"nodes": len(nodes), "refused": out.Refused, "host_identifiers": names}
	if err := a.Audit.Record(ctx, session(ctx).UserName, "node.import", fmt.Sprintf("%d nodes", len(nodes)), detail); err != nil {
		return nil, err
	}
	became, err := a.Nodes.ImportNodes(ctx, nodes)
	if err != nil {
		return nil, err
	}
	if len(became) != len(nodes) {
		return nil, fmt.Errorf("import of %d nodes gave %d results", len(nodes), len(became))
	}
	for k, i := range indexes {
		out.count(i, nodes[k].Node.ID, became[k])
	}
	return &body[ImportResult]{out}, nil
}

// imported makes a node of what was sent. What it lacks comes with the agent's
// requests, or when it enrols.
func (a *API) imported(n ImportNode) node.Import {
	identifier := strings.TrimSpace(n.HostIdentifier) // as at enrolment, so that it is the same node then
	tags, _ := node.CleanTags("tags", n.Tags)         // Check did
	return node.Import{
		Node: node.Node{
			ID: ident.New(), HostIdentifier: identifier, Hostname: cmp.Or(strings.TrimSpace(n.Hostname), identifier),
			Platform: platform(n.Platform), OsqueryVersion: n.OsqueryVersion, Tags: tags, EnrolledAt: a.Now(),
		},
		Key: a.Keyer.Hash(node.PurposeNodeKey, n.NodeKey),
	}
}

// platform is osquery's name of the family that a manager's word belongs to:
// most keep os_version.platform, which is the distribution on Linux.
func platform(word string) string {
	word = strings.ToLower(strings.TrimSpace(word))
	switch word {
	case "", "darwin", "windows":
		return word
	case "macos":
		return "darwin"
	}
	return "linux"
}

func (r *ImportResult) refuse(i int, err error) {
	r.Refused++
	n := &r.Results[i]
	n.Result, n.Message = "refused", httpx.Message(err)
	if e, ok := errors.AsType[*errs.Error](err); ok {
		n.Field, n.Message = e.Field, e.Message
	}
}

// count notes what the store said of the node with that index.
func (r *ImportResult) count(i int, id string, became node.Imported) {
	n := &r.Results[i]
	switch became {
	case node.ImportAdded:
		r.Added++
		n.Result, n.ID = "added", id
	case node.ImportKnown:
		r.Known++
		n.Result = "known"
	case node.ImportClash:
		r.Clashes++
		n.Result, n.Field = "clash", "host_identifier"
		n.Message = "is here with another key; delete that node if this one is meant, and import it again"
	case node.ImportKeyUsed:
		r.KeysUsed++
		n.Result, n.Field = "key_used", "node_key"
		n.Message = "is another node's; two machines share it, so let this one enrol"
	}
}
