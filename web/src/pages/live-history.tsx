import { useInfiniteQuery, useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { getRouteApi, Link, useNavigate } from "@tanstack/react-router";
import { Tabs } from "radix-ui";
import { useEffect, useState } from "react";

import { api } from "@/api/client";
import { liveListQuery, liveQuery, refreshLive, type LiveListParams } from "@/api/live";
import { sessionQuery } from "@/api/queries";
import type { Live } from "@/api/types";
import { formatCount, formatTime } from "@/lib/format";
import { useDebounced } from "@/lib/hooks";
import { Agent, visible } from "@/lib/text";
import { Button, SearchInput, Select } from "@/ui/controls";
import { Ago, Badge, Empty, ErrorNote, Loading } from "@/ui/display";
import { LiveStateBadge, settledCount, StateBar } from "@/ui/live-state";
import { useNotify } from "@/ui/overlay";
import { useLiveEditor } from "./live-context";
import { May } from "./may";
import { ReasonDialog } from "./reason-dialog";
import { SavedQueries } from "./saved-queries";

const route = getRouteApi("/shell/live/");

const examples: [string, string][] = [
  ["Listening ports", "SELECT p.name, l.address, l.port, l.protocol\nFROM listening_ports l JOIN processes p USING (pid)\nWHERE l.port > 0\nORDER BY l.port"],
  ["Processes without a file", "SELECT pid, name, path, cmdline\nFROM processes\nWHERE on_disk = 0"],
  ["Who is logged in", "SELECT user, tty, host, datetime(time, 'unixepoch') AS since\nFROM logged_in_users"],
  ["Uptime", "SELECT days, hours, minutes FROM uptime"],
];

/** Below the editor while no query is open: what was asked, and what is saved. */
export function LiveHistory() {
  const { tab = "history" } = route.useSearch();
  const navigate = route.useNavigate();
  const { setSql, sql } = useLiveEditor();
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
      <Tabs.Root
        value={tab}
        onValueChange={(value) => void navigate({ search: value === "history" ? {} : { tab: value }, replace: true })}
        className="flex shrink-0 flex-col rounded-lg border border-line bg-surface shadow-card"
      >
        <Tabs.List aria-label="Former and saved queries" className="flex h-10 shrink-0 items-stretch gap-0.5 border-b border-line px-2">
          <Tab value="history">History</Tab>
          <Tab value="saved">Saved</Tab>
        </Tabs.List>
        <Tabs.Content value="history">
          <History />
        </Tabs.Content>
        <Tabs.Content value="saved">
          <SavedQueries />
        </Tabs.Content>
      </Tabs.Root>
    </>
  );
}

function Tab({ value, children }: { value: string; children: string }) {
  return (
    <Tabs.Trigger
      value={value}
      className="relative inline-flex items-center px-2.5 text-sm font-medium text-fg-3 after:absolute after:inset-x-1.5 after:bottom-0 after:h-0.5 hover:text-fg focus-visible:outline-offset-[-3px] data-[state=active]:text-fg data-[state=active]:after:bg-accent"
    >
      {children}
    </Tabs.Trigger>
  );
}

const kinds = [
  { value: "", label: "Any kind" },
  { value: "person", label: "asked by people" },
  { value: "enrollment", label: "enrollment queries" },
  { value: "trigger", label: "triggers" },
  { value: "carve", label: "carves" },
];
const states = [
  { value: "", label: "Any state" },
  ...["pending", "running", "done", "expired", "stopped", "over_limit", "rejected"].map((value) => ({ value, label: value.replace("_", " ") })),
];

function History() {
  const { kind, state, text, by } = route.useSearch();
  const navigate = route.useNavigate();
  const { data: session } = useQuery(sessionQuery);
  const client = useQueryClient();
  const { load } = useLiveEditor();
  const change = (next: { kind?: string; state?: string; text?: string; by?: string }) =>
    void navigate({ search: (old) => ({ ...old, ...next }), replace: true });
  const [typed, setTyped] = useState(text ?? "");
  const settled = useDebounced(typed.trim(), 250);
  useEffect(() => {
    if (settled !== (text ?? "")) change({ text: settled });
    // What is in the address follows what is typed.
  }, [settled]);
  const params: LiveListParams = {};
  if (kind) params.kind = kind;
  if (state) params.state = state;
  if (text) params.text = text;
  if (by === "me" && session) params.created_by = session.username;
  const { data, error, refetch, hasNextPage, fetchNextPage, isFetchingNextPage } = useInfiniteQuery(liveListQuery(params));
  const list = data?.pages.flatMap((p) => p.live) ?? [];
  const filtered = Boolean(kind || state || text || by);
  const use = async (l: Live) => {
    load(l.sql);
    // A list says not whom its queries were for.
    const { selector } = await client.fetchQuery(liveQuery(l.id));
    load(l.sql, selector);
  };
  return (
    <>
      <div className="flex flex-wrap items-center gap-2 border-b border-line px-3 py-2" role="search" aria-label="Search the history">
        <SearchInput label="Search the texts" placeholder="Search the texts" hint={false} className="w-56" value={typed} onChange={(e) => setTyped(e.target.value)} />
        <Select
          label="Who asked"
          value={by ?? ""}
          onChange={(v) => change({ by: v })}
          options={[
            { value: "", label: "Anybody's" },
            { value: "me", label: "Mine" },
          ]}
        />
        <Select label="Kind" value={kind ?? ""} onChange={(v) => change({ kind: v })} options={kinds} />
        <Select label="State" value={state ?? ""} onChange={(v) => change({ state: v })} options={states} />
        <span className="ml-auto">
          <May permission="live.run">
            <StopAll />
          </May>
        </span>
      </div>
      {error && (
        <div className="p-4">
          <ErrorNote error={error} title="The history could not be loaded" onRetry={() => void refetch()} />
        </div>
      )}
      {!data && !error && <Loading />}
      {data && list.length === 0 && <NoHistory filtered={filtered} onReset={() => (setTyped(""), void navigate({ search: {}, replace: true }))} />}
      {list.length > 0 && <HistoryTable list={list} onUse={(l) => void use(l)} />}
      {hasNextPage && (
        <div className="flex justify-center border-t border-line p-2">
          <Button size="sm" tone="ghost" busy={isFetchingNextPage} onClick={() => void fetchNextPage()}>
            Load older ones
          </Button>
        </div>
      )}
    </>
  );
}

function NoHistory({ filtered, onReset }: { filtered: boolean; onReset: () => void }) {
  if (filtered) return <Empty icon="filter" title="No live query matches" action={<Button onClick={onReset}>Clear the filters</Button>} />;
  return (
    <Empty icon="live" title="No live query yet">
      Write a query, choose whom it is for, and run it. It stays here with its results.
    </Empty>
  );
}

/** Ends every live query, whoever asked it. */
function StopAll() {
  const client = useQueryClient();
  const notify = useNotify();
  const [open, setOpen] = useState(false);
  const stop = useMutation({
    mutationFn: (reason: string) => api.post("/live/stop", { reason }),
    onSuccess: () => {
      setOpen(false);
      notify.done("All live queries are stopped");
      refreshLive(client);
    },
  });
  return (
    <>
      <Button
        size="sm"
        tone="danger"
        icon="stop"
        onClick={() => {
          stop.reset();
          setOpen(true);
        }}
      >
        Stop all
      </Button>
      <ReasonDialog
        open={open}
        onOpenChange={setOpen}
        title="Stop all live queries?"
        description="Nothing more is delivered to any node, whoever asked. What was answered stays. Nodes finish what they run now."
        action="Stop all"
        maxLength={1000}
        busy={stop.isPending}
        error={stop.error}
        onConfirm={(reason) => stop.mutate(reason)}
      />
    </>
  );
}

function HistoryTable({ list, onUse }: { list: Live[]; onUse: (live: Live) => void }) {
  const navigate = useNavigate();
  return (
    <table className="w-full table-fixed text-sm" aria-label="History">
      <thead>
        <tr className="h-8 border-b border-line text-left text-xs text-fg-3 [&>th]:px-3 [&>th]:font-medium [&>th:first-child]:pl-4">
          <th>Query</th>
          <th className="w-26">State</th>
          <th className="w-30">Nodes</th>
          <th className="w-18 text-right">Rows</th>
          <th className="w-30">Asked</th>
          <th className="w-16">
            <span className="sr-only">Actions</span>
          </th>
        </tr>
      </thead>
      <tbody>
        {list.map((l) => (
          <tr
            key={l.id}
            className="h-11 cursor-pointer border-b border-line/70 last:border-0 hover:bg-hover [&>td]:px-3 [&>td:first-child]:pl-4"
            onClick={() => void navigate({ to: "/live/$id", params: { id: l.id } })}
          >
            <td className="py-1">
              <Link
                to="/live/$id"
                params={{ id: l.id }}
                title={visible(l.sql)}
                className="line-clamp-2 font-mono text-xs leading-4 break-words hover:text-accent"
                onClick={(e) => e.stopPropagation()}
              >
                <Agent>{l.sql.replace(/\s+/g, " ").trim()}</Agent>
              </Link>
              <LiveOrigin live={l} />
            </td>
            <td>
              <LiveStateBadge state={l.state} held={Boolean(l.held)} />
            </td>
            <td>
              <span className="tnum block text-xs whitespace-nowrap text-fg-2" title={`${formatCount(l.counts.failed ?? 0)} failed`}>
                {formatCount(settledCount(l))} of {formatCount(l.nodes)}
              </span>
              <StateBar live={l} height={4} />
            </td>
            <td className="tnum text-right">{formatCount(l.rows)}</td>
            <td className="text-fg-2" title={formatTime(l.created_at)}>
              <span className="block truncate leading-4">
                <Ago time={l.created_at} />
              </span>
              <Agent className="block truncate text-xs leading-4 text-fg-3">{l.created_by}</Agent>
            </td>
            <td className="text-right" onClick={(e) => e.stopPropagation()}>
              <Button size="sm" tone="ghost" onClick={() => onUse(l)} title="Put it into the editor, with its targets">
                Edit
              </Button>
            </td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

/** What started a query that no person did. */
export function LiveOrigin({ live: l }: { live: Live }) {
  if (!l.kind || l.kind === "person") return null;
  return (
    <span className="inline-flex max-w-full">
      <Badge>
        {l.kind}
        {l.source && l.kind !== "carve" && <Agent className="font-mono text-2xs">{l.source}</Agent>}
      </Badge>
    </span>
  );
}
