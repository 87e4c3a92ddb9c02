import { useInfiniteQuery, useQuery } from "@tanstack/react-query";
import { getRouteApi } from "@tanstack/react-router";
import { useCallback, useEffect, useMemo, useState, type FormEvent } from "react";

import { ApiError } from "@/api/client";
import { eventCountQuery, eventQueriesQuery, eventsQuery, eventStateQuery, type EventsParams } from "@/api/queries";
import type { EventQuery } from "@/api/types";
import { cx } from "@/lib/cx";
import { formatCompact, formatCount, formatTime, plural } from "@/lib/format";
import { useTitle } from "@/lib/hooks";
import { Agent, visible } from "@/lib/text";
import { andWhere } from "@/lib/where";
import { Bars } from "@/ui/bars";
import { Button, inputClass, SearchInput, Select, type Option } from "@/ui/controls";
import { Card, Empty, ErrorNote, Loading, PageHeader } from "@/ui/display";
import { Icon } from "@/ui/icons";
import { EventCount } from "./event-count";
import { EventStateRows } from "./event-state";
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
  const view = search.view === "count" || search.view === "state" ? search.view : "list";
  const by = search.by ?? "@query";
  const params = useMemo((): EventsParams => {
    const { view: _view, by: _by, ...rest } = search;
    const since = rest.since ?? "24h";
    return { ...rest, since: days[since] ?? since };
  }, [search]);
  const change = useCallback(
    (next: Partial<typeof search>) => void navigate({ search: (old) => ({ ...old, ...next }), replace: true }),
    [navigate],
  );

  const list = useInfiniteQuery({ ...eventsQuery(params), enabled: view === "list" });
  const count = useQuery({ ...eventCountQuery(params, by), enabled: view === "count" });
  const state = useInfiniteQuery({ ...eventStateQuery(params), enabled: view === "state" && Boolean(params.query) });
  const shown = { list, count, state }[view];
  const error = shown.error;
  const { data, isPlaceholderData, hasNextPage, isFetchingNextPage, fetchNextPage } = list;
  const events = useMemo(() => data?.pages.flatMap((p) => p.events) ?? [], [data]);
  const cut = data?.pages.at(-1)?.progress.cut;
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
  const refused = error instanceof ApiError && error.status >= 400 && error.status < 500 ? error : null;
  const refusedAt = (field: string) => refused?.items.filter((i) => i.location === field).map((i) => i.message).join(" ") || undefined;
  const whereError = refusedAt("where");
  const placed = whereError ?? refusedAt("node") ?? refusedAt("by");

  return (
    <div className="flex h-full flex-col gap-3 px-5 py-4">
      <PageHeader title="Events" note={buckets && (params.where || params.action ? `${formatCount(shownTotal)} before the filters` : plural(shownTotal, "event"))}>
        <Views view={view} onChange={(v) => change({ view: v === "list" ? undefined : v })} />
        <Button
          icon="refresh"
          busy={shown.isFetching && !isFetchingNextPage}
          onClick={() => {
            void shown.refetch();
            void summary.refetch();
            if (params.query) void histogram.refetch();
          }}
        >
          Refresh
        </Button>
      </PageHeader>
      <Filters params={params} onChange={change} queries={summary.data?.queries} whereError={whereError} nodeError={refusedAt("node")} />
      {error && !placed && <ErrorNote error={error} title="The events could not be loaded" onRetry={() => void shown.refetch()} />}
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
        {view === "count" ? (
          <EventCount by={by} query={count} error={refusedAt("by")} onBy={(next) => change({ by: next || undefined })} onPick={addWhere} />
        ) : view === "state" ? (
          <EventStateRows name={params.query} query={state} onWhere={addWhere} onQuery={(q) => change({ query: q })} onNode={(n) => change({ node: n })} />
        ) : (
          <Card flush className="overflow-hidden">
            {!data && !error ? (
              <Loading lines={10} />
            ) : (
              <EventList
                events={events}
                stale={isPlaceholderData || placed !== undefined}
                onEndReached={more}
                onWhere={addWhere}
                onQuery={(q) => change({ query: q })}
                onNode={(n) => change({ node: n })}
                footer={isFetchingNextPage ? "Loading more…" : hasNextPage ? undefined : events.length > 0 ? `All ${formatCount(events.length)} are loaded` : undefined}
                empty={
                  placed ? (
                    <Empty icon="warn" title="The search cannot be read" />
                  ) : cut ? (
                    <Empty icon="clock" title="Nothing found so far">
                      The time for a page was over before all was read. Load more goes on from there.
                    </Empty>
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
                <span className="tnum">{formatCount(events.length)} loaded{cut && ", the last page was cut by its limit of time"}</span>
                <Button size="sm" tone="ghost" busy={isFetchingNextPage} onClick={more}>
                  Load more
                </Button>
              </div>
            )}
          </Card>
        )}
      </div>
    </div>
  );
}

type View = "list" | "count" | "state";
const views: [View, string, string][] = [
  ["list", "Events", "Event by event, newest first"],
  ["count", "Count by column", "How many events have which values"],
  ["state", "Current state", "What nodes' last results of a query are"],
];

function Views({ view, onChange }: { view: View; onChange: (view: View) => void }) {
  return (
    <div role="group" aria-label="View" className="inline-flex overflow-hidden rounded-md border border-line-strong bg-surface shadow-card">
      {views.map(([value, label, title]) => (
        <button
          key={value}
          type="button"
          title={title}
          aria-pressed={view === value}
          onClick={() => onChange(value)}
          className={cx("h-7.5 border-r border-line px-3 text-sm last:border-0 focus-visible:outline-offset-[-2px]", view === value ? "bg-selected font-medium text-fg" : "text-fg-2 hover:bg-hover")}
        >
          {label}
        </button>
      ))}
    </div>
  );
}

function Filters({ params, onChange, queries, whereError, nodeError }: {
  params: EventsParams;
  onChange: (next: EventsParams) => void;
  queries: EventQuery[] | undefined;
  whereError: string | undefined;
  nodeError: string | undefined;
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
          aria-invalid={nodeError ? true : undefined}
          aria-describedby={nodeError ? "node-note" : undefined}
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
            className="absolute top-4 right-2 -translate-y-1/2 rounded-sm text-fg-3 hover:text-fg"
          >
            <Icon name="x" size={14} />
          </button>
        )}
        {nodeError && (
          <p id="node-note" role="alert" className="mt-1 px-1 text-xs text-bad">
            <Agent>{nodeError}</Agent>
          </p>
        )}
      </div>
      <div className="min-w-72 flex-1">
        <SearchInput
          label="Expression"
          placeholder='path = "/usr/bin/ssh" and (pid > 100 or not @tag = web), or a word'
          className="w-full [&>input]:font-mono [&>input]:text-xs"
          value={where}
          aria-invalid={whereError ? true : undefined}
          aria-describedby="where-note"
          onChange={(e) => setWhere(e.target.value)}
        />
        <p id="where-note" className={cx("mt-1 px-1 text-xs", whereError ? "text-bad" : "sr-only")} role={whereError ? "alert" : undefined}>
          {whereError ? (
            <>
              The expression <Agent>{whereError}</Agent>
            </>
          ) : (
            "Columns, stamps as @tag and words; operators = != < <= > >= contains prefix suffix regex in exists; and, or, not, parentheses. Enter to search."
          )}
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
