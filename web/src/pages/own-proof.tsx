import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";

import { api } from "@/api/client";
import { sessionQuery } from "@/api/queries";
import type { PasskeyQuestion, Session } from "@/api/types";
import { getPasskey, passkeysWork } from "@/lib/passkey";
import { Button, buttonClass, Field, Input } from "@/ui/controls";
import { ErrorNote } from "@/ui/display";

/** Proves who one is by a passkey. */
export async function proveByPasskey(): Promise<void> {
  const question = await api.post<PasskeyQuestion>("/session/prove/passkey");
  await api.post("/session/prove", { passkey: await getPasskey(question) });
}

/** Whether one proved a moment ago who one is, so that no password is asked for. */
const proven = (session: Session | null | undefined): boolean =>
  session?.proved_until !== undefined && Date.parse(session.proved_until) - 5000 > Date.now();

/** Whether what was typed, or a proof before it, is enough to go on. */
export function useProof(own: string): boolean {
  const { data: session } = useQuery(sessionQuery);
  return own !== "" || proven(session);
}

/** Asks for one's own password, or for whatever else proves who one is. */
export function OwnProof({ own, onChange, hint, autoFocus }: { own: string; onChange: (own: string) => void; hint: string; autoFocus?: boolean }) {
  const client = useQueryClient();
  const { data: session } = useQuery(sessionQuery);
  const prove = useMutation({
    mutationFn: async () => {
      await proveByPasskey();
      await client.fetchQuery({ ...sessionQuery, staleTime: 0 });
    },
  });
  if (proven(session)) return <p className="text-sm text-fg-3">You proved a moment ago who you are.</p>;
  const can = session?.proofs ?? [];
  const here = location.pathname + location.search;
  return (
    <div className="flex flex-col gap-3">
      {prove.error && <ErrorNote error={prove.error} />}
      {can.includes("password") && (
        <>
          {/* For password managers, which look for a name beside the password. */}
          <input type="text" className="hidden" autoComplete="username" value={session?.username ?? ""} readOnly tabIndex={-1} />
          <Field label="Your password" hint={hint}>
            {(ids) => <Input {...ids} type="password" autoFocus={autoFocus ?? false} autoComplete="current-password" value={own} onChange={(e) => onChange(e.target.value)} />}
          </Field>
        </>
      )}
      {can.includes("passkey") && passkeysWork() && (
        <Button busy={prove.isPending} onClick={() => prove.mutate()}>
          Use a passkey{can.includes("password") ? " instead" : ""}
        </Button>
      )}
      {session?.provider && (
        <a href={`/api/v1/sign-on/${encodeURIComponent(session.provider)}?prove=1&next=${encodeURIComponent(here)}`} className={`${buttonClass()} justify-center`}>
          Prove who you are at {session.provider}, and come back
        </a>
      )}
    </div>
  );
}
