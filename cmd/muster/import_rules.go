package main

import (
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/musterhq/muster/internal/foreign"
)

func newImportRulesCommand(t *target) *cobra.Command {
	var o output
	var from string
	var as imported
	cmd := &cobra.Command{
		Use: "rules --from doorman|sigma FILE…", Short: "Take over alert rules of Doorman or Sigma",
		Long: `Read alert rules, and print them as Muster's own documents. Doorman's are rows of
its table as JSON, with name, description, alerters and conditions; Sigma's are its
YAML files about processes, network connections, files, DNS and PowerShell.

A rule that cannot be taken over as it is meant is left out, which is said on
standard error with the reason. Try what comes out with muster rule test.

With --apply it becomes a change, as muster apply makes one.`,
		Example: `  muster import rules --from sigma sigma/rules/linux/process_creation/*.yml > rules/sigma.yaml
  muster import rules --from doorman rules.json --apply -m "from Doorman" --dry-run`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("%s needs files; see %[1]s --help", cmd.CommandPath())
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			var files []foreign.File
			for _, path := range args {
				b, err := readAll(cmd, path)
				if err != nil {
					return usagef("%w", err)
				}
				files = append(files, foreign.File{Name: filepath.ToSlash(filepath.Clean(path)), Bytes: b})
			}
			rules, err := foreign.Rules(foreign.Format(from), files)
			if err != nil {
				return usagef("%w", err)
			}
			if err := printNotes(cmd.ErrOrStderr(), rules.Notes); err != nil {
				return err
			}
			return as.finish(cmd, t, &o, rules.Objects)
		},
	}
	o.flag(cmd, "table", "json", "yaml")
	f := cmd.Flags()
	f.StringVar(&from, "from", "", "whose rules they are: "+strings.Join(ruleFormats(), " or "))
	as.flags(cmd)
	return cmd
}

func ruleFormats() []string {
	var words []string
	for _, f := range foreign.RuleFormats() {
		words = append(words, string(f))
	}
	return words
}
