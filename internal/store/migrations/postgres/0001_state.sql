-- +goose Up

-- The same tables as ../sqlite/0001_state.sql. Differs because PostgreSQL
-- orders text by the database's language: COLLATE "C" orders it by its bytes,
-- as SQLite and Go do, or a page's cursor would skip rows.
-- Times are microseconds since 1970 in UTC; 0 is none.

-- Counters that only grow. Adding to one locks its row until the transaction
-- ends, so what is numbered by it becomes visible in the order of its numbers.
CREATE TABLE counter (
    name  TEXT COLLATE "C" PRIMARY KEY,
    value BIGINT NOT NULL
);
INSERT INTO counter (name, value) VALUES ('node', 0), ('live', 0), ('audit', 0), ('account', 0);

CREATE TABLE secret (
    name       TEXT COLLATE "C" PRIMARY KEY,
    hash       BYTEA NOT NULL UNIQUE,
    tags       TEXT NOT NULL,
    max_uses   BIGINT NOT NULL,
    uses       BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    created_by TEXT NOT NULL,
    expires_at BIGINT NOT NULL,
    revoked_at BIGINT NOT NULL,
    last_used  BIGINT NOT NULL
);

-- A deleted node stays, with gone_at, so that its events keep a name.
CREATE TABLE node (
    id              TEXT COLLATE "C" PRIMARY KEY,
    host_identifier TEXT COLLATE "C" NOT NULL,
    hostname        TEXT COLLATE "C" NOT NULL,
    platform        TEXT COLLATE "C" NOT NULL,
    os              TEXT COLLATE "C" NOT NULL,
    osquery_version TEXT COLLATE "C" NOT NULL,
    tags            TEXT NOT NULL,
    secret          TEXT NOT NULL,
    enrolments      BIGINT NOT NULL,
    enrolled_at     BIGINT NOT NULL,
    version         BIGINT NOT NULL,
    key_hash        BYTEA,
    old_key_hash    BYTEA,
    old_until       BIGINT NOT NULL,
    search          TEXT NOT NULL,
    gone_at         BIGINT NOT NULL
);
CREATE UNIQUE INDEX node_host_identifier ON node (host_identifier) WHERE gone_at = 0;
CREATE INDEX node_version ON node (version);
CREATE INDEX node_by_hostname ON node (lower(hostname), id) WHERE gone_at = 0;
CREATE INDEX node_by_platform ON node (platform, id) WHERE gone_at = 0;
CREATE INDEX node_by_os ON node (os, id) WHERE gone_at = 0;
CREATE INDEX node_by_osquery_version ON node (osquery_version, id) WHERE gone_at = 0;
CREATE INDEX node_by_enrolled_at ON node (enrolled_at, id) WHERE gone_at = 0;

CREATE TABLE node_detail (
    node_id TEXT COLLATE "C" PRIMARY KEY REFERENCES node (id),
    details TEXT NOT NULL
);

-- The tags of nodes that are not gone, to filter and count by.
CREATE TABLE node_tag (
    tag     TEXT COLLATE "C" NOT NULL,
    node_id TEXT COLLATE "C" NOT NULL REFERENCES node (id),
    PRIMARY KEY (tag, node_id)
);
CREATE INDEX node_tag_node_id ON node_tag (node_id);

-- When and from where nodes were heard of. Apart from node because every node
-- is written here every few seconds, and there each write would go to all of
-- the indexes.
CREATE TABLE presence (
    node_id   TEXT COLLATE "C" PRIMARY KEY REFERENCES node (id),
    last_seen BIGINT NOT NULL,
    address   TEXT COLLATE "C" NOT NULL
) WITH (fillfactor = 70);
CREATE INDEX presence_last_seen ON presence (last_seen, node_id);

CREATE TABLE live (
    id         TEXT COLLATE "C" PRIMARY KEY,
    sql        TEXT NOT NULL,
    selector   TEXT NOT NULL,
    phase      TEXT NOT NULL,
    created_by TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    ended_at   BIGINT NOT NULL,
    counts     TEXT NOT NULL,
    row_count  BIGINT NOT NULL
);
CREATE INDEX live_created_at ON live (created_at, id);
CREATE INDEX live_running ON live (id) WHERE phase = 'running';

CREATE TABLE live_target (
    live_id         TEXT COLLATE "C" NOT NULL REFERENCES live (id) ON DELETE CASCADE,
    node_id         TEXT COLLATE "C" NOT NULL,
    host_identifier TEXT NOT NULL,
    hostname        TEXT NOT NULL,
    state           TEXT NOT NULL,
    attempts        BIGINT NOT NULL,
    sent_at         BIGINT NOT NULL,
    answered_at     BIGINT NOT NULL,
    seq             BIGINT NOT NULL,
    message         TEXT NOT NULL,
    wall_time_ms    BIGINT NOT NULL,
    user_time       BIGINT NOT NULL,
    system_time     BIGINT NOT NULL,
    memory          BIGINT NOT NULL,
    PRIMARY KEY (live_id, node_id)
);
CREATE INDEX live_target_seq ON live_target (live_id, seq, node_id);

-- The rows of an answer: a JSON array of objects, as text. jsonb would lose
-- the order of the columns and refuse \u0000.
CREATE TABLE live_rows (
    live_id TEXT COLLATE "C" NOT NULL,
    node_id TEXT COLLATE "C" NOT NULL,
    data    TEXT NOT NULL,
    PRIMARY KEY (live_id, node_id),
    FOREIGN KEY (live_id, node_id) REFERENCES live_target (live_id, node_id) ON DELETE CASCADE
);

CREATE TABLE account (
    id            TEXT COLLATE "C" PRIMARY KEY,
    name          TEXT COLLATE "C" NOT NULL UNIQUE,
    password_hash TEXT NOT NULL,
    created_at    BIGINT NOT NULL
);

CREATE TABLE session (
    hash       BYTEA PRIMARY KEY,
    account_id TEXT COLLATE "C" NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    kind       TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);
CREATE INDEX session_account_id ON session (account_id);
CREATE INDEX session_expires_at ON session (expires_at);

CREATE TABLE audit (
    seq    BIGINT PRIMARY KEY,
    time   BIGINT NOT NULL,
    actor  TEXT NOT NULL,
    action TEXT NOT NULL,
    target TEXT NOT NULL,
    detail TEXT NOT NULL,
    prev   TEXT NOT NULL,
    hash   TEXT NOT NULL
);
