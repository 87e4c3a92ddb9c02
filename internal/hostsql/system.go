package hostsql

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

func (h *host) osVersion(_ context.Context, _ Constraints, yield func(Values) error) error {
	text := h.read("etc/os-release")
	if text == "" {
		text = h.read("usr/lib/os-release")
	}
	release := keyed(text, "=")
	get := func(key string) string { return strings.Trim(release[key], `"'`) }
	version := strings.SplitN(get("VERSION_ID"), ".", 3)
	_, machine := uname()
	v := Values{
		"name": get("NAME"), "version": get("VERSION"), "platform": get("ID"), "codename": get("VERSION_CODENAME"),
		"major": number(field(version, 0)), "minor": number(field(version, 1)), "patch": number(field(version, 2)),
		"arch": machine, "pid_with_namespace": 0,
	}
	// The real agent leaves out what the file does not say.
	for column, key := range map[string]string{"platform_like": "ID_LIKE", "build": "BUILD_ID"} {
		if get(key) != "" {
			v[column] = get(key)
		}
	}
	return yield(v)
}

func (h *host) systemInfo(_ context.Context, _ Constraints, yield func(Values) error) error {
	name, err := os.Hostname()
	if err != nil {
		name = ""
	}
	_, machine := uname()
	cpu := h.cpu()
	v := Values{
		"hostname": name, "computer_name": name, "local_hostname": name, "uuid": h.hardwareUUID(),
		"cpu_type": machine, "cpu_subtype": cpu.model, "cpu_brand": cpu.brand, "cpu_microcode": cpu.microcode,
		"cpu_logical_cores": cpu.logical, "cpu_physical_cores": cpu.physical, "cpu_sockets": cpu.sockets,
		"physical_memory": kilobytes(keyed(h.read("proc/meminfo"), ":")["MemTotal"]),
	}
	for column, file := range map[string]string{
		"hardware_vendor": "sys_vendor", "hardware_model": "product_name", "hardware_version": "product_version",
		"hardware_serial": "product_serial", "board_vendor": "board_vendor", "board_model": "board_name",
		"board_version": "board_version", "board_serial": "board_serial",
	} {
		if text := h.line("sys/class/dmi/id", file); text != "" {
			v[column] = text
		}
	}
	return yield(v)
}

// hardwareUUID is the machine's own, which only root may read, else the
// installation's id in the same form.
func (h *host) hardwareUUID() string {
	if id := h.line("sys/class/dmi/id/product_uuid"); id != "" {
		return strings.ToLower(id)
	}
	id := h.line("etc/machine-id")
	if len(id) != 32 {
		return ""
	}
	return id[:8] + "-" + id[8:12] + "-" + id[12:16] + "-" + id[16:20] + "-" + id[20:]
}

type processor struct {
	model, brand, microcode    string
	logical, physical, sockets int
}

func (h *host) cpu() processor {
	var p processor
	cores, sockets := map[string]bool{}, map[string]bool{}
	for paragraph := range strings.SplitSeq(h.read("proc/cpuinfo"), "\n\n") {
		m := keyed(paragraph, ":")
		if _, ok := m["processor"]; !ok {
			continue
		}
		p.logical++
		cores[m["physical id"]+" "+m["core id"]] = true
		sockets[m["physical id"]] = true
		if p.brand == "" {
			p.brand, p.model, p.microcode = m["model name"], m["model"], m["microcode"]
		}
	}
	p.physical, p.sockets = len(cores), len(sockets)
	return p
}

func (h *host) platformInfo(_ context.Context, _ Constraints, yield func(Values) error) error {
	get := func(name string) string { return h.line("sys/class/dmi/id", name) }
	if get("bios_vendor") == "" {
		return nil // no firmware tables, as in most containers and virtual machines
	}
	firmware := "bios"
	if _, err := os.Stat(h.path("sys/firmware/efi")); err == nil {
		firmware = "uefi"
	}
	return yield(Values{
		"vendor": get("bios_vendor"), "version": get("bios_version"), "date": get("bios_date"),
		"revision": get("bios_release"), "extra": "", "firmware_type": firmware,
	})
}

func (h *host) kernelInfo(_ context.Context, _ Constraints, yield func(Values) error) error {
	release, _ := uname()
	v := Values{"version": release}
	var arguments []string
	for word := range strings.FieldsSeq(h.read("proc/cmdline")) {
		if image, ok := strings.CutPrefix(word, "BOOT_IMAGE="); ok {
			v["path"] = image
		} else if device, ok := strings.CutPrefix(word, "root="); ok {
			v["device"] = device
		} else {
			arguments = append(arguments, word)
		}
	}
	v["arguments"] = strings.Join(arguments, " ")
	return yield(v)
}

func (h *host) kernelModules(_ context.Context, _ Constraints, yield func(Values) error) error {
	return each(h.read("proc/modules"), func(line string) error {
		f := strings.Fields(line) // name size uses users state address
		const columns = 6
		if len(f) < columns {
			return nil
		}
		return yield(Values{"name": f[0], "size": f[1], "used_by": strings.TrimSuffix(f[3], ","), "status": f[4], "address": f[5]})
	})
}

func (h *host) loadAverage(_ context.Context, _ Constraints, yield func(Values) error) error {
	f := strings.Fields(h.read("proc/loadavg"))
	for i, period := range []string{"1m", "5m", "15m"} {
		if i >= len(f) {
			break
		}
		if err := yield(Values{"period": period, "average": f[i]}); err != nil {
			return err
		}
	}
	return nil
}

func (h *host) memoryInfo(_ context.Context, _ Constraints, yield func(Values) error) error {
	m := keyed(h.read("proc/meminfo"), ":")
	if len(m) == 0 {
		return nil
	}
	v := Values{}
	for column, key := range map[string]string{
		"memory_total": "MemTotal", "memory_free": "MemFree", "memory_available": "MemAvailable", "buffers": "Buffers",
		"cached": "Cached", "swap_cached": "SwapCached", "active": "Active", "inactive": "Inactive",
		"swap_total": "SwapTotal", "swap_free": "SwapFree",
	} {
		v[column] = kilobytes(m[key])
	}
	return yield(v)
}

func (h *host) mounts(_ context.Context, _ Constraints, yield func(Values) error) error {
	return each(h.read("proc/self/mounts"), func(line string) error {
		f := strings.Fields(line) // device path type flags …
		const columns = 4
		if len(f) < columns {
			return nil
		}
		path := unescape(f[1])
		v := Values{"device": unescape(f[0]), "device_alias": unescape(f[0]), "path": path, "type": f[2], "flags": f[3]}
		if target, err := filepath.EvalSymlinks(f[0]); err == nil && strings.HasPrefix(f[0], "/dev/") {
			v["device_alias"] = target
		}
		if remote(f[2]) {
			return yield(v) // a dead server would hold the call, and so every query
		}
		if s, ok := statfs(h.path(path)); ok {
			v["blocks_size"], v["blocks"], v["blocks_free"], v["blocks_available"] = s.blockSize, s.blocks, s.free, s.available
			v["inodes"], v["inodes_free"] = s.inodes, s.inodesFree
		}
		return yield(v)
	})
}

func remote(kind string) bool {
	for _, prefix := range []string{"nfs", "cifs", "smb", "autofs", "fuse", "ceph", "9p", "afs", "glusterfs", "lustre"} {
		if strings.HasPrefix(kind, prefix) {
			return true
		}
	}
	return false
}

// unescape undoes the octal escapes of /proc/mounts (\040 is a space).
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

func (h *host) systemControls(ctx context.Context, q Constraints, yield func(Values) error) error {
	emit := func(name, text string) error {
		subsystem, _, _ := strings.Cut(name, ".")
		if !wanted(q, "name", name) || !wanted(q, "subsystem", subsystem) {
			return nil
		}
		return yield(Values{"name": name, "oid": "", "subsystem": subsystem, "current_value": text, "config_value": "", "type": "string"})
	}
	if names := q.Equal("name"); len(names) > 0 {
		path := filepath.Clean("/" + strings.ReplaceAll(names[0], ".", "/"))
		info, err := os.Stat(h.path("proc/sys", path))
		if err != nil || !info.Mode().IsRegular() {
			return nil //nolint:nilerr // no such control: no rows
		}
		return emit(names[0], h.line("proc/sys", path))
	}
	root := h.path("proc/sys")
	return filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil || !e.Type().IsRegular() {
			return nil //nolint:nilerr // skip what may not be read
		}
		name := strings.TrimPrefix(strings.TrimPrefix(path, root), "/")
		if info, err := e.Info(); err != nil || info.Mode().Perm()&0o444 == 0 {
			return nil //nolint:nilerr // write-only controls act when touched
		}
		return emit(strings.ReplaceAll(name, "/", "."), h.line("proc/sys", name))
	})
}

func (h *host) uptime(_ context.Context, _ Constraints, yield func(Values) error) error {
	text, _, _ := strings.Cut(h.read("proc/uptime"), ".")
	total := number(text)
	return yield(Values{
		"days": total / 86400, "hours": total / 3600 % 24, "minutes": total / 60 % 60, "seconds": total % 60,
		"total_seconds": total,
	})
}

func (h *host) time(_ context.Context, _ Constraints, yield func(Values) error) error {
	local := time.Now()
	now := local.UTC()
	zone, _ := local.Zone()
	iso := now.Format("2006-01-02T15:04:05Z")
	return yield(Values{
		"weekday": now.Weekday().String(), "year": now.Year(), "month": int(now.Month()), "day": now.Day(),
		"hour": now.Hour(), "minutes": now.Minute(), "seconds": now.Second(), "timezone": "UTC", "local_timezone": zone,
		"unix_time": now.Unix(), "timestamp": now.Format(time.ANSIC) + " UTC", "datetime": iso, "iso_8601": iso,
	})
}
