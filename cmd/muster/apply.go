package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/musterhq/muster/internal/adminapi"
	"github.com/musterhq/muster/internal/policy"
	"github.com/musterhq/muster/internal/resource"
)

func newApplyCommand() *cobra.Command {
	var t target
	var o output
	var files, deletes []string
	var in adminapi.ChangeInput
	cmd := &cobra.Command{
		Use: "apply", Short: "Change what agents run", Args: noArgs,
		Long: `Change what agents run. The documents are checked as a whole, together with all
that is there already: one that fails changes nothing, and the same ones again
are no change. What happens is printed before it does: creations, edits,
deletions, whom it affects, its tier, cost and findings.

A change within the policy becomes a revision at once, or waits for the
approvals that an ApprovalPolicy asks for, and rolls out in the stages of a
RolloutPolicy. Exit code 3: refused by the policy, a freeze, a budget, or because
another rollout is open. Exit code 5: it waits for approval.`,
		Example: `  muster apply -f resources/ -m "usb devices every hour" --dry-run
  muster apply -f resources/ -m "usb devices every hour" --prune
  muster apply --delete Pack/old -m "nobody reads it"`,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if in.Files, err = readDocuments(cmd, files); err != nil {
				return err
			}
			if in.Delete, err = parseKeys(deletes); err != nil {
				return err
			}
			if len(in.Files) == 0 && len(in.Delete) == 0 {
				return usagef("-f is missing; name files or directories with YAML documents")
			}
			client, err := t.client()
			if err != nil {
				return err
			}
			return propose(cmd, &o, client, in)
		},
	}
	t.flags(cmd)
	o.flag(cmd, "table", "json", "yaml")
	f := cmd.Flags()
	f.StringArrayVarP(&files, "file", "f", nil, "file, directory, or - for standard input; may be repeated")
	f.StringArrayVar(&deletes, "delete", nil, "object to delete, as Pack/old; may be repeated")
	f.StringVarP(&in.Message, "message", "m", "", "why; it is kept with the change")
	f.BoolVar(&in.DryRun, "dry-run", false, "tell what would happen, and do nothing")
	f.BoolVar(&in.Prune, "prune", false, "delete every object that is not in the files")
	return cmd
}

// propose plans a change, shows it, and makes it unless it is a dry run.
func propose(cmd *cobra.Command, o *output, client *adminapi.Client, in adminapi.ChangeInput) error {
	plan := in
	plan.DryRun = true
	var c adminapi.Change
	if err := client.Call(cmd.Context(), http.MethodPost, "/changes", nil, plan, &c); err != nil {
		return err
	}
	if o.form == "table" {
		if err := printChange(cmd.OutOrStdout(), c); err != nil {
			return err
		}
	}
	if in.DryRun || c.State == "unchanged" || c.State == "refused" {
		// What is refused is asked for all the same, unless it is a dry run: who
		// tried is in the audit log then.
		if c.State == "refused" && !in.DryRun {
			_ = client.Call(cmd.Context(), http.MethodPost, "/changes", nil, in, nil)
		}
		return finishChange(cmd, o, c)
	}
	in.Expect = c.Hash
	if err := client.Call(cmd.Context(), http.MethodPost, "/changes", nil, in, &c); err != nil {
		return err
	}
	return finishChange(cmd, o, c)
}

// finishChange prints the end of a change, and makes its exit code.
func finishChange(cmd *cobra.Command, o *output, c adminapi.Change) error {
	err := o.document(cmd, c, func() error {
		_, err := fmt.Fprintln(cmd.OutOrStdout(), outcome(c))
		return err
	})
	switch {
	case err != nil:
		return err
	case c.State == "refused":
		return &exit{exitRefused, errors.New("the change is refused")}
	case c.State == "pending":
		return &exit{exitPartly, fmt.Errorf("change %s waits for %d approvals (%s): muster change approve %[1]s", c.ID, c.Needed-len(c.Approvals), c.Rule)}
	}
	return nil
}

// outcome says in a line what became of a change.
func outcome(c adminapi.Change) string {
	switch c.State {
	case "unchanged":
		return "Nothing to change."
	case "planned":
		return "A dry run: nothing was changed."
	case "refused":
		return "Nothing was changed."
	case "applied":
		if c.Rollout != "" {
			return fmt.Sprintf("Revision %d rolls out by %s: muster rollout status", c.Revision, c.Rollout)
		}
		return fmt.Sprintf("Revision %d is served to all nodes that it is for.", c.Revision)
	}
	return fmt.Sprintf("Change %s is %s.", c.ID, c.State)
}

// printChange prints a change for people.
func printChange(w io.Writer, c adminapi.Change) error {
	var b strings.Builder
	for _, e := range c.Diff {
		fmt.Fprintf(&b, "%s %s\n", map[resource.Op]string{resource.Create: "+", resource.Change: "~", resource.Delete: "-"}[e.Op], e.Key)
		printFields(&b, e)
	}
	if len(c.Diff) > 0 {
		fmt.Fprintf(&b, "\nTier %s. Affects %d nodes, %d of them online.\n", policy.Tier(c.Tier), c.Effect.Nodes, c.Effect.Online) //nolint:gosec // 0 to 3
		if c.Effect.Asked > 0 {
			fmt.Fprintf(&b, "Enrollment queries or triggers change for %d nodes, which may be asked at once or later.\n", c.Effect.Asked)
		}
		printCost(&b, c.Effect)
	}
	for _, i := range c.Findings {
		printItem(&b, i)
	}
	for _, r := range c.Refusals {
		fmt.Fprintf(&b, "REFUSED: %s\n", r)
	}
	if c.Needed > 0 {
		fmt.Fprintf(&b, "Approvals needed by others: %d (%s).\n", c.Needed, c.Rule)
	}
	if c.Rollout != "" {
		fmt.Fprintf(&b, "Rolls out by %s.\n", c.Rollout)
	}
	return printText(w, b.String())
}

// printText prints text for people, whose lines cannot command the terminal.
func printText(w io.Writer, text string) error {
	for line := range strings.Lines(text) {
		if _, err := fmt.Fprintln(w, printable(strings.TrimSuffix(line, "\n"))); err != nil {
			return err
		}
	}
	return nil
}

// maxValue bounds what is printed of one value.
const maxValue = 160

func printFields(b *strings.Builder, e resource.Edit) {
	if e.Op == resource.Delete {
		return
	}
	for _, f := range e.Fields {
		switch {
		case e.Op == resource.Create || f.Before == "":
			fmt.Fprintf(b, "    + %s: %s\n", f.Path, oneLine(f.After))
		case f.After == "":
			fmt.Fprintf(b, "    - %s: %s\n", f.Path, oneLine(f.Before))
		default:
			fmt.Fprintf(b, "    ~ %s: %s → %s\n", f.Path, oneLine(f.Before), oneLine(f.After))
		}
	}
}

// oneLine shortens a value to a line.
func oneLine(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	if r := []rune(s); len(r) > maxValue {
		return string(r[:maxValue]) + "…"
	}
	return s
}

func printCost(b *strings.Builder, e adminapi.Effect) {
	if e.After != (adminapi.DayCost{}) || e.Before != (adminapi.DayCost{}) {
		fmt.Fprintf(b, "Cost of the dearest node's queries a day: %.4g CPU seconds (%.4g now), %.4g rows (%.4g), %.4g bytes (%.4g).\n",
			e.After.CPUSeconds, e.Before.CPUSeconds, e.After.Rows, e.Before.Rows, e.After.Bytes, e.Before.Bytes)
	}
	if len(e.Unpriced) > 0 {
		fmt.Fprintf(b, "No evidence of cost yet: %s.\n", strings.Join(e.Unpriced, ", "))
	}
}

// printItem prints what is to be known of a part that the policy understands.
func printItem(b *strings.Builder, i resource.Item) {
	where := strings.TrimSpace(i.String() + " " + i.Path)
	if !i.Verdict.Provable() {
		return // it is among the refusals
	}
	if i.Verdict.Tier > policy.Harmless {
		fmt.Fprintf(b, "tier %s: %s", i.Verdict.Tier, where)
		if len(i.Verdict.Reasons) > 0 {
			fmt.Fprintf(b, " (%s: %s)", i.Verdict.Reasons[0].Name, i.Verdict.Reasons[0].Why)
		}
		if i.Verdict.Exception != "" {
			fmt.Fprintf(b, ", allowed by PolicyException/%s", i.Verdict.Exception)
		}
		b.WriteString("\n")
	}
	for _, f := range i.Verdict.Findings {
		fmt.Fprintf(b, "%s: %s: %s [%s]\n", f.Severity, where, f.Message, f.Code)
	}
}

// readDocuments reads files, and the YAML files in directories, by name.
func readDocuments(cmd *cobra.Command, names []string) ([]adminapi.File, error) {
	var files []adminapi.File
	for _, name := range names {
		paths, err := documentPaths(name)
		if err != nil {
			return nil, usagef("-f: %w", err)
		}
		for _, path := range paths {
			b, err := readAll(cmd, path)
			if err != nil {
				return nil, usagef("-f: %w", err)
			}
			files = append(files, adminapi.File{Name: path, Content: string(b)})
		}
	}
	return files, nil
}

func readAll(cmd *cobra.Command, path string) ([]byte, error) {
	r, err := openInput(cmd, path)
	if err != nil {
		return nil, err
	}
	defer r.Close() //nolint:errcheck // only read
	return io.ReadAll(io.LimitReader(r, maxDocuments))
}

// maxDocuments is above what the server takes, so that its refusal says what is
// wrong.
const maxDocuments = 16 << 20

// documentPaths returns the YAML files of a directory, or the file itself.
func documentPaths(name string) ([]string, error) {
	if name == "-" {
		return []string{name}, nil
	}
	return filesBelow(name, ".yaml", ".yml")
}

// filesBelow returns the files with these extensions anywhere below a directory,
// by name; or the file itself.
func filesBelow(name string, extensions ...string) ([]string, error) {
	info, err := os.Stat(name)
	if err != nil || !info.IsDir() {
		return []string{name}, err
	}
	var paths []string
	err = filepath.WalkDir(name, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && slices.Contains(extensions, filepath.Ext(path)) {
			paths = append(paths, path)
		}
		return err
	})
	slices.Sort(paths)
	if err == nil && len(paths) == 0 {
		err = fmt.Errorf("%s holds no %s file", name, strings.Join(extensions, " or "))
	}
	return paths, err
}

func parseKeys(words []string) ([]resource.Key, error) {
	var keys []resource.Key
	for _, w := range words {
		kind, name, ok := strings.Cut(w, "/")
		if !ok {
			return nil, usagef("%q names no object; write kind and name, as Pack/base", w)
		}
		keys = append(keys, resource.Key{Kind: kind, Name: name})
	}
	return keys, nil
}

func newDiffCommand() *cobra.Command {
	var t target
	var o output
	var files []string
	var prune bool
	cmd := &cobra.Command{
		Use: "diff", Short: "Tell how documents differ from what agents run; exit code 1 if they do", Args: noArgs,
		Example: "  muster diff -f resources/ --prune",
		RunE: func(cmd *cobra.Command, _ []string) error {
			documents, err := readDocuments(cmd, files)
			if err != nil {
				return err
			}
			if len(documents) == 0 {
				return usagef("-f is missing; name files or directories with YAML documents")
			}
			client, err := t.client()
			if err != nil {
				return err
			}
			var c adminapi.Change
			in := adminapi.ChangeInput{Files: documents, Prune: prune, DryRun: true}
			if err := client.Call(cmd.Context(), http.MethodPost, "/changes", nil, in, &c); err != nil {
				return err
			}
			err = o.document(cmd, c, func() error { return printChange(cmd.OutOrStdout(), c) })
			if err == nil && c.State != "unchanged" {
				err = &exit{exitFailed, errors.New("there are differences")}
			}
			return err
		},
	}
	t.flags(cmd)
	o.flag(cmd, "table", "json", "yaml")
	cmd.Flags().StringArrayVarP(&files, "file", "f", nil, "file, directory, or - for standard input; may be repeated")
	cmd.Flags().BoolVar(&prune, "prune", false, "count objects that are not in the files as deleted")
	return cmd
}

func newExportCommand() *cobra.Command {
	var t target
	var o output
	var dir string
	query := url.Values{}
	var revision int64
	var kind string
	cmd := &cobra.Command{
		Use: "export [KIND/NAME]", Short: "Write what agents run as YAML documents", Args: atMostOne("an object, as Pack/base"),
		Example: "  muster export --dir resources/\n  muster export Pack/base",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				keys, err := parseKeys(args)
				if err != nil {
					return err
				}
				query.Set("kind", keys[0].Kind)
				query.Set("name", keys[0].Name)
			} else if kind != "" {
				query.Set("kind", kind)
			}
			if revision > 0 {
				query.Set("revision", strconv.FormatInt(revision, 10))
			}
			client, err := t.client()
			if err != nil {
				return err
			}
			var r adminapi.Resources
			if err := client.Call(cmd.Context(), http.MethodGet, "/resources", query, nil, &r); err != nil {
				return err
			}
			if len(args) == 1 && len(r.Objects) == 0 {
				return &exit{exitNotFound, fmt.Errorf("there is no %s", args[0])}
			}
			if dir != "" {
				return writeDocuments(cmd, dir, r)
			}
			if o.form == "json" {
				return printJSON(cmd.OutOrStdout(), r.Objects)
			}
			_, err = io.WriteString(cmd.OutOrStdout(), r.YAML)
			return err
		},
	}
	t.flags(cmd)
	o.flag(cmd, "yaml", "json")
	f := cmd.Flags()
	f.StringVar(&dir, "dir", "", "write a file for each object into this directory")
	f.StringVar(&kind, "kind", "", "only objects of this kind")
	f.Int64Var(&revision, "revision", 0, "of this revision; the newest if it is not given")
	cmd.AddCommand(newExportAgentCommand(&t))
	return cmd
}

// atMostOne is cobra.MaximumNArgs(1) with a message that says what is taken.
func atMostOne(what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) > 1 {
			return usagef("%s takes %s at most; see %[1]s --help", cmd.CommandPath(), what)
		}
		return nil
	}
}

// writeDocuments writes each object to a file of its own, as pack-base.yaml.
func writeDocuments(cmd *cobra.Command, dir string, r adminapi.Resources) error {
	objects, err := resource.Parse("answer", []byte(r.YAML))
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	for _, o := range objects {
		b, err := resource.YAML([]resource.Object{o})
		if err != nil {
			return err
		}
		path := filepath.Join(dir, strings.ToLower(o.Kind)+"-"+o.Name+".yaml") // names hold no slash
		if err := os.WriteFile(path, b, 0o600); err != nil {
			return err
		}
	}
	_, err = fmt.Fprintf(cmd.ErrOrStderr(), "Wrote %d objects of revision %d to %s.\n", len(objects), r.Revision, dir)
	return err
}
