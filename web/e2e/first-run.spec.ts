import { expect, test, type Page } from "@playwright/test";

import { capture, gridRows, password, second, token, user, watch } from "./helpers";

test.describe.configure({ mode: "serial" });

test.describe("first run", () => {
  let page: Page;
  let complaints: string[];
  let hostname = "";

  test.skip(token === "", "MUSTER_E2E_URL and MUSTER_E2E_SETUP_TOKEN say where the server is");
  test.beforeAll(async ({ browser }) => {
    page = await browser.newPage();
    complaints = watch(page);
  });
  test.afterEach(() => {
    expect(complaints, "what the browser complained about").toEqual([]);
  });
  test.afterAll(async () => {
    await page.close();
  });

  test("sets up the first administrator", async () => {
    await page.goto("/");
    await expect(page).toHaveURL(/\/setup$/);
    await page.goto("about:blank");
    await page.goto(`/setup#token=${encodeURIComponent(token)}`);
    await expect(page.getByRole("heading", { name: "Welcome" })).toBeVisible();
    // The token must not stay in the address, nor be asked for again.
    await expect(page).toHaveURL(/\/setup$/);
    await expect(page.getByLabel("Setup token")).toHaveCount(0);

    await page.getByLabel("User name").fill(user);
    await page.getByLabel("Password", { exact: true }).fill("short");
    await page.getByRole("button", { name: "Create administrator" }).click();
    await expect(page.getByText("The two passwords differ")).toBeVisible();
    await page.getByLabel("Password", { exact: true }).fill(password);
    await page.getByLabel("Password again").fill(password);
    await page.getByRole("button", { name: "Create administrator" }).click();
    await expect(page.getByRole("heading", { name: "Overview", level: 1 })).toBeVisible();
  });

  test("shows the node that enrolled", async () => {
    await page.getByRole("navigation", { name: "Main" }).getByRole("link", { name: "Nodes", exact: true }).click();
    await expect(page).toHaveURL(/\/nodes$/);
    await expect.poll(() => gridRows(page, "Nodes"), { timeout: 60_000 }).toBeGreaterThan(0);
    const first = page.getByRole("table", { name: "Nodes" }).getByRole("row").nth(1);
    hostname = await first.getByRole("link").first().innerText();
    await expect(first).toContainText("online");

    await page.keyboard.press("/");
    await expect(page.getByRole("searchbox", { name: "Search nodes" })).toBeFocused();
    await page.keyboard.type(hostname);
    await expect(page).toHaveURL(/search=/);
    await expect.poll(() => gridRows(page, "Nodes")).toBeGreaterThan(0);
    await page.getByRole("searchbox", { name: "Search nodes" }).fill("no-such-node-anywhere");
    await expect(page.getByText("No node matches")).toBeVisible();
    await page.getByRole("button", { name: "Clear the filters" }).click();
    await expect.poll(() => gridRows(page, "Nodes")).toBeGreaterThan(0);
    await capture(page, "nodes");
  });

  test("opens the node and tags it", async () => {
    await page.getByRole("table", { name: "Nodes" }).getByRole("link", { name: hostname, exact: true }).first().click();
    await expect(page.getByRole("heading", { name: hostname, level: 1 })).toBeVisible();
    await page.getByRole("button", { name: "Add tag" }).click();
    await page.getByLabel("New tag").fill("from-the-ui");
    await page.keyboard.press("Enter");
    await expect(page.getByRole("button", { name: "Remove tag from-the-ui" })).toBeVisible();
    await capture(page, "node");
    await page.getByRole("tab", { name: "Config" }).click();
    await expect(page.getByLabel("Config as served")).toContainText("logger_tls_period");
    await expect(page.getByRole("table", { name: "Sources" })).toContainText("Pack/base");
    await capture(page, "node-config");
  });

  test("puts the node under quarantine and releases it", async () => {
    await page.getByRole("button", { name: "Quarantine", exact: true }).click();
    const dialog = page.getByRole("dialog");
    await expect(dialog).toContainText("It gets an empty config");
    await dialog.getByLabel("Reason").fill("two of them at once");
    await dialog.getByRole("button", { name: "Put under quarantine" }).click();
    await expect(page.getByRole("note")).toContainText("two of them at once");
    await expect(page.getByRole("link", { name: "Query this node" })).toHaveCount(0);
    await page.getByRole("tab", { name: "Details" }).click();
    await capture(page, "quarantine");
    await page.getByRole("tab", { name: "History" }).click();
    await expect(page.getByRole("table", { name: "History" })).toContainText(hostname);
    await capture(page, "history");

    await page.goto("/nodes?status=quarantined");
    await expect.poll(() => gridRows(page, "Nodes")).toBe(1);
    await page.getByRole("table", { name: "Nodes" }).getByRole("link", { name: hostname, exact: true }).click();
    await page.getByRole("button", { name: "Release", exact: true }).click();
    await page.getByRole("alertdialog").getByRole("button", { name: "Release" }).click();
    await expect(page.getByRole("note")).toHaveCount(0);
    await expect(page.getByRole("link", { name: "Query this node" })).toBeVisible();
  });

  test("answers a live query", async () => {
    await page.keyboard.press("g");
    await page.keyboard.press("q");
    await expect(page).toHaveURL(/\/live$/);
    const editor = page.getByRole("textbox", { name: "SQL" });
    await editor.click();

    // Completion knows the columns of the table behind an alias.
    await page.keyboard.type("SELECT p.cm FROM processes p");
    for (let i = 0; i < " FROM processes p".length; i++) await page.keyboard.press("ArrowLeft");
    await page.keyboard.press("Control+Space");
    await expect(page.getByRole("option", { name: /cmdline/ })).toBeVisible();
    await page.keyboard.press("Escape");
    await expect(page.getByRole("complementary", { name: "Schema" })).toContainText("All running processes");

    await page.keyboard.press("Control+a");
    await page.keyboard.type("SELECT pid, name FROM processes LIMIT 5");
    await page.keyboard.press("Escape");
    const run = page.getByRole("button", { name: "Run", exact: true });
    await expect(run).toBeDisabled();
    await expect(page.getByText("no targets yet")).toBeVisible();
    await page.getByRole("button", { name: "Choose targets" }).click();
    await page.getByRole("button", { name: /All nodes/ }).click();
    const reach = page.getByRole("status", { name: "Reach" });
    await expect(reach).toContainText(/hits \d+ node/);
    const all = 5 * Number(/hits (\d+) node/.exec(await reach.innerText())![1]); // the query's LIMIT
    await run.click();

    await expect(page).toHaveURL(/\/live\/.+/);
    await expect.poll(() => gridRows(page, "Rows"), { timeout: 60_000 }).toBeGreaterThan(0);
    const grid = page.getByRole("table", { name: "Rows", exact: true });
    await expect(grid.getByRole("columnheader", { name: "pid" })).toBeVisible();
    await expect(grid.getByRole("columnheader", { name: "name" })).toBeVisible();
    await expect(page.getByRole("tab", { name: /^Answered [1-9]/ })).toBeVisible();
    await expect(page.getByRole("region", { name: "Progress" })).toContainText("done", { timeout: 60_000 });
    await expect(page.getByRole("tab", { name: /^Waiting 0/ })).toBeVisible();

    await expect.poll(() => gridRows(page, "Rows")).toBe(all);
    await page.getByRole("searchbox", { name: "Filter the rows" }).fill("name:no-such-process");
    await expect(page.getByText("No row matches the filter")).toBeVisible();
    await page.getByRole("searchbox", { name: "Filter the rows" }).fill("");
    await expect.poll(() => gridRows(page, "Rows")).toBe(all);
    await grid.getByRole("button", { name: "pid" }).click();
    await expect(grid.getByRole("columnheader", { name: "pid" })).toHaveAttribute("aria-sort", "ascending");
    await capture(page, "live");

    // The address shows the same results again.
    await page.reload();
    await expect.poll(() => gridRows(page, "Rows")).toBe(all);
  });

  test("says what the policy finds as one types", async () => {
    await page.getByRole("link", { name: "Live query", exact: true }).first().click();
    const write = async (sql: string) => {
      await page.getByRole("textbox", { name: "SQL" }).click();
      await page.keyboard.press("Control+a");
      await page.keyboard.type(sql);
      await page.keyboard.press("Escape");
    };
    await page.getByRole("button", { name: "Choose targets" }).click();
    await page.getByRole("button", { name: /All nodes/ }).click();
    const remarks = page.getByRole("list", { name: "Remarks" });
    const run = page.getByRole("button", { name: "Run", exact: true });

    await write("SELECT * FROM no_such_table");
    await expect(remarks).toContainText("there is no table no_such_table");
    await expect(page.locator(".cm-found-refused")).toHaveText("no_such_table");

    await write("SELECT url FROM curl WHERE url = 'http://169.254.169.254/'");
    await expect(page.locator(".cm-found-refused")).toHaveText(["curl", "'http://169.254.169.254/'"]);
    await expect(remarks).toContainText("Refused: curl: issues an HTTP GET");
    await expect(run).toBeDisabled();
    await expect(run).toHaveAccessibleDescription(/policy refuses this text: .* hand out credentials/);
    await page.getByRole("button", { name: "tier 3 dangerous: why" }).click();
    await expect(page.getByRole("dialog", { name: "Why this tier" })).toContainText("hand out credentials of the host");
    await capture(page, "refused");
    await page.keyboard.press("Escape");
    await page.locator(".cm-found-refused").first().hover();
    await expect(page.locator(".cm-found-tip")).toContainText("issues an HTTP GET");

    await write("SELECT total_seconds FROM uptime");
    await expect(page.getByRole("button", { name: "tier 0 harmless: why" })).toBeVisible();
    await expect(page.locator(".cm-found")).toHaveCount(0);
    await expect(run).toBeEnabled();
  });

  test("lists events", async () => {
    await page.keyboard.press("Escape");
    await page.getByRole("navigation", { name: "Main" }).getByRole("link", { name: "Events" }).click();
    await expect(page.getByRole("heading", { name: "Events", level: 1 })).toBeVisible();
    await expect
      .poll(
        async () => {
          await page.getByRole("button", { name: "Refresh" }).click();
          return gridRows(page, "Events");
        },
        { timeout: 90_000, intervals: [500, 1000, 2000] },
      )
      .toBeGreaterThan(0);
    await capture(page, "events");
    // One that no newer event pushes down while it is looked at.
    await page.goto("/events?query=pack_base_os_version");
    const line = page.getByRole("table", { name: "Events" }).getByRole("row").nth(1);
    await line.getByRole("button", { name: /Details/ }).click();
    await line.getByRole("button", { name: "Raw JSON" }).click();
    await expect(page.getByLabel("The event as JSON")).toContainText('"node_id"');
    await line.getByRole("button", { name: /Details/ }).click();
  });

  test("creates, rotates and revokes an enroll secret", async () => {
    await page.getByRole("navigation", { name: "Main" }).getByRole("link", { name: "Enroll secrets" }).click();
    await page.getByRole("button", { name: "New secret" }).first().click();
    const dialog = page.getByRole("dialog");
    await dialog.getByLabel("Name", { exact: true }).fill("e2e-laptops");
    await dialog.getByLabel(/^Tags/).fill("laptop");
    await dialog.getByText("More", { exact: true }).click();
    await dialog.getByLabel("Networks it works from").fill("10.0.0.0/8 2001:db8::1");
    await dialog.getByRole("button", { name: "Create secret" }).click();
    await expect(dialog.getByLabel("Value of the enroll secret")).not.toBeEmpty();
    await expect(dialog.getByLabel("Flagfile")).toContainText("--enroll_tls_endpoint=/api/osquery/enroll");
    await dialog.getByRole("button", { name: "I have kept it" }).click();
    const row = page.getByRole("table", { name: "Enroll secrets" }).getByRole("row", { name: /e2e-laptops/ });
    await expect(row).toContainText("active");
    await expect(row).toContainText("10.0.0.0/8, 2001:db8::1/128");
    await row.getByRole("button", { name: "Rotate e2e-laptops" }).click();
    await dialog.getByRole("button", { name: "Rotate" }).click();
    await expect(dialog.getByLabel("Value of the enroll secret")).not.toBeEmpty();
    await dialog.getByRole("button", { name: "I have kept it" }).click();
    await expect(row).toContainText("old value ends in");
    await capture(page, "secrets");
    await row.getByRole("button", { name: "Revoke e2e-laptops" }).click();
    await page.getByRole("alertdialog").getByRole("button", { name: "Revoke" }).click();
    await expect(row).toContainText("revoked");
  });

  test("shows the audit log and the overview", async () => {
    await page.keyboard.press("g");
    await page.keyboard.press("a");
    await expect(page.getByRole("heading", { name: "Audit log", level: 1 })).toBeVisible();
    await expect.poll(() => gridRows(page, "Audit log")).toBeGreaterThan(0);
    await page.keyboard.press("g");
    await page.keyboard.press("o");
    await expect(page.getByRole("heading", { name: "Events in the last 24 hours" })).toBeVisible();
    await expect(page.getByRole("link", { name: /^Online/ })).toBeVisible();
    await capture(page, "overview");
  });

  test("has a change approved by a second person", async ({ browser }) => {
    const post = async (path: string, data: unknown, status = 200): Promise<{ id: string; state: string; hash: string }> => {
      const answer = await page.request.post(`/api/v1${path}`, { data });
      expect(answer.status(), await answer.text()).toBe(status);
      return answer.json();
    };
    const propose = (message: string, yaml: string) => post("/changes", { message, files: [{ name: "ui.yaml", content: yaml }] });
    await post("/users", { name: second, password, roles: ["operator"], own_password: password });
    const eyes = await propose("two pairs of eyes", "{apiVersion: muster/v1, kind: ApprovalPolicy, name: eyes, spec: {rules: [{tier: 0, approvals: 1}]}}");
    expect(eyes.state).toBe("applied");
    const watched = await propose(
      "watch <b>uptime</b>",
      "{apiVersion: muster/v1, kind: Pack, name: watch, spec: {queries: {uptime: {query: SELECT total_seconds FROM uptime, interval: 600}}}}",
    );
    expect(watched.state).toBe("pending");

    await page.keyboard.press("g");
    await page.keyboard.press("c");
    await page.getByRole("table", { name: "Changes" }).getByRole("link", { name: "watch <b>uptime</b>" }).click();
    await expect(page.getByText("somebody else must approve it")).toBeVisible();
    await expect(page.getByRole("button", { name: "Approve" })).toHaveCount(0);
    await post(`/changes/${watched.id}/approve`, { hash: watched.hash, password }, 403);

    const theirs = await (await browser.newContext()).newPage();
    const heard = watch(theirs);
    await theirs.goto("/changes?state=pending");
    await theirs.getByLabel("User name").fill(second);
    await theirs.getByLabel("Password").fill(password);
    await theirs.getByRole("button", { name: "Log in" }).click();
    await expect.poll(() => gridRows(theirs, "Changes")).toBe(1);
    await theirs.getByRole("table", { name: "Changes" }).getByRole("link").click();
    await expect(theirs.getByRole("region", { name: "Diff" })).toContainText("SELECT total_seconds FROM uptime");
    await capture(theirs, "change");
    await theirs.getByRole("button", { name: "Approve" }).click();
    const dialog = theirs.getByRole("dialog");
    await expect(dialog).toContainText(watched.hash);
    await expect(dialog.getByLabel("Your password")).toBeFocused();
    await theirs.keyboard.type(password);
    await theirs.keyboard.press("Enter");
    await expect(dialog).toHaveCount(0);
    await expect(theirs.getByRole("main")).toContainText("applied");
    await expect(theirs.getByRole("main")).toContainText("it is revision");
    expect(heard, "what their browser complained about").toEqual([]);
    await theirs.context().close();

    await page.goto("/audit?outcome=refused");
    const refusal = page.getByRole("table", { name: "Audit log" }).getByRole("row").nth(1);
    await expect(refusal).toContainText("change.approve");
    await expect(refusal).toContainText("you proposed it yourself");
    await refusal.getByRole("link").first().click();
    await expect(page).toHaveURL(/outcome=refused&entry=\d+/);
    await expect(page.getByRole("dialog")).toContainText("change.approve");
    await capture(page, "audit-entry");
    await page.keyboard.press("Escape");
    await expect(page.getByRole("dialog")).toHaveCount(0);
    await page.getByRole("combobox", { name: "Actor" }).fill("nobody-of-that-name");
    await expect(page).toHaveURL(/outcome=refused&actor=nobody-of-that-name/);
    await expect(page.getByText("No entry matches")).toBeVisible();
    await page.getByRole("button", { name: "Clear the filters" }).click();
    await expect.poll(() => gridRows(page, "Audit log")).toBeGreaterThan(1);
    await capture(page, "audit");
  });

  test("says on every page that changes are frozen", async () => {
    const state = page.getByRole("status", { name: "State of the fleet" });
    await page.request.post("/api/v1/freeze/on", { data: { reason: "the <i>incident</i>" } });
    await page.reload();
    await expect(state).toContainText(`frozen by ${user}: the <i>incident</i>`);
    await capture(page, "frozen");
    await page.request.post("/api/v1/freeze/off", { data: { reason: "over" } });
    await page.reload();
    await expect(page.getByRole("heading", { level: 1 })).toBeVisible();
    await expect(state).toBeEmpty();
  });

  test("remembers the theme, logs out and in", async () => {
    await page.getByRole("button", { name: /^Theme/ }).click();
    await page.getByRole("menuitem", { name: "Dark" }).click();
    await expect(page.locator("html")).toHaveAttribute("data-theme", "dark");
    await page.reload();
    await expect(page.locator("html")).toHaveAttribute("data-theme", "dark");

    await page.getByRole("button", { name: "Account" }).click();
    await page.getByRole("menuitem", { name: "Log out" }).click();
    await expect(page.getByRole("heading", { name: "Log in" })).toBeVisible();
    await page.goto("/events?action=added");
    await expect(page).toHaveURL(/\/login\?next=/);
    await page.getByLabel("User name").fill(user);
    await page.getByLabel("Password").fill(password);
    await page.getByRole("button", { name: "Log in" }).click();
    await expect(page).toHaveURL(/\/events\?action=added$/);
    await expect(page.getByRole("heading", { name: "Events", level: 1 })).toBeVisible();
  });
});
