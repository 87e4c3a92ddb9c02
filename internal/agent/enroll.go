package agent

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/valyala/fastjson"

	"github.com/musterhq/muster/internal/agentwire"
	"github.com/musterhq/muster/internal/hostsql"
	"github.com/musterhq/muster/internal/osquery"
)

// newUUID returns a random UUID (RFC 9562, version 4).
func newUUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand ends the process instead
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// placeholder reports whether a hardware UUID is one that boards carry by the
// thousand (osquery/core/system.cpp).
func placeholder(uuid string) bool {
	switch strings.ToLower(uuid) {
	case "", "00000000-0000-0000-0000-000000000000", "03000200-0400-0500-0006-000700080009",
		"03020100-0504-0706-0809-0a0b0c0d0e0f", "10000000-0000-8000-0040-000000000000":
		return true
	}
	return false
}

// identify chooses the host identifier, once per process as in osquery.
func (a *Agent) identify() error {
	var state saved
	a.db.view(func(s saved) { state = s })
	if state.InstanceID == "" || state.UUID == "" {
		err := a.db.update(func(s *saved) {
			if s.InstanceID == "" {
				s.InstanceID = newUUID()
			}
			if s.UUID == "" {
				s.UUID = newUUID()
			}
			state = *s
		})
		if err != nil {
			return err
		}
	}
	switch mode := a.flags.String("host_identifier"); mode {
	case "hostname":
		a.host = a.name
	case "uuid":
		a.host = state.UUID
		rows, _, err := a.sql.Query(context.Background(), "SELECT uuid FROM system_info")
		if err == nil && len(rows) > 0 && !placeholder(rows[0][0].Value) {
			a.host = rows[0][0].Value
		}
	case "instance":
		a.host = state.InstanceID
	case "ephemeral":
		a.host = a.uuid
	case "specified":
		a.host = a.flags.String("specified_identifier")
		if a.host == "" {
			return errors.New("--host_identifier=specified needs --specified_identifier")
		}
	default:
		return fmt.Errorf("--host_identifier=%s: must be hostname, uuid, instance, ephemeral or specified", mode)
	}
	if a.flags.Bool("enroll_always") {
		return a.db.update(func(s *saved) { s.NodeKey = "" })
	}
	return nil
}

// nodeKey returns the node key, enrolling if there is none. After a round of
// refusals it is "", and the request goes out with that, as the real agent's.
func (a *Agent) nodeKey(ctx context.Context) string {
	if a.flags.Bool("disable_enrollment") {
		return ""
	}
	a.enrolling.Lock()
	defer a.enrolling.Unlock()
	var key string
	a.db.view(func(s saved) { key = s.NodeKey })
	if key != "" {
		return key
	}
	limit := a.flags.Seconds("tls_enroll_max_interval")
	err := attempts(ctx, a.flags.Uint("tls_enroll_max_attempts"), limit, func() (err error) {
		if key, err = a.enroll(ctx); err != nil {
			a.log.WarnContext(ctx, "enrolment failed", "error", err)
		}
		return err
	})
	if err != nil {
		return ""
	}
	a.log.InfoContext(ctx, "enrolled", "host_identifier", a.host)
	return key
}

// enroll sends one enroll request and keeps the key it is given.
func (a *Agent) enroll(ctx context.Context) (string, error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	body, err := osquery.EnrollRequest{
		EnrollSecret: a.enrollSecret(ctx), HostIdentifier: a.host, PlatformType: strconv.Itoa(hostsql.PlatformMask), HostDetails: a.details(ctx),
	}.Encode()
	if err != nil {
		return "", err
	}
	answer, err := a.client.enroll.PostRaw(ctx, agentwire.Request{Path: a.flags.String("enroll_tls_endpoint"), Body: body})
	if err != nil {
		return "", err
	}
	// Only a key that is a string counts; the status and other members do not.
	v, err := fastjson.ParseBytes(answer)
	if err != nil {
		return "", fmt.Errorf("cannot parse JSON answer: %w", err)
	}
	key := string(v.GetStringBytes("node_key"))
	if v.Get("node_key") == nil {
		key = string(v.GetStringBytes("id"))
	}
	if key == "" {
		if reason := v.GetStringBytes("error"); len(reason) > 0 {
			return "", fmt.Errorf("no node key: %s", reason)
		}
		return "", errors.New("no node key in the answer")
	}
	return key, a.db.update(func(s *saved) { s.NodeKey = key })
}

// enrollSecret reads the secret each time, so that a corrected file is used.
func (a *Agent) enrollSecret(ctx context.Context) string {
	path := a.flags.String("enroll_secret_path")
	if path == "" {
		if name := a.flags.String("enroll_secret_env"); name != "" {
			return os.Getenv(name)
		}
		return ""
	}
	secret, err := os.ReadFile(path) //nolint:gosec // the operator names it
	if err != nil {
		a.log.WarnContext(ctx, "cannot read the enroll secret", "error", err)
	}
	return strings.TrimSpace(string(secret))
}

// details are the first rows of four tables, without what they did not fill.
func (a *Agent) details(ctx context.Context) map[string]map[string]string {
	details := map[string]map[string]string{}
	for table, columns := range map[string]string{
		"os_version": "*, pid_with_namespace", "osquery_info": "*", "platform_info": "*", "system_info": "*",
	} {
		result, err := a.sql.Select(ctx, "SELECT "+columns+" FROM "+table+" LIMIT 1")
		if err != nil || len(result.Values) == 0 {
			continue
		}
		row := map[string]string{}
		for i, v := range result.Values[0] {
			if v != nil {
				row[result.Columns[i]] = hostsql.Text(v)
			}
		}
		details[table] = row
	}
	return details
}

// post sends a request with the node key in its body, and forgets the key when
// the server calls it invalid. A key that another thread has renewed meanwhile
// stays, which spares the second enrolment of the real agent.
func (a *Agent) post(ctx context.Context, c *agentwire.Client, path string, compress bool, encode func(key string) ([]byte, error)) ([]byte, error) {
	key := a.nodeKey(ctx)
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	body, err := encode(key)
	if err != nil {
		return nil, err
	}
	started := time.Now()
	answer, err := c.Post(ctx, agentwire.Request{Path: path, NodeKey: key, Body: body, Gzip: compress})
	a.log.DebugContext(ctx, "request", "path", path, "bytes", len(body), "took", time.Since(started), "failed", err != nil)
	if errors.Is(err, agentwire.ErrNodeInvalid) && !a.flags.Bool("disable_reenrollment") {
		var current string
		a.db.view(func(s saved) { current = s.NodeKey })
		if current == key {
			err = errors.Join(err, a.db.update(func(s *saved) { s.NodeKey = "" }))
		}
	}
	return answer, err
}
