import { queryOptions } from "@tanstack/react-query";

import { api } from "./client";
import { seconds } from "./queries";
import type { Sink, SinkLetter } from "./types";

export const sinkPath = (name: string, rest = ""): string => `/sinks/${encodeURIComponent(name)}${rest}`;

export const sinksQuery = queryOptions({
  queryKey: ["sinks"],
  queryFn: ({ signal }) => api.get<Sink[]>("/sinks", undefined, signal),
  refetchInterval: 5 * seconds,
});

export const sinkLettersQuery = (name: string) =>
  queryOptions({
    queryKey: ["sinks", name, "dead"],
    queryFn: ({ signal }) => api.get<SinkLetter[]>(sinkPath(name, "/dead"), { limit: 100 }, signal),
  });
