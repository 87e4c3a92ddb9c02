import { expect, test } from "@playwright/test";

import { linkTo, namesIn, targetsOf, unknownIn } from "./live-link";

test("a link fills in what it was made of", () => {
  const sql = "SELECT * FROM processes WHERE name = 'a&b'\n-- %20+";
  const selector = { nodes: ["one", "two"], tags: ["web"], where: 'platform = linux and hostname = "db-*"' };
  const url = new URL(linkTo("https://muster.example", sql, selector)!);
  const search = Object.fromEntries(url.searchParams);
  expect(url.pathname).toBe("/live");
  expect(search.sql).toBe(sql);
  expect(targetsOf(search)).toEqual(selector);
  expect(targetsOf({ all: "1" })).toEqual({ all: true });
});

test("no targets are none, and long lists make no link", () => {
  expect(targetsOf({ sql: "SELECT 1" })).toBeUndefined();
  expect(targetsOf({ all: "yes", nodes: ",," })).toBeUndefined();
  expect(linkTo("https://muster.example", "SELECT 1", { nodes: Array.from({ length: 2000 }, (_, i) => `node-${i}`) })).toBeUndefined();
});

test("reads pasted names", () => {
  expect(namesIn(' web-1, web-2\nweb-1\t"db 1"\r\n;last ')).toEqual(["web-1", "web-2", "db", "1", "last"]);
  expect(namesIn(" \n")).toEqual([]);
});

test("finds the names that are unknown", () => {
  expect(unknownIn("no node is called c, a", ["a", "b", "c"])).toEqual(["a", "c"]);
  expect(unknownIn("the server cannot be reached", ["a"])).toEqual([]);
});
