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
	const mib = 1 << 20
	for _, l := range []struct {
		key                string
		value, least, most int64
	}{
		{"carve_max_bytes", s.CarveMax, mib, 1 << 40},
		{"carve_node_bytes", s.CarveNodeMax, s.CarveMax, 1 << 44},
		{"carve_total_bytes", s.CarveTotalMax, s.CarveMax, 1 << 50},
		{"carve_free_bytes", s.CarveFree, 0, 1 << 50},
		{"carve_block_bytes", s.CarveBlock, 64 << 10, 16 * mib},
		{"carve_sessions", s.CarveSessions, 1, 4096},
		{"carve_sessions_per_node", s.CarveSessionsPerNode, 1, 64},
		{"limit_carving", s.LimitCarving, 1, 1024},
	} {
		if l.value < l.least || l.value > l.most {
			bad(l.key, "must be between %d and %d", l.least, l.most)
		}
	}
	if s.CarveRetention <= 0 {
		bad("carve_retention", "must be above 0; files of hosts are not kept for ever")
	}
	if s.CarveExpiry <= 0 {
		bad("carve_expiry", "must be above 0")
	}
	if !slices.Contains([]string{"refuse", "accept"}, s.CarveUnrequested) {
		bad("carve_unrequested", "%q is none of refuse, accept", s.CarveUnrequested)
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
