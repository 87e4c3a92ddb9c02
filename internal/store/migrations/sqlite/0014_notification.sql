-- +goose Up

-- The same table as ../postgres/0014_notification.sql.

-- What notifiers are to be told, and were: state is waiting, delivered or dead.
CREATE TABLE notification (
    seq          INTEGER NOT NULL PRIMARY KEY,
    notifier     TEXT NOT NULL,
    group_key    TEXT NOT NULL,
    alert_id     TEXT NOT NULL,
    rule         TEXT NOT NULL,
    action       TEXT NOT NULL,
    state        TEXT NOT NULL,
    due_at       INTEGER NOT NULL,
    silence      TEXT NOT NULL,
    attempts     INTEGER NOT NULL,
    error        TEXT NOT NULL,
    event_time   INTEGER NOT NULL,
    received_at  INTEGER NOT NULL,
    matched_at   INTEGER NOT NULL,
    created_at   INTEGER NOT NULL,
    tried_at     INTEGER NOT NULL,
    delivered_at INTEGER NOT NULL
) STRICT;
CREATE INDEX notification_due ON notification (notifier, due_at, seq) WHERE state = 'waiting';
CREATE INDEX notification_group ON notification (notifier, group_key, due_at) WHERE state = 'waiting';
CREATE INDEX notification_silence ON notification (silence) WHERE state = 'waiting' AND silence <> '';
CREATE INDEX notification_dead ON notification (notifier, seq) WHERE state = 'dead';
CREATE INDEX notification_delivered ON notification (delivered_at) WHERE state = 'delivered';
CREATE INDEX notification_alert ON notification (alert_id, notifier, seq);
