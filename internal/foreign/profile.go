package foreign

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/musterhq/muster/internal/resource"
)

// profileKeys are the keys of a config that become a profile.
func profileKeys() []string {
	return []string{
		"options", "decorators", "file_paths", "file_paths_query", "exclude_paths", "file_accesses", "yara", "views",
		"auto_table_construction", "events", "prometheus_targets",
	}
}

// unusedKeys are those that agents know and Muster has no use for.
func unusedKeys() []string { return []string{"feature_vectors", "kafka_topics", "logger"} }

// profile reads what in a config is neither schedule nor packs. It reports
// whether there was any.
func (c *collector) profile(f *fields, name, selector string, priority int) bool {
	sections := map[string]any{}
	keep := func(key string, v any, n int) {
		if n > 0 {
			sections[key] = v
		}
	}
	for _, key := range []string{"file_paths", "file_paths_query", "exclude_paths"} {
		lists := f.lists(key)
		keep(key, lists, len(lists))
	}
	accesses := f.texts("file_accesses")
	keep("file_accesses", accesses, len(accesses))
	for key, read := range map[string]func(*fields) map[string]any{
		"options": options, "decorators": decorators, "yara": yara, "views": views,
		"auto_table_construction": autoTables, "events": events, "prometheus_targets": prometheus,
	} {
		if o := f.object(key); o != nil {
			section := read(o)
			o.done("agents do not read it")
			keep(key, section, len(section))
		}
	}
	f.drop("a profile has no place for it; set it in a file on hosts that need it", unusedKeys()...)
	if len(sections) == 0 {
		return false
	}
	if selector = c.selector(f.source, name, selector); selector != "" {
		sections["selector"] = selector
	}
	if priority != 0 {
		sections["priority"] = priority
	}
	return c.addProfile(f.source, name, sections)
}

// addProfile adds a profile from its sections, by the keys that they have in
// its canonical form.
func (c *collector) addProfile(source, name string, sections map[string]any) bool {
	b, err := json.Marshal(map[string]any{"kind": "Profile", "name": "profile", "spec": sections})
	if err != nil {
		c.fail(source, "the rest of the config: %v", err)
		return false
	}
	o, err := resource.Decode(b)
	if err != nil {
		c.fail(source, "the rest of the config: %v", err)
		return false
	}
	if p, ok := o.Spec.(*resource.Profile); ok {
		for key, v := range p.Options {
			if n, isNumber := v.(json.Number); isNumber {
				p.Options[key], _ = number(n.String())
			}
		}
	}
	c.add(source, name, "", "Profile", o.Spec)
	return true
}

// options reads osquery's flags. Those that agents take from their flagfile
// alone are left out.
func options(f *fields) map[string]any {
	out := map[string]any{}
	for key := range f.names() {
		v := f.take(key)
		switch v := v.(type) {
		case nil:
			f.note(f.source, f.at(key), "left out: it is null, which agents do not take")
			continue
		case string:
			if v == "" {
				f.note(f.source, f.at(key), "left out: agents skip an empty text")
				continue
			}
		case []any, map[string]any:
			f.note(f.source, f.at(key), "became a text, as agents make one of it")
			out[key] = jsonText(v)
			continue
		}
		switch {
		case slices.Contains(strings.Fields(flagfileOnly), key):
			f.note(f.source, f.at(key), "left out: agents take it from their flagfile alone. Write it there: --%s=%s", clip(key), clip(flagText(v)))
		case key == "pack_delimiter" && v != "_":
			f.note(f.source, f.at(key), "left out: Muster knows queries by the names that they have with _. Queries of packs are called pack_PACK_NAME from now on, and their differential state starts anew")
		default:
			out[key] = v
		}
	}
	return out
}

func flagText(v any) string {
	s, _ := scalarText(v)
	return s
}

// flagfileOnly are the flags that agents do not take from a config
// (osquery/core/flags.h, CLI_FLAG), and the two of glog.
const flagfileOnly = `D S alarm_timeout aws_enforce_fips carver_block_size carver_compression carver_continue_endpoint
carver_disable_function carver_expiry carver_start_endpoint config_accelerated_refresh config_check config_dump
config_enable_backup config_path config_plugin config_refresh config_tls_endpoint config_tls_max_attempts daemonize
database_dump database_path disable_carver disable_enrollment disable_extensions disable_reenrollment disable_tables
disable_watchdog enable_extensions_watchdog enable_tables enable_watchdog_debug enroll_always enroll_secret_env
enroll_secret_path enroll_tls_endpoint extensions_autoload extensions_interval extensions_require extensions_socket
extensions_timeout force install keep_container_worker_open logger_mode logger_plugin logger_stderr pidfile
proxy_hostname tls_accept_gzip tls_client_cert tls_client_key tls_enroll_max_attempts tls_enroll_max_interval
tls_hostname tls_server_certs tls_session_reuse tls_session_timeout uninstall watchdog_delay
watchdog_forced_shutdown_delay watchdog_latency_limit watchdog_level watchdog_memory_limit
watchdog_utilization_limit logtostderr stderrthreshold`

func decorators(f *fields) map[string]any {
	out := map[string]any{}
	for _, key := range []string{"load", "always"} {
		if list := f.texts(key); len(list) > 0 {
			out[key] = list
		}
	}
	if lists := f.lists("interval"); len(lists) > 0 {
		out["interval"] = lists
	}
	return out
}

func yara(f *fields) map[string]any {
	out := map[string]any{}
	for _, key := range []string{"signatures", "file_paths"} {
		if lists := f.lists(key); len(lists) > 0 {
			out[key] = lists
		}
	}
	if urls := f.texts("signature_urls"); len(urls) > 0 {
		out["signature_urls"] = urls
	}
	return out
}

func views(f *fields) map[string]any {
	out := map[string]any{}
	for name := range f.names() {
		if text := f.text(name); text != "" {
			out[name] = text
		}
	}
	return out
}

func autoTables(f *fields) map[string]any {
	out := map[string]any{}
	for name := range f.names() {
		t := f.object(name)
		if t == nil {
			continue
		}
		table := map[string]any{"path": t.text("path"), "query": t.text("query"), "columns": t.texts("columns")}
		if platform := t.text("platform"); platform != "" {
			table["platform"] = platform
		}
		t.done("agents do not read it")
		out[name] = table
	}
	return out
}

func events(f *fields) map[string]any {
	out := map[string]any{}
	for _, key := range []string{"enable_subscribers", "disable_subscribers"} {
		if list := f.texts(key); len(list) > 0 {
			out[key] = list
		}
	}
	return out
}

func prometheus(f *fields) map[string]any {
	out := map[string]any{}
	if n, ok := f.integer("timeout"); ok {
		out["timeout"] = n
	}
	if urls := f.texts("urls"); len(urls) > 0 {
		out["urls"] = urls
	}
	return out
}
