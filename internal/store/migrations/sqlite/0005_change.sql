-- +goose Up

-- The same tables as ../postgres/0005_change.sql.

-- serving grows with whatever changes what agents are served, so that servers
-- learn of it with one look at one row; the others order writers.
INSERT INTO counter (name, value) VALUES ('change', 0), ('serving', 0), ('served', 0);

-- What resources say, as canonical JSON under its hash: once, however many
-- revisions have it. A row never changes.
CREATE TABLE object (
    hash TEXT NOT NULL PRIMARY KEY,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    body TEXT NOT NULL
) STRICT;

-- objects is a JSON list of [kind, name, hash]. A row never changes.
CREATE TABLE revision (
    number     INTEGER NOT NULL PRIMARY KEY,
    hash       TEXT NOT NULL,
    parent     INTEGER NOT NULL,
    change_id  TEXT NOT NULL,
    author     TEXT NOT NULL,
    message    TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    restores   INTEGER NOT NULL,
    objects    TEXT NOT NULL
) STRICT;

-- The columns of change and rollout are what is looked for; document has all.
CREATE TABLE change (
    number     INTEGER NOT NULL PRIMARY KEY,
    state      TEXT NOT NULL,
    author     TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    document   TEXT NOT NULL
) STRICT;
CREATE INDEX change_state ON change (state, number);

CREATE TABLE rollout (
    revision INTEGER NOT NULL PRIMARY KEY,
    state    TEXT NOT NULL,
    document TEXT NOT NULL,
    version  INTEGER NOT NULL
) STRICT;
-- At most one is open.
CREATE UNIQUE INDEX rollout_open ON rollout ((state <> '')) WHERE state IN ('running', 'paused');

-- version is the one of serving with which the value came.
CREATE TABLE setting (
    name    TEXT NOT NULL PRIMARY KEY,
    value   TEXT NOT NULL,
    version INTEGER NOT NULL
) STRICT;

-- What each node was served last, and what before that.
CREATE TABLE served (
    node_id  TEXT NOT NULL PRIMARY KEY,
    revision INTEGER NOT NULL,
    hash     TEXT NOT NULL,
    first_at INTEGER NOT NULL,
    last_at  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE served_past (
    node_id  TEXT NOT NULL,
    revision INTEGER NOT NULL,
    hash     TEXT NOT NULL,
    first_at INTEGER NOT NULL,
    last_at  INTEGER NOT NULL,
    PRIMARY KEY (node_id, first_at, revision, hash)
) STRICT, WITHOUT ROWID;
CREATE INDEX served_past_last_at ON served_past (last_at);

CREATE TABLE query_cost (
    name     TEXT NOT NULL,
    sql_hash TEXT NOT NULL,
    at       INTEGER NOT NULL,
    document TEXT NOT NULL,
    PRIMARY KEY (name, sql_hash)
) STRICT, WITHOUT ROWID;
CREATE INDEX query_cost_at ON query_cost (at);
