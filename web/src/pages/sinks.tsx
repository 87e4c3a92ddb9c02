import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { getRouteApi, useNavigate } from "@tanstack/react-router";
import { useState, type FormEvent } from "react";

import { api } from "@/api/client";
import { sinkLettersQuery, sinkPath, sinksQuery } from "@/api/sinks";
import type { Sink } from "@/api/types";
import { formatBytes, formatCount, formatDuration, formatTime, plural } from "@/lib/format";
import { useTitle } from "@/lib/hooks";
import { Agent, visible } from "@/lib/text";
import { Button, Field, Input } from "@/ui/controls";
import { Ago, Badge, Code, Empty, ErrorNote, Loading, PageHeader } from "@/ui/display";
import { Confirm, Dialog, Menu, useNotify, type MenuItem } from "@/ui/overlay";
import { head, line, Section } from "@/ui/section";
import { useMay } from "./may";

const route = getRouteApi("/shell/sinks");

type Act = "pause" | "resume" | "retry" | "discard" | "replay" | "stop";

/** Systems outside that receive events, how far each is, and what it refused. */
export function SinksPage() {
  useTitle("Sinks");
  const { dead } = route.useSearch();
  const navigate = useNavigate();
  const [asking, setAsking] = useState<{ sink: Sink; act: Act } | null>(null);
  const query = useQuery(sinksQuery);
  return (
    <div className="mx-auto flex max-w-[100rem] flex-col gap-4 px-5 py-4">
      <PageHeader title="Sinks" note="Events wait in the stream until each sink has them" />
      <Section
        title="Sinks"
        query={query}
        what="The sinks"
        empty={
          <Empty icon="sinks" title="No system outside receives events yet">
            A resource of kind <code className="font-mono text-xs">Sink</code> names one: a file, syslog, Splunk, Kafka and others.{" "}
            <code className="font-mono text-xs">muster apply</code> proposes it.
          </Empty>
        }
      >
        {(list) => (
          <table className="w-full text-sm" aria-label="Sinks">
            <thead>
              <tr className={head}>
                <th>Name</th>
                <th>State</th>
                <th className="text-right" title="Age of the oldest event that was not sent yet">Behind</th>
                <th className="text-right" title="Messages of the stream, each some events">Waiting</th>
                <th className="text-right" title="Events that were delivered, some of them more than once">Sent</th>
                <th>Delivered</th>
                <th className="text-right" title="What the other side refused for good">Dead letters</th>
                <th>Replay</th>
                <th>
                  <span className="sr-only">Actions</span>
                </th>
              </tr>
            </thead>
            <tbody>
              {list.map((s) => (
                <SinkLine key={s.name} sink={s} onAct={(act) => setAsking({ sink: s, act })} onDead={() => void navigate({ to: "/sinks", search: { dead: s.name } })} />
              ))}
            </tbody>
          </table>
        )}
      </Section>
      {asking && <Ask {...asking} onClose={() => setAsking(null)} />}
      {dead && <DeadLetters name={dead} onClose={() => void navigate({ to: "/sinks" })} />}
    </div>
  );
}

function StateBadge({ sink: s }: { sink: Sink }) {
  if (s.state === "failing") return <Badge tone="bad" title={visible(s.error ?? "")}>failing</Badge>;
  if (s.state === "paused") return <Badge tone="warn" title={`By ${visible(s.paused_by ?? "")}`}>paused</Badge>;
  return <Badge tone="ok">running</Badge>;
}

function SinkLine({ sink: s, onAct, onDead }: { sink: Sink; onAct: (act: Act) => void; onDead: () => void }) {
  const mayWrite = useMay("sink.write");
  const client = useQueryClient();
  const notify = useNotify();
  const test = useMutation({
    mutationFn: () => api.post<{ took_ms: number }>(sinkPath(s.name, "/test")),
    onSuccess: (t) => notify.done(`${visible(s.name)} took a test event in ${formatCount(t.took_ms)} ms`),
    onError: notify.failed,
    onSettled: () => client.invalidateQueries({ queryKey: ["sinks"] }),
  });
  const items: (MenuItem | "separator")[] = [
    s.state === "paused" ? { label: "Resume", icon: "play", onSelect: () => onAct("resume") } : { label: "Pause", icon: "stop", onSelect: () => onAct("pause") },
    s.replay ? { label: "End the replay", icon: "x", onSelect: () => onAct("stop") } : { label: "Replay", icon: "refresh", onSelect: () => onAct("replay") },
  ];
  if (s.dead.letters > 0) {
    items.push("separator", { label: "Send dead letters again", icon: "refresh", onSelect: () => onAct("retry") });
    items.push({ label: "Discard dead letters", icon: "trash", danger: true, onSelect: () => onAct("discard") });
  }
  return (
    <tr className={line}>
      <td className="max-w-80">
        <Agent className="font-mono text-xs font-medium">{s.name}</Agent>
        <span className="block text-xs text-fg-3">
          {s.type}, {s.format}
          {s.required && <span title="The stream keeps what it has not got"> · required</span>}
        </span>
      </td>
      <td className="max-w-96">
        <StateBadge sink={s} />
        {s.error && (
          <span className="block truncate text-xs text-bad" title={visible(s.error)}>
            <Agent>{s.error}</Agent>
          </span>
        )}
      </td>
      <td className={`tnum text-right whitespace-nowrap ${s.lag.seconds > 60 ? "text-warn" : ""}`}>{s.lag.messages > 0 ? formatDuration(s.lag.seconds) : "–"}</td>
      <td className="tnum text-right whitespace-nowrap">
        {formatCount(s.lag.messages)}
        {s.lag.bytes > 0 && <span className="text-fg-3"> · {formatBytes(s.lag.bytes)}</span>}
      </td>
      <td className="tnum text-right whitespace-nowrap">
        {formatCount(s.sent)}
        {s.lost_messages > 0 && (
          <span className="block text-xs font-medium text-bad" title="The stream was full before they were sent">
            {formatCount(s.lost_messages)} lost
          </span>
        )}
      </td>
      <td className="text-fg-2">
        <Ago time={s.delivered_at} />
      </td>
      <td className="tnum text-right">
        {s.dead.letters > 0 && mayWrite ? (
          <button type="button" className="font-medium text-bad hover:underline" onClick={onDead}>
            {formatCount(s.dead.letters)}
          </button>
        ) : (
          formatCount(s.dead.letters)
        )}
      </td>
      <td className="text-xs text-fg-2">{s.replay ? `up to ${formatTime(s.replay.done)}, ${plural(s.replay.sent, "event")}` : "–"}</td>
      <td className="text-right whitespace-nowrap">
        {mayWrite && (
          <span className="inline-flex gap-1.5">
            <Button size="sm" busy={test.isPending} aria-label={`Test ${visible(s.name)}`} onClick={() => test.mutate()}>
              Test
            </Button>
            <Menu trigger={<Button size="sm" icon="more" aria-label={`More for ${visible(s.name)}`} />} items={items} />
          </span>
        )}
      </td>
    </tr>
  );
}

/** What happens, said before it does. */
const asks: Record<Exclude<Act, "replay">, { title: string; action: string; done: string; text: (s: Sink) => string }> = {
  pause: { title: "Pause the sink?", action: "Pause", done: "The sink stands still", text: (s) => `Its events wait in the stream${s.required ? ", which keeps them" : ", until that is full"}.` },
  resume: { title: "Let the sink go on?", action: "Resume", done: "The sink goes on", text: (s) => `It goes on where it was: ${plural(s.lag.messages, "message")} wait.` },
  retry: { title: "Send the dead letters again?", action: "Send again", done: "Dead letters are sent again", text: (s) => `${plural(s.dead.letters, "event")} that the other side refused.` },
  discard: { title: "Discard the dead letters?", action: "Discard", done: "Dead letters are gone", text: (s) => `${plural(s.dead.letters, "event")} will never reach this sink. The search keeps them.` },
  stop: { title: "End the replay?", action: "End replay", done: "The replay is ended", text: (s) => `What was sent stays sent: ${plural(s.replay?.sent ?? 0, "event")}.` },
};

const calls: Record<Exclude<Act, "replay">, (name: string) => Promise<unknown>> = {
  pause: (n) => api.post(sinkPath(n, "/pause")),
  resume: (n) => api.post(sinkPath(n, "/resume")),
  retry: (n) => api.post(sinkPath(n, "/dead/retry")),
  discard: (n) => api.delete(sinkPath(n, "/dead")),
  stop: (n) => api.delete(sinkPath(n, "/replay")),
};

function Ask({ sink, act, onClose }: { sink: Sink; act: Act; onClose: () => void }) {
  if (act === "replay") return <ReplayDialog sink={sink} onClose={onClose} />;
  return <AskPlain sink={sink} act={act} onClose={onClose} />;
}

function AskPlain({ sink, act, onClose }: { sink: Sink; act: Exclude<Act, "replay">; onClose: () => void }) {
  const client = useQueryClient();
  const notify = useNotify();
  const ask = asks[act];
  const run = useMutation({
    mutationFn: () => calls[act](sink.name),
    onSuccess: () => notify.done(ask.done),
    onError: notify.failed,
    onSettled: async () => {
      await client.invalidateQueries({ queryKey: ["sinks"] });
      onClose();
    },
  });
  return (
    <Confirm open onOpenChange={(open) => !open && onClose()} title={ask.title} action={ask.action} busy={run.isPending} onConfirm={() => run.mutate()}>
      <Agent className="font-mono">{sink.name}</Agent>: {ask.text(sink)}
    </Confirm>
  );
}

function ReplayDialog({ sink, onClose }: { sink: Sink; onClose: () => void }) {
  const client = useQueryClient();
  const notify = useNotify();
  const [since, setSince] = useState("1h");
  const [until, setUntil] = useState("");
  const replay = useMutation({
    mutationFn: () => api.post(sinkPath(sink.name, "/replay"), until.trim() ? { since: since.trim(), until: until.trim() } : { since: since.trim() }),
    onSuccess: async () => {
      notify.done("The replay begins");
      await client.invalidateQueries({ queryKey: ["sinks"] });
      onClose();
    },
  });
  const submit = (e: FormEvent) => {
    e.preventDefault();
    replay.mutate();
  };
  return (
    <Dialog open onOpenChange={(open) => !open && onClose()} title={`Replay to ${visible(sink.name)}`} description="Sends what the search has of that time once more, beside what comes. Events keep their ids.">
      <form onSubmit={submit} className="flex flex-col gap-4">
        {replay.error && <ErrorNote error={replay.error} />}
        <Field label="Since" hint="How long ago, as 1h or 7d, or a time as 2026-01-31T12:00:00Z">
          {(ids) => <Input {...ids} autoFocus required value={since} onChange={(e) => setSince(e.target.value)} />}
        </Field>
        <Field label="Until" hint="Up to what is there if it is empty">
          {(ids) => <Input {...ids} value={until} onChange={(e) => setUntil(e.target.value)} />}
        </Field>
        <div className="flex justify-end gap-2">
          <Button onClick={onClose}>Cancel</Button>
          <Button type="submit" tone="primary" busy={replay.isPending} disabled={!since.trim()}>
            Replay
          </Button>
        </div>
      </form>
    </Dialog>
  );
}

function DeadLetters({ name, onClose }: { name: string; onClose: () => void }) {
  const { data, error } = useQuery(sinkLettersQuery(name));
  return (
    <Dialog wide open onOpenChange={(open) => !open && onClose()} title={`Dead letters of ${visible(name)}`} description="Events that the other side refused for good, the oldest first">
      {error ? (
        <ErrorNote error={error} title="They could not be loaded" />
      ) : !data ? (
        <Loading lines={4} />
      ) : data.length === 0 ? (
        <p className="text-sm text-fg-3">There are none.</p>
      ) : (
        <ul className="flex flex-col gap-4">
          {data.map((l, i) => (
            <li key={i}>
              <p className="text-sm">
                <Ago time={l.at} />: <Agent className="text-bad">{l.reason}</Agent>
              </p>
              <Code label={`Event ${i + 1}`} className="mt-1 max-h-48">
                {JSON.stringify(l.event, null, 2).split("\n").map(visible).join("\n")}
              </Code>
            </li>
          ))}
        </ul>
      )}
    </Dialog>
  );
}
