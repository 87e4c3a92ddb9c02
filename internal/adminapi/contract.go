package adminapi

import (
	"net/http"
	"reflect"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/musterhq/muster/internal/account"
	"github.com/musterhq/muster/internal/osquery"
)

// APIVersion is the version of the REST API, which its description has as
// info.version. Raise the second number with what is added. What breaks callers
// (a route, field or value that is gone, a field that is required newly) raises the
// first one; TestCompatible holds the description to that.
const APIVersion = "1.0"

// failures are what the statuses of refusals mean, each a problem document.
func failures() map[int]string {
	return map[int]string{
		http.StatusBadRequest:            "The input cannot be read, or is refused; errors names the fields",
		http.StatusUnauthorized:          "Who calls is not known: log in, or show a token",
		http.StatusForbidden:             "The caller's roles do not give what this needs",
		http.StatusNotFound:              "There is no such thing, or the caller's roles do not show it",
		http.StatusRequestTimeout:        "The body did not arrive in time",
		http.StatusConflict:              "The state of things does not allow it, or changed meanwhile",
		http.StatusPreconditionFailed:    "It is not as If-Match says any more; read it again",
		http.StatusRequestEntityTooLarge: "Larger than what is taken",
		http.StatusUnsupportedMediaType:  "The body must be application/json",
		http.StatusUnprocessableEntity:   "The input does not fit the schema; errors names the fields",
		http.StatusTooManyRequests:       "Too many calls; Retry-After says when to come again",
		http.StatusInternalServerError:   "The server failed; its log says why",
		http.StatusServiceUnavailable:    "Busy, or without a part that this needs; try again later",
	}
}

// failuresOf returns the refusals that a route may answer.
func failuresOf(r Route, op *huma.Operation) []int {
	out := []int{
		http.StatusBadRequest, http.StatusUnprocessableEntity, http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusServiceUnavailable,
	}
	if r.Permission != account.Public {
		out = append(out, http.StatusUnauthorized, http.StatusForbidden)
	}
	if op.RequestBody != nil {
		out = append(out, http.StatusUnauthorized, http.StatusForbidden, http.StatusRequestTimeout, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType)
	}
	if r.editedAt() != "" {
		out = append(out, http.StatusPreconditionFailed)
	}
	if r.Method != http.MethodGet || len(op.Parameters) > 0 || strings.HasSuffix(r.Path, "/current") {
		out = append(out, http.StatusNotFound, http.StatusConflict)
	}
	return out
}

// complete adds to the description what all operations have: tags, who may call,
// and the refusals.
func (a *API) complete() {
	doc := a.huma.OpenAPI()
	schema := doc.Components.Schemas.Schema(reflect.TypeFor[huma.ErrorModel](), true, "Error")
	doc.Components.Responses = map[string]*huma.Response{}
	for status, what := range failures() {
		doc.Components.Responses[strconv.Itoa(status)] = &huma.Response{
			Description: what, Content: map[string]*huma.MediaType{"application/problem+json": {Schema: schema}},
		}
	}
	for _, r := range a.routes {
		op := operationOf(doc, r)
		if op == nil {
			continue
		}
		describeHeaders(r, op)
		op.Tags = []string{tagOf(r.Path)}
		if r.Permission != account.Public {
			op.Security = []map[string][]string{{"bearer": {}}, {"cookie": {}}}
		} else {
			op.Security = []map[string][]string{}
		}
		for code := range op.Responses { // huma's own
			if code == "default" || code >= "4" {
				delete(op.Responses, code)
			}
		}
		forPeople := op.Responses["200"] != nil && op.Responses["200"].Content["text/html"] != nil
		for _, status := range failuresOf(r, op) {
			code := strconv.Itoa(status)
			op.Responses[code] = &huma.Response{Ref: "#/components/responses/" + code}
			if forPeople { // so are its refusals
				op.Responses[code] = &huma.Response{
					Description: failures()[status], Content: map[string]*huma.MediaType{"text/html": {}, "application/problem+json": {Schema: schema}},
				}
			}
		}
	}
}

// describeHeaders tells of the headers that a route knows.
func describeHeaders(r Route, op *huma.Operation) {
	add := func(name, what string, most int) {
		op.Parameters = append(op.Parameters, &huma.Param{
			Name: name, In: "header", Description: what, Schema: &huma.Schema{Type: huma.TypeString, MaxLength: &most},
		})
	}
	if r.doneOnce() {
		add(onceHeader, "Of your choice, as a UUID: sent again within 24 hours with the same input, the call is not done again, and answered as the first time", maxOnceKey)
	}
	if r.editedAt() != "" {
		add(matchHeader, "The ETag of what you edit, as you read it: if it changed since, nothing is done (412)", maxMatch)
	}
	if answer := op.Responses["200"]; r.tagged() && answer != nil {
		answer.Headers = map[string]*huma.Param{tagHeader: {Description: "The state that If-Match of an edit names", Schema: &huma.Schema{Type: huma.TypeString}}}
	}
}

// operationOf returns a route's description; nil without one.
func operationOf(doc *huma.OpenAPI, r Route) *huma.Operation {
	item := doc.Paths[r.Path]
	if item == nil {
		return nil
	}
	return map[string]*huma.Operation{
		http.MethodGet: item.Get, http.MethodPost: item.Post, http.MethodPut: item.Put, http.MethodDelete: item.Delete,
	}[r.Method]
}

// tagOf is the noun that a route is about.
func tagOf(path string) string {
	noun, _, _ := strings.Cut(strings.TrimPrefix(path, base+"/"), "/")
	return noun
}

// answers says which content a GET has that answers no JSON document.
func (a *API) answers(path string, content ...string) {
	op := operationOf(a.huma.OpenAPI(), Route{Method: http.MethodGet, Path: base + path})
	r := op.Responses["200"]
	r.Content = map[string]*huma.MediaType{}
	for _, c := range content {
		r.Content[c] = &huma.MediaType{}
	}
}

// aliases are the types whose JSON is not what their fields say.
func aliases(schemas huma.Registry) {
	schemas.RegisterTypeAlias(reflect.TypeFor[osquery.Row](), reflect.TypeFor[map[string]string]())
}
