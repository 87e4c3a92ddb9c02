import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useState, type FormEvent } from "react";

import { refreshAlerts, silencesQuery } from "@/api/alerts";
import { api } from "@/api/client";
import type { Silence, SilenceInput } from "@/api/types";
import { formatCount } from "@/lib/format";
import { Agent } from "@/lib/text";
import { Button, Field, Input, inputClass, Select } from "@/ui/controls";
import { Ago, Badge, Empty, ErrorNote } from "@/ui/display";
import { Confirm, Dialog, useNotify } from "@/ui/overlay";
import { head, line, Section } from "@/ui/section";
import { May, useMay } from "./may";

/** Silences that hold or will. */
export function Silences() {
  const query = useQuery(silencesQuery);
  const [making, setMaking] = useState(false);
  const [ending, setEnding] = useState<Silence | null>(null);
  const mayWrite = useMay("silence.write");
  return (
    <>
      <Section
        title="Silences"
        query={query}
        what="The silences"
        actions={
          <May permission="silence.write">
            <Button size="sm" icon="plus" onClick={() => setMaking(true)}>
              New silence
            </Button>
          </May>
        }
        empty={
          <Empty icon="mute" title="Nothing is silenced">
            A silence keeps alerts that fit its conditions from being told for a time. They open and count all the same.
          </Empty>
        }
      >
        {(list) => (
          <table className="w-full text-sm" aria-label="Silences">
            <thead>
              <tr className={head}>
                <th>Match</th>
                <th>Comment</th>
                <th>State</th>
                <th className="text-right" title="Not resolved, and that it fits">Alerts</th>
                <th>Created by</th>
                <th>Starts</th>
                <th>Expires</th>
                <th>
                  <span className="sr-only">Actions</span>
                </th>
              </tr>
            </thead>
            <tbody>
              {list.map((s) => (
                <tr key={s.id} className={line}>
                  <td className="max-w-80">
                    {s.match.map((m) => (
                      <span key={m} className="block truncate font-mono text-xs">
                        <Agent>{m}</Agent>
                      </span>
                    ))}
                  </td>
                  <td className="max-w-96">
                    <Agent>{s.comment}</Agent>
                  </td>
                  <td>{s.active ? <Badge tone="accent">active</Badge> : <Badge>not yet</Badge>}</td>
                  <td className="tnum text-right">{formatCount(s.alerts)}</td>
                  <td>
                    <Agent className="text-fg-2">{s.created_by}</Agent>
                  </td>
                  <td className="text-fg-2">
                    <Ago time={s.starts_at} />
                  </td>
                  <td className="text-fg-2">
                    <Ago time={s.expires_at} />
                  </td>
                  <td className="text-right">
                    {mayWrite && (
                      <Button size="sm" tone="danger" onClick={() => setEnding(s)}>
                        End
                      </Button>
                    )}
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        )}
      </Section>
      <SilenceDialog open={making} onOpenChange={setMaking} match="" />
      {ending && <EndSilence silence={ending} onClose={() => setEnding(null)} />}
    </>
  );
}

function EndSilence({ silence, onClose }: { silence: Silence; onClose: () => void }) {
  const client = useQueryClient();
  const notify = useNotify();
  const end = useMutation({
    mutationFn: () => api.delete<Silence>(`/silences/${encodeURIComponent(silence.id)}`),
    onSuccess: async () => {
      notify.done("The silence is ended");
      await refreshAlerts(client);
    },
    onError: notify.failed,
    onSettled: onClose,
  });
  return (
    <Confirm open onOpenChange={(open) => !open && onClose()} title="End the silence?" action="End silence" busy={end.isPending} onConfirm={() => end.mutate()}>
      What is open and was not told is told now.
    </Confirm>
  );
}

const hour = 3600_000;
const spans = [
  { value: "1", label: "1 hour" },
  { value: "2", label: "2 hours" },
  { value: "8", label: "8 hours" },
  { value: "24", label: "1 day" },
  { value: "168", label: "7 days" },
  { value: "720", label: "30 days" },
];

/** Makes a silence; match is what its conditions begin with, one a line. */
export function SilenceDialog({ open, onOpenChange, match }: { open: boolean; onOpenChange: (open: boolean) => void; match: string }) {
  return (
    <Dialog open={open} onOpenChange={onOpenChange} title="New silence" description="Alerts that fit open and count, but nobody is told of them until it expires.">
      <SilenceForm match={match} onDone={() => onOpenChange(false)} />
    </Dialog>
  );
}

function SilenceForm({ match, onDone }: { match: string; onDone: () => void }) {
  const client = useQueryClient();
  const notify = useNotify();
  const [conditions, setConditions] = useState(match);
  const [comment, setComment] = useState("");
  const [hours, setHours] = useState("2");
  const make = useMutation({
    mutationFn: (input: SilenceInput) => api.post<Silence>("/silences", input),
    onSuccess: async () => {
      notify.done("The silence holds");
      await refreshAlerts(client);
      onDone();
    },
  });
  const lines = conditions.split("\n").map((l) => l.trim()).filter(Boolean);
  const submit = (e: FormEvent) => {
    e.preventDefault();
    make.mutate({ match: lines, comment: comment.trim(), expires_at: new Date(Date.now() + Number(hours) * hour).toISOString() });
  };
  return (
    <form onSubmit={submit} className="flex flex-col gap-4">
      {make.error && <ErrorNote error={make.error} />}
      <Field label="Match" hint="Conditions, one a line, all of which must hold: rule = ssh-*, severity <= low, node = web-1, label.team = web">
        {(ids) => (
          <textarea
            {...ids}
            autoFocus
            rows={3}
            spellCheck={false}
            className={`${inputClass} h-auto py-1.5 font-mono text-xs`}
            value={conditions}
            onChange={(e) => setConditions(e.target.value)}
          />
        )}
      </Field>
      <Field label="Comment" hint="Why, for whoever wonders">
        {(ids) => <Input {...ids} value={comment} maxLength={2048} onChange={(e) => setComment(e.target.value)} required />}
      </Field>
      <div className="flex items-center gap-2 text-sm">
        Expires in <Select label="Expires in" value={hours} onChange={setHours} options={spans} />
      </div>
      <div className="flex justify-end gap-2">
        <Button onClick={onDone}>Cancel</Button>
        <Button type="submit" tone="primary" busy={make.isPending} disabled={lines.length === 0 || !comment.trim()}>
          Silence
        </Button>
      </div>
    </form>
  );
}
