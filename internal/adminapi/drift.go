package adminapi

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/musterhq/muster/internal/node"
	"github.com/musterhq/muster/internal/rollout"
)

// Drift is which nodes run another config than they should.
type Drift struct {
	Nodes   []DriftedNode `json:"nodes" doc:"At most 1000, by host name"`
	Drifted int           `json:"drifted"`
	Right   int           `json:"right" doc:"Nodes that told that they run what they should"`
	Unknown int           `json:"unknown" doc:"Nodes that have not told since the server started"`
}

// DriftedNode is a node that runs another config than it should.
type DriftedNode struct {
	NodeID   string    `json:"node_id"`
	Hostname string    `json:"hostname"`
	Revision int64     `json:"revision" doc:"What it should run"`
	Hash     string    `json:"hash" doc:"The config_hash that it should tell"`
	Reported string    `json:"reported" doc:"The one that it told"`
	At       time.Time `json:"at" doc:"When it told"`
	OnDisk   bool      `json:"on_disk" doc:"It takes its config from files: renew them"`
}

// maxDrift bounds an answer.
const maxDrift = 1000

func (a *API) drift(context.Context, *none) (*body[Drift], error) {
	out := Drift{Nodes: []DriftedNode{}}
	for n := range a.Registry.All {
		told := a.Evidence.Evidence(n.ID)
		if told.Hash == "" {
			out.Unknown++
			continue
		}
		d, err := a.expected(n, told)
		if err != nil {
			return nil, err
		}
		if d.Hash == d.Reported {
			out.Right++
			continue
		}
		out.Drifted++
		out.Nodes = append(out.Nodes, d)
	}
	slices.SortFunc(out.Nodes, func(a, b DriftedNode) int {
		return cmp.Or(cmp.Compare(a.Hostname, b.Hostname), cmp.Compare(a.NodeID, b.NodeID))
	})
	out.Nodes = out.Nodes[:min(len(out.Nodes), maxDrift)]
	return &body[Drift]{out}, nil
}

// expected compares what a node told with what it should.
func (a *API) expected(n *node.Identity, told rollout.Evidence) (DriftedNode, error) {
	d := DriftedNode{NodeID: n.ID, Hostname: n.Hostname, Reported: told.Hash, At: told.HashAt.UTC()}
	s := a.Catalog.Snapshot(n)
	files, err := s.Files(n)
	if err != nil {
		return d, err
	}
	c := files
	if d.OnDisk = files != nil; !d.OnDisk {
		c = a.Catalog.Expected(n)
	}
	d.Revision, d.Hash = c.Revision, c.Hash
	return d, nil
}
