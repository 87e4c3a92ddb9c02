package adminapi

import (
	"context"
	"net/http"
	"time"

	"github.com/musterhq/muster/internal/account"
	"github.com/musterhq/muster/internal/health"
	"github.com/musterhq/muster/internal/node"
)

// NodeHealth tells how nodes fare; see health.Monitor.
type NodeHealth interface {
	Counts() map[health.Kind]int
	Open(nodeID string) []health.Finding
	Watchdog(n *node.Identity) (health.Limit, bool)
}

// FindingStore lists findings.
type FindingStore interface {
	Findings(ctx context.Context, f health.Filter) (list []health.Finding, next string, err error)
}

// NodeFinding is one thing about how a node fares.
type NodeFinding struct {
	NodeID   string     `json:"node_id"`
	Hostname string     `json:"hostname" doc:"Empty if the node is gone"`
	Kind     string     `json:"kind"`
	Subject  string     `json:"subject,omitempty" doc:"The query, flag or extension that it is about"`
	Severity string     `json:"severity" enum:"info,low,medium,high,critical"`
	Text     string     `json:"text"`
	OpenedAt time.Time  `json:"opened_at"`
	LastAt   time.Time  `json:"last_at" doc:"When it was seen last"`
	Count    int        `json:"count" doc:"How often it was seen"`
	Until    *time.Time `json:"until,omitempty" doc:"It closes by itself then"`
	ClosedAt *time.Time `json:"closed_at,omitempty" doc:"Absent while it is open; that of a moment, as an enrolment, is when it opened"`
}

// NodeFindings is a page of findings.
type NodeFindings struct {
	Findings   []NodeFinding `json:"findings"`
	NextCursor string        `json:"next_cursor,omitempty" doc:"Absent on the last page"`
}

// Health is how the fleet fares.
type Health struct {
	Open map[string]int `json:"open" doc:"Findings that are open, by kind"`
}

// NodeHealthDocument is how a node fares.
type NodeHealthDocument struct {
	Open     []NodeFinding `json:"open"`
	Recent   []NodeFinding `json:"recent" doc:"The newest, open or not"`
	Watchdog *NodeWatchdog `json:"watchdog,omitempty" doc:"Absent if the node did not tell its flags; see docs/health.md for the query that asks for them"`
}

// NodeWatchdog is when a node's watchdog ends its worker.
type NodeWatchdog struct {
	Off       bool    `json:"off"`
	Level     int     `json:"level"`
	Percent   int     `json:"percent" doc:"Of all cores"`
	Cores     int     `json:"cores" doc:"Logical ones; 0 if not known"`
	Threshold float64 `json:"threshold" doc:"CPU in cores above which the worker is ended"`
	Seconds   int     `json:"seconds" doc:"How long it must be above it"`
	MemoryMB  int     `json:"memory_mb"`
	Bites     bool    `json:"bites" doc:"Whether a query that keeps one core busy is ended"`
	Why       string  `json:"why"`
}

type findingsInput struct {
	Node   string `query:"node" maxLength:"256" doc:"Id, host identifier or hostname"`
	Kind   string `query:"kind" maxLength:"64"`
	Open   bool   `query:"open" doc:"Only those that are open"`
	Cursor string `query:"cursor" maxLength:"1024"`
	Limit  int    `query:"limit" minimum:"1" maximum:"1000" default:"100"`
}

func (a *API) registerHealth() {
	register(a, account.NodeRead, http.MethodGet, "/health", "How many findings about nodes are open", a.fleetHealth)
	register(a, account.NodeRead, http.MethodGet, "/findings", "What was found about nodes, newest first", a.findings)
	registerScoped(a, account.NodeRead, http.MethodGet, "/nodes/{id}/health", "How a node fares: findings, and whether its watchdog can bite", a.nodeHealth)
}

func (a *API) fleetHealth(context.Context, *none) (*body[Health], error) {
	out := Health{Open: map[string]int{}}
	counts := a.Health.Counts()
	for _, k := range health.Kinds() {
		if counts[k] > 0 {
			out.Open[string(k)] = counts[k]
		}
	}
	return &body[Health]{out}, nil
}

func (a *API) findings(ctx context.Context, in *findingsInput) (*body[NodeFindings], error) {
	kind, err := health.ParseKind(in.Kind)
	if err != nil {
		return nil, err
	}
	f := health.Filter{Kind: kind, Open: in.Open, Cursor: in.Cursor, Limit: in.Limit}
	if in.Node != "" {
		n, err := a.Nodes.FindNode(ctx, in.Node)
		if err != nil {
			return nil, err
		}
		f.NodeID = n.ID
	}
	list, next, err := a.Findings.Findings(ctx, f)
	if err != nil {
		return nil, err
	}
	return &body[NodeFindings]{NodeFindings{a.findingDocuments(list), next}}, nil
}

// recentFindings bounds those of one node.
const recentFindings = 50

func (a *API) nodeHealth(ctx context.Context, in *NodeRef) (*body[NodeHealthDocument], error) {
	n, err := a.Nodes.FindNode(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	if err := a.on(ctx, account.NodeRead, n.ID); err != nil {
		return nil, err
	}
	recent, _, err := a.Findings.Findings(ctx, health.Filter{NodeID: n.ID, Limit: recentFindings})
	if err != nil {
		return nil, err
	}
	out := NodeHealthDocument{Open: a.findingDocuments(a.Health.Open(n.ID)), Recent: a.findingDocuments(recent)}
	if i := a.Registry.Lookup(n.ID); i != nil {
		if l, known := a.Health.Watchdog(i); known {
			out.Watchdog = &NodeWatchdog{
				Off: l.Off, Level: l.Level, Percent: l.Percent, Cores: l.Cores, Threshold: l.Threshold, Seconds: l.Seconds,
				MemoryMB: l.MemoryMB, Bites: l.Bites, Why: l.Why,
			}
		}
	}
	return &body[NodeHealthDocument]{out}, nil
}

func (a *API) findingDocuments(list []health.Finding) []NodeFinding {
	out := make([]NodeFinding, 0, len(list))
	for _, f := range list {
		d := NodeFinding{
			NodeID: f.NodeID, Kind: string(f.Kind), Subject: f.Subject, Severity: f.Severity, Text: f.Text,
			OpenedAt: f.Opened.UTC(), LastAt: f.Last.UTC(), Count: f.Count, Until: at(f.Until), ClosedAt: at(f.Closed),
		}
		if n := a.Registry.Lookup(f.NodeID); n != nil {
			d.Hostname = n.Hostname
		}
		out = append(out, d)
	}
	return out
}
