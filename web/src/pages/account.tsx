import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { useState } from "react";

import { factorsQuery, sessionsQuery } from "@/api/account";
import { api } from "@/api/client";
import { sessionQuery } from "@/api/queries";
import type { FactorSecret, PasskeyQuestion } from "@/api/types";
import { plural } from "@/lib/format";
import { useTitle } from "@/lib/hooks";
import { makePasskey, passkeysWork } from "@/lib/passkey";
import { Agent } from "@/lib/text";
import { Button, buttonClass, CopyButton, Field, Input } from "@/ui/controls";
import { Ago, Card, Code, ErrorNote, Facts, Notice, PageHeader } from "@/ui/display";
import { Dialog, useNotify } from "@/ui/overlay";
import { head, line, Section } from "@/ui/section";
import { ProofForm } from "./proof";
import { SessionTable } from "./session-table";

/** One's own password, second factors and sessions. */
export function AccountPage() {
  useTitle("Account");
  const { data: session } = useQuery(sessionQuery);
  const [dialog, setDialog] = useState<"password" | "factor" | "passkey" | "recovery" | null>(null);
  const close = () => setDialog(null);
  return (
    <div className="mx-auto flex max-w-5xl flex-col gap-4 px-5 py-4">
      <PageHeader title="Account" />
      {session?.must_enrol && <Notice>This server asks for a second factor. Add a passkey or an authenticator; until then nothing else works.</Notice>}
      <Card title="You" actions={
          <>
            <Link to="/tokens" className={buttonClass("plain", "sm")}>
              Tokens
            </Link>
            <Button size="sm" onClick={() => setDialog("password")}>
              Change password
            </Button>
          </>
        }
      >
        <Facts
          items={[
            ["Name", session?.username ?? ""],
            ["Roles", session?.roles.length ? session.roles.join(", ") : "none"],
            ["May", session?.permissions.length ? <span key="p" className="font-mono text-xs">{session.permissions.join(" ")}</span> : "nothing"],
          ]}
        />
      </Card>
      <Factors onAdd={setDialog} onRecovery={() => setDialog("recovery")} />
      <Sessions />
      {dialog === "password" && <PasswordDialog onClose={close} />}
      {dialog === "factor" && <FactorDialog onClose={close} />}
      {dialog === "passkey" && <PasskeyDialog onClose={close} />}
      {dialog === "recovery" && <RecoveryDialog onClose={close} />}
    </div>
  );
}

function Factors({ onAdd, onRecovery }: { onAdd: (kind: "factor" | "passkey") => void; onRecovery: () => void }) {
  const query = useQuery(factorsQuery);
  const list = query.data;
  const [removing, setRemoving] = useState<string | null>(null);
  return (
    <>
      <Section
        title="Second factors"
        query={{ ...query, data: list?.factors }}
        what="The second factors"
        empty={
          <p className="px-4 py-3 text-sm text-fg-3">None: your password alone lets you in. A passkey, or an app on your phone that shows codes, makes a stolen password worthless.</p>
        }
        actions={
          <>
            {(list?.factors.length ?? 0) > 0 && (
              <Button size="sm" onClick={onRecovery}>
                New recovery codes
              </Button>
            )}
            {passkeysWork() && (
              <Button size="sm" icon="plus" onClick={() => onAdd("passkey")}>
                Add a passkey
              </Button>
            )}
            <Button size="sm" icon="plus" onClick={() => onAdd("factor")}>
              Add an authenticator
            </Button>
          </>
        }
      >
        {(factors) => (
          <>
            <table className="w-full text-sm" aria-label="Second factors">
              <thead>
                <tr className={head}>
                  <th>Name</th>
                  <th>Kind</th>
                  <th>Since</th>
                  <th>Last used</th>
                  <th>
                    <span className="sr-only">Actions</span>
                  </th>
                </tr>
              </thead>
              <tbody>
                {factors.map((f) => (
                  <tr key={f.id} className={line}>
                    <td>
                      <Agent>{f.name}</Agent>
                    </td>
                    <td className="text-fg-2">{f.kind === "passkey" ? "Passkey" : "Authenticator"}</td>
                    <td className="text-fg-2">
                      <Ago time={f.created_at} />
                    </td>
                    <td className="text-fg-2">
                      <Ago time={f.last_used} />
                    </td>
                    <td className="text-right">
                      <Button size="sm" tone="danger" onClick={() => setRemoving(f.id)}>
                        Remove
                      </Button>
                    </td>
                  </tr>
                ))}
              </tbody>
            </table>
            <p className="border-t border-line px-4 py-2 text-xs text-fg-3">{plural(list?.recovery_codes_left ?? 0, "recovery code")} left</p>
          </>
        )}
      </Section>
      {removing && <RemoveDialog id={removing} onClose={() => setRemoving(null)} />}
    </>
  );
}

function PasswordDialog({ onClose }: { onClose: () => void }) {
  const notify = useNotify();
  const client = useQueryClient();
  const [password, setPassword] = useState("");
  const change = useMutation({
    mutationFn: (own: string) => api.put("/session/password", { password, own_password: own }),
    onSuccess: async () => {
      notify.done("The password is changed; your other sessions ended");
      await client.invalidateQueries({ queryKey: ["account"] });
      onClose();
    },
  });
  return (
    <Dialog open onOpenChange={(open) => !open && onClose()} title="Change password" description="Your other sessions end.">
      <ProofForm action="Change" busy={change.isPending} error={change.error} onProve={(own) => change.mutate(own)} onClose={onClose}>
        <Field label="New password" hint="At least 15 characters: some words that nobody would put together">
          {(ids) => <Input {...ids} autoFocus type="password" autoComplete="new-password" value={password} onChange={(e) => setPassword(e.target.value)} required />}
        </Field>
      </ProofForm>
    </Dialog>
  );
}

function RemoveDialog({ id, onClose }: { id: string; onClose: () => void }) {
  const client = useQueryClient();
  const remove = useMutation({
    mutationFn: (own: string) => api.post(`/session/factors/${encodeURIComponent(id)}/remove`, { password: own }),
    onSuccess: async () => {
      await client.invalidateQueries({ queryKey: ["account"] });
      onClose();
    },
  });
  return (
    <Dialog open onOpenChange={(open) => !open && onClose()} title="Remove the second factor" description="It lets you in no more. Without any, your password alone does.">
      <ProofForm danger action="Remove" busy={remove.isPending} error={remove.error} onProve={(own) => remove.mutate(own)} onClose={onClose} />
    </Dialog>
  );
}

function FactorDialog({ onClose }: { onClose: () => void }) {
  const client = useQueryClient();
  const [name, setName] = useState("phone");
  const [code, setCode] = useState("");
  const add = useMutation({ mutationFn: (own: string) => api.post<FactorSecret>("/session/factors", { name: name.trim(), own_password: own }) });
  const confirm = useMutation({
    mutationFn: (id: string) => api.post<{ recovery_codes: string[] }>(`/session/factors/${encodeURIComponent(id)}/confirm`, { code: code.trim() }),
    onSuccess: async (out) => {
      await Promise.all([client.invalidateQueries({ queryKey: ["account"] }), client.invalidateQueries({ queryKey: sessionQuery.queryKey })]);
      if (out.recovery_codes.length === 0) onClose();
    },
  });
  const shown = add.data;
  const codes = confirm.data?.recovery_codes ?? [];
  return (
    <Dialog open locked={codes.length > 0} onOpenChange={(open) => !open && onClose()} title="Add an authenticator" description="An app that shows codes by the time (TOTP), which logins then need.">
      {codes.length > 0 ? (
        <Recovery codes={codes} onClose={onClose} />
      ) : shown ? (
        <form
          className="flex flex-col gap-4"
          onSubmit={(e) => {
            e.preventDefault();
            confirm.mutate(shown.id);
          }}
        >
          {confirm.error ? <ErrorNote error={confirm.error} /> : null}
          <div className="flex items-start gap-4">
            <img src={shown.qr} alt="The secret as a picture to scan" width={180} height={180} className="rounded-md bg-white p-1" />
            <div className="min-w-0 text-sm">
              <p>Scan it with the app, or type the secret:</p>
              <p className="mt-2 font-mono text-xs break-all" data-testid="secret">
                {shown.secret}
              </p>
              <CopyButton text={shown.secret} label="Copy the secret" />
            </div>
          </div>
          <Field label="Code" hint="What the app shows now">
            {(ids) => <Input {...ids} autoFocus autoComplete="one-time-code" inputMode="numeric" maxLength={6} value={code} onChange={(e) => setCode(e.target.value)} required />}
          </Field>
          <div className="flex justify-end gap-2">
            <Button onClick={onClose}>Cancel</Button>
            <Button type="submit" tone="primary" busy={confirm.isPending} disabled={code.trim().length !== 6}>
              Confirm
            </Button>
          </div>
        </form>
      ) : (
        <ProofForm action="Next" busy={add.isPending} error={add.error} onProve={(own) => add.mutate(own)} onClose={onClose}>
          <Field label="Name" hint="Which one it is, for you">
            {(ids) => <Input {...ids} autoFocus maxLength={64} value={name} onChange={(e) => setName(e.target.value)} required />}
          </Field>
        </ProofForm>
      )}
    </Dialog>
  );
}

function PasskeyDialog({ onClose }: { onClose: () => void }) {
  const client = useQueryClient();
  const [name, setName] = useState("security key");
  const add = useMutation({
    mutationFn: async (own: string) => {
      const question = await api.post<PasskeyQuestion>("/session/passkeys", { name: name.trim(), own_password: own });
      return api.post<{ recovery_codes: string[] }>("/session/passkeys/confirm", await makePasskey(question));
    },
    onSuccess: async (out) => {
      await Promise.all([client.invalidateQueries({ queryKey: ["account"] }), client.invalidateQueries({ queryKey: sessionQuery.queryKey })]);
      if (out.recovery_codes.length === 0) onClose();
    },
  });
  const codes = add.data?.recovery_codes ?? [];
  return (
    <Dialog open locked={codes.length > 0} onOpenChange={(open) => !open && onClose()} title="Add a passkey" description="A security key, or what your device or browser keeps. It works for this site alone, so it cannot be phished.">
      {codes.length > 0 ? (
        <Recovery codes={codes} onClose={onClose} />
      ) : (
        <ProofForm action="Next" busy={add.isPending} error={add.error} onProve={(own) => add.mutate(own)} onClose={onClose}>
          <Field label="Name" hint="Which one it is, for you">
            {(ids) => <Input {...ids} autoFocus maxLength={64} value={name} onChange={(e) => setName(e.target.value)} required />}
          </Field>
        </ProofForm>
      )}
    </Dialog>
  );
}

function Recovery({ codes, onClose }: { codes: string[]; onClose: () => void }) {
  return (
    <div className="flex flex-col gap-4">
      <p className="text-sm">Keep these where you keep what you cannot lose. Each stands in for a code once, and nobody can show them again.</p>
      <Code label="Recovery codes">{codes.join("\n")}</Code>
      <div className="flex justify-end gap-2">
        <CopyButton text={codes.join("\n")} size="md" />
        <Button tone="primary" onClick={onClose}>
          I have them
        </Button>
      </div>
    </div>
  );
}

function RecoveryDialog({ onClose }: { onClose: () => void }) {
  const client = useQueryClient();
  const make = useMutation({
    mutationFn: (own: string) => api.post<{ recovery_codes: string[] }>("/session/recovery-codes", { password: own }),
    onSettled: () => client.invalidateQueries({ queryKey: ["account"] }),
  });
  return (
    <Dialog open onOpenChange={(open) => !open && onClose()} title="New recovery codes" description="Those before work no more.">
      {make.data ? (
        <Recovery codes={make.data.recovery_codes} onClose={onClose} />
      ) : (
        <ProofForm action="Make them" busy={make.isPending} error={make.error} onProve={(own) => make.mutate(own)} onClose={onClose} />
      )}
    </Dialog>
  );
}

function Sessions() {
  const client = useQueryClient();
  const notify = useNotify();
  const query = useQuery(sessionsQuery);
  const end = useMutation({
    mutationFn: (id: string) => api.delete(id ? `/sessions/${encodeURIComponent(id)}` : "/sessions"),
    onError: notify.failed,
    onSettled: () => client.invalidateQueries({ queryKey: ["account"] }),
  });
  return (
    <Section
      title="Sessions"
      query={query}
      what="The sessions"
      empty={null}
      actions={
        (query.data?.length ?? 0) > 1 && (
          <Button size="sm" tone="danger" busy={end.isPending} onClick={() => end.mutate("")}>
            End all others
          </Button>
        )
      }
    >
      {(list) => <SessionTable sessions={list} onEnd={end.mutate} />}
    </Section>
  );
}
