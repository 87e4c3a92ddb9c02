import type { InfiniteData, UseInfiniteQueryResult } from "@tanstack/react-query";
import { useCallback, useMemo } from "react";

import type { EventState } from "@/api/types";
import { formatCount, plural } from "@/lib/format";
import { Agent } from "@/lib/text";
import { Card, Empty, Loading } from "@/ui/display";
import { EventList, type EventListProps } from "./event-list";

interface EventStateProps extends Pick<EventListProps, "onWhere" | "onQuery" | "onNode"> {
  /** The query; without one there is no state. */
  name: string | undefined;
  query: UseInfiniteQueryResult<InfiniteData<EventState>>;
}

/** What nodes' last results of a query are. */
export function EventStateRows({ name, query, ...acts }: EventStateProps) {
  const { data, error, isPlaceholderData, hasNextPage, isFetchingNextPage, fetchNextPage } = query;
  const rows = useMemo(() => data?.pages.flatMap((p) => p.rows) ?? [], [data]);
  const more = useCallback(() => {
    if (hasNextPage && !isFetchingNextPage) void fetchNextPage();
  }, [hasNextPage, isFetchingNextPage, fetchNextPage]);
  const first = data?.pages[0];
  const partial = useMemo(() => new Set(rows.filter((r) => r.partial).map((r) => r.node_id)).size, [rows]);
  if (!name) {
    return (
      <Card flush>
        <Empty icon="events" title="Choose a query">
          The current state is what each node's last results of one query are: its last snapshot, or what was added and not removed since.
        </Empty>
      </Card>
    );
  }
  return (
    <Card flush className="overflow-hidden">
      {first && (
        <p className="flex h-9 items-center gap-1 border-b border-line px-3 text-xs text-fg-3" role="status">
          <span className="tnum">
            {plural(first.nodes, "node")} of {formatCount(first.known)} that ran <Agent className="font-mono">{name}</Agent> {first.nodes === 1 ? "has" : "have"} such rows.
          </span>
          {partial > 0 && <span className="text-warn">Of {plural(partial, "node")}, rows may be missing: what was said first is not kept anymore.</span>}
        </p>
      )}
      {!data ? (
        !error && <Loading lines={10} />
      ) : (
        <div className="h-[calc(100%-2.25rem)]">
          <EventList
            events={rows}
            stale={isPlaceholderData || error !== null}
            onEndReached={more}
            footer={isFetchingNextPage ? "Loading more…" : undefined}
            empty={<Empty icon="events" title="No node has such a row" />}
            {...acts}
          />
        </div>
      )}
    </Card>
  );
}
