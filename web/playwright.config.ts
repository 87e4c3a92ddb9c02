import { defineConfig } from "@playwright/test";

// The project "units" needs nothing; "ui" needs a running server with a node,
// given by MUSTER_E2E_URL and MUSTER_E2E_SETUP_TOKEN (a Go test starts it).
export default defineConfig({
  forbidOnly: true,
  workers: 1,
  retries: 0,
  timeout: 120_000,
  expect: { timeout: 20_000 },
  reporter: "list",
  outputDir: "test-results",
  use: {
    baseURL: process.env.MUSTER_E2E_URL ?? "http://127.0.0.1:8080",
    viewport: { width: 1280, height: 800 },
    locale: "en-GB",
    ignoreHTTPSErrors: true,
    screenshot: "only-on-failure",
    trace: "off",
    launchOptions: {
      executablePath: process.env.MUSTER_CHROMIUM ?? "/usr/bin/chromium",
      args: [
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
      ],
    },
  },
  projects: [
    { name: "units", testDir: "src", testMatch: "**/*.test.ts" },
    { name: "ui", testDir: "e2e", testMatch: "**/*.spec.ts" },
  ],
});
