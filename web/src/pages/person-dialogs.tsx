import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useState, type ReactNode } from "react";

import { api } from "@/api/client";
import { providersQuery, refreshPeople, userPath } from "@/api/people";
import type { User, UserIdentity, UserInput } from "@/api/types";
import { plural } from "@/lib/format";
import { Agent, visible } from "@/lib/text";
import { Field, Input, Select } from "@/ui/controls";
import { Notice } from "@/ui/display";
import { Confirm, useNotify } from "@/ui/overlay";
import { ProofDialog } from "./proof";
import { RoleChoice } from "./role-choice";

export type PersonAct = "roles" | "disable" | "enable" | "password" | "factors" | "link" | "sessions";

/** What is about to be done to a person, with what that means. */
export function PersonDialog({ act, user, onClose }: { act: PersonAct; user: User; onClose: () => void }) {
  const name = visible(user.name);
  switch (act) {
    case "roles":
      return <RolesDialog user={user} onClose={onClose} />;
    case "password":
      return <PasswordDialog user={user} onClose={onClose} />;
    case "link":
      return <LinkDialog user={user} onClose={onClose} />;
    case "enable":
      return (
        <ProofDialog
          title={`Enable ${name}`}
          description={user.service ? "Its tokens work again, until their ends." : "They can log in again, and their tokens work again. Sessions that ended stay so."}
          action="Enable"
          done={`${name} is enabled`}
          call={(own) => api.post(userPath(user.name, "/enable"), { password: own })}
          onClose={onClose}
        />
      );
    case "factors":
      return (
        <ProofDialog
          danger
          title={`Reset the second factor of ${name}`}
          description="For somebody who lost theirs: all their authenticators and recovery codes are removed, and their sessions end. Until they add another, their password alone lets them in. Be sure of who asks."
          action="Reset"
          done={`${name} has no second factor any more`}
          call={(own) => api.post(userPath(user.name, "/factors/remove"), { password: own })}
          onClose={onClose}
        />
      );
    case "disable":
      return (
        <Ask title={`Disable ${name}?`} action="Disable" done={`${name} is disabled`} call={() => api.post(userPath(user.name, "/disable"))} onClose={onClose}>
          {user.service ? "Its tokens stop working at once." : `At once ${user.sessions === 1 ? "1 session ends" : `${plural(user.sessions, "session")} end`}, no login works, and their tokens stop working.`}{" "}
          What they did stays, as do their roles. Enabling undoes it; then tokens that have not ended work again, so revoke those that must not.
        </Ask>
      );
    case "sessions":
      return (
        <Ask title={`End all sessions of ${name}?`} action="End all" done={`The sessions of ${name} ended`} call={() => api.delete(userPath(user.name, "/sessions"))} onClose={onClose}>
          They must log in again, in browsers and by <code className="font-mono text-xs">muster login</code>. Tokens go on working.
        </Ask>
      );
  }
}

/** Asks once, without a password: to stop somebody must be easy. */
export function Ask({ title, action, done, call, onClose, children }: {
  title: string;
  action: string;
  done: string;
  call: () => Promise<unknown>;
  onClose: () => void;
  children: ReactNode;
}) {
  const client = useQueryClient();
  const notify = useNotify();
  const run = useMutation({
    mutationFn: call,
    onSuccess: () => notify.done(done),
    onError: notify.failed,
    onSettled: async () => {
      await refreshPeople(client);
      onClose();
    },
  });
  return (
    <Confirm open onOpenChange={(open) => !open && onClose()} title={title} action={action} busy={run.isPending} onConfirm={() => run.mutate()}>
      {children}
    </Confirm>
  );
}

const newPassword = "At least 15 characters: some words that nobody would put together. Hand it over safely";

function RolesDialog({ user, onClose }: { user: User; onClose: () => void }) {
  const [roles, setRoles] = useState(user.roles);
  return (
    <ProofDialog
      title={`Roles of ${visible(user.name)}`}
      description="It holds at once, in sessions that are open and for tokens, too."
      action="Set the roles"
      done={`${visible(user.name)} has other roles now`}
      call={(own) => api.put(userPath(user.name, "/roles"), { roles, own_password: own })}
      onClose={onClose}
    >
      {user.origin && (
        <Notice>
          <Agent>{user.origin}</Agent> says their roles: at their next login they have again what it says.
        </Notice>
      )}
      <RoleChoice value={roles} onChange={setRoles} />
      {roles.length === 0 && <p className="text-xs text-warn">Without a role they can do nothing.</p>}
    </ProofDialog>
  );
}

function PasswordDialog({ user, onClose }: { user: User; onClose: () => void }) {
  const [password, setPassword] = useState("");
  return (
    <ProofDialog
      danger
      title={`Give ${visible(user.name)} another password`}
      description="The one that they have works no more, and their sessions end."
      action="Give it"
      ready={password !== ""}
      done={`${visible(user.name)} has another password`}
      call={(own) => api.put(userPath(user.name, "/password"), { password, own_password: own })}
      onClose={onClose}
    >
      <Field label="New password" hint={newPassword}>
        {(ids) => <Input {...ids} autoFocus type="password" autoComplete="new-password" value={password} onChange={(e) => setPassword(e.target.value)} required />}
      </Field>
    </ProofDialog>
  );
}

function LinkDialog({ user, onClose }: { user: User; onClose: () => void }) {
  const { data: providers = [] } = useQuery(providersQuery);
  const [chosen, setChosen] = useState("");
  const [subject, setSubject] = useState("");
  const provider = chosen || providers[0]?.name || "";
  return (
    <ProofDialog
      title={`Link ${visible(user.name)}`}
      description="Whoever the provider says has this subject logs in as them, and keeps the roles that they have here."
      action="Link"
      ready={provider !== "" && subject.trim() !== ""}
      done={`${visible(user.name)} is linked`}
      call={(own) => api.post(userPath(user.name, "/identities"), { provider, subject: subject.trim(), own_password: own })}
      onClose={onClose}
    >
      <div className="flex flex-col gap-1.5">
        <span className="text-xs font-medium text-fg-2">Provider</span>
        <Select label="Provider" value={provider} onChange={setChosen} options={providers.map((p) => ({ value: p.name, label: p.title }))} />
      </div>
      <Field label="Subject" hint="The claim sub, as 00u1…: the audit log has it beside the login that was refused">
        {(ids) => <Input {...ids} value={subject} maxLength={255} onChange={(e) => setSubject(e.target.value)} required />}
      </Field>
    </ProofDialog>
  );
}

export function UnlinkDialog({ user, identity, onClose }: { user: User; identity: UserIdentity & { provider: string }; onClose: () => void }) {
  return (
    <ProofDialog
      danger
      title={`Unlink ${visible(user.name)}`}
      description={`They no longer log in by ${visible(identity.provider)}.${user.origin ? " They have no password either: nothing lets them in then." : ""} Sessions go on.`}
      action="Unlink"
      done={`${visible(user.name)} is unlinked`}
      call={(own) => api.post(userPath(user.name, "/identities/remove"), { provider: identity.provider, subject: identity.subject, own_password: own })}
      onClose={onClose}
    />
  );
}

const kinds = [
  { value: "person", label: "A person", text: "A person" },
  { value: "service", label: "A service account, for a program", text: "A service account" },
];

/** Makes a person, or the account of a program. */
export function CreateDialog({ onClose }: { onClose: () => void }) {
  const [kind, setKind] = useState("person");
  const [name, setName] = useState("");
  const [password, setPassword] = useState("");
  const [roles, setRoles] = useState<string[]>([]);
  const service = kind === "service";
  const input = (own: string): UserInput => ({ name: name.trim(), roles, own_password: own, ...(service ? { service } : { password }) });
  return (
    <ProofDialog
      title="New person or service account"
      description={service ? "A program has tokens, no password, and consents to nothing." : "They log in by this password, and can change it on their account page."}
      action="Create"
      ready={name.trim() !== "" && roles.length > 0 && (service || password !== "")}
      done={`${visible(name.trim())} is made`}
      call={(own) => api.post("/users", input(own))}
      onClose={onClose}
    >
      <div className="flex flex-col gap-1.5">
        <span className="text-xs font-medium text-fg-2">Kind</span>
        <Select label="Kind" value={kind} onChange={setKind} options={kinds} />
      </div>
      <Field label="Name" hint="Lower-case letters, digits and . _ @ -, beginning with a letter or digit; it stays">
        {(ids) => <Input {...ids} autoFocus value={name} maxLength={64} onChange={(e) => setName(e.target.value)} required />}
      </Field>
      {!service && (
        <Field label="Password" hint={newPassword}>
          {(ids) => <Input {...ids} type="password" autoComplete="new-password" value={password} onChange={(e) => setPassword(e.target.value)} required />}
        </Field>
      )}
      <RoleChoice value={roles} onChange={setRoles} />
    </ProofDialog>
  );
}
