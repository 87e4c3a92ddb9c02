import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useState, type FormEvent } from "react";

import { alertPath, refreshAlerts } from "@/api/alerts";
import { api } from "@/api/client";
import { sessionQuery, usersQuery } from "@/api/queries";
import type { Alert } from "@/api/types";
import { Button, Field, Input, Select } from "@/ui/controls";
import { ErrorNote } from "@/ui/display";
import { Dialog, useNotify } from "@/ui/overlay";
import { May } from "./may";
import { SilenceDialog } from "./silences";

type Act = "acknowledge" | "assign" | "comment" | "resolve" | "reopen";

const words: Record<Act, { button: string; title: string; description: string; done: string }> = {
  acknowledge: { button: "Acknowledge", title: "Acknowledge the alert", description: "You look after it: nobody is reminded of it. Firings count on.", done: "The alert is acknowledged" },
  assign: { button: "Assign", title: "Assign the alert", description: "Says whose it is.", done: "The alert is assigned" },
  comment: { button: "Comment", title: "Comment on the alert", description: "It becomes a line of its history.", done: "The comment is in the history" },
  resolve: { button: "Resolve", title: "Resolve the alert", description: "It is over. A firing within 24 hours opens it again.", done: "The alert is resolved" },
  reopen: { button: "Reopen", title: "Reopen the alert", description: "It is open again, and told again.", done: "The alert is open again" },
};

/** What a person can do with an alert. */
export function AlertActs({ alert }: { alert: Alert }) {
  const [asking, setAsking] = useState<Act | null>(null);
  const [silencing, setSilencing] = useState(false);
  const acts: Act[] = ["comment", "assign", ...(alert.state === "open" ? [] : (["reopen"] as const)), ...(alert.state === "open" ? (["acknowledge"] as const) : []), ...(alert.state === "resolved" ? [] : (["resolve"] as const))];
  return (
    <div className="ml-auto flex flex-wrap items-center gap-2">
      <May permission="silence.write">
        <Button icon="mute" onClick={() => setSilencing(true)}>
          Silence
        </Button>
        <SilenceDialog open={silencing} onOpenChange={setSilencing} match={matchOf(alert)} />
      </May>
      <May permission="alert.write">
        {acts.map((act) => (
          <Button key={act} tone={act === "acknowledge" ? "primary" : "plain"} onClick={() => setAsking(act)}>
            {words[act].button}
          </Button>
        ))}
        {asking && (
          <Dialog open onOpenChange={(open) => !open && setAsking(null)} title={words[asking].title} description={words[asking].description}>
            <ActForm alert={alert} act={asking} onDone={() => setAsking(null)} />
          </Dialog>
        )}
      </May>
    </div>
  );
}

/** The conditions of a silence for this alert's rule on this node. */
function matchOf(alert: Alert): string {
  return [`rule = ${alert.rule}`, alert.host_identifier && `node = ${alert.host_identifier}`].filter(Boolean).join("\n");
}

function ActForm({ alert, act, onDone }: { alert: Alert; act: Act; onDone: () => void }) {
  const client = useQueryClient();
  const notify = useNotify();
  const { data: session } = useQuery(sessionQuery);
  const [comment, setComment] = useState("");
  const [assignee, setAssignee] = useState(alert.assignee || (session?.username ?? ""));
  const send = useMutation({
    mutationFn: () => api.post<Alert>(alertPath(alert.id, `/${act}`), { comment: comment.trim(), ...(act === "assign" ? { assignee } : {}) }),
    onSuccess: async () => {
      notify.done(words[act].done);
      await refreshAlerts(client);
      onDone();
    },
  });
  const submit = (e: FormEvent) => {
    e.preventDefault();
    send.mutate();
  };
  return (
    <form onSubmit={submit} className="flex flex-col gap-4">
      {send.error && <ErrorNote error={send.error} />}
      {act === "assign" && <Assignee value={assignee} onChange={setAssignee} />}
      <Field label="Comment" hint={act === "comment" ? undefined : "May be left out"}>
        {(ids) => <Input {...ids} autoFocus value={comment} maxLength={2048} onChange={(e) => setComment(e.target.value)} required={act === "comment"} />}
      </Field>
      <div className="flex justify-end gap-2">
        <Button onClick={onDone}>Cancel</Button>
        <Button type="submit" tone="primary" busy={send.isPending} disabled={act === "comment" && !comment.trim()}>
          {words[act].button}
        </Button>
      </div>
    </form>
  );
}

/** A user; a name to type where the users may not be listed. */
function Assignee({ value, onChange }: { value: string; onChange: (value: string) => void }) {
  const { data } = useQuery({ ...usersQuery, retry: false });
  if (!data) return <Field label="Assignee">{(ids) => <Input {...ids} value={value} maxLength={64} onChange={(e) => onChange(e.target.value)} />}</Field>;
  return (
    <div className="flex flex-col gap-1.5">
      <span className="text-xs font-medium text-fg-2">Assignee</span>
      <Select label="Assignee" value={value} onChange={onChange} options={[{ value: "", label: "Nobody" }, ...data.users.map((u) => ({ value: u.name, label: u.name }))]} />
    </div>
  );
}
