import { infiniteQueryOptions, keepPreviousData, queryOptions, type QueryClient } from "@tanstack/react-query";

import { api, ApiError } from "./client";
import type {
  AlertPage,
  AuditEntry,
  AuditPage,
  Change,
  ChangeList,
  EventGroups,
  EventPage,
  EventQueries,
  EventState,
  Facets,
  Freeze,
  NodeActivity,
  NodeConfig,
  NodeDetail,
  NodePage,
  Overview,
  PolicyInput,
  PolicyVerdict,
  Rollout,
  RolloutList,
  Safe,
  SchemaTable,
  SecretList,
  Session,
  SetupState,
  Sightings,
  UserList,
} from "./types";

export const seconds = 1000;

/**
 * Refetching a list fetches all of its loaded pages again, one after another:
 * long ones are left as they are.
 */
export const whileShort = {
  refetchOnMount: isShort,
  refetchOnWindowFocus: isShort,
  refetchOnReconnect: isShort,
};

export function isShort(query: { state: { data?: unknown } }): boolean {
  const data = query.state.data as { pages?: unknown[] } | undefined;
  return (data?.pages?.length ?? 0) <= 3;
}

/** Who is logged in; null is nobody. */
export const sessionQuery = queryOptions({
  queryKey: ["session"],
  queryFn: async ({ signal }): Promise<Session | null> => {
    try {
      return await api.get<Session>("/session", undefined, signal);
    } catch (err) {
      if (err instanceof ApiError && err.status === 401) return null;
      throw err;
    }
  },
  staleTime: 5 * 60 * seconds,
});

export const setupQuery = queryOptions({
  queryKey: ["setup"],
  queryFn: ({ signal }) => api.get<SetupState>("/setup", undefined, signal),
});

export const overviewQuery = queryOptions({
  queryKey: ["overview"],
  queryFn: ({ signal }) => api.get<Overview>("/overview", undefined, signal),
  refetchInterval: 10 * seconds,
});

/** How many alerts are open, for the navigation and the overview. */
export const openAlertsQuery = queryOptions({
  queryKey: ["alerts", "open"],
  queryFn: ({ signal }) => api.get<AlertPage>("/alerts", { state: "open", limit: 5 }, signal),
  refetchInterval: 15 * seconds,
  retry: false,
});

export interface NodesParams {
  search?: string;
  tag?: string;
  platform?: string;
  status?: string;
  version?: string;
  sort?: string;
  order?: string;
}

export const nodesQuery = (params: NodesParams, limit = 100) =>
  infiniteQueryOptions({
    queryKey: ["nodes", params, limit],
    queryFn: ({ pageParam, signal }) => api.get<NodePage>("/nodes", { ...params, limit, cursor: pageParam }, signal),
    initialPageParam: "",
    getNextPageParam: (page) => page.next_cursor,
    placeholderData: keepPreviousData,
    refetchInterval: (query) => (isShort(query) ? 10 * seconds : false),
    ...whileShort,
  });

export const facetsQuery = queryOptions({
  queryKey: ["nodes", "facets"],
  queryFn: ({ signal }) => api.get<Facets>("/nodes/facets", undefined, signal),
  refetchInterval: 30 * seconds,
});

export const nodeQuery = (id: string) =>
  queryOptions({
    queryKey: ["node", id],
    queryFn: ({ signal }) => api.get<NodeDetail>(`/nodes/${encodeURIComponent(id)}`, undefined, signal),
    refetchInterval: 10 * seconds,
  });

export const nodeConfigQuery = (id: string) =>
  queryOptions({
    queryKey: ["node", id, "config"],
    queryFn: ({ signal }) => api.get<NodeConfig>(`/nodes/${encodeURIComponent(id)}/config`, undefined, signal),
    refetchInterval: 30 * seconds, // the node tells by and by that it runs it
  });

export const nodeActivityQuery = (id: string) =>
  queryOptions({
    queryKey: ["node", id, "activity"],
    queryFn: ({ signal }) => api.get<NodeActivity>(`/nodes/${encodeURIComponent(id)}/activity`, undefined, signal),
  });

export const nodeHistoryQuery = (id: string) =>
  queryOptions({
    queryKey: ["node", id, "history"],
    queryFn: ({ signal }) => api.get<Sightings>(`/nodes/${encodeURIComponent(id)}/history`, undefined, signal),
  });

export const secretsQuery = queryOptions({
  queryKey: ["secrets"],
  queryFn: ({ signal }) => api.get<SecretList>("/secrets", undefined, signal),
});

export interface EventsParams {
  query?: string;
  node?: string;
  action?: string;
  since?: string;
  until?: string;
  where?: string;
}

export const eventsQuery = (params: EventsParams, limit = 100) =>
  infiniteQueryOptions({
    queryKey: ["events", params, limit],
    queryFn: ({ pageParam, signal }) => api.get<EventPage>("/events", { ...params, limit, cursor: pageParam }, signal),
    initialPageParam: "",
    getNextPageParam: (page) => page.next_cursor,
    placeholderData: keepPreviousData,
    retry: false,
    ...whileShort,
    refetchOnWindowFocus: false, // lines must not move under the reader
  });

/** Events counted by up to three columns or stamps, which by joins by commas. */
export const eventCountQuery = (params: EventsParams, by: string, limit = 50) =>
  queryOptions({
    queryKey: ["events", "count", params, by, limit],
    queryFn: ({ signal }) => api.get<EventGroups>("/events/count", { ...params, by, limit, nodes: "true" }, signal),
    placeholderData: keepPreviousData,
    retry: false,
    refetchOnWindowFocus: false,
  });

/** What nodes' last results of a query are, or were then. */
export const eventStateQuery = ({ query, node, until, where }: EventsParams) =>
  infiniteQueryOptions({
    queryKey: ["events", "state", query, node, until, where],
    queryFn: ({ pageParam, signal }) => api.get<EventState>("/events/state", { query, node, until, where, limit: 500, cursor: pageParam }, signal),
    initialPageParam: "",
    getNextPageParam: (page) => page.next_cursor || undefined,
    enabled: Boolean(query),
    placeholderData: keepPreviousData,
    retry: false,
    refetchOnWindowFocus: false,
  });

export const eventQueriesQuery = (params: { since?: string; until?: string; node?: string; query?: string }) =>
  queryOptions({
    queryKey: ["events", "queries", params],
    queryFn: ({ signal }) => api.get<EventQueries>("/events/queries", params, signal),
    placeholderData: keepPreviousData,
  });

export const schemaQuery = queryOptions({
  queryKey: ["schema"],
  queryFn: ({ signal }) => api.get<SchemaTable[]>("/schema", undefined, signal),
  staleTime: Number.POSITIVE_INFINITY,
  gcTime: Number.POSITIVE_INFINITY,
});

export interface AuditParams {
  actor?: string;
  outcome?: string;
}

export const auditQuery = (params: AuditParams) =>
  infiniteQueryOptions({
    ...whileShort,
    queryKey: ["audit", params],
    queryFn: ({ pageParam, signal }) => api.get<AuditPage>("/audit", { ...params, cursor: pageParam }, signal),
    initialPageParam: "",
    getNextPageParam: (page) => page.next_cursor,
    placeholderData: keepPreviousData,
  });

/** One entry by its number; null if there is none. */
export const auditEntryQuery = (seq: number) =>
  queryOptions({
    queryKey: ["audit", "entry", seq],
    queryFn: async ({ signal }): Promise<AuditEntry | null> => {
      const { entries } = await api.get<AuditPage>("/audit", { cursor: seq + 1, limit: 1 }, signal);
      return entries.find((e) => e.seq === seq) ?? null;
    },
    staleTime: Number.POSITIVE_INFINITY, // an entry never changes
  });

export const usersQuery = queryOptions({
  queryKey: ["users"],
  queryFn: ({ signal }) => api.get<UserList>("/users", undefined, signal),
  staleTime: 10 * seconds,
});

/** What the policy says of a live query's text; asked for an older text no longer. */
export const verdictQuery = (sql: string) =>
  queryOptions({
    queryKey: ["policy", sql],
    queryFn: ({ signal }) => api.post<PolicyVerdict>("/policy/check", { sql, use: "live" } satisfies PolicyInput, signal),
    enabled: sql.trim() !== "",
    gcTime: 60 * seconds,
    retry: false,
  });

export const freezeQuery = queryOptions({
  queryKey: ["freeze"],
  queryFn: ({ signal }) => api.get<Freeze>("/freeze", undefined, signal),
  refetchInterval: 30 * seconds,
});

export const safeQuery = queryOptions({
  queryKey: ["emergency"],
  queryFn: ({ signal }) => api.get<Safe>("/emergency", undefined, signal),
  refetchInterval: 30 * seconds,
});

export const changesQuery = (state: string | undefined) =>
  infiniteQueryOptions({
    queryKey: ["changes", "list", state],
    queryFn: ({ pageParam, signal }) => api.get<ChangeList>("/changes", { state, cursor: pageParam, limit: 50 }, signal),
    initialPageParam: "",
    getNextPageParam: (page) => page.next_cursor,
    placeholderData: keepPreviousData,
    refetchInterval: (query) => (isShort(query) ? 15 * seconds : false),
    ...whileShort,
  });

export const changeQuery = (id: string) =>
  queryOptions({
    queryKey: ["changes", id],
    queryFn: ({ signal }) => api.get<Change>(`/changes/${encodeURIComponent(id)}`, undefined, signal),
    refetchInterval: (query) => (isOpen(query.state.data) ? 10 * seconds : false),
  });

/** Whether a change still waits for somebody. */
export const isOpen = (c: Change | undefined): boolean => c?.state === "pending" || c?.state === "approved";

export const isRolling = (r: Rollout | null | undefined): boolean => r?.state === "running" || r?.state === "paused";

/**
 * How a revision reaches the nodes, by default the newest that does; null if it
 * went to all at once. One that is open is told with its counts.
 */
export const rolloutQuery = (revision?: number) =>
  queryOptions({
    queryKey: ["rollout", revision ?? "newest"],
    queryFn: async ({ signal }): Promise<Rollout | null> => {
      const cursor = revision === undefined ? undefined : revision + 1;
      const { rollouts } = await api.get<RolloutList>("/rollouts", { limit: 1, cursor }, signal);
      const found = rollouts[0];
      if (!found || (revision !== undefined && found.revision !== revision)) return null;
      return isRolling(found) ? api.get<Rollout>("/rollouts/current", undefined, signal) : found;
    },
    refetchInterval: 10 * seconds,
  });

/** After a decision about a change or a rollout. */
export function refreshChanges(client: QueryClient): Promise<unknown> {
  return Promise.all([client.invalidateQueries({ queryKey: ["changes"] }), client.invalidateQueries({ queryKey: ["rollout"] })]);
}

/** After a change to nodes: what is shown is fetched again, the rest forgotten. */
export function refreshNodes(client: QueryClient): void {
  client.removeQueries({ queryKey: ["nodes"], type: "inactive" });
  void client.invalidateQueries({ queryKey: ["nodes"] });
  void client.invalidateQueries({ queryKey: ["overview"] });
}
