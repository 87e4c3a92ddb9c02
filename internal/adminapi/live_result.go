package adminapi

import (
	"context"
	"net/http"
	"time"

	"github.com/musterhq/muster/internal/account"
	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/event"
	"github.com/musterhq/muster/internal/live"
	"github.com/musterhq/muster/internal/policy"
	"github.com/musterhq/muster/internal/result"
)

// ResultStore has the rows of live queries, and what those cost.
type ResultStore interface {
	result.Store
	// LiveCosts returns what the newest live queries with exactly a text cost.
	LiveCosts(ctx context.Context, sql string) (live.Costs, error)
}

func (a *API) registerLiveResults() {
	registerScoped(a, account.LiveRead, http.MethodGet, "/live/{id}/results", "Rows of a live query, filtered and sorted", a.liveResults)
	registerScoped(a, account.LiveRead, http.MethodGet, "/live/{id}/groups", "Count a live query's rows by the values of a column", a.liveGroups)
	registerScoped(a, account.LiveRead, http.MethodGet, "/live/{id}/compare", "Rows that a live query has and a former one had not, and the other way round", a.compareLive)
	registerScoped(a, account.LiveRead, http.MethodGet, "/live/{id}/export", "All rows or nodes of a live query as a file", a.exportLive)
	a.answers("/live/{id}/export", "text/csv", "application/json", "application/x-ndjson")
}

// Bounds of looking at all rows of a query: a million take seconds of a core.
const (
	resultsAtOnce = 2
	resultsTime   = 30 * time.Second
	// exportsAtOnce and exportTime are wider: those who download are slow, and the
	// server waits for them.
	exportsAtOnce = 4
	exportTime    = 30 * time.Minute
)

// results reads the rows of live queries, a few at a time.
type results struct {
	*result.Reader

	reads, exports chan struct{}
}

func newResults(s result.Store) results {
	return results{result.NewReader(s), make(chan struct{}, resultsAtOnce), make(chan struct{}, exportsAtOnce)}
}

// errSlow is why looking at rows was given up.
func errSlow(after time.Duration) error {
	return errs.New(errs.Busy, "the rows could not be read within %v; try again, or export them", after)
}

// read runs f when it is its turn, and gives up after resultsTime.
func (r results) read(ctx context.Context, f func(ctx context.Context) error) error {
	limited, cancel := context.WithTimeout(ctx, resultsTime)
	defer cancel()
	select {
	case r.reads <- struct{}{}:
		defer func() { <-r.reads }()
	case <-limited.Done():
		return errSlow(resultsTime)
	}
	err := f(limited)
	if err != nil && limited.Err() != nil && ctx.Err() == nil {
		return errSlow(resultsTime)
	}
	return err
}

// declared returns the columns that a text yields; none if the policy of today
// does not understand it.
func (a *API) declared(sql string) ([]policy.ResultColumn, error) {
	e, err := a.rules()
	if err != nil {
		return nil, err
	}
	defer e.Close() //nolint:errcheck // it holds memory only
	return e.Result(sql), nil
}

// WhereInput chooses rows of a live query.
type WhereInput struct {
	LiveRef
	Where string `query:"where" doc:"Conditions on columns, as: port < 1024 and address != '127.0.0.1'; also on node_id, host_identifier and hostname" maxLength:"4096"`
}

// asked returns the query with the conditions and its columns.
func (a *API) asked(ctx context.Context, in WhereInput) (q live.Query, where []event.Condition, declared []policy.ResultColumn, err error) {
	if where, err = event.ParseWhere(in.Where); err != nil {
		return q, nil, nil, err
	}
	if q, err = a.query(ctx, in.ID); err != nil {
		return q, nil, nil, err
	}
	declared, err = a.declared(q.SQL)
	return q, where, declared, err
}

type resultsInput struct {
	WhereInput
	Sort   string `query:"sort" doc:"A column, or node_id, host_identifier or hostname; without it, rows come by node" maxLength:"1024"`
	Desc   bool   `query:"desc" doc:"The highest first"`
	Limit  int    `query:"limit" minimum:"1" maximum:"1000" default:"100"`
	Cursor string `query:"cursor" maxLength:"8192"`
}

func (a *API) liveResults(ctx context.Context, in *resultsInput) (*body[LiveResults], error) {
	q, where, declared, err := a.asked(ctx, in.WhereInput)
	if err != nil {
		return nil, err
	}
	out := LiveResults{Total: q.Rows}
	err = a.results.read(ctx, func(ctx context.Context) error {
		page, err := a.reader(ctx, q).Page(ctx, q.ID, result.Ask{
			Where: where, Sort: in.Sort, Desc: in.Desc, Limit: in.Limit, Cursor: in.Cursor, Declared: declared, Total: q.Rows,
		})
		out.Matched, out.NextCursor, out.Rows, out.Columns = page.Matched, page.Next, rowDocuments(page.Rows), columnDocuments(page.Columns)
		return err
	})
	if a.readers(ctx, q) != nil && in.Where == "" {
		out.Total = out.Matched // of the nodes that the caller may read
	}
	out.Total = max(out.Total, out.Matched) // rows came meanwhile
	return &body[LiveResults]{out}, err
}

func columnDocuments(columns []result.Column) []LiveColumn {
	list := make([]LiveColumn, 0, len(columns))
	for _, c := range columns {
		list = append(list, LiveColumn{c.Name, string(c.Type)})
	}
	return list
}

func rowDocuments(rows []result.Row) []LiveRow {
	list := make([]LiveRow, 0, len(rows))
	for _, r := range rows {
		list = append(list, rowDocument(r))
	}
	return list
}

func rowDocument(r result.Row) LiveRow {
	return LiveRow{NodeID: r.ID, HostIdentifier: r.HostIdentifier, Hostname: r.Hostname, Columns: r.Columns}
}

type groupsInput struct {
	WhereInput
	By    string `query:"by" doc:"A column, or node_id, host_identifier or hostname" required:"true" minLength:"1" maxLength:"1024"`
	Limit int    `query:"limit" minimum:"1" maximum:"1000" default:"100"`
}

func (a *API) liveGroups(ctx context.Context, in *groupsInput) (*body[LiveGroups], error) {
	q, where, declared, err := a.asked(ctx, in.WhereInput)
	if err != nil {
		return nil, err
	}
	out := LiveGroups{Groups: []LiveGroup{}}
	err = a.results.read(ctx, func(ctx context.Context) error {
		g, err := a.reader(ctx, q).Groups(ctx, q.ID, in.By, where, in.Limit, declared)
		for _, g := range g.Groups {
			out.Groups = append(out.Groups, LiveGroup(g))
		}
		out.Distinct, out.More, out.OtherRows = g.Distinct, g.More, g.Other
		return err
	})
	return &body[LiveGroups]{out}, err
}

// stricter is the one of two queries whose rows take more to read.
func stricter(a, b live.Query) live.Query {
	if b.Tier > a.Tier {
		return b
	}
	return a
}

type compareInput struct {
	LiveRef
	With  string `query:"with" doc:"Id of the former live query" required:"true" minLength:"1" maxLength:"64"`
	Limit int    `query:"limit" doc:"Of the rows of each list" minimum:"1" maximum:"1000" default:"100"`
}

func (a *API) compareLive(ctx context.Context, in *compareInput) (*body[LiveComparison], error) {
	q, err := a.query(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	former, err := a.query(ctx, in.With)
	if errs.Is(err, errs.NotFound) {
		return nil, errs.Field("with", "there is no live query with that id")
	}
	if err != nil {
		return nil, err
	}
	var out LiveComparison
	err = a.results.read(ctx, func(ctx context.Context) error {
		c, err := a.reader(ctx, stricter(q, former)).Compare(ctx, q.ID, former.ID, in.Limit)
		out = LiveComparison{
			Added: rowDocuments(c.Added), Gone: rowDocuments(c.Gone), Same: c.Same, AddedTotal: c.AddedTotal, GoneTotal: c.GoneTotal,
			Nodes: c.Nodes, OnlyNew: c.OnlyNew, OnlyOld: c.OnlyOld, CutNodes: c.Cut,
		}
		return err
	})
	return &body[LiveComparison]{out}, err
}
