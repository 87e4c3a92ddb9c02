-- +goose Up

-- Kind is totp or passkey; a passkey has no steps, and its public key is sealed like
-- the seed of an authenticator.
ALTER TABLE factor ADD COLUMN kind TEXT NOT NULL DEFAULT 'totp';
