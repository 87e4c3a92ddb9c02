import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { useState } from "react";

import { api } from "@/api/client";
import { isRolling, nodeQuery, refreshChanges } from "@/api/queries";
import type { Gate, Rollout, RolloutCounts, RolloutState } from "@/api/types";
import { cx } from "@/lib/cx";
import { formatCount, formatDuration, plural } from "@/lib/format";
import { useNow } from "@/lib/hooks";
import { Agent, visible } from "@/lib/text";
import { Button } from "@/ui/controls";
import { Ago, Badge, Card, Notice, type BadgeTone } from "@/ui/display";
import { Icon, type IconName } from "@/ui/icons";
import { useNotify } from "@/ui/overlay";
import { ReasonDialog } from "./reason-dialog";

const states: Record<RolloutState, [string, BadgeTone]> = {
  running: ["running", "accent"],
  paused: ["paused", "warn"],
  done: ["done", "ok"],
  rolled_back: ["rolled back", "bad"],
};

/** How far a revision is on its way to the nodes, and what one can do about it. */
export function RolloutCard({ rollout: r }: { rollout: Rollout }) {
  const [label, tone] = states[r.state];
  return (
    <Card
      title={
        <span className="flex items-center gap-2">
          Rollout of revision {r.revision} <Badge tone={tone}>{label}</Badge>
        </span>
      }
      actions={isRolling(r) && <Moves rollout={r} />}
    >
      <div className="flex flex-col gap-3">
        <p className="text-sm text-fg-2">
          By the policy <Agent className="font-mono text-xs">{r.policy}</Agent>, {r.base > 0 && <>instead of revision {r.base}, </>}
          begun <Ago time={r.started_at} />
          {r.ended_at && (
            <>
              , ended <Ago time={r.ended_at} />
            </>
          )}
          .
        </p>
        {r.frozen && (
          <Notice>
            No stage begins: <Agent>{r.frozen}</Agent>
          </Notice>
        )}
        {r.reason && r.state !== "done" && (
          <Notice>
            <Agent>{r.reason}</Agent>
          </Notice>
        )}
        <Stages rollout={r} />
        {r.counts && <Counts counts={r.counts} />}
        {r.gates.length > 0 && <Gates gates={r.gates} />}
      </div>
    </Card>
  );
}

function Stages({ rollout: r }: { rollout: Rollout }) {
  const now = useNow();
  return (
    <ol aria-label="Stages" className="flex flex-wrap gap-2">
      {r.stages.map((stage, i) => {
        const done = r.state === "done" || i < r.stage;
        const current = isRolling(r) && i === r.stage;
        const left = stage.bake_seconds - (now - Date.parse(r.stage_at)) / 1000;
        return (
          <li
            key={i}
            aria-current={current ? "step" : undefined}
            className={cx(
              "flex min-w-36 flex-1 items-start gap-2 rounded-md border px-3 py-2",
              current ? "border-accent/50 bg-accent-soft" : "border-line",
            )}
          >
            <Icon name={done ? "check" : current ? (r.state === "paused" ? "stop" : "play") : "clock"} size={15} className={cx("mt-0.5", done ? "text-ok" : current ? "text-accent" : "text-fg-3")} />
            <span className="min-w-0">
              <Agent className="block truncate text-sm font-medium">{stage.name || `stage ${i + 1}`}</Agent>
              <span className="tnum block text-xs text-fg-2">
                {current && r.state === "running" && left > 0 ? `bakes for ${formatDuration(left)} more` : `bakes ${formatDuration(stage.bake_seconds)}`}
              </span>
            </span>
          </li>
        );
      })}
    </ol>
  );
}

function Counts({ counts: c }: { counts: RolloutCounts }) {
  const items: [string, number, string][] = [
    ["Changed", c.changed, `of ${formatCount(c.nodes)} nodes`],
    ["Admitted", c.admitted, "are to have it"],
    ["Online", c.online, "of those admitted"],
    ["Applied", c.applied, "told that they run it"],
    ["Control", c.control, "online with the former one"],
  ];
  return (
    <dl aria-label="Counts" className="grid grid-cols-3 overflow-hidden rounded-md border border-line lg:grid-cols-5">
      {items.map(([name, n, note]) => (
        <div key={name} className="-mt-px -ml-px min-w-0 border-t border-l border-line px-3 py-2">
          <dt className="text-xs text-fg-3">{name}</dt>
          <dd className="truncate text-sm">
            <span className="tnum font-semibold">{formatCount(n)}</span> <span className="text-xs text-fg-3">{note}</span>
          </dd>
        </div>
      ))}
    </dl>
  );
}

function gateLook(g: Gate): [IconName, string, string] {
  if (g.ok) return ["check", "text-ok", "good"];
  if (g.waiting) return ["clock", "text-fg-3", "waiting"];
  return ["x", "text-bad", g.final ? "failed" : "not good"];
}

/** What judges the stage: first what is not good, the rest on demand. */
function Gates({ gates }: { gates: Gate[] }) {
  const good = gates.filter((g) => g.ok);
  const others = gates.filter((g) => !g.ok);
  return (
    <div className="divide-y divide-line/70 rounded-md border border-line">
      {others.length > 0 && <GateList label="Gates" gates={others} />}
      {good.length > 0 && (
        <details>
          <summary className="flex h-8 cursor-pointer items-center gap-1.5 px-3 text-sm text-ok">
            <Icon name="check" size={14} /> {others.length === 0 ? "All gates are good" : `${plural(good.length, "gate")} good`}
            <span className="min-w-0 truncate text-xs text-fg-3">{visible(good.map((g) => g.gate).join(", "))}</span>
            <Icon name="chevronDown" size={13} className="ml-auto text-fg-3" />
          </summary>
          <GateList label="Good gates" gates={good} />
        </details>
      )}
    </div>
  );
}

function GateList({ label, gates }: { label: string; gates: Gate[] }) {
  return (
    <ul aria-label={label} className="flex flex-col divide-y divide-line/70">
      {gates.map((g) => {
        const [icon, colour, word] = gateLook(g);
        return (
          <li key={g.gate} className="flex items-start gap-3 px-3 py-1.5 text-sm">
            <span className={cx("flex w-20 shrink-0 items-center gap-1.5 text-xs leading-5", colour)}>
              <Icon name={icon} size={14} /> {word}
            </span>
            <Agent className="w-32 shrink-0 truncate font-mono text-xs leading-5">{g.gate}</Agent>
            <span className="min-w-0 flex-1 break-words text-fg-2">
              <Agent>{g.message}</Agent>
              {!g.ok && g.nodes && g.nodes.length > 0 && <NodeLinks ids={g.nodes} />}
            </span>
          </li>
        );
      })}
    </ul>
  );
}

/** Links to nodes, by their names. */
export function NodeLinks({ ids }: { ids: string[] }) {
  return (
    <span className="flex flex-wrap gap-x-3">
      {ids.map((id) => (
        <NodeLink key={id} id={id} />
      ))}
    </span>
  );
}

function NodeLink({ id }: { id: string }) {
  const { data } = useQuery({ ...nodeQuery(id), refetchInterval: false, staleTime: 60_000, retry: false });
  return (
    <Link to="/nodes/$id" params={{ id }} className="text-accent hover:underline">
      <Agent>{data?.hostname || data?.host_identifier || id}</Agent>
    </Link>
  );
}

type Move = "pause" | "resume" | "advance" | "rollback";

const moves: Record<Move, { label: string; title: string; text: string; done: string }> = {
  pause: { label: "Pause", title: "Pause the rollout?", text: "It stays at its stage: nodes that have the revision keep it, and no others get it.", done: "The rollout is paused" },
  resume: { label: "Resume", title: "Resume the rollout?", text: "It goes on with its stage, whose bake time begins anew.", done: "The rollout goes on" },
  advance: { label: "Advance", title: "Go to the next stage?", text: "Whatever the gates say, the next stage begins at once.", done: "The next stage begins" },
  rollback: { label: "Roll back", title: "Roll back?", text: "All nodes get the former revision at once, and the rollout ends.", done: "The rollout is rolled back" },
};

function Moves({ rollout: r }: { rollout: Rollout }) {
  const client = useQueryClient();
  const notify = useNotify();
  const [asking, setAsking] = useState<Move | null>(null);
  const move = useMutation({
    mutationFn: ({ to, reason }: { to: Move; reason: string }) => api.post<Rollout>(`/rollouts/current/${to}`, { reason }),
    onSuccess: (_now, { to }) => {
      setAsking(null);
      notify.done(moves[to].done);
    },
    onSettled: () => refreshChanges(client),
  });
  const offered: Move[] = [r.state === "paused" ? "resume" : "pause", "advance", "rollback"];
  const ask = asking && moves[asking];
  return (
    <>
      {offered.map((m) => (
        <Button
          key={m}
          size="sm"
          tone={m === "rollback" ? "danger" : "plain"}
          onClick={() => {
            move.reset();
            setAsking(m);
          }}
        >
          {moves[m].label}
        </Button>
      ))}
      <ReasonDialog
        open={asking !== null}
        onOpenChange={(open) => !open && setAsking(null)}
        title={ask?.title ?? ""}
        description={ask?.text ?? ""}
        action={ask?.label ?? ""}
        harmless={asking === "pause" || asking === "resume"}
        busy={move.isPending}
        error={move.error}
        onConfirm={(reason) => asking && move.mutate({ to: asking, reason })}
      />
    </>
  );
}
