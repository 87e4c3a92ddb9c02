package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/musterhq/muster/internal/adminapi"
	"github.com/musterhq/muster/internal/errs"
)

func newImportCommand() *cobra.Command {
	var t target
	cmd := &cobra.Command{Use: "import", Short: "Take over what another manager has", Args: noArgs, RunE: help}
	t.flags(cmd)
	cmd.AddCommand(newImportNodesCommand(&t), newImportResourcesCommand(&t), newImportRulesCommand(&t))
	return cmd
}

func newImportNodesCommand(t *target) *cobra.Command {
	var o output
	var dryRun bool
	cmd := &cobra.Command{
		Use: "nodes FILE|-", Short: "Take over nodes with the keys that they have, so that they need not enrol again", Args: oneArg("a file, or - for standard input"),
		Long: `Take over the nodes of another manager with the keys that they have. An agent
whose requests then reach this server goes on as if nothing had happened.

FILE is an export of the other manager's table of nodes: CSV with a header line,
a JSON array, or one JSON object per line. These columns are read, and others
left out:

  host_identifier, osquery_host_id or uuid   what the agent calls itself
  node_key or key                            its key, at least 16 bytes
  hostname or computer_name
  platform
  osquery_version
  tags                                       an array, or words with commas between

A node that is here already stays as it is, so the same file may be imported
again. The exit code is 5 when some nodes were refused.`,
		Example: `  muster import nodes hosts.csv --dry-run
  mysql --batch fleet -e 'SELECT osquery_host_id, node_key, hostname, platform FROM hosts' | muster import nodes -`,
		RunE: func(cmd *cobra.Command, args []string) error {
			in, err := openInput(cmd, args[0])
			if err != nil {
				return usagef("%w", err)
			}
			defer in.Close() //nolint:errcheck // only read
			file, err := parseNodes(in)
			if err != nil {
				return usagef("%s: %w", args[0], err)
			}
			r := newImportReport(file)
			if len(file.ignored) > 0 {
				r.note(cmd, "not read: %s", strings.Join(file.ignored, ", "))
			}
			if dryRun {
				r.DryRun = true
				return r.finish(cmd, &o)
			}
			client, err := t.client()
			if err != nil {
				return err
			}
			if err := r.send(cmd, client); err != nil {
				return err
			}
			return r.finish(cmd, &o)
		},
	}
	o.flag(cmd, "table", "json", "yaml")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "say what would be refused, and send nothing")
	return cmd
}

// importReport is what muster import nodes prints.
type importReport struct {
	DryRun   bool            `json:"dry_run"`
	Nodes    int             `json:"nodes"` // in the file
	Added    int             `json:"added"`
	Known    int             `json:"known"`
	Clashes  int             `json:"clashes"`
	KeysUsed int             `json:"keys_used"`
	Refused  int             `json:"refused"`
	Problems []importProblem `json:"problems"`

	good []lineNode
}

// importProblem is a node that was not taken. It never holds the key.
type importProblem struct {
	Line           int    `json:"line"`
	HostIdentifier string `json:"host_identifier"`
	Result         string `json:"result"`
	Field          string `json:"field"`
	Message        string `json:"message"`
}

// newImportReport refuses what can be refused without the server.
func newImportReport(file nodeFile) *importReport {
	r := &importReport{Nodes: len(file.nodes) + len(file.bad), Problems: []importProblem{}}
	for _, b := range file.bad {
		r.refuse(importProblem{Line: b.line, Message: b.message})
	}
	for _, n := range file.nodes {
		if err := n.Check(); err != nil {
			p := importProblem{Line: n.line, HostIdentifier: n.HostIdentifier, Message: err.Error()}
			if e, ok := errors.AsType[*errs.Error](err); ok {
				p.Field, p.Message = e.Field, e.Message
			}
			r.refuse(p)
			continue
		}
		r.good = append(r.good, n)
	}
	return r
}

func (r *importReport) refuse(p importProblem) {
	p.Result = "refused"
	r.Refused++
	r.Problems = append(r.Problems, p)
}

// Size of one request: the server takes as many nodes, and 1 MiB.
const (
	importNodes = 1000
	importBytes = 512 << 10
)

// send imports the good nodes, a request at a time.
func (r *importReport) send(cmd *cobra.Command, client *adminapi.Client) error {
	for sent := 0; sent < len(r.good); {
		var in adminapi.ImportInput
		for size := 0; sent+len(in.Nodes) < len(r.good) && len(in.Nodes) < importNodes && size < importBytes; {
			n := r.good[sent+len(in.Nodes)].ImportNode
			b, err := json.Marshal(n)
			if err != nil {
				return err
			}
			in.Nodes, size = append(in.Nodes, n), size+len(b)
		}
		var out adminapi.ImportResult
		if err := client.Call(cmd.Context(), http.MethodPost, "/nodes/import", nil, in, &out); err != nil {
			return fmt.Errorf("after %d of %d nodes: %w; run it again for the rest", sent, len(r.good), err)
		}
		r.add(r.good[sent:], out)
		sent += len(in.Nodes)
		r.note(cmd, "sent %d of %d nodes", sent, len(r.good))
	}
	return nil
}

// add counts what became of the first of these nodes.
func (r *importReport) add(sent []lineNode, out adminapi.ImportResult) {
	r.Added += out.Added
	r.Known += out.Known
	r.Clashes += out.Clashes
	r.KeysUsed += out.KeysUsed
	r.Refused += out.Refused
	for i, n := range out.Results {
		if n.Result != "added" && n.Result != "known" && i < len(sent) {
			r.Problems = append(r.Problems, importProblem{sent[i].line, n.HostIdentifier, n.Result, n.Field, n.Message})
		}
	}
}

func (*importReport) note(cmd *cobra.Command, format string, args ...any) {
	_, _ = fmt.Fprintln(cmd.ErrOrStderr(), printable(fmt.Sprintf(format, args...)))
}

// finish prints the report; its error says that some nodes were not taken.
func (r *importReport) finish(cmd *cobra.Command, o *output) error {
	slices.SortStableFunc(r.Problems, func(a, b importProblem) int { return cmp.Compare(a.Line, b.Line) })
	if err := o.document(cmd, r, func() error { return r.print(cmd) }); err != nil {
		return err
	}
	if n := len(r.Problems); n > 0 {
		return &exit{exitPartly, fmt.Errorf("%d of %d nodes were refused", n, r.Nodes)}
	}
	return nil
}

func (r *importReport) print(cmd *cobra.Command) error {
	if len(r.Problems) > 0 {
		rows := make([][]string, 0, len(r.Problems))
		for _, p := range r.Problems {
			rows = append(rows, []string{strconv.Itoa(p.Line), p.HostIdentifier, strings.ReplaceAll(p.Result, "_", " "), strings.TrimSpace(p.Field + " " + p.Message)})
		}
		if err := printTable(cmd.OutOrStdout(), []string{"LINE", "HOST IDENTIFIER", "RESULT", "REASON"}, rows); err != nil {
			return err
		}
	}
	text := fmt.Sprintf("%d added, %d known, %d clashes, %d keys used, %d refused", r.Added, r.Known, r.Clashes, r.KeysUsed, r.Refused)
	if r.DryRun {
		text = fmt.Sprintf("%d would be sent, %d refused", len(r.good), r.Refused)
	}
	_, err := fmt.Fprintln(cmd.OutOrStdout(), text)
	return err
}
