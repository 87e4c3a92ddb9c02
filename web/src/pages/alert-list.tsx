import { useInfiniteQuery } from "@tanstack/react-query";
import { Link, useNavigate } from "@tanstack/react-router";
import { useCallback, type ReactNode } from "react";

import { alertsQuery, type AlertsParams } from "@/api/alerts";
import type { Alert, AlertState } from "@/api/types";
import { formatCount } from "@/lib/format";
import { Agent, visible } from "@/lib/text";
import { DataGrid, type GridColumn } from "@/ui/data-grid";
import { Ago, Badge, ErrorNote, Loading, type BadgeTone } from "@/ui/display";
import { SeverityBadge } from "@/ui/severity";

const stateTones: Record<AlertState, BadgeTone> = { open: "bad", acknowledged: "accent", resolved: "ok" };

export function AlertStateBadge({ state }: { state: AlertState }) {
  return <Badge tone={stateTones[state] ?? "neutral"}>{state}</Badge>;
}

const stop = (e: React.MouseEvent) => e.stopPropagation();

const columns: GridColumn<Alert>[] = [
  { id: "severity", header: "Severity", width: "92px", cell: (a) => <SeverityBadge severity={a.severity} /> },
  {
    id: "title",
    header: "Alert",
    width: "minmax(220px, 2fr)",
    cell: (a) => (
      <span className="flex min-w-0 items-center gap-2" title={visible(a.title)}>
        <Link to="/alerts/$id" params={{ id: a.id }} onClick={stop} className="truncate font-medium hover:text-accent">
          <Agent>{a.title}</Agent>
        </Link>
        {a.silenced_by && <Badge title="A silence keeps it from being told">silenced</Badge>}
      </span>
    ),
  },
  {
    id: "rule",
    header: "Rule",
    width: "minmax(110px, 200px)",
    cell: (a) =>
      a.rule.includes(":") ? (
        <Agent className="font-mono text-xs text-fg-2">{a.rule}</Agent>
      ) : (
        <Link to="/rules/$name" params={{ name: a.rule }} onClick={stop} className="font-mono text-xs text-fg-2 hover:text-accent">
          <Agent>{a.rule}</Agent>
        </Link>
      ),
  },
  { id: "state", header: "State", width: "116px", cell: (a) => <AlertStateBadge state={a.state} /> },
  { id: "count", header: "Count", width: "76px", align: "right", cell: (a) => <span title="Firings">{formatCount(a.count)}</span> },
  { id: "last", header: "Last seen", width: "104px", cell: (a) => <span className="text-fg-2"><Ago time={a.last_at} /></span> },
  { id: "assignee", header: "Assignee", width: "110px", cell: (a) => <Agent className="text-fg-2">{a.assignee || "–"}</Agent> },
];

const node: GridColumn<Alert> = {
  id: "node",
  header: "Node",
  width: "minmax(110px, 180px)",
  cell: (a) =>
    a.node_id ? (
      <Link to="/nodes/$id" params={{ id: a.node_id }} onClick={stop} className="hover:text-accent">
        <Agent>{a.hostname || a.host_identifier || a.node_id}</Agent>
      </Link>
    ) : (
      <span className="text-fg-3">–</span>
    ),
};

// The page of all alerts has a tab for each state.
const withNode = [...columns.slice(0, 3), node, ...columns.slice(4)];

/** Alerts, those that were opened last first; of one node without the column that says so. */
export function AlertList({ params, empty, ofNode }: { params: AlertsParams; empty: ReactNode; ofNode?: boolean }) {
  const navigate = useNavigate();
  const query = useInfiniteQuery(alertsQuery(params));
  const { data, error, hasNextPage, fetchNextPage, isFetchingNextPage } = query;
  const more = useCallback(() => {
    if (hasNextPage && !isFetchingNextPage) void fetchNextPage();
  }, [hasNextPage, isFetchingNextPage, fetchNextPage]);
  if (error && !data) {
    return (
      <div className="p-4">
        <ErrorNote error={error} title="The alerts could not be loaded" onRetry={() => void query.refetch()} />
      </div>
    );
  }
  if (!data) return <Loading />;
  return (
    <DataGrid
      label="Alerts"
      columns={ofNode ? columns : withNode}
      rows={data.pages.flatMap((p) => p.alerts)}
      rowKey={(a) => a.id}
      rowHeight={40}
      minWidth={ofNode ? 800 : 820}
      stale={query.isPlaceholderData}
      onRowClick={(a) => void navigate({ to: "/alerts/$id", params: { id: a.id } })}
      onEndReached={more}
      footer={isFetchingNextPage ? "Loading more…" : undefined}
      empty={empty}
    />
  );
}
