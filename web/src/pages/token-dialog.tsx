import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useState, type ReactNode } from "react";

import { api } from "@/api/client";
import { refreshPeople, rolesQuery, tokensPath } from "@/api/people";
import { sessionQuery } from "@/api/queries";
import type { NewToken, Role, Tier, Token, TokenInput, TokenScope } from "@/api/types";
import { formatTime } from "@/lib/format";
import { byNoun, forTokens } from "@/lib/permissions";
import { Agent, visible } from "@/lib/text";
import { words } from "@/lib/words";
import { Button, Checkbox, Field, Input, Select } from "@/ui/controls";
import { Code } from "@/ui/display";
import { Dialog } from "@/ui/overlay";
import { ShownOnce } from "@/ui/shown-once";
import { tierName } from "@/ui/tier";
import { useUsers } from "./may";
import { ProofForm } from "./proof";

/** The call that makes a token, whose text is then shown once. */
function useNewToken(call: (own: string) => Promise<NewToken>) {
  const client = useQueryClient();
  return useMutation({ mutationFn: call, onSuccess: () => void refreshPeople(client) });
}

function NewTokenText({ token, onClose }: { token: NewToken; onClose: () => void }) {
  return (
    <div className="flex flex-col gap-4">
      <ShownOnce label="Text of the token">{token.token}</ShownOnce>
      <p className="text-sm text-fg-2">
        It ends at {formatTime(token.expires_at)}. Give it to a program as <code className="font-mono text-xs">MUSTER_TOKEN</code>, or:
      </p>
      <Code label="Example">{`curl -H "Authorization: Bearer $MUSTER_TOKEN" ${location.origin}/api/v1/session`}</Code>
      <div className="flex justify-end">
        <Button tone="primary" onClick={onClose}>
          I have kept it
        </Button>
      </div>
    </div>
  );
}

const tierOptions = [{ value: "", label: "As its owner" }, ...([0, 1, 2, 3] as const).map((t) => ({ value: String(t), label: `Up to ${tierName(t)}` }))];

const mostDays = 366;

/** Makes a token of one's own or of a service account. */
export function TokenDialog({ owner, onClose }: { owner: string; onClose: () => void }) {
  const { data: me } = useQuery(sessionQuery);
  const may = usePermissionsOf(owner);
  const [name, setName] = useState("");
  const [permissions, setPermissions] = useState<string[] | null>(null); // null is all
  const [limits, setLimits] = useState({ live: "", schedule: "", row: "" });
  const [selector, setSelector] = useState("");
  const [nodes, setNodes] = useState("");
  const [networks, setNetworks] = useState("");
  const [days, setDays] = useState("90");
  const life = Number(days);
  const badLife = !Number.isInteger(life) || life < 1 || life > mostDays ? `A whole number of days, up to ${mostDays}` : undefined;

  const make = useNewToken((own) => {
    const scope: TokenScope = {};
    if (permissions) scope.permissions = permissions;
    if (selector.trim()) scope.selector = selector.trim();
    if (limits.live) scope.live_tier = Number(limits.live) as Tier;
    if (limits.schedule) scope.schedule_tier = Number(limits.schedule) as Tier;
    if (limits.row) scope.row_tier = Number(limits.row) as Tier;
    if (Number(nodes) > 0) scope.max_nodes = Number(nodes);
    const input: TokenInput = { name: name.trim(), scope, networks: words(networks), hours: life * 24, own_password: own };
    return api.post<NewToken>(tokensPath(owner, me?.username), input);
  });
  const asRole = (r: Role) => {
    setPermissions(may.filter((p) => r.permissions.includes(p)));
    setLimits({ live: String(r.live_tier), schedule: String(r.schedule_tier), row: String(r.row_tier) });
    setSelector(r.selector);
    setNodes(r.max_nodes ? String(r.max_nodes) : "");
  };
  return (
    <Dialog
      open
      wide
      locked={make.data !== undefined}
      onOpenChange={(open) => !open && onClose()}
      title={make.data ? `Token ${visible(make.data.name)}` : `New token of ${visible(owner)}`}
      description={make.data ? undefined : "It can do what its owner's roles give at each moment, within its scope; never consent to what others want, nor make people."}
    >
      {make.data ? (
        <NewTokenText token={make.data} onClose={onClose} />
      ) : (
        <ProofForm
          action="Make the token"
          busy={make.isPending}
          error={make.error}
          ready={name.trim() !== "" && !badLife && permissions?.length !== 0}
          onProve={(own) => make.mutate(own)}
          onClose={onClose}
        >
          <div className="grid grid-cols-2 gap-4">
            <Field label="Name" hint="What it is for, as laptop or deploy">
              {(ids) => <Input {...ids} autoFocus value={name} maxLength={64} onChange={(e) => setName(e.target.value)} required />}
            </Field>
            <Field label="Ends after, in days" hint="The shorter, the less a lost one can do" error={badLife}>
              {(ids) => <Input {...ids} type="number" min={1} max={mostDays} value={days} onChange={(e) => setDays(e.target.value)} required />}
            </Field>
          </div>
          <PermissionChoice may={may} value={permissions} onChange={setPermissions} onRole={asRole} />
          <div className="grid grid-cols-3 gap-4">
            <TierChoice label="Live queries" value={limits.live} onChange={(live) => setLimits({ ...limits, live })} />
            <TierChoice label="Changes" value={limits.schedule} onChange={(schedule) => setLimits({ ...limits, schedule })} />
            <TierChoice label="Rows" value={limits.row} onChange={(row) => setLimits({ ...limits, row })} />
          </div>
          <div className="grid grid-cols-2 gap-4">
            <Field label="Nodes" hint="A selector, as tag = edge; empty for those of its owner">
              {(ids) => <Input {...ids} className="font-mono" value={selector} maxLength={4096} onChange={(e) => setSelector(e.target.value)} />}
            </Field>
            <Field label="Most nodes at once" hint="That a live query may ask; empty as its owner">
              {(ids) => <Input {...ids} type="number" min={1} value={nodes} onChange={(e) => setNodes(e.target.value)} />}
            </Field>
          </div>
          <Field label="Networks it works from" hint="Such as 10.0.0.0/8 or 192.0.2.7, separated by spaces; empty is anywhere">
            {(ids) => <Input {...ids} value={networks} onChange={(e) => setNetworks(e.target.value)} />}
          </Field>
        </ProofForm>
      )}
    </Dialog>
  );
}

/** What somebody's roles give that a token can have, too. */
function usePermissionsOf(owner: string): string[] {
  const { data: me } = useQuery(sessionQuery);
  const { data: roles } = useQuery(rolesQuery);
  const { data: all } = useUsers();
  if (owner === me?.username) return forTokens(me.permissions);
  const has = all?.users.find((u) => u.name === owner)?.roles ?? [];
  return forTokens((roles ?? []).filter((r) => has.includes(r.name)).flatMap((r) => r.permissions));
}

function TierChoice({ label, value, onChange }: { label: string; value: string; onChange: (value: string) => void }) {
  return (
    <div className="flex flex-col gap-1.5">
      <span className="text-xs font-medium text-fg-2">{label}</span>
      <Select label={label} value={value} onChange={onChange} options={tierOptions} />
    </div>
  );
}

function PermissionChoice({ may, value, onChange, onRole }: {
  may: string[];
  value: string[] | null;
  onChange: (permissions: string[] | null) => void;
  onRole: (role: Role) => void;
}) {
  const { data: roles = [] } = useQuery(rolesQuery);
  const toggle = (p: string, on: boolean) => onChange(on ? [...(value ?? []), p] : (value ?? []).filter((x) => x !== p));
  return (
    <fieldset className="flex flex-col gap-2">
      <legend className="mb-1.5 text-xs font-medium text-fg-2">Permissions</legend>
      <div className="flex flex-wrap items-center gap-4">
        <label className="flex items-center gap-2 text-sm">
          <Checkbox label="All that its owner may" checked={value === null} onChange={(on) => onChange(on ? null : [])} /> All that its owner may
        </label>
        <Select
          label="Take those of a role"
          size="sm"
          value=""
          onChange={(name) => {
            const role = roles.find((r) => r.name === name);
            if (role) onRole(role);
          }}
          options={[{ value: "", label: "Take those of a role …" }, ...roles.map((r) => ({ value: r.name, label: visible(r.name) }))]}
        />
      </div>
      {value && (
        <div className="grid grid-cols-[auto_minmax(0,1fr)] gap-x-4 sm:grid-cols-[auto_minmax(0,1fr)_auto_minmax(0,1fr)] gap-y-1.5 rounded-md border border-line p-3 text-sm">
          {byNoun(may).map(([noun, verbs]) => (
            <Row key={noun} noun={noun}>
              {verbs.map((verb) => {
                const p = `${noun}.${verb}`;
                return (
                  <label key={verb} className="flex items-center gap-1.5">
                    <Checkbox label={p} checked={value.includes(p)} onChange={(on) => toggle(p, on)} /> {verb}
                  </label>
                );
              })}
            </Row>
          ))}
          {may.length === 0 && <p className="col-span-full text-fg-3">Its owner's roles give nothing that a token can have.</p>}
        </div>
      )}
    </fieldset>
  );
}

function Row({ noun, children }: { noun: string; children: ReactNode }) {
  return (
    <>
      <span className="font-mono text-xs leading-5 text-fg-3">{noun}</span>
      <span className="flex flex-wrap gap-x-4 gap-y-1">{children}</span>
    </>
  );
}

const overlaps = [
  { value: "0", label: "Stops at once" },
  { value: "1", label: "Works for an hour more" },
  { value: "24", label: "Works for a day more" },
  { value: "72", label: "Works for 3 days more" },
  { value: "168", label: "Works for 7 days more" },
];

/** Replaces a token by one with another text, beside which the old one may work for a while. */
export function RotateTokenDialog({ token, onClose }: { token: Token; onClose: () => void }) {
  const { data: me } = useQuery(sessionQuery);
  const [overlap, setOverlap] = useState("24");
  const rotate = useNewToken((own) =>
    api.post<NewToken>(tokensPath(token.owner, me?.username, `/${encodeURIComponent(token.id)}/rotate`), { overlap_hours: Number(overlap), own_password: own }),
  );
  const made = rotate.data;
  return (
    <Dialog
      open
      wide={made !== undefined}
      locked={made !== undefined}
      onOpenChange={(open) => !open && onClose()}
      title={made ? `Token ${visible(made.name)}` : `Rotate ${visible(token.name)}`}
      description={made ? undefined : "A new one with the same scope and as long a life takes its place."}
    >
      {made ? (
        <NewTokenText token={made} onClose={onClose} />
      ) : (
        <ProofForm action="Rotate" busy={rotate.isPending} error={rotate.error} onProve={(own) => rotate.mutate(own)} onClose={onClose}>
          <p className="text-sm">
            Owner: <Agent className="font-medium">{token.owner}</Agent>
          </p>
          <div className="flex flex-col gap-1.5">
            <span className="text-xs font-medium text-fg-2">The token that there is</span>
            <Select label="The token that there is" value={overlap} onChange={setOverlap} options={overlaps} />
          </div>
        </ProofForm>
      )}
    </Dialog>
  );
}
