-- +goose Up
-- Queries that people keep for all.
CREATE TABLE saved_query (
    name        TEXT NOT NULL PRIMARY KEY,
    description TEXT NOT NULL,
    sql         TEXT NOT NULL,
    selector    TEXT NOT NULL,
    created_by  TEXT NOT NULL,
    created_at  INTEGER NOT NULL,
    updated_by  TEXT NOT NULL,
    updated_at  INTEGER NOT NULL
) STRICT;
INSERT INTO counter (name, value) VALUES ('saved_query', 0);
