-- +goose Up

-- The same tables as ../postgres/0003_audit.sql.

-- version says which columns the entry's hash covers: those that are there
-- already have none of the new ones.
ALTER TABLE audit ADD COLUMN version INTEGER NOT NULL DEFAULT 1;
ALTER TABLE audit ADD COLUMN session TEXT NOT NULL DEFAULT '';
ALTER TABLE audit ADD COLUMN address TEXT NOT NULL DEFAULT '';
ALTER TABLE audit ADD COLUMN outcome TEXT NOT NULL DEFAULT 'done';
ALTER TABLE audit ADD COLUMN object TEXT NOT NULL DEFAULT '';
ALTER TABLE audit ADD COLUMN content_hash TEXT NOT NULL DEFAULT '';
ALTER TABLE audit ADD COLUMN reason TEXT NOT NULL DEFAULT '';
ALTER TABLE audit ADD COLUMN approvals TEXT NOT NULL DEFAULT '[]';
CREATE INDEX audit_actor ON audit (actor, seq);
CREATE INDEX audit_target ON audit (target, seq);

-- The hashes of the log's tree (RFC 6962), base64, numbered as package tlog
-- does. They are made of the entries: of those that are there, at the next start.
CREATE TABLE audit_hash (
    id   INTEGER NOT NULL PRIMARY KEY,
    hash TEXT NOT NULL
) STRICT;
