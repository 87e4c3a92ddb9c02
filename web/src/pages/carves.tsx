import { useInfiniteQuery, useQuery } from "@tanstack/react-query";
import { getRouteApi } from "@tanstack/react-router";

import { carvesQuery } from "@/api/carves";
import { nodeQuery } from "@/api/queries";
import type { CarveUsage } from "@/api/types";
import { formatBytes } from "@/lib/format";
import { useTitle } from "@/lib/hooks";
import { Agent } from "@/lib/text";
import { Button, Select } from "@/ui/controls";
import { Card, Empty, PageHeader } from "@/ui/display";
import { Icon } from "@/ui/icons";
import { CarveList } from "./carve-list";
import { carveStates, Meter } from "./carve-state";
import { FetchDialog } from "./fetch-files";
import { May } from "./may";

const route = getRouteApi("/shell/carves");

const states = [{ value: "", label: "Any state" }, ...carveStates.map((value) => ({ value, label: value }))];

/** Files that were fetched from nodes, and those on their way. */
export function CarvesPage() {
  useTitle("Carves");
  const { node, state, fetch } = route.useSearch();
  const navigate = route.useNavigate();
  const params = { ...(node ? { node } : {}), ...(state ? { state } : {}) };
  const { data } = useInfiniteQuery(carvesQuery(params));
  const usage = data?.pages[0]?.usage;
  const ask = (open: boolean) => void navigate({ search: (old) => ({ ...old, fetch: open ? "1" : undefined }), replace: true });
  const filtered = Boolean(node || state);
  const fetchButton = (
    <Button tone="primary" icon="download" onClick={() => ask(true)}>
      Fetch files
    </Button>
  );
  return (
    <div className="mx-auto flex h-full max-w-[100rem] flex-col gap-4 px-5 py-4">
      <PageHeader title="Carves">
        {usage && <Usage usage={usage} />}
        {node && <NodeFilter id={node} onRemove={() => void navigate({ search: (old) => ({ ...old, node: undefined }), replace: true })} />}
        <Select label="State" value={state ?? ""} onChange={(v) => void navigate({ search: (old) => ({ ...old, state: v || undefined }), replace: true })} options={states} />
        <May permission="carve.run">{fetchButton}</May>
      </PageHeader>
      <Card flush className="flex-1 overflow-hidden">
        <CarveList
          params={params}
          empty={
            filtered ? (
              <Empty icon="filter" title="No carve matches" action={<Button onClick={() => void navigate({ search: {}, replace: true })}>All carves</Button>} />
            ) : (
              <Empty
                icon="carves"
                title="Nothing was fetched yet"
                action={<May permission="carve.run">{fetchButton}</May>}
              >
                A carve brings files of a node as one archive, encrypted here and deleted after a while. The policy says which paths may be asked for.
              </Empty>
            )
          }
        />
      </Card>
      <FetchDialog open={fetch !== undefined} onOpenChange={ask} node={node} />
    </div>
  );
}

function Usage({ usage }: { usage: CarveUsage }) {
  const full = usage.limit_bytes > 0 && usage.bytes > 0.9 * usage.limit_bytes;
  return (
    <div className="mr-2 flex w-52 flex-col gap-1" title="A carve that does not fit is refused; delete old ones, or raise the quota">
      <span className="tnum text-xs text-fg-3">
        <span className={full ? "font-medium text-warn" : ""}>{formatBytes(usage.bytes)}</span>
        {usage.limit_bytes > 0 && ` of ${formatBytes(usage.limit_bytes)}`} kept
      </span>
      {usage.limit_bytes > 0 && <Meter part={usage.bytes} whole={usage.limit_bytes} label="Space that carves take" tone={full ? "bg-warn-fill" : "bg-chart"} />}
    </div>
  );
}

function NodeFilter({ id, onRemove }: { id: string; onRemove: () => void }) {
  const { data } = useQuery({ ...nodeQuery(id), refetchInterval: false, retry: false });
  return (
    <span className="inline-flex h-8 max-w-56 items-center gap-1.5 rounded-md border border-accent/35 bg-accent-soft pr-1 pl-2.5 text-sm font-medium text-accent">
      <Agent className="truncate">{data?.hostname || data?.host_identifier || id}</Agent>
      <button type="button" aria-label="Of any node" onClick={onRemove} className="rounded-sm p-0.5 hover:bg-surface">
        <Icon name="x" size={13} />
      </button>
    </span>
  );
}
