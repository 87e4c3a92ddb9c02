import { useQuery } from "@tanstack/react-query";
import { Popover } from "radix-ui";
import { useImperativeHandle, useState, type ReactNode, type Ref } from "react";

import { ApiError } from "@/api/client";
import { previewQuery, selectsSomething } from "@/api/live";
import type { LiveDecision, LivePreview, LivePreviewInput, Selector } from "@/api/types";
import { formatCount, platformName, plural } from "@/lib/format";
import { useDebounced } from "@/lib/hooks";
import type { LiveDraft } from "@/lib/live-draft";
import { unknownIn } from "@/lib/live-link";
import { Agent } from "@/lib/text";
import { Button, Input, Spinner } from "@/ui/controls";
import { Ago, StatusDot } from "@/ui/display";
import { Icon, PlatformIcon } from "@/ui/icons";
import { tierName } from "@/ui/tier";
import { useMay } from "./may";

interface RunBarProps {
  draft: LiveDraft;
  /** Why the policy refuses it, if it does; the server decides once more. */
  refused: string | undefined;
  busy: boolean;
  /** What the server said of the last try. */
  error: Error | null;
  onRun: (reason: string) => void;
  onSelector: (selector: Selector) => void;
  children: ReactNode;
  ref: Ref<{ run: () => void }>;
}

/** Whom the query reaches, what it needs, and the button that runs it. */
export function RunBar({ draft, refused, busy, error, onRun, onSelector, children, ref }: RunBarProps) {
  const [reason, setReason] = useState("");
  const preview = usePreview(draft);
  const { data } = preview;
  const some = selectsSomething(draft.selector);
  const decision = some ? data?.decision : undefined;
  // What the preview refuses, such as a name that is no node's, would be refused again.
  const wrong = some && preview.error instanceof ApiError && preview.error.status >= 400 && preview.error.status < 500;
  const needsReason = decision === "reason" || decision === "approval" || asksReason(error);
  const why = refused ?? (decision === "refused" ? data?.why || "the policy refuses it" : undefined);
  const mayRun = useMay("live.run");
  const ready = mayRun && draft.sql.trim() !== "" && some && why === undefined && !wrong && data?.asked !== 0 && !tooMany(data, draft) && (!needsReason || reason.trim() !== "");
  const run = () => {
    if (ready && !busy) onRun(needsReason ? reason : "");
  };
  useImperativeHandle(ref, () => ({ run }));
  return (
    <form
      className="flex min-h-11 flex-wrap items-center gap-x-2 gap-y-1.5 border-t border-line px-3 py-1.5"
      onSubmit={(e) => {
        e.preventDefault();
        run();
      }}
    >
      <Reach preview={preview} some={some} refused={refused ? "" : why} draft={draft} onSelector={onSelector} />
      <div className="ml-auto flex min-w-0 flex-wrap items-center justify-end gap-2">
        {needsReason && some && (
          <Input
            aria-label="Reason"
            placeholder={decision === "approval" ? "Why? The second person reads it" : "Why? It is kept with the query"}
            className="h-7 w-64 text-xs"
            maxLength={1000}
            value={reason}
            onChange={(e) => setReason(e.target.value)}
          />
        )}
        {children}
        <Button
          type="submit"
          tone="primary"
          size="sm"
          icon="play"
          busy={busy}
          disabled={!ready}
          title={!mayRun ? "You may read live queries, but not run any" : why ? `The policy refuses this text: ${why}` : needsReason && !reason.trim() ? "It needs a reason" : "Ctrl+Enter in the editor"}
        >
          {decision === "approval" ? "Ask for approval" : "Run"}
        </Button>
      </div>
    </form>
  );
}

/** Whether the server refused for want of a reason, whatever the preview said. */
const asksReason = (error: Error | null): boolean => error instanceof ApiError && error.items.some((i) => /(^|\.)reason$/.test(i.location ?? ""));

function usePreview(draft: LiveDraft) {
  const selector = useDebounced(draft.selector, 150);
  const sql = useDebounced(draft.sql.trim(), 350);
  const sample = useDebounced(draft.sample, 150);
  const input: LivePreviewInput = { selector };
  if (sql) input.sql = sql;
  if (sample) input.sample_percent = sample;
  return useQuery(previewQuery(input));
}

interface ReachProps {
  preview: ReturnType<typeof usePreview>;
  some: boolean;
  /** Why it is refused; empty if that stands above already. */
  refused: string | undefined;
  draft: LiveDraft;
  onSelector: (selector: Selector) => void;
}

const needs: Record<LiveDecision, string> = {
  "": "",
  run: "",
  reason: "needs a reason",
  approval: "needs a second person",
  refused: "is refused",
};

function Reach({ preview, some, refused, draft, onSelector }: ReachProps) {
  const { data, error, isFetching } = preview;
  return (
    <div className="tnum flex min-w-0 items-center gap-2 text-xs text-fg-3" role="status" aria-label="Reach">
      {refused !== undefined && (
        <span className="text-bad">
          refused by the policy{refused && ": "}
          <Agent>{refused}</Agent>
        </span>
      )}
      {!some ? (
        refused === undefined && "no targets yet"
      ) : error ? (
        <PreviewError error={error} selector={draft.selector} onSelector={onSelector} />
      ) : data ? (
        <>
          <span className="whitespace-nowrap">
            hits <strong className="font-semibold text-fg">{plural(data.matching, "node")}</strong>, {formatCount(data.online)} online
            {data.asked < data.matching && (
              <>
                , asks <strong className="font-semibold text-fg">{formatCount(data.asked)}</strong>
              </>
            )}
          </span>
          {tooMany(data, draft) && <span className="text-bad">more than your {formatCount(draft.maxNodes!)}</span>}
          {refused === undefined && needs[data.decision] && (
            <span className="truncate text-warn">
              {needs[data.decision]}
              {data.why && (
                <>
                  : <Agent>{data.why}</Agent>
                </>
              )}
            </span>
          )}
          <Details preview={data} />
        </>
      ) : (
        isFetching && <Spinner size={12} />
      )}
    </div>
  );
}

/** Whether it is for more nodes than its writer allows. */
const tooMany = (p: LivePreview | undefined, d: LiveDraft): boolean => p !== undefined && d.maxNodes !== undefined && p.asked > d.maxNodes;

/** Names that mean no node are an error; a pasted list often has some. */
function PreviewError({ error, selector, onSelector }: { error: Error; selector: Selector; onSelector: (s: Selector) => void }) {
  const nodes = selector.nodes ?? [];
  const messages = error instanceof ApiError ? [error.message, ...error.items.map((i) => i.message)] : [error.message];
  const unknown = new Set(messages.flatMap((m) => unknownIn(m, nodes)));
  const text = error instanceof ApiError && error.items.length > 0 ? error.items.map((i) => i.message).join(" ") : error.message;
  return (
    <>
      <span className="line-clamp-2 min-w-0 break-words text-bad">
        <Agent>{text}</Agent>
      </span>
      {unknown.size > 0 && (
        <Button size="sm" onClick={() => onSelector({ ...selector, nodes: nodes.filter((n) => !unknown.has(n)) })}>
          Leave {unknown.size === 1 ? "it" : `these ${unknown.size}`} out
        </Button>
      )}
    </>
  );
}

/** Where the nodes are, which they are, and what a node is likely to spend. */
function Details({ preview: p }: { preview: LivePreview }) {
  const e = p.estimate;
  return (
    <Popover.Root>
      <Popover.Trigger className="inline-flex items-center gap-1 rounded-sm whitespace-nowrap text-fg-2 hover:text-fg">
        {e ? `about ${cost(e.wall_ms_per_node)} and ${plural(Math.round(e.rows_per_node), "row")} a node` : "details"}
        <Icon name="chevronDown" size={12} />
      </Popover.Trigger>
      <Popover.Portal>
        <Popover.Content
          align="start"
          sideOffset={5}
          collisionPadding={12}
          aria-label="Whom it reaches"
          className="pop z-50 flex max-h-[min(28rem,var(--radix-popover-content-available-height))] w-96 flex-col gap-3 overflow-auto rounded-lg border border-line-strong bg-raised p-3 text-sm shadow-pop"
        >
          {p.decision && (
            <p>
              {tierName(p.tier)}: {p.decision === "run" ? "runs at once" : needs[p.decision]}
              {p.why && (
                <span className="text-fg-2">
                  . <Agent>{p.why}</Agent>
                </span>
              )}
            </p>
          )}
          {e ? (
            <p className="text-fg-2">
              About {cost(e.wall_ms_per_node)} and {plural(Math.round(e.rows_per_node), "row")} a node; {cost(p.asked * e.wall_ms_per_node)} and{" "}
              {plural(Math.round(p.asked * e.rows_per_node), "row")} for all {formatCount(p.asked)}.{" "}
              <span className="text-fg-3">
                {e.basis === "scheduled" ? "Measured on a scheduled query" : "Measured on earlier live queries with this text"}
                {e.query && (
                  <>
                    {" "}
                    <Agent className="font-mono text-xs">{e.query}</Agent>
                  </>
                )}
                {e.at && (
                  <>
                    , <Ago time={e.at} />
                  </>
                )}
                , on {plural(e.nodes, "answer")}.
              </span>
            </p>
          ) : (
            <p className="text-fg-3">Nothing is known yet of what this text costs. Waves begin with few nodes and find out.</p>
          )}
          <table className="w-full" aria-label="By platform">
            <thead>
              <tr className="text-left text-xs text-fg-3 [&>th]:font-medium [&>th]:pb-1">
                <th>Platform</th>
                <th className="text-right">Nodes</th>
                <th className="text-right">Online</th>
              </tr>
            </thead>
            <tbody>
              {(p.platforms ?? []).map((x) => (
                <tr key={x.platform}>
                  <td>
                    <span className="flex items-center gap-1.5">
                      <PlatformIcon platform={x.platform} />
                      <Agent>{platformName(x.platform) || "unknown"}</Agent>
                    </span>
                  </td>
                  <td className="tnum text-right">{formatCount(x.matching)}</td>
                  <td className="tnum text-right">{formatCount(x.online)}</td>
                </tr>
              ))}
            </tbody>
          </table>
          <Some preview={p} />
        </Popover.Content>
      </Popover.Portal>
    </Popover.Root>
  );
}

function Some({ preview: p }: { preview: LivePreview }) {
  const nodes = p.nodes ?? [];
  if (nodes.length === 0) return null;
  return (
    <div>
      <p className="mb-1 text-xs text-fg-3">{nodes.length < p.matching ? `The first ${nodes.length} of ${formatCount(p.matching)}` : "All of them"}</p>
      <ul className="grid grid-cols-2 gap-x-3 gap-y-0.5">
        {nodes.map((n) => (
          <li key={n.node_id} className="flex min-w-0 items-center gap-1.5">
            <StatusDot status={n.online ? "online" : "offline"} bare />
            <Agent className="truncate">{n.hostname || n.node_id}</Agent>
          </li>
        ))}
      </ul>
    </div>
  );
}

function cost(ms: number): string {
  if (ms < 1000) return `${formatCount(Math.round(ms))} ms`;
  if (ms < 120_000) return `${(ms / 1000).toFixed(1)} s`;
  return `${formatCount(Math.round(ms / 60_000))} min`;
}
