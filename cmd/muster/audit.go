package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/mod/sumdb/note"

	"github.com/musterhq/muster/internal/adminapi"
	"github.com/musterhq/muster/internal/audit"
)

func newAuditCommand() *cobra.Command {
	var t target
	cmd := &cobra.Command{Use: "audit", Short: "Read who did what, and prove that nobody changed it", Args: noArgs, RunE: help}
	t.flags(cmd)
	cmd.AddCommand(newAuditListCommand(&t), newAuditExportCommand(&t), newAuditVerifyCommand(&t), newAuditCheckpointCommand(&t), newAuditProofCommand(&t))
	return cmd
}

// auditPage is how many entries one request answers.
const auditPage = 1000

// eachEntry calls use with entries that the query selects, up to limit.
func eachEntry(ctx context.Context, client *adminapi.Client, query url.Values, limit int, use func(adminapi.AuditEntry) error) error {
	for limit > 0 {
		query.Set("limit", strconv.Itoa(min(auditPage, limit)))
		var p adminapi.AuditPage
		if err := client.Call(ctx, http.MethodGet, "/audit", query, nil, &p); err != nil {
			return err
		}
		for _, e := range p.Entries {
			if err := use(e); err != nil {
				return err
			}
		}
		limit -= len(p.Entries)
		if p.NextCursor == "" {
			return nil
		}
		query.Set("cursor", p.NextCursor)
	}
	return nil
}

// auditFlags are the flags that say which entries.
func auditFlags(cmd *cobra.Command) map[string]*string {
	usage := map[string]string{
		"actor": "name of who did it", "action": "what was done, or the beginning of it, as live.", "target": "what it was done to",
		"outcome": "done or refused", "since": "RFC 3339 time, or how long ago, as in 1h or 7d", "until": "RFC 3339 time, or how long ago",
	}
	flags := map[string]*string{}
	for name, text := range usage {
		flags[name] = cmd.Flags().String(name, "", text)
	}
	return flags
}

// lineOf prints each value as one line of JSON.
func lineOf(w io.Writer) func(adminapi.AuditEntry) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return func(entry adminapi.AuditEntry) error { return e.Encode(entry) }
}

func newAuditListCommand(t *target) *cobra.Command {
	var o output
	var limit int
	var flags map[string]*string
	cmd := &cobra.Command{
		Use: "list", Short: "List the audit log, newest first", Args: noArgs,
		Example: `  muster audit list --action live. --since 1d
  muster audit list --outcome refused -o ndjson`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := t.client()
			if err != nil {
				return err
			}
			if o.form == "ndjson" {
				return eachEntry(cmd.Context(), client, values(flags), limit, lineOf(cmd.OutOrStdout()))
			}
			entries := []adminapi.AuditEntry{}
			err = eachEntry(cmd.Context(), client, values(flags), limit, func(e adminapi.AuditEntry) error {
				entries = append(entries, e)
				return nil
			})
			if err != nil {
				return err
			}
			return o.list(cmd, entries, auditHead(), auditRows(entries))
		},
	}
	o.lists(cmd, "", "ndjson")
	flags = auditFlags(cmd)
	cmd.Flags().IntVar(&limit, "limit", 100, "most entries to list")
	return cmd
}

func auditHead() []string {
	return []string{"SEQ", "TIME", "ACTOR", "ADDRESS", "ACTION", "OUTCOME", "TARGET", "REASON", "DETAIL"}
}

func auditRows(entries []adminapi.AuditEntry) [][]string {
	rows := make([][]string, 0, len(entries))
	for _, e := range entries {
		rows = append(rows, shown(
			strconv.FormatInt(e.Seq, 10), e.Time.Local().Format(time.DateTime), e.Actor, e.Address, e.Action, e.Outcome, e.Target, e.Reason, e.Detail,
		))
	}
	return rows
}

// shown makes cells that command no terminal: strangers choose what is in a
// refusal, and CSV is read there, too.
func shown(cells ...string) []string {
	for i, cell := range cells {
		cells[i] = printable(cell)
	}
	return cells
}

func newAuditExportCommand(t *target) *cobra.Command {
	var o output
	var flags map[string]*string
	cmd := &cobra.Command{
		Use: "export", Short: "Print the whole audit log, oldest first, to keep or to verify elsewhere", Args: noArgs,
		Long: `Print the whole audit log, oldest first. What ndjson prints can be checked without
a server: muster audit verify --file. Keep a checkpoint and the key beside it.`,
		Example: `  muster audit export > audit.ndjson
  muster audit checkpoint > checkpoint; muster audit checkpoint --key > key
  muster audit verify --file audit.ndjson --checkpoint checkpoint --key key`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := t.client()
			if err != nil {
				return err
			}
			query := values(flags)
			query.Set("order", "asc")
			out := bufio.NewWriter(cmd.OutOrStdout())
			use := lineOf(out)
			if o.form == "csv" {
				use = csvOf(out)
			}
			return errors.Join(eachEntry(cmd.Context(), client, query, maxInt, use), out.Flush())
		},
	}
	o.flag(cmd, "ndjson", "csv")
	flags = auditFlags(cmd)
	return cmd
}

const maxInt = int(^uint(0) >> 1)

// csvOf prints each entry as a row, with a head before the first.
func csvOf(w io.Writer) func(adminapi.AuditEntry) error {
	head := append(auditHead(), "SESSION", "OBJECT", "CONTENT_HASH", "APPROVALS", "HASH")
	first := true
	return func(e adminapi.AuditEntry) error {
		row := auditRows([]adminapi.AuditEntry{e})[0]
		row[1] = e.Time.UTC().Format(time.RFC3339Nano)
		row = append(row, shown(e.Session, e.Object, e.ContentHash, strings.Join(e.Approvals, " "), e.Hash)...)
		if first {
			first = false
			return printCSV(w, head, [][]string{row})
		}
		return printCSV(w, row, nil)
	}
}

// auditCheck is what verify checks against.
type auditCheck struct{ file, checkpoint, key string }

func newAuditVerifyCommand(t *target) *cobra.Command {
	var o output
	var c auditCheck
	cmd := &cobra.Command{
		Use: "verify", Short: "Prove that no entry of the audit log was edited, removed, moved or put in", Args: noArgs,
		Long: `Check the whole audit log: that every entry is what was sealed, that none is
missing, moved or put in, and that all of them fit the checkpoints that were signed.

With a server, it checks the log itself, and so does this program, which reads all
entries. Who controls the server's disk can make log, key and checkpoints anew: give
a checkpoint (or a file of them, as a witness keeps it) and the key that you kept
elsewhere. With --file no server is needed.`,
		Example: `  muster audit verify
  muster audit verify --checkpoint kept/checkpoint --key kept/key
  muster audit verify --file audit.ndjson --checkpoint kept/checkpoint --key kept/key`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var r adminapi.AuditReport
			var err error
			if c.file != "" {
				r, err = c.offline(cmd)
			} else {
				r, err = c.online(cmd, t)
			}
			if err != nil {
				return err
			}
			return printReport(cmd, &o, r)
		},
	}
	o.flag(cmd, "text", "json", "yaml")
	f := cmd.Flags()
	f.StringVar(&c.file, "file", "", "check this export instead of a server")
	f.StringVar(&c.checkpoint, "checkpoint", "", "file with checkpoints that you kept; all in it are compared")
	f.StringVar(&c.key, "key", "", "file with the public key that you kept (default: the server's)")
	return cmd
}

// online checks the server's log, there and here.
func (c auditCheck) online(cmd *cobra.Command, t *target) (adminapi.AuditReport, error) {
	var r adminapi.AuditReport
	client, err := t.client()
	if err != nil {
		return r, err
	}
	var signed adminapi.AuditCheckpoint
	if err := client.Call(cmd.Context(), http.MethodGet, "/audit/checkpoint", nil, nil, &signed); err != nil {
		return r, err
	}
	if err := client.Call(cmd.Context(), http.MethodGet, "/audit/verify", nil, nil, &r); err != nil {
		return r, err
	}
	check, err := c.checker(signed.Key, []byte(signed.Checkpoint))
	if err != nil {
		return r, err
	}
	err = eachEntry(cmd.Context(), client, url.Values{"order": {"asc"}}, maxInt, func(e adminapi.AuditEntry) error {
		check.Add(e.Entry(), nil)
		return nil
	})
	if err != nil {
		return r, err
	}
	own := adminapi.Report(check.End(0), r.Broken)
	if r.OK && !own.OK { // the server is wrong, or lies
		return own, nil
	}
	return r, nil
}

// offline checks a file.
func (c auditCheck) offline(cmd *cobra.Command) (adminapi.AuditReport, error) {
	if (c.checkpoint == "") != (c.key == "") {
		return adminapi.AuditReport{}, usagef("--checkpoint and --key belong together: without the key anybody could have signed the checkpoint")
	}
	check, err := c.checker("", nil)
	if err != nil {
		return adminapi.AuditReport{}, err
	}
	if c.checkpoint == "" {
		_, _ = fmt.Fprintln(cmd.ErrOrStderr(), "muster: without --checkpoint and --key it cannot be seen whether entries were removed from the end, or the whole log made anew")
	}
	f, err := os.Open(c.file)
	if err != nil {
		return adminapi.AuditReport{}, err
	}
	defer func() { _ = f.Close() }() // only read
	if err := readEntries(f, check); err != nil {
		return adminapi.AuditReport{}, fmt.Errorf("%s: %w", c.file, err)
	}
	return adminapi.Report(check.End(0), ""), nil
}

// maxLine bounds a line of an export: an entry has at most some 64 KiB of
// detail, which JSON makes up to six times as long.
const maxLine = 1 << 20

// readEntries adds the entries of an export. What is none is an error that says
// where.
func readEntries(r io.Reader, check *audit.Checker) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxLine)
	for n := 1; lines.Scan(); n++ {
		if len(strings.TrimSpace(lines.Text())) == 0 {
			continue
		}
		var e adminapi.AuditEntry
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return fmt.Errorf("line %d is no entry of an audit log, as muster audit export prints them: %w", n, err)
		}
		check.Add(e.Entry(), nil)
	}
	return lines.Err()
}

// checker compares with the checkpoints that were given and one more, if there
// is one; key is used unless one was given.
func (c auditCheck) checker(key string, more []byte) (*audit.Checker, error) {
	if c.key != "" {
		b, err := os.ReadFile(c.key)
		if err != nil {
			return nil, err
		}
		key = string(b)
	}
	var notes [][]byte
	if c.checkpoint != "" {
		b, err := os.ReadFile(c.checkpoint)
		if err != nil {
			return nil, err
		}
		if notes = audit.FindCheckpoints(b); len(notes) == 0 {
			return nil, usagef("%s holds no checkpoint, as muster audit checkpoint prints it or a witness keeps it", c.checkpoint)
		}
	}
	if more != nil {
		notes = append(notes, more)
	}
	if len(notes) == 0 {
		return audit.NewChecker(), nil
	}
	verifier, err := note.NewVerifier(strings.TrimSpace(key))
	if err != nil {
		return nil, usagef("the key is none: %v; muster audit checkpoint --key prints one", err)
	}
	checkpoints := make([]audit.Checkpoint, 0, len(notes))
	for _, n := range notes {
		one, err := audit.OpenCheckpoint(n, verifier)
		if err != nil {
			return nil, fmt.Errorf("a checkpoint cannot be trusted: %w", err)
		}
		checkpoints = append(checkpoints, one)
	}
	return audit.NewChecker(checkpoints...), nil
}

// printReport prints a report; one that is not good is an error, too.
func printReport(cmd *cobra.Command, o *output, r adminapi.AuditReport) error {
	err := o.document(cmd, r, func() error {
		_, err := io.WriteString(cmd.OutOrStdout(), reportText(r))
		return err
	})
	if err == nil && !r.OK {
		err = errors.New("the audit log is not what was written")
	}
	return err
}

func reportText(r adminapi.AuditReport) string {
	var b strings.Builder
	if r.OK {
		fmt.Fprintf(&b, "All %d entries are whole.\n", r.Entries)
	} else {
		fmt.Fprintf(&b, "Of %d entries the first %d are whole.\n", r.Entries, r.Whole)
	}
	switch {
	case r.SignedAt != nil:
		fmt.Fprintf(&b, "The first %d fit what was signed, last on %s.\n", r.Signed, r.SignedAt.Format(time.RFC3339))
	default:
		b.WriteString("None was compared with a checkpoint that fits.\n")
	}
	if r.Broken != "" {
		fmt.Fprintf(&b, "The server signs nothing any more: %s.\n", printable(r.Broken))
	}
	for _, f := range r.Findings {
		if f.First == f.Last {
			fmt.Fprintf(&b, "entry %d: %s: %s\n", f.First, f.Kind, printable(f.Message))
		} else {
			fmt.Fprintf(&b, "entries %d to %d: %s: %s\n", f.First, f.Last, f.Kind, printable(f.Message))
		}
	}
	if r.More > 0 {
		fmt.Fprintf(&b, "… and %d more\n", r.More)
	}
	return b.String()
}

func newAuditCheckpointCommand(t *target) *cobra.Command {
	var o output
	var key bool
	cmd := &cobra.Command{
		Use: "checkpoint", Short: "Print what the audit log was when it was signed last, to keep elsewhere", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := t.client()
			if err != nil {
				return err
			}
			var c adminapi.AuditCheckpoint
			if err := client.Call(cmd.Context(), http.MethodGet, "/audit/checkpoint", nil, nil, &c); err != nil {
				return err
			}
			return o.document(cmd, c, func() error {
				text := c.Checkpoint
				if key {
					text = c.Key + "\n"
				}
				_, err := io.WriteString(cmd.OutOrStdout(), text)
				return err
			})
		},
	}
	o.flag(cmd, "raw", "json", "yaml")
	cmd.Flags().BoolVar(&key, "key", false, "print the public key instead")
	return cmd
}

func newAuditProofCommand(t *target) *cobra.Command {
	var o output
	cmd := &cobra.Command{
		Use: "proof SEQ", Short: "Prove that an entry is in the audit log that was signed", Args: oneArg("the number of an entry"),
		Example: "  muster audit proof 42 > proof.json",
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := t.client()
			if err != nil {
				return err
			}
			var p adminapi.AuditProof
			if err := client.Call(cmd.Context(), http.MethodGet, "/audit/"+url.PathEscape(args[0])+"/proof", nil, nil, &p); err != nil {
				return err
			}
			return o.document(cmd, p, nil)
		},
	}
	o.flag(cmd, "json", "yaml")
	return cmd
}
