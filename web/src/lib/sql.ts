// Just enough understanding of SQL for an editor: which tables the statement
// at the cursor reads. What a text may do is decided by the server alone.

export interface Token {
  kind: "word" | "string" | "number" | "punct";
  text: string; // words as written, without quotes
  from: number;
  to: number;
}

const wordStart = /[A-Za-z_]/;
const wordPart = /[A-Za-z0-9_]/;

function endOfQuoted(sql: string, start: number, close: string): number {
  let i = start + 1;
  while (i < sql.length) {
    if (sql[i] === close) {
      if (sql[i + 1] !== close || close === "]") return i + 1;
      i++;
    }
    i++;
  }
  return sql.length;
}

export function tokens(sql: string): Token[] {
  const out: Token[] = [];
  let i = 0;
  while (i < sql.length) {
    const c = sql[i]!;
    if (sql.startsWith("--", i)) {
      const end = sql.indexOf("\n", i);
      i = end < 0 ? sql.length : end;
    } else if (sql.startsWith("/*", i)) {
      const end = sql.indexOf("*/", i + 2);
      i = end < 0 ? sql.length : end + 2;
    } else if (c === "'") {
      const to = endOfQuoted(sql, i, "'");
      out.push({ kind: "string", text: sql.slice(i, to), from: i, to });
      i = to;
    } else if (c === '"' || c === "`" || c === "[") {
      const to = endOfQuoted(sql, i, c === "[" ? "]" : c);
      out.push({ kind: "word", text: sql.slice(i + 1, Math.max(i + 1, to - 1)), from: i, to });
      i = to;
    } else if (wordStart.test(c)) {
      let to = i + 1;
      while (to < sql.length && wordPart.test(sql[to]!)) to++;
      out.push({ kind: "word", text: sql.slice(i, to), from: i, to });
      i = to;
    } else if (/[0-9]/.test(c)) {
      let to = i + 1;
      while (to < sql.length && /[0-9.xa-fA-F]/.test(sql[to]!)) to++;
      out.push({ kind: "number", text: sql.slice(i, to), from: i, to });
      i = to;
    } else {
      if (!/\s/.test(c)) out.push({ kind: "punct", text: c, from: i, to: i + 1 });
      i++;
    }
  }
  return out;
}

/** The tokens of the statement that the position is in. */
export function statementAt(sql: string, pos: number): Token[] {
  const all = tokens(sql);
  let begin = 0;
  for (let i = 0; i <= all.length; i++) {
    const t = all[i];
    if (t === undefined || (t.kind === "punct" && t.text === ";")) {
      if (t === undefined || pos <= t.from) return all.slice(begin, i);
      begin = i + 1;
    }
  }
  return all.slice(begin);
}

export interface TableUse {
  name: string; // lower case
  alias?: string;
  from: number;
  to: number;
}

const afterTable = new Set(
  "where on using join inner left right full cross outer natural group order limit having union intersect except as set window indexed not".split(
    " ",
  ),
);

/** The tables that a statement names after FROM and JOIN, in order. */
export function tablesOf(statement: Token[]): TableUse[] {
  const out: TableUse[] = [];
  let expecting = false;
  let depth = 0;
  const fromDepths: number[] = []; // depths whose FROM list is still open
  for (let i = 0; i < statement.length; i++) {
    const t = statement[i]!;
    const lower = t.text.toLowerCase();
    if (t.kind === "punct") {
      if (t.text === "(") depth++;
      else if (t.text === ")") {
        depth--;
        while (fromDepths.length && fromDepths.at(-1)! > depth) fromDepths.pop();
        expecting = false;
        continue;
      } else if (t.text === ",") expecting = fromDepths.at(-1) === depth;
      // "from (" may hold a table too: keep expecting; a SELECT ends that.
      if (t.text === "(" && expecting) fromDepths.push(depth);
      continue;
    }
    if (t.kind !== "word") continue;
    if (lower === "from" || lower === "join") {
      expecting = true;
      if (fromDepths.at(-1) !== depth) fromDepths.push(depth);
    } else if (lower === "select" || lower === "values") {
      expecting = false;
      if (fromDepths.at(-1) === depth) fromDepths.pop();
    } else if (expecting) {
      expecting = false;
      const use: TableUse = { name: lower, from: t.from, to: t.to };
      let next = statement[i + 1];
      if (next?.kind === "word" && next.text.toLowerCase() === "as") next = statement[++i + 1];
      if (next?.kind === "word" && !afterTable.has(next.text.toLowerCase())) {
        use.alias = next.text.toLowerCase();
        i++;
      }
      out.push(use);
    } else if (afterTable.has(lower) && lower !== "on" && lower !== "as" && lower !== "using") {
      if (lower === "where" || lower === "group" || lower === "order" || lower === "limit" || lower === "having") {
        while (fromDepths.length && fromDepths.at(-1)! >= depth) fromDepths.pop();
      }
    }
  }
  return out;
}

/**
 * The table that the text at the cursor is about: the one named there, else
 * the one that qualifies the name there, else undefined.
 */
export function tableAt(sql: string, pos: number): string | undefined {
  const statement = statementAt(sql, pos);
  const uses = tablesOf(statement);
  const byName = (name: string) => uses.find((u) => u.alias === name || u.name === name)?.name;
  const at = statement.findIndex((t) => t.kind === "word" && t.from <= pos && pos <= t.to);
  if (at < 0) return undefined;
  const use = uses.find((u) => u.from === statement[at]!.from);
  if (use) return use.name;
  if (statement[at - 1]?.text === "." && statement[at - 2]?.kind === "word") {
    return byName(statement[at - 2]!.text.toLowerCase());
  }
  return byName(statement[at]!.text.toLowerCase());
}
