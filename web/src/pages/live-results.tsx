import { useQuery, useQueryClient } from "@tanstack/react-query";
import { getRouteApi, Link } from "@tanstack/react-router";
import { Tabs } from "radix-ui";
import { useEffect, useRef } from "react";

import { ApiError } from "@/api/client";
import { liveQuery, refreshLive } from "@/api/live";
import type { Live } from "@/api/types";
import { cx } from "@/lib/cx";
import { formatCount } from "@/lib/format";
import { useLiveStream } from "@/lib/live-stream";
import { Card, Empty, ErrorNote, Loading } from "@/ui/display";
import { isOpenLive, nodeStates } from "@/ui/live-state";
import { Compare } from "./live-compare";
import { useLiveEditor } from "./live-context";
import { Groups } from "./live-groups";
import { NodesIn } from "./live-nodes";
import { Progress } from "./live-progress";
import { Rows } from "./live-rows";

const route = getRouteApi("/shell/live/$id");

/** One live query: its progress, its rows as they come, its nodes by state. */
export function LiveResultsPage() {
  const { id } = route.useParams();
  const { data: live, error, refetch } = useQuery(liveQuery(id));
  if (live) return <LiveResults key={id} fetched={live} />;
  if (error instanceof ApiError && error.status === 404) {
    return (
      <Card>
        <Empty icon="live" title="There is no such live query">
          <Link to="/live" className="text-accent hover:underline">
            History
          </Link>
        </Empty>
      </Card>
    );
  }
  if (error) return <ErrorNote error={error} title="The live query could not be loaded" onRetry={() => void refetch()} />;
  return <Loading />;
}

function LiveResults({ fetched }: { fetched: Live }) {
  const id = fetched.id;
  const client = useQueryClient();
  const stream = useLiveStream(id, isOpenLive(fetched));
  // Finds out whether the session is over, which the stream cannot tell.
  useQuery({ ...liveQuery(id), refetchInterval: stream.connection === "lost" ? 5000 : false });
  const live = isOpenLive(fetched) && stream.live ? { ...stream.live, selector: fetched.selector } : fetched;
  useEffect(() => {
    // What is kept beside the stream learns of the end.
    if (stream.connection === "ended" && stream.live) refreshLive(client, { ...stream.live, selector: fetched.selector });
  }, [stream.connection, stream.live, fetched.selector, client]);
  useOffered(fetched);
  return (
    <>
      <Progress live={live} lost={stream.connection === "lost"} />
      {live.state !== "pending" && live.state !== "rejected" && <Results live={live} />}
    </>
  );
}

/** Coming by a link: show the text that gave these results. */
function useOffered(live: Live): void {
  const { sql, setSql } = useLiveEditor();
  const offered = useRef(false);
  useEffect(() => {
    if (!offered.current && sql.trim() === "") setSql(live.sql);
    offered.current = true;
  }, [live, sql, setSql]);
}

function Results({ live }: { live: Live }) {
  const { tab = "rows", filter: where } = route.useSearch();
  const navigate = route.useNavigate();
  const show = (value: string) => void navigate({ search: (old) => ({ ...old, tab: value === "rows" ? undefined : value }), replace: true });
  const states = nodeStates.filter(({ state }) => (live.counts[state] ?? 0) > 0 || ["answered", "failed", "waiting"].includes(state));
  const filter = (next: string) => void navigate({ search: (old) => ({ ...old, tab: undefined, filter: next || undefined }), replace: true });
  return (
    <Tabs.Root value={tab} onValueChange={show} className="flex min-h-96 flex-1 flex-col rounded-lg border border-line bg-surface shadow-card">
      <Tabs.List aria-label="Results" className="flex h-10 shrink-0 items-stretch gap-0.5 overflow-x-auto border-b border-line px-2">
        <ResultTab value="rows" label="Rows" count={live.rows} />
        <ResultTab value="groups" label="Counts" />
        <ResultTab value="compare" label="Compare" />
        <span className="mx-1.5 my-3 w-px shrink-0 bg-line-strong" aria-hidden="true" />
        {states.map(({ state, label, fill }) => (
          <ResultTab key={state} value={state} label={label} count={live.counts[state] ?? 0} fill={fill} />
        ))}
      </Tabs.List>
      <Tabs.Content value="rows" className="flex min-h-0 flex-1 flex-col data-[state=inactive]:hidden">
        <Rows live={live} where={where ?? ""} onWhere={filter} />
      </Tabs.Content>
      <Tabs.Content value="groups" className="flex min-h-0 flex-1 flex-col data-[state=inactive]:hidden">
        <Groups live={live} where={where ?? ""} onWhere={filter} />
      </Tabs.Content>
      <Tabs.Content value="compare" className="flex min-h-0 flex-1 flex-col data-[state=inactive]:hidden">
        <Compare live={live} />
      </Tabs.Content>
      {states.map(({ state }) => (
        <Tabs.Content key={state} value={state} className="flex min-h-0 flex-1 flex-col data-[state=inactive]:hidden">
          <NodesIn state={state} live={live} />
        </Tabs.Content>
      ))}
    </Tabs.Root>
  );
}

function ResultTab({ value, label, count, fill }: { value: string; label: string; count?: number; fill?: string }) {
  return (
    <Tabs.Trigger
      value={value}
      className="relative inline-flex shrink-0 items-center gap-1.5 px-2.5 text-sm font-medium text-fg-3 after:absolute after:inset-x-1.5 after:bottom-0 after:h-0.5 hover:text-fg focus-visible:outline-offset-[-3px] data-[state=active]:text-fg data-[state=active]:after:bg-accent"
    >
      {fill && <span aria-hidden="true" className={cx("size-2 rounded-full", fill, fill === "bg-transparent" && "border border-input")} />}
      {label}
      {count !== undefined && <span className="tnum text-xs text-fg-3">{formatCount(count)}</span>}
    </Tabs.Trigger>
  );
}
