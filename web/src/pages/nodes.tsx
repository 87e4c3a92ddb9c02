import { useInfiniteQuery, useQuery, useQueryClient } from "@tanstack/react-query";
import { getRouteApi, Link, useNavigate } from "@tanstack/react-router";
import { useCallback, useEffect, useMemo, useState } from "react";

import { api } from "@/api/client";
import { facetsQuery, nodesQuery, type NodesParams } from "@/api/queries";
import type { Count, Node, NodePage } from "@/api/types";
import { formatCount, platformName, plural } from "@/lib/format";
import { useDebounced, useTitle } from "@/lib/hooks";
import { saveDraft } from "@/lib/live-draft";
import { Agent, visible } from "@/lib/text";
import { Button, buttonClass, Checkbox, SearchInput, Select } from "@/ui/controls";
import { DataGrid, type GridColumn } from "@/ui/data-grid";
import { Ago, Badge, Card, Empty, ErrorNote, Loading, PageHeader, StatusDot, TagBadge } from "@/ui/display";
import { Icon, PlatformIcon } from "@/ui/icons";
import { useNotify } from "@/ui/overlay";

const route = getRouteApi("/shell/nodes");

/** A live query takes so many nodes by id. */
const mostSelected = 10_000;

export function NodesPage() {
  useTitle("Nodes");
  const params = route.useSearch();
  const navigate = route.useNavigate();
  const sort = { id: params.sort ?? "hostname", desc: params.order === "desc" };
  const query = useInfiniteQuery(nodesQuery(params));
  const { data, error, isPlaceholderData, hasNextPage, isFetchingNextPage, fetchNextPage } = query;
  const nodes = useMemo(() => data?.pages.flatMap((p) => p.nodes) ?? [], [data]);
  const total = data?.pages.at(-1)?.total ?? 0;
  const [selected, setSelected] = useState<ReadonlySet<string>>(new Set());

  const change = useCallback(
    (next: NodesParams) => void navigate({ search: (old) => ({ ...old, ...next }), replace: true }),
    [navigate],
  );
  const onSort = (id: string) => {
    const desc = sort.id === id ? !sort.desc : id === "last_seen" || id === "enrolled_at";
    change({ sort: id, order: desc ? "desc" : "asc" });
  };
  const more = useCallback(() => {
    if (hasNextPage && !isFetchingNextPage) void fetchNextPage();
  }, [hasNextPage, isFetchingNextPage, fetchNextPage]);

  const filtered = Boolean(params.search || params.tag || params.platform || params.status || params.version);
  const allLoaded = nodes.length > 0 && nodes.every((n) => selected.has(n.id));
  const someLoaded = nodes.some((n) => selected.has(n.id));
  const columns = useMemo(
    () =>
      nodeColumns({
        all: allLoaded ? true : someLoaded ? "indeterminate" : false,
        onAll: (on) => setSelected(on ? new Set([...selected, ...nodes.map((n) => n.id)]) : new Set()),
        isSelected: (n) => selected.has(n.id),
        onSelect: (n, on) => {
          const next = new Set(selected);
          if (on) next.add(n.id);
          else next.delete(n.id);
          setSelected(next);
        },
        onTag: (tag) => change({ tag }),
      }),
    [allLoaded, someLoaded, nodes, selected, change],
  );

  return (
    <div className="flex h-full flex-col gap-3 px-5 py-4">
      <PageHeader title="Nodes" note={data ? (filtered ? `${formatCount(total)} match` : formatCount(total)) : undefined} />
      <Filters params={params} onChange={change} />
      {error && <ErrorNote error={error} title="The nodes could not be loaded" onRetry={() => void query.refetch()} />}
      <Card flush className="relative flex-1 overflow-hidden">
        {!data && !error ? (
          <Loading lines={12} />
        ) : (
          <DataGrid
            label="Nodes"
            columns={columns}
            rows={nodes}
            total={total}
            rowKey={(n) => n.id}
            minWidth={1000}
            sort={sort}
            onSort={onSort}
            stale={isPlaceholderData}
            isSelected={(n) => selected.has(n.id)}
            onRowClick={(n) => void navigate({ to: "/nodes/$id", params: { id: n.id } })}
            onEndReached={more}
            footer={footerText(nodes.length, total, isFetchingNextPage)}
            empty={<NoNodes filtered={filtered} onReset={() => void navigate({ search: {}, replace: true })} />}
          />
        )}
        {selected.size > 0 && (
          <SelectionBar selected={selected} onSelected={setSelected} params={params} total={total} loaded={nodes.length} />
        )}
      </Card>
    </div>
  );
}

function footerText(loaded: number, total: number, fetching: boolean): string | undefined {
  if (fetching) return `Loading more: ${formatCount(loaded)} of ${formatCount(total)}`;
  if (loaded < total) return `${formatCount(loaded)} of ${formatCount(total)}`;
  return undefined;
}

function NoNodes({ filtered, onReset }: { filtered: boolean; onReset: () => void }) {
  return filtered ? (
    <Empty icon="filter" title="No node matches" action={<Button onClick={onReset}>Clear the filters</Button>}>
      Change the search or the filters.
    </Empty>
  ) : (
    <Empty
      icon="nodes"
      title="No node has enrolled yet"
      action={
        <Link to="/" className={buttonClass("primary")}>
          How to enrol one
        </Link>
      }
    />
  );
}

interface ColumnActions {
  all: boolean | "indeterminate";
  onAll: (on: boolean) => void;
  isSelected: (node: Node) => boolean;
  onSelect: (node: Node, on: boolean) => void;
  onTag: (tag: string) => void;
}

function nodeColumns(a: ColumnActions): GridColumn<Node>[] {
  return [
    {
      id: "select",
      header: <Checkbox label="Select all that are loaded" checked={a.all} onChange={a.onAll} />,
      width: "40px",
      cell: (n) => (
        <span onClick={(e) => e.stopPropagation()} className="flex">
          <Checkbox label={`Select ${n.hostname}`} checked={a.isSelected(n)} onChange={(on) => a.onSelect(n, on)} />
        </span>
      ),
    },
    {
      id: "hostname",
      header: "Hostname",
      width: "minmax(180px, 1.6fr)",
      sortable: true,
      cell: (n) => (
        <span className="flex min-w-0 items-center gap-2">
          <Link
            to="/nodes/$id"
            params={{ id: n.id }}
            className="truncate font-medium hover:text-accent"
            title={n.host_identifier}
            onClick={(e) => e.stopPropagation()}
          >
            <Agent>{n.hostname || n.host_identifier}</Agent>
          </Link>
          {n.clashes > 0 && (
            <Badge tone="warn" title={`Another machine claimed its identity: ${visible(n.clash_reason ?? "")}`}>
              {plural(n.clashes, "clash", "clashes")}
            </Badge>
          )}
        </span>
      ),
    },
    { id: "status", header: "Status", width: "118px", sortable: true, cell: (n) => <StatusDot status={n.status} /> },
    {
      id: "os",
      header: "Operating system",
      width: "minmax(150px, 1.1fr)",
      sortable: true,
      cell: (n) => (
        <span className="flex items-center gap-2 text-fg-2" title={n.os}>
          <PlatformIcon platform={n.platform} />
          <Agent className="truncate">{n.os || platformName(n.platform)}</Agent>
        </span>
      ),
    },
    {
      id: "osquery_version",
      header: "osquery",
      width: "98px",
      sortable: true,
      cell: (n) => <Agent className="tnum text-fg-2">{n.osquery_version}</Agent>,
    },
    {
      id: "address",
      header: "Address",
      width: "118px",
      sortable: true,
      cell: (n) => <Agent className="tnum text-fg-2">{n.address}</Agent>,
    },
    {
      id: "tags",
      header: "Tags",
      width: "minmax(120px, 1.3fr)",
      cell: (n) => (
        <span className="flex gap-1 overflow-hidden" title={n.tags.join(", ")}>
          {n.tags.map((t) => (
            <button
              key={t}
              type="button"
              aria-label={`Show nodes with the tag ${t}`}
              onClick={(e) => {
                e.stopPropagation();
                a.onTag(t);
              }}
              className="flex shrink-0 rounded-sm hover:brightness-95 dark:hover:brightness-125"
            >
              <TagBadge tag={t} />
            </button>
          ))}
        </span>
      ),
    },
    {
      id: "last_seen",
      header: "Last seen",
      width: "106px",
      sortable: true,
      cell: (n) => (
        <span className="text-fg-2">
          <Ago time={n.last_seen} />
        </span>
      ),
    },
    {
      id: "enrolled_at",
      header: "Enrolled",
      width: "106px",
      sortable: true,
      cell: (n) => (
        <span className="text-fg-2">
          <Ago time={n.enrolled_at} />
        </span>
      ),
    },
  ];
}

function Filters({ params, onChange }: { params: NodesParams; onChange: (next: NodesParams) => void }) {
  const { data: facets } = useQuery(facetsQuery);
  const [search, setSearch] = useState(params.search ?? "");
  const settled = useDebounced(search, 200);
  useEffect(() => {
    if (settled !== (params.search ?? "")) onChange({ search: settled || undefined } as NodesParams);
    // Only typing moves the address; the address moves the field below.
  }, [settled]);
  const fromAddress = params.search ?? "";
  useEffect(() => setSearch(fromAddress), [fromAddress]);

  const options = (any: string, counts: Count[] | undefined, current: string | undefined, name = (v: string) => v) => {
    const list = (counts ?? []).map((c) => ({ value: c.value, label: name(c.value) || "unknown", hint: formatCount(c.count) }));
    if (current && !list.some((o) => o.value === current)) list.push({ value: current, label: name(current), hint: "0" });
    return [{ value: "", label: any }, ...list.filter((o) => o.value !== "")];
  };
  const set = (key: keyof NodesParams) => (value: string) => onChange({ [key]: value || undefined } as NodesParams);
  const filtered = Boolean(params.search || params.tag || params.platform || params.status || params.version);
  return (
    <div className="flex flex-wrap items-center gap-2">
      <SearchInput
        label="Search nodes"
        placeholder="Search hostname, identifier, address …"
        className="w-80"
        value={search}
        onChange={(e) => setSearch(e.target.value)}
      />
      <Select
        label="Status"
        value={params.status ?? ""}
        onChange={set("status")}
        options={[
          { value: "", label: "Any status" },
          { value: "online", label: "Online", hint: facets && formatCount(facets.online) },
          { value: "offline", label: "Offline", hint: facets && formatCount(facets.total - facets.online) },
          { value: "quarantined", label: "Quarantined", hint: facets && formatCount(facets.quarantined) },
          { value: "gone", label: "Gone" },
        ]}
      />
      <Select
        label="Platform"
        value={params.platform ?? ""}
        onChange={set("platform")}
        options={options("Any platform", facets?.platforms, params.platform, platformName)}
      />
      <Select label="Tag" value={params.tag ?? ""} onChange={set("tag")} options={options("Any tag", facets?.tags, params.tag)} />
      <Select
        label="osquery version"
        value={params.version ?? ""}
        onChange={set("version")}
        options={options("Any version", facets?.versions, params.version)}
      />
      {filtered && (
        <Button
          tone="ghost"
          icon="x"
          onClick={() => {
            setSearch("");
            onChange({ search: undefined, tag: undefined, platform: undefined, status: undefined, version: undefined } as unknown as NodesParams);
          }}
        >
          Clear
        </Button>
      )}
    </div>
  );
}

function SelectionBar({ selected, onSelected, params, total, loaded }: {
  selected: ReadonlySet<string>;
  onSelected: (ids: ReadonlySet<string>) => void;
  params: NodesParams;
  total: number;
  loaded: number;
}) {
  const navigate = useNavigate();
  const client = useQueryClient();
  const notify = useNotify();
  const [busy, setBusy] = useState(false);
  const selectAll = async () => {
    setBusy(true);
    try {
      const ids = new Set<string>();
      let cursor: string | undefined;
      do {
        const page: NodePage = await client.fetchQuery({
          queryKey: ["nodes", "ids", params, cursor],
          queryFn: ({ signal }) => api.get<NodePage>("/nodes", { ...params, limit: 500, cursor }, signal),
          gcTime: 0,
        });
        for (const n of page.nodes) ids.add(n.id);
        cursor = page.next_cursor;
      } while (cursor && ids.size < mostSelected);
      onSelected(ids);
    } catch (err) {
      notify.failed(err);
    } finally {
      setBusy(false);
    }
  };
  const run = () => {
    saveDraft({ selector: { nodes: [...selected].slice(0, mostSelected) } });
    void navigate({ to: "/live" });
  };
  return (
    <div
      role="region"
      aria-label="Selected nodes"
      className="pop absolute bottom-4 left-1/2 z-20 flex -translate-x-1/2 items-center gap-2 rounded-lg border border-line-strong bg-raised py-2 pr-2 pl-4 shadow-pop"
    >
      <span className="tnum text-sm font-medium">{plural(selected.size, "node")} selected</span>
      {selected.size < total && (loaded < total || selected.size < loaded) && (
        <Button size="sm" tone="ghost" busy={busy} onClick={() => void selectAll()}>
          Select all {formatCount(Math.min(total, mostSelected))}
        </Button>
      )}
      <span className="mx-1 h-5 w-px bg-line-strong" aria-hidden="true" />
      <Button size="sm" tone="primary" onClick={run}>
        <Icon name="live" size={14} /> Query them live
      </Button>
      <Button size="sm" tone="ghost" icon="x" aria-label="Clear the selection" onClick={() => onSelected(new Set())} />
    </div>
  );
}
