import { expect, test } from "@playwright/test";

import { contains, readRowFilter } from "./row-filter";

test("reads what somebody types to filter rows", () => {
  const where = (text: string) => readRowFilter(text);
  expect(where("  ")).toEqual({ where: "" });
  expect(where("name:sshd")).toEqual({ where: 'name contains "sshd"' });
  expect(where('name:sshd path:/usr"bin')).toEqual({ where: 'name contains "sshd" and path contains "/usr\\"bin"' });
  expect(where("pid > 100 and name = ssh")).toEqual({ where: "pid > 100 and name = ssh" });
  expect(where("pid>100")).toEqual({ where: "pid>100" });
  expect(where("cmdline exists")).toEqual({ where: "cmdline exists" });
  expect(where("sshd")).toEqual({ words: ["sshd"] });
  expect(where("existing containsx")).toEqual({ words: ["existing", "containsx"] });
});

test("a text is quoted, whatever is in it", () => {
  expect(contains("path", 'a\\b"c')).toBe('path contains "a\\\\b\\"c"');
});
