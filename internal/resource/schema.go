package resource

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
)

// SchemaID names the JSON Schema of documents.
const SchemaID = "https://github.com/musterhq/muster/schema/muster-v1.json"

// Schema returns the JSON Schema (2020-12) of one YAML document, for editors.
// It is made of the specs themselves: yaml names, and the tags doc and enum.
// What Parse takes fits; not everything that fits passes Check.
func Schema() ([]byte, error) {
	g := &schemaGenerator{defs: map[string]any{}}
	documents := []any{}
	for _, k := range Kinds() {
		documents = append(documents, g.document(k))
	}
	return json.MarshalIndent(map[string]any{
		"$schema": "https://json-schema.org/draft/2020-12/schema",
		"$id":     SchemaID,
		"title":   "A resource of Muster",
		"type":    "object",
		"oneOf":   documents,
		"$defs":   g.defs,
	}, "", "  ")
}

// schemaGenerator gathers the definitions of structs by their Go names.
type schemaGenerator struct{ defs map[string]any }

func (g *schemaGenerator) document(k Kind) map[string]any {
	return map[string]any{
		"title":       k.Name,
		"description": k.Doc,
		"type":        "object",
		"properties": map[string]any{
			"apiVersion":  map[string]any{"const": APIVersion},
			"kind":        map[string]any{"const": k.Name},
			"name":        map[string]any{"type": "string", "pattern": namePattern.String(), "description": "Its name, which is its own among those of its kind"},
			"description": map[string]any{"type": "string", "description": "What it is for, for people"},
			"spec":        g.value(reflect.TypeOf(k.New())),
		},
		"required":             []string{"apiVersion", "kind", "name", "spec"},
		"additionalProperties": false,
	}
}

// value returns the schema of a Go type.
func (g *schemaGenerator) value(t reflect.Type) map[string]any {
	switch t {
	case reflect.TypeFor[Moment]():
		return map[string]any{"type": "string", "format": "date-time"}
	case reflect.TypeFor[Duration]():
		return map[string]any{"type": "string", "pattern": `^([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+$|^0$`}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return g.value(t.Elem())
	case reflect.Struct:
		return g.reference(t)
	case reflect.Slice:
		return map[string]any{"type": "array", "items": g.value(t.Elem())}
	case reflect.Map:
		return map[string]any{"type": "object", "additionalProperties": g.value(t.Elem())}
	case reflect.String:
		return map[string]any{"type": "string"}
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	case reflect.Int, reflect.Int32, reflect.Int64, reflect.Uint, reflect.Uint32, reflect.Uint64:
		return map[string]any{"type": "integer"}
	case reflect.Float64:
		return map[string]any{"type": "number"}
	default: // any
		return map[string]any{}
	}
}

// reference defines a struct once.
func (g *schemaGenerator) reference(t reflect.Type) map[string]any {
	if g.defs[t.Name()] == nil {
		g.defs[t.Name()] = map[string]any{} // before its fields, which may hold it again
		properties, required := map[string]any{}, []string{}
		for _, f := range specFields(t) {
			schema := g.value(f.Type)
			if f.doc != "" {
				schema["description"] = f.doc
			}
			if f.enum != nil {
				schema["enum"] = f.enum
			}
			properties[f.name] = schema
			if f.required {
				required = append(required, f.name)
			}
		}
		def := map[string]any{"type": "object", "properties": properties, "additionalProperties": false}
		if len(required) > 0 {
			def["required"] = required
		}
		g.defs[t.Name()] = def
	}
	return map[string]any{"$ref": "#/$defs/" + t.Name()}
}

// specField is a key of a spec.
type specField struct {
	reflect.StructField

	name     string
	doc      string
	enum     []string
	required bool
}

// specFields returns the keys of a struct, those of inlined ones included.
func specFields(t reflect.Type) []specField {
	var fields []specField
	for f := range slices.Values(reflect.VisibleFields(t)) {
		name, options, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		if name == "" || name == "-" || !f.IsExported() {
			continue // an inlined struct, whose fields are visible themselves
		}
		s := specField{StructField: f, name: name, doc: f.Tag.Get("doc")}
		if s.doc == "" {
			s.doc = configDocs()[ownerOf(t, f)+"."+name]
		}
		if enum := f.Tag.Get("enum"); enum != "" {
			s.enum = strings.Split(enum, ",")
		}
		s.required = !strings.Contains(options, "omitempty") && f.Type.Kind() != reflect.Pointer
		fields = append(fields, s)
	}
	return fields
}

// ownerOf returns the name of the struct that declares a visible field.
func ownerOf(t reflect.Type, f reflect.StructField) string {
	for _, i := range f.Index[:len(f.Index)-1] {
		t = t.Field(i).Type
	}
	return t.Name()
}

// configDocs describes the keys that are osquery's own, whose structs are those
// of package policy.
func configDocs() map[string]string {
	return map[string]string{
		"Config.options":                 "osquery's flags that agents take from a config, by name",
		"Config.decorators":              "SELECTs whose first row is added to every log line",
		"Config.file_paths":              "Patterns of files that are watched, by category: % is one level, %% at the end all below",
		"Config.file_paths_query":        "SELECTs that yield such patterns in the column path, by category",
		"Config.exclude_paths":           "Patterns that are not watched, by a category of file_paths",
		"Config.file_accesses":           "Categories whose files are also watched for being read (Linux)",
		"Config.yara":                    "YARA rules, and what they scan",
		"Config.views":                   "SELECTs that agents have as tables, by name",
		"Config.auto_table_construction": "Tables made of SQLite files on the host, by name",
		"Config.events":                  "Event tables that are turned on or off from the next start of the agent on",
		"Config.prometheus_targets":      "What the table prometheus_metrics fetches",
		"Decorators.load":                "Run when the config is applied",
		"Decorators.always":              "Run before every scheduled query",
		"Decorators.interval":            "Run every so many seconds; the keys are multiples of 60",
		"Yara.signatures":                "Files with rules on the host, by group",
		"Yara.file_paths":                "Groups that scan what changes, by a category of file_paths",
		"Yara.signature_urls":            "Expressions of URLs from which queries may load rules",
		"AutoTable.path":                 "SQLite files, with % as in file_paths",
		"AutoTable.query":                "The SELECT that runs in each",
		"AutoTable.columns":              "Its columns; path is there by itself",
		"AutoTable.platform":             "Platforms that have the table, as darwin; all if it is left out",
		"Events.enable_subscribers":      "Names of event tables",
		"Events.disable_subscribers":     "Names of event tables; these win",
		"PrometheusTargets.timeout":      "Seconds",
		"PrometheusTargets.urls":         "URLs that the agent fetches",
	}
}
