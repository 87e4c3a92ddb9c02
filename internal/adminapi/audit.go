package adminapi

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/musterhq/muster/internal/account"
	"github.com/musterhq/muster/internal/audit"
	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/httpx"
)

// AuditStore reads the audit log.
type AuditStore interface {
	AuditEntries(ctx context.Context, f audit.Filter) ([]audit.Entry, error)
}

// AuditNotary signs the audit log; see audit.Notary.
type AuditNotary interface {
	Checkpoint(ctx context.Context) (audit.Signed, error)
	Prove(ctx context.Context, seq int64) (audit.Proof, error)
	Verify(ctx context.Context) (audit.Report, error)
	// Broken says why nothing is signed any more, or nothing.
	Broken() string
	// Key is the public key.
	Key() string
}

// AuditEntry is one line of the audit log. All of it but hash is sealed.
type AuditEntry struct {
	Version     int       `json:"version" doc:"Of the form that is sealed"`
	Seq         int64     `json:"seq" doc:"1, 2, 3 … without gaps"`
	Time        time.Time `json:"time"`
	Actor       string    `json:"actor" doc:"Name of the person, or system"`
	Session     string    `json:"session,omitempty" doc:"Short id of their session"`
	Address     string    `json:"address,omitempty" doc:"Where the request came from"`
	Action      string    `json:"action" doc:"As live.start; of a refusal by permission, the permission"`
	Outcome     string    `json:"outcome" enum:"done,refused"`
	Target      string    `json:"target" doc:"What it was done to"`
	Object      string    `json:"object,omitempty" doc:"What it is about, if that is not the target"`
	ContentHash string    `json:"content_hash,omitempty" doc:"SHA-256 of what it is about; of the detail as it was sent unless there is an object"`
	Reason      string    `json:"reason,omitempty" doc:"Why it was done or refused"`
	Approvals   []string  `json:"approvals" doc:"Who approved it"`
	Detail      string    `json:"detail" doc:"A JSON object, or empty"`
	Prev        string    `json:"prev" doc:"The hash of the entry before"`
	Hash        string    `json:"hash" doc:"SHA-256 over all this"`
}

func auditEntry(e audit.Entry) AuditEntry {
	return AuditEntry{
		Version: e.Version, Seq: e.Seq, Time: e.Time.UTC(), Actor: e.Actor, Session: e.Session, Address: e.Address, Action: e.Action,
		Outcome: string(e.Outcome), Target: e.Target, Object: e.Object, ContentHash: e.ContentHash, Reason: e.Reason, Approvals: list(e.Approvals),
		Detail: e.Detail, Prev: e.Prev, Hash: e.Hash,
	}
}

// Entry returns the document as the log has it, to check it.
func (e AuditEntry) Entry() audit.Entry {
	return audit.Entry{
		Version: e.Version, Seq: e.Seq, Time: e.Time, Actor: e.Actor, Session: e.Session, Address: e.Address, Action: e.Action,
		Outcome: audit.Outcome(e.Outcome), Target: e.Target, Object: e.Object, ContentHash: e.ContentHash, Reason: e.Reason, Approvals: e.Approvals,
		Detail: e.Detail, Prev: e.Prev, Hash: e.Hash,
	}
}

// AuditPage is a page of the audit log.
type AuditPage struct {
	Entries    []AuditEntry `json:"entries"`
	NextCursor string       `json:"next_cursor,omitempty"`
}

// AuditCheckpoint is what the log was when it was signed last.
type AuditCheckpoint struct {
	Checkpoint string    `json:"checkpoint" doc:"The signed note: origin, size, root, time, signature. Keep it elsewhere"`
	Key        string    `json:"key" doc:"The public key that signed it. Keep it elsewhere"`
	Size       int64     `json:"size" doc:"How many entries there were"`
	Root       string    `json:"root" doc:"Root of their tree (RFC 6962), base64"`
	Time       time.Time `json:"time"`
	Broken     string    `json:"broken,omitempty" doc:"Why nothing was signed after it"`
}

// AuditProof shows that an entry is in what was signed.
type AuditProof struct {
	Entry      AuditEntry `json:"entry"`
	Size       int64      `json:"size" doc:"Of the tree; the entry is its leaf seq - 1"`
	Hashes     []string   `json:"hashes" doc:"From the leaf to the root (RFC 6962, audit path), base64"`
	Checkpoint string     `json:"checkpoint" doc:"The signed note of that tree"`
}

// AuditReport tells what became of a check of the whole log.
type AuditReport struct {
	OK       bool           `json:"ok"`
	Entries  int64          `json:"entries" doc:"How many were read"`
	Whole    int64          `json:"whole" doc:"So many, from the first, are what was written"`
	Root     string         `json:"root" doc:"Root of their tree, base64"`
	Signed   int64          `json:"signed" doc:"So many are covered by the newest checkpoint that fits"`
	SignedAt *time.Time     `json:"signed_at,omitempty"`
	Broken   string         `json:"broken,omitempty" doc:"Why the server signs nothing any more"`
	Findings []AuditFinding `json:"findings"`
	More     int            `json:"more,omitempty" doc:"Findings that are left out"`
}

// AuditFinding is something that is wrong with entries.
type AuditFinding struct {
	Kind    string `json:"kind" enum:"edited,missing,moved,inserted,truncated,rewritten,tree"`
	First   int64  `json:"first"`
	Last    int64  `json:"last"`
	Message string `json:"message"`
}

// Report makes the document of a check.
func Report(r audit.Report, broken string) AuditReport {
	out := AuditReport{
		OK: r.OK() && broken == "", Entries: r.Entries, Whole: r.Whole, Root: r.Root.String(), Signed: r.Signed, SignedAt: at(r.SignedAt),
		Broken: broken, Findings: make([]AuditFinding, 0, len(r.Findings)), More: r.More,
	}
	for _, f := range r.Findings {
		out.Findings = append(out.Findings, AuditFinding{Kind: string(f.Kind), First: f.First, Last: f.Last, Message: f.Message})
	}
	return out
}

func (a *API) registerAudit() {
	register(a, account.AuditRead, http.MethodGet, "/audit", "Read the audit log, newest first", a.auditEntries)
	register(a, account.AuditRead, http.MethodGet, "/audit/verify", "Check the whole audit log against everything that was signed of it", a.auditVerify)
	register(a, account.AuditRead, http.MethodGet, "/audit/checkpoint", "The newest signed checkpoint of the audit log, and the key", a.auditCheckpoint)
	register(a, account.AuditRead, http.MethodGet, "/audit/{seq}/proof", "Prove that an entry is in the audit log that was signed", a.auditProof)
}

type auditInput struct {
	PageInput
	Order   string `query:"order" enum:"desc,asc" default:"desc" doc:"desc: the newest first"`
	Actor   string `query:"actor" maxLength:"255"`
	Action  string `query:"action" maxLength:"255" doc:"Or the beginning of it, as live."`
	Target  string `query:"target" maxLength:"1024"`
	Outcome string `query:"outcome" enum:"done,refused"`
	Since   string `query:"since" maxLength:"64" doc:"RFC 3339, or how long ago, as in 2h or 3d"`
	Until   string `query:"until" maxLength:"64" doc:"Likewise, exclusive"`
}

func (a *API) auditEntries(ctx context.Context, in *auditInput) (*body[AuditPage], error) {
	f, err := in.filter(a.Now())
	if err != nil {
		return nil, err
	}
	entries, err := a.AuditLog.AuditEntries(ctx, f)
	if err != nil {
		return nil, err
	}
	out := AuditPage{Entries: make([]AuditEntry, 0, len(entries))}
	for _, e := range entries {
		out.Entries = append(out.Entries, auditEntry(e))
	}
	if n := len(entries); n == in.Limit && (f.Ascending || entries[n-1].Seq > 1) {
		out.NextCursor = strconv.FormatInt(entries[n-1].Seq, 10)
	}
	return &body[AuditPage]{out}, nil
}

func (in *auditInput) filter(now time.Time) (f audit.Filter, err error) {
	f = audit.Filter{
		Limit: in.Limit, Ascending: in.Order == "asc", Actor: in.Actor, Action: in.Action, Target: in.Target, Outcome: audit.Outcome(in.Outcome),
	}
	if f.Since, err = moment("since", in.Since, now); err != nil {
		return f, err
	}
	if f.Until, err = moment("until", in.Until, now); err != nil {
		return f, err
	}
	if in.Cursor == "" {
		return f, nil
	}
	n, err := strconv.ParseInt(in.Cursor, 10, 64)
	if err != nil || n <= 0 {
		return f, errs.Field("cursor", "is not one that this list returned")
	}
	if f.Ascending {
		f.After = n
	} else {
		f.Before = n
	}
	return f, nil
}

func (a *API) auditVerify(ctx context.Context, _ *none) (*body[AuditReport], error) {
	r, err := a.Notary.Verify(ctx)
	if err != nil {
		return nil, err
	}
	return &body[AuditReport]{Report(r, a.Notary.Broken())}, nil
}

func (a *API) auditCheckpoint(ctx context.Context, _ *none) (*body[AuditCheckpoint], error) {
	s, err := a.Notary.Checkpoint(ctx)
	if err != nil {
		return nil, err
	}
	return &body[AuditCheckpoint]{AuditCheckpoint{
		Checkpoint: string(s.Note), Key: a.Notary.Key(), Size: s.Size, Root: s.Root.String(), Time: s.Time.UTC(), Broken: a.Notary.Broken(),
	}}, nil
}

type auditRef struct {
	Seq int64 `path:"seq" minimum:"1" doc:"Number of the entry"`
}

func (a *API) auditProof(ctx context.Context, in *auditRef) (*body[AuditProof], error) {
	p, err := a.Notary.Prove(ctx, in.Seq)
	if err != nil {
		return nil, err
	}
	entries, err := a.AuditLog.AuditEntries(ctx, audit.Filter{After: in.Seq - 1, Ascending: true, Limit: 1})
	if err != nil {
		return nil, err
	}
	if len(entries) == 0 || entries[0].Seq != in.Seq {
		return nil, errs.New(errs.Conflict, "entry %d was removed from the audit log; run muster audit verify", in.Seq)
	}
	if err := p.Check(entries[0]); err != nil {
		return nil, err
	}
	out := AuditProof{Entry: auditEntry(entries[0]), Size: p.Size, Checkpoint: string(p.Note), Hashes: make([]string, 0, len(p.Hashes))}
	for _, h := range p.Hashes {
		out.Hashes = append(out.Hashes, h.String())
	}
	return &body[AuditProof]{out}, nil
}

// refused keeps in the audit log that something was refused. The refusal stands
// if that fails.
func (a *API) refused(ctx context.Context, actor, action, target string, why error) {
	if err := a.Audit.Refused(ctx, actor, action, target, httpx.Message(why), nil); err != nil {
		a.Log.ErrorContext(ctx, "a refusal is not in the audit log", "actor", actor, "action", action, "target", target, "error", err)
	}
}

// withAddress lets entries of the audit log tell where a request comes from.
func withAddress(r *http.Request) *http.Request {
	var c audit.Caller
	if addr := httpx.Remote(r); addr.IsValid() {
		c.Address = addr.String()
	}
	return r.WithContext(context.WithValue(audit.WithCaller(r.Context(), c), agentKey{}, r.UserAgent()))
}

// withSession lets them tell the session, too.
func withSession(ctx context.Context, s account.Session) context.Context {
	c := audit.CallerOf(ctx)
	c.Session = s.ID
	return context.WithValue(audit.WithCaller(ctx, c), sessionKey{}, s)
}

// originOf is where a request comes from.
func originOf(ctx context.Context) account.Origin {
	agent, _ := ctx.Value(agentKey{}).(string)
	return account.Origin{Address: audit.CallerOf(ctx).Address, Agent: agent}
}

// agentKey is where a request's context holds which program sent it, as it says.
type agentKey struct{}
