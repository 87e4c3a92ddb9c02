import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useState, type FormEvent, type ReactNode } from "react";

import { refreshPeople } from "@/api/people";
import { Button } from "@/ui/controls";
import { ErrorNote } from "@/ui/display";
import { Dialog, useNotify } from "@/ui/overlay";
import { OwnProof, useProof } from "./own-proof";

/** A form that asks who one is, once more, before something is done. */
export function ProofForm({ children, action, danger, busy, ready = true, error, onProve, onClose }: {
  children?: ReactNode;
  action: string;
  danger?: boolean | undefined;
  busy: boolean;
  /** Whether all else is filled in. */
  ready?: boolean;
  error: unknown;
  onProve: (own: string) => void;
  onClose: () => void;
}) {
  const [own, setOwn] = useState("");
  const proven = useProof(own);
  const submit = (e: FormEvent) => {
    e.preventDefault();
    if (ready && proven) onProve(own);
  };
  return (
    <form onSubmit={submit} className="flex flex-col gap-4">
      {children}
      <OwnProof own={own} onChange={setOwn} hint="As it is now" />
      {/* Beside the button, as a long form is scrolled down to it. */}
      {error ? <ErrorNote error={error} /> : null}
      <div className="flex justify-end gap-2">
        <Button onClick={onClose}>Cancel</Button>
        <Button type="submit" tone={danger ? "danger" : "primary"} busy={busy} disabled={!ready || !proven}>
          {action}
        </Button>
      </div>
    </form>
  );
}

/** Asks for one's own password, does something to people or their tokens, and closes. */
export function ProofDialog({ title, description, action, danger, ready, done, call, onClose, children }: {
  title: string;
  description: ReactNode;
  action: string;
  danger?: boolean;
  ready?: boolean;
  /** What is said when it is done. */
  done: string;
  call: (own: string) => Promise<unknown>;
  onClose: () => void;
  children?: ReactNode;
}) {
  const client = useQueryClient();
  const notify = useNotify();
  const run = useMutation({
    mutationFn: call,
    onSuccess: async () => {
      notify.done(done);
      await refreshPeople(client);
      onClose();
    },
  });
  return (
    <Dialog open onOpenChange={(open) => !open && onClose()} title={title} description={description}>
      <ProofForm action={action} danger={danger} ready={ready ?? true} busy={run.isPending} error={run.error} onProve={(own) => run.mutate(own)} onClose={onClose}>
        {children}
      </ProofForm>
    </Dialog>
  );
}
