import { useMutation, useQueryClient } from "@tanstack/react-query";
import { Link, useNavigate } from "@tanstack/react-router";
import { useRef, useState } from "react";

import { api } from "@/api/client";
import { livePath, refreshLive } from "@/api/live";
import type { Live, LiveInput } from "@/api/types";
import { copyText } from "@/lib/copy";
import { formatBytes, formatCount, formatDuration, formatTime, plural } from "@/lib/format";
import { useNow } from "@/lib/hooks";
import { Agent, visible } from "@/lib/text";
import { Button } from "@/ui/controls";
import { Ago, Notice } from "@/ui/display";
import { isOpenLive, LiveStateBadge, settledCount, StateBar } from "@/ui/live-state";
import { Menu, useNotify, type MenuItem } from "@/ui/overlay";
import { TierBadge } from "@/ui/tier";
import { PendingBanner } from "./live-approval";
import { useLiveEditor } from "./live-context";
import { LiveOrigin } from "./live-history";
import { useMay } from "./may";
import { SaveQueryDialog } from "./save-query";

/** How far a query is, what holds it, and what one can do about it. */
export function Progress({ live, lost }: { live: Live; lost: boolean }) {
  const { sql } = useLiveEditor();
  const edited = sql.trim() !== live.sql.trim();
  return (
    <section aria-label="Progress" className="flex shrink-0 flex-col gap-2">
      <div className="flex flex-wrap items-center gap-x-3 gap-y-1">
        <LiveStateBadge state={live.state} held={Boolean(live.held)} />
        <LiveOrigin live={live} />
        <Tally live={live} />
        {lost && live.state === "running" && <span className="text-xs text-warn">Connection lost, trying again …</span>}
        <Actions live={live} edited={edited} />
      </div>
      <StateBar live={live} />
      <Figures live={live} />
      {edited && (
        <p className="truncate font-mono text-2xs text-fg-3" title={visible(live.sql)}>
          <Agent>{live.sql.replace(/\s+/g, " ").trim()}</Agent>
        </p>
      )}
      {live.held && live.state === "running" && <HeldBanner live={live} />}
      {live.state === "pending" && <PendingBanner live={live} />}
      {live.truncated && (
        <Notice>
          Not all rows are kept: the limits of this query cut them off at {plural(live.rows, "row")}
          {live.bytes ? `, ${formatBytes(live.bytes)}` : ""}. The tab “Over limit” says of which nodes; narrow the query, or give it other limits.
        </Notice>
      )}
    </section>
  );
}

function Tally({ live }: { live: Live }) {
  const c = live.counts;
  const answered = (c.answered ?? 0) + (c.empty ?? 0) + (c.over_limit ?? 0);
  const failed = (c.failed ?? 0) + (c.denylisted ?? 0);
  const waiting = (c.waiting ?? 0) + (c.sent ?? 0);
  return (
    <span className="tnum text-sm" role="status" aria-label="Tally">
      <strong className="font-semibold">{formatCount(settledCount(live))}</strong> of {plural(live.nodes, "node")}
      <span className="text-fg-3">
        : {formatCount(answered)} answered, {formatCount(failed)} failed, {formatCount(waiting)} waiting · {plural(live.rows, "row")}
      </span>
    </span>
  );
}

/** So long back the rate looks, in milliseconds. */
const rateWindow = 8000;

/** Answers per second of the last few seconds. */
function useRate(answered: number, now: number): number {
  const seen = useRef<{ at: number; n: number }[]>([]);
  const list = seen.current;
  const last = list.at(-1);
  if (!last || last.at !== now) list.push({ at: now, n: answered });
  while (list.length > 2 && now - list[0]!.at > rateWindow) list.shift();
  const first = list[0]!;
  return now > first.at ? ((answered - first.n) * 1000) / (now - first.at) : 0;
}

const ms = (n: number): string => (n < 10_000 ? `${formatCount(Math.round(n))} ms` : formatDuration(n / 1000));

function Figures({ live }: { live: Live }) {
  const now = useNow();
  const rate = useRate(settledCount(live), now);
  const running = live.state === "running";
  const began = Math.max(Date.parse(live.created_at), live.not_before ? Date.parse(live.not_before) : 0);
  const took = ((live.ended_at ? Date.parse(live.ended_at) : now) - began) / 1000;
  const l = live.latency;
  const parts: string[] = [];
  if (running && began > now) parts.push(`begins at ${formatTime(began)}`);
  else if (running) parts.push(live.expires_at ? `${formatDuration(took)}, ends in ${formatDuration(Math.max(0, (Date.parse(live.expires_at) - now) / 1000))}` : "until it is replaced");
  else if (live.state !== "pending" && live.ended_at) parts.push(`took ${formatDuration(took)}`);
  if (running && rate > 0) parts.push(`${rate < 10 ? rate.toFixed(1) : formatCount(Math.round(rate))} answers a second`);
  if (l && live.state !== "pending" && (l.first_ms > 0 || l.p50_ms > 0)) parts.push(`first answer after ${ms(l.first_ms)}, half after ${ms(l.p50_ms)}, 95 % after ${ms(l.p95_ms)}`);
  if (live.bytes) parts.push(formatBytes(live.bytes));
  return (
    <p className="tnum flex flex-wrap items-center gap-x-2 gap-y-1 text-xs text-fg-3">
      {live.tier !== undefined && live.tier > 0 && <TierBadge tier={live.tier} short />}
      <span>
        {parts.join(" · ")}
        {parts.length > 0 && " · "}by <Agent>{live.created_by}</Agent> <Ago time={live.created_at} />
      </span>
      {live.reason && (
        <span className="min-w-0 truncate" title={visible(live.reason)}>
          · reason: <Agent className="text-fg-2">{live.reason}</Agent>
        </span>
      )}
      {live.approval?.by && (
        <span>
          · approved by <Agent className="text-fg-2">{live.approval.by}</Agent> <Ago time={live.approval.at} />
        </span>
      )}
      {live.rerun_of && "· "}
      {live.rerun_of && (
        <Link to="/live/$id" params={{ id: live.rerun_of }} className="underline underline-offset-2 hover:text-fg">
          the run before
        </Link>
      )}
    </p>
  );
}

function HeldBanner({ live }: { live: Live }) {
  const act = useLiveAction(live);
  const mayRun = useMay("live.run");
  return (
    <Notice
      action={
        mayRun && (
          <span className="flex shrink-0 gap-2">
            <Button size="sm" icon="play" busy={act.isPending && act.variables === "resume"} onClick={() => act.mutate("resume")}>
              Resume
            </Button>
            <Button size="sm" tone="danger" icon="stop" busy={act.isPending && act.variables === "stop"} onClick={() => act.mutate("stop")}>
              Stop
            </Button>
          </span>
        )
      }
    >
      <p className="font-medium">Delivery stands still; {formatCount(live.counts.waiting ?? 0)} nodes have not been given it.</p>
      <Agent>{live.held}</Agent>
    </Notice>
  );
}

function useLiveAction(live: Live) {
  const client = useQueryClient();
  const notify = useNotify();
  return useMutation({
    mutationFn: (action: "stop" | "resume") => api.post<Live>(livePath(live.id, `/${action}`)),
    onSuccess: (now) => refreshLive(client, now),
    onError: notify.failed,
  });
}

function Actions({ live, edited }: { live: Live; edited: boolean }) {
  const act = useLiveAction(live);
  const rerun = useRerun(live);
  const mayRun = useMay("live.run");
  const { load } = useLiveEditor();
  const [saving, setSaving] = useState(false);
  const notify = useNotify();
  const share = async () => {
    const link = `${location.origin}/live/${encodeURIComponent(live.id)}`;
    if (await copyText(link)) notify.done("The link to these results is copied");
    else notify.failed(`The browser did not let it be copied: ${link}`);
  };
  const items: MenuItem[] = [
    { label: "Copy a link to these results", icon: "link", onSelect: () => void share() },
    { label: "Save the query as…", icon: "save", onSelect: () => setSaving(true) },
    { label: "Put it into the editor", icon: "live", onSelect: () => load(live.sql, live.selector) },
  ];
  return (
    <span className="ml-auto flex gap-2">
      {edited && (
        <Button size="sm" tone="ghost" onClick={() => load(live.sql, live.selector)}>
          Edit this query
        </Button>
      )}
      {mayRun && !isOpenLive(live) && live.kind !== "enrollment" && live.kind !== "carve" && (
        <Button size="sm" icon="refresh" busy={rerun.isPending} onClick={() => rerun.mutate()} title="Asks the same targets again, so that both can be compared">
          Run again
        </Button>
      )}
      {mayRun && live.state === "running" && !live.held && (
        <Button size="sm" tone="danger" icon="stop" busy={act.isPending} onClick={() => act.mutate("stop")}>
          Stop
        </Button>
      )}
      <Menu trigger={<Button size="sm" tone="ghost" icon="more" aria-label="More about this query" />} items={items} />
      <SaveQueryDialog open={saving} onOpenChange={setSaving} sql={live.sql} selector={live.selector} />
    </span>
  );
}

/** Asks once more, of the same targets; what needs a reason has the former one. */
function useRerun(live: Live) {
  const client = useQueryClient();
  const navigate = useNavigate();
  const notify = useNotify();
  const { load } = useLiveEditor();
  return useMutation({
    mutationFn: async () => {
      const selector = live.selector ?? (await api.get<Live>(livePath(live.id))).selector;
      if (!selector) {
        load(live.sql);
        throw new Error("Choose the targets above, then run it.");
      }
      return { ...(await api.post<Live>("/live", rerunInput(live, selector))), selector };
    },
    onSuccess: (next) => {
      refreshLive(client, next);
      void navigate({ to: "/live/$id", params: { id: next.id } });
    },
    onError: notify.failed,
  });
}

function rerunInput(live: Live, selector: NonNullable<Live["selector"]>): LiveInput {
  const began = Math.max(Date.parse(live.created_at), live.not_before ? Date.parse(live.not_before) : 0);
  const input: LiveInput = {
    sql: live.sql,
    selector,
    rerun_of: live.id,
  };
  if (live.expires_at) input.expires_seconds = Math.min(604_800, Math.max(60, Math.round((Date.parse(live.expires_at) - began) / 1000)));
  if (live.reason) input.reason = live.reason;
  if (live.limits) input.limits = live.limits;
  if (live.waves) input.waves = live.waves;
  return input;
}
