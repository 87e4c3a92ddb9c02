import { useInfiniteQuery, useMutation, useQuery } from "@tanstack/react-query";
import { Popover, Tabs } from "radix-ui";
import { useState, type ReactNode } from "react";

import { api } from "@/api/client";
import { selectsSomething } from "@/api/live";
import { facetsQuery, nodeQuery, nodesQuery, type NodesParams } from "@/api/queries";
import type { NodePage, Selector } from "@/api/types";
import { cx } from "@/lib/cx";
import { formatCount, plural } from "@/lib/format";
import { useDebounced, useRemembered } from "@/lib/hooks";
import { namesIn } from "@/lib/live-link";
import { Agent, visible } from "@/lib/text";
import { Button, Checkbox, Input, inputClass } from "@/ui/controls";
import { StatusDot } from "@/ui/display";
import { Icon } from "@/ui/icons";
import { useNotify } from "@/ui/overlay";

/** So many nodes are shown one by one. */
const mostChips = 4;

/** So many nodes can be named one by one; the server takes no more. */
const mostNamed = 10_000;

/** Says whom a live query is for: nobody, until asked. */
export function TargetPicker({ selector, onChange }: { selector: Selector; onChange: (selector: Selector) => void }) {
  const nodes = selector.nodes ?? [];
  const tags = selector.tags ?? [];
  const set = (next: Selector) => {
    const out: Selector = {};
    if (next.all) out.all = true;
    if (next.nodes?.length) out.nodes = next.nodes;
    if (next.tags?.length) out.tags = next.tags;
    if (next.where) out.where = next.where;
    onChange(out);
  };
  return (
    <div className="flex min-w-0 flex-wrap items-center gap-1.5" role="group" aria-label="Targets">
      <span className="text-xs font-medium text-fg-3">Targets</span>
      {selector.all && (
        <Chip onRemove={() => set({ ...selector, all: false })} label="all nodes">
          <Icon name="nodes" size={12} /> all nodes
        </Chip>
      )}
      {tags.map((t) => (
        <Chip key={t} label={`tag ${visible(t)}`} onRemove={() => set({ ...selector, tags: tags.filter((x) => x !== t) })}>
          <Icon name="tag" size={12} /> <Agent>{t}</Agent>
        </Chip>
      ))}
      {selector.where && (
        <Chip label="expression" onRemove={() => set({ ...selector, where: "" })}>
          <Icon name="filter" size={12} />
          <span className="truncate font-mono text-2xs" title={visible(selector.where)}>
            <Agent>{selector.where}</Agent>
          </span>
        </Chip>
      )}
      {nodes.length <= mostChips ? (
        nodes.map((id) => (
          <Chip key={id} label={`node ${visible(id)}`} onRemove={() => set({ ...selector, nodes: nodes.filter((x) => x !== id) })}>
            <NodeName id={id} />
          </Chip>
        ))
      ) : (
        <Chip label={plural(nodes.length, "node")} onRemove={() => set({ ...selector, nodes: [] })}>
          {plural(nodes.length, "chosen node")}
        </Chip>
      )}
      <AddTarget selector={selector} onChange={set} />
    </div>
  );
}

function Chip({ children, label, onRemove }: { children: ReactNode; label: string; onRemove: () => void }) {
  return (
    <span className="inline-flex h-7 max-w-56 items-center gap-1.5 rounded-md border border-accent/35 bg-accent-soft pr-1 pl-2 text-xs font-medium text-accent">
      <span className="flex min-w-0 items-center gap-1.5 truncate">{children}</span>
      <button type="button" aria-label={`Remove ${label}`} onClick={onRemove} className="rounded-sm p-0.5 hover:bg-surface">
        <Icon name="x" size={12} />
      </button>
    </span>
  );
}

function NodeName({ id }: { id: string }) {
  const { data } = useQuery({ ...nodeQuery(id), refetchInterval: false, retry: false });
  return <Agent className="truncate">{data?.hostname || data?.host_identifier || id}</Agent>;
}

function AddTarget({ selector, onChange }: { selector: Selector; onChange: (selector: Selector) => void }) {
  const [open, setOpen] = useState(false);
  const none = !selectsSomething(selector);
  return (
    <Popover.Root open={open} onOpenChange={setOpen}>
      <Popover.Trigger asChild>
        <Button size="sm" icon="plus">
          {none ? "Choose targets" : "Add"}
        </Button>
      </Popover.Trigger>
      <Popover.Portal>
        <Popover.Content
          align="start"
          sideOffset={5}
          collisionPadding={12}
          aria-label="Choose targets"
          className="pop z-50 flex max-h-[min(28rem,var(--radix-popover-content-available-height))] w-80 flex-col rounded-lg border border-line-strong bg-raised shadow-pop"
        >
          <Ways selector={selector} onChange={onChange} onDone={() => setOpen(false)} />
        </Popover.Content>
      </Popover.Portal>
    </Popover.Root>
  );
}

interface WayProps {
  selector: Selector;
  onChange: (s: Selector) => void;
  onDone: () => void;
}

/** Targets are found and chosen, pasted, or described. */
function Ways(props: WayProps) {
  const tab = (value: string, label: string) => (
    <Tabs.Trigger
      value={value}
      className="-mb-px h-8.5 border-b-2 border-transparent px-2.5 text-xs font-medium text-fg-3 hover:text-fg data-[state=active]:border-accent data-[state=active]:text-fg"
    >
      {label}
    </Tabs.Trigger>
  );
  return (
    <Tabs.Root defaultValue="find" className="flex min-h-0 flex-1 flex-col">
      <Tabs.List aria-label="Ways to choose targets" className="flex shrink-0 border-b border-line px-1">
        {tab("find", "Find")}
        {tab("paste", "Paste a list")}
        {tab("where", "Expression")}
      </Tabs.List>
      <Tabs.Content value="find" className="flex min-h-0 flex-1 flex-col data-[state=inactive]:hidden">
        <Choices {...props} />
      </Tabs.Content>
      <Tabs.Content value="paste">
        <Paste {...props} />
      </Tabs.Content>
      <Tabs.Content value="where">
        <Expression {...props} />
      </Tabs.Content>
    </Tabs.Root>
  );
}

function Choices({ selector, onChange, onDone }: WayProps) {
  const [text, setText] = useState("");
  const [online, setOnline] = useRemembered("targets-online", false);
  const search = useDebounced(text.trim(), 150);
  const { data: facets } = useQuery(facetsQuery);
  const params: NodesParams = { ...(search ? { search } : {}), ...(online ? { status: "online" } : {}) };
  const { data: found } = useInfiniteQuery({ ...nodesQuery(params, 20), refetchInterval: false });
  const tags = (facets?.tags ?? []).filter((t) => t.value.toLowerCase().includes(text.trim().toLowerCase())).slice(0, search ? 8 : 12);
  const nodes = found?.pages[0]?.nodes ?? [];
  const toggle = (list: string[] | undefined, value: string): string[] =>
    list?.includes(value) ? list.filter((x) => x !== value) : [...(list ?? []), value];
  return (
    <>
      <div className="flex flex-col gap-2 border-b border-line p-2">
        <Input autoFocus type="search" aria-label="Search tags and nodes" placeholder="Search tags and nodes" value={text} onChange={(e) => setText(e.target.value)} />
        <label className="flex items-center gap-2 px-0.5 text-xs text-fg-2">
          <Checkbox label="Only nodes that are online" checked={online} onChange={setOnline} /> Only nodes that are online
        </label>
      </div>
      <div className="min-h-0 flex-1 overflow-auto p-1">
        {!text && (
          <Choice
            on={Boolean(selector.all)}
            onClick={() => {
              onChange({ ...selector, all: !selector.all });
              if (!selector.all) onDone();
            }}
            hint={facets && formatCount(facets.total)}
          >
            <Icon name="nodes" size={14} className="text-fg-3" /> All nodes
          </Choice>
        )}
        {tags.length > 0 && !online && <Heading>Tags</Heading>}
        {!online &&
          tags.map((t) => (
            <Choice
              key={t.value}
              on={selector.tags?.includes(t.value) ?? false}
              onClick={() => onChange({ ...selector, tags: toggle(selector.tags, t.value) })}
              hint={formatCount(t.count)}
            >
              <Icon name="tag" size={14} className="text-fg-3" />
              <Agent className="truncate">{t.value}</Agent>
            </Choice>
          ))}
        {nodes.length > 0 && <Heading>Nodes</Heading>}
        {nodes.map((n) => (
          <Choice
            key={n.id}
            on={selector.nodes?.includes(n.id) ?? false}
            onClick={() => onChange({ ...selector, nodes: toggle(selector.nodes, n.id) })}
          >
            <span className="flex w-3.5 justify-center">
              <StatusDot status={n.status} bare />
            </span>
            <Agent className="truncate">{n.hostname || n.host_identifier}</Agent>
          </Choice>
        ))}
        {(tags.length === 0 || online) && nodes.length === 0 && found && <p className="px-3 py-6 text-center text-sm text-fg-3">Nothing matches.</p>}
      </div>
      {(search || online) && <AddFound params={params} total={found?.pages[0]?.total ?? 0} selector={selector} onChange={onChange} onDone={onDone} />}
    </>
  );
}

/** Names all nodes that were found, as they are now. */
function AddFound({ params, total, selector, onChange, onDone }: WayProps & { params: NodesParams; total: number }) {
  const notify = useNotify();
  const add = useMutation({
    mutationFn: () => idsOf(params),
    onSuccess: (ids) => {
      onChange({ ...selector, nodes: [...new Set([...(selector.nodes ?? []), ...ids])] });
      onDone();
    },
    onError: notify.failed,
  });
  if (total === 0) return null;
  return (
    <div className="shrink-0 border-t border-line p-2">
      <Button size="sm" className="w-full" busy={add.isPending} disabled={total > mostNamed} onClick={() => add.mutate()}>
        {total > mostNamed ? `${formatCount(total)} are too many to name; use an expression` : `Add all ${plural(total, params.status ? "online node" : "node")} found`}
      </Button>
    </div>
  );
}

async function idsOf(params: NodesParams): Promise<string[]> {
  const ids: string[] = [];
  let cursor: string | undefined;
  do {
    const page: NodePage = await api.get<NodePage>("/nodes", { ...params, limit: 1000, cursor });
    ids.push(...page.nodes.map((n) => n.id));
    cursor = page.next_cursor;
  } while (cursor && ids.length < mostNamed);
  return ids;
}

function Paste({ selector, onChange, onDone }: WayProps) {
  const [text, setText] = useState("");
  const names = namesIn(text);
  return (
    <form
      className="flex flex-col gap-2 p-2"
      onSubmit={(e) => {
        e.preventDefault();
        onChange({ ...selector, nodes: [...new Set([...(selector.nodes ?? []), ...names])] });
        onDone();
      }}
    >
      <textarea
        autoFocus
        aria-label="Names of nodes"
        placeholder={"Hostnames, host identifiers or ids,\nseparated by lines, spaces or commas"}
        className={cx(inputClass, "h-44 resize-none py-1.5 font-mono text-xs")}
        value={text}
        spellCheck={false}
        onChange={(e) => setText(e.target.value)}
      />
      <Button type="submit" size="sm" tone="primary" disabled={names.length === 0 || names.length > mostNamed}>
        {names.length > mostNamed ? `At most ${formatCount(mostNamed)} names` : names.length === 0 ? "Add" : `Add ${plural(names.length, "name")}`}
      </Button>
    </form>
  );
}

function Expression({ selector, onChange, onDone }: WayProps) {
  const [text, setText] = useState(selector.where ?? "");
  return (
    <form
      className="flex flex-col gap-2 p-2"
      onSubmit={(e) => {
        e.preventDefault();
        onChange({ ...selector, where: text.trim() });
        onDone();
      }}
    >
      <textarea
        autoFocus
        aria-label="Expression"
        placeholder={'platform = linux and not tag in (db, web)'}
        className={cx(inputClass, "h-20 resize-none py-1.5 font-mono text-xs")}
        value={text}
        spellCheck={false}
        onChange={(e) => setText(e.target.value)}
        onKeyDown={(e) => {
          if (e.key === "Enter" && (e.ctrlKey || e.metaKey)) e.currentTarget.form?.requestSubmit();
        }}
      />
      <p className="px-0.5 text-xs text-fg-3">
        tag, hostname, platform, os, osquery_version, host_identifier, secret, or what the agent told as table.column; = != &lt; &lt;= &gt; &gt;= in, and or not; * and ? stand for anything.
      </p>
      <Button type="submit" size="sm" tone="primary" disabled={text.trim() === "" && !selector.where}>
        Use it
      </Button>
    </form>
  );
}

const Heading = ({ children }: { children: ReactNode }) => <p className="px-2.5 pt-2 pb-1 text-2xs font-medium text-fg-3">{children}</p>;

function Choice({ on, onClick, hint, children }: { on: boolean; onClick: () => void; hint?: string | undefined; children: ReactNode }) {
  return (
    <button
      type="button"
      aria-pressed={on}
      onClick={onClick}
      className="flex h-7.5 w-full items-center gap-2 rounded-sm px-2.5 text-left text-sm hover:bg-hover"
    >
      <span className="flex min-w-0 flex-1 items-center gap-2 truncate">{children}</span>
      {hint !== undefined && <span className="tnum text-xs text-fg-3">{hint}</span>}
      <Icon name="check" size={14} className={on ? "text-accent" : "invisible"} />
    </button>
  );
}
