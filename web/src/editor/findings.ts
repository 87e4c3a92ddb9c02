import type { PolicyVerdict, Severity } from "@/api/types";
import { platformName } from "@/lib/format";
import { tokens, type Token } from "@/lib/sql";

/** A place of the text and what is said of it. */
export interface Mark {
  from: number;
  to: number;
  severity: Severity;
  message: string;
}

/** Something said of the whole text. */
export interface Remark {
  severity: Severity;
  message: string;
}

const ranks: Severity[] = ["refused", "warning", "note"];
const worstFirst = (a: Remark, b: Remark): number => ranks.indexOf(a.severity) - ranks.indexOf(b.severity);

/** What a writer should know, the worst first: all findings, and why it is refused if it is. */
export function remarksOf(verdict: PolicyVerdict): Remark[] {
  const out: Remark[] = verdict.findings.map(({ severity, message }) => ({ severity, message }));
  if (!verdict.allowed && !out.some((r) => r.severity === "refused")) {
    out.push(...blamed(verdict).map((r) => ({ severity: "refused" as const, message: `${r.name}: ${r.why}` })));
  }
  const { platforms } = verdict;
  if (verdict.allowed && platforms.length === 0) out.push({ severity: "warning", message: "No platform has all of these tables." });
  else if (verdict.allowed && platforms.length < 3) out.push({ severity: "note", message: `Answers on ${platforms.map(platformName).join(" and ")} only.` });
  return out.sort(worstFirst);
}

/** Where the text shows what is found: the findings, and what makes it too dangerous. */
export function marksOf(sql: string, verdict: PolicyVerdict): Mark[] {
  const all = tokens(sql);
  const marks: Mark[] = [];
  for (const { line, column, severity, message } of verdict.findings) {
    if (!line) continue;
    const at = offsetOf(sql, line, column ?? 1);
    const token = all.find((t) => t.from <= at && at < t.to);
    const [from, to] = token ? [token.from, token.to] : [Math.min(at, sql.length - 1), Math.min(at + 1, sql.length)];
    if (from >= 0 && from < to) marks.push({ from, to, severity, message });
  }
  if (verdict.allowed) return marks;
  for (const reason of blamed(verdict)) {
    const name = reason.name.replace(/^"(.*)"$/s, "$1").replace(/^[\w]+\./, "").toLowerCase();
    for (const t of all) {
      if (nameOf(t) === name) marks.push({ from: t.from, to: t.to, severity: "refused", message: `${reason.name}: ${reason.why}` });
    }
  }
  return marks;
}

/** The reasons that alone are too much. Those of kind text repeat a finding. */
const blamed = (verdict: PolicyVerdict) => verdict.reasons.filter((r) => r.tier === verdict.tier && r.kind !== "text");

function nameOf(t: Token): string | undefined {
  if (t.kind === "word") return t.text.toLowerCase();
  return t.kind === "string" ? t.text.slice(1, -1).toLowerCase() : undefined;
}

/** The place in the text of a line and a column in characters, both from 1. */
function offsetOf(sql: string, line: number, column: number): number {
  let start = 0;
  for (let n = 1; n < line; n++) {
    const end = sql.indexOf("\n", start);
    if (end < 0) return sql.length;
    start = end + 1;
  }
  const end = sql.indexOf("\n", start);
  const before = Array.from(sql.slice(start, end < 0 ? sql.length : end)).slice(0, column - 1);
  return start + before.join("").length;
}
