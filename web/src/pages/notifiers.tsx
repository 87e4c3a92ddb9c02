import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";

import { deadLettersQuery, notifiersQuery, refreshAlerts } from "@/api/alerts";
import { api } from "@/api/client";
import type { Notifier, NotifierAnswer } from "@/api/types";
import { formatCount, plural } from "@/lib/format";
import { Agent, visible } from "@/lib/text";
import { Button } from "@/ui/controls";
import { Ago, Badge, Empty } from "@/ui/display";
import { useNotify } from "@/ui/overlay";
import { head, line, Section } from "@/ui/section";
import { useMay } from "./may";

/** Where alerts are told, how that goes, and what could not be told. */
export function Notifiers() {
  const mayWrite = useMay("notifier.write");
  return (
    <div className="flex flex-col gap-4">
      <Section
        title="Notifiers"
        query={useQuery(notifiersQuery)}
        what="The notifiers"
        empty={
          <Empty icon="alerts" title="There is no notifier yet">
            A resource of kind <code className="font-mono text-xs">Notifier</code> says where alerts are told. <code className="font-mono text-xs">muster apply</code> proposes it.
          </Empty>
        }
      >
        {(list) => (
          <table className="w-full text-sm" aria-label="Notifiers">
            <thead>
              <tr className={head}>
                <th>Name</th>
                <th>Way</th>
                <th>For</th>
                <th>State</th>
                <th className="text-right">Waiting</th>
                <th className="text-right" title="Given up">Dead</th>
                <th>Oldest due</th>
                <th>
                  <span className="sr-only">Actions</span>
                </th>
              </tr>
            </thead>
            <tbody>
              {list.map((n) => (
                <NotifierLine key={n.name} notifier={n} mayWrite={mayWrite} />
              ))}
            </tbody>
          </table>
        )}
      </Section>
      <DeadLetters mayWrite={mayWrite} />
    </div>
  );
}

function NotifierLine({ notifier: n, mayWrite }: { notifier: Notifier; mayWrite: boolean }) {
  const client = useQueryClient();
  const notify = useNotify();
  const test = useMutation({
    mutationFn: () => api.post<NotifierAnswer>(`/notifiers/${encodeURIComponent(n.name)}/test`),
    onSuccess: (a) => notify.done(`${visible(n.name)}: ${visible(a.answer)} (${formatCount(Math.round(a.took_ms))} ms)`),
    onError: notify.failed,
    onSettled: () => refreshAlerts(client),
  });
  return (
    <tr className={line}>
      <td className="max-w-72">
        <Agent className="font-mono text-xs font-medium">{n.name}</Agent>
        {n.description && (
          <span className="block truncate text-xs text-fg-3" title={visible(n.description)}>
            <Agent>{n.description}</Agent>
          </span>
        )}
      </td>
      <td className="max-w-72">
        {n.way || "–"}
        <span className="block truncate text-xs text-fg-3" title={visible(n.target)}>
          <Agent>{n.target}</Agent>
        </span>
      </td>
      <td className="max-w-72 text-xs text-fg-2">
        <Agent>
          {[n.default && "by default", n.min_severity && `severity >= ${n.min_severity}`, ...n.match, n.selector].filter(Boolean).join(" · ")}
        </Agent>
      </td>
      <td>
        {!n.served ? (
          <Badge tone="warn" title="It is no more, and something waits for it">gone</Badge>
        ) : n.dead > 0 ? (
          <Badge tone="bad">gave up</Badge>
        ) : n.waiting > 0 ? (
          <Badge tone="accent">waiting</Badge>
        ) : (
          <Badge tone="ok">all told</Badge>
        )}
      </td>
      <td className="tnum text-right">{formatCount(n.waiting)}</td>
      <td className={`tnum text-right ${n.dead > 0 ? "font-medium text-bad" : ""}`}>{formatCount(n.dead)}</td>
      <td className="text-fg-2">{n.oldest_due ? <Ago time={n.oldest_due} /> : "–"}</td>
      <td className="text-right">
        {mayWrite && n.served && (
          <Button size="sm" busy={test.isPending} aria-label={`Test ${visible(n.name)}`} onClick={() => test.mutate()}>
            Test
          </Button>
        )}
      </td>
    </tr>
  );
}

function DeadLetters({ mayWrite }: { mayWrite: boolean }) {
  const query = useQuery(deadLettersQuery);
  const client = useQueryClient();
  const notify = useNotify();
  const retry = useMutation({
    mutationFn: (seqs: number[]) => api.post<{ notifications: number }>("/notifications/retry", { seqs }),
    onSuccess: (r) => notify.done(`${plural(r.notifications, "notification")} ${r.notifications === 1 ? "is" : "are"} told again`),
    onError: notify.failed,
    onSettled: () => refreshAlerts(client),
  });
  const all = query.data?.map((n) => n.seq) ?? [];
  if (query.data?.length === 0) return null;
  return (
    <Section
      title="Dead letters"
      query={query}
      what="The dead letters"
      empty={null}
      actions={
        mayWrite &&
        all.length > 1 && (
          <Button size="sm" icon="refresh" busy={retry.isPending} onClick={() => retry.mutate(all)}>
            Retry these {formatCount(all.length)}
          </Button>
        )
      }
    >
      {(list) => (
        <table className="w-full text-sm" aria-label="Dead letters">
          <thead>
            <tr className={head}>
              <th>Notifier</th>
              <th>Alert</th>
              <th>Action</th>
              <th className="text-right">Attempts</th>
              <th>Last error</th>
              <th>Created</th>
              <th>
                <span className="sr-only">Actions</span>
              </th>
            </tr>
          </thead>
          <tbody>
            {list.map((n) => (
              <tr key={n.seq} className={line}>
                <td>
                  <Agent className="font-mono text-xs font-medium">{n.notifier}</Agent>
                </td>
                <td className="max-w-80 truncate">
                  <Link to="/alerts/$id" params={{ id: n.alert_id }} className="hover:text-accent">
                    <Agent>{n.alert_title}</Agent>
                  </Link>
                </td>
                <td>{n.action}</td>
                <td className="tnum text-right">{formatCount(n.attempts)}</td>
                <td className="max-w-96 break-words text-bad">
                  <Agent>{n.error}</Agent>
                </td>
                <td className="text-fg-2">
                  <Ago time={n.created_at} />
                </td>
                <td className="text-right">
                  {mayWrite && (
                    <Button size="sm" aria-label={`Retry ${n.seq}`} busy={retry.isPending} onClick={() => retry.mutate([n.seq])}>
                      Retry
                    </Button>
                  )}
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
    </Section>
  );
}
