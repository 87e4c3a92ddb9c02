import { expect, test, type APIRequestContext, type Page } from "@playwright/test";

import { apply, logIn, token, user, watch } from "./helpers";

// After the others: a node that answers nothing comes, which would keep live queries open.

/** What runs if a page takes what an agent says for anything but text. */
const script = "window.stolen=1";
const hostile = [
  `<img src=x onerror=${script}>`,
  `"><script>${script}</script>`,
  `'"--></style></title></textarea><svg/onload=${script}>`,
  `javascript:${script}`,
  `{{constructor.constructor('${script}')()}}`,
  "${" + script + "}",
  `<a href="javascript:${script}" autofocus onfocus=${script}>a</a>`,
  `<iframe srcdoc="<script>parent.${script}</script>"></iframe>`,
  `\u202e\u2066\u001b]0;x\u0007=1+1`,
].join(" ");

/** An agent that lies in every field. */
class Agent {
  private key = "";
  constructor(
    private readonly outside: APIRequestContext,
    private readonly url: string,
  ) {}

  private async post(path: string, data: object) {
    const answer = await this.outside.post(`https://${this.url}/api/osquery/${path}`, { data: { ...data, node_key: this.key || undefined } });
    expect(answer.ok(), `${path}: ${answer.status()} ${await answer.text()}`).toBe(true);
    return (await answer.json()) as Record<string, unknown>;
  }

  async enrol(secret: string) {
    const fields = (...names: string[]) => Object.fromEntries(names.map((name) => [name, hostile]));
    const answer = await this.post("enroll", {
      enroll_secret: secret,
      host_identifier: `evil <img src=x onerror=${script}>`,
      platform_type: "9",
      host_details: {
        os_version: fields("name", "version", "platform", "arch", "codename", "build", "major", "minor", "patch"),
        osquery_info: { ...fields("version", "build_platform", "build_distro", "config_hash", "extensions", "uuid"), instance_id: "evil" },
        system_info: fields("hostname", "computer_name", "uuid", "hardware_vendor", "hardware_model", "hardware_serial", "cpu_brand", "local_hostname", "physical_memory"),
        platform_info: fields("vendor", "version", "date"),
      },
    });
    expect(answer["node_invalid"]).not.toBe(true);
    this.key = String(answer["node_key"]);
  }

  async config() {
    await this.post("config", {});
  }

  async log() {
    const row = { name: hostile, hostIdentifier: hostile, calendarTime: hostile, unixTime: Math.floor(Date.now() / 1000), epoch: 0, counter: 0, numerics: false, decorations: { [hostile]: hostile } };
    await this.post("log", {
      log_type: "result",
      data: [
        { ...row, columns: { [hostile]: hostile, path: hostile, cmdline: hostile }, action: "added" },
        { ...row, snapshot: [{ name: hostile, path: hostile }], action: "snapshot" },
      ],
    });
    await this.post("log", { log_type: "status", data: [{ hostIdentifier: hostile, calendarTime: hostile, unixTime: "1", severity: "2", filename: hostile, line: "1", message: hostile, version: hostile }] });
  }

  /** Answers whatever it is asked, after it was asked. */
  async answer() {
    await expect
      .poll(async () => {
        const asked = (await this.post("distributed/read", {}))["queries"] as Record<string, string> | undefined;
        for (const id of Object.keys(asked ?? {}))
          await this.post("distributed/write", { queries: { [id]: [{ [hostile]: hostile, name: hostile }] }, statuses: { [id]: 0 }, messages: { [id]: hostile } });
        return Object.keys(asked ?? {}).length;
      })
      .toBeGreaterThan(0);
  }
}

/** Nothing ran, and nothing that an agent said became an element. */
async function clean(page: Page) {
  const seen = await page.evaluate(() => ({
    stolen: "stolen" in window,
    elements: document.querySelectorAll("img[src=x], svg[onload], iframe, script:not([src]), a[href^='javascript:'], [onfocus], [onerror]").length,
    breaches: (window as unknown as { breaches?: string[] }).breaches ?? [],
  }));
  expect(seen, page.url()).toEqual({ stolen: false, elements: 0, breaches: [] });
}

test("shows what a hostile agent says as text, wherever it stands", async ({ browser, playwright }) => {
  test.skip(token === "", "MUSTER_E2E_URL and MUSTER_E2E_SETUP_TOKEN say where the server is");
  test.setTimeout(180_000);
  const page = await browser.newPage({ userAgent: `Mozilla/5.0 ${hostile.replace(/[^\x20-\x7e]/g, "")}` });
  const complaints = watch(page);
  await page.addInitScript(() => {
    const breaches: string[] = [];
    (window as unknown as { breaches: string[] }).breaches = breaches;
    document.addEventListener("securitypolicyviolation", (e) => breaches.push(`${e.violatedDirective} ${e.blockedURI} ${e.sample}`));
  });
  await logIn(page, user);
  const api = async <T>(path: string, data?: object): Promise<T> => {
    const answer = data ? await page.request.post(`/api/v1${path}`, { data }) : await page.request.get(`/api/v1${path}`);
    expect(answer.ok(), `${path}: ${await answer.text()}`).toBe(true);
    return (await answer.json()) as T;
  };
  await page.request.post("/api/v1/session", { data: { username: `<img src=x onerror=${script}>`, password: "x".repeat(15) } }); // in the audit log
  const { value } = await api<{ value: string }>("/secrets", { name: "hostile" });
  const { agent_url: url } = await api<{ agent_url: string }>("/overview");
  const outside = await playwright.request.newContext({ ignoreHTTPSErrors: true });
  const agent = new Agent(outside, url);
  await agent.enrol(value);
  await agent.config();
  await apply(page, `a rule for <b>all</b> ${script}`, `apiVersion: muster/v1
kind: Rule
name: hostile
spec:
  events: {queries: ["*"]}
  condition: action != ""
  key: "{{node.id}}"
  severity: low
  title: "{{node.hostname}} {{query}}"
  text: "{{columns.path}} {{columns.cmdline}}"
`);
  await agent.log();
  const nodes = await api<{ nodes: { id: string; host_identifier: string }[] }>("/nodes?search=evil");
  expect(nodes.nodes).toHaveLength(1);
  const id = nodes.nodes[0]!.id;
  const { id: live } = await api<{ id: string }>("/live", { sql: `SELECT '${hostile.replaceAll("'", "''").replace(/[^\x20-\x7e]/g, "")}' AS a`, selector: { nodes: [id] }, reason: hostile.replace(/[^\x20-\x7e]/g, "") });
  await agent.answer();
  await page.request.put("/api/v1/saved-queries/hostile", { data: { sql: "SELECT 1", description: hostile.replace(/[^\x20-\x7e]/g, "") } });

  const query = encodeURIComponent(hostile);
  const pages = [
    "/", "/nodes", "/nodes?search=evil", `/nodes/${id}`, "/findings", "/events", `/events?query=${query}`, `/events?node=${id}`,
    `/events?view=state&query=${query}`, `/events?view=count&by=@query`, "/live", `/live/${live}`, "/alerts", "/rules", "/rules/hostile", "/sinks", "/carves",
    `/carves?node=${id}`, "/triggers", "/changes", "/secrets", "/audit", "/account", `/login?next=${query}`, `/nodes?search=${query}`, `/live?sql=${query}`,
  ];
  for (const path of pages) {
    await page.goto(path);
    await page.locator("h1").first().waitFor();
    await page.waitForFunction(() => document.querySelector("[aria-busy=true]") === null);
    await clean(page);
  }
  await page.goto(`/nodes/${id}`);
  for (const tab of await page.getByRole("navigation").getByRole("link").all()) {
    if (!/tab=/.test((await tab.getAttribute("href")) ?? "")) continue;
    await tab.click();
    await clean(page);
  }
  // It was there to be seen.
  await page.goto("/nodes?search=evil");
  await expect(page.getByRole("table", { name: "Nodes" })).toContainText("<img src=x onerror=");
  await page.goto(`/live/${live}`);
  await expect(page.getByRole("table", { name: "Rows", exact: true })).toContainText("<script>");
  await page.goto(`/events?node=${id}`);
  await expect(page.getByRole("table", { name: "Events" })).toContainText("<svg/onload=");
  await clean(page);
  expect(complaints.filter((c) => !/status of (400|401|404|422)/.test(c))).toEqual([]);
  await outside.dispose();
  await page.close();
});
