package notify

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/resource"
)

// webhook posts JSON to a URL: Muster's document, or what the notifier's template
// makes of it.
func (d *delivery) webhook(ctx context.Context, w *resource.Webhook) (answer string, err error) {
	target := w.URL
	if w.URLFrom != nil {
		if target, err = d.secret(w.URLFrom); err != nil {
			return "", err
		}
	}
	ca, err := d.secret(w.CA)
	if err != nil {
		return "", err
	}
	key, err := d.secret(w.SecretKey)
	if err != nil {
		return "", err
	}
	bodies, err := d.bodies(w)
	if err != nil {
		return "", err
	}
	for i, body := range bodies {
		head := http.Header{}
		for name, ref := range w.Headers {
			v, err := d.secret(&ref)
			if err != nil {
				return "", err
			}
			if strings.ContainsAny(v, "\r\n\x00") {
				return "", errs.New(errs.Invalid, "the secret for the header %s has several lines", name)
			}
			head.Set(name, v)
		}
		d.sign(head, key, body, i, len(bodies))
		if answer, err = d.post(ctx, target, ca, body, head); err != nil {
			return answer, err
		}
	}
	return answer, nil
}

// bodies are what is posted, one after the other.
func (d *delivery) bodies(w *resource.Webhook) ([][]byte, error) {
	if d.plan.Body == nil {
		b, err := json.Marshal(d.document())
		return [][]byte{b}, err
	}
	var list [][]byte
	for i := range d.m.Items {
		t := d.telling(&d.m.Items[i])
		b, err := json.Marshal(d.plan.Body.Fill(func(name string) any { return d.field(&t, name) }))
		if err != nil {
			return nil, err
		}
		if list = append(list, b); usesAll(w.Body) {
			break // it tells of all alerts
		}
	}
	return list, nil
}

// usesAll reports whether a template has all alerts of a message.
func usesAll(v any) bool {
	switch v := v.(type) {
	case string:
		return strings.Contains(v, "${alerts}")
	case []any:
		return slices.ContainsFunc(v, usesAll)
	case map[string]any:
		for _, part := range v {
			if usesAll(part) {
				return true
			}
		}
	}
	return false
}

// sign lets the receiver know who sent a body and when, and whether it had it
// before.
func (d *delivery) sign(head http.Header, key string, body []byte, part, parts int) {
	id := d.m.ID
	if parts > 1 {
		id += "-" + strconv.Itoa(part)
	}
	stamp := strconv.FormatInt(d.m.SentAt.Unix(), 10)
	head.Set("X-Muster-Message", id)
	head.Set("X-Muster-Timestamp", stamp)
	if key != "" {
		head.Set("X-Muster-Signature", Sign(key, stamp, body))
	}
}

// Sign returns the value of X-Muster-Signature.
func Sign(key, stamp string, body []byte) string {
	h := hmac.New(sha256.New, []byte(key))
	_, _ = fmt.Fprintf(h, "%s.%s", stamp, body) // a hash never fails
	return "v1=" + hex.EncodeToString(h.Sum(nil))
}
