import { useInfiniteQuery, useQuery } from "@tanstack/react-query";
import { Popover } from "radix-ui";
import { useState, type ReactNode } from "react";

import { facetsQuery, nodeQuery, nodesQuery, selectsSomething } from "@/api/queries";
import type { Selector } from "@/api/types";
import { formatCount, plural } from "@/lib/format";
import { useDebounced } from "@/lib/hooks";
import { Agent, visible } from "@/lib/text";
import { Button, Input } from "@/ui/controls";
import { StatusDot } from "@/ui/display";
import { Icon } from "@/ui/icons";

/** So many nodes are shown one by one. */
const mostChips = 4;

/** Says whom a live query is for: nobody, until asked. */
export function TargetPicker({ selector, onChange }: { selector: Selector; onChange: (selector: Selector) => void }) {
  const nodes = selector.nodes ?? [];
  const tags = selector.tags ?? [];
  const set = (next: Selector) => {
    const out: Selector = {};
    if (next.all) out.all = true;
    if (next.nodes?.length) out.nodes = next.nodes;
    if (next.tags?.length) out.tags = next.tags;
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
          className="pop z-50 flex max-h-[min(26rem,var(--radix-popover-content-available-height))] w-80 flex-col rounded-lg border border-line-strong bg-raised shadow-pop"
        >
          <Choices selector={selector} onChange={onChange} onDone={() => setOpen(false)} />
        </Popover.Content>
      </Popover.Portal>
    </Popover.Root>
  );
}

function Choices({ selector, onChange, onDone }: { selector: Selector; onChange: (s: Selector) => void; onDone: () => void }) {
  const [text, setText] = useState("");
  const search = useDebounced(text.trim(), 150);
  const { data: facets } = useQuery(facetsQuery);
  const { data: found } = useInfiniteQuery({ ...nodesQuery(search ? { search } : {}, 20), refetchInterval: false });
  const tags = (facets?.tags ?? []).filter((t) => t.value.toLowerCase().includes(text.trim().toLowerCase())).slice(0, search ? 8 : 12);
  const nodes = found?.pages[0]?.nodes ?? [];
  const toggle = (list: string[] | undefined, value: string): string[] =>
    list?.includes(value) ? list.filter((x) => x !== value) : [...(list ?? []), value];
  return (
    <>
      <div className="border-b border-line p-2">
        <Input autoFocus type="search" aria-label="Search tags and nodes" placeholder="Search tags and nodes" value={text} onChange={(e) => setText(e.target.value)} />
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
        {tags.length > 0 && <Heading>Tags</Heading>}
        {tags.map((t) => (
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
        {tags.length === 0 && nodes.length === 0 && found && <p className="px-3 py-6 text-center text-sm text-fg-3">Nothing matches.</p>}
      </div>
    </>
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
