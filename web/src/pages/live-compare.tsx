import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { useMemo, useState } from "react";

import { liveCompareQuery, liveRunsQuery } from "@/api/live";
import type { Live, LiveComparison, ResultRow } from "@/api/types";
import { formatCount, formatTime, plural } from "@/lib/format";
import { Agent, visible } from "@/lib/text";
import { Select } from "@/ui/controls";
import { DataGrid, type GridColumn } from "@/ui/data-grid";
import { Badge, Empty, ErrorNote, Loading } from "@/ui/display";
import { Value } from "./live-rows";

/** What another run of the same text did not say, and what it said beside. */
export function Compare({ live }: { live: Live }) {
  const { data: runs, error } = useQuery(liveRunsQuery(live.sql));
  const [chosen, setChosen] = useState("");
  const others = (runs ?? []).filter((r) => r.id !== live.id && r.state !== "pending" && r.state !== "rejected");
  const before = others.find((r) => r.id === live.rerun_of) ?? others.find((r) => r.created_at < live.created_at) ?? others[0];
  const other = chosen || (live.rerun_of ?? before?.id);
  if (error) return <div className="p-4"><ErrorNote error={error} title="The former runs could not be loaded" /></div>;
  if (!runs) return <Loading />;
  if (other === undefined) {
    return (
      <Empty icon="refresh" title="This text was asked only once">
        Run it again when the query has ended; then rows that are new and rows that are gone stand here.
      </Empty>
    );
  }
  const options = others.map((r) => ({
    value: r.id,
    text: formatTime(r.created_at),
    label: `${formatTime(r.created_at)}, ${plural(r.nodes, "node")}`,
    hint: plural(r.rows, "row"),
  }));
  if (!options.some((o) => o.value === other)) options.unshift({ value: other, text: "the run before", label: "the run before", hint: "" });
  return <Differences live={live} other={other} picker={<Select label="Compare with" size="sm" prefix="compare with" value={other} onChange={setChosen} options={options} />} />;
}

interface Difference {
  n: number;
  change: "added" | "gone";
  row: ResultRow;
}

function Differences({ live, other, picker }: { live: Live; other: string; picker: React.ReactNode }) {
  const query = useQuery({ ...liveCompareQuery(live.id, other), refetchInterval: live.state === "running" ? 5000 : false });
  const { data, error } = query;
  const rows = useMemo(() => differences(data), [data]);
  const columns = useMemo(() => columnsOf(rows), [rows]);
  const cut = data && rows.length < data.added_total + data.gone_total;
  return (
    <>
      <div className="flex shrink-0 flex-wrap items-center gap-3 border-b border-line px-3 py-2 text-xs text-fg-3">
        {picker}
        {data && (
          <span className="tnum" role="status" aria-label="Difference">
            <span className="font-medium text-ok">{formatCount(data.added_total)} added</span>, <span className="font-medium text-bad">{formatCount(data.gone_total)} gone</span>,{" "}
            {formatCount(data.same)} the same
            {data.nodes !== undefined && ` on ${plural(data.nodes, "node")} that answered both`}
            {cut && `; the first ${formatCount(rows.length)} are shown`}
          </span>
        )}
        {data && Boolean(data.only_new || data.only_old) && (
          <span className="tnum">
            not compared: {plural(data.only_new ?? 0, "node")} that answered this run only, {formatCount(data.only_old ?? 0)} the other only
          </span>
        )}
        {data && Boolean(data.cut_nodes) && <span className="text-warn">{plural(data.cut_nodes!, "node")} had more rows than were kept</span>}
        <Link to="/live/$id" params={{ id: other }} className="ml-auto hover:text-fg hover:underline">
          Open that run
        </Link>
      </div>
      {error && (
        <div className="p-3">
          <ErrorNote error={error} title="The runs could not be compared" onRetry={() => void query.refetch()} />
        </div>
      )}
      <div className="min-h-0 flex-1 overflow-hidden rounded-b-lg">
        {!data && !error ? (
          <Loading />
        ) : (
          <DataGrid label="Differences" columns={columns} rows={rows} rowKey={(d) => d.n} rowHeight={32} empty={data ? <Empty icon="check" title="Both runs have the same rows" /> : undefined} />
        )}
      </div>
    </>
  );
}

function differences(c: LiveComparison | undefined): Difference[] {
  if (!c) return [];
  const as = (change: Difference["change"], first: number) => (row: ResultRow, i: number) => ({ n: first + i, change, row });
  return [...c.added.map(as("added", 0)), ...c.gone.map(as("gone", c.added.length))];
}

const numeric = /^(-?\d+(\.\d+)?)?$/;

function columnsOf(rows: Difference[]): GridColumn<Difference>[] {
  const names = [...new Set(rows.flatMap((d) => Object.keys(d.row.columns)))];
  return [
    { id: "\u0000change", header: "", width: "84px", cell: (d) => <Badge tone={d.change === "added" ? "ok" : "bad"}>{d.change === "added" ? "+ added" : "− gone"}</Badge> },
    {
      id: "\u0000node",
      header: "node",
      width: "minmax(120px, 200px)",
      cell: (d) => (
        <Link to="/nodes/$id" params={{ id: d.row.node_id }} className="text-fg-2 hover:text-accent">
          <Agent>{d.row.hostname || d.row.host_identifier}</Agent>
        </Link>
      ),
    },
    ...names.map(
      (name): GridColumn<Difference> => ({
        ...(rows.every((d) => numeric.test(d.row.columns[name] ?? "")) ? { align: "right" as const } : {}),
        id: name,
        header: <Agent>{name}</Agent>,
        width: "minmax(110px, 1fr)",
        cell: (d) => (
          <span title={visible((d.row.columns[name] ?? "").slice(0, 2000))}>
            <Value>{d.row.columns[name]}</Value>
          </span>
        ),
      }),
    ),
  ];
}
