import { useQuery } from "@tanstack/react-query";
import { useState } from "react";

import { liveGroupsQuery, liveResultsQuery } from "@/api/live";
import type { Live, ResultGroup } from "@/api/types";
import { formatCount, plural } from "@/lib/format";
import { Agent, visible } from "@/lib/text";
import { andWhere } from "@/lib/where";
import { Select } from "@/ui/controls";
import { DataGrid, type GridColumn } from "@/ui/data-grid";
import { Empty, ErrorNote, Loading } from "@/ui/display";
import { useInfiniteQuery } from "@tanstack/react-query";
import { Value } from "./live-rows";

interface GroupsProps {
  live: Live;
  where: string;
  onWhere: (where: string) => void;
}

/** How often each value of a column occurs, and on how many nodes: the rare ones are often the ones that matter. */
export function Groups({ live, where, onWhere }: GroupsProps) {
  const [chosen, setChosen] = useState("");
  const { data: results } = useInfiniteQuery(liveResultsQuery(live.id, { where: where || undefined, sort: undefined, desc: undefined }));
  const columns = results?.pages[0]?.columns ?? [];
  const by = chosen === "hostname" || columns.some((c) => c.name === chosen) ? chosen : (columns.find((c) => c.type === "text") ?? columns[0])?.name;
  if (!results) return <Loading />;
  if (by === undefined) return <Empty icon="events" title="There are no rows to count">They are counted here as soon as nodes have answered.</Empty>;
  return (
    <GroupTable
      live={live}
      by={by}
      where={where}
      onPick={(value) => onWhere(andWhere(where, by, "=", value))}
      picker={<Select label="Count by" size="sm" prefix="count by" value={by} onChange={setChosen} options={[...columns.map((c) => ({ value: c.name, label: visible(c.name) })), { value: "hostname", label: "node" }]} />}
    />
  );
}

interface GroupTableProps {
  live: Live;
  by: string;
  where: string;
  onPick: (value: string) => void;
  picker: React.ReactNode;
}

function GroupTable({ live, by, where, onPick, picker }: GroupTableProps) {
  const query = useQuery({ ...liveGroupsQuery(live.id, by, where || undefined), refetchInterval: live.state === "running" ? 3000 : false });
  const { data, error } = query;
  const most = Math.max(1, ...(data?.groups.map((g) => g.rows) ?? []));
  const columns: GridColumn<ResultGroup>[] = [
    {
      id: "value",
      header: <Agent>{by}</Agent>,
      width: "minmax(220px, 2fr)",
      cell: (g) => (g.value === "" ? <span className="text-fg-3">empty</span> : <Value>{g.value}</Value>),
    },
    { id: "rows", header: "rows", width: "100px", align: "right", cell: (g) => formatCount(g.rows) },
    { id: "nodes", header: "nodes", width: "100px", align: "right", cell: (g) => formatCount(g.nodes) },
    {
      id: "share",
      header: "",
      width: "minmax(120px, 1fr)",
      cell: (g) => (
        <span className="block h-1.5 overflow-hidden rounded-full bg-hover" aria-hidden="true">
          <span className="block h-full rounded-full bg-chart" style={{ width: `${Math.max(1, (g.rows / most) * 100)}%` }} />
        </span>
      ),
    },
  ];
  return (
    <>
      <div className="flex shrink-0 flex-wrap items-center gap-3 border-b border-line px-3 py-2 text-xs text-fg-3">
        {picker}
        {data && (
          <span className="tnum">
            {data.more && "more than "}
            {plural(data.distinct, "value")}
            {data.other_rows > 0 && `, the most frequent ${formatCount(data.groups.length)} are shown; ${plural(data.other_rows, "row")} have others`}
          </span>
        )}
        {where && (
          <span className="truncate">
            where <Agent className="font-mono">{where}</Agent>
          </span>
        )}
      </div>
      {error && (
        <div className="p-3">
          <ErrorNote error={error} title="The rows could not be counted" onRetry={() => void query.refetch()} />
        </div>
      )}
      <div className="min-h-0 flex-1 overflow-hidden rounded-b-lg">
        {!data && !error ? (
          <Loading />
        ) : (
          <DataGrid
            label="Counts"
            columns={columns}
            rows={data?.groups ?? []}
            rowKey={(g) => g.value}
            rowHeight={32}
            stale={query.isPlaceholderData}
            onRowClick={(g) => onPick(g.value)}
            empty={<Empty icon="filter" title="No rows to count" />}
          />
        )}
      </div>
    </>
  );
}
