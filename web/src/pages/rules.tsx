import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";

import { rulesQuery } from "@/api/rules";
import type { RuleLatency, RuleStatus } from "@/api/types";
import { formatCount, formatDuration } from "@/lib/format";
import { useTitle } from "@/lib/hooks";
import { Agent, visible } from "@/lib/text";
import { Ago, Badge, Empty, PageHeader, type BadgeTone } from "@/ui/display";
import { head, line, Section } from "@/ui/section";
import { SeverityBadge } from "@/ui/severity";

const tones: Record<RuleStatus["state"], BadgeTone> = { on: "ok", off: "neutral", shadow: "accent", "set aside": "bad" };

export function RuleStateBadge({ rule }: { rule: RuleStatus }) {
  return (
    <Badge tone={tones[rule.state] ?? "neutral"} {...(rule.why ? { title: visible(rule.why) } : {})}>
      {rule.state}
    </Badge>
  );
}

export const ms = (n: number): string => (n < 10_000 ? `${formatCount(n)} ms` : formatDuration(n / 1000));

/** The middle and the slow end of the last firings; a dash before there was one. */
export const pair = (l: RuleLatency): string => (l.samples > 0 ? `${ms(l.p50_ms)} / ${ms(l.p99_ms)}` : "–");

export const cost = (ns: number): string => (ns === 0 ? "–" : ns < 10_000 ? `${formatCount(ns)} ns` : `${formatCount(Math.round(ns / 1000))} µs`);

/** Rules, and how they do. */
export function RulesPage() {
  useTitle("Rules");
  return (
    <div className="mx-auto flex max-w-[100rem] flex-col gap-4 px-5 py-4">
      <PageHeader title="Rules" note="Figures are since the server started, or since the rule changed" />
      <Section
        title="Rules"
        query={useQuery(rulesQuery)}
        what="The rules"
        empty={
          <Empty icon="rules" title="There is no rule yet">
            A resource of kind <code className="font-mono text-xs">Rule</code> says which events open an alert, ask a live query or tag a node.{" "}
            <code className="font-mono text-xs">muster apply</code> proposes it.
          </Empty>
        }
      >
        {(list) => (
          <table className="w-full text-sm" aria-label="Rules">
            <thead>
              <tr className={head}>
                <th>Name</th>
                <th>State</th>
                <th>Severity</th>
                <th className="text-right">Matched</th>
                <th className="text-right" title="Matches that did something, or would in shadow mode">Fired</th>
                <th className="text-right" title="What its evaluation takes">Cost per event</th>
                <th className="text-right" title="From the event, by the node's clock, to its match">To match, p50 / p99</th>
                <th>Last match</th>
                <th>Last error</th>
              </tr>
            </thead>
            <tbody>
              {list.map((r) => (
                <tr key={r.name} className={line}>
                  <td className="max-w-96">
                    <Link to="/rules/$name" params={{ name: r.name }} className="font-mono text-xs font-medium hover:text-accent">
                      <Agent>{r.name}</Agent>
                    </Link>
                    {r.description && (
                      <span className="block truncate text-xs text-fg-3" title={visible(r.description)}>
                        <Agent>{r.description}</Agent>
                      </span>
                    )}
                  </td>
                  <td>
                    <RuleStateBadge rule={r} />
                  </td>
                  <td>
                    <SeverityBadge severity={r.severity} />
                  </td>
                  <td className="tnum text-right">{formatCount(r.counts.matched)}</td>
                  <td className="tnum text-right">{formatCount(r.counts.fired)}</td>
                  <td className="tnum text-right whitespace-nowrap">{cost(r.cost_ns_per_event)}</td>
                  <td className="tnum text-right whitespace-nowrap">{pair(r.to_match)}</td>
                  <td className="text-fg-2">
                    <Ago time={r.last_match_at} />
                  </td>
                  <td className="max-w-64 truncate text-bad" title={visible(r.last_error ?? r.why ?? "")}>
                    <Agent>{r.last_error ?? r.why}</Agent>
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        )}
      </Section>
    </div>
  );
}
