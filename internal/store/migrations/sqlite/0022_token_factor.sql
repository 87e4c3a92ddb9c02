-- +goose Up

-- Factor says that who made a token had a second factor.
ALTER TABLE token ADD COLUMN factor INTEGER NOT NULL DEFAULT 0;

-- From here on a token ends with its owner's account; one of an account that was
-- disabled before would work again when it is enabled.
UPDATE token SET revoked_at = (SELECT disabled_at FROM account a WHERE a.id = account_id)
WHERE revoked_at = 0 AND account_id IN (SELECT id FROM account WHERE disabled_at <> 0);
