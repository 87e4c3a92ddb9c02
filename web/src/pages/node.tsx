import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { getRouteApi, Link, useNavigate } from "@tanstack/react-router";
import { Tabs } from "radix-ui";
import { useState, type FormEvent, type ReactNode } from "react";

import { api, ApiError } from "@/api/client";
import { eventQueriesQuery, facetsQuery, nodeQuery, refreshNodes } from "@/api/queries";
import type { NodeDetail, NodeStatus, TaggedNode, TagSource } from "@/api/types";
import { formatBytes, formatCount, formatDuration, platformName, plural } from "@/lib/format";
import { useTitle } from "@/lib/hooks";
import { Agent, visible } from "@/lib/text";
import { Bars } from "@/ui/bars";
import { Button, buttonClass } from "@/ui/controls";
import { Ago, Badge, Card, Empty, ErrorNote, Facts, Loading, Notice, StatusDot, TagBadge, type BadgeTone } from "@/ui/display";
import { Icon, PlatformIcon } from "@/ui/icons";
import { Confirm, useNotify } from "@/ui/overlay";
import { AlertList } from "./alert-list";
import { CarveList } from "./carve-list";
import { FetchDialog } from "./fetch-files";
import { May } from "./may";
import { ConfigTab } from "./node-config";
import { HealthCard } from "./node-health";
import { HistoryTab } from "./node-history";
import { ReasonDialog } from "./reason-dialog";

const route = getRouteApi("/shell/nodes/$id");

export function NodePage() {
  const { id } = route.useParams();
  const { tab = "details" } = route.useSearch();
  const navigate = route.useNavigate();
  const { data: node, error, refetch } = useQuery(nodeQuery(id));
  useTitle(node ? visible(node.hostname || node.host_identifier) : "Node");
  if (error && !node) {
    const gone = error instanceof ApiError && error.status === 404;
    return (
      <div className="p-5">
        {gone ? (
          <Empty icon="nodes" title="There is no such node" action={<Link to="/nodes" className={buttonClass()}>All nodes</Link>}>
            It may have been deleted; if its agent still runs, it enrols again.
          </Empty>
        ) : (
          <ErrorNote error={error} title="The node could not be loaded" onRetry={() => void refetch()} />
        )}
      </div>
    );
  }
  if (!node) return <Loading lines={10} />;
  return (
    <div className="mx-auto flex max-w-[100rem] flex-col gap-4 px-5 py-4">
      <NodeHeader node={node} />
      <Notices node={node} />
      <Strip node={node} />
      <Tabs.Root value={tab} onValueChange={(value) => void navigate({ search: { tab: value }, replace: true })}>
        <Tabs.List aria-label="About this node" className="mb-4 flex gap-1 border-b border-line">
          <Tab value="details">Details</Tab>
          <Tab value="events">Events</Tab>
          <Tab value="alerts">Alerts</Tab>
          <Tab value="history">History</Tab>
          <Tab value="carves">Carves</Tab>
          {node.status !== "gone" && <Tab value="config">Config</Tab>}
        </Tabs.List>
        <Tabs.Content value="details" className="flex flex-col gap-4">
          <HealthCard node={node} />
          <Details node={node} />
        </Tabs.Content>
        <Tabs.Content value="events">
          <RecentEvents node={node} />
        </Tabs.Content>
        <Tabs.Content value="alerts">
          <Card flush className="h-96 overflow-hidden">
            <AlertList ofNode params={{ node: node.id }} empty={<Empty icon="alerts" title="No alert is about this node" />} />
          </Card>
        </Tabs.Content>
        <Tabs.Content value="history">
          <HistoryTab node={node} />
        </Tabs.Content>
        <Tabs.Content value="carves">
          <Card flush className="h-96 overflow-hidden">
            <CarveList params={{ node: node.id }} empty={<Empty icon="carves" title="Nothing was fetched from this node">Fetch files asks it for them.</Empty>} />
          </Card>
        </Tabs.Content>
        <Tabs.Content value="config">
          <ConfigTab node={node} />
        </Tabs.Content>
      </Tabs.Root>
    </div>
  );
}

function Tab({ value, children }: { value: string; children: ReactNode }) {
  return (
    <Tabs.Trigger
      value={value}
      className="-mb-px h-9 border-b-2 border-transparent px-3 text-sm font-medium text-fg-3 hover:text-fg data-[state=active]:border-accent data-[state=active]:text-fg"
    >
      {children}
    </Tabs.Trigger>
  );
}

const statusTones: Record<NodeStatus, BadgeTone> = { online: "ok", offline: "neutral", quarantined: "warn", gone: "neutral" };

function NodeHeader({ node }: { node: NodeDetail }) {
  return (
    <header className="flex flex-wrap items-center gap-x-4 gap-y-2">
      <div className="min-w-0">
        <div className="flex flex-wrap items-center gap-x-3 gap-y-1">
          <h1 className="truncate text-xl font-semibold tracking-tight">
            <Agent>{node.hostname || node.host_identifier}</Agent>
          </h1>
          <Badge tone={statusTones[node.status]}>
            <StatusDot status={node.status} bare /> {node.status}
          </Badge>
          {node.enrolments > 1 && (
            <Badge tone="warn" title="It lost its key, or another machine has its identifier">
              enrolled {node.enrolments} times
            </Badge>
          )}
        </div>
        {node.status !== "gone" && <TagEditor node={node} />}
      </div>
      {node.status !== "gone" && <Actions node={node} />}
    </header>
  );
}

type Action = "quarantine" | "release" | "revoke" | "delete";

/** What can be done to the node; each says before what will happen. */
function Actions({ node }: { node: NodeDetail }) {
  const [asking, setAsking] = useState<Action | null>(null);
  const [fetching, setFetching] = useState(false);
  const name = visible(node.hostname || node.host_identifier);
  const act = useNodeAction(node, name, () => setAsking(null));
  const quarantined = node.status === "quarantined";
  const confirm = (action: Action, title: string, button: string, text: ReactNode) => (
    <Confirm
      open={asking === action}
      onOpenChange={(open) => setAsking(open ? action : null)}
      title={title}
      action={button}
      busy={act.isPending}
      onConfirm={() => act.mutate({ action })}
    >
      {text}
    </Confirm>
  );
  return (
    <div className="ml-auto flex flex-wrap items-center gap-2">
      {quarantined ? <Button onClick={() => setAsking("release")}>Release</Button> : <Button onClick={() => setAsking("quarantine")}>Quarantine</Button>}
      <Button tone="danger" onClick={() => setAsking("revoke")}>
        Revoke key
      </Button>
      <Button tone="danger" icon="trash" onClick={() => setAsking("delete")}>
        Delete
      </Button>
      {!quarantined && (
        <>
          <May permission="carve.run">
            <Button icon="download" onClick={() => setFetching(true)}>
              Fetch files
            </Button>
          </May>
          <May permission="live.run">
            <Link to="/live" search={{ nodes: node.id }} className={buttonClass("primary")}>
              <Icon name="live" size={15} /> Query this node
            </Link>
          </May>
          <FetchDialog open={fetching} onOpenChange={setFetching} node={node.id} />
        </>
      )}
      <ReasonDialog
        open={asking === "quarantine"}
        onOpenChange={(open) => setAsking(open ? "quarantine" : null)}
        title={`Put ${name} under quarantine?`}
        description="It gets an empty config and no live queries until it is released. What it logs is kept, and marked."
        action="Put under quarantine"
        maxLength={500}
        busy={act.isPending}
        onConfirm={(reason) => act.mutate({ action: "quarantine", reason })}
      />
      {confirm("release", `Release ${name}?`, "Release", "It gets its config again with its next request, and can be asked live queries.")}
      {confirm(
        "revoke",
        `Revoke the key of ${name}?`,
        "Revoke key",
        "Its key stops working at once. Its agent enrols again, as the same node, if its enroll secret is valid. Its tags, history and events stay.",
      )}
      {confirm(
        "delete",
        `Delete ${name}?`,
        "Delete node",
        "Its key stops working at once. An agent that still runs enrols again as a new node if its enroll secret is valid. Its history and events stay.",
      )}
    </div>
  );
}

function useNodeAction(node: NodeDetail, name: string, onSettled: () => void) {
  const client = useQueryClient();
  const navigate = useNavigate();
  const notify = useNotify();
  const path = `/nodes/${encodeURIComponent(node.id)}`;
  return useMutation({
    mutationFn: ({ action, reason }: { action: Action; reason?: string }): Promise<unknown> => {
      switch (action) {
        case "quarantine":
          return api.post(`${path}/quarantine`, { reason });
        case "release":
          return api.delete(`${path}/quarantine`);
        case "revoke":
          return api.post(`${path}/revoke`);
        case "delete":
          return api.delete(path);
      }
    },
    onSuccess: async (_result, { action }) => {
      if (action === "delete") {
        await navigate({ to: "/nodes" });
        client.removeQueries({ queryKey: ["node", node.id] });
      } else {
        await client.invalidateQueries({ queryKey: ["node", node.id] });
      }
      refreshNodes(client);
      const done = { quarantine: "is under quarantine", release: "is released", revoke: "has no key any more", delete: "is deleted" };
      notify.done(`${name} ${done[action]}`);
    },
    onError: notify.failed,
    onSettled,
  });
}

/** What is wrong with the node's identity, if anything is. */
function Notices({ node }: { node: NodeDetail }) {
  return (
    <>
      {node.gone_at && (
        <Notice>
          It was removed <Ago time={node.gone_at} />. Its history and its events are still here.
        </Notice>
      )}
      {node.quarantined_at && (
        <Notice>
          <p>
            Put under quarantine <Ago time={node.quarantined_at} />: <Agent>{node.quarantine_reason}</Agent>
          </p>
          <p>It gets an empty config and no live queries until it is released.</p>
        </Notice>
      )}
      {node.clashes > 0 && (
        <Notice>
          Another machine claimed its identity {plural(node.clashes, "time")}, last <Ago time={node.last_clash} />
          {node.clash_reason && (
            <>
              : <Agent>{node.clash_reason}</Agent>
            </>
          )}
        </Notice>
      )}
      {node.clone_of && (
        <Notice>
          It claims the host identifier of{" "}
          <Link to="/nodes/$id" params={{ id: node.clone_of }} className="underline underline-offset-2">
            another node
          </Link>{" "}
          and is kept apart as its clone.
        </Notice>
      )}
    </>
  );
}

/** Rules and queries take their tags back themselves. */
const removable = (t: TagSource): boolean => t.sources.some((s) => !/^(rule|query):/.test(s));

function TagEditor({ node }: { node: NodeDetail }) {
  const client = useQueryClient();
  const notify = useNotify();
  const { data: facets } = useQuery(facetsQuery);
  const [adding, setAdding] = useState(false);
  const [text, setText] = useState("");
  const save = useMutation({
    mutationFn: (tags: string[]) => api.put<TaggedNode>(`/nodes/${encodeURIComponent(node.id)}/tags`, { tags }),
    onSuccess: (updated) => {
      client.setQueryData<NodeDetail>(nodeQuery(node.id).queryKey, (old) => old && { ...old, tags: updated.tags, tag_sources: updated.tag_sources });
      if (updated.message) notify.failed(updated.message);
      refreshNodes(client);
    },
    onError: notify.failed,
  });
  const add = (e: FormEvent) => {
    e.preventDefault();
    const tags = text.split(/[\s,]+/).filter((t) => t && !node.tags.includes(t));
    if (tags.length) save.mutate([...node.tags, ...tags]);
    setText("");
    setAdding(false);
  };
  const known = (facets?.tags ?? []).filter((t) => !node.tags.includes(t.value));
  return (
    <div className="mt-1.5 flex min-h-6 flex-wrap items-center gap-1" aria-label="Tags" role="group">
      {node.tag_sources.map((t) => (
        <TagBadge
          key={t.tag}
          tag={t.tag}
          sources={t.sources}
          onRemove={removable(t) ? () => save.mutate(node.tags.filter((x) => x !== t.tag)) : undefined}
        />
      ))}
      {adding ? (
        <form onSubmit={add} className="flex">
          <input
            autoFocus
            aria-label="New tag"
            list="known-tags"
            value={text}
            onChange={(e) => setText(e.target.value)}
            onKeyDown={(e) => e.key === "Escape" && setAdding(false)}
            onBlur={() => !text && setAdding(false)}
            className="h-5.5 w-36 rounded-sm border border-accent bg-surface px-1.5 text-xs"
            placeholder="tag, then Enter"
          />
          <datalist id="known-tags">
            {known.map((t) => (
              <option key={t.value} value={t.value} />
            ))}
          </datalist>
        </form>
      ) : (
        <button
          type="button"
          onClick={() => setAdding(true)}
          className="inline-flex h-5 items-center gap-1 rounded-sm border border-dashed border-line-strong px-1.5 text-xs text-fg-3 hover:border-input hover:text-fg"
        >
          <Icon name="plus" size={11} /> Add tag
        </button>
      )}
    </div>
  );
}

/** The facts that one looks for first. */
function Strip({ node }: { node: NodeDetail }) {
  const info = node.details.system_info ?? {};
  const memory = Number(info.physical_memory);
  const items: [string, ReactNode][] = [
    [
      "Operating system",
      <span key="os" className="inline-flex max-w-full items-center gap-1.5">
        <PlatformIcon platform={node.platform} />
        <Agent className="truncate">{node.os || platformName(node.platform)}</Agent>
      </span>,
    ],
    ["osquery", <Agent key="v">{node.osquery_version}</Agent>],
    ["Address", <Agent key="a">{node.address}</Agent>],
    ["Memory", memory > 0 ? formatBytes(memory) : "–"],
    ["Last seen", <Ago key="s" time={node.last_seen} />],
    ["Enrolled", <Ago key="e" time={node.enrolled_at} />],
  ];
  return (
    <dl className="grid grid-cols-3 overflow-hidden rounded-lg border border-line bg-surface shadow-card xl:grid-cols-6">
      {items.map(([name, value]) => (
        <div key={name} className="-mt-px -ml-px min-w-0 border-t border-l border-line px-4 py-2.5">
          <dt className="text-xs text-fg-3">{name}</dt>
          <dd className="tnum truncate text-sm font-medium">{value}</dd>
        </div>
      ))}
    </dl>
  );
}

function Details({ node }: { node: NodeDetail }) {
  const mono = (text: string) => <Agent className="font-mono text-xs break-all">{text}</Agent>;
  return (
    <div className="columns-1 gap-4 md:columns-2 2xl:columns-3 *:mb-4 *:break-inside-avoid">
      <Card title="Identity">
        <Facts
          items={[
            ["Id", mono(node.id)],
            ["Host identifier", mono(node.host_identifier)],
            ["Enroll secret", node.enroll_secret ? mono(node.enroll_secret) : "imported"],
            ["Enrolments", formatCount(node.enrolments)],
            ["Certificate", node.certificate ? mono(node.certificate) : "none"],
          ]}
        />
      </Card>
      <Card title="Last seen">
        <Facts
          items={[
            ["Enrolling", <Ago key="e" time={node.seen.enroll} />],
            ["Asking for its config", <Ago key="c" time={node.seen.config} />],
            ["Logging", <Ago key="l" time={node.seen.log} />],
            ["Asking for queries", <Ago key="r" time={node.seen.read} />],
            ["Answering queries", <Ago key="w" time={node.seen.write} />],
            ["Offline after", silence(node.offline_after_seconds)],
          ]}
        />
      </Card>
      <Row title="Decorators" row={node.attributes} />
      {Object.entries(node.details).map(([table, row]) => (
        <Row key={table} title={<span className="font-mono text-xs">{table}</span>} row={row} />
      ))}
    </div>
  );
}

/** Exact while it is short: the usual 90 seconds are neither one minute nor two. */
const silence = (seconds: number): string => (seconds < 300 ? `${seconds} s` : formatDuration(seconds));

/** What an agent said, as a card; nothing without any. */
function Row({ title, row }: { title: ReactNode; row: Record<string, string> }) {
  const said = Object.entries(row).filter(([, v]) => v !== "");
  if (said.length === 0) return null;
  return (
    <Card title={title}>
      <Facts items={said.map(([k, v]) => [visible(k), <Agent key={k} className="break-all">{v}</Agent>])} />
    </Card>
  );
}

function RecentEvents({ node }: { node: NodeDetail }) {
  const { data, error, refetch } = useQuery({ ...eventQueriesQuery({ node: node.id, since: "24h" }), refetchInterval: 15_000 });
  if (error) return <ErrorNote error={error} title="The events could not be loaded" onRetry={() => void refetch()} />;
  if (!data) return <Loading />;
  if (data.queries.length === 0) {
    return (
      <Card>
        <Empty icon="events" title="No events from this node in the last 24 hours">
          <Link to="/events" search={{ node: node.id, since: "30d" }} className="text-accent hover:underline">
            Search 30 days
          </Link>
        </Empty>
      </Card>
    );
  }
  const most = Math.max(...data.queries.map((q) => q.count));
  return (
    <div className="flex flex-col gap-4">
      <Card
        title="Last 24 hours"
        actions={
          <Link to="/events" search={{ node: node.id, since: "24h" }} className="text-xs font-medium text-accent hover:underline">
            Open in events
          </Link>
        }
      >
        <Bars buckets={data.buckets} label="Events of this node" unit="events" height={120} />
      </Card>
      <Card title="By query" flush>
        <table className="w-full table-fixed text-sm">
          <thead>
            <tr className="h-8 border-b border-line text-left text-xs text-fg-3 [&>th]:px-4 [&>th]:font-medium">
              <th>Query</th>
              <th className="w-[32%]">Events</th>
              <th className="w-36">Last</th>
            </tr>
          </thead>
          <tbody>
            {data.queries.map((q) => (
              <tr key={q.query} className="h-9 border-b border-line/70 last:border-0 hover:bg-hover [&>td]:px-4">
                <td className="truncate">
                  <Link to="/events" search={{ node: node.id, query: q.query, since: "24h" }} className="font-mono text-xs hover:text-accent">
                    <Agent>{q.query}</Agent>
                  </Link>
                </td>
                <td>
                  <span className="flex items-center gap-3">
                    <span className="tnum w-14 shrink-0 text-right">{formatCount(q.count)}</span>
                    <span className="h-1.5 flex-1 overflow-hidden rounded-full bg-hover">
                      <span className="block h-full rounded-full bg-chart" style={{ width: `${(q.count / most) * 100}%` }} />
                    </span>
                  </span>
                </td>
                <td className="text-fg-2">
                  <Ago time={q.last} />
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      </Card>
    </div>
  );
}
