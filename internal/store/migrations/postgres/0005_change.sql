-- +goose Up

-- The same tables as ../sqlite/0005_change.sql.

-- serving grows with whatever changes what agents are served, so that servers
-- learn of it with one look at one row; the others order writers.
INSERT INTO counter (name, value) VALUES ('change', 0), ('serving', 0), ('served', 0);

-- What resources say, as canonical JSON under its hash: once, however many
-- revisions have it. A row never changes.
CREATE TABLE object (
    hash TEXT COLLATE "C" PRIMARY KEY,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    body TEXT NOT NULL
);

-- objects is a JSON list of [kind, name, hash]. A row never changes.
CREATE TABLE revision (
    number     BIGINT PRIMARY KEY,
    hash       TEXT NOT NULL,
    parent     BIGINT NOT NULL,
    change_id  TEXT NOT NULL,
    author     TEXT NOT NULL,
    message    TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    restores   BIGINT NOT NULL,
    objects    TEXT NOT NULL
);

-- The columns of change and rollout are what is looked for; document has all.
CREATE TABLE change (
    number     BIGINT PRIMARY KEY,
    state      TEXT COLLATE "C" NOT NULL,
    author     TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    document   TEXT NOT NULL
);
CREATE INDEX change_state ON change (state, number);

CREATE TABLE rollout (
    revision BIGINT PRIMARY KEY,
    state    TEXT COLLATE "C" NOT NULL,
    document TEXT NOT NULL,
    version  BIGINT NOT NULL
);
-- At most one is open.
CREATE UNIQUE INDEX rollout_open ON rollout ((state <> '')) WHERE state IN ('running', 'paused');

-- version is the one of serving with which the value came.
CREATE TABLE setting (
    name    TEXT COLLATE "C" PRIMARY KEY,
    value   TEXT NOT NULL,
    version BIGINT NOT NULL
);

-- What each node was served last, and what before that.
CREATE TABLE served (
    node_id  TEXT COLLATE "C" PRIMARY KEY,
    revision BIGINT NOT NULL,
    hash     TEXT NOT NULL,
    first_at BIGINT NOT NULL,
    last_at  BIGINT NOT NULL
) WITH (fillfactor = 70);
CREATE TABLE served_past (
    node_id  TEXT COLLATE "C" NOT NULL,
    revision BIGINT NOT NULL,
    hash     TEXT COLLATE "C" NOT NULL,
    first_at BIGINT NOT NULL,
    last_at  BIGINT NOT NULL,
    PRIMARY KEY (node_id, first_at, revision, hash)
);
CREATE INDEX served_past_last_at ON served_past (last_at);

CREATE TABLE query_cost (
    name     TEXT COLLATE "C" NOT NULL,
    sql_hash TEXT COLLATE "C" NOT NULL,
    at       BIGINT NOT NULL,
    document TEXT NOT NULL,
    PRIMARY KEY (name, sql_hash)
);
CREATE INDEX query_cost_at ON query_cost (at);
