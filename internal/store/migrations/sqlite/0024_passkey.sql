-- +goose Up

-- Kind is totp or passkey; a passkey has no steps, and its public key is sealed like
-- the seed of an authenticator.
ALTER TABLE factor ADD COLUMN kind TEXT NOT NULL DEFAULT 'totp';

-- A provider of sign-on let somebody in, who must show their second factor here.
ALTER TABLE session ADD COLUMN must_prove INTEGER NOT NULL DEFAULT 0;
