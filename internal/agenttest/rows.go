package agenttest

import (
	"encoding/json"
	"strconv"
	"time"

	"github.com/musterhq/muster/internal/osquery"
)

// perExecution is how many rows one made-up execution of a query changes.
const perExecution = 4

// resultLines returns differential lines in the exact form of osquery
// (event format, columns sorted by name, removed before added). batch must grow
// from call to call of a host, so that no two lines are equal.
func resultLines(h Host, identifier string, batch int64, rows int, now time.Time) []json.RawMessage {
	queries := scheduled(h.Platform)
	lines := make([]json.RawMessage, rows)
	// One allocation for all lines; they are dropped together as well.
	all := make([]byte, 0, rows*448)
	for i := range rows {
		execution := uint64(batch)*3 + uint64(i/perExecution) + h.seed //nolint:gosec // any bits will do
		q := queries[execution%uint64(len(queries))]
		action := "added"
		if batch > 0 && i%perExecution == 0 {
			action = "removed"
		}
		start := len(all)
		all = appendHead(all, q.name, identifier, batch, now)
		all = append(all, `"columns":{`...)
		all = q.columns(all, h, mix(uint64(batch))<<16+uint64(i)) //nolint:gosec // any bits will do
		all = append(all, `},"action":"`...)
		all = append(all, action...)
		all = append(all, `"}`...)
		lines[i] = all[start:len(all):len(all)]
	}
	return lines
}

// appendHead begins a result line, up to its columns.
func appendHead(dst []byte, query, identifier string, counter int64, now time.Time) []byte {
	now = now.UTC()
	dst = append(dst, `{"name":"`...)
	dst = append(dst, query...)
	dst = append(dst, `","hostIdentifier":`...)
	dst = appendString(dst, identifier)
	dst = append(dst, `,"calendarTime":"`...)
	dst = now.AppendFormat(dst, calendarTime)
	dst = append(dst, `","unixTime":`...)
	dst = strconv.AppendInt(dst, now.Unix(), 10)
	dst = append(dst, `,"epoch":0,"counter":`...)
	dst = strconv.AppendInt(dst, counter, 10)
	return append(dst, `,"numerics":false,`...)
}

// calendarTime is C's asctime and a zone.
const calendarTime = "Mon Jan _2 15:04:05 2006 UTC"

// appendString appends s as JSON, escaping what a string of valid UTF-8 needs.
func appendString(dst []byte, s string) []byte {
	const hex = "0123456789ABCDEF"
	dst = append(dst, '"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c < ' ':
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		default:
			dst = append(dst, c)
		}
	}
	return append(dst, '"')
}

// scheduledQuery makes the columns of one row; v differs for every row.
type scheduledQuery struct {
	name    string
	columns func(dst []byte, h Host, v uint64) []byte
}

func scheduled(platform string) []scheduledQuery {
	queries := []scheduledQuery{
		{"pack_incident-response_listening_ports", listeningPort},
		{"pack_incident-response_processes", process},
		{"pack_it-compliance_users", user},
		{"pack_hardware-monitoring_usb_devices", usbDevice},
	}
	if platform == "linux" {
		return append(queries, scheduledQuery{"pack_vuln-management_deb_packages", debPackage})
	}
	return queries
}

// text appends a column after the first.
func text(dst []byte, name, value string) []byte {
	dst = append(dst, ',', '"')
	dst = append(dst, name...)
	dst = append(dst, '"', ':')
	return appendString(dst, value)
}

// number appends a numeric column after the first; osquery sends text.
func number(dst []byte, name string, value uint64) []byte {
	dst = append(dst, ',', '"')
	dst = append(dst, name...)
	dst = append(dst, '"', ':', '"')
	dst = strconv.AppendUint(dst, value, 10)
	return append(dst, '"')
}

func process(dst []byte, h Host, v uint64) []byte {
	p := pick(v, 20, programs(h.Platform))
	dst = append(dst, `"cmdline":`...)
	dst = appendString(dst, p.cmdline)
	dst = text(dst, "name", p.name)
	dst = number(dst, "parent", 1)
	dst = text(dst, "path", p.path)
	dst = number(dst, "pid", 1000+v%60_000)
	dst = number(dst, "resident_size", 4096*(1000+v>>4%50_000))
	dst = number(dst, "start_time", 1795250701+v%100_000)
	return number(dst, "uid", p.uid)
}

func listeningPort(dst []byte, h Host, v uint64) []byte {
	p := pick(v, 21, programs(h.Platform))
	dst = append(dst, `"address":"0.0.0.0"`...)
	dst = number(dst, "family", 2)
	dst = text(dst, "name", p.name)
	dst = text(dst, "path", p.path)
	dst = number(dst, "pid", 1000+v>>8%60_000)
	dst = number(dst, "port", 1024+v%64_000)
	return number(dst, "protocol", 6)
}

func user(dst []byte, h Host, v uint64) []byte {
	name := pick(v, 22, people())
	home, shell := "/home/"+name, "/bin/bash"
	switch h.Platform {
	case "darwin":
		home, shell = "/Users/"+name, "/bin/zsh"
	case "windows":
		home, shell = `C:\Users\`+name, `C:\Windows\system32\cmd.exe`
	}
	dst = append(dst, `"description":""`...)
	dst = text(dst, "directory", home)
	dst = number(dst, "gid", 1000+v%500)
	dst = text(dst, "shell", shell)
	dst = number(dst, "uid", 1000+v%60_000)
	return text(dst, "username", name)
}

func usbDevice(dst []byte, _ Host, v uint64) []byte {
	d := pick(v, 23, usbDevices())
	dst = append(dst, `"model":`...)
	dst = appendString(dst, d.model)
	dst = text(dst, "model_id", d.modelID)
	dst = number(dst, "removable", 1)
	dst = number(dst, "serial", v%100_000_000)
	dst = number(dst, "usb_address", v%120)
	dst = text(dst, "vendor", d.vendor)
	return text(dst, "vendor_id", d.vendorID)
}

func debPackage(dst []byte, h Host, v uint64) []byte {
	p := pick(v, 24, packages())
	dst = append(dst, `"arch":"amd64"`...)
	dst = text(dst, "name", p.name)
	dst = number(dst, "revision", v%1000)
	dst = text(dst, "source", "")
	dst = text(dst, "status", "install ok installed")
	return text(dst, "version", p.version+"-"+h.os.major)
}

// statusLine returns a line of the agent's own log.
func statusLine(h Host, identifier string, now time.Time) (json.RawMessage, error) {
	now = now.UTC()
	return osquery.StatusLine{
		HostIdentifier: identifier, CalendarTime: now.Format(calendarTime), UnixTime: now.Unix(),
		Severity: 1, Filename: "virtual_table.cpp", Line: 1012, Version: h.Version,
		Message: "The user_ssh_keys table returns data based on the current user by default, consider JOINing against the users table",
	}.Encode()
}

type program struct {
	name, path, cmdline string
	uid                 uint64
}

func programs(platform string) []program {
	switch platform {
	case "darwin":
		return []program{
			{"launchd", "/sbin/launchd", "/sbin/launchd", 0},
			{"WindowServer", "/System/Library/PrivateFrameworks/SkyLight.framework/Resources/WindowServer", "WindowServer -daemon", 88},
			{"Finder", "/System/Library/CoreServices/Finder.app/Contents/MacOS/Finder", "Finder", 501},
			{"Google Chrome", "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome", "Google Chrome", 501},
			{"Slack", "/Applications/Slack.app/Contents/MacOS/Slack", "Slack", 501},
			{"mDNSResponder", "/usr/sbin/mDNSResponder", "/usr/sbin/mDNSResponder", 65},
			{"osqueryd", "/opt/osquery/lib/osquery.app/Contents/MacOS/osqueryd", "osqueryd --flagfile=/var/osquery/osquery.flags", 0},
		}
	case "windows":
		return []program{
			{"svchost.exe", `C:\Windows\System32\svchost.exe`, `C:\Windows\system32\svchost.exe -k netsvcs -p`, 18},
			{"lsass.exe", `C:\Windows\System32\lsass.exe`, `C:\Windows\system32\lsass.exe`, 18},
			{"explorer.exe", `C:\Windows\explorer.exe`, `C:\Windows\Explorer.EXE`, 1001},
			{"OUTLOOK.EXE", `C:\Program Files\Microsoft Office\root\Office16\OUTLOOK.EXE`, `"OUTLOOK.EXE"`, 1001},
			{"MsMpEng.exe", `C:\ProgramData\Microsoft\Windows Defender\Platform\MsMpEng.exe`, "MsMpEng.exe", 18},
			{"osqueryd.exe", `C:\Program Files\osquery\osqueryd\osqueryd.exe`, "osqueryd.exe", 18},
		}
	}
	return []program{
		{"systemd", "/usr/lib/systemd/systemd", "/sbin/init", 0},
		{"sshd", "/usr/sbin/sshd", "sshd: /usr/sbin/sshd -D [listener] 0 of 10-100 startups", 0},
		{"nginx", "/usr/sbin/nginx", "nginx: worker process", 33},
		{"postgres", "/usr/lib/postgresql/16/bin/postgres", "postgres: checkpointer", 110},
		{"cron", "/usr/sbin/cron", "/usr/sbin/cron -f -P", 0},
		{"containerd", "/usr/bin/containerd", "/usr/bin/containerd", 0},
		{"python3", "/usr/bin/python3.12", "python3 -m gunicorn app:main", 1000},
		{"redis-server", "/usr/bin/redis-server", "/usr/bin/redis-server 127.0.0.1:6379", 112},
		{"osqueryd", "/opt/osquery/bin/osqueryd", "/opt/osquery/bin/osqueryd --flagfile=/etc/osquery/osquery.flags", 0},
	}
}

func people() []string {
	return []string{"anna", "ben", "chidi", "dana", "emre", "farah", "goran", "hana", "ivan", "julia", "kofi", "lena"}
}

type usb struct{ vendor, vendorID, model, modelID string }

func usbDevices() []usb {
	return []usb{
		{"SanDisk Corp.", "0781", "Ultra Flair", "5591"},
		{"Kingston Technology", "0951", "DataTraveler 100", "1666"},
		{"Logitech, Inc.", "046d", "Unifying Receiver", "c52b"},
		{"Yubico.com", "1050", "Yubikey 4/5 OTP+U2F+CCID", "0407"},
		{"Samsung Electronics Co., Ltd", "04e8", "Portable SSD T7", "61f5"},
	}
}

type installed struct{ name, version string }

func packages() []installed {
	return []installed{
		{"openssl", "3.0.17"},
		{"curl", "7.88.1"},
		{"nginx", "1.22.1"},
		{"openssh-server", "9.2p1"},
		{"sudo", "1.9.13p3"},
		{"bash", "5.2.15"},
		{"python3", "3.11.2"},
		{"libc6", "2.36"},
	}
}
