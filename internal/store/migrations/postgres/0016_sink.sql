-- +goose Up
-- How far sinks are. seq is the stream's message up to which everything was sent; a
-- replay has its own span of time, and is none when replay_until is 0.
CREATE TABLE sink (
    name         TEXT PRIMARY KEY,
    seq          BIGINT NOT NULL,
    sent         BIGINT NOT NULL,
    lost         BIGINT NOT NULL,
    paused_at    BIGINT NOT NULL,
    paused_by    TEXT NOT NULL,
    replay_from  BIGINT NOT NULL,
    replay_until BIGINT NOT NULL,
    replay_done  BIGINT NOT NULL,
    replay_seq   BIGINT NOT NULL,
    replay_sent  BIGINT NOT NULL,
    replay_by    TEXT NOT NULL
);
