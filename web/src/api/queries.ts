import { infiniteQueryOptions, keepPreviousData, queryOptions, type QueryClient } from "@tanstack/react-query";

import { api, ApiError } from "./client";
import type {
  AuditPage,
  ConfigDocument,
  EventPage,
  EventQueries,
  Facets,
  Live,
  LiveAnswers,
  LivePage,
  LivePreview,
  NodeDetail,
  NodePage,
  NodeState,
  Overview,
  SchemaTable,
  SecretList,
  Selector,
  Session,
  SetupState,
  Sightings,
} from "./types";

const seconds = 1000;

/**
 * Refetching a list fetches all of its loaded pages again, one after another:
 * long ones are left as they are.
 */
const whileShort = {
  refetchOnMount: isShort,
  refetchOnWindowFocus: isShort,
  refetchOnReconnect: isShort,
};

function isShort(query: { state: { data?: unknown } }): boolean {
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
    queryFn: ({ signal }) => api.get<ConfigDocument>(`/nodes/${encodeURIComponent(id)}/config`, undefined, signal),
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

/** Whether a selector asks for anything. */
export function selectsSomething(s: Selector): boolean {
  return Boolean(s.all) || (s.nodes?.length ?? 0) > 0 || (s.tags?.length ?? 0) > 0;
}

export const previewQuery = (selector: Selector) =>
  queryOptions({
    queryKey: ["live", "preview", selector],
    queryFn: ({ signal }) => api.post<LivePreview>("/live/preview", selector, signal),
    enabled: selectsSomething(selector),
    placeholderData: keepPreviousData,
    refetchInterval: 15 * seconds,
  });

export const liveListQuery = infiniteQueryOptions({
  queryKey: ["live", "list"],
  queryFn: ({ pageParam, signal }) => api.get<LivePage>("/live", { cursor: pageParam }, signal),
  initialPageParam: "",
  getNextPageParam: (page) => page.next_cursor,
  refetchInterval: (query) => (isShort(query) ? 5 * seconds : false),
  ...whileShort,
});

export const liveQuery = (id: string) =>
  queryOptions({
    queryKey: ["live", id],
    queryFn: ({ signal }) => api.get<Live>(`/live/${encodeURIComponent(id)}`, undefined, signal),
    staleTime: Number.POSITIVE_INFINITY, // its stream tells what is new
  });

export const liveAnswersQuery = (id: string, state: NodeState, poll: boolean) =>
  infiniteQueryOptions({
    queryKey: ["live", id, "answers", state],
    queryFn: ({ pageParam, signal }) =>
      api.get<LiveAnswers>(`/live/${encodeURIComponent(id)}/answers`, { state, cursor: pageParam, limit: 200 }, signal),
    initialPageParam: "",
    getNextPageParam: (page) => page.next_cursor,
    refetchInterval: (query) => (poll && isShort(query) ? 3 * seconds : false),
    ...whileShort,
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

export const auditQuery = infiniteQueryOptions({
  ...whileShort,
  queryKey: ["audit"],
  queryFn: ({ pageParam, signal }) => api.get<AuditPage>("/audit", { cursor: pageParam }, signal),
  initialPageParam: "",
  getNextPageParam: (page) => page.next_cursor,
});

/** After a change to nodes: what is shown is fetched again, the rest forgotten. */
export function refreshNodes(client: QueryClient): void {
  client.removeQueries({ queryKey: ["nodes"], type: "inactive" });
  void client.invalidateQueries({ queryKey: ["nodes"] });
  void client.invalidateQueries({ queryKey: ["overview"] });
}
