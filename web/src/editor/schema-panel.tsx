import { useMemo, useState } from "react";

import type { SchemaColumn, SchemaTable } from "@/api/types";
import { cx } from "@/lib/cx";
import { platformName } from "@/lib/format";
import { Button, Input } from "@/ui/controls";
import { Badge } from "@/ui/display";
import { Icon } from "@/ui/icons";
import type { Schema } from "./completion";

interface SchemaPanelProps {
  schema: Schema | undefined;
  /** Tables of the statement at the cursor, in order. */
  used: string[];
  /** The table that the cursor is at, if any. */
  atCursor: string | undefined;
  onInsert: (text: string) => void;
  onClose: () => void;
}

/** Describes the table at the cursor, or lists all tables. */
export function SchemaPanel({ schema, used, atCursor, onInsert, onClose }: SchemaPanelProps) {
  const [picked, setPicked] = useState<{ table: string | null; cursor: string | undefined; used: string } | null>(null);
  const usedKey = used.join(" ");
  // What was picked here holds until the cursor moves to another table.
  const holds = picked !== null && picked.cursor === atCursor && picked.used === usedKey;
  const name = holds ? picked.table : (atCursor ?? used.at(-1) ?? null);
  const table = name ? schema?.byName.get(name) : undefined;
  const pick = (next: string | null) => setPicked({ table: next, cursor: atCursor, used: usedKey });
  return (
    <aside aria-label="Schema" className="flex h-full min-h-0 flex-col border-l border-line bg-surface">
      <header className="flex h-10 shrink-0 items-center gap-1 border-b border-line pr-2 pl-3">
        {table ? (
          <button type="button" onClick={() => pick(null)} className="inline-flex items-center gap-1 rounded-sm text-xs font-medium text-fg-3 hover:text-fg">
            <Icon name="chevronRight" size={13} className="rotate-180" /> All tables
          </button>
        ) : (
          <h2 className="text-xs font-medium text-fg-3">Tables</h2>
        )}
        <Button tone="ghost" size="sm" icon="x" aria-label="Hide the schema" className="ml-auto" onClick={onClose} />
      </header>
      {used.length > 1 && table && (
        <div className="flex shrink-0 flex-wrap gap-1 border-b border-line px-3 py-2">
          {used.map((u) => (
            <button
              key={u}
              type="button"
              aria-pressed={u === table.name}
              onClick={() => pick(u)}
              className={cx(
                "h-5.5 rounded-sm border px-1.5 font-mono text-2xs",
                u === table.name ? "border-accent/50 bg-accent-soft text-accent" : "border-line text-fg-2 hover:bg-hover",
              )}
            >
              {u}
            </button>
          ))}
        </div>
      )}
      {name && !table && schema && (
        <p className="border-b border-line bg-warn-soft px-3 py-2 text-xs text-warn">
          osquery has no table <span className="font-mono">{name}</span>.
        </p>
      )}
      {table ? <TableDoc key={table.name} table={table} onInsert={onInsert} /> : <TableList schema={schema} onPick={pick} />}
    </aside>
  );
}

function TableList({ schema, onPick }: { schema: Schema | undefined; onPick: (name: string) => void }) {
  const [filter, setFilter] = useState("");
  const shown = useMemo(() => {
    const f = filter.trim().toLowerCase();
    const tables = schema?.tables ?? [];
    if (!f) return tables;
    return tables
      .filter((t) => t.name.includes(f) || t.description.toLowerCase().includes(f) || t.columns.some((c) => c.name === f))
      .sort((a, b) => Number(b.name.includes(f)) - Number(a.name.includes(f)));
  }, [schema, filter]);
  return (
    <>
      <div className="shrink-0 border-b border-line p-2">
        <Input type="search" aria-label="Search tables and columns" placeholder="Search tables and columns" value={filter} onChange={(e) => setFilter(e.target.value)} />
      </div>
      <ul className="min-h-0 flex-1 overflow-auto p-1.5">
        {shown.map((t) => (
          <li key={t.name}>
            <button type="button" onClick={() => onPick(t.name)} className="block w-full rounded-sm px-2 py-1 text-left hover:bg-hover">
              <span className="flex items-baseline gap-2">
                <span className="truncate font-mono text-xs">{t.name}</span>
                {t.platforms.length < 3 && <span className="ml-auto shrink-0 text-2xs text-fg-3">{t.platforms.map(platformName).join(", ")}</span>}
              </span>
            </button>
          </li>
        ))}
        {schema && shown.length === 0 && <li className="px-2 py-6 text-center text-xs text-fg-3">No table matches.</li>}
      </ul>
    </>
  );
}

function TableDoc({ table, onInsert }: { table: SchemaTable; onInsert: (text: string) => void }) {
  const hidden = table.columns.filter((c) => c.hidden);
  const shown = table.columns.filter((c) => !c.hidden);
  return (
    <div className="min-h-0 flex-1 overflow-auto">
      <div className="flex flex-col gap-2 px-3 py-3">
        <h2 className="font-mono text-sm font-semibold break-all">{table.name}</h2>
        <p className="text-xs leading-[1.15rem] text-fg-2">{table.description}</p>
        <div className="flex flex-wrap gap-1">
          {table.platforms.map((p) => (
            <Badge key={p}>{platformName(p)}</Badge>
          ))}
          {table.evented && <Badge tone="accent" title="Holds what happened, if events are on in the profile">events</Badge>}
          {table.user_data && <Badge tone="warn" title="Join it with users, or it shows only the agent's own user">per user</Badge>}
          {table.utility && <Badge>utility</Badge>}
        </div>
      </div>
      <h3 className="border-y border-line bg-sunken px-3 py-1.5 text-2xs font-medium text-fg-3">{shown.length} columns</h3>
      <ul>
        {shown.map((c) => (
          <ColumnDoc key={c.name} column={c} onInsert={onInsert} />
        ))}
      </ul>
      {hidden.length > 0 && (
        <>
          <h3 className="border-y border-line bg-sunken px-3 py-1.5 text-2xs font-medium text-fg-3">Not in SELECT *</h3>
          <ul>
            {hidden.map((c) => (
              <ColumnDoc key={c.name} column={c} onInsert={onInsert} />
            ))}
          </ul>
        </>
      )}
      {table.examples && table.examples.length > 0 && (
        <>
          <h3 className="border-y border-line bg-sunken px-3 py-1.5 text-2xs font-medium text-fg-3">Examples</h3>
          <ul className="flex flex-col gap-1.5 p-3">
            {table.examples.map((e) => (
              <li key={e}>
                <button
                  type="button"
                  title="Put it into the editor"
                  onClick={() => onInsert(e)}
                  className="w-full rounded-sm border border-line bg-sunken px-2 py-1.5 text-left font-mono text-2xs break-words hover:border-line-strong"
                >
                  {e}
                </button>
              </li>
            ))}
          </ul>
        </>
      )}
    </div>
  );
}

function ColumnDoc({ column, onInsert }: { column: SchemaColumn; onInsert: (text: string) => void }) {
  return (
    <li className="border-b border-line/60 last:border-0">
      <button type="button" title="Put it at the cursor" onClick={() => onInsert(column.name)} className="block w-full px-3 py-1.5 text-left hover:bg-hover">
        <span className="flex items-center gap-1.5">
          <span className="truncate font-mono text-xs font-medium">{column.name}</span>
          {column.required && <Badge tone="warn" title="A query must constrain a required column">required</Badge>}
          {column.index && !column.required && <Badge title="Constraining it is fast">index</Badge>}
          <span className="ml-auto shrink-0 font-mono text-2xs text-fg-3">{column.type.toLowerCase().replace("_", " ")}</span>
        </span>
        {column.description && <span className="mt-0.5 block text-2xs leading-4 text-fg-3">{column.description}</span>}
        {column.platforms && column.platforms.length > 0 && column.platforms.length < 3 && (
          <span className="mt-0.5 block text-2xs text-fg-3">{column.platforms.map(platformName).join(", ")} only</span>
        )}
      </button>
    </li>
  );
}
