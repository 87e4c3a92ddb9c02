import { queryOptions, type QueryClient } from "@tanstack/react-query";

import { api } from "./client";
import { sessionQuery } from "./queries";
import type { Role, SessionInfo, SignOnProvider, Token, UserIdentity } from "./types";

export const userPath = (name: string, rest = ""): string => `/users/${encodeURIComponent(name)}${rest}`;

/** Where the tokens of somebody are: one's own are found without a permission. */
export const tokensPath = (owner: string, me: string | undefined, rest = ""): string => (owner === me ? `/tokens${rest}` : userPath(owner, `/tokens${rest}`));

export const userSessionsQuery = (name: string) =>
  queryOptions({
    queryKey: ["users", name, "sessions"],
    queryFn: async ({ signal }) => (await api.get<{ sessions: SessionInfo[] }>(userPath(name, "/sessions"), undefined, signal)).sessions,
  });

export const identitiesQuery = (name: string) =>
  queryOptions({
    queryKey: ["users", name, "identities"],
    queryFn: ({ signal }) => api.get<UserIdentity[]>(userPath(name, "/identities"), undefined, signal),
  });

export const userTokensQuery = (name: string) =>
  queryOptions({
    queryKey: ["tokens", "of", name],
    queryFn: ({ signal }) => api.get<Token[]>(userPath(name, "/tokens"), undefined, signal),
  });

/** Everybody's tokens, or one's own. */
export const tokensQuery = (all: boolean) =>
  queryOptions({
    queryKey: ["tokens", all ? "all" : "own"],
    queryFn: ({ signal }) => api.get<Token[]>(all ? "/tokens/all" : "/tokens", undefined, signal),
  });

export const rolesQuery = queryOptions({
  queryKey: ["roles"],
  queryFn: ({ signal }) => api.get<Role[]>("/roles", undefined, signal),
});

export const providersQuery = queryOptions({
  queryKey: ["sign-on"],
  queryFn: ({ signal }) => api.get<SignOnProvider[]>("/sign-on", undefined, signal),
});

/** After somebody's account or tokens changed, which may be one's own. */
export function refreshPeople(client: QueryClient): Promise<unknown> {
  return Promise.all([["users"], ["tokens"], ["account"], sessionQuery.queryKey].map((queryKey) => client.invalidateQueries({ queryKey })));
}
