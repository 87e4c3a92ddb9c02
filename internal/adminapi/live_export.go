package adminapi

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/event"
	"github.com/musterhq/muster/internal/live"
	"github.com/musterhq/muster/internal/result"
	"github.com/musterhq/muster/internal/sheet"
)

type exportInput struct {
	WhereInput
	What   string `query:"what" doc:"rows, or nodes with the state of each" enum:"rows,nodes" default:"rows"`
	State  string `query:"state" doc:"Of nodes: only those in this state" enum:"waiting,sent,answered,empty,failed,denylisted,over_limit,expired,stopped"`
	Format string `query:"format" enum:"csv,json,ndjson" default:"csv"`
}

// exportLive answers a file. It is written as it is read, so an error in the
// middle can only cut it: then the connection breaks, and no client takes it for
// the whole.
func (a *API) exportLive(ctx context.Context, in *exportInput) (*huma.StreamResponse, error) {
	switch {
	case in.What == "nodes" && in.Where != "":
		return nil, errs.Field("where", "is about rows; nodes are chosen by state")
	case in.What == "rows" && in.State != "":
		return nil, errs.Field("state", "is about nodes; rows are chosen by where")
	}
	q, where, declared, err := a.asked(ctx, in.WhereInput)
	if err != nil {
		return nil, err
	}
	select {
	case a.results.exports <- struct{}{}:
	default:
		return nil, errs.New(errs.Busy, "%d other exports are running; try again when one is done", exportsAtOnce)
	}
	x := &export{api: a, in: in, query: q, where: where, rows: a.reader(ctx, q)}
	if in.What == "rows" && in.Format == "csv" { // whose first line names the columns of all rows
		err := a.results.read(ctx, func(ctx context.Context) (err error) {
			x.columns, err = x.rows.Columns(ctx, q.ID, declared, where)
			return err
		})
		if err != nil {
			<-a.results.exports
			return nil, err
		}
	}
	return &huma.StreamResponse{Body: func(ctx huma.Context) {
		defer func() { <-a.results.exports }()
		x.answer(ctx)
	}}, nil
}

// export is one file that is written.
type export struct {
	api     *API
	in      *exportInput
	query   live.Query
	where   []event.Condition
	rows    *result.Reader  // of the nodes that the caller may read
	columns []result.Column // of a CSV of rows
}

func (x *export) answer(hctx huma.Context) {
	_, w := humago.Unwrap(hctx)
	ctx, cancel := context.WithTimeout(hctx.Context(), exportTime)
	defer cancel()
	kind := map[string]string{"csv": "text/csv; charset=utf-8; header=present", "json": "application/json", "ndjson": "application/x-ndjson"}[x.in.Format]
	hctx.SetHeader("Content-Type", kind)
	hctx.SetHeader("Content-Disposition", fmt.Sprintf(`attachment; filename="live-%s-%s.%s"`, fileWord(x.query.ID), x.in.What, x.in.Format))
	out := &patient{w: w, c: http.NewResponseController(w)}
	buffered := bufio.NewWriterSize(out, exportBuffer)
	err := x.write(ctx, buffered)
	if err == nil {
		err = buffered.Flush()
	}
	if err != nil {
		x.api.report(hctx.Context(), "export live query", err)
		out.breakOff()
	}
}

// fileWord is an id as part of a file's name.
func fileWord(id string) string {
	letters := []byte(id)
	for i, c := range letters {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') {
			letters[i] = '-'
		}
	}
	return string(letters)
}

const (
	exportBuffer = 64 << 10
	// exportWrite is how long a client may take for one buffer.
	exportWrite = time.Minute
)

// patient writes as long as the client takes something now and then.
type patient struct {
	w     io.Writer
	c     *http.ResponseController
	begun bool // something was written
}

func (p *patient) Write(b []byte) (int, error) {
	if err := p.c.SetWriteDeadline(time.Now().Add(exportWrite)); err != nil {
		return 0, err
	}
	p.begun = true
	return p.w.Write(b)
}

// breakOff makes the end of the answer fail: the client sees that it is cut.
func (p *patient) breakOff() {
	_ = p.c.Flush() // or a short answer would not have begun
	_ = p.c.SetWriteDeadline(time.Now().Add(-time.Second))
}

func (x *export) write(ctx context.Context, w *bufio.Writer) error {
	switch x.in.Format {
	case "csv":
		return x.sheet(ctx, sheet.NewWriter(w))
	case "json":
		return x.array(ctx, w)
	default:
		return x.documents(ctx, func(b []byte) error {
			_, err := w.Write(append(b, '\n'))
			return err
		})
	}
}

// array writes the documents as one JSON array.
func (x *export) array(ctx context.Context, w *bufio.Writer) error {
	separator := "[\n"
	err := x.documents(ctx, func(b []byte) error {
		_, err := w.WriteString(separator)
		if err == nil {
			_, err = w.Write(b)
		}
		separator = ",\n"
		return err
	})
	if err != nil {
		return err
	}
	if separator == "[\n" {
		_, err = w.WriteString("[]\n")
	} else {
		_, err = w.WriteString("\n]\n")
	}
	return err
}

// documents calls yield with each row or node as JSON.
func (x *export) documents(ctx context.Context, yield func([]byte) error) error {
	one := func(v any) error {
		b, err := json.Marshal(v)
		if err != nil {
			return err
		}
		return yield(b)
	}
	if x.in.What == "nodes" {
		return x.rows.Targets(ctx, x.query.ID, live.State(x.in.State), func(t live.Target) error { return one(nodeDocument(t)) })
	}
	return x.rows.Rows(ctx, x.query.ID, x.where, func(r result.Row) error { return one(rowDocument(r)) })
}

func nodeDocument(t live.Target) LiveNode {
	return LiveNode{
		NodeID: t.NodeID, HostIdentifier: t.HostIdentifier, Hostname: t.Hostname, State: string(t.State), Message: t.Message,
		Attempts: t.Attempts, SentAt: at(t.SentAt), AnsweredAt: at(t.AnsweredAt), Rows: t.RowCount, Cut: t.Cut, Late: t.Late, Stats: t.Stats,
	}
}

// nodeColumns are the first columns of a CSV.
func nodeColumns() []string { return []string{"node_id", "host_identifier", "hostname"} }

func (x *export) sheet(ctx context.Context, w *sheet.Writer) error {
	if x.in.What == "nodes" {
		return x.nodeSheet(ctx, w)
	}
	head := nodeColumns()
	for _, c := range x.columns {
		name := c.Name
		if slices.Contains(nodeColumns(), name) {
			name = "columns." + name // what the row says, beside what the server knows
		}
		head = append(head, name)
	}
	if err := w.Write(head); err != nil {
		return err
	}
	cells := make([]string, len(head))
	err := x.rows.Rows(ctx, x.query.ID, x.where, func(r result.Row) error {
		copy(cells, []string{r.ID, r.HostIdentifier, r.Hostname})
		for i, c := range x.columns {
			cells[len(nodeColumns())+i], _ = r.Columns.Get(c.Name)
		}
		return w.Write(cells)
	})
	if err != nil {
		return err
	}
	return w.Flush()
}

func (x *export) nodeSheet(ctx context.Context, w *sheet.Writer) error {
	err := w.Write(append(nodeColumns(), "state", "message", "attempts", "sent_at", "answered_at", "rows", "cut", "late", "wall_time_ms", "user_time_ms", "system_time_ms", "memory_bytes"))
	if err != nil {
		return err
	}
	err = x.rows.Targets(ctx, x.query.ID, live.State(x.in.State), func(t live.Target) error {
		return w.Write([]string{
			t.NodeID, t.HostIdentifier, t.Hostname, string(t.State), t.Message, strconv.Itoa(t.Attempts), stamp(t.SentAt), stamp(t.AnsweredAt),
			strconv.Itoa(t.RowCount), strconv.FormatBool(t.Cut), strconv.FormatBool(t.Late),
			strconv.FormatInt(t.Stats.WallTimeMs, 10), strconv.FormatInt(t.Stats.UserTime, 10),
			strconv.FormatInt(t.Stats.SystemTime, 10), strconv.FormatInt(t.Stats.Memory, 10),
		})
	})
	if err != nil {
		return err
	}
	return w.Flush()
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}
