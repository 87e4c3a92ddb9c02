import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useState, type FormEvent, type ReactNode } from "react";

import { providersQuery, refreshPeople } from "@/api/people";
import { Button, Field, Input } from "@/ui/controls";
import { ErrorNote } from "@/ui/display";
import { Dialog, useNotify } from "@/ui/overlay";

/** A form that asks for one's own password before something is done. */
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
  const { data: providers = [] } = useQuery(providersQuery);
  const [own, setOwn] = useState("");
  // Who logs in by a provider has no password, and proves there who they are.
  const enough = ready && (own !== "" || providers.length > 0);
  const submit = (e: FormEvent) => {
    e.preventDefault();
    if (enough) onProve(own);
  };
  return (
    <form onSubmit={submit} className="flex flex-col gap-4">
      {children}
      <Field label="Your password" hint={providers.length > 0 ? "As it is now; empty if you just proved who you are as below" : "As it is now"}>
        {(ids) => <Input {...ids} type="password" autoComplete="current-password" value={own} onChange={(e) => setOwn(e.target.value)} required={providers.length === 0} />}
      </Field>
      {providers.map((p) => (
        <a
          key={p.name}
          href={`/api/v1/sign-on/${encodeURIComponent(p.name)}?prove=1&next=${encodeURIComponent(location.pathname)}`}
          className="-mt-2 text-xs text-accent underline underline-offset-2"
        >
          Without a password: prove who you are with {p.title}, then come back here within five minutes
        </a>
      ))}
      {/* Beside the button, as a long form is scrolled down to it. */}
      {error ? <ErrorNote error={error} /> : null}
      <div className="flex justify-end gap-2">
        <Button onClick={onClose}>Cancel</Button>
        <Button type="submit" tone={danger ? "danger" : "primary"} busy={busy} disabled={!enough}>
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
