import { useInfiniteQuery } from "@tanstack/react-query";
import { Link, useNavigate } from "@tanstack/react-router";

import { liveListQuery } from "@/api/queries";
import type { Live } from "@/api/types";
import { formatCount } from "@/lib/format";
import { Agent, visible } from "@/lib/text";
import { Button } from "@/ui/controls";
import { Ago, Card, Empty, ErrorNote, Loading } from "@/ui/display";
import { LiveStateBadge, settledCount, StateBar } from "@/ui/live-state";
import { useLiveEditor } from "./live-context";

const examples: [string, string][] = [
  ["Listening ports", "SELECT p.name, l.address, l.port, l.protocol\nFROM listening_ports l JOIN processes p USING (pid)\nWHERE l.port > 0\nORDER BY l.port"],
  ["Processes without a file", "SELECT pid, name, path, cmdline\nFROM processes\nWHERE on_disk = 0"],
  ["Who is logged in", "SELECT user, tty, host, datetime(time, 'unixepoch') AS since\nFROM logged_in_users"],
  ["Uptime", "SELECT days, hours, minutes FROM uptime"],
];

export function LiveHistory() {
  const { data, error, refetch, hasNextPage, fetchNextPage, isFetchingNextPage } = useInfiniteQuery(liveListQuery);
  const { setSql, sql } = useLiveEditor();
  const list = data?.pages.flatMap((p) => p.live) ?? [];
  return (
    <>
      {sql.trim() === "" && (
        <div className="flex flex-wrap items-center gap-1.5">
          <span className="mr-1 text-xs text-fg-3">Start from</span>
          {examples.map(([name, text]) => (
            <Button key={name} size="sm" onClick={() => setSql(text)}>
              {name}
            </Button>
          ))}
        </div>
      )}
      <Card title="History" flush className="shrink-0">
        {error && (
          <div className="p-4">
            <ErrorNote error={error} title="The history could not be loaded" onRetry={() => void refetch()} />
          </div>
        )}
        {!data && !error && <Loading />}
        {data && list.length === 0 && (
          <Empty icon="live" title="No live query yet">
            Write a query, choose whom it is for, and run it. It stays here with its results.
          </Empty>
        )}
        {list.length > 0 && <HistoryTable list={list} onUse={setSql} />}
        {hasNextPage && (
          <div className="flex justify-center border-t border-line p-2">
            <Button size="sm" tone="ghost" busy={isFetchingNextPage} onClick={() => void fetchNextPage()}>
              Load older ones
            </Button>
          </div>
        )}
      </Card>
    </>
  );
}

function HistoryTable({ list, onUse }: { list: Live[]; onUse: (sql: string) => void }) {
  const navigate = useNavigate();
  return (
    <table className="w-full table-fixed text-sm" aria-label="History">
      <thead>
        <tr className="h-8 border-b border-line text-left text-xs text-fg-3 [&>th]:px-3 [&>th]:font-medium [&>th:first-child]:pl-4">
          <th>Query</th>
          <th className="w-26">State</th>
          <th className="w-36">Nodes</th>
          <th className="w-20 text-right">Rows</th>
          <th className="w-26">Started</th>
          <th className="w-18">
            <span className="sr-only">Actions</span>
          </th>
        </tr>
      </thead>
      <tbody>
        {list.map((l) => (
          <tr
            key={l.id}
            className="h-10 cursor-pointer border-b border-line/70 last:border-0 hover:bg-hover [&>td]:px-3 [&>td:first-child]:pl-4"
            onClick={() => void navigate({ to: "/live/$id", params: { id: l.id } })}
          >
            <td className="truncate">
              <Link to="/live/$id" params={{ id: l.id }} title={visible(l.sql)} className="font-mono text-xs hover:text-accent" onClick={(e) => e.stopPropagation()}>
                <Agent>{l.sql.replace(/\s+/g, " ").trim()}</Agent>
              </Link>
            </td>
            <td>
              <LiveStateBadge state={l.state} />
            </td>
            <td>
              <span className="tnum block text-xs whitespace-nowrap text-fg-2" title={`${formatCount(l.counts.failed ?? 0)} failed`}>
                {formatCount(settledCount(l))} of {formatCount(l.nodes)}
              </span>
              <StateBar live={l} height={4} />
            </td>
            <td className="tnum text-right">{formatCount(l.rows)}</td>
            <td className="truncate text-fg-2">
              <span title={`by ${l.created_by}`}>
                <Ago time={l.created_at} />
              </span>
            </td>
            <td className="text-right" onClick={(e) => e.stopPropagation()}>
              <Button size="sm" tone="ghost" onClick={() => onUse(l.sql)} title="Put it into the editor">
                Edit
              </Button>
            </td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}
