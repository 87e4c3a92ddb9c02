import { useInfiniteQuery } from "@tanstack/react-query";
import { getRouteApi, Link } from "@tanstack/react-router";
import { useCallback } from "react";

import { findingsQuery } from "@/api/health";
import type { NodeFinding } from "@/api/types";
import { formatCount } from "@/lib/format";
import { useTitle } from "@/lib/hooks";
import { Agent, visible } from "@/lib/text";
import { Button } from "@/ui/controls";
import { DataGrid, type GridColumn } from "@/ui/data-grid";
import { Ago, Badge, Card, Empty, ErrorNote, Loading, PageHeader } from "@/ui/display";
import { SeverityBadge } from "@/ui/severity";
import { kindName } from "./finding-kind";

const route = getRouteApi("/shell/findings");

const columns: GridColumn<NodeFinding>[] = [
  { id: "severity", header: "Severity", width: "92px", cell: (f) => <SeverityBadge severity={f.severity} /> },
  {
    id: "node",
    header: "Node",
    width: "minmax(120px, 200px)",
    cell: (f) => (
      <Link to="/nodes/$id" params={{ id: f.node_id }} className="font-medium hover:text-accent">
        <Agent>{f.hostname || f.node_id}</Agent>
      </Link>
    ),
  },
  { id: "kind", header: "Kind", width: "160px", cell: (f) => kindName(f.kind) },
  { id: "text", header: "Finding", width: "minmax(240px, 2fr)", cell: (f) => <span title={visible(f.text)}><Agent>{f.text}</Agent></span> },
  { id: "count", header: "Count", width: "76px", align: "right", cell: (f) => <span title="How often it was seen">{formatCount(f.count)}</span> },
  { id: "first", header: "First seen", width: "104px", cell: (f) => <span className="text-fg-2"><Ago time={f.opened_at} /></span> },
  { id: "last", header: "Last seen", width: "104px", cell: (f) => <span className="text-fg-2"><Ago time={f.last_at} /></span> },
  { id: "state", header: "State", width: "92px", cell: (f) => (f.closed_at ? <Badge>closed</Badge> : <Badge tone="warn">open</Badge>) },
];

/** What was found about nodes, of one kind or of all. */
export function FindingsPage() {
  const { kind, past } = route.useSearch();
  const navigate = route.useNavigate();
  const title = kind ? `Findings: ${kindName(kind)}` : "Findings";
  useTitle(title);
  const query = useInfiniteQuery(findingsQuery(kind, past !== undefined));
  const { data, error, hasNextPage, fetchNextPage, isFetchingNextPage } = query;
  const more = useCallback(() => {
    if (hasNextPage && !isFetchingNextPage) void fetchNextPage();
  }, [hasNextPage, isFetchingNextPage, fetchNextPage]);
  return (
    <div className="mx-auto flex h-full max-w-[100rem] flex-col gap-4 px-5 py-4">
      <PageHeader title={title} note={past ? "Open and past" : "Open"}>
        <Button aria-pressed={past !== undefined} onClick={() => void navigate({ search: (old) => ({ ...old, past: past ? undefined : "1" }), replace: true })}>
          {past ? "Only open ones" : "Past ones, too"}
        </Button>
        {kind && <Button onClick={() => void navigate({ search: (old) => ({ ...old, kind: undefined }), replace: true })}>All kinds</Button>}
      </PageHeader>
      {error && !data ? (
        <ErrorNote error={error} title="The findings could not be loaded" onRetry={() => void query.refetch()} />
      ) : (
        <Card flush className="flex-1 overflow-hidden">
          {!data ? (
            <Loading />
          ) : (
            <DataGrid
              label="Findings"
              columns={columns}
              rows={data.pages.flatMap((p) => p.findings)}
              rowKey={(f) => `${f.node_id} ${f.kind} ${f.subject ?? ""} ${f.opened_at}`}
              rowHeight={40}
              minWidth={940}
              stale={query.isPlaceholderData}
              onEndReached={more}
              footer={isFetchingNextPage ? "Loading more…" : undefined}
              empty={
                <Empty icon="check" title="Nothing is found">
                  No node has such a finding{past ? "" : " that is open"}.
                </Empty>
              }
            />
          )}
        </Card>
      )}
    </div>
  );
}
