import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { getRouteApi, Link } from "@tanstack/react-router";
import { useState, type ReactNode } from "react";

import { api } from "@/api/client";
import { identitiesQuery, providersQuery, refreshPeople, userPath, userSessionsQuery, userTokensQuery } from "@/api/people";
import { sessionQuery, usersQuery } from "@/api/queries";
import type { User, UserIdentity } from "@/api/types";
import { formatTime } from "@/lib/format";
import { useTitle } from "@/lib/hooks";
import { Agent, visible } from "@/lib/text";
import { Button, buttonClass } from "@/ui/controls";
import { Ago, Badge, Card, Empty, Facts, Notice, PageHeader } from "@/ui/display";
import { Menu, useNotify, type MenuItem } from "@/ui/overlay";
import { head, line, Section } from "@/ui/section";
import { useMay } from "./may";
import { FactorBadge, kindOf, RoleBadges, StateBadge } from "./people";
import { PersonDialog, UnlinkDialog, type PersonAct } from "./person-dialogs";
import { SessionTable } from "./session-table";
import { TokenDialog } from "./token-dialog";
import { TokenTable } from "./token-table";

const route = getRouteApi("/shell/people/$name");

/** One person or service account, and what administrators can do about them. */
export function PersonPage() {
  const { name } = route.useParams();
  useTitle(visible(name));
  const query = useQuery(usersQuery);
  const user = query.data?.users.find((u) => u.name === name);
  return (
    <div className="mx-auto flex max-w-5xl flex-col gap-4 px-5 py-4">
      {user ? (
        <Person user={user} />
      ) : (
        <>
          <PageHeader title={<Agent>{name}</Agent>} />
          <Section title="Account" query={{ ...query, data: query.data && [] }} what="The people" empty={<Nobody />}>
            {() => null}
          </Section>
        </>
      )}
    </div>
  );
}

function Nobody() {
  return (
    <Empty
      icon="user"
      title="There is nobody of that name"
      action={
        <Link to="/people" className={buttonClass()}>
          All people
        </Link>
      }
    />
  );
}

function Person({ user }: { user: User }) {
  const { data: me } = useQuery(sessionQuery);
  const [act, setAct] = useState<PersonAct | null>(null);
  const mayAudit = me?.permissions.includes("audit.read");
  return (
    <>
      <PageHeader title={<Agent>{user.name}</Agent>} note={kindOf(user)}>
        {mayAudit && (
          <Link to="/audit" search={{ actor: user.name }} className={buttonClass()}>
            What they did
          </Link>
        )}
        <Acts user={user} self={me?.username === user.name} onAct={setAct} />
      </PageHeader>
      {user.disabled_at && (
        <Notice>
          Disabled since {formatTime(user.disabled_at)}: no login works{user.service ? ", and no token" : ", nor any of their tokens"}.
        </Notice>
      )}
      <Card title="Account">
        <Facts items={factsOf(user)} />
      </Card>
      {!user.service && <Sessions user={user} onEndAll={() => setAct("sessions")} />}
      <Tokens user={user} />
      {!user.service && <Identities user={user} onLink={() => setAct("link")} />}
      {act && <PersonDialog act={act} user={user} onClose={() => setAct(null)} />}
    </>
  );
}

function factsOf(user: User): [string, ReactNode][] {
  const facts: [string, ReactNode][] = [
    ["State", <StateBadge key="s" user={user} />],
    ["Roles", <RoleBadges key="r" roles={user.roles} />],
    ["Made", <Ago key="m" time={user.created_at} />],
  ];
  if (user.service) return facts;
  if (user.origin) facts.push(["Logs in by", <Agent key="o">{user.origin}</Agent>]);
  facts.push(["Second factor", <FactorBadge key="f" user={user} />], ["Last login", <Ago key="l" time={user.last_login} />]);
  return facts;
}

/** What can be done about them, by who may. One's own password is changed on the account page. */
function Acts({ user, self, onAct }: { user: User; self: boolean; onAct: (act: PersonAct) => void }) {
  const mayWrite = useMay("user.write");
  if (!mayWrite) return null;
  const items: MenuItem[] = [];
  if (!user.service && !user.origin && !self) items.push({ label: "Give another password", icon: "secrets", onSelect: () => onAct("password") });
  if (user.second_factor) items.push({ label: "Reset the second factor", icon: "refresh", danger: true, onSelect: () => onAct("factors") });
  return (
    <>
      {items.length > 0 && <Menu trigger={<Button icon="more" aria-label={`More for ${visible(user.name)}`} />} items={items} />}
      <Button onClick={() => onAct("roles")}>Change roles</Button>
      {user.disabled_at ? (
        <Button tone="primary" onClick={() => onAct("enable")}>
          Enable
        </Button>
      ) : (
        <Button tone="danger" onClick={() => onAct("disable")}>
          Disable
        </Button>
      )}
    </>
  );
}

function Sessions({ user, onEndAll }: { user: User; onEndAll: () => void }) {
  const mayWrite = useMay("user.write");
  const client = useQueryClient();
  const notify = useNotify();
  const query = useQuery(userSessionsQuery(user.name));
  const end = useMutation({
    mutationFn: (id: string) => api.delete(userPath(user.name, `/sessions/${encodeURIComponent(id)}`)),
    onSuccess: () => notify.done("The session ended"),
    onError: notify.failed,
    onSettled: () => refreshPeople(client),
  });
  return (
    <Section
      title="Sessions"
      query={query}
      what="The sessions"
      empty={<p className="px-4 py-3 text-sm text-fg-3">They are logged in nowhere.</p>}
      actions={
        mayWrite && (query.data?.length ?? 0) > 0 && (
          <Button size="sm" tone="danger" onClick={onEndAll}>
            End all
          </Button>
        )
      }
    >
      {(list) => <SessionTable sessions={list} onEnd={mayWrite ? end.mutate : undefined} />}
    </Section>
  );
}

function Tokens({ user }: { user: User }) {
  const mayWrite = useMay("user.write");
  const [making, setMaking] = useState(false);
  return (
    <>
      <Section
        title="Tokens"
        query={useQuery(userTokensQuery(user.name))}
        what="The tokens"
        empty={<p className="px-4 py-3 text-sm text-fg-3">None.</p>}
        actions={
          mayWrite && user.service && !user.disabled_at && (
            <Button size="sm" icon="plus" onClick={() => setMaking(true)}>
              New token
            </Button>
          )
        }
      >
        {(list) => <TokenTable tokens={list} />}
      </Section>
      {making && <TokenDialog owner={user.name} onClose={() => setMaking(false)} />}
    </>
  );
}

function Identities({ user, onLink }: { user: User; onLink: () => void }) {
  const mayWrite = useMay("user.write");
  const { data: providers = [] } = useQuery(providersQuery);
  const query = useQuery(identitiesQuery(user.name));
  const [unlinking, setUnlinking] = useState<(UserIdentity & { provider: string }) | null>(null);
  if (providers.length === 0 && query.data?.length === 0) return null;
  return (
    <>
      <Section
        title="Sign-on"
        query={query}
        what="What they are linked to"
        empty={<p className="px-4 py-3 text-sm text-fg-3">Linked to no provider: they log in by password.</p>}
        actions={
          mayWrite && providers.length > 0 && (
            <Button size="sm" icon="link" onClick={onLink}>
              Link
            </Button>
          )
        }
      >
        {(list) => (
          <table className="w-full text-sm" aria-label="Sign-on">
            <thead>
              <tr className={head}>
                <th>Provider</th>
                <th>Issuer</th>
                <th>Subject</th>
                <th>
                  <span className="sr-only">Actions</span>
                </th>
              </tr>
            </thead>
            <tbody>
              {list.map((i) => (
                <tr key={`${i.issuer} ${i.subject}`} className={line}>
                  <td>{i.provider ? visible(i.provider) : <Badge tone="warn">not configured</Badge>}</td>
                  <td className="break-all">
                    <Agent>{i.issuer}</Agent>
                  </td>
                  <td className="font-mono text-xs break-all">
                    <Agent>{i.subject}</Agent>
                  </td>
                  <td className="text-right">
                    {mayWrite && i.provider && (
                      <Button size="sm" tone="danger" onClick={() => setUnlinking({ ...i, provider: i.provider! })}>
                        Unlink
                      </Button>
                    )}
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        )}
      </Section>
      {unlinking && <UnlinkDialog user={user} identity={unlinking} onClose={() => setUnlinking(null)} />}
    </>
  );
}
