-- +goose Up
-- Why a live query was asked, and what asked it.
ALTER TABLE live ADD COLUMN kind TEXT NOT NULL DEFAULT 'person';
ALTER TABLE live ADD COLUMN source TEXT NOT NULL DEFAULT '';
