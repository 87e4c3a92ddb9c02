import { infiniteQueryOptions, keepPreviousData, queryOptions, type QueryClient } from "@tanstack/react-query";

import { api } from "./client";
import { isShort, seconds, whileShort } from "./queries";
import type { AlertDetail, AlertNotification, AlertPage, Notifier, Silence } from "./types";

export const alertPath = (id: string, rest = ""): string => `/alerts/${encodeURIComponent(id)}${rest}`;

export interface AlertsParams {
  state?: string;
  rule?: string;
  node?: string;
  assignee?: string;
  min_severity?: string;
  text?: string;
}

export const alertsQuery = (params: AlertsParams) =>
  infiniteQueryOptions({
    queryKey: ["alerts", "list", params],
    queryFn: ({ pageParam, signal }) => api.get<AlertPage>("/alerts", { ...params, limit: 100, cursor: pageParam }, signal),
    initialPageParam: "",
    getNextPageParam: (page) => page.next_cursor || undefined,
    placeholderData: keepPreviousData,
    refetchInterval: (query) => (isShort(query) ? 30 * seconds : false), // its stream tells sooner
    ...whileShort,
  });

export const alertQuery = (id: string) =>
  queryOptions({
    queryKey: ["alerts", "one", id],
    queryFn: ({ signal }) => api.get<AlertDetail>(alertPath(id), undefined, signal),
    refetchInterval: 30 * seconds,
  });

export const silencesQuery = queryOptions({
  queryKey: ["alerts", "silences"],
  queryFn: ({ signal }) => api.get<Silence[]>("/silences", undefined, signal),
  refetchInterval: 30 * seconds,
});

export const notifiersQuery = queryOptions({
  queryKey: ["alerts", "notifiers"],
  queryFn: ({ signal }) => api.get<Notifier[]>("/notifiers", undefined, signal),
  refetchInterval: 10 * seconds,
});

/** What could not be told, the newest of it. */
export const deadLettersQuery = queryOptions({
  queryKey: ["alerts", "dead"],
  queryFn: ({ signal }) => api.get<AlertNotification[]>("/notifications", { state: "dead", limit: 100 }, signal),
  refetchInterval: 10 * seconds,
});

/** After something was done to alerts, silences or notifications. */
export function refreshAlerts(client: QueryClient): Promise<unknown> {
  return client.invalidateQueries({ queryKey: ["alerts"] });
}
