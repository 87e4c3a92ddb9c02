package sink

import (
	"net/netip"
	"strconv"
	"time"

	"github.com/musterhq/muster/internal/event"
)

// ecsVersion is the version of Elastic's common schema whose fields are used.
// Source: elastic.co/docs/reference/ecs.
const ecsVersion = "8.17.0"

// ecs appends the event in Elastic's common schema. Columns are under
// osquery.columns as they are, for a mapping of type flattened; those whose names
// mean one thing in osquery's tables are in the schema's own fields, too. A value
// that would not fit a field's type is not put there: one document that does not fit
// is refused.
func (w *row) ecs(dst []byte, id string) []byte {
	o := object{dst: append(dst, '{')}
	o.time("@timestamp", w.Time)
	o.raw("ecs", `{"version":"`+ecsVersion+`"}`)
	o.open("event")
	o.text("id", id)
	o.text("module", "osquery")
	if w.Action == event.Status {
		o.text("kind", "event")
		o.text("dataset", "osquery.status")
	} else {
		o.text("kind", ecsKind(w.Action))
		o.text("dataset", "osquery.result")
		o.text("action", w.Action)
		o.text("provider", w.Query)
	}
	o.time("created", w.Received)
	o.close()
	w.ecsHost(&o)
	if len(w.Tags) > 0 {
		o.key("tags")
		o.dst = appendTexts(o.dst, w.Tags)
	}
	if len(w.marks) > 0 {
		o.key("labels")
		o.dst = appendPairs(o.dst, w.marks)
	}
	if w.Action == event.Status {
		w.ecsStatus(&o)
	} else {
		w.ecsColumns(&o)
	}
	o.open("osquery")
	o.text("query", w.Query)
	o.text("action", w.Action)
	o.number("epoch", w.Epoch)
	o.number("counter", w.Counter)
	o.key("columns")
	o.dst = appendPairs(o.dst, w.columns)
	o.close()
	return append(o.dst, '}')
}

func ecsKind(action string) string {
	if action == event.Snapshot {
		return "state"
	}
	return "event"
}

func (w *row) ecsHost(o *object) {
	o.open("host")
	o.text("id", w.NodeID)
	o.text("name", w.HostIdentifier)
	o.close()
	o.open("agent")
	o.text("id", w.NodeID)
	o.text("type", "osquery")
	if v := w.column("version"); w.Action == event.Status && v != "" {
		o.text("version", v)
	}
	o.close()
}

func (w *row) ecsStatus(o *object) {
	o.text("message", w.column("message"))
	o.open("log")
	o.text("level", severityName(w.column("severity")))
	o.open("origin")
	o.open("file")
	o.text("name", w.column("filename"))
	o.integer("line", w.column("line"))
	o.close()
	o.close()
	o.close()
}

// severityName names a severity of the agents' own log (glog's).
func severityName(s string) string {
	switch s {
	case "0":
		return "info"
	case "1":
		return "warning"
	case "2":
		return "error"
	case "3":
		return "critical"
	}
	return s
}

// ecsColumns puts columns into the schema's own fields.
func (w *row) ecsColumns(o *object) {
	_, process := value(w.columns, "pid")
	if process {
		o.open("process")
		o.integer("pid", w.column("pid"))
		o.textIf("name", w.column("name"))
		o.textIf("executable", w.column("path"))
		o.textIf("command_line", w.column("cmdline"))
		o.textIf("working_directory", w.column("cwd"))
		if parent := w.column("parent"); parent != "" {
			o.open("parent")
			o.integer("pid", parent)
			o.close()
		}
		w.ecsHashes(o)
		o.close()
	} else if path := w.column("path"); path != "" {
		o.open("file")
		o.text("path", path)
		w.ecsHashes(o)
		o.close()
	}
	if uid, name := w.column("uid"), w.column("username"); uid != "" || name != "" {
		o.open("user")
		o.textIf("id", uid)
		o.textIf("name", name)
		o.close()
	}
	o.end("source", w.column("local_address"), w.column("local_port"))
	o.end("destination", w.column("remote_address"), w.column("remote_port"))
}

func (w *row) ecsHashes(o *object) {
	md5, sha1, sha256 := w.column("md5"), w.column("sha1"), w.column("sha256")
	if md5 == "" && sha1 == "" && sha256 == "" {
		return
	}
	o.open("hash")
	o.textIf("md5", md5)
	o.textIf("sha1", sha1)
	o.textIf("sha256", sha256)
	o.close()
}

// object appends the members of nested JSON objects.
type object struct{ dst []byte }

func (o *object) key(name string) {
	if last := o.dst[len(o.dst)-1]; last != '{' {
		o.dst = append(o.dst, ',')
	}
	o.dst = appendText(o.dst, name)
	o.dst = append(o.dst, ':')
}

func (o *object) open(name string) {
	o.key(name)
	o.dst = append(o.dst, '{')
}

func (o *object) close() { o.dst = append(o.dst, '}') }

func (o *object) raw(name, json string) {
	o.key(name)
	o.dst = append(o.dst, json...)
}

func (o *object) text(name, s string) {
	o.key(name)
	o.dst = appendText(o.dst, s)
}

func (o *object) textIf(name, s string) {
	if s != "" {
		o.text(name, s)
	}
}

func (o *object) number(name string, n int64) {
	o.key(name)
	o.dst = strconv.AppendInt(o.dst, n, 10)
}

// integer adds a number of a field of type long, if the text is one.
func (o *object) integer(name, s string) {
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		o.number(name, n)
	}
}

// end adds one end of a connection, if its address is one.
func (o *object) end(name, address, port string) {
	ip, err := netip.ParseAddr(address)
	if err != nil {
		return
	}
	o.open(name)
	o.text("ip", ip.WithZone("").String())
	o.text("address", address)
	if n, err := strconv.ParseUint(port, 10, 16); err == nil {
		o.number("port", int64(n))
	}
	o.close()
}

func (o *object) time(name string, t time.Time) {
	o.key(name)
	o.dst = appendTime(o.dst, t)
}
