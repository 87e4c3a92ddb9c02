import type { AlertSeverity } from "@/api/types";
import { Badge, type BadgeTone } from "./display";

export const severities: AlertSeverity[] = ["info", "low", "medium", "high", "critical"];

const tones: Record<AlertSeverity, BadgeTone> = { info: "neutral", low: "neutral", medium: "warn", high: "bad", critical: "bad" };

/** How bad something is; critical stands out from high by its colour's reverse. */
export function SeverityBadge({ severity }: { severity: AlertSeverity }) {
  if (severity === "critical") return <span className="inline-flex h-5 items-center rounded-sm bg-bad px-1.5 text-xs font-semibold text-bg">critical</span>;
  return <Badge tone={tones[severity] ?? "neutral"}>{severity}</Badge>;
}
