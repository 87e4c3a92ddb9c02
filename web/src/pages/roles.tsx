import { useQuery } from "@tanstack/react-query";
import { getRouteApi, Link } from "@tanstack/react-router";
import type { ReactNode } from "react";

import { rolesQuery } from "@/api/people";
import type { Role, Tier } from "@/api/types";
import { formatCount } from "@/lib/format";
import { useTitle } from "@/lib/hooks";
import { byNoun } from "@/lib/permissions";
import { Agent } from "@/lib/text";
import { Button, Select } from "@/ui/controls";
import { Badge, Card, Empty, ErrorNote, Facts, Loading, PageHeader } from "@/ui/display";
import { TierBadge } from "@/ui/tier";
import { useUsers } from "./may";

const route = getRouteApi("/shell/roles");

/** What each role gives, how far, and who has it. */
export function RolesPage() {
  useTitle("Roles");
  const { may = "" } = route.useSearch();
  const navigate = route.useNavigate();
  const { data, error, refetch } = useQuery(rolesQuery);
  const show = (permission: string) => void navigate({ search: permission ? { may: permission } : {}, replace: true });
  const permissions = [...new Set(data?.flatMap((r) => r.permissions))];
  const shown = data?.filter((r) => may === "" || r.permissions.includes(may)) ?? [];
  return (
    <div className="mx-auto flex max-w-[100rem] flex-col gap-4 px-5 py-4">
      <PageHeader title="Roles" note={data ? formatCount(data.length) : undefined}>
        <Select
          label="Which gives"
          prefix="Which gives"
          value={may}
          onChange={show}
          options={[{ value: "", label: "any permission" }, ...permissions.map((p) => ({ value: p, label: p }))]}
        />
      </PageHeader>
      <p className="-mt-2 max-w-3xl text-sm text-fg-3">
        Muster's own roles stay as they are. Your own are resources of kind <code className="font-mono text-xs">Role</code>: <code className="font-mono text-xs">muster apply</code>{" "}
        proposes a <Link to="/changes" className="text-accent underline underline-offset-2">change</Link> of one, which needs the approvals that your policy asks for.
      </p>
      {error && !data && <ErrorNote error={error} title="The roles could not be loaded" onRetry={() => void refetch()} />}
      {!data && !error && <Loading />}
      {data && shown.length === 0 && <Empty icon="filter" title="No role gives it" action={<Button onClick={() => show("")}>All roles</Button>} />}
      <div className="grid gap-4 xl:grid-cols-2">
        {shown.map((r) => (
          <RoleCard key={r.name} role={r} />
        ))}
      </div>
    </div>
  );
}

function RoleCard({ role: r }: { role: Role }) {
  return (
    <Card title={<Agent>{r.name}</Agent>} actions={r.built_in ? <Badge>Muster's own</Badge> : <Badge tone="accent">your own</Badge>}>
      <div className="flex flex-col gap-3">
        {r.description && <Agent className="block text-sm break-words text-fg-2">{r.description}</Agent>}
        <Facts items={factsOf(r)} />
        <dl aria-label={`Permissions of ${r.name}`} className="flex flex-wrap gap-x-5 gap-y-1.5 border-t border-line pt-3 text-sm">
          {byNoun(r.permissions).map(([noun, verbs]) => (
            <div key={noun} className="flex items-center gap-1.5">
              <dt className="text-fg-3">{noun}</dt>
              <dd className="flex flex-wrap gap-1">
                {verbs.map((v) => (
                  <Badge key={v} mono>
                    {v}
                  </Badge>
                ))}
              </dd>
            </div>
          ))}
        </dl>
      </div>
    </Card>
  );
}

/** Limits are told where a permission that they limit is given. */
function factsOf(r: Role): [string, ReactNode][] {
  const upTo = (tier: Tier, ...needs: string[]): ReactNode =>
    needs.some((p) => r.permissions.includes(p)) ? <TierBadge tier={tier} /> : <span className="text-fg-3">none</span>;
  const asks = r.permissions.includes("live.run") || r.permissions.includes("live.run_saved");
  return [
    ["Nodes", r.selector ? <Agent key="n" className="font-mono text-xs">{r.selector}</Agent> : "all"],
    ["Live queries up to", upTo(r.live_tier, "live.run", "live.run_saved")],
    ["Changes up to", upTo(r.schedule_tier, "change.write")],
    ["Rows up to", upTo(r.row_tier, "event.read", "live.read")],
    ["Nodes at once", asks ? (r.max_nodes ? formatCount(r.max_nodes) : "any number") : "none"],
    ["Who has it", <Holders key="w" role={r.name} />],
  ];
}

function Holders({ role }: { role: string }) {
  const { data, isLoading } = useUsers();
  if (isLoading) return <span className="text-fg-3">…</span>;
  if (!data) return <span className="text-fg-3">not for you to see</span>;
  const holders = data.users.filter((u) => u.roles.includes(role));
  if (holders.length === 0) return <span className="text-fg-3">nobody</span>;
  return (
    <span className="flex flex-wrap gap-x-2 gap-y-1">
      {holders.map((u) => (
        <Link key={u.id} to="/people/$name" params={{ name: u.name }} className={u.disabled_at ? "text-fg-3 line-through hover:text-accent" : "hover:text-accent"}>
          <Agent>{u.name}</Agent>
        </Link>
      ))}
    </span>
  );
}
