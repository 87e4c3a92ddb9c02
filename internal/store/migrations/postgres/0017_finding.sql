-- +goose Up

-- What was found about nodes. A finding is open while closed_at is 0; those that
-- events do not tell of yet, as they are, have told 0.
CREATE TABLE finding (
    node_id   TEXT COLLATE "C" NOT NULL,
    kind      TEXT COLLATE "C" NOT NULL,
    subject   TEXT COLLATE "C" NOT NULL,
    opened_at BIGINT NOT NULL,
    severity  TEXT COLLATE "C" NOT NULL,
    text      TEXT COLLATE "C" NOT NULL,
    last_at   BIGINT NOT NULL,
    count     BIGINT NOT NULL,
    until_at  BIGINT NOT NULL,
    closed_at BIGINT NOT NULL,
    told      BIGINT NOT NULL,
    PRIMARY KEY (node_id, kind, subject, opened_at)
);
CREATE INDEX finding_open ON finding (opened_at, node_id) WHERE closed_at = 0;
CREATE INDEX finding_untold ON finding (opened_at) WHERE told = 0;
CREATE INDEX finding_opened_at ON finding (opened_at, node_id, kind, subject);
CREATE INDEX finding_moment ON finding (opened_at) WHERE kind IN ('enrolled', 'reenrolled', 'cloned');
