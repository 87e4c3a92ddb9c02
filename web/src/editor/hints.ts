import { platformName } from "@/lib/format";
import { statementAt, statementCount, tablesOf, wordsOf } from "@/lib/sql";
import type { Schema } from "./completion";

const known = ["linux", "darwin", "windows"];

/**
 * What a writer should know before running: remarks only, for the server's
 * policy decides.
 */
export function hintsFor(sql: string, schema: Schema | undefined): string[] {
  if (!schema || sql.trim() === "") return [];
  const hints: string[] = [];
  if (statementCount(sql) > 1) hints.push("Only one statement can be sent.");
  const statement = statementAt(sql, sql.length);
  const words = wordsOf(statement);
  const ctes = new Set(
    statement.flatMap((t, i) => (statement[i + 1]?.text.toLowerCase() === "as" && statement[i + 2]?.text === "(" ? [t.text.toLowerCase()] : [])),
  );
  let platforms = known;
  const seen = new Set<string>();
  for (const use of tablesOf(statement)) {
    const table = schema.byName.get(use.name);
    if (!table) {
      if (!ctes.has(use.name) && !use.name.startsWith("json_")) hints.push(`osquery has no table ${use.name}.`);
      continue;
    }
    if (seen.has(table.name)) continue;
    seen.add(table.name);
    platforms = platforms.filter((p) => table.platforms.includes(p));
    const required = table.columns.filter((c) => c.required).map((c) => c.name);
    if (required.length > 0 && !required.some((c) => words.has(c))) {
      hints.push(`${table.name} answers only if ${required.join(" or ")} is constrained in WHERE or by a join.`);
    }
  }
  if (seen.size > 0 && platforms.length === 0) hints.push("No platform has all of these tables.");
  else if (seen.size > 0 && platforms.length < known.length) hints.push(`Answers on ${platforms.map(platformName).join(" and ")} only.`);
  return hints;
}
