import { expect, test } from "@playwright/test";

import { byNoun, forTokens } from "./permissions";

test("permissions are grouped by what they are about", () => {
  expect(byNoun(["node.read", "live.run", "node.write", "live.run_saved", "odd"])).toEqual([
    ["node", ["read", "write"]],
    ["live", ["run", "run_saved"]],
    ["odd", [""]],
  ]);
});

test("a token consents to nothing", () => {
  expect(forTokens(["node.read", "live.approve", "change.approve", "user.write", "user.read", "node.read"])).toEqual(["node.read", "user.read"]);
});
