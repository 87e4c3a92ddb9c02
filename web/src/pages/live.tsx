import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { getRouteApi, Outlet, useNavigate, useParams } from "@tanstack/react-router";
import { useDeferredValue, useEffect, useMemo, useRef, useState } from "react";

import { api, ApiError } from "@/api/client";
import { liveQuery, previewQuery, schemaQuery, selectsSomething } from "@/api/queries";
import type { Live, LiveInput, Selector } from "@/api/types";
import { makeSchema } from "@/editor/completion";
import { SchemaPanel } from "@/editor/schema-panel";
import { SqlEditor, type SqlEditorHandle } from "@/editor/sql-editor";
import { cx } from "@/lib/cx";
import { formatCount, plural } from "@/lib/format";
import { useDebounced, useRemembered, useTitle } from "@/lib/hooks";
import { loadDraft, saveDraft } from "@/lib/live-draft";
import { statementAt, tableAt, tablesOf } from "@/lib/sql";
import { Button, Select, Spinner } from "@/ui/controls";
import { ErrorNote } from "@/ui/display";
import { LiveEditorContext } from "./live-context";
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
  const search = route.useSearch();
  const { id } = useParams({ strict: false });
  const navigate = useNavigate();
  const client = useQueryClient();
  const editor = useRef<SqlEditorHandle>(null);

  const [draft, setDraft] = useState(() => {
    const kept = loadDraft();
    return {
      ...kept,
      ...(search.sql ? { sql: search.sql } : {}),
      ...(search.nodes ? { selector: { nodes: search.nodes.split(",") } } : {}),
    };
  });
  useEffect(() => saveDraft(draft), [draft]);
  useEffect(() => {
    if (search.sql || search.nodes) void navigate({ to: ".", search: {}, replace: true });
  }, [search, navigate]);
  const setSql = (sql: string) => setDraft((d) => ({ ...d, sql }));

  const [cursor, setCursor] = useState(0);
  const { data: tables } = useQuery(schemaQuery);
  const schema = useMemo(() => tables && makeSchema(tables), [tables]);
  const sql = useDeferredValue(draft.sql);
  const at = useDeferredValue(cursor);
  const used = useMemo(() => [...new Set(tablesOf(statementAt(sql, at)).map((u) => u.name))], [sql, at]);
  const atCursor = useMemo(() => tableAt(sql, at), [sql, at]);
  const { verdict, failed, found, refused } = useVerdict(draft.sql);
  const [panel, setPanel] = useRemembered("schema-panel", true);

  const start = useMutation({
    mutationFn: (input: LiveInput) => api.post<Live>("/live", input),
    onSuccess: (live) => {
      client.setQueryData(liveQuery(live.id).queryKey, live);
      void client.invalidateQueries({ queryKey: ["live", "list"] });
      void client.invalidateQueries({ queryKey: ["overview"] });
      void navigate({ to: "/live/$id", params: { id: live.id } });
    },
  });
  const ready = draft.sql.trim() !== "" && selectsSomething(draft.selector) && !refused;
  const run = () => {
    if (ready && !start.isPending) start.mutate({ sql: draft.sql, selector: draft.selector, expires_seconds: draft.expires });
  };

  return (
    <LiveEditorContext value={{ sql: draft.sql, setSql: (next) => { setSql(next); editor.current?.focus(); } }}>
      <div className={cx("grid h-full min-h-0", panel ? "grid-cols-[minmax(0,1fr)_19rem]" : "grid-cols-[minmax(0,1fr)]")}>
        <div className="flex min-h-0 min-w-0 flex-col gap-3 overflow-auto px-5 py-4">
          <h1 className="sr-only">Live query</h1>
          <section aria-label="Query" className="flex shrink-0 flex-col rounded-lg border border-line bg-surface shadow-card focus-within:border-accent/60">
            <div className={cx("relative max-h-[60vh] min-h-20 resize-y overflow-hidden rounded-t-lg", id ? "h-28" : "h-44")}>
              <SqlEditor ref={editor} value={draft.sql} onChange={setSql} onCursor={setCursor} onRun={run} schema={schema} found={found} />
            </div>
            <VerdictLine verdict={verdict} failed={failed} />
            <div className="flex min-h-12 flex-wrap items-center gap-2 border-t border-line px-3 py-2">
              <TargetPicker selector={draft.selector} onChange={(selector) => setDraft((d) => ({ ...d, selector }))} />
              <div className="ml-auto flex items-center gap-2">
                <Select
                  label="How long to wait for nodes"
                  size="sm"
                  prefix="wait"
                  value={String(draft.expires)}
                  onChange={(v) => setDraft((d) => ({ ...d, expires: Number(v) }))}
                  options={expiries}
                />
                {!panel && <Button size="sm" icon="panel" aria-label="Show the schema" onClick={() => setPanel(true)} />}
                <RunButton selector={draft.selector} ready={ready} refused={refused} busy={start.isPending} onRun={run} />
              </div>
            </div>
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

interface RunButtonProps {
  selector: Selector;
  ready: boolean;
  /** Why the policy refuses it, if it does; the server decides once more. */
  refused: string | undefined;
  busy: boolean;
  onRun: () => void;
}

function RunButton({ selector, ready, refused, busy, onRun }: RunButtonProps) {
  const settled = useDebounced(selector, 150);
  const some = selectsSomething(selector);
  const { data, isFetching, error } = useQuery(previewQuery(settled));
  const none = some && data?.matching === 0;
  return (
    <>
      <span className="tnum flex items-center gap-1.5 text-xs whitespace-nowrap text-fg-3" role="status" aria-label="Reach">
        {refused ? (
          <span className="text-bad">refused by the policy</span>
        ) : !some ? (
          "no targets yet"
        ) : error ? (
          <span className="text-bad">{error.message}</span>
        ) : data ? (
          <span>
            hits <strong className="font-semibold text-fg">{plural(data.matching, "node")}</strong>, {formatCount(data.online)} online
          </span>
        ) : (
          isFetching && <Spinner size={12} />
        )}
      </span>
      <Button
        tone="primary"
        size="sm"
        icon="play"
        busy={busy}
        disabled={!ready || none}
        onClick={onRun}
        title={refused ? `The policy refuses this text: ${refused}` : "Ctrl+Enter in the editor"}
      >
        Run
      </Button>
    </>
  );
}
