-- +goose Up
-- How a live query is delivered: when, to how many at a time, up to what, and
-- who agreed.
ALTER TABLE live ADD COLUMN reason TEXT NOT NULL DEFAULT '';
ALTER TABLE live ADD COLUMN tier BIGINT NOT NULL DEFAULT 0;
ALTER TABLE live ADD COLUMN not_before BIGINT NOT NULL DEFAULT 0;
ALTER TABLE live ADD COLUMN standing BIGINT NOT NULL DEFAULT 0;
ALTER TABLE live ADD COLUMN rerun_of TEXT NOT NULL DEFAULT '';
ALTER TABLE live ADD COLUMN approval TEXT NOT NULL DEFAULT '{}';
ALTER TABLE live ADD COLUMN limits TEXT NOT NULL DEFAULT '{}';
ALTER TABLE live ADD COLUMN waves TEXT NOT NULL DEFAULT '{}';
ALTER TABLE live ADD COLUMN held TEXT NOT NULL DEFAULT '';
ALTER TABLE live ADD COLUMN bytes BIGINT NOT NULL DEFAULT 0;
ALTER TABLE live ADD COLUMN truncated BIGINT NOT NULL DEFAULT 0;

ALTER TABLE live_target ADD COLUMN enrolled_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE live_target ADD COLUMN expires_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE live_target ADD COLUMN late BIGINT NOT NULL DEFAULT 0;
ALTER TABLE live_target ADD COLUMN cut BIGINT NOT NULL DEFAULT 0;
ALTER TABLE live_target ADD COLUMN row_count BIGINT NOT NULL DEFAULT 0;
ALTER TABLE live_target ADD COLUMN bytes BIGINT NOT NULL DEFAULT 0;

UPDATE live_target SET cut = 1 WHERE state = 'over_limit';
UPDATE live_target SET bytes = COALESCE((SELECT octet_length(r.data) FROM live_rows r WHERE r.live_id = live_target.live_id AND r.node_id = live_target.node_id), 0);
UPDATE live SET bytes = (SELECT COALESCE(sum(bytes), 0) FROM live_target WHERE live_id = live.id);

-- counts holds the nodes that are done, at any time; open ones are counted by
-- their index, which only they are in.
UPDATE live SET counts = (
    SELECT '{' || COALESCE(string_agg('"' || t.state || '":' || t.n, ','), '') || '}'
    FROM (SELECT state, count(*) AS n FROM live_target WHERE live_id = live.id AND state NOT IN ('waiting', 'sent') GROUP BY state) AS t
) WHERE phase = 'running';
CREATE INDEX live_target_open ON live_target (live_id, state, node_id) WHERE state IN ('waiting', 'sent');
DROP INDEX live_running;
CREATE INDEX live_running ON live (id) WHERE phase IN ('running', 'pending');
