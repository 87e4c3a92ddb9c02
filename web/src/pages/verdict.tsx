import { useQuery } from "@tanstack/react-query";
import { Popover } from "radix-ui";
import { useMemo } from "react";

import { verdictQuery } from "@/api/queries";
import type { PolicyVerdict, Severity } from "@/api/types";
import { marksOf, remarksOf, type Mark } from "@/editor/findings";
import { cx } from "@/lib/cx";
import { useDebounced } from "@/lib/hooks";
import { Agent, visible } from "@/lib/text";
import { CopyButton } from "@/ui/controls";
import { ErrorNote } from "@/ui/display";
import { Icon, type IconName } from "@/ui/icons";
import { TierBadge, tierName } from "@/ui/tier";

interface Checked {
  /** Of the newest text that was judged. */
  verdict: PolicyVerdict | undefined;
  /** Why the text could not be judged. */
  failed: Error | null;
  /** Undefined while the text is being judged. */
  found: Mark[] | undefined;
  /** Why the policy refuses the text as it is now; undefined if it does not, or as long as nobody knows. */
  refused: string | undefined;
}

const nothingFound: Mark[] = [];

/** Asks the policy once the text stands still. */
export function useVerdict(sql: string): Checked {
  const settled = useDebounced(sql, 300);
  const { data, error } = useQuery(verdictQuery(settled));
  const current = sql === settled ? data : undefined;
  const blank = sql.trim() === "";
  const found = useMemo(() => (blank ? nothingFound : current && marksOf(settled, current)), [blank, current, settled]);
  return { verdict: blank ? undefined : data, failed: blank ? null : error, found, refused: current && whyRefused(current) };
}

function whyRefused(verdict: PolicyVerdict): string | undefined {
  if (verdict.allowed) return undefined;
  const why = remarksOf(verdict).find((r) => r.severity === "refused");
  return visible(why?.message ?? tierName(verdict.tier));
}

const looks: Record<Severity, [IconName, string]> = {
  refused: ["warn", "text-bad"],
  warning: ["warn", "text-warn"],
  note: ["info", "text-fg-3"],
};

/** What the policy says of the text, below the editor. */
export function VerdictLine({ verdict, failed }: { verdict: PolicyVerdict | undefined; failed: Error | null }) {
  const remarks = useMemo(() => (verdict ? remarksOf(verdict) : []), [verdict]);
  return (
    <div role="status" aria-label="Policy" className={cx("flex items-start gap-3 px-3.5", (verdict ?? failed) && "py-1.5")}>
      {failed && <ErrorNote error={failed} title="The policy could not be asked" />}
      {verdict && (
        <>
          <Reasons verdict={verdict} />
          <ul aria-label="Remarks" className="flex max-h-24 min-w-0 flex-1 flex-col gap-0.5 overflow-auto py-0.5">
            {remarks.map((r, i) => (
              <li key={i} className={cx("flex items-start gap-1.5 text-xs", looks[r.severity][1])}>
                <Icon name={looks[r.severity][0]} size={13} className="mt-0.5" />
                <span className="min-w-0 break-words">
                  {r.severity === "refused" && "Refused: "}
                  <Agent>{r.message}</Agent>
                </span>
              </li>
            ))}
          </ul>
        </>
      )}
    </div>
  );
}

function Reasons({ verdict }: { verdict: PolicyVerdict }) {
  return (
    <Popover.Root>
      <Popover.Trigger className="mt-0.5 inline-flex items-center gap-1 rounded-sm" aria-label={`${tierName(verdict.tier)}: why`}>
        <TierBadge tier={verdict.tier} />
        <Icon name="chevronDown" size={12} className="text-fg-3" />
      </Popover.Trigger>
      <Popover.Portal>
        <Popover.Content
          align="start"
          sideOffset={5}
          collisionPadding={12}
          aria-label="Why this tier"
          className="pop z-50 flex max-h-[min(24rem,var(--radix-popover-content-available-height))] w-104 flex-col gap-3 overflow-auto rounded-lg border border-line-strong bg-raised p-3 text-sm shadow-pop"
        >
          {verdict.exception && (
            <p>
              Allowed by the exception <Agent className="font-mono text-xs">{verdict.exception}</Agent>.
            </p>
          )}
          {verdict.reasons.length === 0 ? (
            <p className="text-fg-2">Nothing in it has a higher tier.</p>
          ) : (
            <ul className="flex flex-col gap-2">
              {verdict.reasons.map((r, i) => (
                <li key={i} className="flex items-start gap-2">
                  <TierBadge tier={r.tier} short />
                  <span className="min-w-0 break-words">
                    <span className="text-fg-3">{r.kind} </span>
                    <Agent className="font-mono text-xs">{r.name}</Agent>
                    <span className="block text-fg-2">
                      <Agent>{r.why}</Agent>
                    </span>
                  </span>
                </li>
              ))}
            </ul>
          )}
          {!verdict.allowed && verdict.hash && (
            <div className="flex items-center gap-2 border-t border-line pt-2.5 text-xs text-fg-3">
              <span className="min-w-0 flex-1">A PolicyException can allow exactly this text, by its SHA-256.</span>
              <CopyButton text={verdict.hash} label="Copy the hash" />
            </div>
          )}
        </Popover.Content>
      </Popover.Portal>
    </Popover.Root>
  );
}
