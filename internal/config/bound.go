package config

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"time"
)

// bound is what the value of one key may be. That of a duration is in nanoseconds.
type bound struct {
	words       []string
	least, most int64
	orZero      bool   // 0 is for ever, or none, and is taken as well
	also        string // what must hold beside
	example     string // where the default is none
}

// limits of kinds of numbers.
const (
	kib       = 1 << 10
	mib       = 1 << 20
	gib       = 1 << 30
	unlimited = math.MaxInt64
	minute    = int64(time.Minute)
)

// bounds returns what keys may be, of which a single value can be wrong.
func bounds() map[string]bound {
	words := func(words ...string) bound { return bound{words: words} }
	from := func(least, most int64) bound { return bound{least: least, most: most} }
	positive := bound{least: 0, most: unlimited}
	return map[string]bound{
		"client_auth":           words("off", "optional", "required"),
		"client_binding":        {words: []string{"off", "fingerprint", "san"}, also: "needs client_auth: optional or required, if it is not off"},
		"on_identity_clash":     words("allow", "quarantine", "refuse"),
		"require_second_factor": words("off", "approvers", "all"),
		"carve_unrequested":     words("refuse", "accept"),
		"log_level":             words("debug", "info", "warn", "error"),
		"log_format":            words("text", "json"),

		"limit_connections":             from(0, mib),
		"limit_connections_per_address": from(0, mib),
		"limit_small_bytes":             from(16*kib, mib),
		"limit_log_bytes":               from(mib, gib),
		"limit_write_bytes":             from(mib, gib),
		"limit_body_memory":             {least: mib, most: 64 * gib, also: "at least limit_log_bytes and limit_write_bytes"},
		"limit_body_rate":               from(0, mib),
		"limit_enrolling":               from(1, mib),
		"limit_logging":                 from(1, mib),
		"limit_writing":                 from(1, mib),
		"limit_queue":                   from(0, mib),
		"limit_carving":                 from(1, kib),

		"carve_max_bytes":         from(mib, kib*gib),
		"carve_node_bytes":        {least: mib, most: 16 * kib * gib, also: "at least carve_max_bytes"},
		"carve_total_bytes":       {least: mib, most: mib * gib, also: "at least carve_max_bytes"},
		"carve_free_bytes":        from(0, mib*gib),
		"carve_block_bytes":       from(64*kib, 16*mib),
		"carve_sessions":          from(1, 4096),
		"carve_sessions_per_node": from(1, 64),
		"carve_expiry":            from(1, unlimited),
		"carve_retention":         from(1, unlimited), // files of hosts are not kept for ever

		"node_ttl":        {least: int64(minTTL), most: unlimited, orZero: true},
		"offline_after":   from(minute, unlimited),
		"silent_after":    from(minute, unlimited),
		"retention":       positive,
		"live_retention":  positive,
		"alert_retention": positive,
		"drain_timeout":   positive,
		// What a day of a small fleet takes: less would drop what just came.
		"retention_bytes":  {least: 64 * mib, most: unlimited, orZero: true},
		"flush_events":     from(100, 10_000_000),
		"stream_max_bytes": from(64*mib, unlimited),

		"agent_hostname":     {example: "muster.example.com,192.0.2.10"},
		"agent_cert":         {also: "belongs to agent_key", example: "/etc/muster/agents.pem"},
		"agent_key":          {also: "belongs to agent_cert", example: "/etc/muster/agents.key"},
		"admin_cert":         {also: "belongs to admin_key", example: "/etc/muster/people.pem"},
		"admin_key":          {also: "belongs to admin_cert", example: "/etc/muster/people.key"},
		"admin_listen":       {also: "host:port; anything but loopback needs admin_cert"},
		"agent_listen":       {also: "host:port"},
		"trusted_proxies":    {also: "networks or addresses", example: "10.0.0.0/8,192.0.2.7"},
		"client_ca":          {example: "/etc/muster/agents-ca.pem"},
		"client_cert_header": {also: "needs trusted_proxies", example: "Client-Cert"},
		"node_ttl_tags":      {also: "TAG=DURATION, each at least 5m0s", example: "autoscaled=15m"},
		"vault_addr":         {also: "https://, or http:// on loopback", example: "https://vault.example.com:8200"},
		"vault_ca":           {example: "/etc/muster/vault-ca.pem"},
		"vault_namespace":    {example: "security"},
		"retention_queries":  {also: "QUERY=DURATION, * at the end of a name for all that begin so", example: "pack_noisy_*=7d"},
		"audit_witness":      {also: "URLs of the schemes https, http, syslog, syslog+tcp, file", example: "syslog+tcp://logs.example.com:601,file:///mnt/other/audit"},
		"freeze_source":      {also: "files or URLs", example: "https://status.example.com/freeze.json"},
		"secrets_dir":        {example: "/etc/muster/secrets"},
		"sign_on_file":       {example: "/etc/muster/sign-on.yaml"},
		"egress_allow":       {also: "networks or addresses", example: "10.0.0.0/8"},
		"sink_dir":           {example: "/var/log/muster"},
		"public_url":         {also: "http:// or https://, without a query", example: "https://muster.example.com"},
	}
}

// validateBounds checks each value on its own.
func (s *Server) validateBounds(bad func(key, format string, args ...any)) {
	limits := bounds()
	for _, k := range Keys() {
		b, ok := limits[k.Name]
		if !ok {
			continue
		}
		v, err := s.field(k.Name)
		if err != nil {
			continue // Keys and fields are the same
		}
		switch {
		case b.words != nil && !slices.Contains(b.words, v.String()):
			bad(k.Name, "%q is none of %s", v.String(), strings.Join(b.words, ", "))
		case v.Kind() == reflect.Int64 && !b.holds(v.Int()):
			bad(k.Name, "must be %s", b.text(v.Type()))
		}
	}
}

func (b bound) holds(n int64) bool { return n >= b.least && n <= b.most || b.orZero && n == 0 }

// text says what a number may be.
func (b bound) text(t reflect.Type) string {
	show := func(n int64) string {
		if t == reflect.TypeFor[time.Duration]() {
			return time.Duration(n).String()
		}
		return fmt.Sprint(n)
	}
	var text string
	switch {
	case b.most < unlimited:
		text = "between " + show(b.least) + " and " + show(b.most)
	case b.least == 1:
		text = "above 0"
	default:
		text = "at least " + show(b.least)
	}
	if b.orZero {
		text = "0, or " + text
	}
	return text
}

// Explanation is all there is to know about a key.
type Explanation struct {
	Key

	Type    string `json:"type"`
	Bounds  string `json:"bounds,omitempty"`
	Example string `json:"example"`
}

// Explain explains a key. The error names the one that looks most like it.
func Explain(name string) (Explanation, error) {
	s := Default()
	v, err := s.field(name)
	if err != nil {
		return Explanation{}, err
	}
	keys := Keys()
	e := Explanation{Key: keys[slices.IndexFunc(keys, func(k Key) bool { return k.Name == name })]}
	b, bounded := bounds()[name]
	var said []string
	switch v.Addr().Interface().(type) {
	case *[]string:
		e.Type = "list of texts; on the command line and in the environment separated by commas"
	case *time.Duration:
		e.Type = "duration, as 90d, 12h, 30m or 10s"
		if bounded {
			said = append(said, b.text(v.Type()))
		}
	case *int64:
		e.Type = "whole number"
		if bounded {
			said = append(said, b.text(v.Type()))
		}
	default:
		e.Type = "text"
	}
	if b.words != nil {
		said = append(said, "one of "+strings.Join(b.words, ", "))
	}
	if b.also != "" {
		said = append(said, b.also)
	}
	e.Bounds = strings.Join(said, "; ")
	e.Example = name + ": " + e.exampleValue(b)
	return e, nil
}

func (e Explanation) exampleValue(b bound) string {
	value := b.example
	if value == "" {
		value = e.Default
	}
	if strings.HasPrefix(e.Type, "list") {
		return "[" + strings.ReplaceAll(value, ",", ", ") + "]"
	}
	return value
}

// problem is what is wrong with the value of a key.
type problem struct{ key, text string }

func (p *problem) Error() string { return p.key + ": " + p.text }
