import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";

import { nodeHealthQuery } from "@/api/health";
import type { NodeDetail, NodeFinding, NodeWatchdog } from "@/api/types";
import { formatCount } from "@/lib/format";
import { Agent } from "@/lib/text";
import { Ago, Card, ErrorNote, Loading } from "@/ui/display";
import { Icon } from "@/ui/icons";
import { head, line } from "@/ui/section";
import { SeverityBadge } from "@/ui/severity";
import { kindName } from "./finding-kind";

/** How a node fares: what is open, and whether its watchdog can end a query that runs wild. */
export function HealthCard({ node }: { node: NodeDetail }) {
  const { data, error, refetch } = useQuery(nodeHealthQuery(node.id));
  const links = (
    <span className="flex gap-4 text-xs font-medium text-accent [&>a:hover]:underline">
      <Link to="/alerts" search={{ node: node.id }}>
        Its alerts
      </Link>
      <Link to="/events" search={{ node: node.id, query: "muster:health", since: "720h" }}>
        Timeline
      </Link>
    </span>
  );
  return (
    <Card title="Health" flush actions={links}>
      {error && !data ? (
        <div className="p-4">
          <ErrorNote error={error} title="Its health could not be loaded" onRetry={() => void refetch()} />
        </div>
      ) : !data ? (
        <Loading lines={2} />
      ) : (
        <>
          <Watchdog watchdog={data.watchdog} />
          {data.open.length === 0 ? <p className="px-4 py-2.5 text-sm text-fg-3">Nothing is open.</p> : <Findings label="Open findings" list={data.open} />}
          <Past list={data.recent.filter((f) => f.closed_at)} />
        </>
      )}
    </Card>
  );
}

function Watchdog({ watchdog: w }: { watchdog: NodeWatchdog | undefined }) {
  if (!w) return <p className="border-b border-line px-4 py-2.5 text-sm text-fg-3">Whether its watchdog bites is not known: the node did not tell its flags. The pack muster-health asks for them.</p>;
  return (
    <p className={`flex flex-wrap items-center gap-x-2 border-b border-line px-4 py-2.5 text-sm ${w.bites ? "" : "bg-bad-soft text-bad"}`}>
      <Icon name={w.bites ? "check" : "warn"} size={15} className={w.bites ? "text-ok" : ""} />
      <span className="font-medium">{w.bites ? "Its watchdog bites" : "Its watchdog does not bite"}</span>
      <Agent>{w.why}</Agent>
      {!w.off && (
        <span className={`tnum text-xs ${w.bites ? "text-fg-3" : ""}`}>
          level {w.level}, {formatCount(w.percent)}% of {w.cores > 0 ? formatCount(w.cores) : "an unknown number of"} cores for {formatCount(w.seconds)} s, {formatCount(w.memory_mb)} MB
        </span>
      )}
    </p>
  );
}

function Past({ list }: { list: NodeFinding[] }) {
  if (list.length === 0) return null;
  return (
    <details className="border-t border-line">
      <summary className="cursor-pointer px-4 py-2 text-xs font-medium text-fg-3 hover:bg-hover">Past findings ({formatCount(list.length)})</summary>
      <div className="max-h-80 overflow-auto">
        <Findings label="Past findings" list={list} />
      </div>
    </details>
  );
}

function Findings({ label, list }: { label: string; list: NodeFinding[] }) {
  return (
    <div className="overflow-x-auto">
      <table className="w-full text-sm" aria-label={label}>
        <thead>
          <tr className={head}>
            <th>Severity</th>
            <th>Kind</th>
            <th>Finding</th>
            <th className="text-right">Count</th>
            <th>First seen</th>
            <th>Last seen</th>
          </tr>
        </thead>
        <tbody>
          {list.map((f) => (
            <tr key={`${f.kind} ${f.subject ?? ""} ${f.opened_at}`} className={line}>
              <td>
                <SeverityBadge severity={f.severity} />
              </td>
              <td className="whitespace-nowrap">{kindName(f.kind)}</td>
              <td className="w-full break-words">
                <Agent>{f.text}</Agent>
              </td>
              <td className="tnum text-right">{formatCount(f.count)}</td>
              <td className="text-fg-2">
                <Ago time={f.opened_at} />
              </td>
              <td className="text-fg-2">
                <Ago time={f.last_at} />
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
