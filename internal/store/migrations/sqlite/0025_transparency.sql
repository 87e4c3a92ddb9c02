-- +goose Up

-- Links that show a node to its owner are of an epoch; those of earlier ones are
-- revoked.
ALTER TABLE node ADD COLUMN transparency_epoch INTEGER NOT NULL DEFAULT 0;
