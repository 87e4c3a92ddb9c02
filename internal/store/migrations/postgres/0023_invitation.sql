-- +goose Up

-- Links by which somebody chooses a password; one for a name. Roles is a JSON list.
CREATE TABLE invitation (
    id         TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    name       TEXT COLLATE "C" NOT NULL UNIQUE,
    hash       BYTEA NOT NULL UNIQUE,
    reset      BIGINT NOT NULL,
    roles      TEXT NOT NULL,
    created_by TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);
