import { expect, test } from "@playwright/test";

import { statementAt, tableAt, tablesOf } from "./sql";

const names = (sql: string) => tablesOf(statementAt(sql, sql.length)).map((u) => (u.alias ? `${u.name} ${u.alias}` : u.name));

test("finds the tables of a statement", () => {
  expect(names("select * from processes")).toEqual(["processes"]);
  expect(names("SELECT p.name FROM processes AS p JOIN users u USING (uid) WHERE p.pid > 1")).toEqual(["processes p", "users u"]);
  expect(names("SELECT * FROM users, groups g WHERE 1")).toEqual(["users", "groups g"]);
  expect(names("SELECT * FROM (SELECT pid FROM processes) x, users")).toEqual(["processes", "users"]);
  expect(names("SELECT name, (SELECT count(*), 2 FROM users) FROM processes ORDER BY name, pid")).toEqual(["users", "processes"]);
  expect(names("SELECT 'from nowhere' -- from nothing\n FROM \"os_version\" /* from x */")).toEqual(["os_version"]);
  expect(names("SELECT 1; SELECT 2 FROM uptime")).toEqual(["uptime"]);
  expect(names("SELECT * FROM")).toEqual([]);
});

test("finds the table at the cursor", () => {
  const sql = "SELECT p.cmdline, u.username FROM processes p JOIN users u USING (uid)";
  expect(tableAt(sql, sql.indexOf("cmdline") + 2)).toBe("processes");
  expect(tableAt(sql, sql.indexOf("username"))).toBe("users");
  expect(tableAt(sql, sql.indexOf("users") + 1)).toBe("users");
  expect(tableAt(sql, sql.indexOf("uid"))).toBeUndefined();
});
