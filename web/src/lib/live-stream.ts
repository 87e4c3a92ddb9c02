import { useEffect, useState, useSyncExternalStore } from "react";

import { apiPath } from "@/api/client";
import type { Live } from "@/api/types";

export interface LiveSnapshot {
  live: Live | undefined;
  connection: "connecting" | "open" | "lost" | "ended";
}

const nothing: LiveSnapshot = { live: undefined, connection: "connecting" };

/**
 * Follows the counts of one live query by its event stream, shown a few times a
 * second, however fast they come. Its rows are left out: pages of them come from
 * the server, filtered and sorted there, so that a tab never holds them all.
 */
class LiveStream {
  private snapshot = nothing;
  private readonly listeners = new Set<() => void>();
  private live: Live | undefined;
  private connection: LiveSnapshot["connection"] = "connecting";
  private timer: number | undefined;
  private retry: number | undefined;
  private failures = 0;
  private source: EventSource | undefined;

  constructor(private readonly id: string) {}

  open(): void {
    const source = new EventSource(apiPath(`/live/${encodeURIComponent(this.id)}/stream`, { answers: "false" }));
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

  private later(): void {
    this.timer ??= window.setTimeout(() => {
      this.timer = undefined;
      this.snapshot = { live: this.live, connection: this.connection };
      for (const listener of this.listeners) listener();
    }, 150);
  }
}

const noListener = () => () => {};

/** Follows a query while there is something to come. */
export function useLiveStream(id: string, on: boolean): LiveSnapshot {
  const [stream, setStream] = useState<LiveStream | null>(null);
  useEffect(() => {
    if (!on) return;
    const next = new LiveStream(id);
    next.open();
    setStream(next);
    return () => {
      next.close();
      setStream(null);
    };
  }, [id, on]);
  return useSyncExternalStore(stream?.subscribe ?? noListener, stream?.current ?? (() => nothing));
}
