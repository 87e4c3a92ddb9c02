import { useInfiniteQuery, useQuery } from "@tanstack/react-query";
import { getRouteApi } from "@tanstack/react-router";
import { useCallback, useEffect, useMemo, useState, type FormEvent } from "react";

import { ApiError } from "@/api/client";
import { eventQueriesQuery, eventsQuery, type EventsParams } from "@/api/queries";
import type { EventQuery } from "@/api/types";
import { cx } from "@/lib/cx";
import { formatCompact, formatCount, formatTime, plural } from "@/lib/format";
import { useTitle } from "@/lib/hooks";
import { Agent, visible } from "@/lib/text";
import { andWhere } from "@/lib/where";
import { Bars } from "@/ui/bars";
import { Button, inputClass, SearchInput, Select, type Option } from "@/ui/controls";
import { Card, Empty, ErrorNote, errorText, Loading, PageHeader } from "@/ui/display";
import { Icon } from "@/ui/icons";
import { EventList } from "./event-list";

const route = getRouteApi("/shell/events");

const ranges: Option[] = [
  { value: "15m", label: "Last 15 minutes" },
  { value: "1h", label: "Last hour" },
  { value: "6h", label: "Last 6 hours" },
  { value: "24h", label: "Last 24 hours" },
  { value: "168h", label: "Last 7 days" },
  { value: "720h", label: "Last 30 days" },
];
const days: Record<string, string> = { "7d": "168h", "30d": "720h" };
const actions: Option[] = [
  { value: "", label: "Any action" },
  { value: "added", label: "added" },
  { value: "removed", label: "removed" },
  { value: "snapshot", label: "snapshot" },
  { value: "status", label: "status" },
];

export function EventsPage() {
  useTitle("Events");
  const search = route.useSearch();
  const navigate = route.useNavigate();
  const params = useMemo((): EventsParams => {
    const since = search.since ?? "24h";
    return { ...search, since: days[since] ?? since };
  }, [search]);
  const change = useCallback(
    (next: EventsParams) => void navigate({ search: (old) => ({ ...old, ...next }), replace: true }),
    [navigate],
  );

  const query = useInfiniteQuery(eventsQuery(params));
  const { data, error, isPlaceholderData, hasNextPage, isFetchingNextPage, fetchNextPage, isFetching, refetch } = query;
  const events = useMemo(() => data?.pages.flatMap((p) => p.events) ?? [], [data]);
  const { since, until, node } = params;
  const summary = useQuery(eventQueriesQuery({ since: since ?? "", ...(until ? { until } : {}), ...(node ? { node } : {}) }));
  const histogram = useQuery({
    ...eventQueriesQuery({ since: since ?? "", ...(until ? { until } : {}), ...(node ? { node } : {}), ...(params.query ? { query: params.query } : {}) }),
    enabled: Boolean(params.query),
  });
  const buckets = (params.query ? histogram.data : summary.data)?.buckets;
  const shownTotal = buckets?.reduce((sum, b) => sum + b.count, 0) ?? 0;
  const more = useCallback(() => {
    if (hasNextPage && !isFetchingNextPage) void fetchNextPage();
  }, [hasNextPage, isFetchingNextPage, fetchNextPage]);
  const zoom = useCallback(
    (from: number, to: number) => change({ since: new Date(from).toISOString(), until: new Date(to).toISOString() }),
    [change],
  );
  const addWhere = useCallback(
    (column: string, op: "=" | "!=", value: string) => change({ where: andWhere(search.where ?? "", column, op, value) }),
    [change, search.where],
  );
  const whereError = error instanceof ApiError && error.status >= 400 && error.status < 500 && params.where ? error : null;

  return (
    <div className="flex h-full flex-col gap-3 px-5 py-4">
      <PageHeader title="Events" note={buckets && (params.where || params.action ? `${formatCount(shownTotal)} before the filters` : plural(shownTotal, "event"))}>
        <Button
          icon="refresh"
          busy={isFetching && !isFetchingNextPage}
          onClick={() => {
            void refetch();
            void summary.refetch();
            if (params.query) void histogram.refetch();
          }}
        >
          Refresh
        </Button>
      </PageHeader>
      <Filters params={params} onChange={change} queries={summary.data?.queries} whereError={whereError} />
      {error && !whereError && <ErrorNote error={error} title="The events could not be loaded" onRetry={() => void refetch()} />}
      <Card flush className="shrink-0 px-3 pt-2.5 pb-1">
        {summary.error ? (
          <ErrorNote error={summary.error} title="The histogram could not be loaded" />
        ) : buckets ? (
          <Bars buckets={buckets} label="Events over time" unit="events" height={108} onZoom={zoom} />
        ) : (
          <div className="skeleton h-[108px]" />
        )}
      </Card>
      <div className="grid min-h-72 flex-1 grid-cols-[minmax(0,1fr)] gap-3 2xl:grid-cols-[16rem_minmax(0,1fr)]">
        <QueryRail queries={summary.data?.queries} current={params.query} onPick={(q) => change({ query: q } as EventsParams)} />
        <Card flush className="overflow-hidden">
          {!data && !error ? (
            <Loading lines={10} />
          ) : (
            <EventList
              events={events}
              stale={isPlaceholderData || whereError !== null}
              onEndReached={more}
              onWhere={addWhere}
              onQuery={(q) => change({ query: q })}
              onNode={(n) => change({ node: n })}
              footer={isFetchingNextPage ? "Loading more…" : hasNextPage ? undefined : events.length > 0 ? `All ${formatCount(events.length)} are loaded` : undefined}
              empty={
                whereError ? (
                  <Empty icon="warn" title="The condition cannot be read" />
                ) : (
                <Empty icon="events" title="No events match">
                  Take a longer time, or fewer conditions. Events come from scheduled queries and from the agents' own status log.
                </Empty>
                )
              }
            />
          )}
          {hasNextPage && (
            <div className="flex h-9 items-center justify-between border-t border-line px-3 text-xs text-fg-3">
              <span className="tnum">{formatCount(events.length)} loaded</span>
              <Button size="sm" tone="ghost" busy={isFetchingNextPage} onClick={more}>
                Load more
              </Button>
            </div>
          )}
        </Card>
      </div>
    </div>
  );
}

function Filters({ params, onChange, queries, whereError }: {
  params: EventsParams;
  onChange: (next: EventsParams) => void;
  queries: EventQuery[] | undefined;
  whereError: ApiError | null;
}) {
  const [where, setWhere] = useState(params.where ?? "");
  const [node, setNode] = useState(params.node ?? "");
  useEffect(() => setWhere(params.where ?? ""), [params.where]);
  useEffect(() => setNode(params.node ?? ""), [params.node]);
  const submit = (e?: FormEvent) => {
    e?.preventDefault();
    onChange({ where: where.trim() || undefined, node: node.trim() || undefined } as EventsParams);
  };
  const custom = params.until !== undefined || !ranges.some((r) => r.value === params.since);
  const rangeOptions = custom ? [...ranges, { value: "custom", label: rangeLabel(params), text: "custom" }] : ranges;
  const queryOptions: Option[] = [
    { value: "", label: "Any query" },
    ...(queries ?? []).map((q) => ({ value: q.query, label: visible(q.query), hint: formatCompact(q.count) })),
  ];
  if (params.query && !queryOptions.some((o) => o.value === params.query)) queryOptions.push({ value: params.query, label: visible(params.query), hint: "0" });
  return (
    <form onSubmit={submit} className="flex flex-wrap items-start gap-2" role="search" aria-label="Search events">
      <Select
        label="Time"
        className="max-w-80"
        value={custom ? "custom" : (params.since ?? "24h")}
        onChange={(v) => v !== "custom" && onChange({ since: v, until: undefined } as unknown as EventsParams)}
        options={rangeOptions}
      />
      <Select label="Query" className="max-w-60 2xl:hidden" value={params.query ?? ""} onChange={(v) => onChange({ query: v || undefined } as EventsParams)} options={queryOptions} />
      <Select label="Action" value={params.action ?? ""} onChange={(v) => onChange({ action: v || undefined } as EventsParams)} options={actions} />
      <div className="relative w-52">
        <input
          aria-label="Node"
          placeholder="Node: id or hostname"
          className={cx(inputClass, "pr-8")}
          value={node}
          spellCheck={false}
          autoComplete="off"
          onChange={(e) => setNode(e.target.value)}
          onBlur={() => node.trim() !== (params.node ?? "") && submit()}
        />
        {params.node && (
          <button
            type="button"
            aria-label="Any node"
            onClick={() => onChange({ node: undefined } as unknown as EventsParams)}
            className="absolute top-1/2 right-2 -translate-y-1/2 rounded-sm text-fg-3 hover:text-fg"
          >
            <Icon name="x" size={14} />
          </button>
        )}
      </div>
      <div className="min-w-72 flex-1">
        <SearchInput
          label="Condition on columns"
          placeholder='Where: path = "/usr/bin/curl" and pid > 300'
          className="w-full [&>input]:font-mono [&>input]:text-xs"
          value={where}
          aria-invalid={whereError ? true : undefined}
          aria-describedby="where-note"
          onChange={(e) => setWhere(e.target.value)}
        />
        <p id="where-note" className={cx("mt-1 px-1 text-xs", whereError ? "text-bad" : "sr-only")} role={whereError ? "alert" : undefined}>
          {whereError
            ? whereError.items.map((i) => i.message).join(" ") || errorText(whereError)
            : "Operators: = != < <= > >= contains prefix exists, joined by and. Enter to search."}
        </p>
      </div>
      <Button type="submit" tone="primary">
        Search
      </Button>
    </form>
  );
}

function rangeLabel(params: EventsParams): string {
  const at = (value: string | undefined, fallback: string): string => (value && /^\d{4}-/.test(value) ? formatTime(value).slice(5, -3) : (value ?? fallback));
  return `${at(params.since, "start")} to ${at(params.until, "now")}`;
}

/** The queries that logged something, with how much. */
function QueryRail({ queries, current, onPick }: { queries: EventQuery[] | undefined; current: string | undefined; onPick: (query: string | undefined) => void }) {
  const most = Math.max(1, ...(queries ?? []).map((q) => q.count));
  const total = (queries ?? []).reduce((sum, q) => sum + q.count, 0);
  const entry = (name: string | undefined, label: React.ReactNode, count: number, share: number) => (
    <li key={name ?? "\u0000all"}>
      <button
        type="button"
        aria-pressed={current === name}
        onClick={() => onPick(name)}
        className={cx("relative block w-full rounded-sm px-2 py-1.5 text-left", current === name ? "bg-selected" : "hover:bg-hover")}
      >
        <span className="flex items-baseline gap-2">
          <span className={cx("min-w-0 flex-1 truncate text-xs", name && "font-mono", current === name && "font-semibold")}>{label}</span>
          <span className="tnum text-2xs text-fg-3">{formatCompact(count)}</span>
        </span>
        <span className="mt-1 block h-[3px] overflow-hidden rounded-full bg-hover" aria-hidden="true">
          <span className="block h-full rounded-full bg-chart/80" style={{ width: `${Math.max(1, share * 100)}%` }} />
        </span>
      </button>
    </li>
  );
  return (
    <Card title="Queries" flush className="hidden overflow-hidden 2xl:flex">
      <ul className="h-full overflow-auto p-1.5">
        {entry(undefined, "All queries", total, 1)}
        {(queries ?? []).map((q) => entry(q.query, <span title={visible(q.query)}><Agent>{q.query}</Agent></span>, q.count, q.count / most))}
      </ul>
    </Card>
  );
}
