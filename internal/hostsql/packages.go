package hostsql

import (
	"context"
	"strings"
)

func (h *host) debPackages(_ context.Context, q Constraints, yield func(Values) error) error {
	admin := "/var/lib/dpkg"
	if dirs := q.Equal("admindir"); len(dirs) > 0 {
		admin = dirs[0]
	}
	for paragraph := range strings.SplitSeq(h.read(admin, "status"), "\n\n") {
		p := controlFields(paragraph)
		if p["Package"] == "" || strings.HasSuffix(p["Status"], " not-installed") {
			continue
		}
		revision := ""
		if i := strings.LastIndexByte(p["Version"], '-'); i >= 0 {
			revision = p["Version"][i+1:]
		}
		source, _, _ := strings.Cut(p["Source"], " ") // without its version in parentheses
		err := yield(Values{
			"name": p["Package"], "version": p["Version"], "source": source, "size": p["Installed-Size"],
			"arch": p["Architecture"], "revision": revision, "status": p["Status"], "maintainer": p["Maintainer"],
			"section": p["Section"], "priority": p["Priority"], "admindir": admin, "pid_with_namespace": 0,
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// controlFields reads a paragraph of a Debian control file. Continuation lines
// begin with white space and belong to long fields, which no column shows.
func controlFields(paragraph string) map[string]string {
	m := map[string]string{}
	for line := range strings.Lines(paragraph) {
		if line[0] == ' ' || line[0] == '\t' {
			continue
		}
		if key, value, ok := strings.Cut(line, ":"); ok {
			m[key] = strings.TrimSpace(value)
		}
	}
	return m
}
