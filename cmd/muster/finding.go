package main

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/musterhq/muster/internal/adminapi"
	"github.com/musterhq/muster/internal/policy"
)

// findingLines shows where in a text the server found what it refused: the
// line, and a mark under the place. Nothing if the refusal is not about the
// text.
func findingLines(ctx context.Context, client *adminapi.Client, sql string, refusal error) []string {
	switch adminapi.Status(refusal) {
	case http.StatusForbidden, http.StatusUnprocessableEntity, http.StatusBadRequest:
	default:
		return nil
	}
	var v adminapi.PolicyVerdict
	in := adminapi.PolicyInput{SQL: sql, Use: string(policy.Live)}
	if err := client.Call(ctx, http.MethodPost, "/policy/check", nil, in, &v); err != nil {
		return nil
	}
	var lines []string
	for _, f := range v.Findings {
		if f.Severity == policy.Refused {
			lines = append(lines, pointAt(sql, f)...)
		}
	}
	return lines
}

// pointAt shows a finding under the line of the text that it is about.
func pointAt(sql string, f policy.Finding) []string {
	message := fmt.Sprintf("%s [%s]", printable(f.Message), f.Code)
	all := strings.Split(sql, "\n")
	if f.Line < 1 || f.Line > len(all) {
		return []string{"    " + message}
	}
	line := strings.TrimRight(all[f.Line-1], "\r")
	before := line
	if n := f.Column - 1; n >= 0 && n < utf8.RuneCountInString(line) {
		before = string([]rune(line)[:n])
	}
	place := strings.Repeat(" ", utf8.RuneCountInString(untabbed(before)))
	return []string{"    " + untabbed(line), "    " + place + "^ " + message}
}

// untabbed is printable with tabs as spaces, so that marks below stay in place.
func untabbed(s string) string { return printable(strings.ReplaceAll(s, "\t", "    ")) }
