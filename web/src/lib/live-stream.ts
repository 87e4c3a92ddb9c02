import { useEffect, useState, useSyncExternalStore } from "react";

import { apiPath } from "@/api/client";
import type { Live, LiveAnswer, NodeState, Row } from "@/api/types";

/** So many rows are kept in the tab; the server has them all. */
export const mostRows = 20_000;

export interface ResultRow {
  n: number;
  nodeId: string;
  host: string;
  values: Row;
}

/** An answer without its rows. */
export type NodeAnswer = Omit<LiveAnswer, "rows"> & { rowCount: number };

export interface LiveSnapshot {
  live: Live | undefined;
  rows: ResultRow[];
  columns: string[];
  answers: NodeAnswer[];
  dropped: number;
  connection: "connecting" | "open" | "lost" | "ended";
}

const nothing: LiveSnapshot = { live: undefined, rows: [], columns: [], answers: [], dropped: 0, connection: "connecting" };
const final = (state: NodeState): boolean => state !== "waiting" && state !== "sent";

/**
 * Follows one live query's event stream. Messages are gathered and shown a few
 * times a second, however fast they come. The stream begins with all that is
 * known, also after a reconnect, so nodes that are known are skipped.
 */
class LiveStream {
  private snapshot = nothing;
  private readonly listeners = new Set<() => void>();
  private readonly byNode = new Map<string, NodeAnswer>();
  private readonly columnSet = new Set<string>();
  private rows: ResultRow[] = [];
  private dropped = 0;
  private live: Live | undefined;
  private connection: LiveSnapshot["connection"] = "connecting";
  private timer: number | undefined;
  private retry: number | undefined;
  private failures = 0;
  private source: EventSource | undefined;

  constructor(private readonly id: string) {}

  open(): void {
    const source = new EventSource(apiPath(`/live/${encodeURIComponent(this.id)}/stream`));
    this.source = source;
    source.addEventListener("open", () => {
      this.failures = 0;
      this.setConnection("open");
    });
    source.addEventListener("error", () => {
      this.setConnection("lost");
      // The browser tries again by itself, but not after an answer other than 200.
      if (source.readyState === EventSource.CLOSED) this.retry = window.setTimeout(() => this.open(), Math.min(30_000, 2000 * 2 ** this.failures++));
    });
    source.addEventListener("answer", (e: MessageEvent<string>) => this.take(JSON.parse(e.data) as LiveAnswer));
    source.addEventListener("counts", (e: MessageEvent<string>) => {
      this.live = JSON.parse(e.data) as Live;
      this.later();
    });
    source.addEventListener("end", (e: MessageEvent<string>) => {
      if (e.data) this.live = JSON.parse(e.data) as Live;
      source.close();
      this.setConnection("ended");
    });
  }

  close(): void {
    this.source?.close();
    window.clearTimeout(this.retry);
    window.clearTimeout(this.timer);
    this.timer = undefined;
  }

  subscribe = (listener: () => void): (() => void) => {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  };

  current = (): LiveSnapshot => this.snapshot;

  private setConnection(connection: LiveSnapshot["connection"]): void {
    this.connection = connection;
    this.later();
  }

  private take(answer: LiveAnswer): void {
    const known = this.byNode.get(answer.node_id);
    if (known && final(known.state)) return;
    const { rows, ...rest } = answer;
    this.byNode.set(answer.node_id, { ...rest, rowCount: rows.length });
    const host = answer.hostname || answer.host_identifier;
    for (const values of rows) {
      if (this.rows.length >= mostRows) {
        this.dropped++;
        continue;
      }
      for (const name of Object.keys(values)) this.columnSet.add(name);
      this.rows.push({ n: this.rows.length, nodeId: answer.node_id, host, values });
    }
    this.later();
  }

  private later(): void {
    this.timer ??= window.setTimeout(() => {
      this.timer = undefined;
      this.snapshot = {
        live: this.live,
        rows: this.rows.length === this.snapshot.rows.length ? this.snapshot.rows : [...this.rows],
        columns: this.columnSet.size === this.snapshot.columns.length ? this.snapshot.columns : [...this.columnSet],
        answers: [...this.byNode.values()],
        dropped: this.dropped,
        connection: this.connection,
      };
      for (const listener of this.listeners) listener();
    }, 150);
  }
}

const noListener = () => () => {};

export function useLiveStream(id: string): LiveSnapshot {
  const [stream, setStream] = useState<LiveStream | null>(null);
  useEffect(() => {
    const next = new LiveStream(id);
    next.open();
    setStream(next);
    return () => {
      next.close();
      setStream(null);
    };
  }, [id]);
  return useSyncExternalStore(stream?.subscribe ?? noListener, stream?.current ?? (() => nothing));
}
