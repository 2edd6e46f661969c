// What the tests stand on: a browser in front of the gateway, and everything that counts as a failure wherever it
// happens: messages on the console, errors of the page, requests to elsewhere, violations of the policy.
import { createServer, connect } from "node:net";
import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import assert from "node:assert/strict";

const { env } = process;
export const gateway = env.PORTAL_URL;
export const below = env.PORTAL_BELOW;
export const [user, password] = [env.PORTAL_USER, env.PORTAL_PASSWORD];
export const configuration = env.PORTAL_CONFIG;
const require = createRequire(join(env.PORTAL_MODULES, "any.js"));
const { chromium } = require("playwright-core");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

const PATIENCE = 10_000; // milliseconds

/** A request to the gateway that does not go through the page. */
export async function api(method, path, body) {
  const response = await fetch(`${gateway}${path}`, {
    method,
    headers: { Authorization: `Basic ${Buffer.from(`${user}:${password}`).toString("base64")}`, "Content-Type": "application/json" },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  const text = await response.text();
  assert.ok(response.ok, `${method} ${path}: ${response.status} ${text}`);
  return text && response.headers.get("content-type")?.includes("json") ? JSON.parse(text) : text;
}

/** Waits until `condition` gives something, looking again and again: for what has no event to wait for. */
export async function until(what, condition) {
  const end = Date.now() + PATIENCE;
  for (;;) {
    const value = await condition();
    if (value) return value;
    assert.ok(Date.now() < end, `not in time: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** A road to the gateway that can be cut: what happens when a connection breaks. */
export async function road(target) {
  const { hostname, port } = new URL(target);
  const sockets = new Set();
  let open = true;
  const server = createServer((socket) => {
    if (!open) return socket.destroy();
    const other = connect(Number(port), hostname);
    for (const [one, two] of [[socket, other], [other, socket]]) {
      sockets.add(one);
      one.on("error", () => {});
      one.on("close", () => {
        sockets.delete(one);
        two.destroy();
      });
      one.pipe(two);
    }
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    cut() {
      open = false;
      for (const socket of sockets) socket.destroy();
    },
    mend: () => (open = true),
    close() {
      this.cut();
      server.close();
    },
  };
}

/** A browser with one page; what goes wrong in it is in `wrong`. */
export async function browser() {
  const started = await chromium.launch({
    executablePath: env.PORTAL_CHROMIUM,
    // Chromium refuses its sandbox to root.
    args: process.getuid() === 0 ? ["--no-sandbox"] : [],
  });
  const context = await started.newContext({ viewport: { width: 1280, height: 860 }, acceptDownloads: true, reducedMotion: "reduce" });
  await context.grantPermissions(["clipboard-read", "clipboard-write"]);
  context.setDefaultTimeout(PATIENCE);
  await context.addInitScript(() => {
    addEventListener("securitypolicyviolation", (event) => console.error(`policy: ${event.violatedDirective} ${event.blockedURI} ${event.sample}`));
  });
  const wrong = [];
  /** Answers that a test provokes; the browser reports each on the console. @type {RegExp[]} */
  let expected = [];
  context.on("request", (request) => {
    const url = new URL(request.url());
    if (!["blob:", "data:"].includes(url.protocol) && url.hostname !== "127.0.0.1") wrong.push(`a request to ${request.url()}`);
  });
  const page = await context.newPage();
  page.on("pageerror", (error) => wrong.push(`an error of the page: ${error.stack ?? error}`));
  page.on("console", (message) => {
    if (!["error", "warning"].includes(message.type())) return;
    const text = `${message.text()} ${message.location().url}`;
    if (!expected.some((pattern) => pattern.test(text))) wrong.push(`on the console: ${text}`);
  });
  return {
    page,
    context,
    wrong,
    expect: (...patterns) => (expected = patterns),
    close: () => started.close(),
  };
}

/** Fails with what axe finds. */
export async function accessible(page, what) {
  await page.evaluate(`${axe};0`);
  const { violations, passes } = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ["violations", "passes"] }));
  assert.ok(passes.length > 10, `axe looked at ${what}`);
  const found = violations.flatMap(({ id, help, nodes }) => nodes.map((node) => `${id}: ${help}: ${node.html.slice(0, 200)} ${node.failureSummary?.replace(/\s+/g, " ").slice(0, 300)}`));
  assert.deepEqual(found, [], `${what}: axe`);
}

mkdirSync(env.PORTAL_PICTURES, { recursive: true });
if (env.PORTAL_DOCS) mkdirSync(env.PORTAL_DOCS, { recursive: true });
/** Those that the documentation shows. */
const SHOWN = new Set(["functions-light", "functions-dark", "functions-phone", "function-dark", "function-phone", "store-light", "async-light"]);

/** Takes pictures in light, dark and at the width of a phone, and has axe look at each. */
export async function looked(page, name, { whole = false } = {}) {
  for (const [kind, colorScheme, width, height] of [["light", "light", 1280, 860], ["dark", "dark", 1280, 860], ["phone", "light", 360, 780]]) {
    await page.setViewportSize({ width, height });
    await page.emulateMedia({ colorScheme });
    await page.evaluate(() => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve))));
    // The width changes nothing that axe looks at and the colours do not.
    if (kind !== "phone") await accessible(page, `${name} ${kind}`);
    const { wide, screen } = await page.evaluate(() => ({ wide: document.documentElement.scrollWidth, screen: innerWidth }));
    assert.ok(wide <= screen, `${name} is ${wide} wide on a screen of ${screen}`);
    const file = `${name}-${kind}`;
    // What an earlier step told would cover what this picture is about.
    await page.evaluate(() => document.querySelector(".notices")?.style.setProperty("visibility", "hidden"));
    await page.screenshot({ path: join(env.PORTAL_PICTURES, `${file}.png`), fullPage: whole || kind === "phone" });
    if (env.PORTAL_DOCS && SHOWN.has(file)) await page.screenshot({ path: join(env.PORTAL_DOCS, `${file}.png`) });
  }
  await page.evaluate(() => document.querySelector(".notices")?.style.removeProperty("visibility"));
  await page.setViewportSize({ width: 1280, height: 860 });
  await page.emulateMedia({ colorScheme: "light" });
}
