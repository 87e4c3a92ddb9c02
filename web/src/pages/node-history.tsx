import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import type { ReactNode } from "react";

import { nodeActivityQuery, nodeHistoryQuery } from "@/api/queries";
import type { Activity, NodeDetail, Sighting } from "@/api/types";
import { formatTime } from "@/lib/format";
import { Agent, visible } from "@/lib/text";
import { Ago, Badge, Card, Empty, ErrorNote, Loading } from "@/ui/display";

/** What the node was given, and what it said of itself. */
export function HistoryTab({ node }: { node: NodeDetail }) {
  return (
    <div className="flex flex-col gap-4">
      <ActivityCard node={node} />
      <Sightings node={node} />
    </div>
  );
}

const head = "h-8 border-b border-line text-left text-xs text-fg-3 [&>th]:px-4 [&>th]:font-medium";
const line = "h-9 border-b border-line/70 last:border-0 hover:bg-hover [&>td]:px-4";

function ActivityCard({ node }: { node: NodeDetail }) {
  const { data, error, refetch } = useQuery(nodeActivityQuery(node.id));
  if (error) return <ErrorNote error={error} title="The activity could not be loaded" onRetry={() => void refetch()} />;
  if (!data) return <Loading />;
  return (
    <Card title="What it was served and asked" flush>
      {data.entries.length === 0 ? (
        <Empty icon="clock" title="It was served and asked nothing yet" />
      ) : (
        <div className="max-h-[26rem] overflow-auto" tabIndex={0} aria-label="What it was served and asked">
          <table className="w-full table-fixed text-sm" aria-label="Activity">
            <thead className="sticky top-0 bg-surface">
              <tr className={head}>
                <th className="w-44">Time</th>
                <th className="w-32">What</th>
                <th>Which</th>
                <th className="w-32">By</th>
                <th className="w-40">State</th>
              </tr>
            </thead>
            <tbody>
              {data.entries.map((a, i) => (
                <ActivityLine key={i} activity={a} />
              ))}
            </tbody>
          </table>
        </div>
      )}
    </Card>
  );
}

const kinds: Record<Activity["kind"], string> = { config: "config", live_query: "live query", tag: "tag" };

function ActivityLine({ activity: a }: { activity: Activity }) {
  return (
    <tr className={line}>
      <td className="tnum text-fg-2">{formatTime(a.time)}</td>
      <td>
        <Badge>{kinds[a.kind]}</Badge>
      </td>
      <td className="truncate" title={visible(a.sql ?? a.message ?? "")}>
        <Which activity={a} />
      </td>
      <td className="truncate">
        <Agent>{a.by}</Agent>
      </td>
      <td className="truncate text-fg-2">{a.last ? <>asked last <Ago time={a.last} /></> : <Agent>{a.state}</Agent>}</td>
    </tr>
  );
}

function Which({ activity: a }: { activity: Activity }): ReactNode {
  if (a.kind === "live_query" && a.id) {
    return (
      <Link to="/live/$id" params={{ id: a.id }} className="font-mono text-xs hover:text-accent">
        <Agent>{a.sql?.replace(/\s+/g, " ").trim()}</Agent>
      </Link>
    );
  }
  return (
    <>
      {a.revision !== undefined && (
        <>
          revision {a.revision}{" "}
          <span className="font-mono text-xs text-fg-3" title={a.hash}>
            {a.hash?.slice(0, 12)}
          </span>{" "}
        </>
      )}
      <Agent>{a.message}</Agent>
    </>
  );
}

/** Every value that the node's attributes had, and when. */
function Sightings({ node }: { node: NodeDetail }) {
  const { data, error, refetch } = useQuery(nodeHistoryQuery(node.id));
  if (error) return <ErrorNote error={error} title="The history could not be loaded" onRetry={() => void refetch()} />;
  if (!data) return <Loading />;
  return (
    <Card title="What it said of itself" flush>
      {data.sightings.length === 0 ? (
        <Empty icon="clock" title="Nothing is known of the past of this node" />
      ) : (
        <table className="w-full table-fixed text-sm" aria-label="History">
          <thead>
            <tr className={head}>
              <th className="w-44">Attribute</th>
              <th>Value</th>
              <th className="w-36">First seen</th>
              <th className="w-36">Last seen</th>
              <th className="w-36">Until</th>
            </tr>
          </thead>
          <tbody>
            {data.sightings.map((s) => (
              <SightingLine key={`${s.attribute} ${s.value} ${s.first_seen}`} sighting={s} />
            ))}
          </tbody>
        </table>
      )}
    </Card>
  );
}

function SightingLine({ sighting: s }: { sighting: Sighting }) {
  return (
    <tr className={line}>
      <td className="truncate">
        <Agent>{s.attribute}</Agent>
      </td>
      <td className="truncate" title={visible(s.value)}>
        <Agent className="font-mono text-xs">{s.value}</Agent>
      </td>
      <td className="text-fg-2">
        <Ago time={s.first_seen} />
      </td>
      <td className="text-fg-2">
        <Ago time={s.last_seen} />
      </td>
      <td className="text-fg-2">{s.until ? <Ago time={s.until} /> : <Badge tone="ok">now</Badge>}</td>
    </tr>
  );
}
