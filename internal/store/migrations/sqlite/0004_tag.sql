-- +goose Up

-- The same tables as ../postgres/0004_tag.sql.

-- What gives nodes their tags: 'hand', 'secret:' with a name, 'rule:' with a
-- name, 'query:' with a name. until is 0 as long as it does, else the time when
-- it ended, and the row is history. What holds comes first in the key. The tags
-- of a node, in node and node_tag, are those that anything gives it.
CREATE TABLE node_tag_source (
    node_id TEXT NOT NULL REFERENCES node (id),
    tag     TEXT NOT NULL,
    source  TEXT NOT NULL,
    since   INTEGER NOT NULL,
    until   INTEGER NOT NULL,
    PRIMARY KEY (node_id, until, tag, source, since)
) STRICT, WITHOUT ROWID;
CREATE INDEX node_tag_source_until ON node_tag_source (until) WHERE until <> 0;

-- Of the tags that are there, the secret that a node used last gave those that it
-- confers; which of the others an agent chose, nobody knows. Tags have no
-- letters that JSON writes otherwise.
INSERT INTO node_tag_source (node_id, tag, source, since, until)
SELECT t.node_id, t.tag, CASE WHEN EXISTS (
    SELECT 1 FROM secret s WHERE s.name = n.secret AND replace(s.tags, '"' || t.tag || '"', '') <> s.tags
) THEN 'secret:' || n.secret ELSE 'hand' END, n.enrolled_at, 0
FROM node_tag t JOIN node n ON n.id = t.node_id;
