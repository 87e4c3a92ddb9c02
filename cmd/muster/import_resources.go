package main

import (
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/musterhq/muster/internal/adminapi"
	"github.com/musterhq/muster/internal/foreign"
	"github.com/musterhq/muster/internal/resource"
)

func newImportResourcesCommand(t *target) *cobra.Command {
	var o output
	var name, format string
	var as imported
	cmd := &cobra.Command{
		Use: "resources FILE…", Short: "Take over packs, queries, options and labels of osquery, Fleet, Doorman or osctrl",
		Long: `Read what another manager keeps, and print it as Muster's own documents: osquery
packs and configs as the agent reads them, Fleet's YAML, Doorman's packs, osctrl's
environments. What cannot be taken over is said on standard error.

With --apply it becomes a change, as muster apply makes one.`,
		Example: `  muster import resources packs/*.conf > resources/packs.yaml
  muster import resources osquery.conf --apply -m "from the old server" --dry-run`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("%s needs files; see %[1]s --help", cmd.CommandPath())
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			objects, err := importFiles(cmd, args, name, foreign.Format(format))
			if err != nil {
				return err
			}
			return as.finish(cmd, t, &o, objects)
		},
	}
	o.flag(cmd, "table", "json", "yaml")
	f := cmd.Flags()
	f.StringVar(&name, "name", "", "name for what has none of its own")
	f.StringVar(&format, "format", "", "what the files are, if it cannot be told: "+strings.Join(formats(), ", "))
	as.flags(cmd)
	return cmd
}

func formats() []string {
	var words []string
	for _, f := range foreign.Formats() {
		words = append(words, string(f))
	}
	return words
}

// importFiles reads files of one or several formats, each format's together.
// Their names are the paths, which tell files of one name apart.
func importFiles(cmd *cobra.Command, paths []string, name string, format foreign.Format) ([]resource.Object, error) {
	files := map[foreign.Format][]foreign.File{}
	var order []foreign.Format
	for _, path := range paths {
		b, err := readAll(cmd, path)
		if err != nil {
			return nil, usagef("%w", err)
		}
		file := foreign.File{Name: filepath.ToSlash(filepath.Clean(path)), Bytes: b}
		f := format
		if f == "" {
			f = foreign.Detect(file.Name, b)
		}
		if f == foreign.Unknown {
			return nil, usagef("%s is in no format that is known (%s), nor a document of Muster's own, which says apiVersion: %s", path, strings.Join(formats(), ", "), resource.APIVersion)
		}
		if f == foreign.OsqueryPack {
			f = foreign.OsqueryConfig // a config names packs that are files of their own
		}
		if files[f] == nil {
			order = append(order, f)
		}
		files[f] = append(files[f], file)
	}
	var objects []resource.Object
	for _, f := range order {
		imported, err := foreign.Import(f, name, files[f])
		if err != nil {
			return nil, &exit{exitFailed, err}
		}
		if err := printNotes(cmd.ErrOrStderr(), imported.Notes); err != nil {
			return nil, err
		}
		objects = append(objects, imported.Objects...)
	}
	_, err := resource.NewSet(objects)
	return objects, err
}

func printNotes(w io.Writer, notes []foreign.Note) error {
	var b strings.Builder
	for _, n := range notes {
		fmt.Fprintf(&b, "%s: %s\n", n.Source, n.Message)
	}
	return printText(w, b.String())
}

// imported is what becomes of objects that were read from elsewhere: they are printed,
// or proposed as a change.
type imported struct {
	apply bool
	in    adminapi.ChangeInput
}

func (i *imported) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.BoolVar(&i.apply, "apply", false, "make a change of it")
	f.BoolVar(&i.in.DryRun, "dry-run", false, "with --apply: tell what would happen, and do nothing")
	f.StringVarP(&i.in.Message, "message", "m", "", "with --apply: why")
}

func (i *imported) finish(cmd *cobra.Command, t *target, o *output, objects []resource.Object) error {
	b, err := resource.YAML(objects)
	if err != nil {
		return err
	}
	if !i.apply {
		_, err := cmd.OutOrStdout().Write(b)
		return err
	}
	client, err := t.client()
	if err != nil {
		return err
	}
	i.in.Files = []adminapi.File{{Name: "import", Content: string(b)}}
	return propose(cmd, o, client, i.in)
}
