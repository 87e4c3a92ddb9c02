package hostfiles

import (
	"path"
	"slices"
	"strings"

	"github.com/musterhq/muster/internal/errs"
)

// ModuleName is how the directory of a Puppet module or an Ansible role must be
// called.
const ModuleName = "muster_osquery"

// Puppet returns a module: files with owner and mode, and a restart when one of
// them changes. For Linux.
func Puppet(o Options) ([]File, error) {
	return wrap("puppet", o, map[string]string{
		"manifests/init.pp": "puppet/init.pp",
		"metadata.json":     "puppet/metadata.json",
	})
}

// Ansible returns a role that does the same. For Linux.
func Ansible(o Options) ([]File, error) {
	return wrap("ansible", o, map[string]string{
		"tasks/main.yml":    "ansible/tasks.yml",
		"handlers/main.yml": "ansible/handlers.yml",
		"defaults/main.yml": "ansible/defaults.yml",
		"meta/main.yml":     "ansible/meta.yml",
	})
}

// wrap puts the files of a host where both take them from, beside rendered
// ones, which are templates by path.
func wrap(format string, o Options, rendered map[string]string) ([]File, error) {
	s, err := newLinuxSheet(format, o)
	if err != nil {
		return nil, err
	}
	files, err := s.tree()
	if err != nil {
		return nil, err
	}
	var out []File
	for _, f := range files {
		switch {
		case f.Path == sumsName: // the tree gets its own
			continue
		case isInstalled(f):
			f.Path = "files/" + f.Path
		}
		f.Mode = modeOpen // as others have to read it; the host gets the right one
		out = append(out, f)
	}
	for name, source := range rendered {
		text, err := s.render(source)
		if err != nil {
			return nil, err
		}
		out = append(out, File{name, modeOpen, text})
	}
	return seal(out), nil
}

// newLinuxSheet refuses platforms without the service that modules, roles and
// packages restart.
func newLinuxSheet(format string, o Options) (*sheet, error) {
	s, err := newSheet(format, o)
	if err == nil && s.Platform != Linux {
		err = errs.Field("platform", "must be linux for this format; for %s take the plain files", s.Platform)
	}
	return s, err
}

func isInstalled(f File) bool { return strings.Contains(f.Path, "/") }

// Directories are those that the files need.
func (s *sheet) Directories() []string {
	var dirs []string
	for _, f := range s.Installed {
		dirs = append(dirs, path.Dir(f.Path))
	}
	return slices.Compact(slices.Sorted(slices.Values(dirs)))
}
