import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { getRouteApi, Link, Outlet, useNavigate, useParams } from "@tanstack/react-router";
import { useDeferredValue, useEffect, useMemo, useRef, useState } from "react";

import { api, ApiError } from "@/api/client";
import { refreshLive } from "@/api/live";
import { schemaQuery } from "@/api/queries";
import type { Live, LiveInput, Selector } from "@/api/types";
import { makeSchema } from "@/editor/completion";
import { SchemaPanel } from "@/editor/schema-panel";
import { SqlEditor, type SqlEditorHandle } from "@/editor/sql-editor";
import { copyText } from "@/lib/copy";
import { cx } from "@/lib/cx";
import { useRemembered, useTitle } from "@/lib/hooks";
import { countOptions, inputOf, loadDraft, saveDraft, type LiveDraft } from "@/lib/live-draft";
import { linkTo, targetsOf } from "@/lib/live-link";
import { statementAt, tableAt, tablesOf } from "@/lib/sql";
import { Button, buttonClass, Select } from "@/ui/controls";
import { ErrorNote } from "@/ui/display";
import { Menu, useNotify } from "@/ui/overlay";
import { LiveEditorContext } from "./live-context";
import { LiveOptions } from "./live-options";
import { RunBar } from "./live-run";
import { SaveQueryDialog } from "./save-query";
import { TargetPicker } from "./target-picker";
import { useVerdict, VerdictLine } from "./verdict";

const route = getRouteApi("/shell/live");

const expiries = [
  { value: "60", label: "1 minute" },
  { value: "600", label: "10 minutes" },
  { value: "3600", label: "1 hour" },
  { value: "86400", label: "1 day" },
  { value: "604800", label: "7 days" },
];

/** The editor and the targets; below them the history or one query's results. */
export function LivePage() {
  useTitle("Live query");
  const { id } = useParams({ strict: false });
  const editor = useRef<SqlEditorHandle>(null);
  const [draft, setDraft] = useDraft();
  const setSql = (sql: string) => setDraft((d) => ({ ...d, sql }));
  const setSelector = (selector: Selector) => setDraft((d) => ({ ...d, selector }));

  const [cursor, setCursor] = useState(0);
  const { data: tables } = useQuery(schemaQuery);
  const schema = useMemo(() => tables && makeSchema(tables), [tables]);
  const sql = useDeferredValue(draft.sql);
  const at = useDeferredValue(cursor);
  const used = useMemo(() => [...new Set(tablesOf(statementAt(sql, at)).map((u) => u.name))], [sql, at]);
  const atCursor = useMemo(() => tableAt(sql, at), [sql, at]);
  const { verdict, failed, found, refused } = useVerdict(draft.sql);
  const [panel, setPanel] = useRemembered("schema-panel", true);
  const [options, setOptions] = useState(false);
  const start = useStart();
  const runBar = useRef<{ run: () => void }>(null);

  return (
    <LiveEditorContext
      value={{
        sql: draft.sql,
        setSql: (next) => {
          setSql(next);
          editor.current?.focus();
        },
        load: (next, selector) => {
          setDraft((d) => ({ ...d, sql: next, selector: selector ?? d.selector }));
          editor.current?.focus();
        },
      }}
    >
      <div className={cx("grid h-full min-h-0", panel ? "grid-cols-[minmax(0,1fr)_19rem]" : "grid-cols-[minmax(0,1fr)]")}>
        <div className="flex min-h-0 min-w-0 flex-col gap-3 overflow-auto px-5 py-4">
          <h1 className="sr-only">Live query</h1>
          <section aria-label="Query" className="flex shrink-0 flex-col rounded-lg border border-line bg-surface shadow-card focus-within:border-accent/60">
            <div className={cx("relative max-h-[60vh] min-h-16 resize-y overflow-hidden rounded-t-lg", id ? "h-20" : "h-40")}>
              <SqlEditor ref={editor} value={draft.sql} onChange={setSql} onCursor={setCursor} onRun={() => runBar.current?.run()} schema={schema} found={found} />
            </div>
            <VerdictLine verdict={verdict} failed={failed} />
            <div className="flex min-h-11 flex-wrap items-center gap-2 border-t border-line px-3 py-2">
              <TargetPicker selector={draft.selector} onChange={setSelector} />
              <div className="ml-auto flex items-center gap-2">
                <Select
                  label="How long to wait for nodes"
                  size="sm"
                  prefix="wait"
                  value={String(draft.expires)}
                  onChange={(v) => setDraft((d) => ({ ...d, expires: Number(v) }))}
                  options={expiries}
                />
                <Button size="sm" aria-expanded={options} onClick={() => setOptions(!options)}>
                  Options{countOptions(draft) > 0 && ` (${countOptions(draft)})`}
                </Button>
                {!panel && <Button size="sm" icon="panel" aria-label="Show the schema" onClick={() => setPanel(true)} />}
              </div>
            </div>
            {options && <LiveOptions draft={draft} onChange={(change) => setDraft((d) => ({ ...d, ...change }))} />}
            <RunBar
              ref={runBar}
              draft={draft}
              refused={refused}
              busy={start.isPending}
              error={start.error}
              onRun={(reason) => start.mutate(inputOf(draft, reason))}
              onSelector={setSelector}
            >
              <DraftMenu draft={draft} onSql={setSql} />
            </RunBar>
          </section>
          {start.error && <ErrorNote error={start.error} title={isForbidden(start.error) ? "You may not send this query" : "The query was not sent"} />}
          <Outlet />
        </div>
        {panel && (
          <SchemaPanel
            schema={schema}
            used={used}
            atCursor={atCursor}
            onInsert={(text) => editor.current?.insert(text)}
            onClose={() => setPanel(false)}
          />
        )}
      </div>
    </LiveEditorContext>
  );
}

const isForbidden = (error: Error): boolean => error instanceof ApiError && error.status === 403;

/** The draft, begun by what the address fills in. Nothing runs by an address. */
function useDraft(): [LiveDraft, React.Dispatch<React.SetStateAction<LiveDraft>>] {
  const search = route.useSearch();
  const navigate = useNavigate();
  const { sql, nodes, tags, where, all } = search;
  const [draft, setDraft] = useState(() => ({ ...loadDraft(), ...filledIn(search) }));
  useEffect(() => saveDraft(draft), [draft]);
  const link = Boolean(sql ?? nodes ?? tags ?? where ?? all);
  const used = useRef(true); // the first one is in the initial state
  useEffect(() => {
    if (!link) {
      used.current = false;
      return;
    }
    if (!used.current) setDraft((d) => ({ ...d, ...filledIn({ sql, nodes, tags, where, all }) }));
    void navigate({ to: ".", search: {}, replace: true });
  }, [link, sql, nodes, tags, where, all, navigate]);
  return [draft, setDraft];
}

interface Filled {
  sql?: string | undefined;
  nodes?: string | undefined;
  tags?: string | undefined;
  where?: string | undefined;
  all?: string | undefined;
}

function filledIn({ sql, ...targets }: Filled): Partial<LiveDraft> {
  const selector = targetsOf(targets as Parameters<typeof targetsOf>[0]);
  return { ...(sql ? { sql } : {}), ...(selector ? { selector } : {}) };
}

function useStart() {
  const client = useQueryClient();
  const navigate = useNavigate();
  return useMutation({
    mutationFn: (input: LiveInput) => api.post<Live>("/live", input),
    onSuccess: (live, { selector }) => {
      refreshLive(client, { ...live, selector });
      void navigate({ to: "/live/$id", params: { id: live.id } });
    },
  });
}

/** What can be done with the text and its targets beside running them. */
function DraftMenu({ draft, onSql }: { draft: LiveDraft; onSql: (sql: string) => void }) {
  const [saving, setSaving] = useState(false);
  const notify = useNotify();
  const share = async () => {
    const link = linkTo(location.origin, draft.sql, draft.selector);
    if (link === undefined) notify.failed("The list of nodes is too long for a link. Tag the nodes, or save the query.");
    else if (await copyText(link)) notify.done("The link is copied. It fills in the text and the targets, and runs nothing.");
    else notify.failed(`The browser did not let it be copied: ${link}`);
  };
  return (
    <>
      <Link to="/live" search={{ tab: "saved" }} className={buttonClass("ghost", "sm")}>
        Saved queries
      </Link>
      <Menu
        trigger={<Button size="sm" tone="ghost" icon="more" aria-label="More" />}
        items={[
          { label: "Save as…", icon: "save", onSelect: () => setSaving(true) },
          { label: "Copy a link that fills this in", icon: "link", onSelect: () => void share() },
          { label: "Empty the editor", icon: "x", onSelect: () => onSql("") },
        ]}
      />
      <SaveQueryDialog open={saving} onOpenChange={setSaving} sql={draft.sql} selector={draft.selector} />
    </>
  );
}
