import { createHash } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { hostname, tmpdir } from "node:os";
import { join } from "node:path";

import { expect, test, type Download, type Page } from "@playwright/test";

import { apply, capture, gridRows, logIn, password, second, token, user, watch } from "./helpers";

// After first-run.spec.ts, which made the first administrator, and a second one.

const sql = "SELECT pid, name FROM processes LIMIT 5";
const filled = `/live?sql=${encodeURIComponent(sql)}&all=1`;

async function textOf(download: Download): Promise<string> {
  return readFileSync(await download.path(), "utf8");
}

async function exported(page: Page, format: string): Promise<string> {
  await page.getByRole("tabpanel").getByRole("button", { name: "Export" }).click();
  const file = page.waitForEvent("download");
  await page.getByRole("menuitem", { name: format, exact: true }).click();
  return textOf(await file);
}

const progress = (page: Page) => page.getByRole("region", { name: "Progress" });
const done = async (page: Page) => expect(page.getByRole("button", { name: "Run again" })).toBeVisible({ timeout: 60_000 });

test.describe.configure({ mode: "serial" });

test.describe("reach", () => {
  let page: Page;
  let complaints: string[];

  test.skip(token === "", "MUSTER_E2E_URL and MUSTER_E2E_SETUP_TOKEN say where the server is");
  test.beforeAll(async ({ browser }) => {
    page = await browser.newPage();
    complaints = watch(page);
    await logIn(page, user);
  });
  test.afterEach(() => {
    expect(complaints, "what the browser complained about").toEqual([]);
  });
  test.afterAll(async () => {
    await page.close();
  });

  test("fills in a text and its targets from a link, and runs nothing", async () => {
    const before = await (await page.request.get("/api/v1/live?limit=1")).json();
    await page.goto(filled);
    await expect(page).toHaveURL(/\/live$/);
    await expect(page.getByRole("textbox", { name: "SQL" })).toContainText("SELECT pid, name FROM processes");
    await expect(page.getByRole("group", { name: "Targets" })).toContainText("all nodes");
    await expect(page.getByRole("status", { name: "Reach" })).toContainText(/hits \d+ node/);
    const after = await (await page.request.get("/api/v1/live?limit=1")).json();
    expect(after.live[0]?.id).toBe(before.live[0]?.id);
  });

  test("chooses nodes from a pasted list, without those that nobody knows", async () => {
    const { nodes } = await (await page.request.get("/api/v1/nodes?limit=2")).json();
    await page.getByRole("button", { name: "Remove all nodes" }).click();
    await page.getByRole("button", { name: "Choose targets" }).click();
    await page.getByRole("tab", { name: "Paste a list" }).click();
    // Chips ask for the node that they name; one that is unknown answers 404, and the browser says so.
    await page.getByLabel("Names of nodes").fill([nodes[0].host_identifier, nodes[1].id, "no-such-1", "no-such-2", "no-such-3"].join("\n"));
    await page.getByRole("button", { name: "Add 5 names" }).click();
    const reach = page.getByRole("status", { name: "Reach" });
    await expect(reach).toContainText("no node is called no-such-1");
    await expect(page.getByRole("button", { name: "Run", exact: true })).toBeDisabled();
    await reach.getByRole("button", { name: "Leave these 3 out" }).click();
    await expect(reach).toContainText(/hits 2 nodes/);
    complaints.splice(0, complaints.length, ...complaints.filter((c) => !/status of (400|404)/.test(c)));
  });

  test("counts, filters, sorts and exports on the server", async () => {
    await page.goto(filled);
    const reach = page.getByRole("status", { name: "Reach" });
    await expect(reach).toContainText(/hits \d+ node/);
    const all = 5 * Number(/hits (\d+) node/.exec(await reach.innerText())![1]); // the query's LIMIT
    await page.getByRole("button", { name: "Run", exact: true }).click();
    await expect(page).toHaveURL(/\/live\/.+/);
    await done(page);
    await expect.poll(() => gridRows(page, "Rows")).toBe(all);
    await expect(page.getByRole("status", { name: "Tally" })).toContainText("answered");

    await page.getByRole("tab", { name: "Counts" }).click();
    const counts = page.getByRole("table", { name: "Counts" });
    await expect.poll(() => gridRows(page, "Counts")).toBeGreaterThan(0);
    await capture(page, "live-counts");
    const first = counts.getByRole("row").nth(1);
    const rows = Number((await first.getByRole("cell").nth(1).innerText()).replace(/\D/g, ""));
    await first.click();
    await expect(page).toHaveURL(/filter=name/);
    await expect.poll(() => gridRows(page, "Rows")).toBe(rows);
    const csv = await exported(page, "CSV");
    expect(csv.trim().split("\n")).toHaveLength(rows + 1);

    await page.getByRole("searchbox", { name: "Filter the rows" }).fill("pid > > 1");
    await expect(page.getByRole("tabpanel").getByRole("alert")).toBeVisible();
    complaints.splice(0, complaints.length, ...complaints.filter((c) => !/status of 400/.test(c))); // the browser reports the refusal
    await page.getByRole("searchbox", { name: "Filter the rows" }).fill("");
    await expect.poll(() => gridRows(page, "Rows")).toBe(all);
    const lines = (await exported(page, "NDJSON")).trim().split("\n");
    expect(lines).toHaveLength(all);
    expect(Object.keys(JSON.parse(lines[0]!))).toContain("columns");

    const grid = page.getByRole("table", { name: "Rows", exact: true });
    await grid.getByRole("button", { name: "pid" }).click();
    await grid.getByRole("button", { name: "pid" }).click();
    await expect(grid.getByRole("columnheader", { name: "pid" })).toHaveAttribute("aria-sort", "descending");
    await expect(grid).not.toHaveAttribute("aria-busy", "true");
    const pids = await grid.getByRole("row").evaluateAll((list) => list.slice(1, 8).map((r) => Number(r.querySelectorAll("[role=cell]")[1]!.textContent)));
    expect(pids).toEqual([...pids].sort((a, b) => b - a));

    await page.getByRole("tab", { name: /^Answered/ }).click();
    await expect.poll(() => gridRows(page, "Nodes: answered")).toBeGreaterThan(0);
    expect((await exported(page, "CSV")).split("\n").length).toBeGreaterThan(1);
  });

  test("runs again and compares", async () => {
    const former = page.url();
    await page.getByRole("button", { name: "Run again" }).click();
    await expect(page).not.toHaveURL(former);
    await done(page);
    await page.getByRole("tab", { name: "Compare" }).click();
    await expect(page.getByRole("status", { name: "Difference" })).toContainText(/\d+ added, \d+ gone, \d+ the same/);
    await capture(page, "live-compare");
  });

  test("saves a query, opens it and deletes it", async () => {
    await page.getByRole("button", { name: "More about this query" }).click();
    await page.getByRole("menuitem", { name: /Save the query/ }).click();
    const dialog = page.getByRole("dialog");
    await dialog.getByLabel("Name", { exact: true }).fill("five-processes");
    await dialog.getByLabel("Description").fill("a <b>few</b> of them");
    await dialog.getByRole("checkbox", { name: "With its targets" }).click();
    await dialog.getByRole("button", { name: "Save" }).click();
    await expect(dialog).toHaveCount(0);
    await page.getByRole("link", { name: "Saved queries" }).click();
    const row = page.getByRole("table", { name: "Saved queries" }).getByRole("row", { name: /five-processes/ });
    await expect(row).toContainText("a <b>few</b> of them");
    await row.getByRole("button", { name: "Open five-processes" }).click();
    await expect(page.getByRole("group", { name: "Targets" })).toContainText("all nodes");
    await capture(page, "live-saved");
    await row.getByRole("button", { name: "Delete five-processes" }).click();
    await page.getByRole("alertdialog").getByRole("button", { name: "Delete" }).click();
    await expect(page.getByText("No query is saved yet")).toBeVisible();
  });

  test("finds former queries, and stops all", async () => {
    await page.getByRole("tab", { name: "History" }).click();
    const history = page.getByRole("table", { name: "History" });
    await page.getByRole("searchbox", { name: "Search the texts" }).fill("processes LIMIT 5");
    await expect(page).toHaveURL(/text=processes/);
    await expect(history.getByRole("row")).not.toHaveCount(1);
    await capture(page, "live-history");
    await page.getByRole("searchbox", { name: "Search the texts" }).fill("no such text anywhere");
    await expect(page.getByText("No live query matches")).toBeVisible();
    await page.getByRole("button", { name: "Clear the filters" }).click();
    await expect(history).toBeVisible();
    await page.getByRole("button", { name: "Stop all" }).click();
    await page.getByRole("dialog").getByLabel("Reason").fill("the end of a test");
    await page.getByRole("dialog").getByRole("button", { name: "Stop all" }).click();
    await expect(page.getByRole("dialog")).toHaveCount(0);
  });

  test("asks for a reason, and for a second person", async ({ browser }) => {
    await apply(page, "second people", "{apiVersion: muster/v1, kind: LivePolicy, name: e2e, spec: {rules: [{min_tier: 2, require: approval}, {min_tier: 0, min_nodes: 2, require: reason}]}}");
    await page.goto(`/live?sql=${encodeURIComponent("SELECT total_seconds FROM uptime")}&all=1`);
    await expect(page.getByRole("status", { name: "Reach" })).toContainText("needs a reason");
    await expect(page.getByRole("button", { name: "Run", exact: true })).toBeDisabled();
    await page.getByLabel("Reason").fill("because of <i>incident</i> 42");
    await page.getByRole("button", { name: "Run", exact: true }).click();
    await done(page);
    await expect(progress(page)).toContainText("because of <i>incident</i> 42");

    await page.goto(filled);
    await expect(page.getByRole("status", { name: "Reach" })).toContainText("needs a second person");
    await page.getByLabel("Reason").fill("which processes?");
    await capture(page, "live-approval");
    await page.getByRole("button", { name: "Ask for approval" }).click();
    await expect(progress(page)).toContainText("somebody else must approve it");
    await expect(page.getByRole("button", { name: "Approve", exact: true })).toHaveCount(0);

    const theirs = await (await browser.newContext()).newPage();
    const heard = watch(theirs);
    await logIn(theirs, second, new URL(page.url()).pathname);
    await theirs.getByRole("button", { name: "Approve", exact: true }).click();
    await expect(theirs.getByRole("dialog")).toContainText("which processes?");
    await capture(theirs, "live-pending");
    await theirs.getByLabel("Your password").fill(password);
    await theirs.keyboard.press("Enter");
    await expect(theirs.getByRole("dialog")).toHaveCount(0);
    await done(theirs);
    await expect(progress(theirs)).toContainText(`approved by ${second}`);
    expect(heard, "what their browser complained about").toEqual([]);
    await theirs.context().close();
    await done(page);
    await apply(page, "no second people", "{apiVersion: muster/v1, kind: LivePolicy, name: e2e, spec: {rules: [{min_tier: 3, require: refuse}]}}");
  });

  test("fetches a file, lists and downloads it, and deletes it", async () => {
    const dir = mkdtempSync(join(tmpdir(), "muster-e2e-"));
    const path = join(dir, "notes.txt");
    writeFileSync(path, "what a <b>node</b> holds\n".repeat(100));
    try {
      await page.getByRole("navigation", { name: "Main" }).getByRole("link", { name: "Carves" }).click();
      await page.getByRole("button", { name: "Fetch files" }).first().click();
      const dialog = page.getByRole("dialog");
      await dialog.getByLabel("Node", { exact: true }).fill(hostname());
      const fetch = dialog.getByRole("button", { name: "Fetch", exact: true });
      await dialog.getByLabel("Paths, one per line").fill("/proc/self/environ");
      await expect(dialog).toContainText("Refused");
      await expect(fetch).toBeDisabled();
      await dialog.getByLabel("Paths, one per line").fill("/etc/shadow");
      await expect(dialog.getByLabel("Reason", { exact: true })).toBeVisible();
      await expect(fetch).toBeDisabled();
      await capture(page, "carve-dialog");
      await dialog.getByLabel("Paths, one per line").fill(path);
      await expect(dialog.getByLabel("Reason, if you like")).toBeVisible();
      await fetch.click();

      await expect(page).toHaveURL(/\/carves\/[^?]+$/);
      const download = page.getByRole("link", { name: "Download" }).first();
      await expect(download).toBeVisible({ timeout: 100_000 }); // osqueryd begins at a full minute
      await expect.poll(() => gridRows(page, "Files")).toBeGreaterThan(0);
      await expect(page.getByRole("table", { name: "Files" })).toContainText("notes.txt");
      await expect(page.getByText("hash matches")).toBeVisible({ timeout: 60_000 });
      await capture(page, "carve");
      const arrives = page.waitForEvent("download");
      await download.click();
      const file = await arrives;
      const bytes = readFileSync(await file.path());
      await expect(page.getByText(createHash("sha256").update(bytes).digest("hex"))).toBeVisible();
      if (file.suggestedFilename().endsWith(".tar")) expect(bytes.includes("what a <b>node</b> holds")).toBe(true);

      await page.getByRole("button", { name: "Delete" }).click();
      await page.getByRole("alertdialog").getByRole("button", { name: "Delete" }).click();
      await expect(page.getByText("Nothing was fetched yet")).toBeVisible();
    } finally {
      rmSync(dir, { recursive: true });
    }
  });

  test("gives a trigger its token, and shows how fast the node answers", async ({ playwright }) => {
    await apply(page, "reach", `
apiVersion: muster/v1
kind: Trigger
name: e2e-hook
description: asks <b>one</b> node
spec: {node: {match: hostname, path: /host}, sql: SELECT total_seconds FROM uptime}
---
apiVersion: muster/v1
kind: EnrollmentQuery
name: e2e-first
spec: {sql: SELECT hostname FROM system_info, existing: true}
`);
    await page.getByRole("navigation", { name: "Main" }).getByRole("link", { name: "Triggers" }).click();
    const row = page.getByRole("table", { name: "Triggers" }).getByRole("row", { name: /e2e-hook/ });
    await expect(row).toContainText("none yet");
    await row.getByRole("button", { name: "Use e2e-hook" }).click();
    const dialog = page.getByRole("dialog");
    await dialog.getByRole("button", { name: "Make the token" }).click();
    const value = await dialog.getByLabel("Token of the trigger").innerText();
    await capture(page, "trigger-token");
    await dialog.getByRole("button", { name: "I have kept it" }).click();
    await expect(row).toContainText("set");
    await row.getByRole("button", { name: "Use e2e-hook" }).click();
    await expect(dialog).not.toContainText(value);
    await page.keyboard.press("Escape");

    const outside = await playwright.request.newContext({ ignoreHTTPSErrors: true });
    const call = (secret: string) =>
      outside.post(new URL("/api/v1/hooks/e2e-hook", page.url()).href, { headers: { Authorization: `Bearer ${secret}` }, data: { host: hostname() } });
    expect((await call("guessed")).status()).toBe(401);
    const fired = await call(value);
    expect(fired.status(), await fired.text()).toBe(202);
    const { live_id: id } = (await fired.json()) as { live_id: string };
    await outside.dispose();

    await expect(row.getByRole("cell").nth(6)).toContainText(/\d (ms|s)/, { timeout: 60_000 });
    await expect(page.getByRole("table", { name: "Enrollment queries" })).toContainText("e2e-first");
    await expect(page.getByRole("table", { name: "Time to answer" }).getByRole("row", { name: /^all/ })).toContainText(/\d s/);
    await capture(page, "triggers");
    await page.goto(`/live/${id}`);
    await expect(progress(page)).toContainText("done");
    await expect.poll(() => gridRows(page, "Rows")).toBe(1);
  });
});
