-- +goose Up

-- The same tables as ../postgres/0002_identity.sql.

ALTER TABLE secret ADD COLUMN cidrs TEXT NOT NULL DEFAULT '[]';
ALTER TABLE secret ADD COLUMN agent_tags TEXT NOT NULL DEFAULT '[]';
ALTER TABLE secret ADD COLUMN old_hash BLOB;
ALTER TABLE secret ADD COLUMN old_until INTEGER NOT NULL DEFAULT 0;
CREATE UNIQUE INDEX secret_old_hash ON secret (old_hash);
INSERT INTO counter (name, value) VALUES ('secret', 0);

-- since has, by attribute, when its value was seen first, if not when the node
-- enrolled first.
ALTER TABLE node ADD COLUMN instance TEXT NOT NULL DEFAULT '';
ALTER TABLE node ADD COLUMN machine TEXT NOT NULL DEFAULT '';
ALTER TABLE node ADD COLUMN certificate TEXT NOT NULL DEFAULT '';
ALTER TABLE node ADD COLUMN clashes INTEGER NOT NULL DEFAULT 0;
ALTER TABLE node ADD COLUMN last_clash INTEGER NOT NULL DEFAULT 0;
ALTER TABLE node ADD COLUMN clash_reason TEXT NOT NULL DEFAULT '';
ALTER TABLE node ADD COLUMN clone_of TEXT NOT NULL DEFAULT '';
ALTER TABLE node ADD COLUMN quarantined_at INTEGER NOT NULL DEFAULT 0;
ALTER TABLE node ADD COLUMN quarantine_reason TEXT NOT NULL DEFAULT '';
ALTER TABLE node ADD COLUMN since TEXT NOT NULL DEFAULT '{}';

-- A host identifier has one node, and any number of clones of it.
DROP INDEX node_host_identifier;
CREATE UNIQUE INDEX node_host_identifier ON node (host_identifier, (CASE WHEN clone_of = '' THEN '' ELSE id END)) WHERE gone_at = 0;
CREATE INDEX node_quarantined ON node (id) WHERE gone_at = 0 AND quarantined_at <> 0;
CREATE INDEX node_last_clash ON node (last_clash) WHERE gone_at = 0 AND last_clash <> 0;
CREATE INDEX node_gone_at ON node (gone_at, id) WHERE gone_at <> 0;

-- seen is a JSON array: by endpoint, how long before last_seen it was used last,
-- or -1 for never; online_until is last_seen and the node's
-- patience. One index for order and status, as each index is written
-- with each touch: who is online is among those seen last.
ALTER TABLE presence ADD COLUMN online_until INTEGER NOT NULL DEFAULT 0;
ALTER TABLE presence ADD COLUMN seen TEXT NOT NULL DEFAULT '';
ALTER TABLE presence ADD COLUMN address_since INTEGER NOT NULL DEFAULT 0;
UPDATE presence SET online_until = last_seen + 90000000 WHERE last_seen <> 0;
DROP INDEX presence_last_seen;
CREATE INDEX presence_last_seen ON presence (last_seen, node_id, online_until);

-- Values that a node had, from when it was first seen with one to when another
-- came instead; last_seen is when it was last heard of with it.
CREATE TABLE node_history (
    node_id       TEXT NOT NULL REFERENCES node (id),
    attribute     TEXT NOT NULL,
    value         TEXT NOT NULL,
    first_seen    INTEGER NOT NULL,
    last_seen     INTEGER NOT NULL,
    superseded_at INTEGER NOT NULL,
    PRIMARY KEY (node_id, attribute, value, first_seen)
) STRICT, WITHOUT ROWID;
CREATE INDEX node_history_value ON node_history (attribute, value, superseded_at);
CREATE INDEX node_history_superseded_at ON node_history (superseded_at);

-- What the decorators of nodes that are not gone say.
CREATE TABLE node_attribute (
    node_id   TEXT NOT NULL REFERENCES node (id),
    attribute TEXT NOT NULL,
    value     TEXT NOT NULL,
    since     INTEGER NOT NULL,
    PRIMARY KEY (node_id, attribute)
) STRICT, WITHOUT ROWID;
CREATE INDEX node_attribute_value ON node_attribute (attribute, value);
