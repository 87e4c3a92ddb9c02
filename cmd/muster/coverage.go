package main

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/musterhq/muster/internal/adminapi"
	"github.com/musterhq/muster/internal/health"
)

// coverageDoc is what muster coverage prints.
type coverageDoc struct {
	Hosts   int            `json:"hosts"`
	Covered int            `json:"covered"`
	Rows    []coverageRow  `json:"rows"`
	Counts  map[string]int `json:"counts"`
}

type coverageRow struct {
	State    string     `json:"state"` // missing, stale, unknown, unclear
	Host     string     `json:"host"`
	NodeID   string     `json:"node_id,omitempty"`
	LastSeen *time.Time `json:"last_seen,omitempty"`
}

func newCoverageCommand() *cobra.Command {
	var t target
	var o output
	var file string
	stale := 7 * 24 * time.Hour
	cmd := &cobra.Command{
		Use: "coverage --inventory FILE", Short: "Which hosts of a list have no node, and which nodes no list has", Args: noArgs,
		Long: `Compare a list of hosts, as a cloud's or a CMDB's export, with the nodes: hosts
without a node (missing), with one that was not heard of for long (stale), and nodes
that the list does not have (unknown). A host that several nodes fit is unclear.

The list is CSV with a head, JSON (an array, or an object on each line) or a host on
each line. It is read here, and no server sees it. Hosts are compared by hostname,
host, name, fqdn, host_identifier, uuid, id or ip.

The exit code is 5 when hosts are missing.`,
		Example: `  muster coverage --inventory hosts.csv
  aws ec2 describe-instances … | muster coverage --inventory - -o json`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if file == "" {
				return usagef("say which list: --inventory FILE, - for standard input")
			}
			hosts, err := readInventory(cmd, file)
			if err != nil {
				return err
			}
			client, err := t.client()
			if err != nil {
				return err
			}
			var nodes []health.Known
			err = client.AllNodes(cmd.Context(), nil, math.MaxInt, func(n adminapi.Node) error {
				k := health.Known{ID: n.ID, HostIdentifier: n.HostIdentifier, Hostname: n.Hostname, Address: n.Address}
				if n.LastSeen != nil {
					k.LastSeen = *n.LastSeen
				}
				nodes = append(nodes, k)
				return nil
			})
			if err != nil {
				return err
			}
			doc := coverageDocument(len(hosts), health.Compare(hosts, nodes, time.Now().Add(-stale)))
			if err = o.list(cmd, doc, []string{"STATE", "HOST", "NODE", "LAST SEEN"}, doc.rows()); err != nil {
				return err
			}
			_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "%d of %d hosts have a node that is heard of; %d missing, %d stale, %d unclear; %d nodes that the list does not have\n",
				doc.Covered, doc.Hosts, doc.Counts["missing"], doc.Counts["stale"], doc.Counts["unclear"], doc.Counts["unknown"])
			if doc.Counts["missing"] > 0 {
				return &exit{exitPartly, fmt.Errorf("%d hosts have no node", doc.Counts["missing"])}
			}
			return nil
		},
	}
	t.flags(cmd)
	o.lists(cmd, "")
	cmd.Flags().StringVar(&file, "inventory", "", "the list; - is standard input")
	cmd.Flags().Var((*days)(&stale), "stale", "a node that was not heard of for so long is stale")
	return cmd
}

func readInventory(cmd *cobra.Command, file string) ([]health.Host, error) {
	if file == "-" {
		return health.ParseInventory(cmd.InOrStdin())
	}
	b, err := os.ReadFile(file) //nolint:gosec // the user's own
	if err != nil {
		return nil, err
	}
	return health.ParseInventory(bytes.NewReader(b))
}

func coverageDocument(hosts int, c health.Coverage) coverageDoc {
	doc := coverageDoc{Hosts: hosts, Covered: len(c.Covered), Rows: []coverageRow{}, Counts: map[string]int{
		"missing": len(c.Missing), "stale": len(c.Stale), "unclear": len(c.Unclear), "unknown": len(c.Unknown),
	}}
	for _, h := range c.Missing {
		doc.Rows = append(doc.Rows, coverageRow{State: "missing", Host: h.Name})
	}
	for _, h := range c.Unclear {
		doc.Rows = append(doc.Rows, coverageRow{State: "unclear", Host: h.Name})
	}
	for _, m := range c.Stale {
		doc.Rows = append(doc.Rows, coverageRow{"stale", m.Host.Name, m.Node.ID, seenAt(m.Node.LastSeen)})
	}
	for _, n := range c.Unknown {
		doc.Rows = append(doc.Rows, coverageRow{"unknown", n.Hostname, n.ID, seenAt(n.LastSeen)})
	}
	return doc
}

func seenAt(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func (d coverageDoc) rows() [][]string {
	rows := make([][]string, 0, len(d.Rows))
	for _, r := range d.Rows {
		rows = append(rows, []string{r.State, r.Host, r.NodeID, moment(r.LastSeen)})
	}
	return rows
}
