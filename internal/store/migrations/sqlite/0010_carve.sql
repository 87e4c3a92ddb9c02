-- +goose Up

-- The same tables as ../postgres/0010_carve.sql.

-- Files that nodes were asked for. The columns are what is looked for; document
-- has all. Times are microseconds since 1970, 0 for none.
CREATE TABLE carve (
    id         TEXT NOT NULL PRIMARY KEY,
    node_id    TEXT NOT NULL,
    state      TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    kept_until INTEGER NOT NULL,
    settled    INTEGER NOT NULL,
    document   TEXT NOT NULL
) STRICT;
CREATE INDEX carve_created_at ON carve (created_at, id);
CREATE INDEX carve_node_id ON carve (node_id, created_at, id);
CREATE INDEX carve_kept_until ON carve (kept_until) WHERE kept_until > 0;
CREATE INDEX carve_unsettled ON carve (id) WHERE settled = 0;

-- What nodes sent, or are to send. bytes is the room that it takes sealed, 0 if
-- it takes none.
CREATE TABLE carve_archive (
    id       TEXT NOT NULL PRIMARY KEY,
    carve_id TEXT NOT NULL,
    node_id  TEXT NOT NULL,
    guid     TEXT NOT NULL,
    state    TEXT NOT NULL,
    bytes    INTEGER NOT NULL
) STRICT;
CREATE INDEX carve_archive_carve_id ON carve_archive (carve_id);
CREATE INDEX carve_archive_guid ON carve_archive (guid);

-- The files of an archive as JSON: apart, as they are rarely read.
CREATE TABLE carve_listing (
    archive_id TEXT NOT NULL PRIMARY KEY,
    carve_id   TEXT NOT NULL,
    files      TEXT NOT NULL
) STRICT;
CREATE INDEX carve_listing_carve_id ON carve_listing (carve_id);
