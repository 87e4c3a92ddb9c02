import type { ChangeState } from "@/api/types";
import { Badge, type BadgeTone } from "@/ui/display";

const tones: Record<ChangeState, BadgeTone> = {
  planned: "neutral",
  unchanged: "neutral",
  refused: "bad",
  pending: "warn",
  approved: "accent",
  applied: "ok",
  rejected: "bad",
  withdrawn: "neutral",
  stale: "neutral",
};

export function ChangeStateBadge({ state }: { state: ChangeState }) {
  return <Badge tone={tones[state]}>{state}</Badge>;
}
