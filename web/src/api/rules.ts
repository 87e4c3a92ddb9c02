import { queryOptions } from "@tanstack/react-query";

import { api } from "./client";
import { seconds } from "./queries";
import type { RuleStatus, RuleTest } from "./types";

export const rulesQuery = queryOptions({
  queryKey: ["rules"],
  queryFn: ({ signal }) => api.get<RuleStatus[]>("/rules", undefined, signal),
  refetchInterval: 10 * seconds,
});

export const ruleQuery = (name: string) =>
  queryOptions({
    queryKey: ["rules", name],
    queryFn: ({ signal }) => api.get<RuleStatus>(`/rules/${encodeURIComponent(name)}`, undefined, signal),
    refetchInterval: 10 * seconds,
  });

/** What a rule would have done; since is how long ago, as 24h. */
export const testRule = (name: string, since: string): Promise<RuleTest> => api.post<RuleTest>("/rules/test", { name, since, first: mostMatches });

/** How many matches of a test are shown. */
const mostMatches = 100;
