import { infiniteQueryOptions, keepPreviousData, queryOptions, type QueryClient } from "@tanstack/react-query";

import { api, apiPath, type Params } from "./client";
import { isShort, seconds, whileShort } from "./queries";
import type {
  Live,
  LiveAnswers,
  LiveComparison,
  LiveGroups,
  LivePage,
  LivePreview,
  LivePreviewInput,
  LiveResults,
  NodeState,
  SavedQuery,
  Selector,
} from "./types";

export const livePath = (id: string, rest = ""): string => `/live/${encodeURIComponent(id)}${rest}`;

/** Whether a selector asks for anything. */
export function selectsSomething(s: Selector): boolean {
  return Boolean(s.all) || (s.nodes?.length ?? 0) > 0 || (s.tags?.length ?? 0) > 0 || Boolean(s.where);
}

export const previewQuery = (input: LivePreviewInput) =>
  queryOptions({
    queryKey: ["live", "preview", input],
    queryFn: ({ signal }) => api.post<LivePreview>("/live/preview", input, signal),
    enabled: selectsSomething(input.selector),
    placeholderData: keepPreviousData,
    refetchInterval: 15 * seconds,
    retry: false,
  });

export interface LiveListParams {
  kind?: string;
  created_by?: string;
  state?: string;
  text?: string;
}

export const liveListQuery = (params: LiveListParams) =>
  infiniteQueryOptions({
    queryKey: ["live", "list", params],
    queryFn: ({ pageParam, signal }) => api.get<LivePage>("/live", { ...params, limit: 50, cursor: pageParam }, signal),
    initialPageParam: "",
    getNextPageParam: (page) => page.next_cursor,
    placeholderData: keepPreviousData,
    refetchInterval: (query) => (isShort(query) ? 5 * seconds : false),
    ...whileShort,
  });

export const liveQuery = (id: string) =>
  queryOptions({
    queryKey: ["live", id],
    queryFn: ({ signal }) => api.get<Live>(livePath(id), undefined, signal),
    staleTime: Number.POSITIVE_INFINITY, // its stream tells what is new
  });

/** What is shown of a running query is asked for anew at most this often. */
const renewal = 3 * seconds;

export const liveAnswersQuery = (id: string, state: NodeState, running: boolean) =>
  infiniteQueryOptions({
    queryKey: ["live", id, "answers", state],
    queryFn: ({ pageParam, signal }) => api.get<LiveAnswers>(livePath(id, "/answers"), { state, cursor: pageParam, limit: 200 }, signal),
    initialPageParam: "",
    getNextPageParam: (page) => page.next_cursor,
    refetchInterval: (query) => (running && isShort(query) ? renewal : false),
    ...whileShort,
  });

export interface ResultsParams {
  where?: string | undefined;
  sort?: string | undefined;
  desc?: boolean | undefined;
}

const resultsParams = ({ where, sort, desc }: ResultsParams): Params => ({ where, sort, desc: desc ? "true" : undefined });

/** Rows, a page at a time: the server has all of them, filters and sorts. */
export const liveResultsQuery = (id: string, params: ResultsParams) =>
  infiniteQueryOptions({
    queryKey: ["live", id, "results", params],
    queryFn: ({ pageParam, signal }) =>
      api.get<LiveResults>(livePath(id, "/results"), { ...resultsParams(params), limit: 200, cursor: pageParam }, signal),
    initialPageParam: "",
    getNextPageParam: (page) => page.next_cursor,
    placeholderData: keepPreviousData,
    retry: false,
    ...whileShort,
    refetchOnWindowFocus: false, // rows must not move under the reader
  });

export const liveGroupsQuery = (id: string, by: string, where: string | undefined) =>
  queryOptions({
    queryKey: ["live", id, "groups", by, where],
    queryFn: ({ signal }) => api.get<LiveGroups>(livePath(id, "/groups"), { by, where, limit: 500 }, signal),
    placeholderData: keepPreviousData,
    retry: false,
  });

export const liveCompareQuery = (id: string, other: string) =>
  queryOptions({
    queryKey: ["live", id, "compare", other],
    queryFn: ({ signal }) => api.get<LiveComparison>(livePath(id, "/compare"), { with: other, limit: 1000 }, signal),
    retry: false,
  });

/** Former runs of a text; the server finds those that contain it. */
export const liveRunsQuery = (sql: string) =>
  queryOptions({
    queryKey: ["live", "runs", sql],
    queryFn: async ({ signal }): Promise<Live[]> => {
      const { live } = await api.get<LivePage>("/live", { text: sql.slice(0, mostSearched), limit: 100 }, signal);
      return live.filter((l) => l.sql === sql);
    },
  });

/** The server searches for texts of up to so many characters. */
const mostSearched = 200;

export type ExportFormat = "csv" | "json" | "ndjson";

/** The address of a file with rows, or with nodes in a state. */
export function exportHref(id: string, what: "rows" | "nodes", format: ExportFormat, more: { state?: string; where?: string | undefined } = {}): string {
  return apiPath(livePath(id, "/export"), { what, format, ...more });
}

export const savedQueriesQuery = queryOptions({
  queryKey: ["saved-queries"],
  queryFn: async ({ signal }): Promise<SavedQuery[]> => {
    const answer = await api.get<SavedQuery[] | { saved_queries: SavedQuery[] }>("/saved-queries", undefined, signal);
    return Array.isArray(answer) ? answer : answer.saved_queries;
  },
});

export const savedQueryPath = (name: string): string => `/saved-queries/${encodeURIComponent(name)}`;

/** After something was done to live queries. */
export function refreshLive(client: QueryClient, live?: Live): void {
  // Not every answer says whom a query is for, which never changes.
  if (live) client.setQueryData(liveQuery(live.id).queryKey, (old) => (live.selector || !old?.selector ? live : { ...live, selector: old.selector }));
  void client.invalidateQueries({ queryKey: ["live", "list"] });
  void client.invalidateQueries({ queryKey: ["overview"] });
}
