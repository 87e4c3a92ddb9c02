package hostsql

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// clockTicks is USER_HZ, which is 100 on every architecture that Go runs on.
const clockTicks = 100

// pids calls use for each process that the constraints allow.
func (h *host) pids(q Constraints, use func(pid string) error) error {
	if equal := q.Equal("pid"); len(equal) > 0 {
		pid := strconv.FormatInt(number(equal[0]), 10)
		if pid == "0" || !wanted(q, "pid", pid) {
			return nil
		}
		if _, err := os.Stat(h.path("proc", pid)); err != nil {
			return nil //nolint:nilerr // no such process: no rows
		}
		return use(pid)
	}
	for _, e := range h.list("proc") {
		if number(e.Name()) > 0 {
			if err := use(e.Name()); err != nil {
				return err
			}
		}
	}
	return nil
}

func (h *host) processes(_ context.Context, q Constraints, yield func(Values) error) error {
	boot := number(h.procStat("btime"))
	return h.pids(q, func(pid string) error {
		v := h.process(pid, boot)
		if v == nil {
			return nil // vanished
		}
		return yield(v)
	})
}

// process reads one process; nil if it is gone.
func (h *host) process(pid string, boot int64) Values {
	// The name in parentheses may hold anything; the fields come after its end.
	_, after, ok := cutLast(h.read("proc", pid, "stat"), ")")
	stat := strings.Fields(after)
	const statFields = 20
	if !ok || len(stat) < statFields {
		return nil
	}
	status := keyed(h.read("proc", pid, "status"), ":")
	uids, gids := strings.Fields(status["Uid"]), strings.Fields(status["Gid"])
	path := h.link("proc", pid, "exe")
	v := Values{
		"pid": pid, "name": status["Name"], "path": strings.TrimSuffix(path, " (deleted)"),
		"cmdline": strings.TrimRight(strings.ReplaceAll(h.read("proc", pid, "cmdline"), "\x00", " "), " "),
		"cwd":     h.link("proc", pid, "cwd"), "root": h.link("proc", pid, "root"),
		"uid": field(uids, 0), "euid": field(uids, 1), "suid": field(uids, 2),
		"gid": field(gids, 0), "egid": field(gids, 1), "sgid": field(gids, 2),
		"on_disk": h.onDisk(path), "wired_size": 0,
		"resident_size": kilobytes(status["VmRSS"]), "total_size": kilobytes(status["VmSize"]),
		"state": stat[0], "parent": stat[1], "pgroup": stat[2],
		"user_time": number(stat[11]) * 1000 / clockTicks, "system_time": number(stat[12]) * 1000 / clockTicks,
		"nice": stat[16], "threads": stat[17], "start_time": boot + number(stat[19])/clockTicks,
	}
	io := keyed(h.read("proc", pid, "io"), ":")
	v["disk_bytes_read"] = number(io["read_bytes"])
	v["disk_bytes_written"] = max(0, number(io["write_bytes"])-number(io["cancelled_write_bytes"]))
	v["cgroup_path"] = cgroupPath(h.read("proc", pid, "cgroup"))
	return v
}

// onDisk is 1 if the program's file is there, 0 if not, -1 if unknown.
func (h *host) onDisk(path string) int {
	if path == "" {
		return -1
	}
	if strings.HasSuffix(path, " (deleted)") {
		return 0
	}
	if _, err := os.Stat(h.path(path)); err != nil {
		return 0
	}
	return 1
}

// cgroupPath returns the path in the unified hierarchy, else in the first.
func cgroupPath(text string) string {
	first := ""
	for line := range strings.Lines(text) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) < 3 {
			continue
		}
		if parts[0] == "0" {
			return parts[2]
		}
		if first == "" {
			first = parts[2]
		}
	}
	return first
}

// kilobytes reads "123 kB" as bytes.
func kilobytes(s string) int64 { return number(strings.TrimSuffix(s, " kB")) * 1024 }

// procStat returns the value of a line of /proc/stat.
func (h *host) procStat(key string) string {
	for line := range strings.Lines(h.read("proc/stat")) {
		if k, v, _ := strings.Cut(line, " "); k == key {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

func cutLast(s, separator string) (before, after string, ok bool) {
	i := strings.LastIndex(s, separator)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(separator):], true
}

func (h *host) processEnvs(_ context.Context, q Constraints, yield func(Values) error) error {
	return h.pids(q, func(pid string) error {
		for pair := range strings.SplitSeq(h.read("proc", pid, "environ"), "\x00") {
			key, value, ok := strings.Cut(pair, "=")
			if !ok || key == "" {
				continue
			}
			if err := yield(Values{"pid": pid, "key": key, "value": value}); err != nil {
				return err
			}
		}
		return nil
	})
}

// descriptors calls use for each open file of a process.
func (h *host) descriptors(pid string, use func(fd, target string) error) error {
	for _, e := range h.list("proc", pid, "fd") {
		target := h.link("proc", pid, "fd", e.Name())
		if target == "" {
			continue
		}
		if err := use(e.Name(), target); err != nil {
			return err
		}
	}
	return nil
}

func (h *host) processOpenFiles(_ context.Context, q Constraints, yield func(Values) error) error {
	return h.pids(q, func(pid string) error {
		return h.descriptors(pid, func(fd, target string) error {
			if !filepath.IsAbs(target) {
				return nil // a socket, a pipe, an anonymous inode
			}
			return yield(Values{"pid": pid, "fd": fd, "path": target})
		})
	})
}
