import { useInfiniteQuery, useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { useState, type ReactNode } from "react";

import { healthQuery } from "@/api/health";
import { nodesQuery, openAlertsQuery, overviewQuery } from "@/api/queries";
import type { Count, Facets, NewSecret, Overview } from "@/api/types";
import { formatBytes, formatCompact, formatCount, formatDuration, platformName, plural } from "@/lib/format";
import { useTitle } from "@/lib/hooks";
import { Agent } from "@/lib/text";
import { Bars } from "@/ui/bars";
import { buttonClass } from "@/ui/controls";
import { Ago, Card, Empty, ErrorNote, Loading, Notice, PageHeader, StatusDot, TagBadge } from "@/ui/display";
import { Icon, PlatformIcon } from "@/ui/icons";
import { SeverityBadge } from "@/ui/severity";
import { kindName } from "./finding-kind";
import { EnrolSteps, SecretForm, SecretValue } from "./secret-dialog";

export function OverviewPage() {
  useTitle("Overview");
  const { data, error, refetch } = useQuery(overviewQuery);
  return (
    <div className="mx-auto flex max-w-[100rem] flex-col gap-4 px-5 py-4">
      <PageHeader title="Overview" />
      {error && !data && <ErrorNote error={error} title="The overview could not be loaded" onRetry={() => void refetch()} />}
      {!data && !error && <Loading />}
      {data && (data.nodes.total === 0 ? <FirstNode agentURL={data.agent_url} /> : <Figures data={data} />)}
    </div>
  );
}

function Figures({ data }: { data: Overview }) {
  const { total, online } = data.nodes;
  const lastDay = data.events_per_hour.reduce((sum, b) => sum + b.count, 0);
  return (
    <>
      <Warnings nodes={data.nodes} />
      <div className="grid grid-cols-2 gap-3 md:grid-cols-3 xl:grid-cols-6">
        <Figure label="Online" value={online} note={`${total ? Math.round((online / total) * 100) : 0}% of ${plural(total, "node")}`} to="/nodes" search={{ status: "online" }} dot="online" />
        <Figure label="Offline" value={total - online} note="not heard from" to="/nodes" search={{ status: "offline" }} dot="offline" />
        <Figure label="New" value={data.new_nodes} note="enrolled within a day" to="/nodes" search={{ sort: "enrolled_at", order: "desc" }} />
        <Figure label="Events in 24 h" value={lastDay} note="received" to="/events" search={{ since: "24h" }} />
        <Figure label="Events stored" value={data.events_stored} note={formatBytes(data.bytes_stored)} to="/events" search={{}} />
        <Figure label="Live queries" value={data.live_running} note="running now" to="/live" search={{}} />
      </div>
      <div className="grid gap-4 lg:grid-cols-3">
        <Card title="Events in the last 24 hours" className="lg:col-span-2">
          {lastDay === 0 ? (
            <Empty icon="events" title="No events in the last 24 hours">
              They appear as soon as nodes log results of scheduled queries.
            </Empty>
          ) : (
            <Bars buckets={data.events_per_hour} label="Events in the last 24 hours" unit="events" height={212} />
          )}
        </Card>
        <Card title="Server">
          <dl className="flex flex-col divide-y divide-line text-sm [&>div]:flex [&>div]:justify-between [&>div]:gap-4 [&>div]:py-[0.4375rem] [&>div:first-child]:pt-0">
            <Fact name="Agents connect to" value={<span className="font-mono text-xs">{data.agent_url}</span>} />
            <Fact name="Agents' requests" value={formatCount(data.requests_total)} />
            <Fact name="Running for" value={formatDuration(data.uptime_seconds)} />
            <Fact name="Version" value={<span className="font-mono text-xs">{data.version}</span>} />
          </dl>
          <Link to="/secrets" className={`${buttonClass("plain", "sm")} mt-3`}>
            <Icon name="plus" size={14} /> Enrol more nodes
          </Link>
        </Card>
        <OpenAlerts />
        <Findings />
        <Breakdown title="Platforms" counts={data.nodes.platforms} total={total} param="platform" name={platformName} icon />
        <Breakdown title="osquery versions" counts={data.nodes.versions} total={total} param="version" />
        <Breakdown title="Tags" counts={data.nodes.tags} total={total} param="tag" />
      </div>
      <Newest />
    </>
  );
}

/** What somebody should look at, if there is anything. */
function Warnings({ nodes }: { nodes: Facets }) {
  const { quarantined, clashes_24h: clashed } = nodes;
  if (quarantined + clashed === 0) return null;
  return (
    <Notice>
      {clashed > 0 && <p>Another machine claimed the identity of {plural(clashed, "node")} within a day.</p>}
      {quarantined > 0 && (
        <p>
          <Link to="/nodes" search={{ status: "quarantined" }} className="underline underline-offset-2">
            {plural(quarantined, "node")}
          </Link>{" "}
          {quarantined === 1 ? "is" : "are"} under quarantine.
        </p>
      )}
    </Notice>
  );
}

function Fact({ name, value }: { name: string; value: ReactNode }) {
  return (
    <div>
      <dt className="shrink-0 text-fg-3">{name}</dt>
      <dd className="tnum min-w-0 truncate">{value}</dd>
    </div>
  );
}

function Figure({ label, value, note, to, search, dot }: {
  label: string;
  value: number;
  note: string;
  to: "/nodes" | "/events" | "/live";
  search: Record<string, string>;
  dot?: "online" | "offline";
}) {
  return (
    <Link to={to} search={search} className="group rounded-lg border border-line bg-surface px-4 py-3 shadow-card transition-colors hover:border-line-strong">
      <span className="flex items-center gap-1.5 text-xs font-medium text-fg-3">
        {dot && <StatusDot status={dot} bare />}
        {label}
      </span>
      <span className="tnum mt-0.5 block text-2xl font-semibold tracking-tight" title={formatCount(value)}>
        {formatCompact(value)}
      </span>
      <span className="block truncate text-xs text-fg-3">{note}</span>
    </Link>
  );
}

function Breakdown({ title, counts, total, param, name = (v) => v, icon }: {
  title: string;
  counts: Count[];
  total: number;
  param: "platform" | "version" | "tag";
  name?: (value: string) => string;
  icon?: boolean;
}) {
  const shown = counts.slice(0, 5);
  const rest = counts.length - shown.length;
  return (
    <Card title={title}>
      {shown.length === 0 && <p className="text-sm text-fg-3">None yet.</p>}
      <ul className="flex flex-col gap-2.5">
        {shown.map((c) => (
          <li key={c.value}>
            <Link to="/nodes" search={{ [param]: c.value }} className="group block rounded-sm">
              <span className="flex items-center gap-2 text-sm">
                {icon && <PlatformIcon platform={c.value} />}
                <span className="min-w-0 truncate group-hover:text-accent">{c.value ? <Agent>{name(c.value)}</Agent> : "unknown"}</span>
                <span className="tnum ml-auto text-fg-2">{formatCount(c.count)}</span>
                <span className="tnum w-9 text-right text-xs text-fg-3">{total ? Math.round((c.count / total) * 100) : 0}%</span>
              </span>
              <span className="mt-1 block h-1 overflow-hidden rounded-full bg-hover">
                <span className="block h-full rounded-full bg-chart" style={{ width: `${total ? Math.max(0.8, (c.count / total) * 100) : 0}%` }} />
              </span>
            </Link>
          </li>
        ))}
      </ul>
      {rest > 0 && <p className="mt-2.5 text-xs text-fg-3">and {rest} more</p>}
    </Card>
  );
}

function OpenAlerts() {
  const { data, error } = useQuery(openAlertsQuery);
  return (
    <Card
      title={data ? plural(data.counts.open ?? 0, "open alert") : "Open alerts"}
      flush
      className="lg:col-span-2"
      actions={
        <Link to="/alerts" className="text-xs font-medium text-accent hover:underline">
          All alerts
        </Link>
      }
    >
      {error && !data && <div className="p-4"><ErrorNote error={error} /></div>}
      {data?.alerts.length === 0 && <p className="p-4 text-sm text-fg-3">No alert is open.</p>}
      <ul aria-label="Open alerts">
        {data?.alerts.map((a) => (
          <li key={a.id} className="flex h-9 items-center gap-3 border-b border-line/70 px-4 text-sm last:border-0 hover:bg-hover">
            <span className="w-16 shrink-0">
              <SeverityBadge severity={a.severity} />
            </span>
            <Link to="/alerts/$id" params={{ id: a.id }} className="min-w-0 flex-1 truncate font-medium hover:text-accent">
              <Agent>{a.title}</Agent>
            </Link>
            <span className="text-xs text-fg-3">
              <Ago time={a.last_at} />
            </span>
          </li>
        ))}
      </ul>
    </Card>
  );
}

/** What is open about nodes, by kind. */
function Findings() {
  const { data, error } = useQuery(healthQuery);
  const kinds = Object.entries(data?.open ?? {}).sort((a, b) => b[1] - a[1]);
  return (
    <Card
      title="Findings"
      actions={
        <Link to="/findings" className="text-xs font-medium text-accent hover:underline">
          All findings
        </Link>
      }
    >
      {error && !data && <ErrorNote error={error} />}
      {data && kinds.length === 0 && <p className="text-sm text-fg-3">Nothing is found about any node.</p>}
      <ul className="flex flex-col gap-1.5" aria-label="Findings by kind">
        {kinds.slice(0, 8).map(([kind, count]) => (
          <li key={kind} className="flex items-baseline gap-3 text-sm">
            <Link to="/findings" search={{ kind }} className="min-w-0 flex-1 truncate hover:text-accent">
              {kindName(kind)}
            </Link>
            <span className="tnum text-fg-2">{formatCount(count)}</span>
          </li>
        ))}
      </ul>
    </Card>
  );
}

function Newest() {
  const { data, error } = useInfiniteQuery(nodesQuery({ sort: "enrolled_at", order: "desc" }, 8));
  const nodes = data?.pages[0]?.nodes ?? [];
  return (
    <Card
      title="Newest nodes"
      flush
      actions={
        <Link to="/nodes" search={{ sort: "enrolled_at", order: "desc" }} className="text-xs font-medium text-accent hover:underline">
          All nodes
        </Link>
      }
    >
      {error && <div className="p-4"><ErrorNote error={error} /></div>}
      <table className="w-full table-fixed text-sm">
        <thead>
          <tr className="h-8 border-b border-line text-left text-xs text-fg-3 [&>th]:px-4 [&>th]:font-medium">
            <th>Hostname</th>
            <th>Operating system</th>
            <th className="w-24">osquery</th>
            <th>Tags</th>
            <th className="w-28">Status</th>
            <th className="w-32">Enrolled</th>
          </tr>
        </thead>
        <tbody>
          {nodes.map((n) => (
            <tr key={n.id} className="h-9 border-b border-line/70 last:border-0 hover:bg-hover [&>td]:truncate [&>td]:px-4">
              <td>
                <Link to="/nodes/$id" params={{ id: n.id }} className="font-medium hover:text-accent">
                  <Agent>{n.hostname || n.host_identifier}</Agent>
                </Link>
              </td>
              <td className="text-fg-2">
                <span className="inline-flex max-w-full items-center gap-1.5">
                  <PlatformIcon platform={n.platform} />
                  <Agent className="truncate">{n.os}</Agent>
                </span>
              </td>
              <td className="tnum text-fg-2">
                <Agent>{n.osquery_version}</Agent>
              </td>
              <td>
                <span className="flex gap-1 overflow-hidden">
                  {n.tags.slice(0, 3).map((t) => (
                    <TagBadge key={t} tag={t} />
                  ))}
                </span>
              </td>
              <td>
                <StatusDot status={n.status} />
              </td>
              <td className="text-fg-2">
                <Ago time={n.enrolled_at} />
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </Card>
  );
}

/** What an empty fleet needs: the way to its first node. */
function FirstNode({ agentURL }: { agentURL: string }) {
  const [secret, setSecret] = useState<NewSecret | null>(null);
  return (
    <div className="grid items-start gap-4 lg:grid-cols-[minmax(0,5fr)_minmax(0,7fr)]">
      <Card title={secret ? `1. Enroll secret ${secret.name}` : "1. Make an enroll secret"}>
        <p className="mb-4 text-sm text-fg-3">
          No node has enrolled yet. A node shows this secret once, when it enrols, and gets the tags that you give the secret.
        </p>
        {secret ? <SecretValue secret={secret} agentURL={undefined} /> : <SecretForm onMade={setSecret} />}
      </Card>
      <Card
        title="2. Point osquery at this server"
        actions={
          <span className="flex items-center gap-2 text-xs text-fg-3" role="status">
            <span className="pulse size-2 rounded-full bg-info-fill" aria-hidden="true" />
            Waiting for the first node
          </span>
        }
      >
        <EnrolSteps agentURL={agentURL} {...(secret ? { secret: secret.value } : {})} />
        <p className="mt-4 text-sm text-fg-3">
          This page changes by itself when the node has enrolled. Paths are those of Linux; on macOS use /private/var/osquery, on Windows C:\Program
          Files\osquery.
        </p>
      </Card>
    </div>
  );
}
