-- +goose Up

-- Calls that their callers may send again: who sent which under a key of their own,
-- the hash of the input, and the first answer once there is one.
CREATE TABLE once (
    account TEXT COLLATE "C" NOT NULL,
    key     TEXT COLLATE "C" NOT NULL,
    hash    BYTEA NOT NULL,
    at      BIGINT NOT NULL,
    done    BIGINT NOT NULL,
    answer  BYTEA NOT NULL,
    PRIMARY KEY (account, key)
);
CREATE INDEX once_at ON once (at);
