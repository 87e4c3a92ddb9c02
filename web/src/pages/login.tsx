import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { getRouteApi, useRouter } from "@tanstack/react-router";
import { useState, type FormEvent } from "react";

import { api, ApiError } from "@/api/client";
import { providersQuery } from "@/api/people";
import { sessionQuery } from "@/api/queries";
import type { PasskeyQuestion, Session } from "@/api/types";
import { useTitle } from "@/lib/hooks";
import { getPasskey, passkeysWork } from "@/lib/passkey";
import { Button, buttonClass, Field, Input } from "@/ui/controls";
import { ErrorNote } from "@/ui/display";
import { Gate } from "./gate";
import { proveByPasskey } from "./own-proof";

const route = getRouteApi("/login");

/** A path on this site, whatever the address says. */
const localPath = (next: string | undefined): string => (next && /^\/(?![/\\])/.test(next) ? next : "/");

const refusals: Record<string, string> = {
  failed: "The sign-on did not succeed. Try again; the server's audit log says why.",
  unknown: "You are known there, but not here. Ask an administrator to let you in.",
  down: "That provider cannot be asked now. Try again, or log in by password.",
};

/** What second proof the server asks for, or refused: a code, or also a passkey. */
const asksFor = (err: unknown): "code" | "passkey" | undefined => {
  const at = err instanceof ApiError && err.status === 401 ? err.items[0]?.location : undefined;
  return at === "code" || at === "passkey" ? at : undefined;
};

/** Asks for a second proof: a code, or a passkey where there is one. */
function SecondProof({ passkey, busy, onPasskey, code, onCode, autoFocus }: {
  passkey: boolean;
  busy: boolean;
  onPasskey: () => void;
  code: string;
  onCode: (code: string) => void;
  autoFocus: boolean;
}) {
  return (
    <>
      {passkey && passkeysWork() && (
        <Button busy={busy} onClick={onPasskey} className="w-full">
          Use a passkey
        </Button>
      )}
      <Field label="Code" hint="What your authenticator shows, or a recovery code">
        {(ids) => <Input {...ids} autoFocus={autoFocus} autoComplete="one-time-code" inputMode="text" value={code} onChange={(e) => onCode(e.target.value)} required />}
      </Field>
    </>
  );
}

export function LoginPage() {
  useTitle("Log in");
  const { next, sign_on: refused } = route.useSearch() as { next?: string; sign_on?: string };
  const { data: providers = [] } = useQuery(providersQuery);
  const client = useQueryClient();
  const router = useRouter();
  const [username, setUsername] = useState("");
  const [password, setPassword] = useState("");
  const [code, setCode] = useState("");
  const [second, setSecond] = useState<"code" | "passkey">(); // is needed, too
  const login = useMutation({
    mutationFn: async (by: "password" | "code" | "passkey") => {
      const who = { username: username.trim(), password };
      if (by !== "passkey") return api.post<Session>("/session", by === "code" ? { ...who, code: code.trim() } : who);
      const question = await api.post<PasskeyQuestion>("/session/passkey", who);
      return api.post<Session>("/session", { ...who, passkey: await getPasskey(question) });
    },
    onSuccess: async (session) => {
      client.setQueryData(sessionQuery.queryKey, session);
      router.history.push(session.must_enrol ? "/account" : localPath(next));
    },
    onError: (err, by) => {
      const asked = asksFor(err);
      if (asked && by !== "passkey") setSecond(asked);
      if (asked === "passkey" && by === "password" && passkeysWork()) login.mutate("passkey");
    },
  });
  const { data: session } = useQuery(sessionQuery);
  const prove = useMutation({
    mutationFn: async (by: "code" | "passkey") => {
      await (by === "code" ? api.post("/session/prove", { code: code.trim() }) : proveByPasskey());
      return client.fetchQuery({ ...sessionQuery, staleTime: 0 });
    },
    onSuccess: () => router.history.push(localPath(next)),
  });
  if (session?.must_prove)
    return (
      <Gate title="One more step" note={`You are ${session.username}, and have a second factor here.`}>
        <form
          className="flex flex-col gap-4"
          noValidate
          onSubmit={(e) => {
            e.preventDefault();
            if (code.trim()) prove.mutate("code");
          }}
        >
          {prove.error && <ErrorNote error={prove.error} />}
          <SecondProof
            passkey={session.proofs.includes("passkey")}
            busy={prove.isPending && prove.variables === "passkey"}
            onPasskey={() => prove.mutate("passkey")}
            code={code}
            onCode={setCode}
            autoFocus
          />
          <Button type="submit" tone="primary" busy={prove.isPending && prove.variables === "code"} className="w-full">
            Go on
          </Button>
        </form>
      </Gate>
    );
  const submit = (e: FormEvent) => {
    e.preventDefault();
    if (username.trim() && password) login.mutate(code.trim() ? "code" : "password");
  };
  const asked = asksFor(login.error);
  const wrong = !asked && login.error instanceof ApiError && login.error.status === 401;
  return (
    <Gate title="Log in" note="Use your Muster account.">
      <form onSubmit={submit} noValidate className="flex flex-col gap-4">
        {login.error && !(asked && login.variables === "password") && (wrong ? <ErrorNote error="Wrong user name or password." /> : <ErrorNote error={login.error} />)}
        <Field label="User name">
          {(ids) => <Input {...ids} autoFocus autoComplete="username" value={username} onChange={(e) => setUsername(e.target.value)} required />}
        </Field>
        <Field label="Password">
          {(ids) => (
            <Input {...ids} type="password" autoComplete="current-password" value={password} onChange={(e) => setPassword(e.target.value)} required />
          )}
        </Field>
        {second && (
          <SecondProof
            passkey={second === "passkey"}
            busy={login.isPending && login.variables === "passkey"}
            onPasskey={() => login.mutate("passkey")}
            code={code}
            onCode={setCode}
            autoFocus={second === "code"}
          />
        )}
        {refused && !login.error && <ErrorNote error={refusals[refused] ?? refusals["failed"]} />}
        <Button type="submit" tone="primary" busy={login.isPending} className="mt-1 w-full">
          Log in
        </Button>
        {providers.map((p) => (
          <a key={p.name} href={`/api/v1/sign-on/${encodeURIComponent(p.name)}?next=${encodeURIComponent(localPath(next))}`} className={`${buttonClass()} w-full justify-center`}>
            Log in with {p.title}
          </a>
        ))}
      </form>
    </Gate>
  );
}
