import { mkdirSync } from "node:fs";
import { join } from "node:path";

import { expect, type Page } from "@playwright/test";

export const token = process.env.MUSTER_E2E_SETUP_TOKEN ?? "";
const shots = process.env.MUSTER_E2E_SCREENSHOTS ?? "";
export const user = "ada";
export const second = "bob";
export const password = "lantern orbit velvet mustard";

/** Everything that the browser complains about: errors, and breaches of the CSP. */
export function watch(page: Page): string[] {
  const complaints: string[] = [];
  page.on("pageerror", (err) => complaints.push(`uncaught: ${err.message}`));
  page.on("console", (msg) => {
    if (msg.type() !== "error") return;
    // Before one is logged in, asking who one is answers 401, and says so.
    if (msg.text().includes("401") && msg.location().url.endsWith("/api/v1/session")) return;
    complaints.push(`console: ${msg.text()} (${msg.location().url})`);
  });
  return complaints;
}

export async function capture(page: Page, name: string): Promise<void> {
  if (!shots) return;
  for (const theme of ["light", "dark"] as const) {
    const dir = join(shots, theme);
    mkdirSync(dir, { recursive: true });
    await page.emulateMedia({ colorScheme: theme });
    await expect(page.locator("html")).toHaveAttribute("data-theme", theme);
    await page.screenshot({ path: join(dir, `${name}.png`), animations: "disabled" });
  }
  await page.emulateMedia({ colorScheme: null });
}

/** The number of rows that a grid has, on all its pages. */
export const gridRows = async (page: Page, name: string): Promise<number> =>
  Number(await page.getByRole("table", { name, exact: true }).getAttribute("aria-rowcount")) - 1;

export async function logIn(page: Page, name: string, path = "/"): Promise<void> {
  await page.goto(path);
  await page.getByLabel("User name").fill(name);
  await page.getByLabel("Password").fill(password);
  await page.getByRole("button", { name: "Log in" }).click();
  await expect(page.getByRole("button", { name: "Account", exact: true })).toBeVisible();
}

/** Applies resources: ada proposes, bob approves if the policy in force wants a second person. */
export async function apply(page: Page, message: string, yaml: string): Promise<void> {
  const answer = await page.request.post("/api/v1/changes", { data: { message, files: [{ name: "ui.yaml", content: yaml }] } });
  expect(answer.ok(), await answer.text()).toBe(true);
  const change = (await answer.json()) as { id: string; state: string; hash: string };
  if (change.state === "applied" || change.state === "unchanged") return;
  const theirs = await page.context().browser()!.newContext();
  await theirs.request.post("/api/v1/session", { data: { username: second, password } });
  const approved = await theirs.request.post(`/api/v1/changes/${change.id}/approve`, { data: { hash: change.hash, password } });
  expect(approved.ok(), await approved.text()).toBe(true);
  await theirs.close();
}
