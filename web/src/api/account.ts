import { queryOptions } from "@tanstack/react-query";

import { api } from "./client";
import type { FactorList, SessionInfo } from "./types";

export const factorsQuery = queryOptions({
  queryKey: ["account", "factors"],
  queryFn: ({ signal }) => api.get<FactorList>("/session/factors", undefined, signal),
});

export const sessionsQuery = queryOptions({
  queryKey: ["account", "sessions"],
  queryFn: async ({ signal }) => (await api.get<{ sessions: SessionInfo[] }>("/sessions", undefined, signal)).sessions,
});
