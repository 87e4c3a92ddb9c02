import { useNavigate } from "@tanstack/react-router";
import { useEffect, useEffectEvent } from "react";

const targets = { o: "/", n: "/nodes", q: "/live", e: "/events", l: "/alerts", r: "/rules", i: "/sinks", f: "/carves", t: "/triggers", c: "/changes", s: "/secrets", p: "/people", k: "/tokens", a: "/audit" } as const;

const typing = (target: EventTarget | null): boolean =>
  target instanceof HTMLElement && (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName));

/** The shortcuts that work on every page, outside text fields. */
export function useKeys(onHelp: () => void): void {
  const navigate = useNavigate();
  const help = useEffectEvent(onHelp);
  useEffect(() => {
    let pendingG = 0;
    const onKey = (e: KeyboardEvent) => {
      if (e.defaultPrevented || e.ctrlKey || e.metaKey || e.altKey || typing(e.target)) return;
      if (document.querySelector("[role=dialog],[role=alertdialog]")) return;
      if (e.key === "/") {
        const input = document.querySelector<HTMLElement>("main [data-page-search]") ?? document.querySelector<HTMLElement>("[data-page-search]");
        if (input) {
          e.preventDefault();
          input.focus();
        }
      } else if (e.key === "?") {
        help();
      } else if (e.key === "g") {
        pendingG = e.timeStamp;
      } else if (pendingG > 0 && e.timeStamp - pendingG < 1500 && e.key in targets) {
        pendingG = 0;
        e.preventDefault();
        void navigate({ to: targets[e.key as keyof typeof targets] });
      } else {
        pendingG = 0;
      }
    };
    document.addEventListener("keydown", onKey);
    return () => document.removeEventListener("keydown", onKey);
  }, [navigate]);
}
