import { useInfiniteQuery, useQuery } from "@tanstack/react-query";
import { getRouteApi, Link } from "@tanstack/react-router";
import { useCallback, useEffect, useState } from "react";

import { auditEntryQuery, auditQuery, usersQuery, type AuditParams } from "@/api/queries";
import type { AuditEntry } from "@/api/types";
import { formatTime } from "@/lib/format";
import { useDebounced, useTitle } from "@/lib/hooks";
import { Agent, Lines, visible } from "@/lib/text";
import { Button, SearchInput, Select } from "@/ui/controls";
import { DataGrid, type GridColumn } from "@/ui/data-grid";
import { Badge, Card, Empty, ErrorNote, Facts, Loading, PageHeader } from "@/ui/display";
import { Dialog } from "@/ui/overlay";

const route = getRouteApi("/shell/audit");

const columns: GridColumn<AuditEntry>[] = [
  { id: "seq", header: "No.", width: "64px", align: "right", cell: (e) => <EntryLink seq={e.seq} /> },
  { id: "time", header: "Time", width: "168px", cell: (e) => <span className="tnum text-fg-2">{formatTime(e.time)}</span> },
  { id: "actor", header: "Actor", width: "100px", cell: (e) => <Agent className="font-medium">{e.actor}</Agent> },
  { id: "action", header: "Action", width: "210px", cell: (e) => <Action entry={e} /> },
  { id: "target", header: "Target", width: "minmax(100px, 1fr)", cell: (e) => <Text mono>{e.target}</Text> },
  { id: "reason", header: "Reason", width: "minmax(130px, 1.5fr)", cell: (e) => <Text bad={e.outcome === "refused"}>{reasonOf(e)}</Text> },
  { id: "detail", header: "Detail", width: "minmax(120px, 1fr)", cell: (e) => <Text>{e.detail}</Text> },
  { id: "address", header: "Address", width: "112px", cell: (e) => <Text mono>{e.address ?? ""}</Text> },
];

/** Why it was refused, or the reason that somebody gave, which is in the detail. */
function reasonOf(e: AuditEntry): string {
  if (e.reason) return e.reason;
  try {
    const { reason, message } = JSON.parse(e.detail) as { reason?: unknown; message?: unknown };
    const said = reason ?? message;
    return typeof said === "string" ? said : "";
  } catch {
    return "";
  }
}

function EntryLink({ seq }: { seq: number }) {
  return (
    <Link
      to="/audit"
      search={(old) => ({ ...old, entry: String(seq) })}
      aria-label={`Entry ${seq}`}
      onClick={(e) => e.stopPropagation()}
      className="text-fg-3 hover:text-accent"
    >
      {seq}
    </Link>
  );
}

function Action({ entry }: { entry: AuditEntry }) {
  return (
    <span className="flex min-w-0 items-center gap-1.5">
      {entry.outcome === "refused" && <Badge tone="bad">refused</Badge>}
      <Badge mono>
        <span className="truncate">{visible(entry.action)}</span>
      </Badge>
    </span>
  );
}

/** A text that may be cut off, whole on hover. */
function Text({ children, mono, bad }: { children: string; mono?: boolean; bad?: boolean }) {
  return (
    <span title={visible(children)} className={bad ? "text-bad" : "text-fg-2"}>
      <Agent className={mono ? "font-mono text-xs" : ""}>{children}</Agent>
    </span>
  );
}

export function AuditPage() {
  useTitle("Audit log");
  const { entry, ...params } = route.useSearch();
  const navigate = route.useNavigate();
  const filtered = Boolean(params.actor || params.outcome);
  const { data, error, refetch, hasNextPage, fetchNextPage, isFetchingNextPage, isPlaceholderData } = useInfiniteQuery(auditQuery(params));
  const entries = data?.pages.flatMap((p) => p.entries) ?? [];
  const more = useCallback(() => {
    if (hasNextPage && !isFetchingNextPage) void fetchNextPage();
  }, [hasNextPage, isFetchingNextPage, fetchNextPage]);
  const change = useCallback(
    (next: AuditParams) => void navigate({ search: (old: AuditParams) => ({ ...old, ...next }), replace: true }),
    [navigate],
  );
  const show = (seq: string | undefined) => void navigate({ search: (old) => ({ ...old, entry: seq }) });
  return (
    <div className="mx-auto flex h-full max-w-[100rem] flex-col gap-4 px-5 py-4">
      <PageHeader title="Audit log" />
      <p className="-mt-2 text-sm text-fg-3">
        Who did what, and what was refused, newest first. Each entry is linked to the one before it by hash;{" "}
        <code className="font-mono text-xs">muster audit verify</code> checks them all.
      </p>
      <Filters params={params} onChange={change} />
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
            minWidth={1004}
            onRowClick={(e) => show(String(e.seq))}
            stale={isPlaceholderData}
            empty={
              filtered ? (
                <Empty icon="filter" title="No entry matches" action={<Button onClick={() => void navigate({ search: {}, replace: true })}>Clear the filters</Button>} />
              ) : (
                <Empty icon="audit" title="Nothing was done yet" />
              )
            }
            footer={isFetchingNextPage ? "Loading more…" : !hasNextPage && entries.length > 0 ? "The beginning of the log" : undefined}
          />
        )}
      </Card>
      <Dialog open={entry !== undefined} onOpenChange={(open) => !open && show(undefined)} title={`Entry ${visible(entry ?? "")}`} wide>
        {entry !== undefined && <Entry seq={Number.parseInt(entry, 10) || 0} />}
      </Dialog>
    </div>
  );
}

function Entry({ seq }: { seq: number }) {
  const { data: e, error, refetch } = useQuery(auditEntryQuery(seq));
  if (error) return <ErrorNote error={error} onRetry={() => void refetch()} />;
  if (e === undefined) return <Loading />;
  if (e === null) return <Empty icon="audit" title="There is no such entry" />;
  const facts: [string, string | undefined][] = [
    ["Time", formatTime(e.time)],
    ["Actor", e.actor],
    ["Session", e.session],
    ["Address", e.address],
    ["Target", e.target],
    ["Object", e.object],
    ["Reason", e.reason],
    ["Approved by", e.approvals.join(", ")],
    ["Content hash", e.content_hash],
    ["Hash before", e.prev],
    ["Hash", e.hash],
  ];
  return (
    <div className="flex flex-col gap-4">
      <Action entry={e} />
      <Facts items={facts.filter(([, v]) => v).map(([name, v]) => [name, <Agent key={name} className={/hash/i.test(name) ? "font-mono text-xs break-all" : "break-words"}>{v}</Agent>])} />
      {e.detail && (
        <div className="rounded-md border border-line bg-sunken p-3">
          <Lines className="font-mono text-xs leading-5 [overflow-wrap:anywhere]">{pretty(e.detail)}</Lines>
        </div>
      )}
    </div>
  );
}

/** The same JSON, for people; as it is if it is none. */
function pretty(json: string): string {
  try {
    return JSON.stringify(JSON.parse(json), null, 2);
  } catch {
    return json;
  }
}

const outcomes = [
  { value: "", label: "Any outcome" },
  { value: "done", label: "Done" },
  { value: "refused", label: "Refused" },
];

function Filters({ params, onChange }: { params: AuditParams; onChange: (change: AuditParams) => void }) {
  const { actor = "", outcome = "" } = params;
  const { data } = useQuery(usersQuery);
  const [text, setText] = useState(actor);
  const settled = useDebounced(text.trim(), 250);
  useEffect(() => setText(actor), [actor]);
  useEffect(() => {
    if (settled !== actor) onChange({ actor: settled });
    // Only what was typed changes the address, not the other way round.
  }, [settled, onChange]);
  return (
    <div className="flex flex-wrap items-center gap-2" role="search" aria-label="Filter the audit log">
      <SearchInput
        label="Actor"
        placeholder="Actor, the whole name"
        className="w-60"
        list="actors"
        value={text}
        onChange={(e) => setText(e.target.value)}
      />
      <datalist id="actors">
        {["system", ...(data?.users ?? []).map((u) => u.name)].map((name) => (
          <option key={name} value={name} />
        ))}
      </datalist>
      <Select label="Outcome" value={outcome} onChange={(v) => onChange({ outcome: v })} options={outcomes} />
    </div>
  );
}
