import { expect, test, type Page } from "@playwright/test";

import { createHmac } from "node:crypto";

import { apply, capture, gridRows, logIn, password, second, token, user, watch } from "./helpers";

// After first-run.spec.ts, which made the administrators.

const rule = `apiVersion: muster/v1
kind: Rule
name: ui-seen
description: A node logged something
spec:
  events: {queries: ["*"]}
  condition: action != ""
  key: "{{node.id}}"
  severity: high
  title: "Seen <b>something</b> on {{node.hostname}}"
  text: "It is {{query}}"
`;

/** What an authenticator shows, some steps from now (RFC 6238). */
function codeOf(secret: string, steps: number): string {
  const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
  const bits = [...secret].map((c) => letters.indexOf(c).toString(2).padStart(5, "0")).join("");
  const key = Buffer.from(bits.match(/.{8}/g)?.map((b) => parseInt(b, 2)) ?? []);
  const counter = Buffer.alloc(8);
  counter.writeBigUInt64BE(BigInt(Math.floor(Date.now() / 30_000) + steps));
  const mac = createHmac("sha1", key).update(counter).digest();
  const at = (mac.at(-1) ?? 0) & 15;
  return String((mac.readUInt32BE(at) & 0x7fffffff) % 1_000_000).padStart(6, "0");
}

test.describe.configure({ mode: "serial" });

test.describe("signals", () => {
  let page: Page;
  let complaints: string[];
  const dialog = () => page.getByRole("dialog");

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

  test("shows an alert when a rule opens it, and what people do with it", async () => {
    await page.keyboard.press("g");
    await page.keyboard.press("l");
    await expect(page.getByText("No alert is open")).toBeVisible();
    await apply(page, "what nodes log", rule);
    // Nodes that have told all log little: what they answer is an event, too.
    const asked = await page.request.post("/api/v1/live", { data: { sql: "SELECT 1 AS a", selector: { all: true }, reason: "an event" } });
    expect(asked.ok(), await asked.text()).toBe(true);
    test.setTimeout(150_000);
    await expect.poll(() => gridRows(page, "Alerts"), { timeout: 120_000 }).toBeGreaterThan(0);
    await expect(page.getByRole("navigation", { name: "Main" }).getByRole("link", { name: /^Alerts \d+ open$/ })).toBeVisible();
    await capture(page, "alerts");
    await page.getByRole("table", { name: "Alerts" }).getByRole("link", { name: /^Seen <b>something/ }).first().click();
    await expect(page.getByRole("heading", { name: /^Seen <b>something<\/b> on / })).toBeVisible();

    await page.getByRole("button", { name: "Acknowledge" }).click();
    await dialog().getByLabel("Comment").fill("looking <i>into</i> it");
    await dialog().getByRole("button", { name: "Acknowledge" }).click();
    await expect(page.getByRole("list", { name: "History" })).toContainText("looking <i>into</i> it");
    await page.getByRole("button", { name: "Resolve" }).click();
    await dialog().getByRole("button", { name: "Resolve" }).click();
    await expect(page.getByRole("button", { name: "Reopen" })).toBeVisible();
    await capture(page, "alert");
  });

  test("silences alerts, and ends that", async () => {
    await page.getByRole("button", { name: "Silence", exact: true }).click();
    await expect(dialog().getByLabel("Match")).toHaveValue(/^rule = ui-seen\n/);
    await dialog().getByLabel("Match").fill("rule = ui-*");
    await dialog().getByLabel("Comment").fill("planned");
    await dialog().getByRole("button", { name: "Silence" }).click();
    await expect(dialog()).toHaveCount(0);
    await page.goto("/alerts?tab=silences");
    await expect(page.getByRole("table", { name: "Silences" })).toContainText("rule = ui-*");
    await page.getByRole("button", { name: "End", exact: true }).click();
    await page.getByRole("alertdialog").getByRole("button", { name: "End silence" }).click();
    await expect(page.getByText("Nothing is silenced")).toBeVisible();
  });

  test("says how a rule does, and what it would have done", async () => {
    await page.keyboard.press("g");
    await page.keyboard.press("r");
    await page.getByRole("table", { name: "Rules" }).getByRole("link", { name: "ui-seen" }).click();
    await expect(page.getByLabel("The rule as YAML")).toContainText("kind: Rule");
    await expect(page.getByRole("table", { name: "Time to match" })).toContainText("Guaranteed");
    await page.getByRole("button", { name: "Test", exact: true }).click();
    await expect(page.getByRole("table", { name: "Matches" }).getByText("fires").first()).toBeVisible();
    await capture(page, "rule");
    await apply(page, "enough", rule.replace("spec:", "spec:\n  shadow: true"));
  });

  test("shows sinks, and pauses, replays and tests them", async () => {
    await page.keyboard.press("g");
    await page.keyboard.press("i");
    await expect(page.getByText("No system outside receives events yet")).toBeVisible();
    await apply(page, "an archive", "{apiVersion: muster/v1, kind: Sink, name: archive, spec: {file: {name: events.ndjson}}}");
    const row = page.getByRole("table", { name: "Sinks" }).getByRole("row", { name: /archive/ });
    await expect(row).toContainText("running");
    await row.getByRole("button", { name: "Test archive" }).click();
    await expect(page.getByText(/^archive took a test event in/)).toBeVisible();
    const act = async (item: string, button: string, done: string) => {
      await row.getByRole("button", { name: "More for archive" }).click();
      await page.getByRole("menuitem", { name: item }).click();
      await page.getByRole("button", { name: button, exact: true }).last().click();
      await expect(page.getByText(done, { exact: true })).toBeVisible();
    };
    await act("Pause", "Pause", "The sink stands still");
    await expect(row).toContainText("paused");
    await act("Resume", "Resume", "The sink goes on");
    await expect(row).toContainText("running");
    await act("Replay", "Replay", "The replay begins");
    await capture(page, "sinks");
  });

  test("says how a node fares", async () => {
    await page.goto("/nodes");
    await page.getByRole("table", { name: "Nodes" }).getByRole("link").first().click();
    await expect(page.getByRole("heading", { name: "Health" })).toBeVisible();
    await capture(page, "health");
    await page.getByRole("link", { name: "Timeline" }).click();
    await expect.poll(() => gridRows(page, "Events")).toBeGreaterThan(0);
    await expect(page.getByRole("table", { name: "Events" })).toContainText("enrolled");
  });

  test("counts events, and shows what nodes have", async () => {
    await page.goto("/events");
    await page.getByRole("button", { name: "Count by column" }).click();
    await page.getByLabel("Count by", { exact: true }).fill("@query, @action");
    await page.getByRole("button", { name: "Count", exact: true }).click();
    await page.getByRole("table", { name: "Counts" }).getByRole("button", { name: "pack_base_os_version" }).first().click();
    await expect(page.getByLabel("Expression")).toHaveValue('@query = "pack_base_os_version"');
    await page.goto("/events?view=state&query=pack_base_os_version");
    await expect(page.getByText(/^\d+ nodes? of \d+ that ran pack_base_os_version ha(s|ve) such rows/)).toBeVisible();
    await expect.poll(() => gridRows(page, "Events")).toBeGreaterThan(0);
    await capture(page, "state");
  });

  test("adds an authenticator, which the next login needs", async () => {
    await page.getByRole("button", { name: "Account" }).click();
    await page.getByRole("menuitem", { name: "Account" }).click();
    await expect(page.getByText("None: your password alone lets you in")).toBeVisible();
    await page.getByRole("button", { name: "Add an authenticator" }).click();
    await dialog().getByLabel("Your password").fill(password);
    await dialog().getByRole("button", { name: "Next" }).click();
    const secret = (await dialog().getByTestId("secret").textContent()) ?? "";
    await dialog().getByLabel("Code", { exact: true }).fill(codeOf(secret, 0));
    await dialog().getByRole("button", { name: "Confirm" }).click();
    const recovery = ((await dialog().getByLabel("Recovery codes").textContent()) ?? "").split("\n");
    expect(recovery).toHaveLength(10);
    await dialog().getByRole("button", { name: "I have them" }).click();
    await expect(page.getByText("10 recovery codes left")).toBeVisible();
    await capture(page, "account");

    await page.context().clearCookies();
    await page.goto("/login");
    const enter = async (code: string) => {
      await page.getByLabel("Code", { exact: true }).fill(code);
      await page.getByRole("button", { name: "Log in" }).click();
    };
    await page.getByLabel("User name").fill(user);
    await page.getByLabel("Password").fill(password);
    await page.getByRole("button", { name: "Log in" }).click();
    await expect(page.getByLabel("Code", { exact: true })).toBeVisible();
    complaints.length = 0; // that the server asks for it is a 401
    await enter(recovery[0] ?? "");
    await expect(page.getByRole("navigation", { name: "Main" })).toBeVisible();
    // What comes after logs in by password alone.
    const { factors } = (await (await page.request.get("/api/v1/session/factors")).json()) as { factors: { id: string }[] };
    const removed = await page.request.post(`/api/v1/session/factors/${factors[0]?.id}/remove`, { data: { password } });
    expect(removed.ok(), await removed.text()).toBe(true);
  });

  test("adds a passkey, which is asked for at once, and proves who one is", async ({ baseURL }) => {
    // Browsers have no passkeys for addresses, but for localhost.
    const site = new URL(baseURL ?? "");
    site.hostname = "localhost";
    const theirs = await page.context().browser()!.newContext({ baseURL: site.origin });
    const own = await theirs.newPage();
    const devtools = await theirs.newCDPSession(own);
    await devtools.send("WebAuthn.enable");
    await devtools.send("WebAuthn.addVirtualAuthenticator", {
      options: { protocol: "ctap2", transport: "usb", automaticPresenceSimulation: true },
    });
    await logIn(own, second, "/account");
    await own.getByRole("button", { name: "Add a passkey" }).click();
    const box = own.getByRole("dialog");
    await box.getByLabel("Your password").fill(password);
    await box.getByRole("button", { name: "Next" }).click();
    await box.getByRole("button", { name: "I have them" }).click();
    await expect(own.getByRole("table", { name: "Second factors" })).toContainText("Passkey");
    await theirs.clearCookies();
    await logIn(own, second, "/account");
    await own.getByRole("button", { name: "New recovery codes" }).click();
    await box.getByRole("button", { name: "Use a passkey instead" }).click();
    await expect(box.getByText("You proved a moment ago who you are.")).toBeVisible();
    await box.getByRole("button", { name: "Make them" }).click();
    await box.getByRole("button", { name: "I have them" }).click();
    // Others' tests log in as bob: let the password do again.
    await own.getByRole("button", { name: "Remove" }).click();
    await box.getByRole("button", { name: "Remove" }).click();
    await expect(own.getByText("None: your password alone lets you in")).toBeVisible();
    await theirs.close();
  });

  test("lets somebody in by a link, who chooses a password", async () => {
    const answer = await page.request.post("/api/v1/invitations", { data: { name: "heidi", roles: ["analyst"], own_password: password } });
    expect(answer.ok(), await answer.text()).toBe(true);
    const { path } = (await answer.json()) as { path: string };
    const theirs = await page.context().browser()!.newContext();
    const own = await theirs.newPage();
    await own.goto(path);
    expect(own.url()).not.toContain("token");
    await own.getByLabel("Password", { exact: true }).fill(password);
    await own.getByLabel("Password again").fill(password);
    await capture(own, "invite");
    await own.getByRole("button", { name: "Set the password" }).click();
    await own.getByRole("link", { name: "Log in" }).click();
    await own.getByLabel("User name").fill("heidi");
    await own.getByLabel("Password").fill(password);
    await own.getByRole("button", { name: "Log in" }).click();
    await expect(own.getByRole("button", { name: "Account", exact: true })).toBeVisible();
    await theirs.close();
  });
});
