-- +goose Up

-- A second factor counts once confirmed_at is not 0. Its seed is sealed with the
-- server's key; step is of the last code that was used.
CREATE TABLE factor (
    id           TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    account_id   TEXT COLLATE "C" NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    name         TEXT NOT NULL,
    sealed       BYTEA NOT NULL,
    step         BIGINT NOT NULL,
    created_at   BIGINT NOT NULL,
    confirmed_at BIGINT NOT NULL,
    last_used    BIGINT NOT NULL
);
CREATE INDEX factor_account_id ON factor (account_id, created_at);

CREATE TABLE recovery_code (
    account_id TEXT COLLATE "C" NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    hash       BYTEA NOT NULL,
    PRIMARY KEY (account_id, hash)
);
