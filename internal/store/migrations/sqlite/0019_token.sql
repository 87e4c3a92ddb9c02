-- +goose Up

ALTER TABLE account ADD COLUMN service INTEGER NOT NULL DEFAULT 0;

-- Scope is a JSON object, networks a JSON list of prefixes.
CREATE TABLE token (
    id         TEXT NOT NULL PRIMARY KEY,
    account_id TEXT NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    name       TEXT NOT NULL,
    hash       BLOB NOT NULL UNIQUE,
    scope      TEXT NOT NULL,
    networks   TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    created_by TEXT NOT NULL,
    expires_at INTEGER NOT NULL,
    revoked_at INTEGER NOT NULL,
    last_used  INTEGER NOT NULL,
    last_from  TEXT NOT NULL
) STRICT;
CREATE INDEX token_account_id ON token (account_id, created_at);
