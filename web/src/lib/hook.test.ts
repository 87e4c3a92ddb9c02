import { expect, test } from "@playwright/test";

import { curlExample, hookURL, shellWord } from "./hook";

test("an example is safe to paste", () => {
  expect(hookURL("https://m.example", "a b/../c")).toBe("https://m.example/api/v1/hooks/a%20b%2F..%2Fc");
  expect(curlExample("https://m.example", "pager-duty")).toContain("https://m.example/api/v1/hooks/pager-duty \\");
  expect(shellWord("it's")).toBe(`'it'\\''s'`);
  expect(shellWord("$(reboot)")).toBe("'$(reboot)'");
  expect(curlExample("https://m.example", "a'; rm -rf ~ #")).toContain("hooks/a'\\''%3B%20rm%20-rf%20~%20%23'");
});
