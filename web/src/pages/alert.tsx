import { useQuery } from "@tanstack/react-query";
import { getRouteApi, Link } from "@tanstack/react-router";
import type { ReactNode } from "react";

import { alertQuery } from "@/api/alerts";
import { ApiError } from "@/api/client";
import type { AlertDetail, AlertEntry, AlertNotification, AlertSample } from "@/api/types";
import { useAlertStream } from "@/lib/alert-stream";
import { formatCount, formatTime, plural } from "@/lib/format";
import { useTitle } from "@/lib/hooks";
import { Agent, Lines, visible } from "@/lib/text";
import { buttonClass } from "@/ui/controls";
import { Ago, Badge, Card, Empty, ErrorNote, Facts, Loading, Notice, type BadgeTone } from "@/ui/display";
import { head, line } from "@/ui/section";
import { SeverityBadge } from "@/ui/severity";
import { AlertActs } from "./alert-acts";
import { AlertStateBadge } from "./alert-list";

const route = getRouteApi("/shell/alerts/$id");

/** All about an alert. */
export function AlertPage() {
  const { id } = route.useParams();
  const { data: alert, error, refetch } = useQuery(alertQuery(id));
  useAlertStream();
  useTitle(alert ? visible(alert.title) : "Alert");
  if (error && !alert) {
    const gone = error instanceof ApiError && error.status === 404;
    return (
      <div className="p-5">
        {gone ? (
          <Empty icon="alerts" title="There is no such alert" action={<Link to="/alerts" className={buttonClass()}>All alerts</Link>}>
            Alerts that were resolved long ago are removed.
          </Empty>
        ) : (
          <ErrorNote error={error} title="The alert could not be loaded" onRetry={() => void refetch()} />
        )}
      </div>
    );
  }
  if (!alert) return <Loading lines={10} />;
  return (
    <div className="mx-auto flex max-w-[100rem] flex-col gap-4 px-5 py-4">
      <header className="flex flex-wrap items-center gap-x-3 gap-y-2">
        <SeverityBadge severity={alert.severity} />
        <h1 className="min-w-0 truncate text-lg font-semibold tracking-tight" title={visible(alert.title)}>
          <Agent>{alert.title}</Agent>
        </h1>
        <AlertStateBadge state={alert.state} />
        {alert.silenced_by && <Badge>silenced</Badge>}
        <AlertActs alert={alert} />
      </header>
      {alert.silenced_by && (
        <Notice>
          A{" "}
          <Link to="/alerts" search={{ tab: "silences" }} className="underline underline-offset-2">
            silence
          </Link>{" "}
          keeps it from being told.
        </Notice>
      )}
      <div className="grid items-start gap-4 lg:grid-cols-[minmax(0,3fr)_minmax(0,2fr)]">
        <div className="flex min-w-0 flex-col gap-4">
          {alert.text && (
            <Card title="Text">
              <Lines className="text-sm break-words">{alert.text}</Lines>
            </Card>
          )}
          <Samples samples={alert.samples} />
          <Notifications list={alert.notifications} />
        </div>
        <div className="flex min-w-0 flex-col gap-4">
          <About alert={alert} />
          <History entries={alert.history} />
        </div>
      </div>
    </div>
  );
}

function About({ alert: a }: { alert: AlertDetail }) {
  const own = a.rule.includes(":");
  const mono = (text: string) => <Agent className="font-mono text-xs break-all">{text}</Agent>;
  const facts: [string, ReactNode][] = [
    ["Rule", own ? mono(a.rule) : <Link key="r" to="/rules/$name" params={{ name: a.rule }} className="text-accent hover:underline">{mono(a.rule)}</Link>],
    ["Key", mono(a.key)],
  ];
  if (a.node_id) facts.push(["Node", <Link key="n" to="/nodes/$id" params={{ id: a.node_id }} className="text-accent hover:underline"><Agent>{a.hostname || a.host_identifier || a.node_id}</Agent></Link>]);
  if (a.query) facts.push(["Query", <Link key="q" to="/events" search={{ query: a.query, ...(a.node_id ? { node: a.node_id } : {}), since: "24h" }} className="text-accent hover:underline">{mono(a.query)}</Link>]);
  facts.push(
    ["Count", `${plural(a.count, "firing")}, opened ${plural(a.episodes, "time")}`],
    ["First seen", <Ago key="f" time={a.first_at} />],
    ["Opened", <Ago key="o" time={a.opened_at} />],
    ["Last seen", <Ago key="l" time={a.last_at} />],
  );
  if (a.acknowledged_by) facts.push(["Acknowledged", <span key="a"><Agent>{a.acknowledged_by}</Agent>, <Ago time={a.acknowledged_at} /></span>]);
  if (a.resolved_at) facts.push(["Resolved", <span key="x">by <Agent>{a.resolved_by}</Agent>, <Ago time={a.resolved_at} /></span>]);
  if (a.resolves_at && a.state !== "resolved") facts.push(["Over", <span key="e"><Ago time={a.resolves_at} />, unless it fires again</span>]);
  facts.push(["Assignee", <Agent key="w">{a.assignee || "nobody"}</Agent>]);
  const labels = Object.entries(a.labels);
  if (labels.length > 0) {
    facts.push([
      "Labels",
      <span key="b" className="flex flex-wrap gap-1">
        {labels.map(([k, v]) => (
          <Badge key={k} mono>
            <Agent>{`${k}=${v}`}</Agent>
          </Badge>
        ))}
      </span>,
    ]);
  }
  return (
    <Card title="Alert">
      <Facts items={facts} />
    </Card>
  );
}

/** The newest firings, the first of them open. */
function Samples({ samples }: { samples: AlertSample[] }) {
  return (
    <Card title="Newest firings" flush>
      {samples.length === 0 && <p className="p-4 text-sm text-fg-3">None is kept.</p>}
      {samples.map((s, i) => (
        <details key={s.number} open={i === 0} className="border-b border-line/70 last:border-0">
          <summary className="flex cursor-pointer items-center gap-3 px-4 py-2 text-sm hover:bg-hover">
            <span className="tnum text-xs text-fg-3">{formatCount(s.number)}</span>
            <span className="min-w-0 flex-1 truncate">
              <Agent>{s.title}</Agent>
            </span>
            <span className="text-xs text-fg-3">
              <Ago time={s.event_time ?? s.at} />
            </span>
          </summary>
          <div className="px-4 pb-3">
            {s.columns ? (
              <Facts
                items={Object.entries(s.columns).map(([k, v]) => [visible(k), <Agent key={k} className="font-mono text-xs break-all">{typeof v === "string" ? v : JSON.stringify(v)}</Agent>])}
              />
            ) : (
              <p className="text-sm text-fg-3">Its columns are not kept: there are none, or they are large.</p>
            )}
          </div>
        </details>
      ))}
    </Card>
  );
}

function History({ entries }: { entries: AlertEntry[] }) {
  return (
    <Card title="History" flush>
      <ol className="flex flex-col" aria-label="History">
        {entries.toReversed().map((e) => (
          <li key={e.seq} className="border-b border-line/70 px-4 py-2 text-sm last:border-0">
            <span className="flex items-baseline gap-2">
              <span className="font-medium">{e.action}</span>
              <Agent className="text-fg-2">{`by ${e.actor}`}</Agent>
              <time dateTime={e.at} className="tnum ml-auto text-xs whitespace-nowrap text-fg-3">{formatTime(e.at)}</time>
            </span>
            {e.detail && <Lines className="mt-0.5 break-words text-fg-2">{e.detail}</Lines>}
          </li>
        ))}
      </ol>
    </Card>
  );
}

const tones: Record<AlertNotification["state"], BadgeTone> = { waiting: "accent", delivered: "ok", dead: "bad" };

function Notifications({ list }: { list: AlertNotification[] }) {
  return (
    <Card title="Who was told" flush>
      {list.length === 0 ? (
        <p className="p-4 text-sm text-fg-3">Nobody: no notifier takes it, or a silence holds it.</p>
      ) : (
        <div className="overflow-x-auto">
          <table className="w-full text-sm" aria-label="Notifications">
            <thead>
              <tr className={head}>
                <th>Notifier</th>
                <th>Action</th>
                <th>State</th>
                <th>When</th>
                <th>Last error</th>
              </tr>
            </thead>
            <tbody>
              {list.map((n) => (
                <tr key={n.seq} className={line}>
                  <td>
                    <Agent className="font-mono text-xs font-medium">{n.notifier}</Agent>
                  </td>
                  <td>{n.action}</td>
                  <td>
                    <Badge tone={tones[n.state] ?? "neutral"}>{n.silence ? "silenced" : n.state}</Badge>
                  </td>
                  <td className="text-fg-2">
                    <Ago time={n.delivered_at ?? n.due_at ?? n.created_at} />
                  </td>
                  <td className="max-w-80 break-words text-bad">
                    <Agent>{n.error}</Agent>
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
    </Card>
  );
}
