import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { getRouteApi, useRouter } from "@tanstack/react-router";
import { useState, type FormEvent } from "react";

import { api, ApiError } from "@/api/client";
import { providersQuery } from "@/api/people";
import { sessionQuery } from "@/api/queries";
import type { Session } from "@/api/types";
import { useTitle } from "@/lib/hooks";
import { Button, buttonClass, Field, Input } from "@/ui/controls";
import { ErrorNote } from "@/ui/display";
import { Gate } from "./gate";

const route = getRouteApi("/login");

/** A path on this site, whatever the address says. */
const localPath = (next: string | undefined): string => (next && /^\/(?![/\\])/.test(next) ? next : "/");

const refusals: Record<string, string> = {
  failed: "The sign-on did not succeed. Try again; the server's audit log says why.",
  unknown: "You are known there, but not here. Ask an administrator to let you in.",
  down: "That provider cannot be asked now. Try again, or log in by password.",
};

/** Whether the server asks for a code, or refused one. */
const aboutCode = (err: unknown): boolean => err instanceof ApiError && err.status === 401 && err.items.some((i) => i.location === "code");

export function LoginPage() {
  useTitle("Log in");
  const { next, sign_on: refused } = route.useSearch() as { next?: string; sign_on?: string };
  const { data: providers = [] } = useQuery(providersQuery);
  const client = useQueryClient();
  const router = useRouter();
  const [username, setUsername] = useState("");
  const [password, setPassword] = useState("");
  const [code, setCode] = useState("");
  const [second, setSecond] = useState(false); // a code is needed, too
  const login = useMutation({
    mutationFn: () => api.post<Session>("/session", { username: username.trim(), password, ...(second ? { code: code.trim() } : {}) }),
    onSuccess: async (session) => {
      client.setQueryData(sessionQuery.queryKey, session);
      router.history.push(session.must_enrol ? "/account" : localPath(next));
    },
    onError: (err) => {
      if (aboutCode(err)) setSecond(true);
    },
  });
  const submit = (e: FormEvent) => {
    e.preventDefault();
    if (username.trim() && password) login.mutate();
  };
  const asked = aboutCode(login.error);
  const wrong = !asked && login.error instanceof ApiError && login.error.status === 401;
  return (
    <Gate title="Log in" note="Use your Muster account.">
      <form onSubmit={submit} noValidate className="flex flex-col gap-4">
        {login.error && !(asked && code === "") && (wrong ? <ErrorNote error="Wrong user name or password." /> : <ErrorNote error={login.error} />)}
        <Field label="User name">
          {(ids) => <Input {...ids} autoFocus autoComplete="username" value={username} onChange={(e) => setUsername(e.target.value)} required />}
        </Field>
        <Field label="Password">
          {(ids) => (
            <Input {...ids} type="password" autoComplete="current-password" value={password} onChange={(e) => setPassword(e.target.value)} required />
          )}
        </Field>
        {second && (
          <Field label="Code" hint="What your authenticator shows, or a recovery code">
            {(ids) => <Input {...ids} autoFocus autoComplete="one-time-code" inputMode="text" value={code} onChange={(e) => setCode(e.target.value)} required />}
          </Field>
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
