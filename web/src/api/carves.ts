import { infiniteQueryOptions, keepPreviousData, queryOptions, type QueryClient } from "@tanstack/react-query";

import { api, apiPath } from "./client";
import { isShort, seconds, whileShort } from "./queries";
import type { Archive, ArchiveFiles, Carve, CarveCheck, CarvePage } from "./types";

export const carvePath = (id: string, rest = ""): string => `/carves/${encodeURIComponent(id)}${rest}`;

/** Whether a carve is still to bring something. */
export const isCarving = (c: Carve | undefined): boolean => c !== undefined && !["done", "failed", "cancelled", "expired"].includes(c.state);

/** Whether an archive is whole, but the node has not yet said which hash it had there. */
export const isComparing = (a: Archive): boolean => a.state === "done" && a.verification === "";

export interface CarvesParams {
  node?: string;
  state?: string;
}

export const carvesQuery = (params: CarvesParams) =>
  infiniteQueryOptions({
    queryKey: ["carves", "list", params],
    queryFn: ({ pageParam, signal }) => api.get<CarvePage>("/carves", { ...params, limit: 100, cursor: pageParam }, signal),
    initialPageParam: "",
    getNextPageParam: (page) => page.next_cursor || undefined,
    placeholderData: keepPreviousData,
    refetchInterval: (query) => (isShort(query) ? 5 * seconds : false),
    ...whileShort,
  });

export const carveQuery = (id: string) =>
  queryOptions({
    queryKey: ["carves", id],
    queryFn: ({ signal }) => api.get<Carve>(carvePath(id), undefined, signal),
    refetchInterval: (query) => (isCarving(query.state.data) || query.state.data?.archives.some(isComparing) ? 1.5 * seconds : false),
  });

/** What is in an archive. It never changes once it is whole. */
export const carveFilesQuery = (id: string, archive: number) =>
  queryOptions({
    queryKey: ["carves", id, "files", archive],
    queryFn: ({ signal }) => api.get<ArchiveFiles>(carvePath(id, "/files"), { archive }, signal),
    staleTime: Number.POSITIVE_INFINITY,
    retry: false,
  });

/** What the policy says of paths. */
export const carveCheckQuery = (paths: string[]) =>
  queryOptions({
    queryKey: ["carves", "check", paths],
    queryFn: ({ signal }) => api.post<CarveCheck>("/carves/check", { paths }, signal),
    enabled: paths.length > 0,
    gcTime: 60 * seconds,
    placeholderData: keepPreviousData,
    retry: false,
  });

export const carveDownloadHref = (id: string, archive?: number): string => apiPath(carvePath(id, "/download"), { archive });

export function refreshCarves(client: QueryClient): Promise<unknown> {
  return client.invalidateQueries({ queryKey: ["carves"] });
}
