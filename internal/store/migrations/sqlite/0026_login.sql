-- +goose Up

-- When somebody logged in last: sessions that ended are forgotten.
ALTER TABLE account ADD COLUMN last_login INTEGER NOT NULL DEFAULT 0;
UPDATE account SET last_login = COALESCE((SELECT max(created_at) FROM session WHERE account_id = account.id), 0);
