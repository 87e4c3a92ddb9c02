import type { ReactNode } from "react";

import { setTheme, useTheme } from "@/lib/theme";
import { Button } from "@/ui/controls";
import { Mark } from "@/ui/icons";

/** What stands around the pages before one is logged in. */
export function Gate({ title, note, children }: { title: string; note: ReactNode; children: ReactNode }) {
  const { shown } = useTheme();
  return (
    <main className="relative flex h-full items-center justify-center overflow-auto p-6">
      <Button
        tone="ghost"
        icon={shown === "dark" ? "sun" : "moon"}
        aria-label={shown === "dark" ? "Use the light theme" : "Use the dark theme"}
        className="absolute top-4 right-4"
        onClick={() => setTheme(shown === "dark" ? "light" : "dark")}
      />
      <div className="w-full max-w-[23rem] pb-[8vh]">
        <div className="mb-6 flex items-center gap-3">
          <Mark size={30} />
          <span className="text-xl font-semibold tracking-tight">Muster</span>
        </div>
        <div className="rounded-lg border border-line bg-surface p-6 shadow-card">
          <h1 className="text-lg font-semibold tracking-tight">{title}</h1>
          <p className="mt-1 mb-5 text-sm text-fg-3">{note}</p>
          {children}
        </div>
      </div>
    </main>
  );
}
