import type { Selector } from "@/api/types";

/** The live query that is being written, kept while one looks at other pages. */
export interface LiveDraft {
  sql: string;
  selector: Selector;
  expires: number; // seconds
}

const key = "muster.live-draft";
const fresh: LiveDraft = { sql: "", selector: {}, expires: 600 };

export function loadDraft(): LiveDraft {
  try {
    return { ...fresh, ...(JSON.parse(sessionStorage.getItem(key) ?? "{}") as Partial<LiveDraft>) };
  } catch {
    return fresh;
  }
}

/** Keeps what was changed, except that everybody is the target: that is asked for anew. */
export function saveDraft(change: Partial<LiveDraft>): void {
  const draft = { ...loadDraft(), ...change };
  try {
    sessionStorage.setItem(key, JSON.stringify({ ...draft, selector: { ...draft.selector, all: undefined } }));
  } catch {
    // Not kept then.
  }
}

export function clearDraft(): void {
  try {
    sessionStorage.removeItem(key);
  } catch {
    // There is none then.
  }
}
