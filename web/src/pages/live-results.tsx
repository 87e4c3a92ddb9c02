import { useInfiniteQuery, useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { getRouteApi, Link } from "@tanstack/react-router";
import { createSortedRowModel, rowSortingFeature, tableFeatures, useTable, type ColumnDef, type SortingState } from "@tanstack/react-table";
import { Tabs } from "radix-ui";
import { useCallback, useEffect, useMemo, useRef, useState } from "react";

import { api, ApiError } from "@/api/client";
import { liveAnswersQuery, liveQuery } from "@/api/queries";
import type { Live, LiveAnswer, NodeState } from "@/api/types";
import { csvField, download } from "@/lib/copy";
import { cx } from "@/lib/cx";
import { formatBytes, formatCount, formatDuration, plural } from "@/lib/format";
import { useDebounced, useNow } from "@/lib/hooks";
import { mostRows, useLiveStream, type LiveSnapshot, type NodeAnswer, type ResultRow } from "@/lib/live-stream";
import { Agent, visible } from "@/lib/text";
import { Button, CopyButton, SearchInput } from "@/ui/controls";
import { DataGrid, type GridColumn } from "@/ui/data-grid";
import { Ago, Card, Empty, ErrorNote, Facts, Loading } from "@/ui/display";
import { LiveStateBadge, nodeStates, settledCount, StateBar } from "@/ui/live-state";
import { Dialog, Menu, useNotify } from "@/ui/overlay";
import { useLiveEditor } from "./live-context";

const route = getRouteApi("/shell/live/$id");

/** One live query: its progress, its rows as they come, its nodes by state. */
export function LiveResultsPage() {
  const { id } = route.useParams();
  const { data: live, error, refetch } = useQuery(liveQuery(id));
  if (live) return <LiveResults key={id} fetched={live} />;
  if (error instanceof ApiError && error.status === 404) {
    return (
      <Card>
        <Empty icon="live" title="There is no such live query">
          <Link to="/live" className="text-accent hover:underline">
            History
          </Link>
        </Empty>
      </Card>
    );
  }
  if (error) return <ErrorNote error={error} title="The live query could not be loaded" onRetry={() => void refetch()} />;
  return <Loading />;
}

function LiveResults({ fetched }: { fetched: Live }) {
  const id = fetched.id;
  const stream = useLiveStream(id);
  // Finds out whether the session is over, which the stream cannot tell.
  useQuery({ ...liveQuery(id), refetchInterval: stream.connection === "lost" ? 5000 : false });
  const live = stream.live ?? fetched;
  const { sql, setSql } = useLiveEditor();
  const offered = useRef(false);
  useEffect(() => {
    // Coming by a link: show the text that gave these results.
    if (!offered.current && sql.trim() === "") setSql(fetched.sql);
    offered.current = true;
  }, [fetched, sql, setSql]);

  const [tab, setTab] = useState("rows");
  const states = nodeStates.filter(({ state }) => (live.counts[state] ?? 0) > 0 || ["answered", "failed", "waiting"].includes(state));
  return (
    <>
      <Progress live={live} stream={stream} edited={sql.trim() !== live.sql.trim()} onEdit={() => setSql(live.sql)} />
      <Tabs.Root value={tab} onValueChange={setTab} className="flex min-h-80 flex-1 flex-col rounded-lg border border-line bg-surface shadow-card">
        <Tabs.List aria-label="Results" className="flex h-10 shrink-0 items-stretch gap-0.5 overflow-x-auto border-b border-line px-2">
          <ResultTab value="rows" label="Rows" count={live.rows} />
          <span className="mx-1.5 my-3 w-px bg-line-strong" aria-hidden="true" />
          {states.map(({ state, label, fill }) => (
            <ResultTab key={state} value={state} label={label} count={live.counts[state] ?? 0} fill={fill} />
          ))}
        </Tabs.List>
        <Tabs.Content value="rows" className="flex min-h-0 flex-1 flex-col">
          <Rows stream={stream} live={live} />
        </Tabs.Content>
        {states.map(({ state }) => (
          <Tabs.Content key={state} value={state} className="min-h-0 flex-1">
            <NodesIn state={state} live={live} stream={stream} />
          </Tabs.Content>
        ))}
      </Tabs.Root>
    </>
  );
}

function ResultTab({ value, label, count, fill }: { value: string; label: string; count: number; fill?: string }) {
  return (
    <Tabs.Trigger
      value={value}
      className="relative inline-flex shrink-0 items-center gap-1.5 px-2.5 text-sm font-medium text-fg-3 after:absolute after:inset-x-1.5 after:bottom-0 after:h-0.5 hover:text-fg focus-visible:outline-offset-[-3px] data-[state=active]:text-fg data-[state=active]:after:bg-accent"
    >
      {fill && <span aria-hidden="true" className={cx("size-2 rounded-full", fill, fill === "bg-transparent" && "border border-input")} />}
      {label}
      <span className="tnum text-xs text-fg-3">{formatCount(count)}</span>
    </Tabs.Trigger>
  );
}

function Progress({ live, stream, edited, onEdit }: { live: Live; stream: LiveSnapshot; edited: boolean; onEdit: () => void }) {
  const now = useNow();
  const client = useQueryClient();
  const notify = useNotify();
  const stop = useMutation({
    mutationFn: () => api.post<Live>(`/live/${encodeURIComponent(live.id)}/stop`),
    onSuccess: (stopped) => {
      client.setQueryData(liveQuery(live.id).queryKey, stopped);
      void client.invalidateQueries({ queryKey: ["live", "list"] });
    },
    onError: notify.failed,
  });
  const settled = settledCount(live);
  const running = live.state === "running";
  const took = ((live.ended_at ? Date.parse(live.ended_at) : now) - Date.parse(live.created_at)) / 1000;
  return (
    <section aria-label="Progress" className="flex shrink-0 flex-col gap-1.5">
      <div className="flex flex-wrap items-center gap-x-3 gap-y-1">
        <LiveStateBadge state={live.state} />
        <span className="tnum text-sm">
          <strong className="font-semibold">{formatCount(settled)}</strong> of {plural(live.nodes, "node")}
          <span className="text-fg-3"> · {plural(live.rows, "row")}</span>
        </span>
        <span className="tnum text-xs text-fg-3">
          {running ? `${formatDuration(took)}, ends in ${formatDuration(Math.max(0, (Date.parse(live.expires_at) - now) / 1000))}` : `took ${formatDuration(took)}`}
          {" · "}by {live.created_by} <Ago time={live.created_at} />
        </span>
        {stream.connection === "lost" && running && <span className="text-xs text-warn">Connection lost, trying again …</span>}
        <span className="ml-auto flex gap-2">
          {edited && (
            <Button size="sm" tone="ghost" onClick={onEdit}>
              Edit this query
            </Button>
          )}
          {running && (
            <Button size="sm" tone="danger" icon="stop" busy={stop.isPending} onClick={() => stop.mutate()}>
              Stop
            </Button>
          )}
        </span>
      </div>
      <StateBar live={live} />
      {edited && (
        <p className="truncate font-mono text-2xs text-fg-3" title={visible(live.sql)}>
          <Agent>{live.sql.replace(/\s+/g, " ").trim()}</Agent>
        </p>
      )}
    </section>
  );
}

// ---- Rows ----

const features = tableFeatures({ rowSortingFeature, sortedRowModel: createSortedRowModel() });

const numeric = /^-?\d+(\.\d+)?$/;
const collator = new Intl.Collator("en", { sensitivity: "base" });

/** Numbers by value and before texts; texts regardless of case. */
function compareValues(a: string, b: string): number {
  const na = numeric.test(a);
  const nb = numeric.test(b);
  if (na && nb) return Number(a) - Number(b);
  if (na !== nb) return na ? -1 : 1;
  return a === b ? 0 : collator.compare(a, b);
}

const hostColumn = "node";

// No column of an agent has this id, so that one called node stays apart.
const hostId = "\u0000node";

function valueOf(row: ResultRow, column: string): string {
  return column === hostId ? row.host : (row.values[column] ?? "");
}

/** Words that must all occur; `column:word` looks into one column only. */
export function rowFilter(text: string, columns: string[]): ((row: ResultRow) => boolean) | null {
  const terms = text.toLowerCase().split(/\s+/).filter(Boolean);
  if (terms.length === 0) return null;
  const tests = terms.map((term) => {
    const colon = term.indexOf(":");
    const name = colon > 0 ? term.slice(0, colon) : "";
    const column = name === hostColumn ? hostId : columns.find((c) => c.toLowerCase() === name);
    if (column) {
      const word = term.slice(colon + 1);
      return (row: ResultRow) => valueOf(row, column).toLowerCase().includes(word);
    }
    return (row: ResultRow) => {
      if (row.host.toLowerCase().includes(term)) return true;
      for (const key in row.values) if (row.values[key]!.toLowerCase().includes(term)) return true;
      return false;
    };
  });
  return (row) => tests.every((test) => test(row));
}

function Rows({ stream, live }: { stream: LiveSnapshot; live: Live }) {
  const [filter, setFilter] = useState("");
  const settledFilter = useDebounced(filter, 120);
  const [sorting, setSorting] = useState<SortingState>([]);
  const [open, setOpen] = useState<ResultRow | null>(null);
  const { rows, columns } = stream;

  const filtered = useMemo(() => {
    const test = rowFilter(settledFilter, columns);
    return test ? rows.filter(test) : rows;
  }, [rows, columns, settledFilter]);

  const ids = useMemo(() => [hostId, ...columns], [columns]);
  const tableColumns = useMemo(
    (): ColumnDef<typeof features, ResultRow>[] =>
      ids.map((id) => ({
        id,
        accessorFn: (row: ResultRow) => valueOf(row, id),
        sortFn: (a, b) => compareValues(valueOf(a.original, id), valueOf(b.original, id)),
      })),
    [ids],
  );
  const table = useTable({ features, columns: tableColumns, data: filtered, state: { sorting }, onSortingChange: setSorting, getRowId: (row) => String(row.n) });
  const model = table.getRowModel().rows;
  const shown = useMemo(() => (sorting.length === 0 ? filtered : model.map((r) => r.original)), [sorting, filtered, model]);

  const sample = rows.length < 100 ? rows.length : 100;
  const gridColumns = useMemo(
    () => ids.map((id) => resultColumn(id, rows.slice(0, sample))),
    // Widths settle with the first hundred rows.
    [ids, sample],
  );
  const sort = sorting[0] && { id: sorting[0].id, desc: sorting[0].desc };
  const onSort = useCallback((id: string) => {
    setSorting((old) => {
      const s = old[0];
      if (s?.id !== id) return [{ id, desc: false }];
      return s.desc ? [] : [{ id, desc: true }];
    });
  }, []);

  return (
    <>
      <div className="flex shrink-0 flex-wrap items-center gap-3 border-b border-line px-3 py-2">
        <SearchInput
          label="Filter the rows"
          placeholder="Filter rows: sshd, or name:sshd"
          className="w-72"
          value={filter}
          onChange={(e) => setFilter(e.target.value)}
        />
        <span className="tnum text-xs text-fg-3" role="status">
          {settledFilter ? `${formatCount(shown.length)} of ${plural(rows.length, "row")}` : plural(rows.length, "row")}
        </span>
        {stream.dropped > 0 && (
          <span className="text-xs text-warn">
            Only the first {formatCount(mostRows)} rows are kept in this tab; {formatCount(stream.dropped)} more are on the server.
          </span>
        )}
        <span className="ml-auto">
          <Menu
            trigger={
              <Button size="sm" icon="download" disabled={rows.length === 0}>
                Export
              </Button>
            }
            items={[
              { label: `CSV, ${plural(shown.length, "row")}`, onSelect: () => exportCsv(live.id, columns, shown) },
              { label: `JSON, ${plural(shown.length, "row")}`, onSelect: () => exportJson(live.id, shown) },
            ]}
          />
        </span>
      </div>
      <div className="min-h-0 flex-1 overflow-hidden rounded-b-lg">
        <DataGrid
          label="Rows"
          columns={gridColumns}
          rows={shown}
          rowKey={(r) => r.n}
          rowHeight={32}
          sort={sort}
          onSort={onSort}
          onRowClick={setOpen}
          empty={<NoRows live={live} filtered={settledFilter !== ""} />}
        />
      </div>
      <Dialog open={open !== null} onOpenChange={(on) => !on && setOpen(null)} title={open ? <Agent>{open.host}</Agent> : ""} wide>
        {open && <RowDetail row={open} columns={columns} />}
      </Dialog>
    </>
  );
}

function NoRows({ live, filtered }: { live: Live; filtered: boolean }) {
  if (filtered) return <Empty icon="filter" title="No row matches the filter" />;
  if (live.state === "running") {
    return (
      <Empty icon="clock" title="Waiting for the first rows">
        {formatCount(live.counts.waiting ?? 0)} nodes have not asked yet. Each asks at its next poll.
      </Empty>
    );
  }
  return <Empty icon="check" title="No rows">{(live.counts.failed ?? 0) > 0 ? "See the nodes that failed." : "No node had anything to say."}</Empty>;
}

function resultColumn(id: string, sample: ResultRow[]): GridColumn<ResultRow> {
  if (id === hostId) {
    const longest = Math.max(8, ...sample.map((r) => r.host.length));
    return {
      id,
      header: hostColumn,
      width: `${Math.min(240, longest * 7.2 + 34)}px`,
      sortable: true,
      cell: (r) => (
        <Link to="/nodes/$id" params={{ id: r.nodeId }} onClick={(e) => e.stopPropagation()} className="text-fg-2 hover:text-accent">
          <Agent>{r.host}</Agent>
        </Link>
      ),
    };
  }
  const values = sample.map((r) => r.values[id] ?? "");
  const longest = Math.max(id.length + 1, ...values.map((v) => v.length));
  const right = values.length > 0 && values.every((v) => v === "" || numeric.test(v)) && values.some((v) => v !== "");
  const column: GridColumn<ResultRow> = {
    id,
    header: <Agent>{id}</Agent>,
    width: `minmax(${Math.round(Math.min(420, Math.max(72, longest * 7.4 + 30)))}px, ${right ? "auto" : "1fr"})`,
    sortable: true,
    cell: (r) => {
      const v = r.values[id];
      if (v === undefined) return <span className="text-fg-3">–</span>;
      return <Agent className="font-mono text-xs">{v}</Agent>;
    },
  };
  if (right) column.align = "right";
  return column;
}

function RowDetail({ row, columns }: { row: ResultRow; columns: string[] }) {
  return (
    <div className="flex flex-col gap-4">
      <Facts
        items={columns
          .filter((c) => c in row.values)
          .map((c) => [c, <Agent key={c} className="font-mono text-xs break-all whitespace-pre-wrap">{row.values[c]}</Agent>])}
      />
      <div className="flex justify-end">
        <CopyButton text={JSON.stringify(row.values, null, 2)} label="Copy as JSON" />
      </div>
    </div>
  );
}

function exportCsv(id: string, columns: string[], rows: ResultRow[]): void {
  const lines = [["node", ...columns], ...rows.map((r) => [r.host, ...columns.map((c) => r.values[c] ?? "")])];
  download(`live-${id}.csv`, "text/csv", lines.map((l) => l.map(csvField).join(",")).join("\r\n"));
}

function exportJson(id: string, rows: ResultRow[]): void {
  const out = rows.map((r) => ({ node_id: r.nodeId, node: r.host, columns: r.values }));
  download(`live-${id}.json`, "application/json", JSON.stringify(out, null, 2));
}

// ---- Nodes by state ----

const streamed: NodeState[] = ["answered", "empty", "failed", "denylisted", "over_limit"];

const withoutRows = ({ rows, ...rest }: LiveAnswer): NodeAnswer => ({ ...rest, rowCount: rows.length });

function NodesIn({ state, live, stream }: { state: NodeState; live: Live; stream: LiveSnapshot }) {
  const count = live.counts[state] ?? 0;
  const fromStream = useMemo(() => stream.answers.filter((a) => a.state === state), [stream.answers, state]);
  // What the stream does not tell of each node comes in pages.
  const paged = !streamed.includes(state) && fromStream.length < count;
  const query = useInfiniteQuery({ ...liveAnswersQuery(live.id, state, live.state === "running"), enabled: paged });
  const { hasNextPage, isFetchingNextPage, fetchNextPage } = query;
  const answers = useMemo(
    () => (paged ? (query.data?.pages.flatMap((p) => p.answers.map(withoutRows)) ?? []) : fromStream),
    [paged, query.data, fromStream],
  );
  const more = useCallback(() => {
    if (paged && hasNextPage && !isFetchingNextPage) void fetchNextPage();
  }, [paged, hasNextPage, isFetchingNextPage, fetchNextPage]);
  const columns = useMemo(() => answerColumns(state), [state]);
  if (query.error && paged) return <div className="p-4"><ErrorNote error={query.error} onRetry={() => void query.refetch()} /></div>;
  return (
    <DataGrid
      label={`Nodes: ${state}`}
      columns={columns}
      rows={answers}
      rowKey={(a) => a.node_id}
      rowHeight={34}
      total={count}
      onEndReached={more}
      empty={paged && query.isPending ? <Loading /> : <Empty icon="nodes" title={state === "failed" ? "No node failed" : "No nodes"} />}
    />
  );
}

function answerColumns(state: NodeState): GridColumn<NodeAnswer>[] {
  const host: GridColumn<NodeAnswer> = {
    id: "host",
    header: "node",
    width: "minmax(180px, 260px)",
    cell: (a) => (
      <Link to="/nodes/$id" params={{ id: a.node_id }} className="font-medium hover:text-accent">
        <Agent>{a.hostname || a.host_identifier}</Agent>
      </Link>
    ),
  };
  if (state === "waiting" || state === "sent" || state === "expired" || state === "stopped") {
    return [
      host,
      { id: "identifier", header: "host identifier", width: "minmax(200px, 1fr)", cell: (a) => <Agent className="font-mono text-xs text-fg-2">{a.host_identifier}</Agent> },
    ];
  }
  const when: GridColumn<NodeAnswer> = { id: "when", header: "when", width: "120px", cell: (a) => <span className="text-fg-2"><Ago time={a.answered_at} /></span> };
  const message: GridColumn<NodeAnswer> = {
    id: "message",
    header: "message",
    width: "minmax(240px, 1fr)",
    cell: (a) => <span title={visible(a.message ?? "")}><Agent className="font-mono text-xs text-bad">{a.message}</Agent></span>,
  };
  if (state === "failed" || state === "denylisted" || state === "over_limit") return [host, when, message];
  return [
    host,
    when,
    { id: "rows", header: "rows", width: "90px", align: "right", cell: (a) => formatCount(a.rowCount) },
    { id: "wall", header: "wall time", width: "110px", align: "right", cell: (a) => `${formatCount(a.stats.wall_time_ms)} ms` },
    { id: "cpu", header: "CPU", width: "100px", align: "right", cell: (a) => `${formatCount(a.stats.user_time + a.stats.system_time)} ms` },
    { id: "memory", header: "memory", width: "110px", align: "right", cell: (a) => formatBytes(Math.max(0, a.stats.memory)) },
    { id: "rest", header: "", width: "minmax(0, 1fr)", cell: () => null },
  ];
}
