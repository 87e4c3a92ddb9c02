import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { useState } from "react";

import { boundQuery, enrollmentQueriesQuery, triggersQuery } from "@/api/triggers";
import type { EnrollmentQuery, LiveBound, Trigger } from "@/api/types";
import { formatCount, formatDuration, formatTime } from "@/lib/format";
import { useTitle } from "@/lib/hooks";
import { Agent, visible } from "@/lib/text";
import { Button } from "@/ui/controls";
import { Ago, Badge, Empty, PageHeader } from "@/ui/display";
import { head, line, Section } from "@/ui/section";
import { useMay } from "./may";
import { TriggerDialog } from "./trigger-token";

/** What starts live queries without a person: hooks from outside, and new nodes. And how fast nodes answer. */
export function TriggersPage() {
  useTitle("Triggers");
  return (
    <div className="mx-auto flex max-w-[100rem] flex-col gap-4 px-5 py-4">
      <PageHeader title="Triggers" note="Live queries that nobody has to ask by hand" />
      <Triggers />
      <EnrollmentQueries />
      <Bounds />
    </div>
  );
}

const ms = (n: number | undefined): string => (n === undefined || n <= 0 ? "–" : n < 10_000 ? `${formatCount(Math.round(n))} ms` : formatDuration(n / 1000));
const pair = (a: number | undefined, b: number | undefined): string => (a && a > 0 ? `${ms(a)} / ${ms(b)}` : "–");

function Triggers() {
  const query = useQuery(triggersQuery);
  const [open, setOpen] = useState<Trigger | null>(null);
  const mayWrite = useMay("trigger.write");
  return (
    <>
      <Section
        title="Triggers"
        query={query}
        what="The triggers"
        empty={
          <Empty icon="triggers" title="There is no trigger yet">
            A resource of kind <code className="font-mono text-xs">Trigger</code> gives a system outside an address that asks one node something.{" "}
            <code className="font-mono text-xs">muster apply</code> proposes it; then make its token here.
          </Empty>
        }
      >
        {(list) => (
          <table className="w-full text-sm" aria-label="Triggers">
            <thead>
              <tr className={head}>
                <th>Name</th>
                <th>Token</th>
                <th className="text-right">Fired</th>
                <th className="text-right">Answered</th>
                <th>Last</th>
                <th className="text-right" title="From the call to the node's poll that took the query">Delivered, p50 / p99</th>
                <th className="text-right" title="From the call to the node's answer">Answered, p50 / p99</th>
                <th>
                  <span className="sr-only">Actions</span>
                </th>
              </tr>
            </thead>
            <tbody>
              {list.map((t) => (
                <tr key={t.name} className={line}>
                  <td className="max-w-96">
                    <Agent className="font-mono text-xs font-medium">{t.name}</Agent>
                    {t.description && (
                      <span className="block truncate text-xs text-fg-3" title={visible(t.description)}>
                        <Agent>{t.description}</Agent>
                      </span>
                    )}
                  </td>
                  <td>{t.has_token ? <Badge tone="ok" title={t.token_since && `since ${formatTime(t.token_since)}`}>set</Badge> : <Badge tone="warn" title="Nobody can call it">none yet</Badge>}</td>
                  <td className="tnum text-right">{formatCount(t.fired)}</td>
                  <td className="tnum text-right">{formatCount(t.answered)}</td>
                  <td className="text-fg-2">
                    <Ago time={t.last_fired_at} />
                  </td>
                  <td className="tnum text-right whitespace-nowrap">{pair(t.latency?.delivered_p50_ms, t.latency?.delivered_p99_ms)}</td>
                  <td className="tnum text-right whitespace-nowrap">{pair(t.latency?.answered_p50_ms, t.latency?.answered_p99_ms)}</td>
                  <td className="text-right">
                    <Button size="sm" aria-label={`Use ${visible(t.name)}`} onClick={() => setOpen(t)}>
                      {t.has_token || !mayWrite ? "Call it" : "Make its token"}
                    </Button>
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        )}
      </Section>
      {open && <TriggerDialog trigger={open} onClose={() => setOpen(null)} />}
    </>
  );
}

function EnrollmentQueries() {
  return (
    <Section<EnrollmentQuery>
      title="Enrollment queries"
      query={useQuery(enrollmentQueriesQuery)}
      what="The enrollment queries"
      empty={
        <Empty icon="nodes" title="There is no enrollment query yet">
          A resource of kind <code className="font-mono text-xs">EnrollmentQuery</code> asks each new node once, in its very first poll. Its rows become events.{" "}
          <code className="font-mono text-xs">muster apply</code> proposes it.
        </Empty>
      }
    >
      {(list) => (
        <table className="w-full text-sm" aria-label="Enrollment queries">
          <thead>
            <tr className={head}>
              <th>Name</th>
              <th>For</th>
              <th>Query</th>
              <th className="text-right">Asked</th>
              <th className="text-right">Answered</th>
              <th className="text-right" title="Or not in time">Failed</th>
              <th className="text-right">Waiting</th>
              <th className="text-right" title="From the enrolment to the answer">Answered, p50 / p99</th>
            </tr>
          </thead>
          <tbody>
            {list.map((q) => (
              <tr key={q.name} className={line}>
                <td className="max-w-72">
                  {q.live_id ? (
                    <Link to="/live/$id" params={{ id: q.live_id }} className="font-mono text-xs font-medium hover:text-accent">
                      <Agent>{q.name}</Agent>
                    </Link>
                  ) : (
                    <Agent className="font-mono text-xs font-medium">{q.name}</Agent>
                  )}
                  {q.description && (
                    <span className="block truncate text-xs text-fg-3">
                      <Agent>{q.description}</Agent>
                    </span>
                  )}
                </td>
                <td className="max-w-56 truncate font-mono text-xs text-fg-2">
                  <Agent>{q.selector}</Agent>
                </td>
                <td className="max-w-80 truncate" title={visible(q.sql)}>
                  <Agent className="font-mono text-xs text-fg-2">{q.sql.replace(/\s+/g, " ")}</Agent>
                </td>
                {[q.asked, q.answered, q.failed + q.expired, q.waiting].map((n, i) => (
                  <td key={i} className="tnum text-right">
                    {formatCount(n)}
                  </td>
                ))}
                <td className="tnum text-right whitespace-nowrap">{pair(q.latency?.answered_p50_ms, q.latency?.answered_p99_ms)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
    </Section>
  );
}

/** What every node is sure to keep to, and what nodes did. */
function Bounds() {
  return (
    <Section<LiveBound>
      title="Time to answer"
      query={useQuery(boundQuery)}
      what="The times"
      empty={
        <Empty icon="clock" title="No node is here yet">
          As soon as nodes poll, this says how long a live query takes to reach each group of them.
        </Empty>
      }
    >
      {(list) => (
        <>
          <p className="border-b border-line px-4 py-2 text-xs text-fg-3">
            A node that is online and idle has a question after the guaranteed time at most: its slowest poll, as its config says, and a margin. The last columns are of answers to
            triggers and enrollment queries within 30 days.
          </p>
          <table className="w-full text-sm" aria-label="Time to answer">
            <thead>
              <tr className={head}>
                <th>Group</th>
                <th className="text-right">Nodes</th>
                <th className="text-right">Slowest poll</th>
                <th className="text-right">Guaranteed</th>
                <th className="text-right">Answers</th>
                <th className="text-right">p50</th>
                <th className="text-right">p99</th>
              </tr>
            </thead>
            <tbody>
              {list.map((b) => (
                <tr key={b.group} className={line}>
                  <td>
                    <Agent className="font-mono text-xs font-medium">{b.group}</Agent>
                  </td>
                  <td className="tnum text-right">
                    {formatCount(b.nodes)}
                    {Boolean(b.mute) && (
                      <span className="text-warn" title="Their config turns live queries off">
                        {" "}
                        ({formatCount(b.mute!)} mute)
                      </span>
                    )}
                  </td>
                  <td className="tnum text-right">{b.poll_seconds_max > 0 ? `${formatCount(b.poll_seconds_max)} s` : "–"}</td>
                  <td className="tnum text-right font-medium">{b.guaranteed_seconds > 0 ? `${formatCount(b.guaranteed_seconds)} s` : "–"}</td>
                  <td className="tnum text-right">{formatCount(b.observed.answered)}</td>
                  <td className="tnum text-right">{ms(b.observed.p50_ms)}</td>
                  <td className="tnum text-right">{ms(b.observed.p99_ms)}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </>
      )}
    </Section>
  );
}
