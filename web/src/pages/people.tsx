import { useQuery } from "@tanstack/react-query";
import { getRouteApi, Link } from "@tanstack/react-router";
import { useState } from "react";

import { usersQuery } from "@/api/queries";
import type { User } from "@/api/types";
import { formatCount } from "@/lib/format";
import { useTitle } from "@/lib/hooks";
import { Agent, visible } from "@/lib/text";
import { Button, SearchInput, Select } from "@/ui/controls";
import { Ago, Badge, Empty, PageHeader } from "@/ui/display";
import { head, line, Section } from "@/ui/section";
import { May } from "./may";
import { CreateDialog } from "./person-dialogs";

const route = getRouteApi("/shell/people");

const filters: Record<string, { label: string; shows: (u: User) => boolean }> = {
  "": { label: "All", shows: () => true },
  person: { label: "People", shows: (u) => !u.service },
  service: { label: "Service accounts", shows: (u) => u.service },
  weak: { label: "Without a second factor", shows: (u) => !u.service && !u.second_factor && !u.disabled_at },
  disabled: { label: "Disabled", shows: (u) => u.disabled_at !== undefined },
};

const found = (u: User, text: string): boolean => [u.name, ...u.roles].some((t) => t.toLowerCase().includes(text.toLowerCase()));

/** Who can log in or call, and what their roles are. */
export function PeoplePage() {
  useTitle("People");
  const { text = "", show = "" } = route.useSearch();
  const navigate = route.useNavigate();
  const [creating, setCreating] = useState(false);
  const query = useQuery(usersQuery);
  const filter = (filters[show] ?? filters[""])!;
  const shown = query.data?.users.filter((u) => filter.shows(u) && found(u, text));
  const search = (next: { text?: string; show?: string }) => void navigate({ search: (old) => ({ ...old, ...next }), replace: true });
  return (
    <div className="mx-auto flex max-w-[100rem] flex-col gap-4 px-5 py-4">
      <PageHeader title="People" note={query.data ? formatCount(query.data.users.length) : undefined}>
        <May permission="user.write">
          <Button tone="primary" icon="plus" onClick={() => setCreating(true)}>
            New
          </Button>
        </May>
      </PageHeader>
      <div className="flex flex-wrap items-center gap-2" role="search" aria-label="Filter the people">
        <SearchInput label="Search people" placeholder="Names and roles" className="w-64" value={text} onChange={(e) => search({ text: e.target.value })} />
        <Select label="Show" value={show} onChange={(v) => search({ show: v })} options={Object.entries(filters).map(([value, f]) => ({ value, label: f.label }))} />
      </div>
      <Section
        title="People and service accounts"
        query={{ ...query, data: shown }}
        what="The people"
        empty={<Empty icon="filter" title="Nobody matches" action={<Button onClick={() => search({ text: "", show: "" })}>Clear the filters</Button>} />}
      >
        {(list) => (
          <table className="w-full text-sm" aria-label="People">
            <thead>
              <tr className={head}>
                <th>Name</th>
                <th>Kind</th>
                <th>State</th>
                <th>Roles</th>
                <th>Second factor</th>
                <th>Last login</th>
                <th className="text-right">Sessions</th>
              </tr>
            </thead>
            <tbody>
              {list.map((u) => (
                <tr key={u.id} className={line}>
                  <td className="max-w-72 truncate">
                    <Link to="/people/$name" params={{ name: u.name }} className="font-medium hover:text-accent">
                      <Agent>{u.name}</Agent>
                    </Link>
                  </td>
                  <td className="whitespace-nowrap text-fg-2">{kindOf(u)}</td>
                  <td>
                    <StateBadge user={u} />
                  </td>
                  <td>
                    <RoleBadges roles={u.roles} />
                  </td>
                  <td>
                    <FactorBadge user={u} />
                  </td>
                  <td className="text-fg-2">{u.service ? "–" : <Ago time={u.last_login} />}</td>
                  <td className="tnum text-right">{u.service ? "–" : formatCount(u.sessions)}</td>
                </tr>
              ))}
            </tbody>
          </table>
        )}
      </Section>
      {creating && <CreateDialog onClose={() => setCreating(false)} />}
    </div>
  );
}

export const kindOf = (u: User): string => (u.service ? "service account" : "person");

export function StateBadge({ user }: { user: User }) {
  return user.disabled_at ? <Badge tone="bad">disabled</Badge> : <Badge tone="ok">active</Badge>;
}

export function RoleBadges({ roles }: { roles: string[] }) {
  if (roles.length === 0) return <span className="text-fg-3">none</span>;
  return (
    <span className="flex flex-wrap gap-1">
      {roles.map((r) => (
        <Badge key={r} mono>
          {visible(r)}
        </Badge>
      ))}
    </span>
  );
}

/** Whoever logs in by a provider may be asked for one there. */
export function FactorBadge({ user }: { user: User }) {
  if (user.service) return <span className="text-fg-3">–</span>;
  if (user.second_factor) return <Badge tone="ok">yes</Badge>;
  return <Badge tone={user.origin ? "neutral" : "warn"}>{user.origin ? `up to ${visible(user.origin)}` : "none"}</Badge>;
}
