import { expect, test } from "@playwright/test";

import type { PolicyVerdict } from "../api/types";
import { marksOf, remarksOf } from "./findings";

const verdict = (v: Partial<PolicyVerdict>): PolicyVerdict => ({
  allowed: true,
  tier: 0,
  reasons: [],
  findings: [],
  platforms: ["darwin", "linux", "windows"],
  ...v,
});
const marked = (sql: string, v: PolicyVerdict) => marksOf(sql, v).map((m) => `${m.severity} ${sql.slice(m.from, m.to)}`);

test("marks the word at a finding", () => {
  const found = (line: number, column: number) => verdict({ findings: [{ code: "x", message: "m", severity: "warning", line, column }] });
  const sql = "SELECT '🐧ü'\nFROM hash";
  expect(marked(sql, found(2, 6))).toEqual(["warning hash"]);
  expect(marked(sql, found(1, 8))).toEqual(["warning '🐧ü'"]);
  expect(marked("SELECT '🐧', pid", found(1, 13))).toEqual(["warning pid"]);
  expect(marked(sql, found(2, 99))).toEqual(["warning h"]);
  expect(marked(sql, found(9, 9))).toEqual(["warning h"]);
  expect(marked(sql, found(0, 0))).toEqual([]);
  expect(marked("", found(1, 1))).toEqual([]);
});

test("marks what makes a text too dangerous, and says why", () => {
  const refused = verdict({
    allowed: false,
    tier: 3,
    reasons: [
      { kind: "argument", name: '"http://x.example/"', tier: 3, why: "leads away" },
      { kind: "table", name: "curl", tier: 3, why: "fetches" },
      { kind: "argument", name: "curl.url", tier: 2, why: "is sent a GET" },
    ],
  });
  expect(marked("SELECT url FROM Curl WHERE url = 'http://x.example/'", refused)).toEqual(["refused 'http://x.example/'", "refused Curl"]);
  expect(remarksOf(refused).map((r) => r.message)).toEqual(['"http://x.example/": leads away', "curl: fetches"]);
  expect(marked("SELECT url FROM curl", { ...refused, allowed: true })).toEqual([]);
});

test("tells the worst first, and the platforms last", () => {
  const said = remarksOf(
    verdict({
      findings: [
        { code: "a", message: "a note", severity: "note" },
        { code: "b", message: "a warning", severity: "warning" },
      ],
      platforms: ["darwin"],
    }),
  );
  expect(said.map((r) => r.message)).toEqual(["a warning", "a note", "Answers on macOS only."]);
  expect(remarksOf(verdict({ platforms: [] })).map((r) => r.severity)).toEqual(["warning"]);
});
