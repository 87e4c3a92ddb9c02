-- +goose Up

-- The same tables as ../sqlite/0010_carve.sql.

-- Files that nodes were asked for. The columns are what is looked for; document
-- has all. Times are microseconds since 1970, 0 for none.
CREATE TABLE carve (
    id         TEXT COLLATE "C" PRIMARY KEY,
    node_id    TEXT COLLATE "C" NOT NULL,
    state      TEXT COLLATE "C" NOT NULL,
    created_at BIGINT NOT NULL,
    kept_until BIGINT NOT NULL,
    settled    BIGINT NOT NULL,
    document   TEXT NOT NULL
);
CREATE INDEX carve_created_at ON carve (created_at, id);
CREATE INDEX carve_node_id ON carve (node_id, created_at, id);
CREATE INDEX carve_kept_until ON carve (kept_until) WHERE kept_until > 0;
CREATE INDEX carve_unsettled ON carve (id) WHERE settled = 0;

-- What nodes sent, or are to send. bytes is the room that it takes sealed, 0 if
-- it takes none.
CREATE TABLE carve_archive (
    id       TEXT COLLATE "C" PRIMARY KEY,
    carve_id TEXT COLLATE "C" NOT NULL,
    node_id  TEXT COLLATE "C" NOT NULL,
    guid     TEXT COLLATE "C" NOT NULL,
    state    TEXT COLLATE "C" NOT NULL,
    bytes    BIGINT NOT NULL
);
CREATE INDEX carve_archive_carve_id ON carve_archive (carve_id);
CREATE INDEX carve_archive_guid ON carve_archive (guid);

-- The files of an archive as JSON: apart, as they are rarely read.
CREATE TABLE carve_listing (
    archive_id TEXT COLLATE "C" PRIMARY KEY,
    carve_id   TEXT COLLATE "C" NOT NULL,
    files      TEXT NOT NULL
);
CREATE INDEX carve_listing_carve_id ON carve_listing (carve_id);
