package app

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"fmt"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/musterhq/muster/internal/node"
	"github.com/musterhq/muster/internal/policy"
	"github.com/musterhq/muster/internal/redact"
	"github.com/musterhq/muster/internal/resource"
)

// redaction is what takes secrets out of what agents send.
type redaction struct {
	redactor *redact.Redactor
	counts   *redact.Counts
	lines    cipher.Block // see agentapi.Options.Lines
}

// openRedaction makes the redactor under a key that follows from the server's: the
// ids of secrets are the same after a restart, and on other servers that share
// the key.
func (a *App) openRedaction() (err error) {
	line := a.keyer.Hash(node.PurposeLine, "")
	if a.redaction.lines, err = aes.NewCipher(line[:aes.BlockSize]); err != nil {
		return err
	}
	a.redaction.counts = redact.NewCounts(a.now)
	a.redaction.redactor = redact.New(redact.Options{
		Hash:   func(secret string) [32]byte { return a.keyer.Hash(node.PurposeRedaction, secret) },
		Counts: a.redaction.counts,
	})
	return nil
}

// redactByPlan puts the newest revision's rules in force: unlike what agents run,
// they do not roll out.
func (a *App) redactByPlan(p *resource.Plan) error {
	rules := p.Newest().Set().Redaction()
	d := describer{app: a, plan: p}
	rules.Describe = d.describe
	if err := a.redaction.redactor.SetRules(rules); err != nil {
		return fmt.Errorf("redaction: %w", err)
	}
	return nil
}

// describer knows what queries read.
type describer struct {
	app  *App
	plan *resource.Plan
}

// describe finds the texts of a query, of which there are two while a revision
// rolls out that changes it, and joins what they read.
func (d describer) describe(src redact.Source) redact.Query {
	if src.Live != "" {
		if q, ok := d.app.live.Running(src.Live); ok {
			return d.read(q.SQL)
		}
		return redact.Query{} // it ended: what it read is not known any more
	}
	texts := []string{}
	for _, s := range []*resource.Snapshot{d.plan.Base, d.plan.Next} {
		if s != nil {
			if text, ok := s.Set().QueryText(src.Query); ok {
				texts = append(texts, text)
			}
		}
	}
	if len(texts) == 0 {
		return redact.Query{}
	}
	q := d.read(texts[0])
	for _, text := range texts[1:] {
		q = q.Or(d.read(text))
	}
	return q
}

// read asks the policy what a text reads, and where its columns come from.
func (d describer) read(sql string) redact.Query {
	engine, err := d.app.runs.policy.With(d.plan.Newest().Set().Rules(d.app.now()))
	if err != nil {
		return redact.Query{}
	}
	defer engine.Close() //nolint:errcheck // it holds memory only
	columns := engine.Result(sql)
	if columns == nil {
		return redact.Query{}
	}
	q := redact.Query{Known: true, Columns: map[string]redact.Origin{}}
	for _, c := range columns {
		o := redact.Origin{Table: c.Table, Column: c.Column}
		if had, ok := q.Columns[c.Name]; ok && had != o {
			o = redact.Origin{} // agents send one of the two
		}
		q.Columns[c.Name] = o
	}
	v := engine.Query(policy.Query{SQL: sql})
	for _, t := range v.Tables {
		q.Reads = append(q.Reads, redact.Origin{Table: t})
	}
	for _, c := range v.Columns {
		table, column, _ := strings.Cut(c, ".")
		q.Reads = append(q.Reads, redact.Origin{Table: table, Column: column})
	}
	return q
}

// registerRedactionMetrics counts what was replaced, by kind.
func (a *App) registerRedactionMetrics(r prometheus.Registerer) {
	redacted := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "muster_redactions_total", Help: "Secrets that were replaced in what agents sent, by kind.",
	}, []string{"kind"})
	r.MustRegister(redacted)
	a.redaction.counts.Each = func(kind string) { redacted.WithLabelValues(kind).Inc() }
}

// redactChanged puts other rules in force after the plan changed.
func (a *App) redactChanged() {
	if err := a.redactByPlan(a.catalog().Plan()); err != nil {
		// It was checked when it was proposed; a server of another version may
		// have done that.
		a.log.ErrorContext(context.Background(), "the rules of redaction cannot be read; those from before stay in force", "error", err)
	}
}
