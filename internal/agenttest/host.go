package agenttest

import (
	"fmt"
	"strconv"
	"strings"
)

// Host is the machine that a node pretends to be. Everything about it follows
// from its number, so that thousands cost no memory and the same number is the
// same machine in every run.
type Host struct {
	Number     int
	Hostname   string
	UUID       string
	Platform   string // linux, darwin or windows, as in osquery's packs
	Version    string // of osquery
	os         osRelease
	seed       uint64
	domainName string
}

type osRelease struct {
	platform, name, version, major, minor, patch, codename, like, build, arch string
}

// mix is splitmix64: a stable hash of small numbers.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// pick returns one of the choices by the bits of seed after salt.
func pick[T any](seed, salt uint64, choices []T) T {
	return choices[mix(seed^salt)%uint64(len(choices))]
}

// NewHost returns the host of that number. An empty platform leaves the choice
// to the number: seven in ten run Linux, the others macOS and Windows.
func NewHost(number int, platform string) Host {
	seed := mix(uint64(number)) //nolint:gosec // any bits will do
	h := Host{Number: number, seed: seed, Platform: platform}
	if platform == "" {
		h.Platform = pick(seed, 1, []string{
			"linux", "linux", "linux", "linux", "linux", "linux", "linux", "darwin", "darwin", "windows",
		})
	}
	h.Version = pick(seed, 2, []string{"5.23.1", "5.23.1", "5.23.1", "5.22.1", "5.19.0", "5.17.0", "5.12.2", "5.9.1"})
	h.UUID = strings.ToUpper(uuid(mix(seed^3), mix(seed^4)))
	h.os = pick(seed, 5, releases(h.Platform))
	role, domain := []string{"web", "web", "web", "db", "api", "cache", "build", "mail", "kube", "log"}, "prod.example.com"
	switch h.Platform {
	case "darwin":
		role, domain = []string{"mbp", "mbp", "mba", "imac"}, "corp.example.com"
	case "windows":
		role, domain = []string{"pc", "pc", "lt", "dc", "fs"}, "ad.example.com"
	}
	h.Hostname = fmt.Sprintf("%s-%04d", pick(seed, 6, role), number)
	h.domainName = domain
	return h
}

func uuid(a, b uint64) string {
	b = b&^(3<<62) | 2<<62
	return fmt.Sprintf("%08x-%04x-4%03x-%04x-%012x", a>>32, a>>16&0xffff, a&0xfff, b>>48, b&(1<<48-1))
}

func releases(platform string) []osRelease {
	switch platform {
	case "darwin":
		return []osRelease{
			{"darwin", "macOS", "14.7.6", "14", "7", "6", "", "darwin", "23H626", "x86_64"},
			{"darwin", "macOS", "15.6.1", "15", "6", "1", "", "darwin", "24G90", "arm64"},
			{"darwin", "macOS", "15.7.2", "15", "7", "2", "", "darwin", "24G325", "arm64"},
			{"darwin", "macOS", "26.1", "26", "1", "0", "", "darwin", "25B78", "arm64"},
		}
	case "windows":
		return []osRelease{
			{"windows", "Microsoft Windows 11 Enterprise", "10.0.22631", "10", "0", "", "23H2", "windows", "22631", "64-bit"},
			{"windows", "Microsoft Windows 11 Pro", "10.0.26100", "10", "0", "", "24H2", "windows", "26100", "64-bit"},
			{"windows", "Microsoft Windows Server 2022 Datacenter", "10.0.20348", "10", "0", "", "21H2", "windows", "20348", "64-bit"},
			{"windows", "Microsoft Windows Server 2019 Standard", "10.0.17763", "10", "0", "", "1809", "windows", "17763", "64-bit"},
		}
	}
	return []osRelease{
		{"ubuntu", "Ubuntu", "24.04.3 LTS (Noble Numbat)", "24", "4", "0", "noble", "debian", "", "x86_64"},
		{"ubuntu", "Ubuntu", "22.04.5 LTS (Jammy Jellyfish)", "22", "4", "0", "jammy", "debian", "", "x86_64"},
		{"debian", "Debian GNU/Linux", "12 (bookworm)", "12", "0", "0", "bookworm", "", "", "x86_64"},
		{"debian", "Debian GNU/Linux", "13 (trixie)", "13", "0", "0", "trixie", "", "", "aarch64"},
		{"rhel", "Red Hat Enterprise Linux", "9.6 (Plow)", "9", "6", "0", "", "fedora", "", "x86_64"},
		{"rocky", "Rocky Linux", "9.5 (Blue Onyx)", "9", "5", "0", "", "rhel centos fedora", "", "x86_64"},
		{"amzn", "Amazon Linux", "2023", "2023", "0", "0", "", "fedora", "", "aarch64"},
	}
}

// platformType is the bit mask that agents send with an enrolment.
func (h Host) platformType() string {
	switch h.Platform {
	case "darwin":
		return "21"
	case "windows":
		return "2"
	}
	return "9"
}

// Details returns the host_details of an enrolment, a fresh map.
func (h Host) Details() map[string]map[string]string {
	return map[string]map[string]string{
		"os_version":    h.osVersion(),
		"osquery_info":  h.osqueryInfo(),
		"platform_info": h.platformInfo(),
		"system_info":   h.systemInfo(),
	}
}

func (h Host) osVersion() map[string]string {
	row := map[string]string{
		"arch": h.os.arch, "codename": h.os.codename, "major": h.os.major, "minor": h.os.minor, "name": h.os.name,
		"patch": h.os.patch, "platform": h.os.platform, "platform_like": h.os.like, "version": h.os.version,
		"build": h.os.build,
	}
	if h.Platform == "linux" {
		row["_id"], row["pid_with_namespace"] = h.os.major, "0"
	}
	return row
}

func (h Host) osqueryInfo() map[string]string {
	distro := map[string]string{"linux": "centos7", "darwin": "10.14", "windows": "10"}[h.Platform]
	pid := 700 + h.seed%9000
	return map[string]string{
		"build_distro": distro, "build_platform": h.Platform, "config_hash": "", "config_valid": "0",
		"extensions": "inactive", "instance_id": uuid(mix(h.seed^7), mix(h.seed^8)),
		"pid": strconv.FormatUint(pid+2, 10), "platform_mask": h.platformType(), "start_time": "1795250701",
		"uuid": h.UUID, "version": h.Version, "watcher": strconv.FormatUint(pid, 10),
	}
}

func (h Host) platformInfo() map[string]string {
	return map[string]string{
		"vendor":   h.vendor(),
		"version":  fmt.Sprintf("%d.%d.0", 1+h.seed%4, h.seed>>8%30),
		"date":     fmt.Sprintf("%02d/%02d/%d", 1+h.seed>>16%12, 1+h.seed>>24%28, 2019+h.seed>>32%7),
		"revision": "", "address": "0xf000", "size": "16777216", "volume_size": "", "extra": "",
	}
}

func (h Host) vendor() string {
	switch h.Platform {
	case "darwin":
		return "Apple Inc."
	case "windows":
		return pick(h.seed, 9, []string{"Dell Inc.", "HP", "LENOVO"})
	}
	return pick(h.seed, 9, []string{"QEMU", "Amazon EC2", "Dell Inc.", "Supermicro"})
}

func (h Host) systemInfo() map[string]string {
	cores := pick(h.seed, 10, []int{2, 4, 8, 16})
	brand := "Intel(R) Xeon(R) Platinum 8259CL CPU @ 2.50GHz"
	model := pick(h.seed, 11, []string{"Standard PC (Q35 + ICH9, 2009)", "m6i.large", "PowerEdge R650"})
	switch {
	case h.Platform == "darwin" && h.os.arch == "arm64":
		brand, model = "Apple M3 Pro", pick(h.seed, 11, []string{"Mac15,6", "Mac15,3", "Mac14,2"})
	case h.Platform == "darwin":
		brand, model = "Intel(R) Core(TM) i7-9750H CPU @ 2.60GHz", "MacBookPro16,1"
	case h.Platform == "windows":
		brand, model = "13th Gen Intel(R) Core(TM) i7-1365U", pick(h.seed, 11, []string{"Latitude 7440", "EliteBook 840 G10", "ThinkPad T14 Gen 4"})
	case h.os.arch == "aarch64":
		brand, model = "Neoverse-N1", "m7g.large"
	}
	n := strconv.Itoa(cores)
	arch := h.os.arch
	if h.Platform == "windows" {
		arch = "x86_64"
	}
	return map[string]string{
		"computer_name": h.Hostname, "hostname": h.Hostname + "." + h.domainName, "local_hostname": h.Hostname,
		"cpu_brand": brand, "cpu_logical_cores": n, "cpu_physical_cores": n, "cpu_sockets": "1",
		"cpu_microcode": "0x5003604", "cpu_subtype": "143", "cpu_type": arch,
		"hardware_vendor": h.vendor(), "hardware_model": model, "hardware_version": "-1",
		"hardware_serial": fmt.Sprintf("%010X", mix(h.seed^12)>>24),
		"physical_memory": strconv.Itoa(cores * 4 << 30), "uuid": h.UUID,
		"board_vendor": "", "board_model": "", "board_version": "", "board_serial": "",
	}
}

// address returns the host's IPv4 address.
func (h Host) address() string {
	return fmt.Sprintf("10.%d.%d.%d", h.Number>>16&255, h.Number>>8&255, h.Number&255)
}
