import { useState, type FormEvent, type ReactNode } from "react";

import { Button, Field, Input } from "@/ui/controls";
import { ErrorNote } from "@/ui/display";
import { Dialog } from "@/ui/overlay";

interface ReasonDialogProps {
  open: boolean;
  onOpenChange: (open: boolean) => void;
  title: string;
  description: ReactNode;
  /** What the button that does it says. */
  action: string;
  harmless?: boolean;
  maxLength?: number;
  busy: boolean;
  error?: unknown;
  onConfirm: (reason: string) => void;
}

/** Asks why before something is done. */
export function ReasonDialog({ open, onOpenChange, title, description, ...form }: ReasonDialogProps) {
  return (
    <Dialog open={open} onOpenChange={onOpenChange} title={title} description={description}>
      <ReasonForm {...form} onCancel={() => onOpenChange(false)} />
    </Dialog>
  );
}

type ReasonFormProps = Omit<ReasonDialogProps, "open" | "onOpenChange" | "title" | "description"> & { onCancel: () => void };

function ReasonForm({ action, harmless, maxLength = 2000, busy, error, onConfirm, onCancel }: ReasonFormProps) {
  const [reason, setReason] = useState("");
  const submit = (e: FormEvent) => {
    e.preventDefault();
    if (reason.trim()) onConfirm(reason.trim());
  };
  return (
    <form onSubmit={submit} className="flex flex-col gap-4">
      {error ? <ErrorNote error={error} /> : null}
      <Field label="Reason" hint="For whoever reads it later">
        {(ids) => <Input {...ids} autoFocus value={reason} maxLength={maxLength} onChange={(e) => setReason(e.target.value)} required />}
      </Field>
      <div className="flex justify-end gap-2">
        <Button onClick={onCancel}>Cancel</Button>
        <Button type="submit" tone={harmless ? "primary" : "danger"} busy={busy} disabled={!reason.trim()}>
          {action}
        </Button>
      </div>
    </form>
  );
}
