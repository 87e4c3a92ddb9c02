// Muster manages fleets of machines that run osquery. This is its only binary:
// the server, its command line, and an agent for demonstrations and tests.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/musterhq/muster/internal/adminapi"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// Exit codes, which scripts rely on; exitCodes says what they mean.
const (
	exitDone     = 0
	exitFailed   = 1
	exitUsage    = 2
	exitRefused  = 3 // by policy or permission
	exitNotFound = 4
	exitPartly   = 5 // timed out, or not everything was answered
)

// exitCodes says what each exit code means, in order.
func exitCodes() []string {
	return []string{
		exitDone:     "done",
		exitFailed:   "failed: the server cannot be reached, or could not do it",
		exitUsage:    "wrong usage: an argument, a flag or a document; nothing was done",
		exitRefused:  "refused: not logged in, not permitted, or by the policy",
		exitNotFound: "not found",
		exitPartly:   "done in part: timed out, not everything answered, or it waits for somebody",
	}
}

// exitCodesText is the table of exit codes for people.
func exitCodesText() string {
	var b strings.Builder
	for code, meaning := range exitCodes() {
		fmt.Fprintf(&b, "  %d  %s\n", code, meaning)
	}
	return b.String()
}

// newExitCodesTopic is read by muster help exit-codes.
func newExitCodesTopic() *cobra.Command {
	return &cobra.Command{
		Use: "exit-codes", Short: "What the exit codes mean",
		Long: "All commands end with one of these exit codes:\n\n" + exitCodesText() + `
A command that compares or judges says in its help what 1 means there: muster diff, that
documents differ; muster config check, that something is wrong. muster doctor has those
that monitoring knows: 0 is well, 1 doubtful, 2 wrong.`,
	}
}

// exit is an error with an exit code of its own.
type exit struct {
	code int
	err  error
}

func (e *exit) Error() string { return e.err.Error() }
func (e *exit) Unwrap() error { return e.err }

func usagef(format string, args ...any) error {
	return &exit{exitUsage, fmt.Errorf(format, args...)}
}

func run(ctx context.Context, args []string, out, errOut io.Writer) int {
	root := newRootCommand()
	root.SetArgs(args)
	root.SetOut(out)
	root.SetErr(errOut)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitDone
	}
	for _, line := range troubles(err) {
		_, _ = fmt.Fprintln(errOut, "muster:", printable(line))
	}
	return exitCode(err)
}

// troubles returns what is wrong, each for a line of its own.
func troubles(err error) []string {
	if e, ok := err.(*exit); ok { //nolint:errorlint // what another error says around it is not left out
		err = e.err
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []string{err.Error()}
	}
	var all, lines []string
	for _, e := range joined.Unwrap() {
		all, lines = append(all, e.Error()), append(lines, troubles(e)...)
	}
	if err.Error() != strings.Join(all, "\n") { // it says more than errors.Join
		return []string{err.Error()}
	}
	return lines
}

func exitCode(err error) int {
	if e, ok := errors.AsType[*exit](err); ok {
		return e.code
	}
	switch adminapi.Status(err) {
	case http.StatusUnauthorized, http.StatusForbidden:
		return exitRefused
	case http.StatusNotFound:
		return exitNotFound
	case http.StatusBadRequest, http.StatusUnprocessableEntity:
		return exitUsage
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return exitPartly
	}
	return exitFailed
}

func newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "muster",
		Short: "Manage a fleet of machines that run osquery",
		Long: `Muster enrols machines that run osquery, decides what they run, keeps and
searches what they find, and asks them questions live.

Try it on this machine:   muster demo
Run a server:             muster serve --data-dir /var/lib/muster
Talk to a server:         muster setup, then muster node list, muster query …
Exit codes:               muster help exit-codes`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          noArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &exit{exitUsage, err} })
	root.AddCommand(
		newServeCommand(), newDemoCommand(), newSetupCommand(), newLoginCommand(), newLogoutCommand(), newContextCommand(),
		newNodeCommand(), newImportCommand(), newSecretCommand(), newCACommand(), newQueryCommand(), newLiveCommand(), newSavedCommand(), newShellCommand(), newEventCommand(),
		newCarveCommand(), newTriggerCommand(), newEnrollmentCommand(), newRuleCommand(), newAlertCommand(), newSilenceCommand(), newNotifierCommand(), newSinkCommand(),
		newApplyCommand(), newDiffCommand(), newExportCommand(), newChangeCommand(), newRevisionCommand(), newRolloutCommand(),
		newFreezeCommand(), newEmergencyCommand(), newPolicyCommand(), newRedactCommand(), newCostCommand(), newHealthCommand(), newFindingCommand(), newCoverageCommand(), newUserCommand(), newRoleCommand(), newTokenCommand(), newBackupCommand(), newRestoreCommand(), newDoctorCommand(), newUpgradeCommand(), newAuditCommand(), newConfigCommand(), newAgentCommand(), newLoadtestCommand(), newVersionCommand(), newDocsCommand(), newExitCodesTopic(),
	)
	completeAll(root)
	return root
}

func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usagef("%s takes no argument %q; see %[1]s --help", cmd.CommandPath(), args[0])
	}
	return nil
}

// oneArg is cobra.ExactArgs(1) with a message that says what is missing.
func someArgs(what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return usagef("%s needs %s; see %[1]s --help", cmd.CommandPath(), what)
		}
		return nil
	}
}

func oneArg(what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != 1 {
			return usagef("%s needs %s; see %[1]s --help", cmd.CommandPath(), what)
		}
		return nil
	}
}
