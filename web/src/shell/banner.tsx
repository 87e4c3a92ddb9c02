import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import type { ReactNode } from "react";

import { freezeQuery, safeQuery } from "@/api/queries";
import type { Break, Freeze, Safe } from "@/api/types";
import { formatTime } from "@/lib/format";
import { Agent } from "@/lib/text";
import { Icon } from "@/ui/icons";

/**
 * Says on every page that changes are refused, or that nodes run nothing. Screen
 * readers are told once, so the times in it stand still.
 */
export function Banners() {
  const { data: freeze } = useQuery(freezeQuery);
  const { data: safe } = useQuery(safeQuery);
  return (
    <div role="status" aria-label="State of the fleet" className="max-h-40 shrink-0 overflow-auto">
      {safe?.active && <SafeBanner safe={safe} />}
      {freeze?.frozen && <FreezeBanner freeze={freeze} />}
    </div>
  );
}

function Banner({ bad, children }: { bad?: boolean; children: ReactNode }) {
  return (
    <div className={`flex items-start gap-2.5 border-b border-line px-5 py-2 text-sm ${bad ? "bg-bad-soft text-bad" : "bg-warn-soft text-warn"}`}>
      <Icon name="warn" size={16} className="mt-0.5" />
      <div className="min-w-0 flex-1 break-words">{children}</div>
    </div>
  );
}

function SafeBanner({ safe }: { safe: Safe }) {
  return (
    <Banner bad>
      <strong className="font-semibold">The safe config is served</strong> to <Agent className="font-mono text-xs">{safe.selector}</Agent>: these nodes run
      nothing. By <Agent className="font-medium">{safe.by}</Agent> since {formatTime(safe.at)}: <Agent>{safe.reason}</Agent>
    </Banner>
  );
}

function FreezeBanner({ freeze }: { freeze: Freeze }) {
  return (
    <Banner>
      <strong className="font-semibold">Changes are frozen</strong>
      {freeze.since && ` since ${formatTime(freeze.since)}`}:{" "}
      {freeze.reasons.map((r, i) => (
        <span key={i}>
          {i > 0 && "; "}
          <Agent>{r}</Agent>
        </span>
      ))}
      . <Link to="/changes" className="underline underline-offset-2">Changes</Link>
      {freeze.break && <BreakGlass ask={freeze.break} />}
    </Banner>
  );
}

function BreakGlass({ ask }: { ask: Break }) {
  return (
    <p>
      {ask.approved_by ? (
        <>
          Break-glass is in force, until {formatTime(ask.until)}, asked for by <Agent className="font-medium">{ask.by}</Agent>, agreed to by{" "}
          <Agent className="font-medium">{ask.approved_by}</Agent>:{" "}
        </>
      ) : (
        <>
          <Agent className="font-medium">{ask.by}</Agent> asked for break-glass at {formatTime(ask.at)}; somebody else must agree
          (<code className="font-mono text-xs">muster freeze agree</code>):{" "}
        </>
      )}
      <Agent>{ask.reason}</Agent>
    </p>
  );
}
