package hostfiles

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/resource"
)

// Limits of a config in osquery up to 5.23.1, over which it drops its schedule.
const (
	maxConfig = 1 << 20
	maxDepth  = 32
)

// checkConfig refuses what would not be the server's config on the host, and
// options that undo what the flagfile says, as a config wins over it.
func (o Options) checkConfig() error {
	const field = "config"
	if len(o.Config) > maxConfig {
		return errs.New(errs.TooLarge, "the config has %d bytes; osquery takes %d and drops its schedule over that", len(o.Config), maxConfig)
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, o.Config); err != nil {
		return errs.Field(field, "is no JSON: %v", err)
	}
	if !bytes.Equal(compact.Bytes(), o.Config) || o.Config[0] != '{' {
		return errs.Field(field, "is not one compact JSON object, so its hash would differ from the server's; take it as the server sends it")
	}
	if err := checkKeys(o.Config); err != nil {
		return errs.Field(field, "%v", err)
	}
	if hash := resource.ConfigHash(o.Config); hash != o.ConfigHash {
		return errs.Field("config_hash", "is not that of the config, which is %s; fetch both again", hash)
	}
	d, err := parseConfig(o.Config)
	if err != nil {
		return err
	}
	for at, options := range d.options {
		if err := checkOptions(at, options, o.Live); err != nil {
			return err
		}
	}
	return nil
}

// checkKeys refuses an object that has a key twice: Go takes the last one and
// osquery the first, so that what was checked would not be what runs.
func checkKeys(b []byte) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	return walkValue(d, 0)
}

func walkValue(d *json.Decoder, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("is deeper than %d levels, which osquery refuses", maxDepth)
	}
	t, err := d.Token()
	if err != nil {
		return err
	}
	open, ok := t.(json.Delim)
	if !ok {
		return nil
	}
	seen := map[string]bool{}
	for d.More() {
		if open == '{' {
			key, err := d.Token()
			if err != nil {
				return err
			}
			name, _ := key.(string)
			if seen[name] {
				return fmt.Errorf("has the key %q twice", name)
			}
			seen[name] = true
		}
		if err := walkValue(d, depth+1); err != nil {
			return err
		}
	}
	_, err = d.Token()
	return err
}

// document is what is looked at in a config.
type document struct {
	options map[string]map[string]json.RawMessage // by where they are: a pack may have its own
	queries map[string]string
}

func parseConfig(b []byte) (document, error) {
	d := document{options: map[string]map[string]json.RawMessage{}, queries: map[string]string{}}
	top, err := object("config", b)
	if err != nil {
		return d, err
	}
	if err := d.add("", top); err != nil {
		return d, err
	}
	packs, err := object("packs", top["packs"])
	if err != nil {
		return d, err
	}
	for _, name := range slices.Sorted(maps.Keys(packs)) {
		at := "packs." + name
		pack, err := object(at, packs[name]) // a text would be a path on the host
		if err != nil {
			return d, err
		}
		if err := d.add(at+".", pack); err != nil {
			return d, err
		}
	}
	return d, nil
}

// add takes the options and queries of a config or a pack.
func (d *document) add(at string, part map[string]json.RawMessage) error {
	options, err := object(at+"options", part["options"])
	if err != nil {
		return err
	}
	d.options[at+"options"] = options
	for _, section := range []string{"schedule", "queries"} {
		queries, err := object(at+section, part[section])
		if err != nil {
			return err
		}
		for name, raw := range queries {
			query, err := object(at+section+"."+name, raw)
			if err != nil {
				return err
			}
			var text string
			if json.Unmarshal(query["query"], &text) == nil {
				d.queries[at+section+"."+name] = text
			}
		}
	}
	return nil
}

// object reads an object, by its exact keys; none is an empty one.
func object(field string, b json.RawMessage) (map[string]json.RawMessage, error) {
	m := map[string]json.RawMessage{}
	if len(b) == 0 {
		return m, nil
	}
	if err := json.Unmarshal(b, &m); err != nil || m == nil {
		return nil, errs.Field(field, "is no object")
	}
	return m, nil
}

// checkOptions refuses options that undo the flagfile.
func checkOptions(at string, options map[string]json.RawMessage, live bool) error {
	for _, name := range slices.Sorted(maps.Keys(options)) {
		var value any
		if err := json.Unmarshal(options[name], &value); err != nil {
			return err
		}
		if err := checkOption(name, fmt.Sprint(value), live); err != nil {
			return errs.Field(at+"."+name, "%v", err)
		}
	}
	return nil
}

func checkOption(name, value string, live bool) error {
	switch name {
	case "disable_distributed":
		if !live && value != "true" {
			return errors.New("switches live queries on, and a config wins over the flagfile; set it to true in a Profile for these nodes, or let them answer live queries")
		}
	case "allow_unsafe":
		if value != "false" {
			return errors.New("lets the agent load what others than root can change; remove it")
		}
	case "config_tls_refresh", "config_tls_accelerated_refresh", "db_path":
		return errors.New("changes a flag that belongs to the flagfile, by its other name; remove it")
	case "logger_tls_endpoint", "distributed_tls_read_endpoint", "distributed_tls_write_endpoint":
		if !strings.HasPrefix(value, "/") { // osquery glues it to the server's name (osquery/remote/utility.h)
			return errors.New("does not begin with /, and would lead the agent to another server; correct it")
		}
	}
	return nil
}

// Warnings tells what is likely not as meant: limits that a host cannot have,
// and queries that seem to read disabled tables, which fail on the host.
func Warnings(o Options) ([]string, error) {
	o = o.withDefaults()
	var list []string
	if w := o.Limits.cpuWarning(); w != "" {
		list = append(list, w)
	}
	if o.Mode != FromFiles {
		return list, nil
	}
	d, err := parseConfig(o.Config)
	if err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(d.queries)) {
		words := strings.FieldsFunc(strings.ToLower(d.queries[name]), func(r rune) bool { return !only(string(r), "_") })
		for _, table := range o.DisableTables {
			if slices.Contains(words, table) {
				list = append(list, fmt.Sprintf("%q seems to read %s, which disable_tables has", name, table))
			}
		}
	}
	return list, nil
}
