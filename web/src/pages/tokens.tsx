import { useQuery } from "@tanstack/react-query";
import { getRouteApi } from "@tanstack/react-router";
import { useState } from "react";

import { tokensQuery } from "@/api/people";
import { sessionQuery } from "@/api/queries";
import type { Token } from "@/api/types";
import { useTitle } from "@/lib/hooks";
import { visible } from "@/lib/text";
import { Button, SearchInput, Select } from "@/ui/controls";
import { Empty, PageHeader } from "@/ui/display";
import { Menu } from "@/ui/overlay";
import { Section } from "@/ui/section";
import { useMay, useUsers } from "./may";
import { TokenDialog } from "./token-dialog";
import { TokenTable, works } from "./token-table";

const route = getRouteApi("/shell/tokens");

const filters: Record<string, { label: string; shows: (t: Token) => boolean }> = {
  "": { label: "Those that work", shows: works },
  soon: { label: "Those that end soon", shows: (t) => t.state === "expires soon" },
  ended: { label: "Those that ended", shows: (t) => !works(t) },
  all: { label: "All", shows: () => true },
};

/** What programs call the API with: everybody's tokens for who may see people, else one's own. */
export function TokensPage() {
  useTitle("Tokens");
  const { text = "", show = "" } = route.useSearch();
  const navigate = route.useNavigate();
  const [owner, setOwner] = useState<string | null>(null);
  const all = useMay("user.read");
  const query = useQuery(tokensQuery(all));
  const filter = (filters[show] ?? filters[""])!;
  const shown = query.data?.filter((t) => filter.shows(t) && `${t.owner} ${t.name}`.includes(text));
  const search = (next: { text?: string; show?: string }) => void navigate({ search: (old) => ({ ...old, ...next }), replace: true });
  const filtered = text !== "" || show !== "";
  return (
    <div className="mx-auto flex max-w-[100rem] flex-col gap-4 px-5 py-4">
      <PageHeader title="Tokens" note={all ? "Everybody's" : "Your own"}>
        <NewButton onOwner={setOwner} />
      </PageHeader>
      <div className="flex flex-wrap items-center gap-2" role="search" aria-label="Filter the tokens">
        <SearchInput label="Search tokens" placeholder={all ? "Names and owners" : "Names"} className="w-64" value={text} onChange={(e) => search({ text: e.target.value })} />
        <Select label="Show" value={show} onChange={(v) => search({ show: v })} options={Object.entries(filters).map(([value, f]) => ({ value, label: f.label }))} />
      </div>
      <Section
        title="Tokens"
        query={{ ...query, data: shown }}
        what="The tokens"
        empty={
          filtered ? (
            <Empty icon="filter" title="No token matches" action={<Button onClick={() => search({ text: "", show: "" })}>Clear the filters</Button>} />
          ) : (
            <Empty icon="tokens" title="There is no token that works">
              A program calls the API with one, with a scope and an end. Those that ended are listed for 30 days.
            </Empty>
          )
        }
      >
        {(list) => <TokenTable tokens={list} owners={all} />}
      </Section>
      {owner && <TokenDialog owner={owner} onClose={() => setOwner(null)} />}
    </div>
  );
}

/** For oneself, or for a service account by who may make people. */
function NewButton({ onOwner }: { onOwner: (owner: string) => void }) {
  const { data: me } = useQuery(sessionQuery);
  const { data: all } = useUsers();
  const mayWrite = useMay("user.write");
  if (!me) return null;
  const services = mayWrite ? (all?.users ?? []).filter((u) => u.service && !u.disabled_at) : [];
  const button = (onClick?: () => void) => (
    <Button tone="primary" icon="plus" {...(onClick ? { onClick } : {})}>
      New token
    </Button>
  );
  if (services.length === 0) return button(() => onOwner(me.username));
  return (
    <Menu
      trigger={button()}
      items={[
        { label: "Of your own", icon: "user", onSelect: () => onOwner(me.username) },
        "separator",
        ...services.map((u) => ({ label: `Of ${visible(u.name)}`, onSelect: () => onOwner(u.name) })),
      ]}
    />
  );
}
