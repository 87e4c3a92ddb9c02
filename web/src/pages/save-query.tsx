import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useState, type FormEvent } from "react";

import { api } from "@/api/client";
import { savedQueriesQuery, savedQueryPath, selectsSomething } from "@/api/live";
import type { SavedQuery, SavedQueryInput, Selector } from "@/api/types";
import { Agent } from "@/lib/text";
import { Button, Checkbox, Field, Input } from "@/ui/controls";
import { ErrorNote } from "@/ui/display";
import { Dialog, useNotify } from "@/ui/overlay";

interface SaveQueryDialogProps {
  open: boolean;
  onOpenChange: (open: boolean) => void;
  sql: string;
  selector?: Selector | undefined;
}

/** Keeps a text, and whom it is for if one likes, under a name that everybody sees. */
export function SaveQueryDialog({ open, onOpenChange, ...form }: SaveQueryDialogProps) {
  return (
    <Dialog open={open} onOpenChange={onOpenChange} title="Save the query" description="Everybody here can open it.">
      <SaveForm {...form} onDone={() => onOpenChange(false)} />
    </Dialog>
  );
}

function SaveForm({ sql, selector, onDone }: { sql: string; selector?: Selector | undefined; onDone: () => void }) {
  const client = useQueryClient();
  const notify = useNotify();
  const { data: saved } = useQuery(savedQueriesQuery);
  const [name, setName] = useState("");
  const [description, setDescription] = useState("");
  const [withTargets, setWithTargets] = useState(false);
  const existing = saved?.find((s) => s.name === name.trim());
  const hasTargets = selector !== undefined && selectsSomething(selector);
  const save = useMutation({
    mutationFn: (input: SavedQueryInput) => api.put<SavedQuery>(savedQueryPath(name.trim()), input),
    onSuccess: () => {
      void client.invalidateQueries({ queryKey: savedQueriesQuery.queryKey });
      notify.done(`Saved as ${name.trim()}`);
      onDone();
    },
  });
  const submit = (e: FormEvent) => {
    e.preventDefault();
    if (!name.trim() || !sql.trim()) return;
    const input: SavedQueryInput = { description: description.trim() || (existing?.description ?? ""), sql };
    if (withTargets && selector) input.selector = selector;
    save.mutate(input);
  };
  return (
    <form onSubmit={submit} className="flex flex-col gap-4">
      {save.error && <ErrorNote error={save.error} />}
      <Field
        label="Name"
        hint={
          existing ? (
            <span className="text-warn">
              It replaces the query of this name, last changed by <Agent>{existing.updated_by}</Agent>.
            </span>
          ) : (
            "Such as listening-ports"
          )
        }
      >
        {(ids) => <Input {...ids} autoFocus value={name} maxLength={64} onChange={(e) => setName(e.target.value)} required />}
      </Field>
      <Field label="Description" hint="What it finds, and when one wants it">
        {(ids) => <Input {...ids} value={description} maxLength={1000} placeholder={existing?.description ?? ""} onChange={(e) => setDescription(e.target.value)} />}
      </Field>
      <pre tabIndex={0} aria-label="Query" className="max-h-40 overflow-auto rounded-md border border-line bg-sunken p-3 font-mono text-xs leading-5">
        {sql.trim() || "The editor is empty."}
      </pre>
      {hasTargets && (
        <label className="flex items-center gap-2 text-sm">
          <Checkbox label="With its targets" checked={withTargets} onChange={setWithTargets} /> With its targets
        </label>
      )}
      <div className="flex justify-end gap-2">
        <Button onClick={onDone}>Cancel</Button>
        <Button type="submit" tone="primary" busy={save.isPending} disabled={!name.trim() || !sql.trim()}>
          {existing ? "Replace" : "Save"}
        </Button>
      </div>
    </form>
  );
}
