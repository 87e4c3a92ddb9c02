import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useState, type FormEvent } from "react";

import { api } from "@/api/client";
import { secretsQuery } from "@/api/queries";
import type { NewSecret, Secret, SecretInput } from "@/api/types";
import { download } from "@/lib/copy";
import { flagfile } from "@/lib/flagfile";
import { words } from "@/lib/words";
import { Button, CopyButton, Field, Input, Select } from "@/ui/controls";
import { Code, ErrorNote } from "@/ui/display";
import { Dialog } from "@/ui/overlay";
import { ShownOnce } from "@/ui/shown-once";

const day = 24 * 3600 * 1000;
const lifetimes = [
  { value: "", label: "Never" },
  { value: String(day), label: "In a day" },
  { value: String(7 * day), label: "In 7 days" },
  { value: String(30 * day), label: "In 30 days" },
  { value: String(365 * day), label: "In a year" },
];

const overlaps = [
  { value: "0", label: "Stops at once" },
  { value: "3600", label: "Works for an hour more" },
  { value: "86400", label: "Works for a day more" },
  { value: String(7 * 86400), label: "Works for 7 days more" },
  { value: String(30 * 86400), label: "Works for 30 days more" },
];

const namePattern = /^[a-z0-9][a-z0-9._-]*$/;

/** Creates an enroll secret, then shows its value, once. */
export function SecretDialog({ open, onOpenChange, agentURL }: { open: boolean; onOpenChange: (open: boolean) => void; agentURL: string | undefined }) {
  const [made, setMade] = useState<NewSecret | null>(null);
  const close = () => {
    onOpenChange(false);
    setMade(null);
  };
  return (
    <Dialog
      open={open}
      onOpenChange={(next) => (next ? onOpenChange(true) : close())}
      title={made ? `Enroll secret ${made.name}` : "New enroll secret"}
      description={made ? undefined : "A new node shows it to enrol."}
      wide={made !== null}
      locked={made !== null}
    >
      {made ? <SecretValue secret={made} agentURL={agentURL} onDone={close} /> : <SecretForm onMade={setMade} onCancel={close} />}
    </Dialog>
  );
}

export function SecretForm({ onMade, onCancel }: { onMade: (secret: NewSecret) => void; onCancel?: () => void }) {
  const client = useQueryClient();
  const [name, setName] = useState("");
  const [tags, setTags] = useState("");
  const [uses, setUses] = useState("");
  const [lifetime, setLifetime] = useState("");
  const [networks, setNetworks] = useState("");
  const [agentTags, setAgentTags] = useState("");
  const [value, setValue] = useState("");
  const create = useMutation({
    mutationFn: (input: SecretInput) => api.post<NewSecret>("/secrets", input),
    onSuccess: (secret) => {
      void client.invalidateQueries({ queryKey: secretsQuery.queryKey });
      onMade(secret);
    },
  });
  const bad = name !== "" && !namePattern.test(name) ? "Lower-case letters, digits, dots and dashes" : undefined;
  const submit = (e: FormEvent) => {
    e.preventDefault();
    if (!name || bad) return;
    const input: SecretInput = { name };
    if (words(tags).length) input.tags = words(tags);
    if (words(agentTags).length) input.agent_tags = words(agentTags);
    if (words(networks).length) input.cidrs = words(networks);
    if (value) input.value = value;
    if (Number(uses) > 0) input.max_uses = Number(uses);
    if (lifetime) input.expires_at = new Date(Date.now() + Number(lifetime)).toISOString();
    create.mutate(input);
  };
  return (
    <form onSubmit={submit} className="flex flex-col gap-4">
      {create.error && <ErrorNote error={create.error} />}
      <Field label="Name" hint="Lower-case letters, digits, dots and dashes, such as laptops-2026" error={bad}>
        {(ids) => <Input {...ids} autoFocus={onCancel !== undefined} value={name} maxLength={64} onChange={(e) => setName(e.target.value)} required />}
      </Field>
      <Field label="Tags for nodes that enrol with it" hint="Separated by spaces; may stay empty">
        {(ids) => <Input {...ids} value={tags} onChange={(e) => setTags(e.target.value)} />}
      </Field>
      <div className="grid grid-cols-2 gap-4">
        <Field label="Uses" hint="Empty is no limit">
          {(ids) => <Input {...ids} type="number" min={1} value={uses} onChange={(e) => setUses(e.target.value)} />}
        </Field>
        <div className="flex flex-col gap-1.5">
          <span className="text-xs font-medium text-fg-2">Expires</span>
          <Select label="Expires" value={lifetime} onChange={setLifetime} options={lifetimes} />
        </div>
      </div>
      <details className="group text-sm">
        <summary className="cursor-default text-xs font-medium text-fg-2 select-none hover:text-fg">More</summary>
        <div className="mt-3 flex flex-col gap-4">
          <Field label="Networks it works from" hint="Such as 10.0.0.0/8, separated by spaces; empty is anywhere">
            {(ids) => <Input {...ids} value={networks} onChange={(e) => setNetworks(e.target.value)} />}
          </Field>
          <Field label="Agents may choose these tags" hint="By showing value:tag:tag; one that ends with * allows all that begin so">
            {(ids) => <Input {...ids} value={agentTags} onChange={(e) => setAgentTags(e.target.value)} />}
          </Field>
          <Field
            label="Value of your own"
            hint="One that agents show already, as to another manager. Whoever guesses it can enrol: give a short one networks, uses or an end."
          >
            {(ids) => <Input {...ids} value={value} maxLength={255} onChange={(e) => setValue(e.target.value)} placeholder="A random one" />}
          </Field>
        </div>
      </details>
      <div className="mt-1 flex justify-end gap-2">
        {onCancel && <Button onClick={onCancel}>Cancel</Button>}
        <Button type="submit" tone="primary" busy={create.isPending} disabled={!name || bad !== undefined}>
          Create secret
        </Button>
      </div>
    </form>
  );
}

/** Gives a secret a new value, then shows that, once. */
export function RotateDialog({ secret, onClose, agentURL }: { secret: Secret; onClose: () => void; agentURL: string | undefined }) {
  const client = useQueryClient();
  const [overlap, setOverlap] = useState("86400");
  const rotate = useMutation({
    mutationFn: () => api.post<NewSecret>(`/secrets/${encodeURIComponent(secret.name)}/rotate`, { overlap_seconds: Number(overlap) }),
    onSuccess: () => void client.invalidateQueries({ queryKey: secretsQuery.queryKey }),
  });
  const made = rotate.data;
  return (
    <Dialog
      open
      onOpenChange={(open) => !open && onClose()}
      title={made ? `Enroll secret ${secret.name}` : `Rotate ${secret.name}?`}
      description={made ? undefined : "It gets a new random value. Nodes that have enrolled with it stay."}
      wide={made !== undefined}
      locked={made !== undefined}
    >
      {made ? (
        <SecretValue secret={made} agentURL={agentURL} onDone={onClose} />
      ) : (
        <div className="flex flex-col gap-4">
          {rotate.error && <ErrorNote error={rotate.error} />}
          <div className="flex flex-col gap-1.5">
            <span className="text-xs font-medium text-fg-2">The value that it has now</span>
            <Select label="The value that it has now" value={overlap} onChange={setOverlap} options={overlaps} />
          </div>
          <div className="flex justify-end gap-2">
            <Button onClick={onClose}>Cancel</Button>
            <Button tone="primary" busy={rotate.isPending} onClick={() => rotate.mutate()}>
              Rotate
            </Button>
          </div>
        </div>
      )}
    </Dialog>
  );
}

export function SecretValue({ secret, agentURL, onDone }: { secret: NewSecret; agentURL: string | undefined; onDone?: () => void }) {
  return (
    <div className="flex flex-col gap-4">
      <ShownOnce label="Value of the enroll secret">{secret.value}</ShownOnce>
      {agentURL && <EnrolSteps agentURL={agentURL} secret={secret.value} />}
      {onDone && (
        <div className="flex justify-end">
          <Button tone="primary" onClick={onDone}>
            I have kept it
          </Button>
        </div>
      )}
    </div>
  );
}

/** How to enrol a node, with a flagfile that is ready to be used. */
export function EnrolSteps({ agentURL, secret }: { agentURL: string; secret?: string }) {
  const flags = flagfile(agentURL);
  return (
    <ol className="flex list-decimal flex-col gap-3 pl-5 text-sm marker:text-fg-3">
      <li>
        Put{" "}
        <a className="text-accent underline underline-offset-2" href="/api/v1/ca.pem" download>
          the server's certificate
        </a>{" "}
        on the host as <code className="font-mono text-xs">/etc/osquery/muster-ca.pem</code>.
      </li>
      <li>
        {secret ? "Put the value above" : "Put an enroll secret"} into <code className="font-mono text-xs">/etc/osquery/muster-secret</code>.
      </li>
      <li>
        <div className="flex flex-wrap items-center justify-between gap-2">
          Start osqueryd with this flagfile:
          <span className="flex gap-1.5">
            <Button size="sm" icon="download" onClick={() => download("osquery.flags", "text/plain", flags)}>
              Download
            </Button>
            <CopyButton text={flags} label="Copy" />
          </span>
        </div>
        <Code label="Flagfile" className="mt-2 max-h-56">
          {flags}
        </Code>
      </li>
    </ol>
  );
}
