import { useInfiniteQuery, useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import { useMemo, useState, type FormEvent } from "react";

import { api, ApiError } from "@/api/client";
import { carveCheckQuery, refreshCarves } from "@/api/carves";
import { nodeQuery, nodesQuery } from "@/api/queries";
import type { Carve, CarveCheck, CarveInput, CarvePath } from "@/api/types";
import { cx } from "@/lib/cx";
import { useDebounced } from "@/lib/hooks";
import { Agent } from "@/lib/text";
import { Button, Field, Input, inputClass, Select } from "@/ui/controls";
import { ErrorNote, StatusDot } from "@/ui/display";
import { Icon } from "@/ui/icons";
import { Dialog } from "@/ui/overlay";
import { TierBadge } from "@/ui/tier";

const expiries = [
  { value: "3600", label: "1 hour" },
  { value: "86400", label: "1 day" },
  { value: "604800", label: "7 days" },
];

/** Asks for files of a node; of one that the page knows, or of one that is named. */
export function FetchDialog({ open, onOpenChange, node }: { open: boolean; onOpenChange: (open: boolean) => void; node?: string | undefined }) {
  return (
    <Dialog
      open={open}
      onOpenChange={onOpenChange}
      title="Fetch files"
      description="The node packs them into an archive and sends that in blocks. It reads them as root, and is busy meanwhile."
    >
      <FetchForm node={node} onCancel={() => onOpenChange(false)} />
    </Dialog>
  );
}

/** The server takes no more paths at once. */
const mostPaths = 16;

const pathsIn = (text: string): string[] => [...new Set(text.split("\n").map((l) => l.trim()).filter(Boolean))];

function FetchForm({ node, onCancel }: { node: string | undefined; onCancel: () => void }) {
  const client = useQueryClient();
  const navigate = useNavigate();
  const [name, setName] = useState(node ?? "");
  const [text, setText] = useState("");
  const [reason, setReason] = useState("");
  const [expires, setExpires] = useState("3600");
  const paths = useMemo(() => pathsIn(text), [text]);
  const check = useChecked(paths);
  const start = useMutation({
    mutationFn: (input: CarveInput) => api.post<Carve>("/carves", input),
    onSuccess: (carve) => {
      void refreshCarves(client);
      void navigate({ to: "/carves/$id", params: { id: carve.id } });
    },
  });
  const needsReason = check.verdict?.decision === "reason" || (start.error instanceof ApiError && start.error.items.some((i) => /reason$/.test(i.location ?? "")));
  const ready = name.trim() !== "" && paths.length > 0 && paths.length <= mostPaths && !check.refused && (!needsReason || reason.trim() !== "");
  const submit = (e: FormEvent) => {
    e.preventDefault();
    if (!ready) return;
    const input: CarveInput = { node: name.trim(), paths, expires_seconds: Number(expires) };
    if (reason.trim()) input.reason = reason.trim();
    start.mutate(input);
  };
  return (
    <form onSubmit={submit} className="flex flex-col gap-4">
      {start.error && <ErrorNote error={start.error} title="The files were not asked for" />}
      {node ? <FixedNode id={node} /> : <NodeField value={name} onChange={setName} />}
      <Field label="Paths, one per line" hint={`Whole paths, at most ${mostPaths}; % stands for any text within a name`} error={paths.length > mostPaths ? `At most ${mostPaths} paths at once` : undefined}>
        {(ids) => (
          <textarea
            {...ids}
            autoFocus={node !== undefined}
            required
            spellCheck={false}
            placeholder={"/var/log/auth.log\n/etc/cron.d/%"}
            className={cx(inputClass, "h-28 resize-y py-1.5 font-mono text-xs")}
            value={text}
            onChange={(e) => setText(e.target.value)}
          />
        )}
      </Field>
      {paths.length > 0 && <Checked {...check} />}
      <div className="grid grid-cols-[minmax(0,1fr)_auto] gap-4">
        <Field label={needsReason ? "Reason" : "Reason, if you like"} hint="Whoever may read the audit log sees it">
          {(ids) => <Input {...ids} value={reason} maxLength={1000} required={needsReason} onChange={(e) => setReason(e.target.value)} />}
        </Field>
        <div className="flex flex-col gap-1.5">
          <span className="text-xs font-medium text-fg-2">Give up after</span>
          <Select label="Give up after" value={expires} onChange={setExpires} options={expiries} />
        </div>
      </div>
      <div className="flex justify-end gap-2">
        <Button onClick={onCancel}>Cancel</Button>
        <Button type="submit" tone="primary" icon="download" busy={start.isPending} disabled={!ready}>
          Fetch
        </Button>
      </div>
    </form>
  );
}

interface CheckState {
  verdict: CarveCheck | undefined;
  failed: Error | null;
  refused: boolean;
}

/** Asks the policy about the paths once they stand still. */
function useChecked(paths: string[]): CheckState {
  const settled = useDebounced(paths, 300);
  const { data, error } = useQuery(carveCheckQuery(settled.slice(0, mostPaths)));
  const current = settled.join("\n") === paths.join("\n");
  return { verdict: paths.length > 0 ? data : undefined, failed: error, refused: current && data?.decision === "refused" };
}

/** What the policy says of the paths. */
function Checked({ verdict, failed, refused }: CheckState) {
  if (failed) return <ErrorNote error={failed} title="These paths cannot be asked for" />;
  if (!verdict) return null;
  const telling = verdict.paths.filter((p) => p.tier > 0 || !p.allowed || (p.findings?.length ?? 0) > 0);
  // Of one path alone the line below tells it; what a LivePolicy wants is told here only.
  const repeated = telling.length === 1 && verdict.why.startsWith(`${telling[0]!.path}: `);
  return (
    <div role="status" aria-label="Policy" className={cx("flex items-start gap-2.5 rounded-md border px-3 py-2 text-sm", refused ? "border-bad-fill/35 bg-bad-soft" : "border-line bg-sunken")}>
      <TierBadge tier={verdict.tier} short />
      <div className="flex max-h-40 min-w-0 flex-1 flex-col gap-1 overflow-auto">
        <p className={refused ? "text-bad" : verdict.decision === "reason" ? "text-warn" : "text-fg-2"}>
          {refused ? "Refused" : verdict.decision === "reason" ? "It needs a reason" : "Allowed"}
          {verdict.why && !repeated && (
            <>
              : <Agent>{verdict.why}</Agent>
            </>
          )}
        </p>
        {telling.map((p) => (
          <PathRemarks key={p.path} path={p} />
        ))}
      </div>
    </div>
  );
}

function PathRemarks({ path: p }: { path: CarvePath }) {
  const said = [...(p.findings ?? []).map((f) => f.message), ...(p.reasons ?? []).map((r) => r.why)];
  return (
    <p className={cx("text-xs break-words", p.allowed ? "text-fg-2" : "text-bad")}>
      <Agent className="font-mono text-2xs">{p.path}</Agent>
      {said.length > 0 && ": "}
      <Agent>{[...new Set(said)].join("; ")}</Agent>
    </p>
  );
}

function FixedNode({ id }: { id: string }) {
  const { data } = useQuery({ ...nodeQuery(id), refetchInterval: false });
  return (
    <p className="flex items-center gap-2 text-sm">
      <span className="text-fg-3">From</span>
      {data && <StatusDot status={data.status} bare />}
      <Agent className="font-medium">{data?.hostname || data?.host_identifier || id}</Agent>
      {data && data.status !== "online" && <span className="text-warn">It is {data.status}: it gets the request when it comes back.</span>}
    </p>
  );
}

function NodeField({ value, onChange }: { value: string; onChange: (name: string) => void }) {
  const search = useDebounced(value.trim(), 200);
  const { data } = useInfiniteQuery({ ...nodesQuery(search ? { search } : {}, 8), refetchInterval: false });
  const found = data?.pages[0]?.nodes ?? [];
  const chosen = found.find((n) => [n.id, n.host_identifier, n.hostname].includes(value.trim()));
  return (
    <div className="flex flex-col gap-1.5">
      <Field label="Node" hint={chosen ? undefined : "Its hostname, host identifier or id"}>
        {(ids) => <Input {...ids} autoFocus required value={value} onChange={(e) => onChange(e.target.value)} />}
      </Field>
      {chosen ? (
        <p className="flex items-center gap-1.5 text-xs text-fg-3">
          <StatusDot status={chosen.status} /> <Agent>{chosen.os}</Agent>
          {chosen.status === "offline" && "It gets the request when it comes back."}
        </p>
      ) : (
        <div className="flex flex-wrap gap-1" aria-label="Nodes found" role="group">
          {found.map((n) => (
            <button
              key={n.id}
              type="button"
              onClick={() => onChange(n.hostname || n.id)}
              className="inline-flex h-6 max-w-48 items-center gap-1.5 rounded-sm border border-line bg-sunken px-1.5 text-xs hover:border-line-strong"
            >
              <StatusDot status={n.status} bare />
              <Agent className="truncate">{n.hostname || n.host_identifier}</Agent>
            </button>
          ))}
          {data && found.length === 0 && (
            <span className="inline-flex items-center gap-1 text-xs text-warn">
              <Icon name="warn" size={13} /> No node is called so.
            </span>
          )}
        </div>
      )}
    </div>
  );
}
