import type { UseQueryResult } from "@tanstack/react-query";
import { useEffect, useState, type FormEvent } from "react";

import type { EventGroup, EventGroups } from "@/api/types";
import { formatCount, plural } from "@/lib/format";
import { Agent } from "@/lib/text";
import { Button, Input } from "@/ui/controls";
import { Ago, Card, Empty, Loading } from "@/ui/display";
import { head, line } from "@/ui/section";

interface EventCountProps {
  by: string;
  query: UseQueryResult<EventGroups>;
  error: string | undefined;
  onBy: (by: string) => void;
  /** Narrows the search to a value. */
  onPick: (column: string, op: "=", value: string) => void;
}

/** How many events have which values of up to three columns. */
export function EventCount({ by, query, error, onBy, onPick }: EventCountProps) {
  const { data, isPlaceholderData } = query;
  return (
    <Card flush className="overflow-hidden">
      <By by={by} error={error} onBy={onBy} data={data} />
      {data ? (
        data.groups.length === 0 ? (
          <Empty icon="events" title="No events match" />
        ) : (
          <Groups data={data} stale={isPlaceholderData || query.isError} onPick={onPick} />
        )
      ) : (
        !query.error && <Loading lines={8} />
      )}
    </Card>
  );
}

function By({ by, error, onBy, data }: Pick<EventCountProps, "by" | "error" | "onBy"> & { data: EventGroups | undefined }) {
  const [text, setText] = useState(by);
  useEffect(() => setText(by), [by]);
  const submit = (e: FormEvent) => {
    e.preventDefault();
    onBy(text.split(/[\s,]+/).filter(Boolean).join(","));
  };
  return (
    <form onSubmit={submit} className="flex flex-wrap items-center gap-2 border-b border-line px-3 py-2">
      <label className="flex items-center gap-2 text-sm whitespace-nowrap text-fg-2">
        Count by
        <Input
          value={text}
          onChange={(e) => setText(e.target.value)}
          className="w-72 font-mono text-xs"
          placeholder="name, @node"
          title="Up to three columns or stamps, as name, @node, @tag, @action"
          aria-invalid={error ? true : undefined}
          aria-describedby="by-note"
        />
      </label>
      <Button type="submit">Count</Button>
      {error ? (
        <span id="by-note" role="alert" className="text-xs text-bad">
          <Agent>{error}</Agent>
        </span>
      ) : (
        data && (
          <span id="by-note" className="tnum text-xs text-fg-3">
            {plural(data.events, "event")}
            {data.nodes !== undefined && ` of ${plural(data.nodes, "node")}`}
            {data.progress.cut && <span className="text-warn">; a limit of time or memory was reached before all was read</span>}
          </span>
        )
      )}
    </form>
  );
}

function Groups({ data, stale, onPick }: { data: EventGroups; stale: boolean; onPick: EventCountProps["onPick"] }) {
  const most = Math.max(1, ...data.groups.map((g) => g.events));
  const figures = (g: EventGroup) => (
    <>
      <td className="w-[30%]">
        <span className="flex items-center gap-3">
          <span className="tnum w-16 shrink-0 text-right">{formatCount(g.events)}</span>
          <span className="h-1.5 flex-1 overflow-hidden rounded-full bg-hover" aria-hidden="true">
            <span className="block h-full rounded-full bg-chart" style={{ width: `${Math.min(100, (g.events / most) * 100)}%` }} />
          </span>
        </span>
      </td>
      <td className="tnum text-right">{g.nodes === undefined ? "–" : formatCount(g.nodes)}</td>
      <td className="text-fg-2">
        <Ago time={g.last} />
      </td>
    </>
  );
  return (
    <div className="h-[calc(100%-3.0625rem)] overflow-auto" tabIndex={0} role="region" aria-label="Counts">
      <table className={`w-full text-sm ${stale ? "opacity-55" : ""}`} aria-label="Counts">
        <thead>
          <tr className={head}>
            {data.by.map((c) => (
              <th key={c} className="font-mono">
                <Agent>{c}</Agent>
              </th>
            ))}
            <th>Events</th>
            <th className="text-right" title="Distinct nodes">Nodes</th>
            <th>Last</th>
          </tr>
        </thead>
        <tbody>
          {data.groups.map((g, i) => (
            <tr key={i} className={line}>
              {data.by.map((column, k) => (
                <Value key={column} column={column} value={g.values[k] ?? null} onPick={onPick} />
              ))}
              {figures(g)}
            </tr>
          ))}
          {data.others && (
            <tr className={line}>
              <td colSpan={data.by.length} className="text-fg-3">
                {plural(data.other_groups, "other group")}
              </td>
              {figures(data.others)}
            </tr>
          )}
        </tbody>
      </table>
    </div>
  );
}

function Value({ column, value, onPick }: { column: string; value: string | null; onPick: EventCountProps["onPick"] }) {
  if (value === null) return <td className="text-fg-3">not there</td>;
  return (
    <td className="max-w-96">
      <button type="button" title="Only events with this value" onClick={() => onPick(column, "=", value)} className="max-w-full truncate rounded-sm text-left font-mono text-xs hover:text-accent hover:underline">
        {value === "" ? <span className="text-fg-3">empty</span> : <Agent>{value}</Agent>}
      </button>
    </td>
  );
}
