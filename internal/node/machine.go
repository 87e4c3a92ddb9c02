package node

import "strings"

// machineOf returns what tells a machine from another: its hardware UUID and
// serial number as system_info gives them. A part that is not known is empty;
// without any it is "".
func machineOf(system map[string]string) string {
	uuid, serial := hardware(system["uuid"]), hardware(system["hardware_serial"])
	if uuid == "" && serial == "" {
		return ""
	}
	return uuid + "/" + serial
}

// hardware returns a hardware UUID or serial number in lower case, or "" for
// what makers leave in its place. Thousands of machines have the same then.
func hardware(value string) string {
	value = strings.ToLower(strings.ReplaceAll(strings.TrimSpace(value), "/", "-"))
	switch value {
	case "not specified", "none", "n/a", "unknown", "default string", "not applicable", "not available",
		"system serial number", "to be filled by o.e.m.", "to be filled by o.e.m", "0123456789", "-1",
		// osquery's own list, in osquery/core/system.cpp.
		"03000200-0400-0500-0006-000700080009",
		"03020100-0504-0706-0809-0a0b0c0d0e0f",
		"10000000-0000-8000-0040-000000000000":
		return ""
	}
	if strings.Trim(value, "0-. ") == "" || strings.Trim(value, "f-. ") == "" {
		return ""
	}
	return value
}

// otherMachine reports whether two machines are known to be different: in what
// is known of both.
func otherMachine(a, b string) bool {
	auuid, aserial, _ := strings.Cut(a, "/")
	buuid, bserial, _ := strings.Cut(b, "/")
	return other(auuid, buuid) || other(aserial, bserial)
}

// other reports whether both values are known and not the same.
func other(a, b string) bool { return a != "" && b != "" && a != b }

// same reports whether both values are known and the same.
func same(a, b string) bool { return a != "" && a == b }
