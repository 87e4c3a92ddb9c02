-- +goose Up

ALTER TABLE account ADD COLUMN service BIGINT NOT NULL DEFAULT 0;

-- Scope is a JSON object, networks a JSON list of prefixes.
CREATE TABLE token (
    id         TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    account_id TEXT COLLATE "C" NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    name       TEXT COLLATE "C" NOT NULL,
    hash       BYTEA NOT NULL UNIQUE,
    scope      TEXT NOT NULL,
    networks   TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    created_by TEXT NOT NULL,
    expires_at BIGINT NOT NULL,
    revoked_at BIGINT NOT NULL,
    last_used  BIGINT NOT NULL,
    last_from  TEXT NOT NULL
);
CREATE INDEX token_account_id ON token (account_id, created_at);
