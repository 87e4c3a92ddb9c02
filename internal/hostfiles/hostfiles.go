// Package hostfiles makes the files that an osquery agent starts from: its
// flagfile, the CA that it pins, limits for the service manager, and, for
// agents that take no config from any server, osquery.conf itself. It makes
// them as a tree, a Puppet module, an Ansible role or a Debian package.
//
// It is pure: bytes in, files out. The same options give the same bytes, on
// any machine and at any time, so that a repository shows what changed.
//
// Facts about osquery: its flags (osquery/core/flags.cpp and where they are
// defined), the watchdog (osquery/core/watcher.cpp), the filesystem plugin
// (plugins/config/filesystem_config.cpp), and the services of its packages
// (tools/deployment). In all of them a config's options win over the flagfile,
// but for those flags that are taken from the command line alone.
package hostfiles

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"text/template"
)

// File is one file of a tree.
type File struct {
	// Path is relative, with forward slashes. Of a tree that [Files] returns, a
	// path with a directory is where the file belongs below the root of a host
	// (on Windows: of the drive); one without is for people.
	Path  string
	Mode  fs.FileMode
	Bytes []byte
}

// The files for people.
const (
	readmeName = "README.txt"
	sumsName   = "SHA256SUMS"
)

// Modes of the files that are made. What says how a host is watched is for
// root alone; systemd wants its files to be readable.
const (
	modeOpen       fs.FileMode = 0o644
	modeClosed     fs.FileMode = 0o600
	modeExecutable fs.FileMode = 0o755
)

// Files returns the files of an agent, sorted by path, with a README and the
// checksums of all of them.
func Files(o Options) ([]File, error) {
	s, err := newSheet("files", o)
	if err != nil {
		return nil, err
	}
	return s.tree()
}

// tree is what Files returns.
func (s *sheet) tree() ([]File, error) {
	readme, err := s.render("readme.txt")
	if err != nil {
		return nil, err
	}
	return seal(append(slices.Clone(s.Installed), File{readmeName, modeOpen, readme})), nil
}

// sheet is what the templates see.
type sheet struct {
	Options
	place

	Format    string // files, puppet, ansible or deb
	Installed []File // what belongs on the host
	Warnings  []string
}

// newSheet checks the options and makes what belongs on the host.
func newSheet(format string, o Options) (*sheet, error) {
	o = o.withDefaults()
	if err := o.check(); err != nil {
		return nil, err
	}
	warnings, err := Warnings(o)
	if err != nil {
		return nil, err
	}
	s := &sheet{Format: format, Options: o, place: places()[o.Platform], Warnings: warnings}
	ca, err := certificates(o.CA)
	if err != nil {
		return nil, err
	}
	flagfile, err := s.flagfile()
	if err != nil {
		return nil, err
	}
	s.Installed = []File{
		{s.Dir + "/osquery.flags", modeClosed, flagfile},
		{s.Dir + "/muster-ca.pem", modeOpen, ca},
	}
	if o.Mode == FromFiles {
		// Exactly the bytes of the server, without a newline at the end: the
		// filesystem plugin hashes what it read, and a hash other than the
		// server's would look like drift.
		s.Installed = append(s.Installed, File{s.Dir + "/osquery.conf", modeClosed, slices.Clone(o.Config)})
	}
	if s.Service != "" {
		service, err := s.render(s.ServiceTemplate)
		if err != nil {
			return nil, err
		}
		s.Installed = append(s.Installed, File{s.Service, modeOpen, service})
	}
	sortFiles(s.Installed)
	return s, nil
}

// place is where a platform's package of osquery has its files.
type place struct {
	Dir             string // of the settings, below the root
	Root            string // how the agent spells the root
	Service         string // what is added for the service manager; "" if nothing
	ServiceTemplate string
}

// places are the paths of osquery's own packages (osquery/utils/config,
// tools/deployment).
func places() map[Platform]place {
	return map[Platform]place{
		Linux: {
			Dir: "etc/osquery", Root: "/",
			Service: "etc/systemd/system/osqueryd.service.d/50-muster.conf", ServiceTemplate: "dropin.conf",
		},
		Darwin: {
			Dir: "private/var/osquery", Root: "/",
			Service: "Library/LaunchDaemons/io.osquery.agent.plist", ServiceTemplate: "launchd.plist",
		},
		Windows: {Dir: "Program Files/osquery", Root: `C:\`},
	}
}

// OnHost spells the path of a file as the host does.
func (p place) OnHost(path string) string {
	if strings.Contains(p.Root, `\`) {
		path = strings.ReplaceAll(path, "/", `\`)
	}
	return p.Root + path
}

// home is a file in the directory of the settings, as the host spells it.
func (p place) home(name string) string { return p.OnHost(p.Dir + "/" + name) }

// seal sorts a tree and adds the checksums of its files, in the form of
// sha256sum.
func seal(files []File) []File {
	sortFiles(files)
	var sums bytes.Buffer
	for _, f := range files {
		fmt.Fprintf(&sums, "%s  %s\n", f.Sum(), f.Path)
	}
	files = append(files, File{sumsName, modeOpen, sums.Bytes()})
	sortFiles(files)
	return files
}

// Sum returns the SHA-256 of the file in hex.
func (f File) Sum() string {
	sum := sha256.Sum256(f.Bytes)
	return hex.EncodeToString(sum[:])
}

func sortFiles(files []File) {
	slices.SortFunc(files, func(a, b File) int { return cmp.Compare(a.Path, b.Path) })
}

//go:embed template
var templates embed.FS

// render fills a template in. Its marks are <% and %>, as Ansible and Puppet
// have their own uses for braces.
func (s *sheet) render(name string) ([]byte, error) { return render(name, s) }

func render(name string, data any) ([]byte, error) {
	text, err := templates.ReadFile("template/" + name)
	if err != nil {
		return nil, err
	}
	t, err := template.New(name).Delims("<%", "%>").Funcs(template.FuncMap{"quote": strconv.QuoteToASCII, "mode": octal, "sum": File.Sum}).Parse(string(text))
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	err = t.Execute(&b, data)
	return b.Bytes(), err
}

func octal(m fs.FileMode) string { return fmt.Sprintf("%04o", m) }
