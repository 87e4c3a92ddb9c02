import { useSyncExternalStore } from "react";

export type ThemeChoice = "system" | "light" | "dark";

const key = "muster.theme";
const listeners = new Set<() => void>();
const media = matchMedia("(prefers-color-scheme: dark)");

function stored(): ThemeChoice {
  try {
    const value = localStorage.getItem(key);
    return value === "light" || value === "dark" ? value : "system";
  } catch {
    return "system";
  }
}

const resolve = (choice: ThemeChoice): "light" | "dark" =>
  choice === "system" ? (media.matches ? "dark" : "light") : choice;

function apply(): void {
  document.documentElement.dataset.theme = resolve(stored());
  for (const listener of listeners) listener();
}
media.addEventListener("change", apply);

export function setTheme(choice: ThemeChoice): void {
  try {
    if (choice === "system") localStorage.removeItem(key);
    else localStorage.setItem(key, choice);
  } catch {
    // Not kept, but applied below as the system's.
  }
  apply();
}

function subscribe(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** The theme that was chosen and the one that is shown. */
export function useTheme(): { choice: ThemeChoice; shown: "light" | "dark" } {
  const choice = useSyncExternalStore(subscribe, stored);
  const shown = useSyncExternalStore(subscribe, () => resolve(stored()));
  return { choice, shown };
}
