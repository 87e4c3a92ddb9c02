import { infiniteQueryOptions, keepPreviousData, queryOptions } from "@tanstack/react-query";

import { api } from "./client";
import { isShort, seconds, whileShort } from "./queries";
import type { Health, NodeFindings, NodeHealth } from "./types";

export const healthQuery = queryOptions({
  queryKey: ["health"],
  queryFn: ({ signal }) => api.get<Health>("/health", undefined, signal),
  refetchInterval: 15 * seconds,
});

export const nodeHealthQuery = (id: string) =>
  queryOptions({
    queryKey: ["node", id, "health"],
    queryFn: ({ signal }) => api.get<NodeHealth>(`/nodes/${encodeURIComponent(id)}/health`, undefined, signal),
    refetchInterval: 15 * seconds,
  });

/** Findings of a kind, those that are open unless past ones are asked for, too. */
export const findingsQuery = (kind: string | undefined, past: boolean) =>
  infiniteQueryOptions({
    queryKey: ["health", "findings", kind, past],
    queryFn: ({ pageParam, signal }) => api.get<NodeFindings>("/findings", { kind, open: past ? undefined : "true", limit: 100, cursor: pageParam }, signal),
    initialPageParam: "",
    getNextPageParam: (page) => page.next_cursor || undefined,
    placeholderData: keepPreviousData,
    refetchInterval: (query) => (isShort(query) ? 15 * seconds : false),
    ...whileShort,
  });
