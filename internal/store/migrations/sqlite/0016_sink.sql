-- +goose Up
-- How far sinks are. seq is the stream's message up to which everything was sent; a
-- replay has its own span of time, and is none when replay_until is 0.
CREATE TABLE sink (
    name         TEXT PRIMARY KEY,
    seq          INTEGER NOT NULL,
    sent         INTEGER NOT NULL,
    lost         INTEGER NOT NULL,
    paused_at    INTEGER NOT NULL,
    paused_by    TEXT NOT NULL,
    replay_from  INTEGER NOT NULL,
    replay_until INTEGER NOT NULL,
    replay_done  INTEGER NOT NULL,
    replay_seq   INTEGER NOT NULL,
    replay_sent  INTEGER NOT NULL,
    replay_by    TEXT NOT NULL
);
