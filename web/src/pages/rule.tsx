import { useMutation, useQuery } from "@tanstack/react-query";
import { getRouteApi, Link } from "@tanstack/react-router";
import { useState } from "react";

import { ApiError } from "@/api/client";
import { ruleQuery, testRule } from "@/api/rules";
import type { RuleMatch, RuleStatus, RuleTest } from "@/api/types";
import { formatCount, formatDuration, formatTime, platformName, plural } from "@/lib/format";
import { useTitle } from "@/lib/hooks";
import { Agent, visible } from "@/lib/text";
import { Button, buttonClass, CopyButton, Select } from "@/ui/controls";
import { Ago, Badge, Card, Code, Empty, ErrorNote, Facts, Loading, Notice } from "@/ui/display";
import { head, line } from "@/ui/section";
import { SeverityBadge } from "@/ui/severity";
import { useMay } from "./may";
import { cost, ms, pair, RuleStateBadge } from "./rules";

const route = getRouteApi("/shell/rules/$name");

/** A rule: what it says, how it does, and what it would have done. */
export function RulePage() {
  const { name } = route.useParams();
  const { data: rule, error, refetch } = useQuery(ruleQuery(name));
  const mayTest = useMay("event.read");
  useTitle(`Rule ${visible(name)}`);
  if (error && !rule) {
    const gone = error instanceof ApiError && error.status === 404;
    return (
      <div className="p-5">
        {gone ? (
          <Empty icon="rules" title="There is no such rule" action={<Link to="/rules" className={buttonClass()}>All rules</Link>}>
            A change may have removed it.
          </Empty>
        ) : (
          <ErrorNote error={error} title="The rule could not be loaded" onRetry={() => void refetch()} />
        )}
      </div>
    );
  }
  if (!rule) return <Loading lines={10} />;
  return (
    <div className="mx-auto flex max-w-[100rem] flex-col gap-4 px-5 py-4">
      <header className="flex flex-wrap items-center gap-x-3 gap-y-2">
        <h1 className="min-w-0 truncate font-mono text-lg font-semibold tracking-tight">
          <Agent>{rule.name}</Agent>
        </h1>
        <RuleStateBadge rule={rule} />
        <SeverityBadge severity={rule.severity} />
        <span className="min-w-0 truncate text-sm text-fg-3">
          <Agent>{rule.description}</Agent>
        </span>
        <Link to="/alerts" search={{ rule: rule.name }} className={`ml-auto ${buttonClass()}`}>
          Its alerts
        </Link>
      </header>
      {rule.why && (
        <Notice>
          It is set aside until it changes or the server starts anew: <Agent>{rule.why}</Agent>
        </Notice>
      )}
      <div className="grid items-start gap-4 lg:grid-cols-[minmax(0,3fr)_minmax(0,2fr)]">
        <Card title="Document" actions={rule.document && <CopyButton text={rule.document} />}>
          {rule.document ? (
            <Code label="The rule as YAML" className="max-h-[36rem]">
              {rule.document}
            </Code>
          ) : (
            <p className="text-sm text-fg-3">The newest revision does not have it anymore.</p>
          )}
        </Card>
        <Figures rule={rule} />
      </div>
      <Bounds rule={rule} />
      {mayTest && <Test name={rule.name} />}
    </div>
  );
}

/** Counters that are mostly 0, and shown when they are not. */
const rare = ["suppressed", "resolved", "merged", "asked", "tagged", "refused", "failed", "evicted"] as const;

function Figures({ rule }: { rule: RuleStatus }) {
  const c = rule.counts;
  return (
    <Card title="Since the server started, or since it changed">
      <Facts
        items={[
          ["Evaluated", plural(c.evaluated, "event")],
          ["Matched", formatCount(c.matched)],
          ["Unknown", <span key="u" title="Events that lack something that it looks at, or have no number where it needs one">{formatCount(c.unknown)}</span>],
          ["Fired", formatCount(c.fired)],
          ["Alerted", formatCount(c.alerted)],
          ...rare.filter((k) => c[k] > 0).map((k): [string, string] => [k[0]!.toUpperCase() + k.slice(1), formatCount(c[k])]),
          ["Cost per event", `${cost(rule.cost_ns_per_event)}, ${formatCount(rule.spent_ms)} ms in all`],
          ["To match", <span key="m" title="From the event, by the node's clock, to its match: p50 / p99">{pair(rule.to_match)}</span>],
          ["Queued", <span key="q" title="From its arrival to its match: p50 / p99">{pair(rule.queued)}</span>],
          ["Keys", formatCount(rule.keys)],
          ["Last match", <Ago key="l" time={rule.last_match_at} />],
          [
            "Last error",
            rule.last_error ? (
              <span key="e" className="text-bad">
                <Agent>{rule.last_error}</Agent>, <Ago time={rule.last_error_at} />
              </span>
            ) : (
              "none"
            ),
          ],
        ]}
      />
    </Card>
  );
}

/** How soon it can know, beside how soon it did. */
function Bounds({ rule }: { rule: RuleStatus }) {
  const bounds = rule.bounds ?? [];
  if (bounds.length === 0) return null;
  return (
    <Card flush title="Time to match" >
      <table className="w-full text-sm" aria-label="Time to match">
        <thead>
          <tr className={head}>
            <th>Query</th>
            <th>Platform</th>
            <th className="text-right">Nodes</th>
            <th className="text-right" title="Interval with its splay, and log period: a row of an online node is here by then">Guaranteed</th>
            <th className="text-right" title="From the event to its match, of the last firings">Measured p50</th>
            <th className="text-right">p99</th>
            <th className="text-right">Worst</th>
          </tr>
        </thead>
        <tbody>
          {bounds.map((b) => (
            <tr key={`${b.query} ${b.platform}`} className={line}>
              <td className="max-w-96 truncate font-mono text-xs">
                <Agent>{b.query}</Agent>
              </td>
              <td>{b.platform ? platformName(b.platform) : "unknown"}</td>
              <td className="tnum text-right">{formatCount(b.nodes)}</td>
              <td className="tnum text-right">{formatDuration(b.seconds)}</td>
              {[b.to_match.p50_ms, b.to_match.p99_ms, b.to_match.worst_ms].map((n, i) => (
                <td key={i} className={`tnum text-right ${b.to_match.samples > 0 && n > b.seconds * 1000 ? "font-medium text-warn" : ""}`}>
                  {b.to_match.samples > 0 ? ms(n) : "–"}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </Card>
  );
}

const spans = [
  { value: "1h", label: "1 hour" },
  { value: "24h", label: "24 hours" },
  { value: "7d", label: "7 days" },
];

function Test({ name }: { name: string }) {
  const [since, setSince] = useState("24h");
  const test = useMutation({ mutationFn: (span: string) => testRule(name, span) });
  return (
    <Card
      flush
      title="What it would have done"
      actions={
        <>
          <Select size="sm" label="Since" prefix="since" value={since} onChange={setSince} options={spans} />
          <Button size="sm" icon="play" busy={test.isPending} onClick={() => test.mutate(since)}>
            Test
          </Button>
        </>
      }
    >
      {test.error ? (
        <div className="p-4">
          <ErrorNote error={test.error} title="The rule could not be tested" />
        </div>
      ) : test.data ? (
        <TestResult result={test.data} />
      ) : (
        <p className="p-4 text-sm text-fg-3">A test reads the events of the past and does nothing: no alert, no live query, no tag.</p>
      )}
    </Card>
  );
}

function TestResult({ result: r }: { result: RuleTest }) {
  return (
    <>
      <p className="border-b border-line px-4 py-2.5 text-sm" role="status">
        Of {plural(r.events, "event")} it looks at {formatCount(r.evaluated)}: {formatCount(r.matched)} matched, {formatCount(r.fired)} fired on {plural(r.nodes, "node")} for{" "}
        {plural(r.keys, "key")}
        {r.fired > 0 && <>, {formatCount(Math.round(r.fired_per_day * 10) / 10)} a day</>}. {r.unknown > 0 && <>{formatCount(r.unknown)} lack something that it looks at. </>}
        {cost(r.cost_ns_per_event)} per event.
        {r.truncated && <span className="text-warn"> There were more events than are looked through; these are the newest.</span>}
        {r.notes.map((n) => (
          <span key={n} className="block text-warn">
            <Agent>{n}</Agent>
          </span>
        ))}
      </p>
      {r.matches.length > 0 && <Matches list={r.matches} />}
      {r.matched > r.matches.length && <p className="px-4 py-2 text-xs text-fg-3">The first {formatCount(r.matches.length)} matches are shown.</p>}
    </>
  );
}

function Matches({ list }: { list: RuleMatch[] }) {
  return (
    <div className="max-h-[32rem] overflow-auto">
      <table className="w-full text-sm" aria-label="Matches">
        <thead>
          <tr className={head}>
            <th>Time</th>
            <th>Node</th>
            <th>Title</th>
            <th>Key</th>
            <th>Does</th>
          </tr>
        </thead>
        <tbody>
          {list.map((m) => (
            <tr key={m.event.id} className={line}>
              <td className="tnum whitespace-nowrap text-fg-2">{formatTime(m.event.time)}</td>
              <td>
                <Link to="/nodes/$id" params={{ id: m.event.node_id }} className="hover:text-accent">
                  <Agent>{m.event.hostname || m.event.host_identifier}</Agent>
                </Link>
              </td>
              <td className="max-w-96">
                <Agent>{m.title}</Agent>
              </td>
              <td className="max-w-72 truncate" title={visible(m.key)}>
                <Agent className="font-mono text-xs">{m.key}</Agent>
              </td>
              <td>{m.closes ? <Badge>closes</Badge> : m.fired ? <Badge tone="warn">fires</Badge> : <Badge title="It only counts towards a threshold, or is suppressed">counts</Badge>}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
