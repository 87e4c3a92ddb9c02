import type { Selector } from "@/api/types";

/** The search parameters of the page of live queries that fill in a text and its targets. */
export interface Prefill {
  sql?: string;
  nodes?: string;
  tags?: string;
  where?: string;
  all?: string;
}

/** Addresses that are longer do not survive every chat and proxy. */
const mostCharacters = 8000;

/**
 * An address that fills in a text and its targets; it runs nothing by itself.
 * Undefined if it would be too long.
 */
export function linkTo(origin: string, sql: string, selector: Selector): string | undefined {
  const params = new URLSearchParams();
  if (sql) params.set("sql", sql);
  if (selector.all) params.set("all", "1");
  if (selector.nodes?.length) params.set("nodes", selector.nodes.join(","));
  if (selector.tags?.length) params.set("tags", selector.tags.join(","));
  if (selector.where) params.set("where", selector.where);
  const link = `${origin}/live?${params.toString()}`;
  return link.length > mostCharacters ? undefined : link;
}

const words = (text: string | undefined): string[] => (text ?? "").split(",").filter(Boolean);

/** The targets that an address fills in; undefined if it names none. */
export function targetsOf(p: Prefill): Selector | undefined {
  const out: Selector = {};
  if (p.all === "1") out.all = true;
  if (words(p.nodes).length > 0) out.nodes = words(p.nodes);
  if (words(p.tags).length > 0) out.tags = words(p.tags);
  if (p.where) out.where = p.where;
  return Object.keys(out).length > 0 ? out : undefined;
}

/** Names of nodes from a pasted text: separated by space, commas or quotes, each once. */
export function namesIn(text: string): string[] {
  return [...new Set(text.split(/[\s,;"']+/).filter(Boolean))];
}

/** The names that a refusal says are not those of nodes. */
export function unknownIn(message: string, names: string[]): string[] {
  const listed = /called (.+)$/s.exec(message)?.[1];
  if (listed === undefined) return [];
  const unknown = new Set(listed.split(", "));
  return names.filter((n) => unknown.has(n));
}
