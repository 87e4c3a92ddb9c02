package adminapi

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"net/http"

	"github.com/musterhq/muster/internal/account"
	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/ident"
	"github.com/musterhq/muster/internal/node"
	"github.com/musterhq/muster/internal/redact"
)

func (a *API) registerRedactions() {
	register(a, account.EventRead, http.MethodGet, "/redactions", "How many secrets were taken out of what agents sent, by kind and query", a.redactions)
	register(a, account.ResourceRead, http.MethodPost, "/redactions/test", "What would be taken out of rows or a text", a.testRedaction)
}

func (a *API) redactions(context.Context, *struct{}) (*body[redact.Summary], error) {
	return &body[redact.Summary]{a.Redactions.Summary()}, nil
}

// RedactionTest is what POST /redactions/test looks at: rows or a text.
type RedactionTest struct {
	Rows  []json.RawMessage `json:"rows,omitempty" maxItems:"1000" doc:"Objects of texts"`
	Text  string            `json:"text,omitempty" doc:"As a status line's message"`
	Query string            `json:"query,omitempty" maxLength:"512" doc:"Scheduled query that they are of, as pack_base_processes"`
	Table string            `json:"table,omitempty" maxLength:"128" doc:"Table that they are of"`
}

// RedactionResult is what would be kept, and what was found.
type RedactionResult struct {
	Rows     []json.RawMessage  `json:"rows"`
	Text     string             `json:"text"`
	Findings []RedactionFinding `json:"findings"`
}

// RedactionFinding is a secret without itself.
type RedactionFinding struct {
	Row    int    `json:"row" doc:"Index; -1 for the text"`
	Column string `json:"column,omitempty"`
	Kind   string `json:"kind"`
	ID     string `json:"id,omitempty" doc:"Of this preview alone: real ids are of a key that nobody can try guesses with"`
}

func (a *API) testRedaction(_ context.Context, in *body[RedactionTest]) (*body[RedactionResult], error) {
	if len(in.Body.Rows) == 0 && in.Body.Text == "" {
		return nil, errs.Field("rows", "and text are missing; give one")
	}
	key := node.NewKeyer([]byte(ident.Secret()))
	r := a.Redactor.Preview(func(secret string) [sha256.Size]byte { return key.Hash(node.PurposeRedaction, secret) })
	out := RedactionResult{Rows: []json.RawMessage{}, Findings: []RedactionFinding{}}
	note := func(row int, found []redact.Finding) {
		for _, f := range found {
			out.Findings = append(out.Findings, RedactionFinding{Row: row, Column: f.Column, Kind: f.Kind, ID: f.ID})
		}
	}
	for i, row := range in.Body.Rows {
		var columns map[string]any
		if json.Unmarshal(row, &columns) != nil || columns == nil {
			return nil, errs.Field("rows", "%d is no JSON object", i)
		}
		clean, found := r.Explain(redact.Source{Query: in.Body.Query, Table: in.Body.Table}, row)
		if !json.Valid(clean) { // it holds values that are no texts
			return nil, errs.Field("rows", "%d has a value that is no text", i)
		}
		out.Rows = append(out.Rows, clean)
		note(i, found)
	}
	var found []redact.Finding
	out.Text, found = r.ExplainText(redact.Source{Query: in.Body.Query}, "", in.Body.Text)
	note(-1, found)
	return &body[RedactionResult]{out}, nil
}
