import { useInfiniteQuery } from "@tanstack/react-query";
import { Link, useNavigate } from "@tanstack/react-router";
import { useCallback, type ReactNode } from "react";

import { carvesQuery, type CarvesParams } from "@/api/carves";
import type { Carve } from "@/api/types";
import { plural } from "@/lib/format";
import { Agent, visible } from "@/lib/text";
import { DataGrid, type GridColumn } from "@/ui/data-grid";
import { Ago, ErrorNote, Loading } from "@/ui/display";
import { CarveStateBadge, Meter, Received } from "./carve-state";

const node: GridColumn<Carve> = {
  id: "node",
  header: "Node",
  width: "minmax(120px, 200px)",
  cell: (c) => (
    <Link to="/nodes/$id" params={{ id: c.node_id }} onClick={(e) => e.stopPropagation()} className="hover:text-accent">
      <Agent>{c.hostname || c.host_identifier}</Agent>
    </Link>
  ),
};

const columns: GridColumn<Carve>[] = [
  { id: "state", header: "State", width: "116px", cell: (c) => <CarveStateBadge state={c.state} /> },
  {
    id: "paths",
    header: "Files",
    width: "minmax(220px, 2fr)",
    cell: (c) => (
      <Link to="/carves/$id" params={{ id: c.id }} onClick={(e) => e.stopPropagation()} title={visible(c.paths.join("\n"))} className="hover:text-accent">
        <Agent className="font-mono text-xs">{c.paths[0]}</Agent>
        {c.paths.length > 1 && <span className="text-fg-3"> and {plural(c.paths.length - 1, "path")} more</span>}
      </Link>
    ),
  },
  {
    id: "size",
    header: "Size",
    width: "150px",
    align: "right",
    cell: (c) => (
      <>
        <Received carve={c} />
        {c.state === "uploading" && <Meter part={c.received} whole={c.size} label="Received" />}
      </>
    ),
  },
  { id: "reason", header: "Reason", width: "minmax(100px, 1fr)", cell: (c) => <span title={visible(c.message || c.reason || "")}><Agent className={c.message ? "text-bad" : "text-fg-2"}>{c.message || c.reason}</Agent></span> },
  { id: "by", header: "Asked by", width: "110px", cell: (c) => <Agent className="text-fg-2">{c.created_by}</Agent> },
  { id: "at", header: "Asked", width: "104px", cell: (c) => <span className="text-fg-2"><Ago time={c.created_at} /></span> },
  { id: "kept", header: "Kept until", width: "104px", cell: (c) => <span className="text-fg-2">{c.kept_until ? <Ago time={c.kept_until} /> : "–"}</span> },
];

const withNode = [columns[0]!, node, ...columns.slice(1)];

/** Carves, the newest first; of one node if params say so. */
export function CarveList({ params, empty }: { params: CarvesParams; empty: ReactNode }) {
  const navigate = useNavigate();
  const query = useInfiniteQuery(carvesQuery(params));
  const { data, error, hasNextPage, fetchNextPage, isFetchingNextPage } = query;
  const more = useCallback(() => {
    if (hasNextPage && !isFetchingNextPage) void fetchNextPage();
  }, [hasNextPage, isFetchingNextPage, fetchNextPage]);
  if (error && !data) {
    return (
      <div className="p-4">
        <ErrorNote error={error} title="The carves could not be loaded" onRetry={() => void query.refetch()} />
      </div>
    );
  }
  if (!data) return <Loading />;
  return (
    <DataGrid
      label="Carves"
      columns={params.node ? columns : withNode}
      rows={data.pages.flatMap((p) => p.carves)}
      rowKey={(c) => c.id}
      rowHeight={40}
      minWidth={900}
      stale={query.isPlaceholderData}
      onRowClick={(c) => void navigate({ to: "/carves/$id", params: { id: c.id } })}
      onEndReached={more}
      footer={isFetchingNextPage ? "Loading more…" : undefined}
      empty={empty}
    />
  );
}
