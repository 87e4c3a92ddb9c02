-- +goose Up

-- A second factor counts once confirmed_at is not 0. Its seed is sealed with the
-- server's key; step is of the last code that was used.
CREATE TABLE factor (
    id           TEXT NOT NULL PRIMARY KEY,
    account_id   TEXT NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    name         TEXT NOT NULL,
    sealed       BLOB NOT NULL,
    step         INTEGER NOT NULL,
    created_at   INTEGER NOT NULL,
    confirmed_at INTEGER NOT NULL,
    last_used    INTEGER NOT NULL
) STRICT;
CREATE INDEX factor_account_id ON factor (account_id, created_at);

CREATE TABLE recovery_code (
    account_id TEXT NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    hash       BLOB NOT NULL,
    PRIMARY KEY (account_id, hash)
) STRICT;
