-- +goose Up

-- With it each new live query wrote a page for every one of its nodes, all over
-- the file. What a node was asked is found by the queries, newest first.
DROP INDEX live_target_node_id;
