import { useInfiniteQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { useCallback, useEffect, useEffectEvent, useMemo, useRef, useState, type ReactNode } from "react";

import { ApiError } from "@/api/client";
import { liveResultsQuery } from "@/api/live";
import type { Live, ResultColumn, ResultRow } from "@/api/types";
import { cx } from "@/lib/cx";
import { formatCount, plural } from "@/lib/format";
import { useDebounced } from "@/lib/hooks";
import { contains, readRowFilter } from "@/lib/row-filter";
import { Agent, visible } from "@/lib/text";
import { andWhere } from "@/lib/where";
import { Button, CopyButton, SearchInput } from "@/ui/controls";
import { DataGrid, type GridColumn, type GridSort } from "@/ui/data-grid";
import { Empty, ErrorNote, errorText, Loading } from "@/ui/display";
import { Dialog } from "@/ui/overlay";
import { ExportMenu } from "./live-export";

interface RowsProps {
  live: Live;
  where: string;
  onWhere: (where: string) => void;
}

/** While rows come, so many pages are fetched again by themselves; more would move under the reader. */
const followedPages = 1;
/** Pause between two fetches of the newest rows. */
const pace = 1000;

/** The rows, filtered and sorted by the server. */
export function Rows({ live, where, onWhere }: RowsProps) {
  const [sort, setSort] = useState<GridSort | undefined>();
  const [open, setOpen] = useState<ResultRow | null>(null);
  const query = useInfiniteQuery(liveResultsQuery(live.id, { where: where || undefined, sort: sort?.id === hostId ? hostName : sort?.id, desc: sort?.desc }));
  const { data, error, hasNextPage, isFetchingNextPage, fetchNextPage, isPlaceholderData } = query;
  const behind = useFollow(live, query);
  const first = data?.pages[0];
  const rows = useMemo(() => data?.pages.flatMap((p) => p.rows) ?? [], [data]);
  const columns = useMemo(() => data?.pages.at(-1)?.columns ?? [], [data]);
  const settled = Math.min(rows.length, 100);
  const grid = useMemo(
    () => gridColumns(columns, rows.slice(0, settled)),
    // Widths settle with the first hundred rows.
    [columns.map((c) => `${c.name}:${c.type}`).join("\n"), settled],
  );
  const more = useCallback(() => {
    if (hasNextPage && !isFetchingNextPage) void fetchNextPage();
  }, [hasNextPage, isFetchingNextPage, fetchNextPage]);
  const onSort = useCallback((id: string) => {
    setSort((old) => (old?.id !== id ? { id, desc: false } : old.desc ? undefined : { id, desc: true }));
  }, []);
  const whereError = error instanceof ApiError && error.status >= 400 && error.status < 500 && where ? error : null;
  return (
    <>
      <div className="flex shrink-0 flex-wrap items-start gap-x-3 gap-y-1 border-b border-line px-3 py-2">
        <RowFilterInput where={where} columns={columns} error={whereError} onWhere={onWhere} />
        <span className="tnum pt-1.5 text-xs text-fg-3" role="status" aria-label="Rows found">
          {first && (where ? `${formatCount(first.matched)} of ${plural(first.total, "row")}` : plural(first.total, "row"))}
        </span>
        {behind > 0 && (
          <Button size="sm" icon="refresh" onClick={() => void query.refetch()}>
            {plural(behind, "new row")}
          </Button>
        )}
        <span className="ml-auto">
          <ExportMenu id={live.id} what="rows" where={where} disabled={!first || first.matched === 0} note={first ? `${plural(first.matched, "row")} with their nodes` : ""} />
        </span>
      </div>
      {error && !whereError && (
        <div className="p-3">
          <ErrorNote error={error} title="The rows could not be loaded" onRetry={() => void query.refetch()} />
        </div>
      )}
      <div className="min-h-0 flex-1 overflow-hidden rounded-b-lg">
        {query.isPending ? (
          <Loading />
        ) : (
          <DataGrid
            label="Rows"
            columns={grid}
            rows={numbered(rows)}
            rowKey={(r) => r.n}
            total={first?.matched ?? rows.length}
            rowHeight={32}
            sort={sort}
            onSort={onSort}
            onRowClick={(r) => setOpen(r.row)}
            onEndReached={more}
            stale={isPlaceholderData || whereError !== null}
            footer={isFetchingNextPage ? "Loading more…" : undefined}
            empty={<NoRows live={live} filtered={where !== ""} onReset={() => onWhere("")} />}
          />
        )}
      </div>
      <Dialog open={open !== null} onOpenChange={(on) => !on && setOpen(null)} title={open ? <Agent>{open.hostname || open.host_identifier}</Agent> : ""} wide>
        {open && (
          <RowDetail
            row={open}
            columns={columns}
            onOnly={(column, op, value) => {
              setOpen(null);
              onWhere(andWhere(where, column, op, value));
            }}
          />
        )}
      </Dialog>
    </>
  );
}

/** Fetches rows that came, as long as the reader is at the top; else says how many wait. */
function useFollow(live: Live, query: { data: { pages: { total: number }[] } | undefined; isFetching: boolean; refetch: () => Promise<unknown> }): number {
  const shown = query.data?.pages[0]?.total;
  const pages = query.data?.pages.length ?? 0;
  const missing = shown === undefined ? 0 : live.rows - shown;
  const follows = pages <= followedPages;
  const last = useRef(0);
  const fetchNow = useEffectEvent(() => {
    last.current = Date.now();
    if (!query.isFetching) void query.refetch();
  });
  const due = missing > 0 && follows;
  useEffect(() => {
    if (!due) return;
    const t = window.setTimeout(fetchNow, Math.max(0, last.current + pace - Date.now()));
    return () => window.clearTimeout(t);
  }, [due, live.rows, live.state, shown]);
  return follows ? 0 : Math.max(0, missing);
}

interface Numbered {
  n: number;
  row: ResultRow;
}
const numbers = new WeakMap<ResultRow, Numbered>();

/** Rows with their places, each the same object as long as its row is. */
function numbered(rows: ResultRow[]): Numbered[] {
  return rows.map((row, n) => {
    const known = numbers.get(row);
    if (known?.n === n) return known;
    const made = { n, row };
    numbers.set(row, made);
    return made;
  });
}

interface RowFilterInputProps {
  where: string;
  columns: ResultColumn[];
  error: ApiError | null;
  onWhere: (where: string) => void;
}

function RowFilterInput({ where, columns, error, onWhere }: RowFilterInputProps) {
  const [text, setText] = useState(where);
  const known = useRef(where);
  useEffect(() => {
    // Changed from elsewhere, as by a click on a count.
    if (where !== known.current) setText(where);
    known.current = where;
  }, [where]);
  const settled = useDebounced(text, 300);
  const read = readRowFilter(settled);
  const next = "where" in read ? read.where : undefined;
  const apply = useEffectEvent((condition: string) => {
    if (condition === known.current) return;
    known.current = condition;
    onWhere(condition);
  });
  useEffect(() => {
    if (next !== undefined) apply(next);
  }, [next]);
  const words = "words" in read && text === settled ? read.words : [];
  const texts = columns.filter((c) => c.type === "text").slice(0, 5);
  return (
    <div className="flex w-96 max-w-full flex-col gap-1">
      <SearchInput
        label="Filter the rows"
        placeholder="node:web name:sshd, or pid > 100"
        className="w-full"
        value={text}
        aria-invalid={error ? true : undefined}
        onChange={(e) => setText(e.target.value)}
      />
      {words.length > 0 && (
        <span className="flex flex-wrap items-center gap-1 text-xs text-fg-3">
          In which column?
          {[{ name: hostName }, ...(texts.length > 0 ? texts : columns.slice(0, 5))].map((c) => (
            <Button key={c.name} size="sm" onClick={() => setText(contains(c.name, words.join(" ")))}>
              <Agent className="font-mono text-2xs">{c.name === hostName ? "node" : c.name}</Agent>
            </Button>
          ))}
        </span>
      )}
      {error && (
        <p role="alert" className="px-1 text-xs text-bad">
          {error.items.map((i) => i.message).join(" ") || errorText(error)}
        </p>
      )}
    </div>
  );
}

function NoRows({ live, filtered, onReset }: { live: Live; filtered: boolean; onReset: () => void }) {
  if (filtered) return <Empty icon="filter" title="No row matches the filter" action={<Button onClick={onReset}>All rows</Button>} />;
  if (live.state === "running") {
    return (
      <Empty icon="clock" title="Waiting for the first rows">
        {formatCount(live.counts.waiting ?? 0)} nodes have not asked yet. Each asks at its next poll.
      </Empty>
    );
  }
  return <Empty icon="check" title="No rows">{(live.counts.failed ?? 0) > 0 ? "See the nodes that failed." : "No node had anything to say."}</Empty>;
}

/** So many characters of a value are shown in a cell; a click on the row shows all. */
const cellCharacters = 300;

export function Value({ children, className }: { children: string | undefined; className?: string }) {
  if (children === undefined) return <span className="text-fg-3">–</span>;
  return <Agent className={cx("font-mono text-xs", className)}>{children.length > cellCharacters ? `${children.slice(0, cellCharacters)}…` : children}</Agent>;
}

// No column of an agent has this id, so that one called node stays apart.
const hostId = "\u0000node";
// What the server calls the name of the node, in filters and sorts.
const hostName = "hostname";

const isNumber = (c: ResultColumn): boolean => c.type !== "text";

function gridColumns(columns: ResultColumn[], sample: ResultRow[]): GridColumn<Numbered>[] {
  const longest = Math.max(8, ...sample.map((r) => (r.hostname || r.host_identifier).length));
  const node: GridColumn<Numbered> = {
    id: hostId,
    header: "node",
    width: `${Math.min(240, longest * 7.2 + 34)}px`,
    sortable: true,
    cell: ({ row: r }) => (
      <Link to="/nodes/$id" params={{ id: r.node_id }} onClick={(e) => e.stopPropagation()} className="text-fg-2 hover:text-accent">
        <Agent>{r.hostname || r.host_identifier}</Agent>
      </Link>
    ),
  };
  return [node, ...columns.map((c) => gridColumn(c, sample))];
}

function gridColumn(c: ResultColumn, sample: ResultRow[]): GridColumn<Numbered> {
  const longest = Math.max(c.name.length + 1, ...sample.map((r) => (r.columns[c.name] ?? "").length));
  const column: GridColumn<Numbered> = {
    id: c.name,
    header: (
      <span title={`${visible(c.name)}, ${c.type}`}>
        <Agent>{c.name}</Agent>
      </span>
    ),
    width: `minmax(${Math.round(Math.min(420, Math.max(72, longest * 7.4 + 30)))}px, ${isNumber(c) ? "auto" : "1fr"})`,
    sortable: true,
    cell: ({ row }) => <Value>{row.columns[c.name]}</Value>,
  };
  if (isNumber(c)) column.align = "right";
  return column;
}

interface RowDetailProps {
  row: ResultRow;
  columns: ResultColumn[];
  onOnly: (column: string, op: "=" | "!=", value: string) => void;
}

function RowDetail({ row, columns, onOnly }: RowDetailProps) {
  const only = (name: string, value: string, op: "=" | "!=", label: string, mark: ReactNode) => (
    <button
      type="button"
      aria-label={`${label} ${visible(name)}`}
      title={label}
      className="rounded-sm px-1 font-mono text-fg-3 hover:bg-hover hover:text-fg"
      onClick={() => onOnly(name, op, value)}
    >
      {mark}
    </button>
  );
  return (
    <div className="flex flex-col gap-4">
      <dl className="rounded-md border border-line bg-surface text-xs">
        {columns
          .filter((c) => c.name in row.columns)
          .map((c) => {
            const value = row.columns[c.name]!;
            return (
              <div key={c.name} className="grid grid-cols-[minmax(7rem,12rem)_minmax(0,1fr)_auto] items-start gap-3 border-b border-line/70 px-3 py-1 last:border-0">
                <dt className="truncate font-mono text-fg-3">
                  <Agent>{c.name}</Agent>
                </dt>
                <dd className="font-mono break-all whitespace-pre-wrap">{value === "" ? <span className="text-fg-3">empty</span> : <Agent>{value}</Agent>}</dd>
                <dd className="flex gap-0.5">
                  {only(c.name, value, "=", "Only rows with this", "=")}
                  {only(c.name, value, "!=", "Rows with another", "≠")}
                </dd>
              </div>
            );
          })}
      </dl>
      <div className="flex justify-end">
        <CopyButton text={JSON.stringify(row.columns, null, 2)} label="Copy as JSON" />
      </div>
    </div>
  );
}
