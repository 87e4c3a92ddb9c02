import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { useState } from "react";

import { api } from "@/api/client";
import { tokensPath } from "@/api/people";
import { sessionQuery } from "@/api/queries";
import type { Token, TokenScope } from "@/api/types";
import { formatCount } from "@/lib/format";
import { byNoun } from "@/lib/permissions";
import { Agent, visible } from "@/lib/text";
import { Button } from "@/ui/controls";
import { Ago, Badge, type BadgeTone } from "@/ui/display";
import { head, line } from "@/ui/section";
import { tierName } from "@/ui/tier";
import { useMay, useUsers } from "./may";
import { Ask } from "./person-dialogs";
import { RotateTokenDialog } from "./token-dialog";

const tones: Record<Token["state"], BadgeTone> = { works: "ok", "expires soon": "warn", expired: "neutral", revoked: "bad" };

export const works = (t: Token): boolean => t.state === "works" || t.state === "expires soon";

/** Tokens, with what their owner, or who may make people, can do with each. */
export function TokenTable({ tokens, owners }: { tokens: Token[]; owners?: boolean }) {
  const { data: me } = useQuery(sessionQuery);
  const { data: all } = useUsers();
  const mayWrite = useMay("user.write");
  const [asking, setAsking] = useState<{ token: Token; act: "rotate" | "revoke" } | null>(null);
  const close = () => setAsking(null);
  const isService = (owner: string) => all?.users.some((u) => u.name === owner && u.service) ?? false;
  return (
    <>
      <table className="w-full text-sm" aria-label="Tokens">
        <thead>
          <tr className={head}>
            <th>Name</th>
            {owners && <th>Owner</th>}
            <th>State</th>
            <th>Scope</th>
            <th>From</th>
            <th>Ends</th>
            <th>Last used</th>
            <th>
              <span className="sr-only">Actions</span>
            </th>
          </tr>
        </thead>
        <tbody>
          {tokens.map((t) => (
            <tr key={t.id} className={line}>
              <td className="max-w-56">
                <Agent className="font-mono text-xs font-medium">{t.name}</Agent>
                <span className="block text-xs text-fg-3">
                  <Ago time={t.created_at} /> by <Agent>{t.created_by}</Agent>
                </span>
              </td>
              {owners && (
                <td>
                  <Owner name={t.owner} />
                </td>
              )}
              <td>
                <Badge tone={tones[t.state]}>{t.state}</Badge>
              </td>
              <td className="max-w-96">
                <Scope scope={t.scope} />
              </td>
              <td className="font-mono text-xs text-fg-2">{t.networks.length === 0 ? <span className="font-sans text-sm text-fg-3">anywhere</span> : t.networks.join(", ")}</td>
              <td className="whitespace-nowrap text-fg-2">
                <End token={t} />
              </td>
              <td className="text-fg-2">
                <Ago time={t.last_used} />
                {t.last_from && <Agent className="block font-mono text-2xs text-fg-3">{t.last_from}</Agent>}
              </td>
              <td>
                {works(t) && (
                  <span className="flex justify-end gap-2">
                    {(t.owner === me?.username || (mayWrite && isService(t.owner))) && (
                      <Button size="sm" aria-label={`Rotate ${visible(t.name)}`} onClick={() => setAsking({ token: t, act: "rotate" })}>
                        Rotate
                      </Button>
                    )}
                    {(t.owner === me?.username || mayWrite) && (
                      <Button size="sm" tone="danger" aria-label={`Revoke ${visible(t.name)}`} onClick={() => setAsking({ token: t, act: "revoke" })}>
                        Revoke
                      </Button>
                    )}
                  </span>
                )}
              </td>
            </tr>
          ))}
        </tbody>
      </table>
      {asking?.act === "rotate" && <RotateTokenDialog token={asking.token} onClose={close} />}
      {asking?.act === "revoke" && (
        <Ask
          title={`Revoke ${visible(asking.token.name)}?`}
          action="Revoke"
          done={`${visible(asking.token.name)} is revoked`}
          call={() => api.delete(tokensPath(asking.token.owner, me?.username, `/${encodeURIComponent(asking.token.id)}`))}
          onClose={close}
        >
          What calls with it is refused at once, and it cannot be brought back.
        </Ask>
      )}
    </>
  );
}

function Owner({ name }: { name: string }) {
  if (!useMay("user.read")) return <Agent>{name}</Agent>;
  return (
    <Link to="/people/$name" params={{ name }} className="hover:text-accent">
      <Agent>{name}</Agent>
    </Link>
  );
}

function End({ token: t }: { token: Token }) {
  const at = t.revoked_at ?? t.expires_at;
  return (
    <>
      {works(t) ? "ends " : t.revoked_at ? "revoked " : "ended "}
      <Ago time={at} />
    </>
  );
}

/** What a token is narrowed to; what is not said is as its owner has it. */
function Scope({ scope: s }: { scope: TokenScope }) {
  const limits: string[] = [];
  if (s.live_tier !== undefined) limits.push(`live up to ${tierName(s.live_tier)}`);
  if (s.schedule_tier !== undefined) limits.push(`changes up to ${tierName(s.schedule_tier)}`);
  if (s.row_tier !== undefined) limits.push(`rows up to ${tierName(s.row_tier)}`);
  if (s.max_nodes) limits.push(`${formatCount(s.max_nodes)} nodes at once`);
  return (
    <span className="text-xs">
      {s.permissions?.length ? (
        <span className="font-mono">{byNoun(s.permissions).map(([noun, verbs]) => visible(verbs.map((v) => (v ? `${noun}.${v}` : noun)).join(" "))).join(", ")}</span>
      ) : (
        <span className="text-fg-3">all that its owner may</span>
      )}
      {s.selector && (
        <span className="block text-fg-2">
          nodes <Agent className="font-mono">{s.selector}</Agent>
        </span>
      )}
      {limits.length > 0 && <span className="block text-fg-2">{limits.join(" · ")}</span>}
    </span>
  );
}
