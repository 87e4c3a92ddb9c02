import type { Live, LiveState, NodeState } from "@/api/types";
import { formatCount } from "@/lib/format";
import { Badge, type BadgeTone } from "./display";
import { Spinner } from "./controls";

export const nodeStates: { state: NodeState; label: string; fill: string; tone: BadgeTone }[] = [
  { state: "answered", label: "Answered", fill: "bg-ok-fill", tone: "ok" },
  { state: "empty", label: "Empty", fill: "bg-ok-fill/45", tone: "neutral" },
  { state: "failed", label: "Failed", fill: "bg-bad-fill", tone: "bad" },
  { state: "denylisted", label: "Denylisted", fill: "bg-bad-fill/70", tone: "bad" },
  { state: "over_limit", label: "Over limit", fill: "bg-warn-fill", tone: "warn" },
  { state: "expired", label: "Expired", fill: "bg-warn-fill/60", tone: "warn" },
  { state: "stopped", label: "Stopped", fill: "bg-neutral-fill", tone: "neutral" },
  { state: "sent", label: "Sent", fill: "bg-info-fill/70", tone: "accent" },
  { state: "waiting", label: "Waiting", fill: "bg-transparent", tone: "neutral" },
];

/** Nodes of which nothing more is to come. */
export function settledCount(live: Live): number {
  return live.nodes - (live.counts.waiting ?? 0) - (live.counts.sent ?? 0);
}

/** Whether something is still to come of a query, or to be decided. */
export const isOpenLive = (live: Live): boolean => live.state === "running" || live.state === "pending";

const stateTones: Record<LiveState, BadgeTone> = {
  pending: "warn",
  running: "accent",
  done: "ok",
  expired: "warn",
  stopped: "neutral",
  rejected: "bad",
  over_limit: "warn",
};

export function LiveStateBadge({ state, held }: { state: LiveState; held?: boolean }) {
  if (state === "running" && held) return <Badge tone="warn">held</Badge>;
  return (
    <Badge tone={stateTones[state] ?? "neutral"}>
      {state === "running" && <Spinner size={10} />}
      {state.replace("_", " ")}
    </Badge>
  );
}

/** Every node of a live query, by its state. */
export function StateBar({ live, height = 6 }: { live: Live; height?: number }) {
  const settled = settledCount(live);
  return (
    <div
      role="progressbar"
      aria-label="Nodes that are done"
      aria-valuemin={0}
      aria-valuemax={live.nodes}
      aria-valuenow={settled}
      aria-valuetext={`${formatCount(settled)} of ${formatCount(live.nodes)}`}
      className="flex w-full gap-px overflow-hidden rounded-full bg-hover"
      style={{ height }}
    >
      {nodeStates.map(({ state, fill }) => {
        const n = live.counts[state] ?? 0;
        return n > 0 && live.nodes > 0 ? (
          <span key={state} className={`${fill} transition-[width] duration-200`} style={{ width: `${(n / live.nodes) * 100}%` }} />
        ) : null;
      })}
    </div>
  );
}
