import type { ComponentProps } from "react";

import type { LiveDraft } from "@/lib/live-draft";
import { Button, Field, Input } from "@/ui/controls";

interface LiveOptionsProps {
  draft: LiveDraft;
  onChange: (change: Partial<LiveDraft>) => void;
}

const none: Partial<LiveDraft> = { notBefore: undefined, sample: undefined, maxNodes: undefined, limits: undefined, waves: undefined };

/** What few queries need: a part of the nodes, a later time, limits, waves. */
export function LiveOptions({ draft, onChange }: LiveOptionsProps) {
  const limit = (name: keyof NonNullable<LiveDraft["limits"]>) => ({
    value: draft.limits?.[name],
    onValue: (n: number | undefined) => onChange({ limits: { ...draft.limits, [name]: n } }),
  });
  const wave = (name: keyof NonNullable<LiveDraft["waves"]>) => ({
    value: draft.waves?.[name],
    onValue: (n: number | undefined) => onChange({ waves: { ...draft.waves, [name]: n } }),
  });
  return (
    <div role="group" aria-label="Options" className="grid grid-cols-[repeat(auto-fill,minmax(11.5rem,1fr))] gap-x-4 gap-y-3 border-t border-line bg-sunken px-3 py-3">
      <Field label="Not before" hint="Your local time; empty is at once">
        {(ids) => <Input {...ids} type="datetime-local" value={draft.notBefore ?? ""} onChange={(e) => onChange({ notBefore: e.target.value || undefined })} />}
      </Field>
      <NumberField label="Sample, in percent" hint="The same nodes each time" max={100} value={draft.sample} onValue={(n) => onChange({ sample: n })} />
      <NumberField label="Refuse it over so many nodes" hint="A guard against a wide selector" value={draft.maxNodes} onValue={(n) => onChange({ maxNodes: n })} />
      <NumberField label="Nodes in the first wave" hint="Each good answer makes room for more" {...wave("first")} />
      <NumberField label="Hold at bad answers, in percent" hint="Failed, denylisted or silent" max={100} {...wave("max_bad_percent")} />
      <NumberField label="Rows of one node" max={10_000} {...limit("rows_per_node")} />
      <NumberField label="Bytes of one node" min={1024} max={8 << 20} {...limit("bytes_per_node")} />
      <NumberField label="Rows in all" max={10_000_000} {...limit("rows")} />
      <NumberField label="Bytes in all" min={1024} max={8 * 2 ** 30} {...limit("bytes")} />
      <div className="flex items-end">
        <Button size="sm" tone="ghost" onClick={() => onChange(none)}>
          Reset the options
        </Button>
      </div>
    </div>
  );
}

interface NumberFieldProps extends Pick<ComponentProps<"input">, "min" | "max"> {
  label: string;
  hint?: string;
  value: number | undefined;
  onValue: (n: number | undefined) => void;
}

function NumberField({ label, hint = "Empty is the server's own limit", value, onValue, min = 1, max }: NumberFieldProps) {
  return (
    <Field label={label} hint={hint}>
      {(ids) => (
        <Input
          {...ids}
          type="number"
          inputMode="numeric"
          min={min}
          max={max}
          value={value ?? ""}
          onChange={(e) => {
            const n = Math.floor(Number(e.target.value));
            onValue(n >= 1 ? n : undefined);
          }}
        />
      )}
    </Field>
  );
}
