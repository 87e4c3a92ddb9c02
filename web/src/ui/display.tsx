import type { ReactNode } from "react";

import { ApiError } from "@/api/client";
import { cx } from "@/lib/cx";
import { formatAgo, formatTime } from "@/lib/format";
import { useNow } from "@/lib/hooks";
import { Agent, visible } from "@/lib/text";
import { Button } from "./controls";
import { Icon, type IconName } from "./icons";

export type BadgeTone = "neutral" | "accent" | "ok" | "warn" | "bad";

const badgeTones: Record<BadgeTone, string> = {
  neutral: "bg-hover text-fg-2",
  accent: "bg-accent-soft text-accent",
  ok: "bg-ok-soft text-ok",
  warn: "bg-warn-soft text-warn",
  bad: "bg-bad-soft text-bad",
};

export function Badge({ tone = "neutral", children, title, mono }: { tone?: BadgeTone; children: ReactNode; title?: string; mono?: boolean }) {
  return (
    <span
      title={title}
      className={cx(
        "inline-flex h-5 max-w-full items-center gap-1 rounded-sm px-1.5 text-xs font-medium whitespace-nowrap",
        mono && "font-mono text-2xs",
        badgeTones[tone],
      )}
    >
      {children}
    </span>
  );
}

/** A tag on a node, with what gives it unless that is a hand alone. */
export function TagBadge({ tag, sources = [], onRemove }: { tag: string; sources?: string[]; onRemove?: (() => void) | undefined }) {
  const others = sources.filter((s) => s !== "hand").map((s) => s.replace(":", " "));
  return (
    <span
      title={sources.length > 0 ? visible(`given by ${sources.join(", ")}`) : undefined}
      className="inline-flex h-5 max-w-72 items-center gap-1 rounded-sm border border-line bg-sunken px-1.5 text-xs text-fg-2"
    >
      <span className="max-w-48 truncate">
        <Agent>{tag}</Agent>
      </span>
      {others.length > 0 && (
        <span className="truncate text-2xs text-fg-3">
          <Agent>{others.join(", ")}</Agent>
        </span>
      )}
      {onRemove && (
        <button type="button" aria-label={`Remove tag ${tag}`} onClick={onRemove} className="-mr-0.5 rounded-sm text-fg-3 hover:text-fg">
          <Icon name="x" size={12} />
        </button>
      )}
    </span>
  );
}

export function StatusDot({ status, bare }: { status: string; bare?: boolean }) {
  const dot = status === "online" ? "bg-ok-fill" : status === "quarantined" ? "bg-warn-fill" : "border-[1.5px] border-neutral-fill";
  const text = status === "online" ? "text-fg" : status === "quarantined" ? "text-warn" : "text-fg-3";
  return (
    <span className="inline-flex items-center gap-1.5">
      <span aria-hidden="true" className={cx("size-2 shrink-0 rounded-full", dot)} />
      {!bare && <span className={text}>{status}</span>}
    </span>
  );
}

/** Something that one should know before anything else on the page. */
export function Notice({ children, action }: { children: ReactNode; action?: ReactNode }) {
  return (
    <div role="note" className="flex items-start gap-2.5 rounded-md bg-warn-soft px-3 py-2 text-sm text-warn">
      <Icon name="warn" size={16} className="mt-0.5" />
      <div className="min-w-0 flex-1 break-words">{children}</div>
      {action}
    </div>
  );
}

/** How long ago, with the exact time on hover. */
export function Ago({ time }: { time: string | undefined }) {
  const now = useNow();
  return (
    <time dateTime={time} title={time ? `${formatTime(time)} (local time)` : undefined} className="tnum whitespace-nowrap">
      {formatAgo(time, now)}
    </time>
  );
}

export function Card({ title, actions, children, className, flush }: {
  title?: ReactNode;
  actions?: ReactNode;
  children: ReactNode;
  className?: string;
  flush?: boolean;
}) {
  return (
    <section className={cx("flex min-w-0 flex-col rounded-lg border border-line bg-surface shadow-card", className)}>
      {title !== undefined && (
        <header className="flex h-10 shrink-0 items-center gap-3 border-b border-line px-4">
          <h2 className="truncate text-sm font-semibold">{title}</h2>
          <div className="ml-auto flex items-center gap-2">{actions}</div>
        </header>
      )}
      <div className={cx("min-h-0 min-w-0 flex-1", !flush && "p-4")}>{children}</div>
    </section>
  );
}

/** A page's heading line. */
export function PageHeader({ title, note, children }: { title: ReactNode; note?: ReactNode; children?: ReactNode }) {
  return (
    <header className="flex min-h-8 shrink-0 flex-wrap items-center gap-x-3 gap-y-2">
      <h1 className="text-lg font-semibold tracking-tight">{title}</h1>
      {note && <span className="tnum text-sm text-fg-3">{note}</span>}
      <div className="ml-auto flex items-center gap-2">{children}</div>
    </header>
  );
}

export function Empty({ icon = "search", title, children, action }: { icon?: IconName; title: string; children?: ReactNode; action?: ReactNode }) {
  return (
    <div className="flex h-full min-h-44 flex-col items-center justify-center gap-2 px-6 py-10 text-center">
      <span className="mb-1 flex size-10 items-center justify-center rounded-lg border border-line bg-sunken text-fg-3">
        <Icon name={icon} size={19} />
      </span>
      <p className="text-sm font-medium">{title}</p>
      {children && <div className="max-w-md text-sm text-balance text-fg-3">{children}</div>}
      {action && <div className="mt-2">{action}</div>}
    </div>
  );
}

export function errorText(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** What went wrong, with the server's own findings, inline. */
export function ErrorNote({ error, title, onRetry }: { error: unknown; title?: string; onRetry?: () => void }) {
  const text = errorText(error);
  const items = error instanceof ApiError ? error.items.filter((i) => `${i.location} ${i.message}` !== text) : [];
  return (
    <div role="alert" className="flex items-start gap-2.5 rounded-md border border-bad-fill/35 bg-bad-soft px-3 py-2 text-sm text-bad">
      <Icon name="warn" size={16} className="mt-0.5" />
      <div className="min-w-0 flex-1">
        {title && <p className="font-medium">{title}</p>}
        <p className="break-words">
          <Agent>{text}</Agent>
        </p>
        {items.length > 0 && (
          <ul className="mt-1 list-disc pl-4">
            {items.map((item, i) => (
              <li key={i} className="break-words">
                {item.location && <Agent className="mr-1 font-mono text-xs">{item.location}</Agent>}
                <Agent>{item.message}</Agent>
                {item.location && <span className="opacity-80"> ({item.location})</span>}
              </li>
            ))}
          </ul>
        )}
      </div>
      {onRetry && (
        <Button size="sm" icon="refresh" onClick={onRetry}>
          Try again
        </Button>
      )}
    </div>
  );
}

/** Grey lines where text will be. */
export function Loading({ lines = 6 }: { lines?: number }) {
  return (
    <div className="flex flex-col gap-3 p-4" role="status" aria-label="Loading">
      {Array.from({ length: lines }, (_, i) => (
        <div key={i} className="skeleton h-3.5" style={{ width: `${88 - ((i * 37) % 50)}%` }} />
      ))}
    </div>
  );
}

/** A list of names with values. */
export function Facts({ items }: { items: [string, ReactNode][] }) {
  return (
    <dl className="grid grid-cols-[minmax(7rem,auto)_minmax(0,1fr)] gap-x-4 gap-y-1.5 text-sm">
      {items.map(([name, value]) => (
        <div key={name} className="contents">
          <dt className="text-fg-3">{name}</dt>
          <dd className="min-w-0 break-words">{value}</dd>
        </div>
      ))}
    </dl>
  );
}

/** A block of code that can be copied as it is. */
export function Code({ children, className, label }: { children: string; className?: string; label?: string }) {
  return (
    <pre
      tabIndex={0}
      aria-label={label}
      className={cx("overflow-auto rounded-md border border-line bg-sunken p-3 font-mono text-xs leading-5 text-fg", className)}
    >
      {children}
    </pre>
  );
}
