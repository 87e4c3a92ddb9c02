import { readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath, URL } from "node:url";
import { constants, gzipSync } from "node:zlib";

import tailwindcss from "@tailwindcss/vite";
import react from "@vitejs/plugin-react";
import { defineConfig, type Plugin } from "vite";

const outDir = fileURLToPath(new URL("../internal/web/dist/app", import.meta.url));

/**
 * Replaces every compressible asset by its gzip, so that the binary holds each
 * only once. internal/web inflates it for a client that cannot.
 */
function gzipAssets(): Plugin {
  return {
    name: "muster-gzip-assets",
    apply: "build",
    async closeBundle() {
      const dir = join(outDir, "assets");
      for (const name of await readdir(dir)) {
        if (!/\.(js|css|svg)$/.test(name)) continue;
        const path = join(dir, name);
        await writeFile(`${path}.gz`, gzipSync(await readFile(path), { level: constants.Z_BEST_COMPRESSION }));
        await rm(path);
      }
    },
  };
}

export default defineConfig({
  plugins: [react(), tailwindcss(), gzipAssets()],
  resolve: { alias: { "@": fileURLToPath(new URL("./src", import.meta.url)) } },
  build: {
    outDir,
    emptyOutDir: true,
    target: "es2023",
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 650,
  },
  server: {
    proxy: { "/api": { target: "http://127.0.0.1:8080", changeOrigin: false } },
  },
});
