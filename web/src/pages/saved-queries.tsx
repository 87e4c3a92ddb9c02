import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";

import { api } from "@/api/client";
import { savedQueriesQuery, savedQueryPath, selectsSomething } from "@/api/live";
import type { SavedQuery } from "@/api/types";
import { Agent, visible } from "@/lib/text";
import { Button, SearchInput } from "@/ui/controls";
import { Ago, Badge, Empty, ErrorNote, Loading } from "@/ui/display";
import { Confirm, useNotify } from "@/ui/overlay";
import { useLiveEditor } from "./live-context";

/** Texts that people keep, with whom they are for. */
export function SavedQueries() {
  const { data, error, refetch } = useQuery(savedQueriesQuery);
  const [text, setText] = useState("");
  const [deleting, setDeleting] = useState<SavedQuery | null>(null);
  if (error) {
    return (
      <div className="p-4">
        <ErrorNote error={error} title="The saved queries could not be loaded" onRetry={() => void refetch()} />
      </div>
    );
  }
  if (!data) return <Loading />;
  if (data.length === 0) {
    return (
      <Empty icon="save" title="No query is saved yet">
        Write one above, then choose Save as… behind the three dots. Everybody here can open it.
      </Empty>
    );
  }
  const word = text.trim().toLowerCase();
  const shown = data.filter((s) => !word || [s.name, s.description, s.sql].some((t) => t.toLowerCase().includes(word)));
  return (
    <>
      <div className="border-b border-line px-3 py-2">
        <SearchInput label="Search the saved queries" placeholder="Search names and texts" hint={false} className="w-72" value={text} onChange={(e) => setText(e.target.value)} />
      </div>
      {shown.length === 0 ? <Empty icon="filter" title="No saved query matches" /> : <SavedTable list={shown} onDelete={setDeleting} />}
      <DeleteSaved query={deleting} onClose={() => setDeleting(null)} />
    </>
  );
}

function SavedTable({ list, onDelete }: { list: SavedQuery[]; onDelete: (query: SavedQuery) => void }) {
  const { load } = useLiveEditor();
  return (
    <table className="w-full table-fixed text-sm" aria-label="Saved queries">
      <thead>
        <tr className="h-8 border-b border-line text-left text-xs text-fg-3 [&>th]:px-3 [&>th]:font-medium [&>th:first-child]:pl-4">
          <th className="w-[36%]">Name</th>
          <th>Query</th>
          <th className="w-32">Changed</th>
          <th className="w-32">
            <span className="sr-only">Actions</span>
          </th>
        </tr>
      </thead>
      <tbody>
        {list.map((s) => (
          <tr key={s.name} className="h-11 border-b border-line/70 last:border-0 hover:bg-hover [&>td]:px-3 [&>td:first-child]:pl-4">
            <td>
              <span className="flex items-center gap-2">
                <Agent className="truncate font-medium">{s.name}</Agent>
                {s.selector && selectsSomething(s.selector) && <Badge title="Opening it chooses its targets too">targets</Badge>}
              </span>
              {s.description && (
                <span className="block truncate text-xs text-fg-3" title={visible(s.description)}>
                  <Agent>{s.description}</Agent>
                </span>
              )}
            </td>
            <td className="truncate" title={visible(s.sql)}>
              <Agent className="font-mono text-xs text-fg-2">{s.sql.replace(/\s+/g, " ").trim()}</Agent>
            </td>
            <td className="text-fg-2">
              <span className="block leading-4">
                <Ago time={s.updated_at} />
              </span>
              <Agent className="block truncate text-xs leading-4 text-fg-3">{s.updated_by}</Agent>
            </td>
            <td>
              <span className="flex justify-end gap-1.5">
                <Button size="sm" aria-label={`Open ${visible(s.name)}`} onClick={() => load(s.sql, s.selector && selectsSomething(s.selector) ? s.selector : undefined)}>
                  Open
                </Button>
                <Button size="sm" tone="ghost" icon="trash" aria-label={`Delete ${visible(s.name)}`} onClick={() => onDelete(s)} />
              </span>
            </td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

function DeleteSaved({ query, onClose }: { query: SavedQuery | null; onClose: () => void }) {
  const client = useQueryClient();
  const notify = useNotify();
  const remove = useMutation({
    mutationFn: (name: string) => api.delete(savedQueryPath(name)),
    onSuccess: (_result, name) => {
      void client.invalidateQueries({ queryKey: savedQueriesQuery.queryKey });
      notify.done(`${visible(name)} is deleted`);
      onClose();
    },
    onError: notify.failed,
  });
  return (
    <Confirm
      open={query !== null}
      onOpenChange={(open) => !open && onClose()}
      title={`Delete ${visible(query?.name ?? "")}?`}
      action="Delete"
      busy={remove.isPending}
      onConfirm={() => query && remove.mutate(query.name)}
    >
      It is gone for everybody. What was asked with it stays in the history.
    </Confirm>
  );
}
