package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/musterhq/muster/internal/adminapi"
	"github.com/musterhq/muster/internal/durable"
	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/hostfiles"
)

const exportAgentLong = `Write the files that agents start from: flagfile, pinned CA, limits for systemd,
and osquery.conf, so that they take their config from their own disk and from no
server. The same config gives the same bytes, so keep them in a repository and
give them to hosts as you give them everything else.

All nodes that --selector means must have one config; else the groups are
listed, and --config takes one of them. With --server the config stays with the
server, and the files are for ordinary agents; with --agent-host and --agent-ca
that needs no login.

--out is a directory, or a file that ends with .tar.gz. A directory may hold a
former export, whose files are replaced. The enroll secret is in none of them.`

const exportAgentExample = `  muster export agent --selector 'tag = payments' --format puppet --out modules/muster_osquery
  muster export agent --selector 'tag = payments' --format deb --no-live --cores 16 --cpu-quota 60
  muster export agent --server --format ansible --out roles/muster_osquery`

// newExportAgentCommand returns "muster export agent".
func newExportAgentCommand(t *target) *cobra.Command {
	var o output
	e := agentExport{limits: hostfiles.DefaultLimits()}
	cmd := &cobra.Command{
		Use: "agent", Short: "Write the files that agents start from, for a config that no server can change",
		Args: noArgs, Long: exportAgentLong, Example: exportAgentExample,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := e.check(); err != nil {
				return err
			}
			a, err := e.fetch(cmd, t)
			if err != nil {
				return err
			}
			r, err := e.run(a)
			if errs.Is(err, errs.Invalid) || errs.Is(err, errs.TooLarge) {
				err = &exit{exitUsage, err}
			}
			if err != nil {
				return err
			}
			return r.print(cmd, &o)
		},
	}
	o.flag(cmd, "table", "json", "yaml")
	e.flags(cmd)
	return cmd
}

// agentExport is what the flags of the command say.
type agentExport struct {
	format, out                 string
	selector, node, config      string
	revision                    int64
	server, noLive, carves      bool
	platform                    string
	agentHost, agentCA          string
	secretPath                  string
	disableTables               []string
	packageName, packageVersion string
	limits                      hostfiles.Limits
}

func (e *agentExport) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&e.format, "format", "files", "what to write: files, puppet, ansible or deb")
	f.StringVar(&e.out, "out", "", "directory or .tar.gz file to write; of a deb the package's file (default: muster-agent, muster_osquery, or the package's name)")
	f.StringVar(&e.selector, "selector", "", "nodes whose config is written, as 'tag = web'")
	f.StringVar(&e.node, "node", "", "id of the node whose config is written")
	f.StringVar(&e.config, "config", "", "hash, or its beginning, of the config to take if there are several")
	f.Int64Var(&e.revision, "revision", 0, "revision of the resources (default: the current one)")
	f.BoolVar(&e.server, "server", false, "write files for agents that take their config from the server")
	f.BoolVar(&e.noLive, "no-live", false, "the server may ask these agents nothing")
	f.BoolVar(&e.carves, "carves", false, "the server may fetch files from these agents")
	f.StringVar(&e.platform, "platform", string(hostfiles.Linux), "linux, darwin or windows; modules, roles and packages are for linux")
	f.StringVar(&e.agentHost, "agent-host", "", "host:port where agents reach the server (default: what the server says)")
	f.StringVar(&e.agentCA, "agent-ca", "", "PEM file that agents check the server against (default: the server's own CA)")
	f.StringVar(&e.secretPath, "secret-path", "", "file on hosts that holds the enroll secret (default: enroll.secret beside the flagfile)")
	f.StringSliceVar(&e.disableTables, "disable-tables", hostfiles.DefaultDisabledTables(), "tables that no query may read; replaces the list")
	f.StringVar(&e.packageName, "package-name", "muster-osquery-config", "name of the deb")
	f.StringVar(&e.packageVersion, "package-version", "", "version of the deb (default: 0.REVISION)")
	l := &e.limits
	f.IntVar(&l.Cores, "cores", l.Cores, "logical CPUs of the largest of the hosts")
	f.IntVar(&l.WatchdogCPU, "watchdog-cpu", l.WatchdogCPU, "percent of one CPU at which osquery's watchdog acts")
	f.IntVar(&l.WatchdogSeconds, "watchdog-seconds", l.WatchdogSeconds, "how long it must be over that")
	f.IntVar(&l.WatchdogMemory, "watchdog-memory", l.WatchdogMemory, "growth in MiB at which osquery's watchdog acts")
	f.IntVar(&l.CPUQuota, "cpu-quota", l.CPUQuota, "percent of one CPU that the service may use")
	f.IntVar(&l.MemoryMax, "memory-max", l.MemoryMax, "memory in MiB that the service may use")
	f.IntVar(&l.TasksMax, "tasks-max", l.TasksMax, "threads that the service may have")
	f.IntVar(&l.IOWeight, "io-weight", l.IOWeight, "weight of the service's disk access, 1 to 10000; others have 100")
}

func (e *agentExport) check() error {
	if !slices.Contains([]string{"files", "puppet", "ansible", "deb"}, e.format) {
		return usagef("--format %s is not known; use files, puppet, ansible or deb", e.format)
	}
	if e.node != "" {
		if e.selector != "" {
			return usagef("give --selector or --node, not both")
		}
		if strings.ContainsAny(e.node, "\"\\*?") {
			return usagef("--node takes the id of one node; use --selector for expressions")
		}
		e.selector = `id = "` + e.node + `"`
	}
	if place := e.place(); e.format == "puppet" && filepath.Base(place) != hostfiles.ModuleName && !strings.HasSuffix(place, archiveEnding) {
		return usagef("--out must end with %s for Puppet, which finds modules by their directory", hostfiles.ModuleName)
	}
	if e.selector == "" && !e.server {
		return usagef("say whose config is written: --selector or --node; or use --server for files without one")
	}
	return nil
}

// fetch asks the server for what it knows. With --server that is only where it
// is and which CA it has, and flags may say both.
func (e *agentExport) fetch(cmd *cobra.Command, t *target) (a adminapi.AgentConfigs, err error) {
	if e.server && e.agentHost != "" && e.agentCA != "" {
		return a, nil
	}
	client, err := t.client()
	if err != nil {
		return a, err
	}
	query := url.Values{}
	if e.selector != "" {
		query.Set("selector", e.selector)
	}
	if e.revision != 0 {
		query.Set("revision", strconv.FormatInt(e.revision, 10))
	}
	err = client.Call(cmd.Context(), http.MethodGet, "/resources/agent-config", query, nil, &a)
	return a, err
}

// run makes the files and writes them.
func (e *agentExport) run(a adminapi.AgentConfigs) (*agentExported, error) {
	o, err := e.options(a)
	if err != nil {
		return nil, err
	}
	r := &agentExported{Format: e.format, Revision: a.Revision, Warnings: []string{}}
	if !e.server {
		chosen, err := e.choose(a.Configs)
		if err != nil {
			return nil, err
		}
		o.Config, o.ConfigHash = []byte(chosen.Config), chosen.Hash
		r.ConfigHash, r.Nodes = chosen.Hash, chosen.Count
	}
	warnings, err := hostfiles.Warnings(o)
	if err != nil {
		return nil, err
	}
	r.Warnings = append(r.Warnings, warnings...)
	return r, e.write(o, r)
}

func (e *agentExport) options(a adminapi.AgentConfigs) (hostfiles.Options, error) {
	o := hostfiles.Options{
		Mode: hostfiles.FromFiles, Platform: hostfiles.Platform(e.platform), Revision: a.Revision, Selector: e.selector,
		ServerHost: cmp.Or(e.agentHost, hostOf(a.AgentURL)), CA: []byte(a.CA), SecretPath: e.secretPath,
		Live: !e.noLive, Carves: e.carves, DisableTables: append([]string{}, e.disableTables...), Limits: e.limits,
	}
	if e.server {
		o.Mode = hostfiles.FromServer
	}
	if e.agentCA == "" {
		if a.CA == "" {
			return o, usagef("the server does not know which CA its agents check it against; give --agent-ca")
		}
		return o, nil
	}
	b, err := os.ReadFile(e.agentCA)
	if err != nil {
		return o, usagef("--agent-ca: %w", err)
	}
	o.CA = b
	return o, nil
}

// hostOf makes host:port of where the agents' API is, which may be a URL.
func hostOf(agentURL string) string {
	u, err := url.Parse(agentURL)
	if err != nil || u.Host == "" {
		return agentURL // host:port as it is; anything else is refused later
	}
	if u.Port() == "" {
		return u.Host + ":443"
	}
	return u.Host
}

// choose returns the one config that there is, or that --config names.
func (e *agentExport) choose(configs []adminapi.AgentConfig) (adminapi.AgentConfig, error) {
	if len(configs) == 0 {
		return adminapi.AgentConfig{}, &exit{exitNotFound, fmt.Errorf("no node is meant by %s", e.selector)}
	}
	var fit []adminapi.AgentConfig
	for _, c := range configs {
		if strings.HasPrefix(c.Hash, e.config) {
			fit = append(fit, c)
		}
	}
	if len(fit) == 1 {
		return fit[0], nil
	}
	problem := "the nodes have %d configs; narrow --selector, or take one of them with --config:"
	if len(fit) == 0 {
		problem = "none of the %d configs has that hash; take one of them with --config:"
	}
	var b strings.Builder
	fmt.Fprintf(&b, problem, len(configs))
	for _, c := range configs {
		fmt.Fprintf(&b, " %s (%d nodes, as %s);", c.Hash, c.Count, strings.Join(c.Nodes[:min(len(c.Nodes), shownNodes)], ", "))
	}
	return adminapi.AgentConfig{}, usagef("%s", strings.TrimSuffix(b.String(), ";"))
}

// shownNodes is how many nodes tell people which group is meant.
const shownNodes = 3

// agentExported is what muster export agent prints.
type agentExported struct {
	Format     string         `json:"format"`
	Out        string         `json:"out"`
	Revision   int64          `json:"revision"`
	ConfigHash string         `json:"config_hash"` // empty with --server
	Nodes      int            `json:"nodes"`       // whose config it is now
	Warnings   []string       `json:"warnings"`
	Files      []exportedFile `json:"files"`
}

type exportedFile struct {
	Path   string `json:"path"`
	SHA256 string `json:"sha256"`
}

func (r *agentExported) print(cmd *cobra.Command, o *output) error {
	for _, w := range r.Warnings {
		_, _ = fmt.Fprintln(cmd.ErrOrStderr(), "Look at this:", printable(w))
	}
	return o.document(cmd, r, func() error {
		if r.ConfigHash != "" {
			_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "The config %s of revision %d is in %s. Nodes that it is for: %d.\n", printable(r.ConfigHash), r.Revision, r.Out, r.Nodes)
		}
		rows := make([][]string, 0, len(r.Files))
		for _, f := range r.Files {
			rows = append(rows, []string{f.SHA256, f.Path})
		}
		return printTable(cmd.OutOrStdout(), []string{"SHA-256", "FILE"}, rows)
	})
}

// write makes the files and writes them to where --out says.
func (e *agentExport) write(o hostfiles.Options, r *agentExported) error {
	if e.format == "deb" {
		version := cmp.Or(e.packageVersion, "0."+strconv.FormatInt(r.Revision, 10))
		b, err := hostfiles.Deb(o, e.packageName, version)
		if err != nil {
			return err
		}
		r.Out = cmp.Or(e.out, e.packageName+"_"+version+"_all.deb")
		return r.writeFile(b)
	}
	forms := map[string]func(hostfiles.Options) ([]hostfiles.File, error){
		"files": hostfiles.Files, "puppet": hostfiles.Puppet, "ansible": hostfiles.Ansible,
	}
	files, err := forms[e.format](o)
	if err != nil {
		return err
	}
	r.Out = e.place()
	if strings.HasSuffix(r.Out, archiveEnding) {
		b, err := hostfiles.Archive(files)
		if err != nil {
			return err
		}
		return r.writeFile(b)
	}
	for _, f := range files {
		r.Files = append(r.Files, exportedFile{f.Path, f.Sum()})
	}
	return writeTree(r.Out, files)
}

// place is the directory or archive for all but packages.
func (e *agentExport) place() string {
	if e.out == "" && e.format == "files" {
		return "muster-agent"
	}
	return cmp.Or(e.out, hostfiles.ModuleName)
}

// writeFile writes one file, which only its owner can read: it says how hosts
// are watched.
func (r *agentExported) writeFile(b []byte) error {
	r.Files = append(r.Files, exportedFile{filepath.Base(r.Out), hostfiles.File{Bytes: b}.Sum()})
	return durable.WriteFile(r.Out, 0o600, b)
}

const archiveEnding = ".tar.gz"

// sumsFile is by which an export is known, and what belongs to it.
const sumsFile = "SHA256SUMS"

// writeTree writes files below a directory, and nowhere else, whatever links it
// holds. Files of a former export that are no more are removed. The checksums
// are written last, so that a half-written tree does not agree with them.
func writeTree(dir string, files []hostfiles.File) error {
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // as the user's umask says
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close() //nolint:errcheck // nothing is written through it any more
	former, err := formerExport(root)
	if err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	last := slices.IndexFunc(files, func(f hostfiles.File) bool { return f.Path == sumsFile })
	files = append(slices.Delete(slices.Clone(files), last, last+1), files[last])
	for _, f := range files {
		delete(former, f.Path)
		if err := writeBelow(root, f); err != nil {
			return err
		}
	}
	for name := range former {
		if err := root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func writeBelow(root *os.Root, f hostfiles.File) error {
	if err := root.MkdirAll(path.Dir(f.Path), 0o755); err != nil {
		return err
	}
	if err := root.WriteFile(f.Path, f.Bytes, f.Mode); err != nil {
		return err
	}
	return root.Chmod(f.Path, f.Mode)
}

// formerExport names the files that an export left in a directory. One that
// holds other things and no export is refused.
func formerExport(root *os.Root) (map[string]bool, error) {
	entries, err := fs.ReadDir(root.FS(), ".")
	if err != nil {
		return nil, err
	}
	names := map[string]bool{}
	sums, err := root.ReadFile(sumsFile)
	if errors.Is(err, fs.ErrNotExist) {
		for _, e := range entries {
			if !strings.HasPrefix(e.Name(), ".") { // as .git
				return nil, usagef("holds %s and no former export; choose another --out", e.Name())
			}
		}
		return names, nil
	}
	for line := range bytes.Lines(sums) {
		if _, name, ok := strings.Cut(strings.TrimSuffix(string(line), "\n"), "  "); ok && filepath.IsLocal(name) && !strings.HasPrefix(name, ".") {
			names[name] = true
		}
	}
	return names, err
}
