/** The address that fires a trigger. */
export const hookURL = (origin: string, name: string): string => `${origin}/api/v1/hooks/${encodeURIComponent(name)}`;

/** A call for a shell; the token comes from its environment, so that it stays out of the history. */
export function curlExample(origin: string, name: string): string {
  return `curl -fsS -X POST ${shellWord(hookURL(origin, name))} \\
  -H "Authorization: Bearer $MUSTER_TRIGGER_TOKEN" \\
  -H 'Content-Type: application/json' \\
  -d '{"hostname": "web-1.example.com"}'
`;
}

/** A text as one word of a shell, whatever is in it. */
export const shellWord = (text: string): string => (/^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`);
