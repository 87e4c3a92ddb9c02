import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";

import { api } from "@/api/client";
import { overviewQuery, secretsQuery } from "@/api/queries";
import type { Secret } from "@/api/types";
import { formatCount } from "@/lib/format";
import { useNow, useTitle } from "@/lib/hooks";
import { Button } from "@/ui/controls";
import { Ago, Badge, Card, Empty, ErrorNote, Loading, PageHeader, TagBadge } from "@/ui/display";
import { Confirm, useNotify } from "@/ui/overlay";
import { RotateDialog, SecretDialog } from "./secret-dialog";

export function SecretsPage() {
  useTitle("Enroll secrets");
  const { data, error, refetch } = useQuery(secretsQuery);
  const { data: overview } = useQuery(overviewQuery);
  const [creating, setCreating] = useState(false);
  const [rotating, setRotating] = useState<Secret | null>(null);
  const [revoking, setRevoking] = useState<Secret | null>(null);
  const newButton = (
    <Button tone="primary" icon="plus" onClick={() => setCreating(true)}>
      New secret
    </Button>
  );
  return (
    <div className="mx-auto flex max-w-[100rem] flex-col gap-4 px-5 py-4">
      <PageHeader title="Enroll secrets" note={data ? formatCount(data.secrets.length) : undefined}>
        {newButton}
      </PageHeader>
      <p className="-mt-2 max-w-3xl text-sm text-fg-3">
        A new node shows one to enrol. Revoking one stops further enrolments with it; nodes that have enrolled stay.
      </p>
      {error && <ErrorNote error={error} title="The enroll secrets could not be loaded" onRetry={() => void refetch()} />}
      <Card flush>
        {!data && !error && <Loading />}
        {data?.secrets.length === 0 && (
          <Empty icon="secrets" title="No enroll secrets yet" action={newButton}>
            Make one to let the first node enrol.
          </Empty>
        )}
        {data && data.secrets.length > 0 && <SecretTable secrets={data.secrets} onRotate={setRotating} onRevoke={setRevoking} />}
      </Card>
      <SecretDialog open={creating} onOpenChange={setCreating} agentURL={overview?.agent_url} />
      {rotating && <RotateDialog secret={rotating} onClose={() => setRotating(null)} agentURL={overview?.agent_url} />}
      <RevokeDialog secret={revoking} onClose={() => setRevoking(null)} />
    </div>
  );
}

function SecretTable({ secrets, onRotate, onRevoke }: {
  secrets: Secret[];
  onRotate: (secret: Secret) => void;
  onRevoke: (secret: Secret) => void;
}) {
  return (
    <div className="overflow-x-auto">
      <table className="w-full text-sm" aria-label="Enroll secrets">
        <thead>
          <tr className="h-8 border-b border-line text-left text-xs text-fg-3 [&>th]:px-4 [&>th]:font-medium [&>th]:whitespace-nowrap">
            <th>Name</th>
            <th>State</th>
            <th>Tags</th>
            <th>From</th>
            <th className="text-right">Uses</th>
            <th>Last used</th>
            <th>Created</th>
            <th>Expires</th>
            <th>
              <span className="sr-only">Actions</span>
            </th>
          </tr>
        </thead>
        <tbody>
          {secrets.map((s) => (
            <tr key={s.name} className="h-10 border-b border-line/70 last:border-0 hover:bg-hover [&>td]:px-4 [&>td]:py-1">
              <td className="font-mono text-xs font-medium">{s.name}</td>
              <td>
                <SecretState secret={s} />
                <Overlap secret={s} />
              </td>
              <td>
                <span className="flex flex-wrap items-center gap-1">
                  {s.tags.length + s.agent_tags.length === 0 && <span className="text-fg-3">–</span>}
                  {s.tags.map((t) => (
                    <TagBadge key={t} tag={t} />
                  ))}
                  {s.agent_tags.length > 0 && <span className="text-xs whitespace-nowrap text-fg-3">agents choose</span>}
                  {s.agent_tags.map((t) => (
                    <TagBadge key={`agent ${t}`} tag={t} />
                  ))}
                </span>
              </td>
              <td className="font-mono text-xs text-fg-2">{s.cidrs.length === 0 ? <span className="font-sans text-sm text-fg-3">anywhere</span> : s.cidrs.join(", ")}</td>
              <td className="tnum text-right">
                {formatCount(s.uses)}
                {s.max_uses > 0 && <span className="text-fg-3"> of {formatCount(s.max_uses)}</span>}
              </td>
              <td className="text-fg-2">
                <Ago time={s.last_used} />
              </td>
              <td className="whitespace-nowrap text-fg-2">
                <Ago time={s.created_at} /> <span className="text-fg-3">by {s.created_by}</span>
              </td>
              <td className="text-fg-2">{s.expires_at ? <Ago time={s.expires_at} /> : "never"}</td>
              <td>
                {!s.revoked_at && (
                  <span className="flex justify-end gap-2">
                    <Button size="sm" onClick={() => onRotate(s)} aria-label={`Rotate ${s.name}`}>
                      Rotate
                    </Button>
                    <Button tone="danger" size="sm" onClick={() => onRevoke(s)} aria-label={`Revoke ${s.name}`}>
                      Revoke
                    </Button>
                  </span>
                )}
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function SecretState({ secret }: { secret: Secret }) {
  const now = useNow();
  if (secret.revoked_at) return <Badge tone="bad">revoked</Badge>;
  if (secret.expires_at && Date.parse(secret.expires_at) <= now) return <Badge tone="warn">expired</Badge>;
  if (secret.max_uses > 0 && secret.uses >= secret.max_uses) return <Badge tone="warn">used up</Badge>;
  return <Badge tone="ok">active</Badge>;
}

/** Says that the value before the last rotation still works. */
function Overlap({ secret }: { secret: Secret }) {
  const now = useNow();
  if (secret.revoked_at || !secret.old_until || Date.parse(secret.old_until) <= now) return null;
  return (
    <span className="block text-xs whitespace-nowrap text-fg-3">
      old value ends <Ago time={secret.old_until} />
    </span>
  );
}

function RevokeDialog({ secret, onClose }: { secret: Secret | null; onClose: () => void }) {
  const client = useQueryClient();
  const notify = useNotify();
  const revoke = useMutation({
    mutationFn: (name: string) => api.delete(`/secrets/${encodeURIComponent(name)}`),
    onSuccess: (_result, name) => {
      void client.invalidateQueries({ queryKey: secretsQuery.queryKey });
      notify.done(`${name} is revoked`);
      onClose();
    },
    onError: notify.failed,
  });
  return (
    <Confirm
      open={secret !== null}
      onOpenChange={(open) => !open && onClose()}
      title={`Revoke ${secret?.name ?? ""}?`}
      action="Revoke"
      busy={revoke.isPending}
      onConfirm={() => secret && revoke.mutate(secret.name)}
    >
      No further node can enrol with it, and it cannot be brought back. Nodes that have enrolled with it stay.
    </Confirm>
  );
}
