package agenttest

import (
	"fmt"
	"strconv"

	"github.com/musterhq/muster/internal/osquery"
)

// rows returns the host's rows of a table, every column filled. Columns that
// the query constrains get the value it asks for, unless the host is known to
// have another.
func (h Host) rows(table osquery.SchemaTable, wanted []osquery.Column) []map[string]string {
	rows := h.knownRows(table.Name)
	if rows == nil {
		rows = make([]map[string]string, 1+mix(h.seed^uint64(len(table.Name)))%3)
		for i := range rows {
			rows[i] = map[string]string{}
		}
	}
	for i, row := range rows {
		for _, c := range wanted {
			if _, ok := row[c.Name]; !ok {
				row[c.Name] = c.Value
			}
		}
		for _, c := range table.Columns {
			if _, ok := row[c.Name]; !ok {
				row[c.Name] = h.plausible(c, i)
			}
		}
	}
	return rows
}

// plausible is a value for a column about which nothing is known.
func (h Host) plausible(c osquery.SchemaColumn, row int) string {
	v := mix(h.seed ^ uint64(row)<<32 ^ uint64(len(c.Name))) //nolint:gosec // any bits will do
	switch c.Type {
	case "TEXT":
	case "DOUBLE":
		return fmt.Sprintf("%d.%d", v%100, v>>8%10)
	default:
		return strconv.FormatUint(v%1000, 10)
	}
	switch c.Name {
	case "path":
		return pick(v, 30, programs(h.Platform)).path
	case "name":
		return pick(v, 30, programs(h.Platform)).name
	case "user", "username":
		return pick(v, 31, people())
	case "version":
		return pick(v, 32, packages()).version
	case "hostname":
		return h.Hostname
	}
	return ""
}

// knownRows returns what the host knows of itself; nil for other tables.
func (h Host) knownRows(table string) []map[string]string {
	switch table {
	case "os_version":
		return []map[string]string{h.osVersion()}
	case "osquery_info":
		return []map[string]string{h.osqueryInfo()}
	case "platform_info":
		return []map[string]string{h.platformInfo()}
	case "system_info":
		return []map[string]string{h.systemInfo()}
	case "uptime":
		return []map[string]string{{"days": strconv.FormatUint(h.seed%90, 10)}}
	case "processes":
		return h.processes()
	case "listening_ports":
		return h.listening()
	case "users", "logged_in_users":
		return h.users()
	case "usb_devices":
		d := pick(h.seed, 40, usbDevices())
		return []map[string]string{{"vendor": d.vendor, "vendor_id": d.vendorID, "model": d.model, "model_id": d.modelID, "removable": "1"}}
	case "interface_addresses":
		return []map[string]string{
			{"interface": "lo", "address": "127.0.0.1", "mask": "255.0.0.0", "type": "unknown"},
			{"interface": "eth0", "address": h.address(), "mask": "255.0.0.0", "type": "dhcp"},
		}
	case "deb_packages", "rpm_packages", "programs", "apps", "homebrew_packages":
		return h.packages()
	}
	return nil
}

func (h Host) processes() []map[string]string {
	all := programs(h.Platform)
	rows := make([]map[string]string, 0, 3*len(all))
	for i := range 3 * len(all) {
		p := all[i%len(all)]
		pid := 1
		if i > 0 {
			pid = 300 + i*37 + h.Number%29
		}
		rows = append(rows, map[string]string{
			"pid": strconv.Itoa(pid), "name": p.name, "path": p.path, "cmdline": p.cmdline, "parent": "1",
			"uid": strconv.FormatUint(p.uid, 10), "gid": strconv.FormatUint(p.uid, 10), "state": "S", "on_disk": "1",
			"threads": strconv.Itoa(1 + i%9),
		})
	}
	return rows
}

func (h Host) listening() []map[string]string {
	var rows []map[string]string
	for i, port := range []string{"22", "80", "443", "5432", "9100"} {
		if (h.seed>>i)&1 == 0 {
			continue
		}
		rows = append(rows, map[string]string{
			"pid": strconv.Itoa(300 + i*37), "port": port, "protocol": "6", "family": "2", "address": "0.0.0.0",
			"fd": strconv.Itoa(3 + i), "path": "", "net_namespace": "0",
		})
	}
	return append(rows, map[string]string{"pid": "300", "port": "53", "protocol": "17", "family": "2", "address": "127.0.0.1"})
}

func (h Host) users() []map[string]string {
	rows := []map[string]string{{"uid": "0", "gid": "0", "username": "root", "user": "root", "directory": "/root", "shell": "/bin/bash"}}
	for i := range 1 + h.seed%3 {
		name := pick(h.seed, 50+i, people())
		id := strconv.FormatUint(1000+i, 10)
		rows = append(rows, map[string]string{
			"uid": id, "gid": id, "username": name, "user": name, "directory": "/home/" + name, "shell": "/bin/bash",
		})
	}
	return rows
}

func (h Host) packages() []map[string]string {
	var rows []map[string]string
	for _, p := range packages() {
		rows = append(rows, map[string]string{"name": p.name, "version": p.version, "arch": h.os.arch})
	}
	return rows
}
