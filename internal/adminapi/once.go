package adminapi

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"net/http"
	"slices"

	"github.com/danielgtaylor/huma/v2"

	"github.com/musterhq/muster/internal/account"
	"github.com/musterhq/muster/internal/errs"
)

// OnceStore keeps which calls were done under their callers' keys.
type OnceStore interface {
	// BeginOnce keeps that a call begins, or returns the one that did before under
	// the same key; begun is false then.
	BeginOnce(ctx context.Context, c account.Once) (first account.Once, begun bool, err error)
	EndOnce(ctx context.Context, c account.Once) error
	// ForgetOnce lets a call that failed be sent again.
	ForgetOnce(ctx context.Context, c account.Once) error
}

const (
	onceHeader = "Idempotency-Key"
	maxOnceKey = 255
)

// doneOnce reports whether a route makes something that must not be made twice when
// its caller sends the call again. Routes that answer a secret are none of them: what
// they answer is kept nowhere.
func (r Route) doneOnce() bool {
	return r.Method == http.MethodPost && slices.Contains([]string{
		base + "/live", base + "/carves", base + "/changes", base + "/silences", base + "/alerts/{id}/comment",
	}, r.Path)
}

// once gives the first answer again when a caller sends a call again under the same
// Idempotency-Key. Calls that failed are done anew. The caller's permission was
// checked before, also for an answer that is given again.
func once[I, O any](a *API, r Route, handle func(context.Context, *I) (*O, error)) func(context.Context, *I) (*O, error) {
	return func(ctx context.Context, in *I) (*O, error) {
		key := headerOf(ctx).Get(onceHeader)
		if key == "" {
			return handle(ctx, in)
		}
		if len(key) > maxOnceKey {
			return nil, errs.Field(onceHeader, "is longer than %d bytes; take a UUID", maxOnceKey)
		}
		said, err := json.Marshal(in)
		if err != nil {
			return nil, err
		}
		hash := sha256.Sum256(slices.Concat([]byte(r.Method+" "+r.Path+"\n"), said))
		call := account.Once{Account: session(ctx).UserName, Key: key, Hash: hash[:], At: a.Now()}
		first, begun, err := a.Once.BeginOnce(ctx, call)
		if err != nil {
			return nil, err
		}
		if !begun {
			return firstAnswer[O](first, call)
		}
		out, err := handle(ctx, in)
		kept := context.WithoutCancel(ctx) // who is gone may come again
		if err != nil {
			if ctx.Err() != nil {
				return nil, err // the caller left in the middle: what was done by then is not known
			}
			if err := a.Once.ForgetOnce(kept, call); err != nil {
				a.report(kept, "forget a call", err)
			}
			return nil, err
		}
		if answer, err := json.Marshal(out); err == nil && len(answer) <= account.MaxOnceAnswer {
			call.Answer = answer
		}
		if err := a.Once.EndOnce(kept, call); err != nil {
			a.report(kept, "keep an answer", err) // it is done; the caller shall know
		}
		return out, nil
	}
}

// firstAnswer is what a call is answered that was sent before.
func firstAnswer[O any](first, call account.Once) (*O, error) {
	switch {
	case !slices.Equal(first.Hash, call.Hash):
		return nil, huma.Error422UnprocessableEntity(onceHeader+" was used for another input; take a new key for each thing that is made",
			&huma.ErrorDetail{Message: "was used for another input", Location: "header." + onceHeader})
	case !first.Done:
		return nil, errs.New(errs.Conflict, "the first call with this %s did not end yet, or broke off; look whether it did what it should, and take another key if not", onceHeader)
	case len(first.Answer) == 0:
		return nil, errs.New(errs.Conflict, "the first call with this %s is done, and its answer was too large to be kept; look for what it made", onceHeader)
	}
	out := new(O)
	return out, json.Unmarshal(first.Answer, out)
}
