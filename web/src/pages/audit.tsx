import { useInfiniteQuery } from "@tanstack/react-query";
import { useCallback } from "react";

import { auditQuery } from "@/api/queries";
import type { AuditEntry } from "@/api/types";
import { formatTime } from "@/lib/format";
import { useTitle } from "@/lib/hooks";
import { Agent } from "@/lib/text";
import { DataGrid, type GridColumn } from "@/ui/data-grid";
import { Badge, Card, Empty, ErrorNote, Loading, PageHeader } from "@/ui/display";

const columns: GridColumn<AuditEntry>[] = [
  { id: "seq", header: "No.", width: "72px", align: "right", cell: (e) => <span className="text-fg-3">{e.seq}</span> },
  { id: "time", header: "Time", width: "172px", cell: (e) => <span className="tnum text-fg-2">{formatTime(e.time)}</span> },
  { id: "actor", header: "Actor", width: "140px", cell: (e) => <Agent className="font-medium">{e.actor}</Agent> },
  { id: "action", header: "Action", width: "170px", cell: (e) => <Badge mono>{e.action}</Badge> },
  { id: "target", header: "Target", width: "minmax(140px, 1fr)", cell: (e) => <Agent className="font-mono text-xs">{e.target}</Agent> },
  { id: "detail", header: "Detail", width: "minmax(220px, 2fr)", cell: (e) => <span title={e.detail} className="text-fg-2"><Agent>{e.detail}</Agent></span> },
  { id: "hash", header: "Hash", width: "130px", cell: (e) => <span title={e.hash} className="font-mono text-xs text-fg-3">{e.hash.slice(0, 12)}</span> },
];

export function AuditPage() {
  useTitle("Audit log");
  const { data, error, refetch, hasNextPage, fetchNextPage, isFetchingNextPage } = useInfiniteQuery(auditQuery);
  const entries = data?.pages.flatMap((p) => p.entries) ?? [];
  const more = useCallback(() => {
    if (hasNextPage && !isFetchingNextPage) void fetchNextPage();
  }, [hasNextPage, isFetchingNextPage, fetchNextPage]);
  return (
    <div className="mx-auto flex h-full max-w-[100rem] flex-col gap-4 px-5 py-4">
      <PageHeader title="Audit log" />
      <p className="-mt-2 text-sm text-fg-3">
        Who did what, newest first. Each entry is linked to the one before it by hash; <code className="font-mono text-xs">muster audit verify</code> checks
        them all.
      </p>
      {error && <ErrorNote error={error} title="The audit log could not be loaded" onRetry={() => void refetch()} />}
      <Card flush className="flex-1 overflow-hidden">
        {!data && !error ? (
          <Loading />
        ) : (
          <DataGrid
            label="Audit log"
            columns={columns}
            rows={entries}
            rowKey={(e) => e.seq}
            onEndReached={more}
            minWidth={960}
            empty={<Empty icon="audit" title="Nothing was done yet" />}
            footer={isFetchingNextPage ? "Loading more…" : !hasNextPage && entries.length > 0 ? "The beginning of the log" : undefined}
          />
        )}
      </Card>
    </div>
  );
}
