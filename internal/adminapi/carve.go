package adminapi

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/musterhq/muster/internal/account"
	"github.com/musterhq/muster/internal/carve"
	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/ident"
	"github.com/musterhq/muster/internal/live"
	"github.com/musterhq/muster/internal/policy"
	"github.com/musterhq/muster/internal/resource"
)

// CarveStore reads carves.
type CarveStore interface {
	Carve(ctx context.Context, id string) (*carve.Carve, error)
	Carves(ctx context.Context, f carve.Filter) (carves []*carve.Carve, next string, err error)
	CarveFiles(ctx context.Context, archiveID string) ([]carve.File, error)
	// CarveByGUID returns the carve with the archive that its node calls so.
	CarveByGUID(ctx context.Context, guid string) (*carve.Carve, error)
}

// Vault knows tokens that may download.
type Vault interface {
	// Check returns whose a token is if it has the policy.
	Check(ctx context.Context, token string) (name string, err error)
}

func (a *API) registerCarves() {
	registerScoped(a, account.CarveRead, http.MethodPost, "/carves/check", "Tell what the policy says of paths", a.checkCarve)
	registerScoped(a, account.CarveRun, http.MethodPost, "/carves", "Ask a node for files", a.startCarve)
	registerScoped(a, account.CarveRead, http.MethodGet, "/carves", "List carves, newest first", a.listCarves)
	registerScoped(a, account.CarveRead, http.MethodGet, "/carves/{id}", "Show a carve", a.showCarve)
	registerScoped(a, account.CarveRead, http.MethodGet, "/carves/{id}/files", "List the files of a carve's archive", a.carveFiles)
	registerScoped(a, account.CarveRun, http.MethodPost, "/carves/{id}/cancel", "Cancel a carve", a.cancelCarve)
	registerScoped(a, account.CarveRun, http.MethodDelete, "/carves/{id}", "Remove a carve and its archives", a.deleteCarve)
	registerScoped(a, account.CarveDownload, http.MethodGet, "/carves/{id}/download", "Download a carve's archive, or all of them as one tar", a.downloadCarve)
	a.answers("/carves/{id}/download", "application/octet-stream")
}

// judgeCarve asks the policy about paths.
func (a *API) judgeCarve(paths []string) (CarveCheck, error) {
	e, err := a.rules()
	if err != nil {
		return CarveCheck{}, err
	}
	defer e.Close() //nolint:errcheck // it holds memory only
	out := CarveCheck{Decision: string(OutcomeRun), Paths: make([]CarvePath, 0, len(paths))}
	for _, path := range paths {
		v := e.Carve(path)
		out.Paths = append(out.Paths, CarvePath{Path: path, Tier: int(v.Tier), Allowed: v.Provable(), Reasons: v.Reasons, Findings: v.Findings})
		if int(v.Tier) > out.Tier || !v.Provable() && out.Decision != string(OutcomeRefused) {
			out.Tier = int(v.Tier)
			if len(v.Reasons) > 0 {
				out.Why = v.Reasons[0].Name + ": " + v.Reasons[0].Why
			}
		}
		if !v.Provable() {
			out.Decision = string(OutcomeRefused)
		}
	}
	if out.Decision != string(OutcomeRefused) {
		a.decideCarve(&out)
	}
	if _, err := carve.AskSQL(paths); err != nil && out.Decision != string(OutcomeRefused) {
		return out, err
	}
	return out, nil
}

// decideCarve asks the live policies about paths that the policy understands. A
// carve is of one node. No exception names paths: the reason that the highest
// tier needs stands for it.
func (a *API) decideCarve(out *CarveCheck) {
	d := a.Catalog.Plan().Newest().Set().Decide(live.Carve, policy.Tier(out.Tier), true, true, 1) //nolint:gosec // 0 to 3
	why := d.Why
	switch d.Require {
	case resource.RequireRun:
		return
	case resource.RequireReason:
		out.Decision = string(OutcomeReason)
	case resource.RequireApproval:
		why += " wants a second person's consent, which carves cannot have"
		out.Decision = string(OutcomeRefused)
	default:
		out.Decision = string(OutcomeRefused)
	}
	if d.Policy != "" || out.Why == "" {
		out.Why = strings.TrimSuffix(why+": "+out.Why, ": ")
	}
}

func (a *API) checkCarve(_ context.Context, in *body[CarveCheckInput]) (*body[CarveCheck], error) {
	out, err := a.judgeCarve(in.Body.Paths)
	if err != nil {
		return nil, err
	}
	return &body[CarveCheck]{out}, nil
}

func (a *API) startCarve(ctx context.Context, in *body[CarveInput]) (*body[Carve], error) {
	who := session(ctx).UserName
	found, err := a.Nodes.FindNode(ctx, in.Body.Node)
	if err != nil {
		return nil, err
	}
	if err := a.on(ctx, account.CarveRun, found.ID); err != nil {
		return nil, err
	}
	n := a.Registry.Lookup(found.ID)
	if n == nil || n.Quarantined {
		return nil, errs.New(errs.Conflict, "the node is gone or under quarantine; it is asked nothing")
	}
	verdict, err := a.judgeCarve(in.Body.Paths)
	if err != nil {
		return nil, err
	}
	detail := map[string]any{
		"node": n.ID, "host_identifier": n.HostIdentifier, "paths": in.Body.Paths, "tier": verdict.Tier, "reason": in.Body.Reason,
	}
	var refusal error
	switch {
	case verdict.Decision == string(OutcomeRefused):
		refusal = errs.New(errs.Forbidden, "the policy refuses this: %s", verdict.Why)
	case verdict.Decision == string(OutcomeReason) && strings.TrimSpace(in.Body.Reason) == "":
		refusal = errs.New(errs.Forbidden, "this needs a reason: %s", verdict.Why)
	}
	if refusal != nil {
		if err := a.Audit.Refused(ctx, who, "carve.start", n.ID, refusal.Error(), detail); err != nil {
			return nil, err
		}
		return nil, refusal
	}
	id, action := ident.New(), "carve.start"
	if verdict.Tier >= int(policy.Dangerous) {
		action = "carve.start.dangerous"
		a.Log.WarnContext(ctx, "files that hold secrets are carved", "user", who, "carve", id, "node", n.ID, "why", verdict.Why)
	}
	if err := a.Audit.Record(ctx, who, action, id, detail); err != nil {
		return nil, err
	}
	r := carve.Request{ID: id, Node: n, Paths: in.Body.Paths, Tier: verdict.Tier, Reason: in.Body.Reason, By: who}
	if s := in.Body.ExpiresSeconds; s > 0 {
		r.ExpiresAt = a.Now().Add(time.Duration(s) * time.Second)
	}
	c, err := a.Carves.Start(ctx, r)
	if err != nil {
		return nil, err
	}
	return &body[Carve]{carveDocument(c)}, nil
}

func carveDocument(c *carve.Carve) Carve {
	out := Carve{
		ID: c.ID, NodeID: c.NodeID, HostIdentifier: c.HostIdentifier, Hostname: c.Hostname, Paths: c.Paths, Tier: c.Tier,
		State: string(c.State), Reason: c.Reason, CreatedBy: c.CreatedBy, CreatedAt: c.CreatedAt.UTC(), ExpiresAt: c.ExpiresAt.UTC(),
		EndedAt: at(c.EndedAt), KeptUntil: at(c.KeptUntil), Message: c.Message, Archives: make([]CarveArchive, 0, len(c.Archives)),
	}
	if out.Paths == nil {
		out.Paths = []string{}
	}
	for _, a := range c.Archives {
		out.Size += a.Size
		out.Received += min(a.Size, a.Received*a.BlockSize)
		out.Archives = append(out.Archives, CarveArchive{
			N: a.N, Path: a.Path, CarveGUID: a.GUID, RequestID: a.RequestID, State: string(a.State), Size: a.Size, BlockSize: a.BlockSize,
			BlockCount: a.Blocks, ReceivedBlocks: a.Received, SHA256: a.SHA256, AgentSHA256: a.AgentSHA256, Verification: string(a.Verification),
			Format: string(a.Format), Files: a.Files, Truncated: a.Truncated, Message: a.Message,
		})
	}
	return out
}

// carve returns a carve as it is now, of a node that the caller has a permission for.
func (a *API) carve(ctx context.Context, p account.Permission, id string) (*carve.Carve, error) {
	c, ok := a.Carves.Current(id)
	if !ok {
		var err error
		if c, err = a.CarveList.Carve(ctx, id); err != nil {
			return nil, err
		}
	}
	if !session(ctx).On(p, a.Registry.Lookup(c.NodeID)) {
		return nil, errs.New(errs.NotFound, "there is no such carve, or your roles do not show it")
	}
	return c, nil
}

type carvesInput struct {
	PageInput

	Node  string `query:"node" doc:"Only of this node: its id" maxLength:"64"`
	State string `query:"state" doc:"Only those in this state" enum:"asked,sent,scheduled,uploading,verifying,done,failed,cancelled,expired"`
}

func (a *API) listCarves(ctx context.Context, in *carvesInput) (*body[CarvePage], error) {
	carves, next, err := a.CarveList.Carves(ctx, carve.Filter{NodeID: in.Node, Nodes: a.scope(ctx, account.CarveRead), State: carve.State(in.State), Cursor: in.Cursor, Limit: in.Limit})
	if err != nil {
		return nil, err
	}
	out := CarvePage{Carves: make([]Carve, 0, len(carves)), NextCursor: next}
	for _, c := range carves {
		if now, ok := a.Carves.Current(c.ID); ok {
			c = now
		}
		out.Carves = append(out.Carves, carveDocument(c))
	}
	out.Usage.Bytes, out.Usage.LimitBytes = a.Carves.Usage()
	return &body[CarvePage]{out}, nil
}

// CarveRef names a carve in a path.
type CarveRef struct {
	ID string `path:"id" maxLength:"64"`
}

func (a *API) showCarve(ctx context.Context, in *CarveRef) (*body[Carve], error) {
	c, err := a.carve(ctx, account.CarveRead, in.ID)
	if err != nil {
		return nil, err
	}
	return &body[Carve]{carveDocument(c)}, nil
}

type carveArchiveInput struct {
	CarveRef

	Archive int `query:"archive" doc:"Number of the archive" minimum:"0" maximum:"15"`
}

func (a *API) carveFiles(ctx context.Context, in *carveArchiveInput) (*body[CarveFiles], error) {
	c, err := a.carve(ctx, account.CarveRead, in.ID)
	if err != nil {
		return nil, err
	}
	archive, err := archiveOf(c, in.Archive)
	if err != nil {
		return nil, err
	}
	files, err := a.CarveList.CarveFiles(ctx, archive.ID)
	if err != nil {
		return nil, err
	}
	out := CarveFiles{Files: make([]CarveFile, 0, len(files)), Truncated: archive.Truncated}
	for _, f := range files {
		out.Files = append(out.Files, CarveFile(f))
	}
	return &body[CarveFiles]{out}, nil
}

func archiveOf(c *carve.Carve, n int) (carve.Archive, error) {
	for _, a := range c.Archives {
		if a.N == n {
			return a, nil
		}
	}
	return carve.Archive{}, errs.New(errs.NotFound, "the carve has no archive %d", n)
}

func (a *API) cancelCarve(ctx context.Context, in *CarveRef) (*body[Carve], error) {
	who := session(ctx).UserName
	if _, err := a.carve(ctx, account.CarveRun, in.ID); err != nil {
		return nil, err
	}
	if err := a.Audit.Record(ctx, who, "carve.cancel", in.ID, nil); err != nil {
		return nil, err
	}
	c, err := a.Carves.Cancel(ctx, in.ID, who)
	if err != nil {
		return nil, err
	}
	return &body[Carve]{carveDocument(c)}, nil
}

func (a *API) deleteCarve(ctx context.Context, in *CarveRef) (*none, error) {
	who := session(ctx).UserName
	c, err := a.carve(ctx, account.CarveRun, in.ID)
	if err != nil {
		return nil, err
	}
	detail := map[string]any{"node": c.NodeID, "paths": c.Paths, "state": c.State}
	if err := a.Audit.Record(ctx, who, "carve.delete", in.ID, detail); err != nil {
		return nil, err
	}
	return nil, a.Carves.Delete(ctx, in.ID, who)
}

// gone says why there is nothing to download.
func gone(c *carve.Carve) error {
	if c.State == carve.Expired {
		return errs.New(errs.NotFound, "the carve is not there any more: %s", c.Message)
	}
	return errs.New(errs.NotFound, "the carve has nothing to download: it is %s. %s", c.State, c.Message)
}

// nameOf is what a download is called: nothing in it is the node's choice.
func nameOf(c *carve.Carve, n int, format string) string {
	if n < 0 {
		return fmt.Sprintf("carve-%s.%s", c.ID, format)
	}
	return fmt.Sprintf("carve-%s-%d.%s", c.ID, n, format)
}
