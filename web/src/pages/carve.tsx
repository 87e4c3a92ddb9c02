import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { getRouteApi, Link, useNavigate } from "@tanstack/react-router";
import { useState } from "react";

import { api, ApiError } from "@/api/client";
import { carveDownloadHref, carvePath, carveQuery, isCarving, isComparing, refreshCarves } from "@/api/carves";
import type { Archive, Carve, CarveState } from "@/api/types";
import { cx } from "@/lib/cx";
import { formatBytes, formatCount, formatTime, plural } from "@/lib/format";
import { useTitle } from "@/lib/hooks";
import { Agent, Lines, visible } from "@/lib/text";
import { Button, buttonClass, CopyButton } from "@/ui/controls";
import { Ago, Badge, Card, Empty, ErrorNote, Facts, Loading } from "@/ui/display";
import { Icon } from "@/ui/icons";
import { Confirm, useNotify } from "@/ui/overlay";
import { CarveFiles } from "./carve-files";
import { CarveStateBadge, Meter, Received, VerificationBadge } from "./carve-state";
import { May, useMay } from "./may";

const route = getRouteApi("/shell/carves/$id");

/** One carve: how far it is, its archives, and what is in them. */
export function CarvePage() {
  const { id } = route.useParams();
  const { data: carve, error, refetch } = useQuery(carveQuery(id));
  useTitle(carve ? `Carve from ${visible(carve.hostname || carve.host_identifier)}` : "Carve");
  if (error && !carve) {
    const gone = error instanceof ApiError && error.status === 404;
    return (
      <div className="p-5">
        {gone ? (
          <Empty icon="carves" title="There is no such carve" action={<Link to="/carves" className={buttonClass()}>All carves</Link>}>
            Finished ones are deleted after a while; the audit log still tells of them.
          </Empty>
        ) : (
          <ErrorNote error={error} title="The carve could not be loaded" onRetry={() => void refetch()} />
        )}
      </div>
    );
  }
  if (!carve) return <Loading lines={10} />;
  return <CarveView carve={carve} />;
}

function CarveView({ carve: c }: { carve: Carve }) {
  const { archive } = route.useSearch();
  const navigate = route.useNavigate();
  const whole = c.archives.filter((a) => a.state === "done");
  const shown = whole.find((a) => String(a.n) === archive) ?? whole[0];
  return (
    <div className="mx-auto flex min-h-full max-w-[100rem] flex-col gap-4 px-5 py-4">
      <Header carve={c} />
      <Timeline carve={c} />
      {c.message && (
        <div role="alert" className={cx("rounded-md px-3 py-2 text-sm", c.state === "failed" ? "bg-bad-soft text-bad" : "bg-sunken text-fg-2")}>
          <Agent>{c.message}</Agent>
        </div>
      )}
      <div className="grid grid-cols-[minmax(0,1fr)] gap-4 xl:grid-cols-[minmax(0,1fr)_24rem]">
        <Card title={plural(c.archives.length, "archive")} flush>
          {c.archives.length === 0 ? (
            <Empty icon="clock" title="Nothing has come yet">
              {isCarving(c) ? "The node gets the request at its next poll. One that is offline gets it when it comes back." : "The node sent no archive."}
            </Empty>
          ) : (
            <ul>
              {c.archives.map((a) => (
                <ArchiveRow key={a.n} carve={c} archive={a} shown={a === shown} onShow={() => void navigate({ search: { archive: String(a.n) }, replace: true })} />
              ))}
            </ul>
          )}
        </Card>
        <Card title="Request">
          <Facts
            items={[
              ["Node", <Link key="n" to="/nodes/$id" params={{ id: c.node_id }} className="text-accent hover:underline"><Agent>{c.hostname || c.host_identifier}</Agent></Link>],
              ["Paths", <span key="p" className="font-mono text-xs break-all"><Lines>{c.paths.join("\n")}</Lines></span>],
              ["Reason", <Agent key="r">{c.reason || "none given"}</Agent>],
              ["Asked by", <span key="b"><Agent>{c.created_by}</Agent>, <Ago time={c.created_at} /></span>],
              ["Size", <Received key="s" carve={c} />],
              ["Kept until", c.kept_until ? formatTime(c.kept_until) : "–"],
              ["Id", <span key="i" className="font-mono text-xs break-all">{c.id}</span>],
            ]}
          />
        </Card>
      </div>
      {shown && (
        <Card
          title={
            <>
              Files
              <Agent className="ml-2 font-mono text-xs font-normal text-fg-3">{shown.path}</Agent>
            </>
          }
          flush
          className="h-112 overflow-hidden"
        >
          <CarveFiles key={shown.n} id={c.id} archive={shown} />
        </Card>
      )}
    </div>
  );
}

function Header({ carve: c }: { carve: Carve }) {
  const client = useQueryClient();
  const navigate = useNavigate();
  const notify = useNotify();
  const [asking, setAsking] = useState<"cancel" | "delete" | null>(null);
  const act = useMutation({
    mutationFn: (what: "cancel" | "delete"): Promise<Carve | void> => (what === "cancel" ? api.post<Carve>(carvePath(c.id, "/cancel")) : api.delete(carvePath(c.id))),
    onSuccess: async (now, what) => {
      setAsking(null);
      // It may have ended before the cancellation came.
      notify.done(what === "delete" ? "The carve is deleted" : !now || now.state === "cancelled" ? "The carve is cancelled" : `Too late to cancel: the carve is ${now.state}`);
      if (what === "delete") {
        await navigate({ to: "/carves" });
        client.removeQueries({ queryKey: ["carves", c.id] });
      }
      await refreshCarves(client);
    },
    onError: notify.failed,
  });
  const whole = c.archives.filter((a) => a.state === "done");
  return (
    <header className="flex flex-wrap items-center gap-x-3 gap-y-2">
      <h1 className="min-w-0 truncate text-xl font-semibold tracking-tight">
        <Agent>{c.paths.length === 1 ? c.paths[0] : plural(c.paths.length, "path")}</Agent> <span className="font-normal text-fg-3">from</span>{" "}
        <Agent>{c.hostname || c.host_identifier}</Agent>
      </h1>
      <CarveStateBadge state={c.state} />
      <div className="ml-auto flex items-center gap-2">
        <May permission="carve.run">
          {isCarving(c) ? (
            <Button tone="danger" icon="stop" onClick={() => setAsking("cancel")}>
              Cancel
            </Button>
          ) : (
            <Button tone="danger" icon="trash" onClick={() => setAsking("delete")}>
              Delete
            </Button>
          )}
        </May>
        {whole.length > 0 && <Download carve={c} archive={whole.length === 1 ? whole[0] : undefined} primary />}
      </div>
      <Confirm
        open={asking === "cancel"}
        onOpenChange={(open) => setAsking(open ? "cancel" : null)}
        title="Cancel this carve?"
        action="Cancel the carve"
        busy={act.isPending}
        onConfirm={() => act.mutate("cancel")}
      >
        What came so far is deleted, and what the node still sends is refused.
      </Confirm>
      <Confirm
        open={asking === "delete"}
        onOpenChange={(open) => setAsking(open ? "delete" : null)}
        title="Delete this carve?"
        action="Delete"
        busy={act.isPending}
        onConfirm={() => act.mutate("delete")}
      >
        Its archives are gone for everybody, and cannot be brought back. The audit log keeps that it was there.
      </Confirm>
    </header>
  );
}

/** Downloads an archive, or without one all of them in one tar. */
function Download({ carve, archive, primary }: { carve: Carve; archive?: Archive | undefined; primary?: boolean }) {
  const what = archive ? `${archive.format || "bytes of no known format"}, ${formatBytes(archive.size)}` : "All archives in one tar";
  if (!useMay("carve.download")) return null;
  return (
    <a
      href={carveDownloadHref(carve.id, archive?.n)}
      download=""
      className={buttonClass(primary ? "primary" : "plain", primary ? "md" : "sm")}
      title={`${what}; the audit log keeps who downloads it`}
    >
      <Icon name="download" size={primary ? 15 : 14} /> {archive ? "Download" : "Download all"}
    </a>
  );
}

const steps: CarveState[] = ["asked", "sent", "scheduled", "uploading", "verifying", "done"];
const stepNotes: Partial<Record<CarveState, string>> = {
  asked: "waits for the node's next poll",
  sent: "the node has read it",
  scheduled: "the node's carver begins",
  uploading: "blocks come",
  verifying: "count, sizes and hash",
  done: "whole and readable",
};

/** Where the carve is on its way, or where it ended. */
function Timeline({ carve: c }: { carve: Carve }) {
  const at = steps.indexOf(c.state);
  const reached = at >= 0 ? at : furthest(c);
  const ended = at < 0 ? c.state : undefined;
  return (
    <ol aria-label="Progress" className="grid grid-cols-6 overflow-hidden rounded-lg border border-line bg-surface shadow-card">
      {steps.map((s, i) => {
        const here = i === reached && c.state !== "done";
        const past = i < reached || c.state === "done";
        return (
          <li key={s} aria-current={here ? "step" : undefined} className={cx("min-w-0 border-l border-line px-3.5 py-2 first:border-l-0", here && "bg-accent-soft", !past && !here && "text-fg-3")}>
            <span className="flex items-center gap-1.5 text-sm font-medium">
              {past ? <Icon name="check" size={13} className="text-ok" /> : here && ended ? <Icon name="x" size={13} className="text-bad" /> : null}
              {here && ended ? ended : s}
            </span>
            <span className="tnum block truncate text-xs text-fg-3">
              {s === "asked" && past ? formatTime(c.created_at).slice(11) : i === reached && c.ended_at ? formatTime(c.ended_at).slice(11) : s === "uploading" && here && !ended ? <Received carve={c} /> : stepNotes[s]}
            </span>
          </li>
        );
      })}
    </ol>
  );
}

/** How far one came that did not reach its end. */
function furthest(c: Carve): number {
  return Math.max(0, c.received > 0 ? steps.indexOf("uploading") : 0, ...c.archives.map((a) => steps.indexOf(a.state)).filter((i) => i < steps.length - 1));
}

function ArchiveRow({ carve, archive: a, shown, onShow }: { carve: Carve; archive: Archive; shown: boolean; onShow: () => void }) {
  const done = a.state === "done";
  return (
    <li className={cx("flex flex-col gap-2 border-b border-line/70 px-4 py-3 last:border-0", shown && carve.archives.length > 1 && "bg-selected")}>
      <div className="flex flex-wrap items-center gap-x-3 gap-y-1">
        <CarveStateBadge state={a.state} />
        <Agent className="min-w-0 flex-1 font-mono text-xs break-all">{a.path}</Agent>
        {isComparing(a) ? <Badge title="The node has yet to say which hash the archive had there">hash not compared yet</Badge> : <VerificationBadge verification={a.verification} />}
        {done && carve.archives.length > 1 && (
          <Button size="sm" tone="ghost" onClick={onShow}>
            Files
          </Button>
        )}
        {done && <Download carve={carve} archive={a} />}
      </div>
      {!done && a.block_count > 0 && <Meter part={a.received_blocks} whole={a.block_count} label={`Blocks of ${visible(a.path)}`} />}
      <p className="tnum flex flex-wrap gap-x-3 text-xs text-fg-3">
        {a.size > 0 && <span>{formatBytes(a.size)}</span>}
        {a.block_count > 0 && (
          <span>
            {formatCount(a.received_blocks)} of {plural(a.block_count, "block")} of {formatBytes(a.block_size)}
          </span>
        )}
        {a.format && <span>{a.format}</span>}
        {done && <span>{plural(a.files, "file")}</span>}
      </p>
      {a.sha256 && (
        <p className="flex items-center gap-2 text-xs text-fg-3">
          SHA-256 <span className="min-w-0 font-mono text-2xs break-all text-fg-2">{a.sha256}</span> <CopyButton text={a.sha256} />
        </p>
      )}
      {a.verification === "mismatch" && a.agent_sha256 && (
        <p className="text-xs text-bad">
          The agent said <Agent className="font-mono text-2xs break-all">{a.agent_sha256}</Agent>
        </p>
      )}
      {a.message && (
        <p className="text-xs text-bad">
          <Agent>{a.message}</Agent>
        </p>
      )}
    </li>
  );
}
