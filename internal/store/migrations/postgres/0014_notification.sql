-- +goose Up

-- The same table as ../sqlite/0014_notification.sql.

-- What notifiers are to be told, and were: state is waiting, delivered or dead.
CREATE TABLE notification (
    seq          BIGINT PRIMARY KEY,
    notifier     TEXT COLLATE "C" NOT NULL,
    group_key    TEXT COLLATE "C" NOT NULL,
    alert_id     TEXT COLLATE "C" NOT NULL,
    rule         TEXT COLLATE "C" NOT NULL,
    action       TEXT NOT NULL,
    state        TEXT COLLATE "C" NOT NULL,
    due_at       BIGINT NOT NULL,
    silence      TEXT NOT NULL,
    attempts     BIGINT NOT NULL,
    error        TEXT NOT NULL,
    event_time   BIGINT NOT NULL,
    received_at  BIGINT NOT NULL,
    matched_at   BIGINT NOT NULL,
    created_at   BIGINT NOT NULL,
    tried_at     BIGINT NOT NULL,
    delivered_at BIGINT NOT NULL
);
CREATE INDEX notification_due ON notification (notifier, due_at, seq) WHERE state = 'waiting';
CREATE INDEX notification_group ON notification (notifier, group_key, due_at) WHERE state = 'waiting';
CREATE INDEX notification_silence ON notification (silence) WHERE state = 'waiting' AND silence <> '';
CREATE INDEX notification_dead ON notification (notifier, seq) WHERE state = 'dead';
CREATE INDEX notification_delivered ON notification (delivered_at) WHERE state = 'delivered';
CREATE INDEX notification_alert ON notification (alert_id, notifier, seq);
