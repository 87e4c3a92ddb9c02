-- +goose Up

-- What a node was asked: its history, for whoever owns the host.
CREATE INDEX live_target_node_id ON live_target (node_id);
