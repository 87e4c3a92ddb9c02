package store

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"time"

	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/node"
)

var _ node.EnrolStore = (*Store)(nil)

// Enrol implements [node.EnrolStore]. Who shows a secret that is not known
// costs one read and never waits for a writer. When ctx ends while the database
// is locked it is Busy, and nothing happens later. One whose answer is lost
// after that, as when a server is killed, may have been kept: the agent enrols
// once more as the same node, and a use was counted that nobody had.
func (s *Store) Enrol(ctx context.Context, e node.Enrolment, admit func(*node.Secret, []node.Node) (node.Verdict, error)) (node.Node, error) {
	for range 2 { // the name may be of yesterday
		name, err := s.secretName(ctx, e.SecretHash, e.Now)
		if err != nil {
			return node.Node{}, fail("enrol node", err)
		}
		if name == "" {
			break
		}
		var n node.Node
		err = s.tx(ctx, func(t *tx) (err error) {
			n, err = t.enrol(ctx, name, e, admit)
			return err
		})
		if err == nil {
			return n, nil
		}
		if !errors.Is(err, errOtherSecret) {
			return node.Node{}, fail("enrol node", err)
		}
		s.secrets.forget(e.SecretHash)
	}
	if _, err := admit(nil, nil); err != nil {
		return node.Node{}, err
	}
	return node.Node{}, errs.New(errs.Unauthenticated, "enroll secret is not known")
}

// errOtherSecret means that a secret no longer has a value.
var errOtherSecret = errors.New("another enroll secret")

func (t *tx) enrol(ctx context.Context, name string, e node.Enrolment, admit func(*node.Secret, []node.Node) (node.Verdict, error)) (node.Node, error) {
	secret, err := t.use(ctx, name, e.SecretHash, e.Now)
	if err != nil {
		return node.Node{}, err
	}
	if secret == nil {
		return node.Node{}, errOtherSecret
	}
	version, err := t.next(ctx, counterNode, 1) // from here on one enrolment at a time
	if err != nil {
		return node.Node{}, err
	}
	had, err := t.known(ctx, e.Node)
	if err != nil {
		return node.Node{}, err
	}
	nodes := make([]node.Node, 0, len(had))
	for _, k := range had {
		nodes = append(nodes, k.Node)
	}
	v, err := admit(secret, nodes)
	if err != nil {
		return node.Node{}, err
	}
	n := v.Node
	n.Version = version
	switch v.ClashOf {
	case "":
	case n.ID:
		n.Clashes, n.LastClash, n.ClashReason = n.Clashes+1, e.Now, v.ClashReason
	default:
		if err := t.clash(ctx, v.ClashOf, v.ClashReason, e.Now, version); err != nil {
			return node.Node{}, err
		}
	}
	for _, k := range had {
		if k.ID == n.ID {
			return t.enrolAgain(ctx, k, n, e)
		}
	}
	return t.insertNode(ctx, n, e.KeyHash)
}

// knownNode is a node that is there, and since when its values hold.
type knownNode struct {
	node.Node
	sinces
}

// known returns what [node.EnrolStore] calls so.
func (t *tx) known(ctx context.Context, n node.Node) ([]knownNode, error) {
	scan := func(row scanner) (k knownNode, err error) {
		var sources string
		if k, err = scanKnown(row, &sources); err != nil {
			return k, err
		}
		k.TagSources, err = parseTagSources(sources)
		return k, err
	}
	return all(ctx, t, scan, `
		SELECT `+nodeColumns+`, `+sinceColumns+`, `+t.dialect.tagSources()+` FROM node n LEFT JOIN presence p ON p.node_id = n.id
		WHERE n.gone_at = 0 AND n.host_identifier = $1
			AND (n.clone_of = '' OR (n.instance = $2 AND n.instance <> '') OR (n.machine = $3 AND n.machine <> ''))
		ORDER BY (n.clone_of = '') DESC, n.version DESC LIMIT $4`,
		text(n.HostIdentifier), text(n.Instance), text(n.Machine), node.MaxKnown)
}

// scanKnown reads nodeColumns and sinceColumns, then whatever columns come after
// them.
func scanKnown(row scanner, more ...any) (k knownNode, err error) {
	var since string
	k.Node, err = scanNode(row, append([]any{&since, &k.address}, more...)...)
	if err != nil {
		return k, err
	}
	k.enrolled = micros(k.EnrolledAt)
	return k, k.parse(since)
}

// clean makes what an agent says fit for both engines.
func clean(n *node.Node) {
	for _, field := range []*string{
		&n.ID, &n.HostIdentifier, &n.Hostname, &n.Platform, &n.OS, &n.OsqueryVersion, &n.Address, &n.Secret,
		&n.Instance, &n.Machine, &n.Certificate, &n.ClashReason, &n.CloneOf, &n.QuarantineReason,
	} {
		*field = text(*field)
	}
	cleanTags(n)
}

// insertNode keeps a new node. A zero key is none.
func (t *tx) insertNode(ctx context.Context, n node.Node, key node.KeyHash) (node.Node, error) {
	clean(&n)
	tags, err := tagList(n.Tags)
	if err != nil {
		return n, err
	}
	if _, err := t.exec(ctx, `
		INSERT INTO node (id, host_identifier, hostname, platform, os, osquery_version, tags, secret,
			enrolments, enrolled_at, version, key_hash, old_key_hash, old_until, search, gone_at,
			instance, machine, certificate, clashes, last_clash, clash_reason, clone_of, quarantined_at, quarantine_reason)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, NULL, 0, $13, 0, $14, $15, $16, $17, $18, $19, $20, $21, $22)`,
		n.ID, n.HostIdentifier, n.Hostname, n.Platform, n.OS, n.OsqueryVersion, tags, n.Secret,
		n.Enrolments, micros(n.EnrolledAt), n.Version, bytesOf(key), searchText(n),
		n.Instance, n.Machine, n.Certificate, n.Clashes, micros(n.LastClash), n.ClashReason, n.CloneOf, micros(n.QuarantinedAt), n.QuarantineReason,
	); err != nil {
		return n, err
	}
	if err := t.setDetails(ctx, n, 0); err != nil {
		return n, err
	}
	return n, t.keepTags(ctx, []tagChange{{id: n.ID, has: n.TagSources}}, micros(n.EnrolledAt))
}

// enrolAgain keeps a node that was there as k. The key before works on for its
// grace, unless it was revoked.
func (t *tx) enrolAgain(ctx context.Context, k knownNode, n node.Node, e node.Enrolment) (node.Node, error) {
	clean(&n)
	tags, err := tagList(n.Tags)
	if err != nil {
		return n, err
	}
	if n.LastSeen.Before(k.LastSeen) {
		n.Address = k.Address // a clock that went back moves no presence
	}
	past := k.changes(n, micros(e.Now))
	since, err := k.document()
	if err != nil {
		return n, err
	}
	if _, err := t.exec(ctx, `
		UPDATE node SET hostname = $1, platform = $2, os = $3, osquery_version = $4, tags = $5, secret = $6,
			enrolments = $7, version = $8, search = $9, instance = $10, machine = $11, certificate = $12,
			clashes = $13, last_clash = $14, clash_reason = $15, clone_of = $16, quarantined_at = $17, quarantine_reason = $18, since = $19,
			old_key_hash = key_hash, old_until = CASE WHEN key_hash IS NULL THEN 0 ELSE CAST($20 AS BIGINT) END, key_hash = $21
		WHERE id = $22`,
		n.Hostname, n.Platform, n.OS, n.OsqueryVersion, tags, n.Secret,
		n.Enrolments, n.Version, searchText(n), n.Instance, n.Machine, n.Certificate,
		n.Clashes, micros(n.LastClash), n.ClashReason, n.CloneOf, micros(n.QuarantinedAt), n.QuarantineReason, since,
		micros(e.Now.Add(node.KeyGrace)), bytesOf(e.KeyHash), n.ID,
	); err != nil {
		return n, err
	}
	if err := t.setDetails(ctx, n, k.address); err != nil {
		return n, err
	}
	if err := t.supersede(ctx, past); err != nil {
		return n, err
	}
	return n, t.keepTags(ctx, []tagChange{{n.ID, k.TagSources, n.TagSources}}, micros(e.Now))
}

// bytesOf is how a key's hash is kept: NULL for the zero one, which is none.
func bytesOf(key node.KeyHash) []byte {
	if key == (node.KeyHash{}) {
		return nil
	}
	return key[:]
}

// searchText is what a node is found by, besides its address.
func searchText(n node.Node) string {
	return strings.ToLower(n.ID + "\n" + n.Hostname + "\n" + n.HostIdentifier)
}

// setDetails keeps what a node said at enrolment, and that it was there, at its
// address since a time.
func (t *tx) setDetails(ctx context.Context, n node.Node, since int64) error {
	if _, err := t.exec(ctx, `
		INSERT INTO node_detail (node_id, details) VALUES ($1, $2)
		ON CONFLICT (node_id) DO UPDATE SET details = excluded.details`, n.ID, string(appendDetails(nil, n.Details))); err != nil {
		return err
	}
	_, err := t.exec(ctx, `
		INSERT INTO presence (node_id, last_seen, online_until, seen, address, address_since) VALUES ($1, $2, $3, $4, $5, $6)
		ON CONFLICT (node_id) DO UPDATE SET last_seen = excluded.last_seen, online_until = excluded.online_until,
			seen = excluded.seen, address = excluded.address, address_since = excluded.address_since
		WHERE excluded.last_seen >= presence.last_seen`,
		n.ID, micros(n.LastSeen), onlineUntil(n.LastSeen, n.Patience), string(appendSeen(nil, n.Seen)), n.Address, since)
	return err
}

// appendDetails appends a JSON object. It sorts nothing, which is most of what
// encoding/json does for it.
func appendDetails(b []byte, details map[string]map[string]string) []byte {
	b = append(b, '{')
	for table, row := range details {
		b = append(appendEscaped(append(b, '"'), table), `":{`...)
		for column, v := range row {
			b = append(appendEscaped(append(b, '"'), column), `":"`...)
			b = append(appendEscaped(b, v), `",`...)
		}
		b = append(bytes.TrimSuffix(b, []byte{','}), `},`...)
	}
	return append(bytes.TrimSuffix(b, []byte{','}), '}')
}

// RecordClash implements [node.EnrolStore].
func (s *Store) RecordClash(ctx context.Context, id, reason string, at time.Time) error {
	err := s.tx(ctx, func(t *tx) error {
		version, err := t.next(ctx, counterNode, 1)
		if err != nil {
			return err
		}
		return t.clash(ctx, id, reason, at, version)
	})
	return fail("count a clash", err)
}

// clash counts a clash on a node, if it is there.
func (t *tx) clash(ctx context.Context, id, reason string, at time.Time, version int64) error {
	_, err := t.exec(ctx, `
		UPDATE node SET clashes = clashes + 1, last_clash = $1, clash_reason = $2, version = $3 WHERE id = $4 AND gone_at = 0`,
		micros(at), text(reason), version, text(id))
	return err
}
