import { useMutation, useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { useEffect, useState, type FormEvent } from "react";

import { api } from "@/api/client";
import type { Invited } from "@/api/types";
import { useTitle } from "@/lib/hooks";
import { linkToken, takeLinkToken } from "@/link-token";
import { Button, buttonClass, Field, Input } from "@/ui/controls";
import { ErrorNote } from "@/ui/display";
import { Gate } from "./gate";

/** Where somebody who was sent a link chooses a password. */
export function InvitePage() {
  useTitle("Invitation");
  const [token, setToken] = useState(linkToken);
  useEffect(() => {
    const onHash = () => {
      takeLinkToken();
      setToken(linkToken());
    };
    addEventListener("hashchange", onHash); // the link was opened where this page already was
    return () => removeEventListener("hashchange", onHash);
  }, []);
  const { data: invited, error } = useQuery({
    queryKey: ["invitation", token],
    queryFn: () => api.post<Invited>("/invitations/look", { token }),
    enabled: token !== "",
    retry: false,
    staleTime: Infinity,
  });
  const [password, setPassword] = useState("");
  const [again, setAgain] = useState("");
  const [tried, setTried] = useState(false);
  const accept = useMutation({ mutationFn: () => api.post("/invitations/accept", { token, password }) });
  const differs = again !== password ? "The two passwords differ" : undefined;
  const submit = (e: FormEvent) => {
    e.preventDefault();
    setTried(true);
    if (password && !differs) accept.mutate();
  };
  if (accept.isSuccess)
    return (
      <Gate title="Your password is set" note={`Your user name is ${invited?.name}.`}>
        <Link to="/login" className={`${buttonClass("primary")} w-full justify-center`}>
          Log in
        </Link>
      </Gate>
    );
  return (
    <Gate title={invited ? (invited.reset ? "Choose another password" : "Welcome") : "Invitation"} note={invited ? `Your user name is ${invited.name}.` : "A link that lets you choose a password."}>
      {!token && <ErrorNote error="The link is not whole. Open it as it was sent to you." />}
      {error && <ErrorNote error={error} />}
      {invited && (
        <form onSubmit={submit} noValidate className="flex flex-col gap-4">
          {accept.error && <ErrorNote error={accept.error} />}
          <input type="text" name="username" autoComplete="username" value={invited.name} readOnly hidden />
          <Field label="Password" hint="At least 15 characters: some words that nobody would put together">
            {(ids) => <Input {...ids} autoFocus type="password" autoComplete="new-password" value={password} onChange={(e) => setPassword(e.target.value)} required />}
          </Field>
          <Field label="Password again" error={tried ? differs : undefined}>
            {(ids) => <Input {...ids} type="password" autoComplete="new-password" value={again} onChange={(e) => setAgain(e.target.value)} required />}
          </Field>
          <Button type="submit" tone="primary" busy={accept.isPending} className="mt-1 w-full">
            Set the password
          </Button>
        </form>
      )}
    </Gate>
  );
}
