import type { QueryClient } from "@tanstack/react-query";
import {
  createRootRouteWithContext,
  createRoute,
  createRouter,
  lazyRouteComponent,
  Outlet,
  redirect,
} from "@tanstack/react-router";

import { sessionQuery, setupQuery } from "./api/queries";
import { Crashed, NotFound, Pending } from "./shell/states";
import { Shell } from "./shell/shell";

const rootRoute = createRootRouteWithContext<{ queryClient: QueryClient }>()({
  component: Outlet,
  errorComponent: Crashed,
  notFoundComponent: NotFound,
});

const text = (value: unknown): string | undefined => (typeof value === "string" && value !== "" ? value : undefined);

/** Keeps the named search parameters and drops all others. */
const only =
  <K extends string>(...keys: K[]) =>
  (search: Record<string, unknown>): { [P in K]?: string } => {
    const out: { [P in K]?: string } = {};
    for (const key of keys) {
      const value = text(search[key]);
      if (value !== undefined) out[key] = value;
    }
    return out;
  };

const setupRoute = createRoute({
  getParentRoute: () => rootRoute,
  path: "/setup",
  beforeLoad: async ({ context }) => {
    const setup = await context.queryClient.fetchQuery(setupQuery);
    if (!setup.needed) throw redirect({ to: "/login" });
  },
  component: lazyRouteComponent(() => import("./pages/setup"), "SetupPage"),
});

const inviteRoute = createRoute({
  getParentRoute: () => rootRoute,
  path: "/invite",
  component: lazyRouteComponent(() => import("./pages/invite"), "InvitePage"),
});

const loginRoute = createRoute({
  getParentRoute: () => rootRoute,
  path: "/login",
  validateSearch: only("next", "sign_on"),
  beforeLoad: async ({ context }) => {
    const session = await context.queryClient.ensureQueryData(sessionQuery);
    if (session?.must_prove) return;
    if (session) throw redirect({ to: "/" });
    const setup = await context.queryClient.fetchQuery(setupQuery);
    if (setup.needed) throw redirect({ to: "/setup" });
  },
  component: lazyRouteComponent(() => import("./pages/login"), "LoginPage"),
});

const shellRoute = createRoute({
  getParentRoute: () => rootRoute,
  id: "shell",
  beforeLoad: async ({ context, location }) => {
    const session = await context.queryClient.ensureQueryData(sessionQuery);
    if (!session || session.must_prove) throw redirect({ to: "/login", search: location.href === "/" ? {} : { next: location.href } });
  },
  component: Shell,
});

const overviewRoute = createRoute({
  getParentRoute: () => shellRoute,
  path: "/",
  component: lazyRouteComponent(() => import("./pages/overview"), "OverviewPage"),
});

const nodesRoute = createRoute({
  getParentRoute: () => shellRoute,
  path: "/nodes",
  validateSearch: only("search", "tag", "platform", "status", "version", "sort", "order"),
  component: lazyRouteComponent(() => import("./pages/nodes"), "NodesPage"),
});

const nodeRoute = createRoute({
  getParentRoute: () => shellRoute,
  path: "/nodes/$id",
  validateSearch: only("tab"),
  component: lazyRouteComponent(() => import("./pages/node"), "NodePage"),
});

const liveRoute = createRoute({
  getParentRoute: () => shellRoute,
  path: "/live",
  validateSearch: only("sql", "nodes", "tags", "where", "all"),
  component: lazyRouteComponent(() => import("./pages/live"), "LivePage"),
});

const liveIndexRoute = createRoute({
  getParentRoute: () => liveRoute,
  path: "/",
  validateSearch: only("tab", "kind", "state", "text", "by"),
  component: lazyRouteComponent(() => import("./pages/live-history"), "LiveHistory"),
});

const liveResultsRoute = createRoute({
  getParentRoute: () => liveRoute,
  path: "$id",
  validateSearch: only("tab", "filter"),
  component: lazyRouteComponent(() => import("./pages/live-results"), "LiveResultsPage"),
});

const eventsRoute = createRoute({
  getParentRoute: () => shellRoute,
  path: "/events",
  validateSearch: only("query", "node", "action", "since", "until", "where", "view", "by"),
  component: lazyRouteComponent(() => import("./pages/events"), "EventsPage"),
});

const findingsRoute = createRoute({
  getParentRoute: () => shellRoute,
  path: "/findings",
  validateSearch: only("kind", "past"),
  component: lazyRouteComponent(() => import("./pages/findings"), "FindingsPage"),
});

const alertsRoute = createRoute({
  getParentRoute: () => shellRoute,
  path: "/alerts",
  validateSearch: only("tab", "rule", "node", "assignee", "min_severity", "text"),
  component: lazyRouteComponent(() => import("./pages/alerts"), "AlertsPage"),
});

const alertRoute = createRoute({
  getParentRoute: () => shellRoute,
  path: "/alerts/$id",
  component: lazyRouteComponent(() => import("./pages/alert"), "AlertPage"),
});

const sinksRoute = createRoute({
  getParentRoute: () => shellRoute,
  path: "/sinks",
  validateSearch: only("dead"),
  component: lazyRouteComponent(() => import("./pages/sinks"), "SinksPage"),
});

const rulesRoute = createRoute({
  getParentRoute: () => shellRoute,
  path: "/rules",
  component: lazyRouteComponent(() => import("./pages/rules"), "RulesPage"),
});

const ruleRoute = createRoute({
  getParentRoute: () => shellRoute,
  path: "/rules/$name",
  component: lazyRouteComponent(() => import("./pages/rule"), "RulePage"),
});

const changesRoute = createRoute({
  getParentRoute: () => shellRoute,
  path: "/changes",
  validateSearch: only("state"),
  component: lazyRouteComponent(() => import("./pages/changes"), "ChangesPage"),
});

const changeRoute = createRoute({
  getParentRoute: () => shellRoute,
  path: "/changes/$id",
  component: lazyRouteComponent(() => import("./pages/change"), "ChangePage"),
});

const carvesRoute = createRoute({
  getParentRoute: () => shellRoute,
  path: "/carves",
  validateSearch: only("node", "state", "fetch"),
  component: lazyRouteComponent(() => import("./pages/carves"), "CarvesPage"),
});

const carveRoute = createRoute({
  getParentRoute: () => shellRoute,
  path: "/carves/$id",
  validateSearch: only("archive"),
  component: lazyRouteComponent(() => import("./pages/carve"), "CarvePage"),
});

const triggersRoute = createRoute({
  getParentRoute: () => shellRoute,
  path: "/triggers",
  component: lazyRouteComponent(() => import("./pages/triggers"), "TriggersPage"),
});

const secretsRoute = createRoute({
  getParentRoute: () => shellRoute,
  path: "/secrets",
  component: lazyRouteComponent(() => import("./pages/secrets"), "SecretsPage"),
});

const peopleRoute = createRoute({
  getParentRoute: () => shellRoute,
  path: "/people",
  validateSearch: only("text", "show"),
  component: lazyRouteComponent(() => import("./pages/people"), "PeoplePage"),
});

const personRoute = createRoute({
  getParentRoute: () => shellRoute,
  path: "/people/$name",
  component: lazyRouteComponent(() => import("./pages/person"), "PersonPage"),
});

const rolesRoute = createRoute({
  getParentRoute: () => shellRoute,
  path: "/roles",
  validateSearch: only("may"),
  component: lazyRouteComponent(() => import("./pages/roles"), "RolesPage"),
});

const tokensRoute = createRoute({
  getParentRoute: () => shellRoute,
  path: "/tokens",
  validateSearch: only("text", "show"),
  component: lazyRouteComponent(() => import("./pages/tokens"), "TokensPage"),
});

const auditRoute = createRoute({
  getParentRoute: () => shellRoute,
  path: "/audit",
  validateSearch: only("actor", "outcome", "entry"),
  component: lazyRouteComponent(() => import("./pages/audit"), "AuditPage"),
});

const accountRoute = createRoute({
  getParentRoute: () => shellRoute,
  path: "/account",
  component: lazyRouteComponent(() => import("./pages/account"), "AccountPage"),
});

const routeTree = rootRoute.addChildren([
  setupRoute,
  inviteRoute,
  loginRoute,
  shellRoute.addChildren([
    overviewRoute,
    nodesRoute,
    nodeRoute,
    liveRoute.addChildren([liveIndexRoute, liveResultsRoute]),
    findingsRoute,
    eventsRoute,
    alertsRoute,
    alertRoute,
    rulesRoute,
    ruleRoute,
    sinksRoute,
    carvesRoute,
    carveRoute,
    triggersRoute,
    changesRoute,
    changeRoute,
    secretsRoute,
    peopleRoute,
    personRoute,
    rolesRoute,
    tokensRoute,
    auditRoute,
    accountRoute,
  ]),
]);

/** Search parameters are plain strings, so that people can read and type them. */
function parseSearch(search: string): Record<string, string> {
  return Object.fromEntries(new URLSearchParams(search));
}

function stringifySearch(search: Record<string, unknown>): string {
  const params = new URLSearchParams();
  for (const [key, value] of Object.entries(search)) {
    if (value !== undefined && value !== null && value !== "") params.set(key, String(value));
  }
  const out = params.toString();
  return out ? `?${out}` : "";
}

export function makeRouter(queryClient: QueryClient) {
  return createRouter({
    routeTree,
    context: { queryClient },
    defaultPreload: "intent",
    defaultPreloadStaleTime: 0,
    defaultPendingComponent: Pending,
    defaultErrorComponent: Crashed,
    parseSearch,
    stringifySearch,
  });
}

declare module "@tanstack/react-router" {
  interface Register {
    router: ReturnType<typeof makeRouter>;
  }
}
