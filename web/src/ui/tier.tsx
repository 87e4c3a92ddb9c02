import type { Tier } from "@/api/types";
import { Badge, type BadgeTone } from "./display";

const tiers: Record<Tier, [string, BadgeTone]> = {
  0: ["harmless", "ok"],
  1: ["internal", "neutral"],
  2: ["sensitive", "warn"],
  3: ["dangerous", "bad"],
};

export const tierName = (tier: Tier): string => `tier ${tier} ${tiers[tier][0]}`;

/** How much harm something can do. */
export function TierBadge({ tier, short }: { tier: Tier; short?: boolean }) {
  const [name, tone] = tiers[tier];
  return (
    <Badge tone={tone} title={tierName(tier)}>
      {short ? `${tier} ${name}` : tierName(tier)}
    </Badge>
  );
}
