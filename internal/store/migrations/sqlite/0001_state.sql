-- +goose Up

-- The same tables as ../postgres/0001_state.sql. Differs because SQLite has
-- BLOB for bytes and INTEGER for all whole numbers, checks types only in STRICT
-- tables, and keeps a small table in its key's tree with WITHOUT ROWID.
-- Times are microseconds since 1970 in UTC; 0 is none.

-- Counters that only grow. Adding to one locks its row until the transaction
-- ends, so what is numbered by it becomes visible in the order of its numbers.
CREATE TABLE counter (
    name  TEXT NOT NULL PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO counter (name, value) VALUES ('node', 0), ('live', 0), ('audit', 0), ('account', 0);

CREATE TABLE secret (
    name       TEXT NOT NULL PRIMARY KEY,
    hash       BLOB NOT NULL UNIQUE,
    tags       TEXT NOT NULL,
    max_uses   INTEGER NOT NULL,
    uses       INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    created_by TEXT NOT NULL,
    expires_at INTEGER NOT NULL,
    revoked_at INTEGER NOT NULL,
    last_used  INTEGER NOT NULL
) STRICT;

-- A deleted node stays, with gone_at, so that its events keep a name.
CREATE TABLE node (
    id              TEXT NOT NULL PRIMARY KEY,
    host_identifier TEXT NOT NULL,
    hostname        TEXT NOT NULL,
    platform        TEXT NOT NULL,
    os              TEXT NOT NULL,
    osquery_version TEXT NOT NULL,
    tags            TEXT NOT NULL,
    secret          TEXT NOT NULL,
    enrolments      INTEGER NOT NULL,
    enrolled_at     INTEGER NOT NULL,
    version         INTEGER NOT NULL,
    key_hash        BLOB,
    old_key_hash    BLOB,
    old_until       INTEGER NOT NULL,
    search          TEXT NOT NULL,
    gone_at         INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX node_host_identifier ON node (host_identifier) WHERE gone_at = 0;
CREATE INDEX node_version ON node (version);
CREATE INDEX node_by_hostname ON node (lower(hostname), id) WHERE gone_at = 0;
CREATE INDEX node_by_platform ON node (platform, id) WHERE gone_at = 0;
CREATE INDEX node_by_os ON node (os, id) WHERE gone_at = 0;
CREATE INDEX node_by_osquery_version ON node (osquery_version, id) WHERE gone_at = 0;
CREATE INDEX node_by_enrolled_at ON node (enrolled_at, id) WHERE gone_at = 0;

CREATE TABLE node_detail (
    node_id TEXT NOT NULL PRIMARY KEY REFERENCES node (id),
    details TEXT NOT NULL
) STRICT;

-- The tags of nodes that are not gone, to filter and count by.
CREATE TABLE node_tag (
    tag     TEXT NOT NULL,
    node_id TEXT NOT NULL REFERENCES node (id),
    PRIMARY KEY (tag, node_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX node_tag_node_id ON node_tag (node_id);

-- When and from where nodes were heard of. Apart from node because every node
-- is written here every few seconds, and there each write would go to all of
-- the indexes.
CREATE TABLE presence (
    node_id   TEXT NOT NULL PRIMARY KEY REFERENCES node (id),
    last_seen INTEGER NOT NULL,
    address   TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX presence_last_seen ON presence (last_seen, node_id);

CREATE TABLE live (
    id         TEXT NOT NULL PRIMARY KEY,
    sql        TEXT NOT NULL,
    selector   TEXT NOT NULL,
    phase      TEXT NOT NULL,
    created_by TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    ended_at   INTEGER NOT NULL,
    counts     TEXT NOT NULL,
    row_count  INTEGER NOT NULL
) STRICT;
CREATE INDEX live_created_at ON live (created_at, id);
CREATE INDEX live_running ON live (id) WHERE phase = 'running';

CREATE TABLE live_target (
    live_id         TEXT NOT NULL REFERENCES live (id) ON DELETE CASCADE,
    node_id         TEXT NOT NULL,
    host_identifier TEXT NOT NULL,
    hostname        TEXT NOT NULL,
    state           TEXT NOT NULL,
    attempts        INTEGER NOT NULL,
    sent_at         INTEGER NOT NULL,
    answered_at     INTEGER NOT NULL,
    seq             INTEGER NOT NULL,
    message         TEXT NOT NULL,
    wall_time_ms    INTEGER NOT NULL,
    user_time       INTEGER NOT NULL,
    system_time     INTEGER NOT NULL,
    memory          INTEGER NOT NULL,
    PRIMARY KEY (live_id, node_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX live_target_seq ON live_target (live_id, seq, node_id);

-- The rows of an answer: a JSON array of objects, as text, its columns in
-- the order that the node sent.
CREATE TABLE live_rows (
    live_id TEXT NOT NULL,
    node_id TEXT NOT NULL,
    data    TEXT NOT NULL,
    PRIMARY KEY (live_id, node_id),
    FOREIGN KEY (live_id, node_id) REFERENCES live_target (live_id, node_id) ON DELETE CASCADE
) STRICT;

CREATE TABLE account (
    id            TEXT NOT NULL PRIMARY KEY,
    name          TEXT NOT NULL UNIQUE,
    password_hash TEXT NOT NULL,
    created_at    INTEGER NOT NULL
) STRICT;

CREATE TABLE session (
    hash       BLOB NOT NULL PRIMARY KEY,
    account_id TEXT NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    kind       TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX session_account_id ON session (account_id);
CREATE INDEX session_expires_at ON session (expires_at);

CREATE TABLE audit (
    seq    INTEGER PRIMARY KEY,
    time   INTEGER NOT NULL,
    actor  TEXT NOT NULL,
    action TEXT NOT NULL,
    target TEXT NOT NULL,
    detail TEXT NOT NULL,
    prev   TEXT NOT NULL,
    hash   TEXT NOT NULL
) STRICT;
