import type { Carve, CarveState, Verification } from "@/api/types";
import { formatBytes } from "@/lib/format";
import { Badge, type BadgeTone } from "@/ui/display";
import { Spinner } from "@/ui/controls";

const looks: Record<CarveState, [BadgeTone, boolean]> = {
  asked: ["neutral", true],
  sent: ["accent", true],
  scheduled: ["accent", true],
  uploading: ["accent", true],
  verifying: ["accent", true],
  done: ["ok", false],
  failed: ["bad", false],
  cancelled: ["neutral", false],
  expired: ["warn", false],
};

export const carveStates = Object.keys(looks) as CarveState[];

export function CarveStateBadge({ state }: { state: CarveState }) {
  const [tone, moving] = looks[state] ?? ["neutral", false];
  return (
    <Badge tone={tone}>
      {moving && <Spinner size={10} />}
      {state}
    </Badge>
  );
}

const verified: Record<Verification, [string, BadgeTone, string] | null> = {
  matched: ["hash matches", "ok", "The SHA-256 of what came is the one that the agent reports"],
  unavailable: ["agent told no hash", "neutral", "The agent reports no SHA-256 of its own; block count and sizes were checked"],
  mismatch: ["hash differs", "bad", "The agent reports another SHA-256 than that of what came: do not rely on this archive"],
  "": null,
};

export function VerificationBadge({ verification }: { verification: Verification }) {
  const look = verified[verification];
  if (!look) return null;
  return (
    <Badge tone={look[1]} title={look[2]}>
      {look[0]}
    </Badge>
  );
}

/** What came of a carve. Its size is known once the agent has announced it. */
export function Received({ carve: c }: { carve: Pick<Carve, "size" | "received" | "state"> }) {
  if (c.state === "done") return <>{formatBytes(c.size)}</>;
  if (c.size === 0) return <span className="text-fg-3">–</span>;
  return (
    <>
      {formatBytes(c.received)} of {formatBytes(c.size)}
    </>
  );
}

export function Meter({ part, whole, label, tone = "bg-chart" }: { part: number; whole: number; label: string; tone?: string }) {
  const share = whole > 0 ? Math.min(1, part / whole) : 0;
  return (
    <div
      role="progressbar"
      aria-label={label}
      aria-valuemin={0}
      aria-valuemax={100}
      aria-valuenow={Math.round(share * 100)}
      className="h-1.5 w-full overflow-hidden rounded-full bg-hover"
    >
      <span className={`block h-full rounded-full transition-[width] duration-200 ${tone}`} style={{ width: `${share * 100}%` }} />
    </div>
  );
}
