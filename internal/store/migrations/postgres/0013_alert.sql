-- +goose Up

-- The same tables as ../sqlite/0013_alert.sql.

INSERT INTO counter (name, value) VALUES ('alert', 0);

-- severity is its rank. is_current is 0 when a later alert has the rule and key.
-- A firing that is counted changes no column that an index has, but resolve_at of
-- rules that say it.
CREATE TABLE alert (
    id              TEXT COLLATE "C" PRIMARY KEY,
    rule            TEXT COLLATE "C" NOT NULL,
    alert_key       TEXT COLLATE "C" NOT NULL,
    is_current       BIGINT NOT NULL,
    state           TEXT COLLATE "C" NOT NULL,
    severity        BIGINT NOT NULL,
    title           TEXT NOT NULL,
    body            TEXT NOT NULL,
    labels          TEXT NOT NULL,
    node_id         TEXT COLLATE "C" NOT NULL,
    host_identifier TEXT NOT NULL,
    query           TEXT NOT NULL,
    notifiers       TEXT NOT NULL,
    firings         BIGINT NOT NULL,
    episodes        BIGINT NOT NULL,
    entries         BIGINT NOT NULL,
    first_at        BIGINT NOT NULL,
    opened_at       BIGINT NOT NULL,
    last_at         BIGINT NOT NULL,
    resolved_at     BIGINT NOT NULL,
    resolve_at      BIGINT NOT NULL,
    acknowledged_by TEXT NOT NULL,
    acknowledged_at BIGINT NOT NULL,
    resolved_by     TEXT NOT NULL,
    assignee        TEXT NOT NULL,
    event           TEXT NOT NULL,
    event_at        BIGINT NOT NULL
);
CREATE UNIQUE INDEX alert_current ON alert (rule, alert_key) WHERE is_current = 1;
CREATE INDEX alert_opened ON alert (opened_at, id);
CREATE INDEX alert_state ON alert (state, opened_at, id);
CREATE INDEX alert_rule ON alert (rule, opened_at, id);
CREATE INDEX alert_node ON alert (node_id, opened_at, id) WHERE node_id <> '';
CREATE INDEX alert_resolve ON alert (resolve_at) WHERE resolve_at > 0;
CREATE INDEX alert_resolved ON alert (resolved_at) WHERE resolved_at > 0;

-- The newest firings: slot is the number of the firing modulo how many are kept.
CREATE TABLE alert_sample (
    alert_id   TEXT COLLATE "C" NOT NULL,
    slot       BIGINT NOT NULL,
    number     BIGINT NOT NULL,
    at         BIGINT NOT NULL,
    event      TEXT NOT NULL,
    event_time BIGINT NOT NULL,
    title      TEXT NOT NULL,
    columns    TEXT NOT NULL,
    PRIMARY KEY (alert_id, slot)
);

CREATE TABLE alert_entry (
    seq      BIGINT PRIMARY KEY,
    alert_id TEXT COLLATE "C" NOT NULL,
    at       BIGINT NOT NULL,
    actor    TEXT NOT NULL,
    action   TEXT NOT NULL,
    detail   TEXT NOT NULL
);
CREATE INDEX alert_entry_alert ON alert_entry (alert_id, seq);

CREATE TABLE alert_flood (
    rule       TEXT COLLATE "C" PRIMARY KEY,
    since      BIGINT NOT NULL,
    opened     BIGINT NOT NULL,
    suppressed BIGINT NOT NULL,
    event      TEXT NOT NULL,
    event_at   BIGINT NOT NULL
);

CREATE TABLE silence (
    id         TEXT COLLATE "C" PRIMARY KEY,
    conditions TEXT NOT NULL,
    comment    TEXT NOT NULL,
    created_by TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    starts_at  BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    ended_by   TEXT NOT NULL
);
CREATE INDEX silence_expires ON silence (expires_at);
