import { useQuery } from "@tanstack/react-query";
import { Link, Outlet, useNavigate, useRouter, useRouterState, type LinkProps } from "@tanstack/react-router";
import { useEffect, useState } from "react";

import { api } from "@/api/client";
import { openAlertsQuery, overviewQuery, sessionQuery } from "@/api/queries";
import { clearDraft } from "@/lib/live-draft";
import { setTheme, useTheme, type ThemeChoice } from "@/lib/theme";
import { visible } from "@/lib/text";
import { Button, SearchInput } from "@/ui/controls";
import { Icon, Mark, type IconName } from "@/ui/icons";
import { Dialog, Menu, useNotify } from "@/ui/overlay";
import { Banners } from "./banner";
import { useKeys } from "./keys";

interface NavEntry {
  to: NonNullable<LinkProps["to"]>;
  label: string;
  icon: IconName;
  keys?: string;
  needs?: string; // the permission without which there is nothing to see; none is for all
}

const mainNav: NavEntry[] = [
  { to: "/", label: "Overview", icon: "overview", keys: "g o", needs: "system.read" },
  { to: "/nodes", label: "Nodes", icon: "nodes", keys: "g n", needs: "node.read" },
  { to: "/live", label: "Live query", icon: "live", keys: "g q", needs: "live.read" },
  { to: "/events", label: "Events", icon: "events", keys: "g e", needs: "event.read" },
  { to: "/alerts", label: "Alerts", icon: "alerts", keys: "g l", needs: "alert.read" },
  { to: "/rules", label: "Rules", icon: "rules", keys: "g r", needs: "resource.read" },
  { to: "/sinks", label: "Sinks", icon: "sinks", keys: "g i", needs: "sink.read" },
  { to: "/carves", label: "Carves", icon: "carves", keys: "g f", needs: "carve.read" },
  { to: "/triggers", label: "Triggers", icon: "triggers", keys: "g t", needs: "live.read" },
  { to: "/changes", label: "Changes", icon: "changes", keys: "g c", needs: "resource.read" },
];
const adminNav: NavEntry[] = [
  { to: "/secrets", label: "Enroll secrets", icon: "secrets", keys: "g s", needs: "secret.read" },
  { to: "/people", label: "People", icon: "people", keys: "g p", needs: "user.read" },
  { to: "/roles", label: "Roles", icon: "roles" },
  { to: "/tokens", label: "Tokens", icon: "tokens", keys: "g k" },
  { to: "/audit", label: "Audit log", icon: "audit", keys: "g a", needs: "audit.read" },
];

/** What stands around every page once someone is logged in. */
export function Shell() {
  const [help, setHelp] = useState(false);
  useKeys(() => setHelp(true));
  useSessionEnd();
  return (
    <div className="grid h-full grid-cols-[13rem_minmax(0,1fr)] grid-rows-[2.875rem_minmax(0,1fr)]">
      <a
        href="#main"
        className="sr-only focus:not-sr-only focus:absolute focus:top-2 focus:left-2 focus:z-50 focus:rounded-md focus:bg-raised focus:px-3 focus:py-1.5 focus:shadow-pop"
      >
        Skip to the content
      </a>
      <div className="row-span-2 flex min-h-0 flex-col border-r border-line bg-sunken">
        <Link to="/" className="flex h-[2.875rem] items-center gap-2.5 px-4 text-base font-semibold tracking-tight" aria-label="Muster, overview">
          <Mark />
          Muster
        </Link>
        <nav aria-label="Main" className="flex flex-1 flex-col gap-5 overflow-y-auto px-2.5 pt-2 pb-3">
          <NavList entries={mainNav} />
          <div>
            <p className="px-2.5 pb-1 text-2xs font-medium text-fg-3">Administration</p>
            <NavList entries={adminNav} />
          </div>
        </nav>
        <NavFoot onHelp={() => setHelp(true)} />
      </div>
      <TopBar />
      <div className="flex min-h-0 min-w-0 flex-col">
        <Banners />
        <main id="main" tabIndex={-1} className="min-h-0 flex-1 overflow-auto focus:outline-none">
          <Outlet />
        </main>
      </div>
      <KeyboardHelp open={help} onOpenChange={setHelp} />
    </div>
  );
}

function NavList({ entries }: { entries: NavEntry[] }) {
  const { data: session } = useQuery(sessionQuery);
  return (
    <ul className="flex flex-col gap-0.5">
      {entries.filter((e) => session && !session.must_enrol && (!e.needs || session.permissions.includes(e.needs))).map((e) => (
        <li key={e.to}>
          <Link
            to={e.to}
            activeOptions={{ exact: e.to === "/", includeSearch: false }}
            activeProps={{ className: "bg-surface text-fg shadow-card border-line!" }}
            inactiveProps={{ className: "text-fg-2 hover:bg-hover hover:text-fg" }}
            className="group flex h-8 items-center gap-2.5 rounded-md border border-transparent px-2.5 text-sm font-medium"
          >
            <Icon name={e.icon} size={16} className="text-fg-3 group-aria-[current=page]:text-accent" />
            {e.label}
            {e.to === "/alerts" && <OpenAlerts />}
          </Link>
        </li>
      ))}
    </ul>
  );
}

/** How many alerts are open, if any. */
function OpenAlerts() {
  const { data } = useQuery(openAlertsQuery);
  const open = data?.counts.open ?? 0;
  if (open === 0) return null;
  const bad = (data?.open.critical ?? 0) + (data?.open.high ?? 0) > 0;
  return (
    <span className={`tnum ml-auto rounded-full px-1.5 text-2xs font-semibold ${bad ? "bg-bad-soft text-bad" : "bg-hover text-fg-2"}`}>
      {open > 999 ? "999+" : open}
      <span className="sr-only"> open</span>
    </span>
  );
}

function NavFoot({ onHelp }: { onHelp: () => void }) {
  const { data: session } = useQuery(sessionQuery);
  return (
    <div className="flex items-center gap-2 border-t border-line px-4 py-2 text-2xs text-fg-3">
      <span className="truncate">{session?.version}</span>
      <Button tone="ghost" size="sm" icon="keyboard" aria-label="Keyboard shortcuts" className="-mr-2 ml-auto" onClick={onHelp} />
    </div>
  );
}

function TopBar() {
  const { data: overview } = useQuery(overviewQuery);
  const path = useRouterState({ select: (s) => s.location.pathname });
  return (
    <header className="flex items-center gap-3 border-b border-line bg-bg px-5">
      <Breadcrumb path={path} />
      <div className="ml-auto flex items-center gap-1.5">
        {path !== "/nodes" && <FindNode />}
        {overview && overview.nodes.total > 0 && (
          <Link
            to="/nodes"
            search={{ status: "online" }}
            className="tnum mr-1 inline-flex h-7 items-center gap-1.5 rounded-md px-2 text-xs text-fg-2 hover:bg-hover"
          >
            <span className="size-2 rounded-full bg-ok-fill" aria-hidden="true" />
            {overview.nodes.online.toLocaleString("en-GB")} of {overview.nodes.total.toLocaleString("en-GB")} online
          </Link>
        )}
        <ThemeMenu />
        <UserMenu />
      </div>
    </header>
  );
}

/** Finds a node from anywhere. */
function FindNode() {
  const navigate = useNavigate();
  const [text, setText] = useState("");
  return (
    <form
      role="search"
      className="w-64"
      onSubmit={(e) => {
        e.preventDefault();
        if (text.trim()) void navigate({ to: "/nodes", search: { search: text.trim() } });
        setText("");
      }}
    >
      <SearchInput label="Find a node" placeholder="Find a node" value={text} onChange={(e) => setText(e.target.value)} hint={false} />
    </form>
  );
}

function Breadcrumb({ path }: { path: string }) {
  const entry = [...mainNav, ...adminNav].find((e) => (e.to === "/" ? path === "/" : path === e.to || path.startsWith(`${e.to}/`)));
  const deep = entry && entry.to !== "/" && path.length > entry.to.length + 1;
  if (!deep) return null;
  return (
    <div className="flex min-w-0 items-center gap-2 text-sm text-fg-3">
      <Link to={entry.to} className="hover:text-fg">
        {entry.label}
      </Link>
      <Icon name="chevronRight" size={13} />
      <span className="truncate font-mono text-xs">{visible(decodeURIComponent(path.slice(entry.to.length + 1)))}</span>
    </div>
  );
}

function ThemeMenu() {
  const { choice, shown } = useTheme();
  const item = (value: ThemeChoice, label: string, icon: IconName) => ({
    label,
    icon,
    checked: choice === value,
    onSelect: () => setTheme(value),
  });
  return (
    <Menu
      trigger={<Button tone="ghost" icon={shown === "dark" ? "moon" : "sun"} aria-label={`Theme: ${choice}`} />}
      items={[item("system", "Like the system", "system"), item("light", "Light", "sun"), item("dark", "Dark", "moon")]}
    />
  );
}

function UserMenu() {
  const { data: session } = useQuery(sessionQuery);
  const notify = useNotify();
  const navigate = useNavigate();
  const logOut = async () => {
    try {
      await api.delete("/session");
      clearDraft();
      // A new page, so that nothing of this session stays in memory.
      location.assign("/login");
    } catch (err) {
      notify.failed(err);
    }
  };
  return (
    <Menu
      trigger={
        <Button tone="ghost" icon="user" aria-label="Account">
          <span className="max-w-32 truncate">{session?.username}</span>
        </Button>
      }
      header={
        <>
          Logged in as <strong className="font-medium text-fg">{session?.username}</strong>
        </>
      }
      items={[{ label: "Account", icon: "user", onSelect: () => void navigate({ to: "/account" }) }, { label: "Log out", icon: "logout", onSelect: () => void logOut() }]}
    />
  );
}

/** Goes to the login page when the server says that the session is over. */
function useSessionEnd() {
  const { data: session } = useQuery({ ...sessionQuery, refetchOnMount: false });
  const router = useRouter();
  useEffect(() => {
    if (session === null) void router.invalidate();
  }, [session, router]);
}

const shortcuts: [string, string][] = [
  ["/", "Focus the search"],
  ["g o", "Overview"],
  ["g n", "Nodes"],
  ["g q", "Live query"],
  ["g e", "Events"],
  ["g l", "Alerts, silences and notifiers"],
  ["g r", "Rules"],
  ["g f", "Carves: fetched files"],
  ["g t", "Triggers and enrollment queries"],
  ["g c", "Changes"],
  ["g s", "Enroll secrets"],
  ["g p", "People and service accounts"],
  ["g k", "Tokens"],
  ["g a", "Audit log"],
  ["Ctrl ⏎", "Run the live query (in the editor)"],
  ["?", "This list"],
];

function KeyboardHelp({ open, onOpenChange }: { open: boolean; onOpenChange: (open: boolean) => void }) {
  return (
    <Dialog open={open} onOpenChange={onOpenChange} title="Keyboard shortcuts">
      <dl className="flex flex-col gap-2">
        {shortcuts.map(([keys, what]) => (
          <div key={keys} className="flex items-center justify-between gap-4">
            <dt className="text-sm">{what}</dt>
            <dd className="flex gap-1">
              {keys.split(" ").map((k) => (
                <kbd key={k} className="min-w-6 rounded-sm border border-line-strong bg-sunken px-1.5 py-0.5 text-center font-mono text-xs">
                  {k}
                </kbd>
              ))}
            </dd>
          </div>
        ))}
      </dl>
    </Dialog>
  );
}
