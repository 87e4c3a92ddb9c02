-- +goose Up

-- Links by which somebody chooses a password; one for a name. Roles is a JSON list.
CREATE TABLE invitation (
    id         TEXT NOT NULL PRIMARY KEY,
    name       TEXT NOT NULL UNIQUE,
    hash       BLOB NOT NULL UNIQUE,
    reset      INTEGER NOT NULL,
    roles      TEXT NOT NULL,
    created_by TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT;
