import { useInfiniteQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { useCallback, useMemo } from "react";

import { liveAnswersQuery } from "@/api/live";
import type { Live, LiveAnswer, NodeState } from "@/api/types";
import { formatBytes, formatCount, plural } from "@/lib/format";
import { Agent, visible } from "@/lib/text";
import { DataGrid, type GridColumn } from "@/ui/data-grid";
import { Ago, Badge, Empty, ErrorNote, Loading } from "@/ui/display";
import { ExportMenu } from "./live-export";

const meanings: Record<NodeState, string> = {
  answered: "They answered with rows.",
  empty: "They answered, and had no rows.",
  failed: "Their osquery said that the query failed.",
  denylisted: "Their osquery does not run this query any more, because its watchdog had to stop it.",
  over_limit: "Their answer had more rows or bytes than the limits let in; what fits is kept.",
  expired: "They did not answer before the query ended.",
  stopped: "The query was stopped before they answered.",
  sent: "They have read the query and did not answer yet. One that does not gets it again.",
  waiting: "They did not ask yet. Each asks at its next poll.",
};

/** The nodes of a live query that are in one state. */
export function NodesIn({ state, live }: { state: NodeState; live: Live }) {
  const count = live.counts[state] ?? 0;
  const query = useInfiniteQuery(liveAnswersQuery(live.id, state, live.state === "running"));
  const { hasNextPage, isFetchingNextPage, fetchNextPage } = query;
  const answers = useMemo(() => query.data?.pages.flatMap((p) => p.answers) ?? [], [query.data]);
  const more = useCallback(() => {
    if (hasNextPage && !isFetchingNextPage) void fetchNextPage();
  }, [hasNextPage, isFetchingNextPage, fetchNextPage]);
  const columns = useMemo(() => answerColumns(state), [state]);
  if (query.error) {
    return (
      <div className="p-4">
        <ErrorNote error={query.error} title="The nodes could not be loaded" onRetry={() => void query.refetch()} />
      </div>
    );
  }
  return (
    <>
      <div className="flex shrink-0 items-center gap-3 border-b border-line px-3 py-2 text-xs text-fg-3">
        <span className="min-w-0 flex-1">{meanings[state]}</span>
        <ExportMenu id={live.id} what="nodes" state={state} disabled={count === 0} note={`${plural(count, "node")}: ${state.replace("_", " ")}`} />
      </div>
      <div className="min-h-0 flex-1 overflow-hidden rounded-b-lg">
        <DataGrid
          label={`Nodes: ${state}`}
          columns={columns}
          rows={answers}
          rowKey={(a) => a.node_id}
          rowHeight={34}
          total={count}
          onEndReached={more}
          empty={query.isPending ? <Loading /> : <Empty icon="nodes" title={state === "failed" ? "No node failed" : "No nodes"} />}
          footer={isFetchingNextPage ? "Loading more…" : undefined}
        />
      </div>
    </>
  );
}

const host: GridColumn<LiveAnswer> = {
  id: "host",
  header: "node",
  width: "minmax(180px, 260px)",
  cell: (a) => (
    <Link to="/nodes/$id" params={{ id: a.node_id }} className="font-medium hover:text-accent">
      <Agent>{a.hostname || a.host_identifier}</Agent>
    </Link>
  ),
};
const identifier: GridColumn<LiveAnswer> = {
  id: "identifier",
  header: "host identifier",
  width: "minmax(200px, 1fr)",
  cell: (a) => <Agent className="font-mono text-xs text-fg-2">{a.host_identifier}</Agent>,
};
const sent: GridColumn<LiveAnswer> = {
  id: "sent",
  header: "sent",
  width: "150px",
  cell: (a) => (
    <span className="text-fg-2">
      {a.sent_at ? <Ago time={a.sent_at} /> : "not yet"}
      {(a.attempts ?? 0) > 1 && <span className="text-warn"> · {a.attempts} times</span>}
    </span>
  ),
};
const when: GridColumn<LiveAnswer> = {
  id: "when",
  header: "answered",
  width: "148px",
  cell: (a) => (
    <span className="inline-flex items-center gap-1.5 text-fg-2">
      <Ago time={a.answered_at} />
      {a.late && (
        <Badge tone="warn" title="The answer came after the query had ended; it is kept">
          late
        </Badge>
      )}
      {a.cut && (
        <Badge tone="warn" title="The answer was longer than the limits let in; the rest is not kept">
          cut
        </Badge>
      )}
    </span>
  ),
};
const message: GridColumn<LiveAnswer> = {
  id: "message",
  header: "message",
  width: "minmax(240px, 1fr)",
  cell: (a) => (
    <span title={visible(a.message ?? "")}>
      <Agent className="font-mono text-xs text-bad">{a.message}</Agent>
    </span>
  ),
};
const spent: GridColumn<LiveAnswer>[] = [
  { id: "rows", header: "rows", width: "76px", align: "right", cell: (a) => formatCount(a.rows?.length ?? 0) },
  { id: "wall", header: "wall time", width: "100px", align: "right", cell: (a) => `${formatCount(a.stats.wall_time_ms)} ms` },
  { id: "cpu", header: "CPU", width: "84px", align: "right", cell: (a) => `${formatCount(a.stats.user_time + a.stats.system_time)} ms` },
  { id: "memory", header: "memory", width: "96px", align: "right", cell: (a) => formatBytes(Math.max(0, a.stats.memory)) },
  { id: "rest", header: "", width: "minmax(0, 1fr)", cell: () => null },
];

function answerColumns(state: NodeState): GridColumn<LiveAnswer>[] {
  switch (state) {
    case "waiting":
    case "sent":
    case "expired":
    case "stopped":
      return [host, sent, identifier];
    case "failed":
    case "denylisted":
      return [host, when, message];
    case "over_limit":
      return [host, when, spent[0]!, { ...message, cell: (a) => <Agent className="text-xs text-fg-2">{a.message}</Agent> }];
    default:
      return [host, when, ...spent];
  }
}
