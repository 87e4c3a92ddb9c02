package alert

import (
	"slices"
	"strings"

	"github.com/musterhq/muster/internal/errs"
)

// Severity is how bad an alert is.
type Severity string

// The severities, the least first.
const (
	Info     Severity = "info"
	Low      Severity = "low"
	Medium   Severity = "medium"
	High     Severity = "high"
	Critical Severity = "critical"
)

// Severities returns all, the least first.
func Severities() []Severity { return []Severity{Info, Low, Medium, High, Critical} }

// Rank is the place among Severities; that of Medium for what is none.
func (s Severity) Rank() int {
	if i := slices.Index(Severities(), s); i >= 0 {
		return i
	}
	return slices.Index(Severities(), Medium)
}

// ParseSeverity reads a severity; what is none is an error about the field.
func ParseSeverity(field, text string) (Severity, error) {
	if !slices.Contains(Severities(), Severity(text)) {
		words := make([]string, 0, len(Severities()))
		for _, s := range Severities() {
			words = append(words, string(s))
		}
		return "", errs.Field(field, "%q is no severity; use %s", Line(text, maxLabel), strings.Join(words, ", "))
	}
	return Severity(text), nil
}

// severityOf is ParseSeverity for what must not fail.
func severityOf(text string) Severity {
	s, err := ParseSeverity("", text)
	if err != nil {
		return Medium
	}
	return s
}
