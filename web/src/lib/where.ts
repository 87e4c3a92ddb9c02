/** A value as the where language writes it. */
function literal(value: string): string {
  return /^-?\d+$/.test(value) ? value : `"${value.replaceAll("\\", "\\\\").replaceAll('"', '\\"')}"`;
}

/** The condition with one more comparison. */
export function andWhere(where: string, column: string, op: "=" | "!=", value: string): string {
  const term = `${column} ${op} ${literal(value)}`;
  return where.trim() === "" ? term : `${where.trim()} and ${term}`;
}
