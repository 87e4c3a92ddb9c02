-- +goose Up

-- The same tables as ../postgres/0013_alert.sql.

INSERT INTO counter (name, value) VALUES ('alert', 0);

-- severity is its rank. is_current is 0 when a later alert has the rule and key.
-- A firing that is counted changes no column that an index has, but resolve_at of
-- rules that say it.
CREATE TABLE alert (
    id              TEXT NOT NULL PRIMARY KEY,
    rule            TEXT NOT NULL,
    alert_key       TEXT NOT NULL,
    is_current       INTEGER NOT NULL,
    state           TEXT NOT NULL,
    severity        INTEGER NOT NULL,
    title           TEXT NOT NULL,
    body            TEXT NOT NULL,
    labels          TEXT NOT NULL,
    node_id         TEXT NOT NULL,
    host_identifier TEXT NOT NULL,
    query           TEXT NOT NULL,
    notifiers       TEXT NOT NULL,
    firings         INTEGER NOT NULL,
    episodes        INTEGER NOT NULL,
    entries         INTEGER NOT NULL,
    first_at        INTEGER NOT NULL,
    opened_at       INTEGER NOT NULL,
    last_at         INTEGER NOT NULL,
    resolved_at     INTEGER NOT NULL,
    resolve_at      INTEGER NOT NULL,
    acknowledged_by TEXT NOT NULL,
    acknowledged_at INTEGER NOT NULL,
    resolved_by     TEXT NOT NULL,
    assignee        TEXT NOT NULL,
    event           TEXT NOT NULL,
    event_at        INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX alert_current ON alert (rule, alert_key) WHERE is_current = 1;
CREATE INDEX alert_opened ON alert (opened_at, id);
CREATE INDEX alert_state ON alert (state, opened_at, id);
CREATE INDEX alert_rule ON alert (rule, opened_at, id);
CREATE INDEX alert_node ON alert (node_id, opened_at, id) WHERE node_id <> '';
CREATE INDEX alert_resolve ON alert (resolve_at) WHERE resolve_at > 0;
CREATE INDEX alert_resolved ON alert (resolved_at) WHERE resolved_at > 0;

-- The newest firings: slot is the number of the firing modulo how many are kept.
CREATE TABLE alert_sample (
    alert_id   TEXT NOT NULL,
    slot       INTEGER NOT NULL,
    number     INTEGER NOT NULL,
    at         INTEGER NOT NULL,
    event      TEXT NOT NULL,
    event_time INTEGER NOT NULL,
    title      TEXT NOT NULL,
    columns    TEXT NOT NULL,
    PRIMARY KEY (alert_id, slot)
) STRICT, WITHOUT ROWID;

CREATE TABLE alert_entry (
    seq      INTEGER NOT NULL PRIMARY KEY,
    alert_id TEXT NOT NULL,
    at       INTEGER NOT NULL,
    actor    TEXT NOT NULL,
    action   TEXT NOT NULL,
    detail   TEXT NOT NULL
) STRICT;
CREATE INDEX alert_entry_alert ON alert_entry (alert_id, seq);

CREATE TABLE alert_flood (
    rule       TEXT NOT NULL PRIMARY KEY,
    since      INTEGER NOT NULL,
    opened     INTEGER NOT NULL,
    suppressed INTEGER NOT NULL,
    event      TEXT NOT NULL,
    event_at   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE silence (
    id         TEXT NOT NULL PRIMARY KEY,
    conditions TEXT NOT NULL,
    comment    TEXT NOT NULL,
    created_by TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    starts_at  INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    ended_by   TEXT NOT NULL
) STRICT;
CREATE INDEX silence_expires ON silence (expires_at);
