/** A value as the expression language writes it: in quotes, where a quote is doubled. */
function literal(value: string): string {
  return /^-?\d+$/.test(value) ? value : `"${value.replaceAll('"', '""')}"`;
}

/** The condition with one more comparison. */
export function andWhere(where: string, column: string, op: "=" | "!=", value: string): string {
  const term = `${column} ${op} ${literal(value)}`;
  const rest = where.trim();
  if (rest === "") return term;
  return /\bor\b/i.test(rest) ? `(${rest}) and ${term}` : `${rest} and ${term}`; // "or" binds less than "and"
}
