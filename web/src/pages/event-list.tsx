import { Link } from "@tanstack/react-router";
import { useVirtualizer } from "@tanstack/react-virtual";
import { memo, useEffect, useRef, useState, type ReactNode } from "react";

import type { Event, Row } from "@/api/types";
import { cx } from "@/lib/cx";
import { formatTime, formatTimeShort } from "@/lib/format";
import { Agent } from "@/lib/text";
import { Button, CopyButton } from "@/ui/controls";
import { Badge, Code, type BadgeTone } from "@/ui/display";
import { Icon } from "@/ui/icons";

const tones: Record<string, BadgeTone> = { added: "ok", removed: "bad", snapshot: "neutral", status: "warn" };

export interface EventListProps {
  events: Event[];
  stale: boolean;
  onEndReached: () => void;
  onWhere: (column: string, op: "=" | "!=", value: string) => void;
  onQuery: (query: string) => void;
  onNode: (node: string) => void;
  footer?: ReactNode;
  empty: ReactNode;
}

const template = "32px 112px minmax(110px, 180px) minmax(110px, 210px) 88px minmax(0, 1fr)";

/** Events as lines that open into all that is known of them. */
export function EventList({ events, stale, onEndReached, onWhere, onQuery, onNode, footer, empty }: EventListProps) {
  const scroller = useRef<HTMLDivElement>(null);
  const [open, setOpen] = useState<ReadonlySet<string>>(new Set());
  const virtualizer = useVirtualizer({
    count: events.length,
    getScrollElement: () => scroller.current,
    estimateSize: (i) => (open.has(events[i]!.id) ? 320 : 34),
    overscan: 10,
    getItemKey: (i) => events[i]!.id,
  });
  const items = virtualizer.getVirtualItems();
  const last = items.at(-1)?.index ?? -1;
  useEffect(() => {
    if (events.length > 0 && last >= events.length - 12) onEndReached();
  }, [last, events.length, onEndReached]);
  const toggle = (id: string) =>
    setOpen((old) => {
      const next = new Set(old);
      if (!next.delete(id)) next.add(id);
      return next;
    });
  const now = Date.now();
  return (
    <div
      ref={scroller}
      role="table"
      aria-label="Events"
      aria-rowcount={events.length + 1}
      aria-busy={stale || undefined}
      tabIndex={0}
      className="relative min-h-0 flex-1 overflow-auto focus-visible:outline-offset-[-2px] h-full"
    >
      <div role="rowgroup" className="sticky top-0 z-10 border-b border-line bg-sunken">
        <div role="row" aria-rowindex={1} className="grid h-8 items-center text-xs font-medium text-fg-3" style={{ gridTemplateColumns: template }}>
          <span role="columnheader">
            <span className="sr-only">Open</span>
          </span>
          {["Time", "Node", "Query", "Action", "Columns"].map((h) => (
            <span key={h} role="columnheader" className="truncate px-2">
              {h}
            </span>
          ))}
        </div>
      </div>
      {events.length === 0 ? (
        empty
      ) : (
        <div role="rowgroup" className={cx("relative transition-opacity", stale && "opacity-55")} style={{ height: virtualizer.getTotalSize() }}>
          {items.map((item) => {
            const event = events[item.index];
            if (!event) return null;
            const isOpen = open.has(event.id);
            return (
              <div
                key={item.key}
                ref={virtualizer.measureElement}
                data-index={item.index}
                role="row"
                aria-rowindex={item.index + 2}
                className={cx("absolute inset-x-0 border-b border-line/70", isOpen && "bg-sunken")}
                style={{ transform: `translateY(${item.start}px)` }}
              >
                <EventLine event={event} open={isOpen} now={now} onToggle={toggle} />
                {isOpen && <EventDetail event={event} onWhere={onWhere} onQuery={onQuery} onNode={onNode} />}
              </div>
            );
          })}
        </div>
      )}
      {footer && <div className="flex h-9 items-center justify-center text-xs text-fg-3">{footer}</div>}
    </div>
  );
}

const EventLine = memo(function EventLine({ event, open, now, onToggle }: { event: Event; open: boolean; now: number; onToggle: (id: string) => void }) {
  const host = event.hostname || event.host_identifier;
  return (
    <div className={cx("grid h-[33px] cursor-pointer items-center text-sm", !open && "hover:bg-hover")} style={{ gridTemplateColumns: template }} onClick={() => onToggle(event.id)}>
      <span role="cell" className="flex justify-center">
        <button
          type="button"
          aria-expanded={open}
          aria-label={`Details of the event of ${formatTime(event.time)}`}
          onClick={(e) => {
            e.stopPropagation();
            onToggle(event.id);
          }}
          className="rounded-sm p-0.5 text-fg-3 hover:text-fg"
        >
          <Icon name={open ? "chevronDown" : "chevronRight"} size={14} />
        </button>
      </span>
      <time role="cell" dateTime={event.time} title={formatTime(event.time)} className="tnum truncate px-2 text-fg-2">
        {formatTimeShort(event.time, now)}
      </time>
      <span role="cell" className="truncate px-2">
        <Agent>{host}</Agent>
      </span>
      <span role="cell" className="truncate px-2 font-mono text-xs text-fg-2">
        <Agent>{event.query}</Agent>
      </span>
      <span role="cell" className="px-2">
        <Badge tone={tones[event.action] ?? "neutral"}>
          <Agent>{event.action}</Agent>
        </Badge>
      </span>
      <span role="cell" className="truncate px-2">
        <Cells row={event.columns} />
      </span>
    </div>
  );
});

/** A row on one line, as names with values. */
function Cells({ row }: { row: Row }) {
  const entries = Object.entries(row ?? {});
  if (entries.length === 0) return <span className="text-fg-3">empty</span>;
  const filled = entries.filter(([, v]) => v !== "");
  return (
    <span className="font-mono text-xs">
      {filled.slice(0, 12).map(([k, v]) => (
        <span key={k} className="mr-3">
          <span className="text-fg-3">
            <Agent>{k}</Agent>=
          </span>
          <Agent>{v.length > 160 ? `${v.slice(0, 160)}…` : v}</Agent>
        </span>
      ))}
    </span>
  );
}

function EventDetail({ event, onWhere, onQuery, onNode }: { event: Event } & Pick<EventListProps, "onWhere" | "onQuery" | "onNode">) {
  const [raw, setRaw] = useState(false);
  const json = JSON.stringify(event, null, 2);
  return (
    <div className="flex flex-col gap-3 pt-1 pr-4 pb-4 pl-10">
      <div className="flex flex-wrap items-center gap-x-4 gap-y-1 text-xs text-fg-3">
        <Link to="/nodes/$id" params={{ id: event.node_id }} className="font-medium text-accent hover:underline">
          Open <Agent>{event.hostname || event.host_identifier}</Agent>
        </Link>
        <button type="button" className="rounded-sm hover:text-fg hover:underline" onClick={() => onNode(event.node_id)}>
          Only this node
        </button>
        <button type="button" className="rounded-sm hover:text-fg hover:underline" onClick={() => onQuery(event.query)}>
          Only this query
        </button>
        <span className="tnum">received {formatTime(event.received_at)}</span>
        <span className="tnum">
          epoch {event.epoch}, counter {event.counter}
        </span>
        <span className="ml-auto flex gap-1.5">
          <Button size="sm" tone="ghost" aria-pressed={raw} onClick={() => setRaw(!raw)}>
            {raw ? "As a table" : "Raw JSON"}
          </Button>
          <CopyButton text={json} label="Copy JSON" />
        </span>
      </div>
      {raw ? (
        <Code label="The event as JSON" className="max-h-96">
          {json}
        </Code>
      ) : (
        <div className="grid items-start gap-x-8 gap-y-3 2xl:grid-cols-[minmax(0,2fr)_minmax(0,1fr)]">
          <ColumnTable row={event.columns} onWhere={onWhere} />
          {event.decorations && Object.keys(event.decorations).length > 0 && (
            <div>
              <h3 className="mb-1 text-xs font-medium text-fg-3">Decorations</h3>
              <ColumnTable row={event.decorations} />
            </div>
          )}
        </div>
      )}
    </div>
  );
}

function ColumnTable({ row, onWhere }: { row: Row; onWhere?: EventListProps["onWhere"] }) {
  const entries = Object.entries(row ?? {});
  if (entries.length === 0) return <p className="text-sm text-fg-3">The snapshot was empty.</p>;
  return (
    <dl className="rounded-md border border-line bg-surface text-xs">
      {entries.map(([k, v]) => (
        <div key={k} className="group grid grid-cols-[minmax(7rem,12rem)_minmax(0,1fr)_auto] items-start gap-3 border-b border-line/70 px-3 py-1 last:border-0">
          <dt className="truncate font-mono text-fg-3">
            <Agent>{k}</Agent>
          </dt>
          <dd className="font-mono break-all whitespace-pre-wrap">{v === "" ? <span className="text-fg-3">empty</span> : <Agent>{v}</Agent>}</dd>
          <dd className="flex gap-0.5 opacity-0 group-focus-within:opacity-100 group-hover:opacity-100">
            {onWhere && (
              <>
                <button type="button" aria-label={`Only events with this ${k}`} title="Only events with this value" className="rounded-sm px-1 font-mono text-fg-3 hover:bg-hover hover:text-fg" onClick={() => onWhere(k, "=", v)}>
                  =
                </button>
                <button type="button" aria-label={`Events with another ${k}`} title="Events with another value" className="rounded-sm px-1 font-mono text-fg-3 hover:bg-hover hover:text-fg" onClick={() => onWhere(k, "!=", v)}>
                  ≠
                </button>
              </>
            )}
          </dd>
        </div>
      ))}
    </dl>
  );
}
