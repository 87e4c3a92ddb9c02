/** What somebody typed to filter rows: a condition for the server, or words without a column. */
export type RowFilter = { where: string } | { words: string[] };

const operators = /(^|\s)(=|!=|<=?|>=?|contains|prefix|exists)(\s|$)|[=<>]/i;

const quoted = (value: string): string => `"${value.replaceAll("\\", "\\\\").replaceAll('"', '\\"')}"`;

/**
 * Reads what is typed: a condition goes to the server as it is; column:word means
 * that the column contains the word. The server looks into columns only, so words
 * without one are given back.
 */
export function readRowFilter(text: string): RowFilter {
  const trimmed = text.trim();
  if (trimmed === "") return { where: "" };
  const terms = trimmed.split(/\s+/);
  if (terms.every((t) => /^[A-Za-z_]\w*:./.test(t))) {
    const [names, values] = [terms.map((t) => t.slice(0, t.indexOf(":"))), terms.map((t) => t.slice(t.indexOf(":") + 1))];
    return { where: names.map((name, i) => contains(name === "node" ? "hostname" : name, values[i]!)).join(" and ") };
  }
  return operators.test(trimmed) ? { where: trimmed } : { words: terms };
}

/** The condition that a column contains a text. */
export const contains = (column: string, text: string): string => `${column} contains ${quoted(text)}`;
