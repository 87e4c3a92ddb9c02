import type { LiveInput, LiveLimits, LiveWaves, Selector } from "@/api/types";

/** The live query that is being written, kept while one looks at other pages. */
export interface LiveDraft {
  sql: string;
  selector: Selector;
  expires: number; // seconds
  notBefore?: string; // local time, as datetime-local inputs write it
  sample?: number; // percent of the nodes
  maxNodes?: number;
  limits?: LiveLimits;
  waves?: LiveWaves;
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

/** The options that a draft has beside its text, targets and expiry. */
export function countOptions(d: LiveDraft): number {
  const set = [d.notBefore, d.sample, d.maxNodes, ...Object.values(d.limits ?? {}), ...Object.values(d.waves ?? {})];
  return set.filter((v) => v !== undefined && v !== "").length;
}

/** What is left of an object without the values that are not set; undefined if nothing is. */
function filled<T extends object>(o: T | undefined): T | undefined {
  const entries = Object.entries(o ?? {}).filter(([, v]) => v !== undefined);
  return entries.length > 0 ? (Object.fromEntries(entries) as T) : undefined;
}

/** What the API is told to run a draft. */
export function inputOf(d: LiveDraft, reason: string): LiveInput {
  const input: LiveInput = { sql: d.sql, selector: d.selector, expires_seconds: d.expires };
  const limits = filled(d.limits);
  const waves = filled(d.waves);
  if (reason.trim()) input.reason = reason.trim();
  if (d.notBefore) input.not_before = new Date(d.notBefore).toISOString();
  if (d.sample) input.sample_percent = d.sample;
  if (d.maxNodes) input.max_nodes = d.maxNodes;
  if (limits) input.limits = limits;
  if (waves) input.waves = waves;
  return input;
}
