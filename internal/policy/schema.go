package policy

import (
	_ "embed"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/osquery"
)

// What the schema does not say of tables, columns and functions, as
// tab-separated values with a header line. Unknown tables and functions are
// not in them: they are Dangerous and refused.
//
//   - risk: the tier and classes of every table (see class).
//   - columns: those that are worse than their table, or why it has its tier.
//   - arguments: columns through which a query tells the table what to do.
//   - functions: all that a text may call. Origin is who has it: sqlite
//     (of the version since, "" for any that agents have), osquery (registered
//     here as a stub, with its number of arguments), aggregate (the same) or
//     forbidden.
var (
	//go:embed data/risk.tsv
	riskData string
	//go:embed data/columns.tsv
	columnData string
	//go:embed data/arguments.tsv
	argumentData string
	//go:embed data/functions.tsv
	functionData string
)

// allPlatforms are those that osquery has tables for, sorted.
func allPlatforms() []string { return []string{"darwin", "linux", "windows"} }

// Classes of risk, by the letter in the data.
func classWord(letter string) string {
	switch strings.TrimSuffix(letter, "?") {
	case "A":
		return "argument: reads what the query names"
	case "C":
		return "content of chosen files"
	case "E":
		return "effect on the host"
	case "H":
		return "heavy"
	case "I":
		return "inventory"
	case "N":
		return "outgoing network"
	case "P":
		return "privacy"
	case "S":
		return "secrets"
	case "V":
		return "volume of events"
	}
	return letter
}

// column is one column of a table, under one of its names.
type column struct {
	osquery.SchemaColumn
	real string    // the column that this is another name of; "" for a real one
	risk Rule      // its own tier; zero if it adds nothing
	arg  *argument // nil unless it tells the table what to do
}

// pushed reports whether osquery hands constraints on it to the table.
func (c *column) pushed() bool { return c.Required || c.Index || c.Additional || c.Optimized }

// name is the column's real name.
func (c *column) name() string {
	if c.real != "" {
		return c.real
	}
	return c.Name
}

// argument is what a column tells its table.
type argument struct {
	kind   string // path, url, registry, search, rule, key, text, effect
	reason string
}

// table is one table of osquery or of an extension.
type table struct {
	name        string
	description string
	platforms   []string
	evented     bool
	userData    bool
	extension   bool
	required    bool // one of its required columns must be constrained
	aliases     []string
	classes     []string
	risk        Rule
	columns     []column
	byName      map[string]int
}

func (t *table) heavy() bool { return slices.Contains(t.classes, "H") }

// single reports whether the table has one row, or so few that they can be
// joined with anything.
func (t *table) single() bool {
	return slices.Contains([]string{
		"system_info", "os_version", "kernel_info", "osquery_info", "time", "uptime", "platform_info", "cpu_info", "load_average",
		"secureboot", "sip_config", "screenlock", "gatekeeper", "alf", "chassis_info", "tpm_info", "wmi_bios_info", "virtual_memory_info",
		"memory_info", "battery", "ibridge_info", "windows_security_center", "security_profile_info", "hvci_status", "deviceguard_status",
		"ec2_instance_metadata", "azure_instance_metadata", "docker_info", "docker_version", "interface_addresses", "interface_details",
	}, t.name)
}

// declaration is the table for SQLite. A column of some platforms is visible,
// so that SELECT * counts it wherever it may exist.
func (t *table) declaration() string {
	var b strings.Builder
	b.WriteString("CREATE TABLE x(")
	for i, c := range t.columns {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(quoteName(c.Name))
		b.WriteByte(' ')
		b.WriteString(strings.ReplaceAll(c.Type, "_", " "))
		if c.Hidden || c.real != "" {
			b.WriteString(" HIDDEN") // SQLite looks for it in the type, so before COLLATE
		}
		if c.Collate != "" {
			b.WriteString(" COLLATE " + c.Collate)
		}
	}
	b.WriteByte(')')
	return b.String()
}

// function is one that SQL may call, or is known and forbidden.
type function struct {
	name      string
	arguments int32 // -1 for any number; of osquery's own only
	origin    string
	since     string // the SQLite that brought it, if agents may be older
	risk      Rule
}

type view struct{ name, text string }

// catalog is all that has a name in SQL. It does not change once made.
type catalog struct {
	tables    []*table
	names     map[string]int // lower case, with aliases
	functions map[string]*function
	views     []view
	viewCosts map[string]int // how many queries a view becomes, by its name
}

// table finds a table by any of its names, in any case.
func (c *catalog) table(name string) *table {
	if i, ok := c.names[strings.ToLower(name)]; ok {
		return c.tables[i]
	}
	return nil
}

func newCatalog() (*catalog, error) {
	schema, err := osquery.LoadSchema()
	if err != nil {
		return nil, err
	}
	c := &catalog{names: map[string]int{}, functions: map[string]*function{}}
	for _, s := range schema {
		c.add(newTable(s))
	}
	steps := []struct {
		data   string
		fields int
		add    func(f []string) error
	}{
		{riskData, 6, c.addRisk},
		{columnData, 4, c.addColumnRisk},
		{argumentData, 4, c.addArgument},
		{functionData, 6, c.addFunction},
	}
	for _, s := range steps {
		if err := eachLine(s.data, s.fields, s.add); err != nil {
			return nil, err
		}
	}
	for _, t := range c.tables {
		if t.risk.Reason == "" {
			return nil, fmt.Errorf("table %s has no risk", t.name)
		}
	}
	return c, nil
}

// add makes a table known under all its names.
func (c *catalog) add(t *table) {
	c.tables = append(c.tables, t)
	for _, name := range append([]string{t.name}, t.aliases...) {
		c.names[name] = len(c.tables) - 1
	}
}

func newTable(s osquery.SchemaTable) *table {
	t := &table{
		name: s.Name, description: s.Description, platforms: slices.Sorted(slices.Values(s.Platforms)),
		evented: s.Evented, userData: s.UserData, aliases: s.Aliases, byName: map[string]int{},
	}
	for _, sc := range s.Columns {
		t.required = t.required || sc.Required
		c := column{SchemaColumn: sc}
		if sc.Name == "pid_with_namespace" {
			c.risk = Rule{Tier: Sensitive, Reason: "has the agent enter the namespace of a container"}
		}
		t.addColumn(c)
	}
	for _, sc := range s.Columns {
		for _, alias := range sc.Aliases {
			other := sc
			other.Name = alias
			t.addColumn(column{SchemaColumn: other, real: sc.Name})
		}
	}
	return t
}

func (t *table) addColumn(c column) {
	t.byName[strings.ToLower(c.Name)] = len(t.columns)
	t.columns = append(t.columns, c)
}

// column finds a column by any of its names, in any case.
func (t *table) column(name string) *column {
	if i, ok := t.byName[strings.ToLower(name)]; ok {
		return &t.columns[i]
	}
	return nil
}

// eachLine calls add with the fields of every line but the header.
func eachLine(data string, fields int, add func([]string) error) error {
	first := true
	for line := range strings.Lines(data) {
		if first {
			first = false
			continue
		}
		f := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(f) != fields {
			return fmt.Errorf("embedded data: %q has %d fields instead of %d", line, len(f), fields)
		}
		if err := add(f); err != nil {
			return fmt.Errorf("embedded data: %q: %w", line, err)
		}
	}
	return nil
}

func parseTier(s string) (Tier, error) {
	n, err := strconv.ParseUint(s, 10, 8)
	if err != nil || n > uint64(Dangerous) {
		return Dangerous, fmt.Errorf("%q is no tier", s)
	}
	return Tier(n), nil
}

// addRisk takes table, platform, tier, classes, reason, aliases.
func (c *catalog) addRisk(f []string) error {
	t := c.table(f[0])
	if t == nil {
		return fmt.Errorf("no such table: %s", f[0])
	}
	tier, err := parseTier(f[2])
	if err != nil {
		return err
	}
	t.risk = Rule{Tier: tier, Reason: f[4]}
	for letter := range strings.SplitSeq(f[3], ",") {
		if letter != "" {
			t.classes = append(t.classes, strings.TrimSuffix(letter, "?"))
		}
	}
	return nil
}

func (c *catalog) find(tableName, columnName string) (*table, *column, error) {
	t := c.table(tableName)
	if t == nil {
		return nil, nil, fmt.Errorf("no such table: %s", tableName)
	}
	col := t.column(columnName)
	if col == nil || col.real != "" {
		return nil, nil, fmt.Errorf("no such column: %s.%s", tableName, columnName)
	}
	return t, col, nil
}

// addColumnRisk takes table, column, tier, reason.
func (c *catalog) addColumnRisk(f []string) error {
	t, col, err := c.find(f[0], f[1])
	if err != nil {
		return err
	}
	tier, err := parseTier(f[2])
	if err != nil {
		return err
	}
	t.eachName(col, func(c *column) { c.risk = Rule{Tier: tier, Reason: f[3]} })
	return nil
}

// addArgument takes table, column, kind, reason.
func (c *catalog) addArgument(f []string) error {
	t, col, err := c.find(f[0], f[1])
	if err != nil {
		return err
	}
	t.eachName(col, func(c *column) { c.arg = &argument{kind: f[2], reason: f[3]} })
	return nil
}

// eachName calls set with a real column and all its other names.
func (t *table) eachName(col *column, set func(*column)) {
	for i := range t.columns {
		if t.columns[i].name() == col.Name {
			set(&t.columns[i])
		}
	}
}

// addFunction takes name, arguments, origin, tier, since, reason.
func (c *catalog) addFunction(f []string) error {
	tier, err := parseTier(f[3])
	if err != nil {
		return err
	}
	arguments := int64(-1)
	if f[1] != "*" {
		if arguments, err = strconv.ParseInt(f[1], 10, 8); err != nil {
			return fmt.Errorf("number of arguments: %w", err)
		}
	}
	c.functions[f[0]] = &function{
		name: f[0], arguments: int32(arguments), origin: f[2], since: f[4], risk: Rule{Tier: tier, Reason: f[5]},
	}
	return nil
}

// with returns a catalog that also has an installation's own tables and views.
func (c *catalog) with(extensions map[string][]string, views map[string]string) (*catalog, error) {
	result := &catalog{
		tables: slices.Clone(c.tables), names: maps.Clone(c.names), functions: c.functions,
		views: slices.Clone(c.views), viewCosts: map[string]int{},
	}
	for _, name := range slices.Sorted(maps.Keys(extensions)) {
		t, err := newExtension(name, extensions[name])
		if err != nil {
			return nil, err
		}
		if result.table(name) != nil {
			return nil, errs.Field("extensions."+name, "is a table of osquery; give the extension's table another name")
		}
		result.add(t)
	}
	for _, name := range slices.Sorted(maps.Keys(views)) {
		field := "views." + name
		switch {
		case !isName(name):
			return nil, errs.Field(field, "is no name for a view; use letters, digits and _")
		case result.table(name) != nil:
			return nil, errs.Field(field, "is the name of a table; choose another")
		case len(views[name]) > maxTextBytes:
			return nil, errs.Field(field, "is longer than %d bytes; shorten it", maxTextBytes)
		}
		if err := osquery.CheckSelect(views[name]); err != nil {
			return nil, errs.Field(field, "%v", err)
		}
		result.views = append(result.views, view{name: strings.ToLower(name), text: strings.TrimRight(views[name], "; \t\r\n")})
		result.viewCosts[strings.ToLower(name)] = 1
	}
	return result, result.priceViews()
}

// priceViews works out how far views that use views expand.
func (c *catalog) priceViews() error {
	const rounds = 16 // as in expansion
	for range rounds {
		for _, v := range c.views {
			tokens := lex(v.text)
			cost := expansion(tokens, ctes(tokens), c.viewCosts, maxExpansion)
			if cost >= maxExpansion {
				return errs.Field("views."+v.name, "becomes more than %d queries when its names are replaced; simplify it", maxExpansion)
			}
			c.viewCosts[v.name] = cost
		}
	}
	return nil
}

// newExtension is a table that only an installation knows: Dangerous until its
// rules say otherwise.
func newExtension(name string, columns []string) (*table, error) {
	field := "extensions." + name
	if !isName(name) {
		return nil, errs.Field(field, "is no name for a table; use letters, digits and _")
	}
	if len(columns) == 0 || len(columns) > maxColumns {
		return nil, errs.Field(field, "has %d columns; give 1 to %d", len(columns), maxColumns)
	}
	t := &table{
		name: strings.ToLower(name), platforms: allPlatforms(), extension: true, byName: map[string]int{},
		risk: Rule{Tier: Dangerous, Reason: "table of an extension; give it a tier in a table policy"},
	}
	for _, c := range columns {
		if !isName(c) || t.column(c) != nil {
			return nil, errs.Field(field, "has the column %q twice, or it is no name; use letters, digits and _", c)
		}
		t.addColumn(column{SchemaColumn: osquery.SchemaColumn{Name: c, Type: "TEXT"}})
	}
	return t, nil
}

// isName reports whether s is an identifier that needs no quotes. SQLite keeps
// names that begin with sqlite_ or pragma_ for itself.
func isName(s string) bool {
	const longest = 64 // osquery's longest table name has 36
	lower := strings.ToLower(s)
	if s == "" || len(s) > longest || strings.HasPrefix(lower, "sqlite_") || strings.HasPrefix(lower, "pragma_") || s[0] >= '0' && s[0] <= '9' {
		return false
	}
	for i := range len(s) {
		if !isWordByte(s[i]) || s[i] >= 0x80 || s[i] == '$' {
			return false
		}
	}
	return true
}
