-- +goose Up
-- Tokens of triggers. hash is keyed; the token itself is nowhere.
CREATE TABLE trigger_token (
    name       TEXT PRIMARY KEY,
    hash       BYTEA NOT NULL UNIQUE,
    created_at BIGINT NOT NULL,
    created_by TEXT NOT NULL,
    last_used  BIGINT NOT NULL DEFAULT 0
);

-- What triggers started: for their limits, for what is the same again, and for how
-- long answers took.
CREATE TABLE trigger_firing (
    live_id     TEXT PRIMARY KEY,
    name        TEXT NOT NULL,
    node_id     TEXT NOT NULL,
    dedup       TEXT NOT NULL,
    received_at BIGINT NOT NULL
);
CREATE INDEX trigger_firing_name ON trigger_firing (name, received_at);
CREATE INDEX trigger_firing_received ON trigger_firing (received_at);

-- Since when an EnrollmentQuery is served.
CREATE TABLE enrollment (
    live_id TEXT PRIMARY KEY,
    name    TEXT NOT NULL,
    since   BIGINT NOT NULL
);
