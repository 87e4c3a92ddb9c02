import { useQuery } from "@tanstack/react-query";
import { getRouteApi, Link } from "@tanstack/react-router";
import type { ReactNode } from "react";

import { ApiError } from "@/api/client";
import { changeQuery, isOpen, rolloutQuery } from "@/api/queries";
import type { Change, ChangeItem, DayCost, Edit, FieldEdit } from "@/api/types";
import { cx } from "@/lib/cx";
import { formatBytes, formatCount, platformName, plural } from "@/lib/format";
import { useTitle } from "@/lib/hooks";
import { Agent, Lines } from "@/lib/text";
import { buttonClass } from "@/ui/controls";
import { Ago, Badge, Card, Empty, ErrorNote, Facts, Loading, Notice, type BadgeTone } from "@/ui/display";
import { TierBadge } from "@/ui/tier";
import { Decisions } from "./change-decisions";
import { ChangeStateBadge } from "./change-state";
import { NodeLinks, RolloutCard } from "./rollout";

const route = getRouteApi("/shell/changes/$id");

export function ChangePage() {
  const { id } = route.useParams();
  const { data: change, error, refetch } = useQuery(changeQuery(id));
  useTitle(`Change ${id}`);
  if (error && !change) {
    const gone = error instanceof ApiError && error.status === 404;
    return (
      <div className="p-5">
        {gone ? (
          <Empty icon="changes" title="There is no such change" action={<Link to="/changes" className={buttonClass()}>All changes</Link>} />
        ) : (
          <ErrorNote error={error} title="The change could not be loaded" onRetry={() => void refetch()} />
        )}
      </div>
    );
  }
  if (!change) return <Loading lines={10} />;
  return (
    <div className="mx-auto flex max-w-[100rem] flex-col gap-4 px-5 py-4">
      <Header change={change} />
      {change.refusals.length > 0 && <Refusals refusals={change.refusals} />}
      {change.revision !== undefined && <RolloutOf revision={change.revision} />}
      <div className="grid grid-cols-1 items-start gap-4 lg:grid-cols-[minmax(0,1fr)_20rem]">
        <div className="flex min-w-0 flex-col gap-4">
          <Diff edits={change.diff} />
          {change.findings.length > 0 && <Findings items={change.findings} />}
        </div>
        <div className="flex min-w-0 flex-col gap-4">
          <Approvals change={change} />
          <EffectCard change={change} />
        </div>
      </div>
    </div>
  );
}

function Header({ change: c }: { change: Change }) {
  return (
    <header className="flex flex-wrap items-start gap-x-4 gap-y-2">
      <div className="min-w-0 flex-1">
        <div className="flex flex-wrap items-center gap-x-3 gap-y-1">
          <h1 className="min-w-0 text-xl font-semibold tracking-tight break-words">
            <Agent>{c.message || `Change ${c.id}`}</Agent>
          </h1>
          <ChangeStateBadge state={c.state} />
          <TierBadge tier={c.tier} />
        </div>
        <p className="mt-1 text-sm text-fg-2">
          Change {c.id} by <Agent className="font-medium">{c.author}</Agent> <Ago time={c.created_at} />, made against revision {c.base}
          {c.revision !== undefined && <>; it is revision {c.revision}</>}
          {c.rollout && (
            <>
              ; {isOpen(c) ? "rolls out" : "rolled out"} by <Agent className="font-mono text-xs">{c.rollout}</Agent>
            </>
          )}
          .
        </p>
        {c.decided_by && c.decision && (
          <p className="mt-0.5 text-sm text-fg-2">
            {c.state} by <Agent className="font-medium">{c.decided_by}</Agent> <Ago time={c.decided_at} />: <Agent>{c.decision}</Agent>
          </p>
        )}
      </div>
      {isOpen(c) && <Decisions change={c} />}
    </header>
  );
}

function Refusals({ refusals }: { refusals: string[] }) {
  return (
    <Notice>
      <p>It is refused:</p>
      <ul className="list-disc pl-4">
        {refusals.map((r, i) => (
          <li key={i}>
            <Agent>{r}</Agent>
          </li>
        ))}
      </ul>
    </Notice>
  );
}

function RolloutOf({ revision }: { revision: number }) {
  const { data } = useQuery(rolloutQuery(revision));
  return data ? <RolloutCard rollout={data} /> : null;
}

// ---- What differs ----

const ops: Record<Edit["op"], BadgeTone> = { create: "ok", change: "accent", delete: "bad" };

function Diff({ edits }: { edits: Edit[] }) {
  return (
    <section aria-label="Diff" className="flex flex-col gap-4">
      {edits.map((e) => (
        <Card
          key={`${e.kind}/${e.name}`}
          flush
          title={
            <span className="flex items-center gap-2">
              <Badge tone={ops[e.op]}>{e.op}</Badge>
              <Agent className="truncate font-mono text-xs">{`${e.kind}/${e.name}`}</Agent>
            </span>
          }
        >
          {e.fields.length === 0 ? (
            <p className="p-4 text-sm text-fg-3">No field differs.</p>
          ) : (
            <dl className="flex flex-col divide-y divide-line/70">
              {e.fields.map((f) => (
                <Field key={f.path} edit={f} />
              ))}
            </dl>
          )}
        </Card>
      ))}
    </section>
  );
}

function Field({ edit: f }: { edit: FieldEdit }) {
  return (
    <div className="grid grid-cols-[minmax(8rem,13rem)_minmax(0,1fr)] gap-x-4 px-4 py-2 text-sm">
      <dt className="font-mono text-xs leading-5 break-words text-fg-3">
        <Agent>{f.path}</Agent>
      </dt>
      <dd className="flex min-w-0 flex-col gap-1">
        {f.before !== undefined && <Side text={f.before} sign="−" name="before" className="bg-bad-soft text-bad" />}
        {f.after !== undefined && <Side text={f.after} sign="+" name="after" className="bg-ok-soft text-ok" />}
      </dd>
    </div>
  );
}

function Side({ text, sign, name, className }: { text: string; sign: string; name: string; className: string }) {
  return (
    <div className="flex max-h-80 items-start gap-2 overflow-auto rounded-sm bg-sunken pr-2">
      <span aria-label={name} className={cx("w-5 shrink-0 self-stretch text-center font-mono text-xs leading-6 font-semibold", className)}>
        {sign}
      </span>
      <Lines className="min-w-0 flex-1 py-0.5 font-mono text-xs leading-5 [overflow-wrap:anywhere]">{text}</Lines>
    </div>
  );
}

// ---- What the policy says ----

function Findings({ items }: { items: ChangeItem[] }) {
  return (
    <Card title="What the policy says" flush>
      <ul aria-label="Findings" className="flex flex-col divide-y divide-line/70">
        {items.map((item, i) => (
          <li key={i} className="flex items-start gap-3 px-4 py-2 text-sm">
            <TierBadge tier={item.verdict.tier} short />
            <div className="min-w-0 flex-1">
              <Agent className="font-mono text-xs break-words text-fg-2">{`${item.kind}/${item.name} ${item.path}`}</Agent>
              {item.verdict.exception && <Line tone="text-ok">{`allowed by ${item.verdict.exception}`}</Line>}
              {item.verdict.findings.map((f, n) => (
                <Line key={`f${n}`} tone={f.severity === "refused" ? "text-bad" : f.severity === "warning" ? "text-warn" : "text-fg-2"}>
                  {`${f.severity}: ${f.message}`}
                </Line>
              ))}
              {item.verdict.reasons.map((r, n) => (
                <Line key={`r${n}`} tone="text-fg-2">{`${r.kind} ${r.name}: ${r.why}`}</Line>
              ))}
            </div>
          </li>
        ))}
      </ul>
    </Card>
  );
}

function Line({ tone, children }: { tone: string; children: string }) {
  return (
    <p className={cx("break-words", tone)}>
      <Agent>{children}</Agent>
    </p>
  );
}

// ---- Who agrees, and what it does ----

function Approvals({ change: c }: { change: Change }) {
  return (
    <Card title={c.needed > 0 ? `Approvals ${c.approvals.length} of ${c.needed}` : "Approvals"}>
      <div className="flex flex-col gap-2 text-sm">
        {c.needed === 0 && <p className="text-fg-2">Nobody else has to approve it.</p>}
        {c.rule && (
          <p className="text-fg-2">
            <Agent>{c.rule}</Agent> asks for {plural(c.needed, "other person", "other people")}.
          </p>
        )}
        {c.approvals.map((a) => (
          <p key={a.by}>
            <Agent className="font-medium">{a.by}</Agent>{" "}
            <span className="text-fg-2">
              <Ago time={a.at} />
            </span>
          </p>
        ))}
        <p className="text-xs text-fg-3">
          SHA-256 of the edits <span className="font-mono break-all text-fg-2">{c.hash}</span>
        </p>
      </div>
    </Card>
  );
}

function EffectCard({ change: c }: { change: Change }) {
  const e = c.effect;
  const platforms = Object.entries(e.platforms).sort((a, b) => b[1] - a[1]);
  const items: [string, ReactNode][] = [
    ["Nodes", `${formatCount(e.nodes)}, ${formatCount(e.online)} online`],
    ["Platforms", platforms.map(([name, n]) => `${platformName(name)} ${formatCount(n)}`).join(", ") || "–"],
  ];
  if (e.nodes > 0) items.push(...costs(e.cost_before, e.cost_after));
  return (
    <Card title="Effect">
      <div className="flex flex-col gap-3 text-sm">
        <p className="text-xs text-fg-3">On the nodes that were known when it was proposed. Costs are of the dearest one in a day, as observed.</p>
        <Facts items={items} />
        {e.unpriced.length > 0 && (
          <div className="text-fg-2">
            No evidence of cost yet:
            <ul className="mt-0.5">
              {e.unpriced.map((q) => (
                <li key={q} className="truncate font-mono text-xs leading-5">
                  <Agent>{q}</Agent>
                </li>
              ))}
            </ul>
          </div>
        )}
        {e.sample.length > 0 && (
          <div>
            <p className="text-fg-3">{e.sample.length < e.nodes ? "Some of them" : "They are"}</p>
            <NodeLinks ids={e.sample} />
          </div>
        )}
      </div>
    </Card>
  );
}

function costs(before: DayCost, after: DayCost): [string, ReactNode][] {
  const cost = (show: (n: number) => string, a: number, b: number): string => (show(a) === show(b) ? show(a) : `${show(a)} → ${show(b)}`);
  const round = (n: number): string => formatCount(Math.round(n));
  return [
    ["CPU", cost((n) => `${n < 10 ? n.toFixed(1) : round(n)} s`, before.cpu_seconds, after.cpu_seconds)],
    ["Rows", cost(round, before.rows, after.rows)],
    ["Bytes", cost((n) => formatBytes(Math.round(n)), before.bytes, after.bytes)],
  ];
}
