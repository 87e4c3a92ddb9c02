import { queryOptions } from "@tanstack/react-query";

import { api } from "./client";
import { seconds } from "./queries";
import type { EnrollmentQuery, LiveBound, Trigger } from "./types";

/** A list as it stands, or in an object under the name of what it lists. */
async function list<T>(path: string, name: string, signal: AbortSignal): Promise<T[]> {
  const answer = await api.get<T[] | Record<string, T[]>>(path, undefined, signal);
  return Array.isArray(answer) ? answer : (answer[name] ?? []);
}

export const triggersQuery = queryOptions({
  queryKey: ["triggers"],
  queryFn: ({ signal }) => list<Trigger>("/triggers", "triggers", signal),
  refetchInterval: 10 * seconds,
});

export const enrollmentQueriesQuery = queryOptions({
  queryKey: ["enrollment-queries"],
  queryFn: ({ signal }) => list<EnrollmentQuery>("/enrollment-queries", "enrollment_queries", signal),
  refetchInterval: 10 * seconds,
});

export const boundQuery = queryOptions({
  queryKey: ["live", "bound"],
  queryFn: ({ signal }) => list<LiveBound>("/live/bound", "groups", signal),
  refetchInterval: 10 * seconds,
});
