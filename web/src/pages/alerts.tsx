import { useInfiniteQuery } from "@tanstack/react-query";
import { getRouteApi } from "@tanstack/react-router";
import { Tabs } from "radix-ui";
import { useEffect, useState, type ReactNode } from "react";

import { alertsQuery, type AlertsParams } from "@/api/alerts";
import { useAlertStream } from "@/lib/alert-stream";
import { formatCount } from "@/lib/format";
import { useDebounced, useTitle } from "@/lib/hooks";
import { Agent } from "@/lib/text";
import { Button, SearchInput, Select } from "@/ui/controls";
import { Card, Empty, PageHeader } from "@/ui/display";
import { Icon } from "@/ui/icons";
import { severities } from "@/ui/severity";
import { AlertList } from "./alert-list";
import { Notifiers } from "./notifiers";
import { Silences } from "./silences";

const route = getRouteApi("/shell/alerts");

const states = ["open", "acknowledged", "resolved"];
const severityOptions = [{ value: "", label: "Any severity" }, ...severities.slice(1).map((value) => ({ value, label: value === "critical" ? value : `${value} and above` }))];

/** What rules found: alerts by state, and how they are told. */
export function AlertsPage() {
  useTitle("Alerts");
  useAlertStream();
  const { tab = "open", ...filter } = route.useSearch();
  const navigate = route.useNavigate();
  const change = (next: Record<string, string | undefined>) => void navigate({ search: (old) => ({ ...old, ...next }), replace: true });
  const listing = states.includes(tab);
  const params: AlertsParams = { state: listing ? tab : "open", ...filter };
  const { data } = useInfiniteQuery({ ...alertsQuery(params), enabled: listing });
  const counts = data?.pages[0]?.counts ?? {};
  return (
    <div className="mx-auto flex h-full max-w-[100rem] flex-col gap-4 px-5 py-4">
      <PageHeader title="Alerts">{listing && <Filters filter={filter} onChange={change} />}</PageHeader>
      <Tabs.Root value={tab} onValueChange={(value) => change({ tab: value })} className="flex min-h-0 flex-1 flex-col">
        <Tabs.List aria-label="Alerts by state, and how they are told" className="mb-4 flex shrink-0 gap-1 border-b border-line">
          <Tab value="open" count={counts.open}>Open</Tab>
          <Tab value="acknowledged" count={counts.acknowledged}>Acknowledged</Tab>
          <Tab value="resolved">Resolved</Tab>
          <Tab value="silences">Silences</Tab>
          <Tab value="notifiers">Notifiers</Tab>
        </Tabs.List>
        {states.map((state) => (
          <Tabs.Content key={state} value={state} className="min-h-0 flex-1">
            <Card flush className="h-full overflow-hidden">
              <AlertList params={params} empty={<NoAlert state={state} filtered={Object.values(filter).some(Boolean)} onClear={() => void navigate({ search: { tab }, replace: true })} />} />
            </Card>
          </Tabs.Content>
        ))}
        <Tabs.Content value="silences">
          <Silences />
        </Tabs.Content>
        <Tabs.Content value="notifiers">
          <Notifiers />
        </Tabs.Content>
      </Tabs.Root>
    </div>
  );
}

function Tab({ value, count, children }: { value: string; count?: number | undefined; children: ReactNode }) {
  return (
    <Tabs.Trigger
      value={value}
      className="-mb-px inline-flex h-9 items-center gap-1.5 border-b-2 border-transparent px-3 text-sm font-medium text-fg-3 hover:text-fg data-[state=active]:border-accent data-[state=active]:text-fg"
    >
      {children}
      {count !== undefined && <span className="tnum text-xs text-fg-3">{formatCount(count)}</span>}
    </Tabs.Trigger>
  );
}

type Filter = Omit<AlertsParams, "state">;

function Filters({ filter, onChange }: { filter: Filter; onChange: (next: Record<string, string | undefined>) => void }) {
  const [text, setText] = useState(filter.text ?? "");
  const settled = useDebounced(text, 250);
  useEffect(() => {
    if (settled.trim() !== (filter.text ?? "")) onChange({ text: settled.trim() || undefined });
    // Only what is typed acts; a filter that goes away by itself empties the field below.
  }, [settled]);
  useEffect(() => setText(filter.text ?? ""), [filter.text]);
  return (
    <>
      {filter.rule && <Chip name="rule" value={filter.rule} onRemove={() => onChange({ rule: undefined })} />}
      {filter.node && <Chip name="node" value={filter.node} onRemove={() => onChange({ node: undefined })} />}
      {filter.assignee && <Chip name="assignee" value={filter.assignee} onRemove={() => onChange({ assignee: undefined })} />}
      <Select label="Severity" value={filter.min_severity ?? ""} onChange={(v) => onChange({ min_severity: v || undefined })} options={severityOptions} />
      <SearchInput label="Search alerts" placeholder="Title, host identifier or key" className="w-64" value={text} maxLength={256} onChange={(e) => setText(e.target.value)} />
    </>
  );
}

function Chip({ name, value, onRemove }: { name: string; value: string; onRemove: () => void }) {
  return (
    <span className="inline-flex h-8 max-w-56 items-center gap-1.5 rounded-md border border-accent/35 bg-accent-soft pr-1 pl-2.5 text-sm font-medium text-accent">
      <span className="truncate">
        {name} <Agent>{value}</Agent>
      </span>
      <button type="button" aria-label={`Of any ${name}`} onClick={onRemove} className="rounded-sm p-0.5 hover:bg-surface">
        <Icon name="x" size={13} />
      </button>
    </span>
  );
}

function NoAlert({ state, filtered, onClear }: { state: string; filtered: boolean; onClear: () => void }) {
  if (filtered) return <Empty icon="filter" title="No alert matches" action={<Button onClick={onClear}>Clear the filters</Button>} />;
  return (
    <Empty icon="alerts" title={`No alert is ${state}`}>
      Rules open alerts when events fit their conditions. <code className="font-mono text-xs">muster apply</code> proposes rules.
    </Empty>
  );
}
