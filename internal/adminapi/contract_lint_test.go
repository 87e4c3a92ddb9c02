package adminapi_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// snake is how fields and parameters are written.
var snake = regexp.MustCompile(`^[a-z][a-z0-9]*(_[a-z0-9]+)*$`)

// obvious are the fields and parameters that need no description: every document
// of the API has them with the same meaning.
const obvious = `
	acknowledged_at acknowledged_by action active actor added added_total alert_id alert_title alerts alias_of aliases allowed
	answered answered_at answered_p50_ms answered_p99_ms answers approvals approved_by archives arguments assignee at author
	bake_seconds before block_count block_size by bytes bytes_stored carve_guid carves changes checks class classes code column
	columns comment condition config control cost_ns_per_event count counter cpu_seconds created_at created_by cursor decided_at
	decided_by decision decorations default delivered_at delivered_p50_ms delivered_p99_ms description detail diff drifted ended ended_at
	enroll entries epoch event event_time evented events events_stored exception expired expires_at factors failed failing_since
	fields files final findings first first_at first_ms first_seen format from frozen functions gate gates gone gone_total has_token hash
	host_identifier hostname id instead interval interval_seconds issuer key kind kinds kept_until labels last last_clash
	last_error_at last_fired_at last_match_at last_used letters level limit limit_bytes line live live_id live_running live_tier log lost
	lost_events match matched matching max_uses memory memory_mb message min_severity modified n name needed newest next_cursor node_id
	nodes not_before notes notifications notifier number object off ok oldest online op open opened_at order osquery_version other_groups
	outcome owner p50_ms p95_ms p99_ms password path paths paused_at paused_by permissions platform platforms policy
	quarantine_reason quarantined queries query reason reasons received_at received_blocks recovery_codes_left refused
	request_id required rerun_of resolved resolved_at result revision revisions revoked_at roles rollouts row_tier rows rule samples
	saved_queries saw schedule_tier seconds secrets segments segments_done segments_total selector sent seq sessions severity sha256
	sightings signed_at since size snapshot sort sql stage stage_at stages start started_at starts_at state status subject suppressed
	system_time tables tag tags target text tier time title to token token_since took_ms total truncated type until updated_at updated_by
	uptime_seconds use user_data user_time username users uses value values version waiting wall_time_ms way why worst_ms after`

// whole are lists that come whole: what is in them is bounded by what people
// applied or made by hand.
const whole = `/alerts/latency /enrollment-queries /invitations /live/bound /notifiers /permissions /roles /rules /sign-on /silences /sinks /tokens /tokens/all
	/triggers /users/{name}/identities /users/{name}/tokens /redactions`

// firstOnly are lists of which a limit takes the first alone: they are ordered so
// that more of them say nothing new, or are bounded by themselves.
const firstOnly = `/events/count /live/{id}/compare /live/{id}/groups /nodes/who /nodes/{id}/activity /notifications /sinks/{name}/dead`

// linter looks for what is not as everywhere else.
type linter struct {
	*description

	ids     map[string]string
	obvious []string
}

func (l *linter) operation(o operation) (faults []string) {
	say := func(format string, args ...any) {
		faults = append(faults, o.String()+": "+fmt.Sprintf(format, args...))
	}
	id, _ := o.object["operationId"].(string)
	if other, ok := l.ids[id]; ok || id == "" {
		say("the operationId %q is that of %s", id, other)
	}
	l.ids[id] = o.String()
	if summary, _ := o.object["summary"].(string); len(summary) < 5 || strings.HasSuffix(summary, ".") {
		say("the summary %q is none, or ends with a full stop", summary)
	}
	if tags, _ := o.object["tags"].([]any); len(tags) != 1 {
		say("tags %v; want one, the noun", tags)
	}
	security, ok := o.object["security"].([]any)
	if !ok {
		say("does not say who may call it")
	}
	responses := l.at(o.pointer() + "/responses")
	want := []string{"400", "422", "429", "500", "503"}
	if len(security) > 0 {
		want = append(want, "401", "403")
	}
	if len(o.parameters("path")) > 0 {
		want = append(want, "404")
	}
	if o.object["requestBody"] != nil {
		want = append(want, "413", "415")
	}
	for _, status := range want {
		if responses[status] == nil {
			say("does not document %s", status)
		}
	}
	if o.method == "GET" && o.object["requestBody"] != nil {
		say("reads a body")
	}
	for _, in := range []string{"query", "path"} {
		for _, p := range o.parameters(in) {
			name, _ := p["name"].(string)
			faults = append(faults, l.named(o.String()+" "+in, name, p)...)
			schema := l.schema(p["schema"].(object))
			if _, bounded := schema["maxLength"]; typeOf(schema) == "string" && in == "query" && !bounded && schema["enum"] == nil {
				say("the parameter %s has no maxLength", name)
			}
		}
	}
	return append(faults, l.list(o)...)
}

// list holds lists to one way of paging.
func (l *linter) list(o operation) (faults []string) {
	if o.method != "GET" {
		return nil
	}
	path := strings.TrimPrefix(o.path, "/api/v1")
	has := map[string]object{}
	for _, p := range o.parameters("query") {
		has[p["name"].(string)] = l.schema(p["schema"].(object))
	}
	limit, cursor := has["limit"], has["cursor"]
	out, _ := l.follow(o.pointer() + "/responses/200/content/application~1json/schema")
	properties, _ := out["properties"].(object)
	_, next := properties["next_cursor"]
	switch {
	case typeOf(out) == "array" && limit == nil && !slices.Contains(strings.Fields(whole), path):
		faults = append(faults, o.String()+": is a list without a limit; give it pages, or say in this test what bounds it")
	case (cursor != nil) != next:
		faults = append(faults, o.String()+": has only one of the parameter cursor and next_cursor")
	case cursor != nil && limit == nil:
		faults = append(faults, o.String()+": has a cursor and no limit")
	case cursor == nil && limit != nil && !slices.Contains(strings.Fields(firstOnly), path):
		faults = append(faults, o.String()+": has a limit and no cursor; give it pages, or say in this test why the first are enough")
	case limit != nil && (limit["default"] == nil || limit["maximum"] == nil || limit["minimum"] != json.Number("1")):
		faults = append(faults, o.String()+": its limit needs a default, a minimum of 1 and a maximum")
	}
	return faults
}

// named judges the name of a field or parameter, and what is said about it.
func (l *linter) named(where, name string, s object) (faults []string) {
	if !snake.MatchString(name) {
		faults = append(faults, where+"."+name+": names are written as snake_case")
	}
	_, refers := s["$ref"]
	_, described := s["description"]
	items, _ := s["items"].(object)
	if items["$ref"] != nil {
		refers = true // which says what it is
	}
	if !described && !refers && !slices.Contains(l.obvious, name) {
		faults = append(faults, where+"."+name+": say what it means (doc tag)")
	}
	return faults
}

func (l *linter) lint() (faults []string) {
	for _, o := range l.operations() {
		faults = append(faults, l.operation(o)...)
	}
	for _, name := range slices.Sorted(maps.Keys(l.at("#/components/schemas"))) {
		s := l.at("#/components/schemas/" + name)
		properties, _ := s["properties"].(object)
		for _, field := range slices.Sorted(maps.Keys(properties)) {
			faults = append(faults, l.named(name, field, properties[field].(object))...)
		}
	}
	return faults
}

// TestDescription holds the description of the API to rules of our own.
func TestDescription(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	l := &linter{description: readDescription(t, w.document()), ids: map[string]string{}, obvious: strings.Fields(obvious)}
	for _, fault := range l.lint() {
		t.Error(fault)
	}
}

// TestDescription_faults: the rules find what is against them.
func TestDescription_faults(t *testing.T) {
	w := newWorld(t)
	w.setUp()
	document := w.document()
	for what, breaks := range map[string]func(*description){
		"operationId":  func(d *description) { d.at("#/paths/~1api~1v1~1nodes/get")["operationId"] = "get-live" },
		"summary":      func(d *description) { delete(d.at("#/paths/~1api~1v1~1nodes/get"), "summary") },
		"tags":         func(d *description) { delete(d.at("#/paths/~1api~1v1~1nodes/get"), "tags") },
		"who may call": func(d *description) { delete(d.at("#/paths/~1api~1v1~1nodes/get"), "security") },
		"document 404": func(d *description) { delete(d.at("#/paths/~1api~1v1~1nodes~1{id}/get/responses"), "404") },
		"next_cursor":  func(d *description) { delete(d.at("#/components/schemas/NodePage/properties"), "next_cursor") },
		"snake_case": func(d *description) {
			d.at("#/components/schemas/Node/properties")["hostName"] = object{"type": "string", "description": "x"}
		},
		"doc tag": func(d *description) {
			d.at("#/components/schemas/Node/properties")["colour"] = object{"type": "string"}
		},
	} {
		d := readDescription(t, document)
		breaks(d)
		l := &linter{description: d, ids: map[string]string{}, obvious: strings.Fields(obvious)}
		if faults := l.lint(); !slices.ContainsFunc(faults, func(s string) bool { return strings.Contains(s, what) }) {
			t.Errorf("%s is not found: %v", what, faults)
		}
	}
}
