-- +goose Up

-- Roles are names in a JSON list. Until now everybody could do everything.
ALTER TABLE account ADD COLUMN roles TEXT NOT NULL DEFAULT '["admin","operator"]';
ALTER TABLE account ADD COLUMN disabled_at INTEGER NOT NULL DEFAULT 0;
ALTER TABLE session ADD COLUMN last_seen INTEGER NOT NULL DEFAULT 0;
ALTER TABLE session ADD COLUMN address TEXT NOT NULL DEFAULT '';
ALTER TABLE session ADD COLUMN agent TEXT NOT NULL DEFAULT '';
UPDATE session SET last_seen = created_at;
