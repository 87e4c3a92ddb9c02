import { snippetCompletion, type Completion, type CompletionContext, type CompletionResult } from "@codemirror/autocomplete";
import { syntaxTree } from "@codemirror/language";

import type { SchemaTable } from "@/api/types";
import { statementAt, tablesOf } from "@/lib/sql";

export interface Schema {
  tables: SchemaTable[];
  byName: Map<string, SchemaTable>;
}

export function makeSchema(tables: SchemaTable[]): Schema {
  const byName = new Map<string, SchemaTable>();
  for (const t of tables) {
    byName.set(t.name, t);
    for (const alias of t.aliases ?? []) byName.set(alias, t);
  }
  return { tables, byName };
}

const keywords =
  "SELECT FROM WHERE JOIN LEFT INNER CROSS ON USING AND OR NOT IN IS NULL LIKE GLOB BETWEEN EXISTS CASE WHEN THEN ELSE END AS DISTINCT ORDER BY GROUP HAVING LIMIT OFFSET ASC DESC UNION ALL INTERSECT EXCEPT WITH CAST COLLATE NOCASE".split(
    " ",
  );

// SQLite's own and those that osquery adds.
const functions: [string, string][] = [
  ["count", "count(${*})"],
  ["sum", "sum(${x})"],
  ["avg", "avg(${x})"],
  ["min", "min(${x})"],
  ["max", "max(${x})"],
  ["group_concat", "group_concat(${x}, ${','})"],
  ["coalesce", "coalesce(${x}, ${y})"],
  ["ifnull", "ifnull(${x}, ${y})"],
  ["length", "length(${x})"],
  ["lower", "lower(${x})"],
  ["upper", "upper(${x})"],
  ["substr", "substr(${x}, ${1}, ${n})"],
  ["replace", "replace(${x}, ${from}, ${to})"],
  ["trim", "trim(${x})"],
  ["round", "round(${x})"],
  ["datetime", "datetime(${time}, 'unixepoch')"],
  ["strftime", "strftime('${%s}', '${now}')"],
  ["json_extract", "json_extract(${json}, '${$.key}')"],
  ["regex_match", "regex_match(${x}, '${pattern}', ${0})"],
  ["regex_split", "regex_split(${x}, '${pattern}', ${0})"],
  ["split", "split(${x}, '${delimiters}', ${0})"],
  ["concat", "concat(${x}, ${y})"],
  ["inet_aton", "inet_aton(${address})"],
  ["community_id_v1", "community_id_v1(${src}, ${dst}, ${sport}, ${dport}, ${proto})"],
  ["version_compare", "version_compare(${a}, ${b})"],
  ["sha256", "sha256(${x})"],
  ["sha1", "sha1(${x})"],
  ["md5", "md5(${x})"],
  ["to_base64", "to_base64(${x})"],
  ["from_base64", "from_base64(${x})"],
];

const keywordOptions: Completion[] = keywords.map((k) => ({ label: k, type: "keyword", boost: -40 }));
const functionOptions: Completion[] = functions.map(([label, template]) =>
  snippetCompletion(template, { label, type: "function", detail: "function", boost: -20 }),
);

function tableOption(t: SchemaTable): Completion {
  const option: Completion = { label: t.name, type: "table", boost: 10, info: t.description };
  if (t.platforms.length < 3) option.detail = t.platforms.join(", ");
  return option;
}

function columnOptions(table: SchemaTable, boost: number): Completion[] {
  return table.columns
    .filter((c) => !c.hidden || c.required || c.index || c.additional)
    .map((c) => ({
      label: c.name,
      type: "column",
      detail: c.required ? `${c.type}, required` : c.type,
      info: c.description,
      boost: boost + (c.required ? 5 : 0),
    }));
}

/** Completes tables after FROM and JOIN, columns of the statement's tables elsewhere. */
export function osqueryCompletion(schema: () => Schema | undefined) {
  return (context: CompletionContext): CompletionResult | null => {
    const s = schema();
    if (!s) return null;
    const node = syntaxTree(context.state).resolveInner(context.pos, -1);
    if (/String|Comment/.test(node.name)) return null;
    const sql = context.state.doc.toString();
    const qualified = context.matchBefore(/[A-Za-z_]\w*\.\w*/);
    const uses = tablesOf(statementAt(sql, context.pos));
    if (qualified) {
      const [qualifier = "", start = ""] = qualified.text.split(".");
      const name = uses.find((u) => u.alias === qualifier.toLowerCase())?.name ?? qualifier.toLowerCase();
      const table = s.byName.get(name);
      if (!table) return null;
      return { from: context.pos - start.length, options: columnOptions(table, 30), validFor: /^\w*$/ };
    }
    const word = context.matchBefore(/\w*/);
    if (!word || (word.from === word.to && !context.explicit)) return null;
    if (/^\d/.test(word.text)) return null;
    const before = sql.slice(0, word.from);
    if (/\b(from|join)\s+$/i.test(before) || /\bfrom\s+[\w\s,]*,\s*$/i.test(before)) {
      return { from: word.from, options: s.tables.map(tableOption), validFor: /^\w*$/ };
    }
    const options: Completion[] = [...keywordOptions, ...functionOptions];
    const seen = new Set<string>();
    for (const use of uses) {
      const table = s.byName.get(use.name);
      if (!table || seen.has(table.name)) continue;
      seen.add(table.name);
      options.push(...columnOptions(table, 40));
      if (use.alias) options.push({ label: use.alias, type: "table", detail: use.name, boost: 20 });
    }
    if (seen.size === 0) options.push(...s.tables.map((t) => ({ ...tableOption(t), boost: -30 })));
    return { from: word.from, options, validFor: /^\w*$/ };
  };
}
