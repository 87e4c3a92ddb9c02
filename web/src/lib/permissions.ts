/** Permissions that no token has: people consent, and people make people. */
const forPeople = new Set(["change.approve", "live.approve", "user.write"]);

export const forTokens = (permissions: Iterable<string>): string[] => [...new Set(permissions)].filter((p) => !forPeople.has(p));

/** Permissions as node.read by what they are about, in the order in which each comes first. */
export function byNoun(permissions: string[]): [noun: string, verbs: string[]][] {
  const nouns = new Map<string, string[]>();
  for (const p of permissions) {
    const dot = p.indexOf(".");
    const [noun, verb] = dot < 0 ? [p, ""] : [p.slice(0, dot), p.slice(dot + 1)];
    nouns.set(noun, [...(nouns.get(noun) ?? []), verb]);
  }
  return [...nouns];
}
