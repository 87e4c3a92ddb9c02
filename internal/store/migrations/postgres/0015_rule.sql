-- +goose Up
-- What rules remember of each key: matches that count towards a threshold, when the
-- rule last did something, and which event was counted last.
CREATE TABLE rule_window (
    rule    TEXT NOT NULL,
    key     TEXT NOT NULL,
    state   TEXT NOT NULL, -- JSON
    touched BIGINT NOT NULL,
    PRIMARY KEY (rule, key)
);
