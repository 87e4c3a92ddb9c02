import { useInfiniteQuery, useQuery } from "@tanstack/react-query";
import { getRouteApi, Link } from "@tanstack/react-router";
import { useCallback } from "react";

import { changesQuery, isRolling, rolloutQuery } from "@/api/queries";
import type { Change } from "@/api/types";
import { cx } from "@/lib/cx";
import { formatCount } from "@/lib/format";
import { useTitle } from "@/lib/hooks";
import { Agent, visible } from "@/lib/text";
import { Button, Select } from "@/ui/controls";
import { DataGrid, type GridColumn } from "@/ui/data-grid";
import { Ago, Card, Empty, ErrorNote, Loading, PageHeader } from "@/ui/display";
import { TierBadge } from "@/ui/tier";
import { ChangeStateBadge } from "./change-state";
import { RolloutCard } from "./rollout";

const route = getRouteApi("/shell/changes");

const columns: GridColumn<Change>[] = [
  { id: "id", header: "No.", width: "64px", align: "right", cell: (c) => <span className="text-fg-3">{c.id}</span> },
  { id: "state", header: "State", width: "104px", cell: (c) => <ChangeStateBadge state={c.state} /> },
  {
    id: "message",
    header: "Message",
    width: "minmax(200px, 2fr)",
    cell: (c) => (
      <Link
        to="/changes/$id"
        params={{ id: c.id }}
        title={visible(c.message)}
        onClick={(e) => e.stopPropagation()}
        className="font-medium hover:text-accent"
      >
        <Agent>{c.message || `change ${c.id}`}</Agent>
      </Link>
    ),
  },
  { id: "author", header: "Author", width: "minmax(90px, 140px)", cell: (c) => <Agent className="text-fg-2">{c.author}</Agent> },
  { id: "tier", header: "Tier", width: "112px", cell: (c) => <TierBadge tier={c.tier} short /> },
  { id: "approvals", header: "Approvals", width: "96px", align: "right", cell: (c) => (c.needed > 0 ? `${c.approvals.length} of ${c.needed}` : "–") },
  { id: "nodes", header: "Nodes", width: "80px", align: "right", cell: (c) => formatCount(c.effect.nodes) },
  { id: "revision", header: "Revision", width: "84px", align: "right", cell: (c) => c.revision ?? "–" },
  { id: "when", header: "Proposed", width: "110px", cell: (c) => <span className="text-fg-2"><Ago time={c.created_at} /></span> },
];

const states = [
  { value: "", label: "Any state" },
  ...["pending", "approved", "applied", "rejected", "withdrawn", "stale"].map((value) => ({ value, label: value })),
];

/** Who wants to change what agents run, and how the newest change reaches them. */
export function ChangesPage() {
  useTitle("Changes");
  const { state } = route.useSearch();
  const navigate = route.useNavigate();
  const { data: rollout } = useQuery(rolloutQuery());
  const query = useInfiniteQuery(changesQuery(state));
  const { data, error, hasNextPage, fetchNextPage, isFetchingNextPage } = query;
  const changes = data?.pages.flatMap((p) => p.changes) ?? [];
  const more = useCallback(() => {
    if (hasNextPage && !isFetchingNextPage) void fetchNextPage();
  }, [hasNextPage, isFetchingNextPage, fetchNextPage]);
  const rolling = rollout && isRolling(rollout);
  const show = (next: string) => void navigate({ search: next ? { state: next } : {}, replace: true });
  return (
    <div className={cx("mx-auto flex max-w-[100rem] flex-col gap-4 px-5 py-4", !rolling && "h-full")}>
      <PageHeader title="Changes">
        <Select label="State" value={state ?? ""} onChange={show} options={states} />
      </PageHeader>
      {rolling && <RolloutCard rollout={rollout} />}
      {error && <ErrorNote error={error} title="The changes could not be loaded" onRetry={() => void query.refetch()} />}
      <Card flush className={cx("overflow-hidden", rolling ? "h-96" : "flex-1")}>
        {!data && !error ? (
          <Loading />
        ) : (
          <DataGrid
            label="Changes"
            columns={columns}
            rows={changes}
            rowKey={(c) => c.id}
            minWidth={940}
            stale={query.isPlaceholderData}
            onRowClick={(c) => void navigate({ to: "/changes/$id", params: { id: c.id } })}
            onEndReached={more}
            footer={isFetchingNextPage ? "Loading more…" : undefined}
            empty={<NoChanges filtered={Boolean(state)} onReset={() => show("")} />}
          />
        )}
      </Card>
    </div>
  );
}

function NoChanges({ filtered, onReset }: { filtered: boolean; onReset: () => void }) {
  if (filtered) return <Empty icon="filter" title="No change is in this state" action={<Button onClick={onReset}>All changes</Button>} />;
  return (
    <Empty icon="changes" title="Nothing was changed yet">
      <code className="font-mono text-xs">muster export --dir resources</code> writes what agents run, and{" "}
      <code className="font-mono text-xs">muster apply -f resources</code> proposes what was edited.
    </Empty>
  );
}
