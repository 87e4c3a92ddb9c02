import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useState, type FormEvent } from "react";

import { api } from "@/api/client";
import { refreshChanges, sessionQuery } from "@/api/queries";
import type { Change } from "@/api/types";
import { formatCount, plural } from "@/lib/format";
import { Agent } from "@/lib/text";
import { Button } from "@/ui/controls";
import { ErrorNote, Facts } from "@/ui/display";
import { Dialog, useNotify } from "@/ui/overlay";
import { tierName } from "@/ui/tier";
import { OwnProof, useProof } from "./own-proof";
import { ReasonDialog } from "./reason-dialog";

type Decision = "approve" | "reject" | "withdraw" | "apply";
interface Move {
  to: Decision;
  body?: { reason: string } | { hash: string; password: string };
}

/** What one can do with a change that is open. */
export function Decisions({ change: c }: { change: Change }) {
  const { data: session } = useQuery(sessionQuery);
  const [asking, setAsking] = useState<"approve" | "reject" | "withdraw" | null>(null);
  const decide = useDecision(c, () => setAsking(null));
  const me = session?.username ?? "";
  const own = c.author === me;
  const agreed = c.approvals.some((a) => a.by === me);
  const ask = (what: "approve" | "reject" | "withdraw") => {
    decide.reset();
    setAsking(what);
  };
  // Once the approval is kept there is nothing more to ask, though applying may have failed.
  const shown = asking === "approve" && agreed ? null : asking;
  const dialog = (what: "approve" | "reject" | "withdraw") => ({
    open: shown === what,
    onOpenChange: (open: boolean) => setAsking(open ? what : null),
    busy: decide.isPending,
    error: decide.error,
  });
  return (
    <div className="flex max-w-full flex-col items-end gap-1.5">
      <div className="flex flex-wrap items-center gap-2">
        {own ? (
          <Button tone="danger" onClick={() => ask("withdraw")}>
            Withdraw
          </Button>
        ) : (
          <Button tone="danger" onClick={() => ask("reject")}>
            Reject
          </Button>
        )}
        {c.state === "pending" && !own && !agreed && (
          <Button tone="primary" icon="check" onClick={() => ask("approve")}>
            Approve
          </Button>
        )}
        {c.state === "approved" && (
          <Button tone="primary" busy={decide.isPending} onClick={() => decide.mutate({ to: "apply" })}>
            Apply
          </Button>
        )}
      </div>
      {c.state === "pending" && (own || agreed) && (
        <p className="text-xs text-fg-3">{own ? "You proposed it; somebody else must approve it." : "You approved it; it needs more people."}</p>
      )}
      {shown === null && decide.error && (
        <div className="max-w-lg">
          <ErrorNote error={decide.error} title={agreed ? "Your approval is kept, but the change was not applied" : "The change was not applied"} />
        </div>
      )}
      <ApproveDialog change={c} {...dialog("approve")} onConfirm={(password) => decide.mutate({ to: "approve", body: { hash: c.hash, password } })} />
      <ReasonDialog
        {...dialog("reject")}
        title={`Reject change ${c.id}?`}
        description="It cannot be applied any more. Its author may propose another."
        action="Reject"
        onConfirm={(reason) => decide.mutate({ to: "reject", body: { reason } })}
      />
      <ReasonDialog
        {...dialog("withdraw")}
        title={`Withdraw change ${c.id}?`}
        description="You take it back: it cannot be applied any more."
        action="Withdraw"
        onConfirm={(reason) => decide.mutate({ to: "withdraw", body: { reason } })}
      />
    </div>
  );
}

const done: Record<Decision, string> = { approve: "is approved", reject: "is rejected", withdraw: "is withdrawn", apply: "is applied" };

function useDecision(c: Change, onDone: () => void) {
  const client = useQueryClient();
  const notify = useNotify();
  return useMutation({
    mutationFn: ({ to, body }: Move) => api.post<Change>(`/changes/${encodeURIComponent(c.id)}/${to}`, body),
    onSuccess: (now, { to }) => {
      onDone();
      notify.done(`Change ${c.id} ${now.state === "applied" ? done.apply : done[to]}`);
    },
    // An approval may be kept although what should follow it failed.
    onSettled: () => refreshChanges(client),
  });
}

interface ApproveDialogProps {
  change: Change;
  open: boolean;
  onOpenChange: (open: boolean) => void;
  busy: boolean;
  error: unknown;
  onConfirm: (password: string) => void;
}

function ApproveDialog({ change, open, onOpenChange, ...form }: ApproveDialogProps) {
  return (
    <Dialog
      open={open}
      onOpenChange={onOpenChange}
      title={`Approve change ${change.id}?`}
      description={
        change.needed - change.approvals.length <= 1
          ? "Yours is the last approval that it needs: the change is applied at once."
          : `It needs ${plural(change.needed - change.approvals.length, "approval")} more, yours included.`
      }
    >
      <ApproveForm change={change} {...form} onCancel={() => onOpenChange(false)} />
    </Dialog>
  );
}

type ApproveFormProps = Omit<ApproveDialogProps, "open" | "onOpenChange"> & { onCancel: () => void };

function ApproveForm({ change: c, busy, error, onConfirm, onCancel }: ApproveFormProps) {
  const [password, setPassword] = useState("");
  const ready = useProof(password);
  const submit = (e: FormEvent) => {
    e.preventDefault();
    if (ready) onConfirm(password);
  };
  return (
    <form onSubmit={submit} className="flex flex-col gap-4">
      {error ? <ErrorNote error={error} /> : null}
      <Facts
        items={[
          ["Message", <Agent key="m">{c.message}</Agent>],
          ["Author", <Agent key="a">{c.author}</Agent>],
          ["Does", `${plural(c.diff.length, "object")}, ${formatCount(c.effect.nodes)} nodes, ${tierName(c.tier)}`],
          ["Hash", <span key="h" className="font-mono text-xs break-all">{c.hash}</span>],
        ]}
      />
      <OwnProof own={password} onChange={setPassword} hint="Once more: a session alone approves nothing. You approve what has this hash." autoFocus />
      <div className="flex justify-end gap-2">
        <Button onClick={onCancel}>Cancel</Button>
        <Button type="submit" tone="primary" busy={busy} disabled={!ready}>
          Approve
        </Button>
      </div>
    </form>
  );
}
