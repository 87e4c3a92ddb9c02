package config

import (
	"errors"
	"net"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
)

// validateCarves checks how carves are taken and kept.
func (s *Server) validateCarves(bad func(key, format string, args ...any)) {
	for key, value := range map[string]int64{"carve_node_bytes": s.CarveNodeMax, "carve_total_bytes": s.CarveTotalMax} {
		if value < s.CarveMax {
			bad(key, "must be at least carve_max_bytes, %d", s.CarveMax)
		}
	}
	if _, err := s.BlobStore(); err != nil {
		bad("carve_store", "%v", err)
	}
	if s.VaultAddr != "" {
		if u, err := url.Parse(s.VaultAddr); err != nil || u.Host == "" || u.Scheme != "https" && (u.Scheme != "http" || !loopback(net.JoinHostPort(u.Hostname(), "1"))) {
			bad("vault_addr", "must be an https:// URL; http:// is for this machine alone")
		}
		if s.VaultPolicy == "" {
			bad("vault_policy", "must not be empty")
		}
	}
}

// BlobStore returns CarveStore as a URL; see blob.Options. It may hold a
// password.
func (s *Server) BlobStore() (string, error) {
	scheme, rest, _ := strings.Cut(s.CarveStore, ":")
	switch {
	case s.CarveStore == "" || s.CarveStore == "dir":
		return "dir:" + s.Path(filepath.Join("carves", "blobs")), nil
	case scheme == "dir" && filepath.IsAbs(rest),
		slices.Contains([]string{"s3", "mongodb", "mongodb+srv"}, scheme) && strings.HasPrefix(rest, "//"):
		return s.CarveStore, nil
	}
	return "", errors.New("is none of dir, dir:/path, s3://bucket/prefix?endpoint=…, mongodb://host/database")
}
