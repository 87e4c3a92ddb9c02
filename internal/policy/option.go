package policy

import (
	"cmp"
	_ "embed"
	"slices"
	"strconv"
	"strings"
)

//go:embed data/flags.tsv
var flagsTSV string

// FlagInfo is what the policy knows of one flag of osquery.
type FlagInfo struct {
	Name string `json:"name"`
	Type string `json:"type"` // bool, int32, uint32, uint64, string
	// Default is osquery's; "" if it has none or it depends on the platform.
	Default string `json:"default"`
	// Kind is flag, hidden, shell (for osqueryi), cli (only in the flagfile),
	// alias, or library (of gflags or glog).
	Kind string `json:"kind"`
	// Config reports whether agents take it from a config. Aliases of cli flags
	// are taken too, for agents do not look behind the name; Muster refuses them.
	Config    bool     `json:"config"`
	Platforms []string `json:"platforms"` // none means all
	AliasOf   string   `json:"alias_of,omitempty"`
	// Class says what a dangerous value does: blind, debug, extension, flagfile,
	// identity, leak, load, meaning, normal, redirect, shell, surveillance, trust,
	// watchdog, write.
	Class string `json:"class"`
	Tier  Tier   `json:"tier"` // of the values that have none of their own
	// Values are tiers of single values and of ranges, separated by spaces, the
	// first that fits counts: "0:x 1-9:2 10-600:0 601-:3". x is refused.
	Values  string `json:"values,omitempty"`
	Why     string `json:"why"`
	Instead string `json:"instead,omitempty"`
}

// Flag returns what is known of a flag; false if osquery has none of that name.
func (c checker) flag(name string) (FlagInfo, bool) {
	f, ok := lookupFlag(name)
	if rule, set := c.rules.Options[cmp.Or(f.AliasOf, name)]; ok && set && f.settable() {
		f.Tier, f.Values, f.Why = rule.Tier, refusedValues(f.Values), rule.Reason
	}
	return f, ok
}

// flags returns all flags, sorted by name.
func (c checker) flags() []FlagInfo {
	var all []FlagInfo
	for line := range strings.Lines(flagsTSV) {
		name, _, _ := strings.Cut(line, "\t")
		if f, ok := c.flag(name); ok {
			all = append(all, f)
		}
	}
	return all
}

// lookupFlag finds a flag's line. The file is small and sorted nowhere else, so
// there is no table of it in memory.
func lookupFlag(name string) (FlagInfo, bool) {
	if !plainName(name) { // it cannot be mistaken for another column
		return FlagInfo{}, false
	}
	_, rest, found := strings.Cut(flagsTSV, "\n"+name+"\t")
	if !found {
		return FlagInfo{}, false
	}
	line, _, _ := strings.Cut(rest, "\n")
	f := parseFlag(name, strings.Split(line, "\t"))
	if f.Class == "" { // an alias of a flag that a config may set
		target, _ := lookupFlag(f.AliasOf)
		f.Class, f.Tier, f.Values, f.Why, f.Instead = target.Class, target.Tier, target.Values, target.Why, target.Instead
	}
	return f, true
}

// The columns of flags.tsv after the name.
const (
	flagType = iota
	flagDefault
	flagKind
	flagConfig
	flagPlatforms
	flagAlias
	flagClass
	flagTier
	flagValues
	flagWhy
	flagInstead
)

func parseFlag(name string, column []string) FlagInfo {
	f := FlagInfo{
		Name: name, Type: column[flagType], Default: strings.TrimPrefix(column[flagDefault], "-"), Kind: column[flagKind],
		Config: column[flagConfig] == "yes", Platforms: []string{}, AliasOf: column[flagAlias], Class: column[flagClass],
		Values: column[flagValues], Why: column[flagWhy], Instead: column[flagInstead],
	}
	if column[flagPlatforms] != "" {
		f.Platforms = strings.Split(column[flagPlatforms], ",")
	}
	f.Tier, _ = valueTier(column[flagTier])
	if !f.settable() {
		f.Why, f.Instead = f.onlyFlagfile(), "write it into the flagfile of the hosts"
	}
	return f
}

// valueTier reads a tier of flags.tsv; false for x, which is refused.
func valueTier(s string) (Tier, bool) {
	n, err := strconv.ParseUint(s, 10, 8)
	if err != nil || Tier(n) > Dangerous {
		return Dangerous, false
	}
	return Tier(n), true
}

// reason says what the flag does and what to do instead.
func (f FlagInfo) reason() string {
	if f.Instead == "" {
		return f.Why
	}
	return f.Why + "; " + f.Instead
}

// settable reports whether Muster may send the flag in a config.
func (f FlagInfo) settable() bool {
	return f.Class != "flagfile" && f.Class != "watchdog" || f.Config && f.AliasOf == ""
}

// onlyFlagfile says why a flag is refused in a config (osquery/core/flags.cpp,
// plugins/config/parsers/options.cpp; agents ignore cli flags there since 5.4.0).
func (f FlagInfo) onlyFlagfile() string {
	switch {
	case f.AliasOf != "":
		return "another name of " + f.AliasOf + ", which belongs in the flagfile; agents would obey it all the same, because they do not look behind the name, and a wrong value cuts them off until someone visits the host"
	case f.Class == "watchdog":
		return "the watchdog is set in the flagfile only: agents from 5.4.0 on ignore it in a config, older ones would obey and run without their limits"
	case f.Kind == "library":
		return "it belongs to the library that reads the command line; agents ignore it in a config"
	}
	return "it belongs in the flagfile: agents from 5.4.0 on ignore it in a config, older ones would obey"
}

// tierOf returns the tier of a value in its plain form (true, 10, a text);
// false means refused.
func (f FlagInfo) tierOf(value string) (Tier, bool) {
	for rule := range strings.FieldsSeq(f.Values) {
		i := strings.LastIndexByte(rule, ':')
		if rule[:i] == value || inRange(rule[:i], value) {
			return valueTier(rule[i+1:])
		}
	}
	return f.Tier, true
}

// inRange reports whether a number is in a range such as 10-600 or 601-.
func inRange(limits, value string) bool {
	low, high, isRange := strings.Cut(limits, "-")
	n, err := strconv.ParseUint(value, 10, 64)
	if !isRange || err != nil {
		return false
	}
	from, err := strconv.ParseUint(low, 10, 64)
	if err != nil {
		return false
	}
	to, err := strconv.ParseUint(cmp.Or(high, "18446744073709551615"), 10, 64)
	return err == nil && from <= n && n <= to
}

// refusedValues keeps those rules for values that no tier allows.
func refusedValues(values string) string {
	rules := strings.Fields(values)
	return strings.Join(slices.DeleteFunc(rules, func(r string) bool { return !strings.HasSuffix(r, ":x") }), " ")
}
