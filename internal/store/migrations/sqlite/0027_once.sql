-- +goose Up

-- Calls that their callers may send again: who sent which under a key of their own,
-- the hash of the input, and the first answer once there is one.
CREATE TABLE once (
    account TEXT NOT NULL,
    key     TEXT NOT NULL,
    hash    BLOB NOT NULL,
    at      INTEGER NOT NULL,
    done    INTEGER NOT NULL,
    answer  BLOB NOT NULL,
    PRIMARY KEY (account, key)
) STRICT;
CREATE INDEX once_at ON once (at);
