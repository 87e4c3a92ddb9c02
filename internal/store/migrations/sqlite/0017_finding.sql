-- +goose Up

-- What was found about nodes. A finding is open while closed_at is 0; those that
-- events do not tell of yet, as they are, have told 0.
CREATE TABLE finding (
    node_id   TEXT NOT NULL,
    kind      TEXT NOT NULL,
    subject   TEXT NOT NULL,
    opened_at INTEGER NOT NULL,
    severity  TEXT NOT NULL,
    text      TEXT NOT NULL,
    last_at   INTEGER NOT NULL,
    count     INTEGER NOT NULL,
    until_at  INTEGER NOT NULL,
    closed_at INTEGER NOT NULL,
    told      INTEGER NOT NULL,
    PRIMARY KEY (node_id, kind, subject, opened_at)
) STRICT;
CREATE INDEX finding_open ON finding (opened_at, node_id) WHERE closed_at = 0;
CREATE INDEX finding_untold ON finding (opened_at) WHERE told = 0;
CREATE INDEX finding_opened_at ON finding (opened_at, node_id, kind, subject);
CREATE INDEX finding_moment ON finding (opened_at) WHERE kind IN ('enrolled', 'reenrolled', 'cloned');
