import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import { useEffect, useState, type FormEvent } from "react";

import { api } from "@/api/client";
import { sessionQuery, setupQuery } from "@/api/queries";
import type { Session } from "@/api/types";
import { useTitle } from "@/lib/hooks";
import { linkToken, takeLinkToken } from "@/link-token";
import { Button, Field, Input } from "@/ui/controls";
import { ErrorNote } from "@/ui/display";
import { Gate } from "./gate";

const shortest = 15;

export function SetupPage() {
  useTitle("Set up");
  const client = useQueryClient();
  const navigate = useNavigate();
  const [fromLink, setFromLink] = useState(linkToken);
  const [token, setToken] = useState(fromLink);
  useEffect(() => {
    // The link was opened where this page already was.
    const onHash = () => {
      takeLinkToken();
      setFromLink(linkToken());
      setToken(linkToken());
    };
    addEventListener("hashchange", onHash);
    return () => removeEventListener("hashchange", onHash);
  }, []);
  const [username, setUsername] = useState("");
  const [password, setPassword] = useState("");
  const [again, setAgain] = useState("");
  const [tried, setTried] = useState(false);
  const setup = useMutation({
    mutationFn: () => api.post<Session>("/setup", { token: token.trim(), username: username.trim(), password }),
    onSuccess: async (session) => {
      client.setQueryData(setupQuery.queryKey, { needed: false });
      client.setQueryData(sessionQuery.queryKey, session);
      await navigate({ to: "/" });
    },
  });
  const short = password.length < shortest ? `At least ${shortest} characters` : undefined;
  const differs = again !== password ? "The two passwords differ" : undefined;
  const submit = (e: FormEvent) => {
    e.preventDefault();
    setTried(true);
    if (token.trim() && username.trim() && !short && !differs) setup.mutate();
  };
  return (
    <Gate title="Welcome" note="Create the first administrator. Everyone else comes after.">
      <form onSubmit={submit} noValidate className="flex flex-col gap-4">
        {setup.error && <ErrorNote error={setup.error} />}
        {!fromLink && (
          <Field
            label="Setup token"
            hint={
              <>
                From the link that <code className="font-mono">muster serve</code> printed, or the file{" "}
                <code className="font-mono">setup-token</code> in its data directory.
              </>
            }
            error={tried && !token.trim() ? "The setup token is needed" : undefined}
          >
            {(ids) => <Input {...ids} autoFocus className="font-mono" value={token} onChange={(e) => setToken(e.target.value)} required />}
          </Field>
        )}
        <Field label="User name" error={tried && !username.trim() ? "A user name is needed" : undefined}>
          {(ids) => (
            <Input {...ids} autoFocus={Boolean(fromLink)} autoComplete="username" maxLength={64} value={username} onChange={(e) => setUsername(e.target.value)} required />
          )}
        </Field>
        <Field label="Password" hint={`At least ${shortest} characters`} error={tried ? short : undefined}>
          {(ids) => (
            <Input {...ids} type="password" autoComplete="new-password" value={password} onChange={(e) => setPassword(e.target.value)} required />
          )}
        </Field>
        <Field label="Password again" error={tried ? differs : undefined}>
          {(ids) => (
            <Input {...ids} type="password" autoComplete="new-password" value={again} onChange={(e) => setAgain(e.target.value)} required />
          )}
        </Field>
        <Button type="submit" tone="primary" busy={setup.isPending} className="mt-1 w-full">
          Create administrator
        </Button>
      </form>
    </Gate>
  );
}
