import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useState, type FormEvent } from "react";

import { api } from "@/api/client";
import { livePath, refreshLive } from "@/api/live";
import { sessionQuery } from "@/api/queries";
import type { Live } from "@/api/types";
import { plural } from "@/lib/format";
import { Agent, Lines } from "@/lib/text";
import { Button } from "@/ui/controls";
import { ErrorNote, Facts, Notice } from "@/ui/display";
import { Dialog, useNotify } from "@/ui/overlay";
import { tierName } from "@/ui/tier";
import { useMay } from "./may";
import { OwnProof, useProof } from "./own-proof";
import { ReasonDialog } from "./reason-dialog";

type Move = { to: "approve"; password: string } | { to: "reject"; reason: string } | { to: "stop" };

/** Says that a query waits for a second person, who decides here. */
export function PendingBanner({ live }: { live: Live }) {
  const { data: session } = useQuery(sessionQuery);
  const [asking, setAsking] = useState<"approve" | "reject" | null>(null);
  const decide = useDecision(live, () => setAsking(null));
  const own = session?.username === live.created_by;
  const mayApprove = useMay("live.approve");
  const ask = (what: "approve" | "reject") => {
    decide.reset();
    setAsking(what);
  };
  return (
    <>
      <Notice
        action={
          <span className="flex shrink-0 gap-2">
            {own ? (
              <Button size="sm" busy={decide.isPending} onClick={() => decide.mutate({ to: "stop" })}>
                Take back
              </Button>
            ) : mayApprove && (
              <>
                <Button size="sm" tone="danger" onClick={() => ask("reject")}>
                  Reject
                </Button>
                <Button size="sm" tone="primary" icon="check" onClick={() => ask("approve")}>
                  Approve
                </Button>
              </>
            )}
          </span>
        }
      >
        <p className="font-medium">It waits for a second person, and no node has been given it.</p>
        {own && decide.error && <ErrorNote error={decide.error} />}
        {own ? (
          "You asked for it, so somebody else must approve it. Send them the link of this page."
        ) : (
          <>
            <Agent className="font-medium">{live.created_by}</Agent> asks: <Agent>{live.reason || "no reason given"}</Agent>
          </>
        )}
      </Notice>
      <Dialog
        open={asking === "approve"}
        onOpenChange={(open) => setAsking(open ? "approve" : null)}
        title="Approve this live query?"
        description="It is delivered at once."
      >
        <ApproveForm live={live} busy={decide.isPending} error={decide.error} onConfirm={(password) => decide.mutate({ to: "approve", password })} onCancel={() => setAsking(null)} />
      </Dialog>
      <ReasonDialog
        open={asking === "reject"}
        onOpenChange={(open) => setAsking(open ? "reject" : null)}
        title="Reject this live query?"
        description="It is never delivered. Its text stays in the history."
        action="Reject"
        maxLength={1000}
        busy={decide.isPending}
        error={decide.error}
        onConfirm={(reason) => decide.mutate({ to: "reject", reason })}
      />
    </>
  );
}

const done: Record<Move["to"], string> = {
  approve: "The query is approved and on its way",
  reject: "The query is rejected",
  stop: "The query is taken back",
};

function useDecision(live: Live, onDone: () => void) {
  const client = useQueryClient();
  const notify = useNotify();
  return useMutation({
    mutationFn: ({ to, ...body }: Move) => api.post<Live>(livePath(live.id, `/${to}`), to === "stop" ? undefined : body),
    onSuccess: (now, { to }) => {
      refreshLive(client, now);
      notify.done(done[to]);
      onDone();
    },
  });
}

interface ApproveFormProps {
  live: Live;
  busy: boolean;
  error: unknown;
  onConfirm: (password: string) => void;
  onCancel: () => void;
}

function ApproveForm({ live, busy, error, onConfirm, onCancel }: ApproveFormProps) {
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
          ["Asked by", <Agent key="a">{live.created_by}</Agent>],
          ["Reason", <Agent key="r">{live.reason || "none"}</Agent>],
          ["Reaches", `${plural(live.nodes, "node")}${live.tier === undefined ? "" : `, ${tierName(live.tier)}`}`],
        ]}
      />
      <div tabIndex={0} aria-label="Query" className="max-h-48 overflow-auto rounded-md border border-line bg-sunken p-3 font-mono text-xs leading-5">
        <Lines>{live.sql}</Lines>
      </div>
      <OwnProof own={password} onChange={setPassword} hint="Once more: a session alone approves nothing." autoFocus />
      <div className="flex justify-end gap-2">
        <Button onClick={onCancel}>Cancel</Button>
        <Button type="submit" tone="primary" busy={busy} disabled={!ready}>
          Approve
        </Button>
      </div>
    </form>
  );
}
