// Drives the portal in Chromium as a person would: by what is written on it.
import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import { after, afterEach, before, test } from "node:test";
import { api, below, browser, configuration, gateway, looked, password, road, until, user } from "./stand.mjs";

/** Most that the first screen may take, uncompressed. */
const BYTES = 200_000;

let stand;
let page;
let start;

before(async () => {
  start = await readFile(configuration, "utf8");
  // In `http` mode, so that calls are quick and its log says something.
  await api("POST", "/system/functions", {
    service: "orders",
    image: "local",
    envProcess: "orders-api",
    envVars: { mode: "http", REGION: "eu-north-1" },
    labels: { team: "shop", "com.openfaas.scale.max": "4" },
    annotations: { description: "answers with what it was sent" },
    limits: { memory: "256Mi", cpu: "500m" },
  });
  await api("POST", "/system/functions", { service: "thumbnail", image: "local", envProcess: "cat", envVars: { content_type: "image/png" }, labels: { "com.openfaas.ui.ext": "png" } });
  await api("POST", "/system/functions", { service: "invoices", image: "local", envProcess: "false" });
  stand = await browser();
  page = stand.page;
});

after(() => stand.close());

afterEach(() => {
  const wrong = stand.wrong.splice(0);
  stand.expect();
  assert.deepEqual(wrong, []);
});

const heading = (name) => page.getByRole("heading", { name, level: 1 }).waitFor();
const notice = (text) => page.getByRole("region", { name: "Notices" }).getByText(text).waitFor();
const button = (name, within = page) => within.getByRole("button", { name, exact: true });
const row = (name) => page.getByRole("row").filter({ has: page.getByRole("rowheader", { name }) });
const dialog = () => page.getByRole("dialog");
const go = async (hash, title) => {
  await page.evaluate((to) => (location.hash = to), hash);
  await heading(title);
};
const call = (name, body = "hello", query = "") => fetch(`${gateway}/function/${name}${query}`, { method: "POST", body }).then((response) => response.arrayBuffer());

async function signIn(at = gateway) {
  await page.goto(`${at}/ui/`);
  await page.getByLabel("User").fill(user);
  await page.getByLabel("Password").fill(password);
  await button("Sign in").click();
  await heading("Functions");
}

test("sign-in: in the page's own form, and a wrong password is told", async () => {
  stand.expect(/401/);
  await page.goto(`${gateway}/`);
  await page.getByRole("heading", { name: "Sign in to faas-gateway" }).waitFor();
  await looked(page, "signin");
  await page.getByLabel("Password").fill("wrong");
  await button("Sign in").click();
  await page.getByRole("alert").getByText("User or password is wrong.").waitFor();
  await page.getByLabel("Password").fill(password);
  await page.keyboard.press("Enter");
  await heading("Functions");
  await page.getByText("Live", { exact: true }).waitFor();
});

test("first load: little to transfer, soon to see", async () => {
  const devtools = await stand.context.newCDPSession(page);
  await devtools.send("Network.clearBrowserCache");
  await page.reload();
  await row("orders").waitFor();
  const { bytes, files, paint } = await page.evaluate(() => {
    const entries = [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")].filter(({ name }) => name.includes("/ui/"));
    return {
      bytes: entries.reduce((sum, entry) => sum + entry.decodedBodySize, 0),
      files: entries.length,
      paint: performance.getEntriesByName("first-contentful-paint")[0]?.startTime,
    };
  });
  console.log(`first load: ${files} files, ${bytes} bytes, first paint after ${Math.round(paint)} ms`);
  assert.ok(bytes > 50_000 && bytes < BYTES, `${bytes} bytes`);
  assert.ok(paint < 5000, `first paint after ${paint} ms`);
});

test("functions: they come, change and go without a reload", async () => {
  await api("POST", "/system/functions", { service: "passing", image: "local", envProcess: "cat" });
  await row("passing").getByText("Ready").waitFor();
  await api("POST", "/system/scale-function/passing", { serviceName: "passing", replicas: 0 });
  await row("passing").getByText("Scaled to zero").waitFor();
  await api("DELETE", "/system/functions", { functionName: "passing" });
  await row("passing").waitFor({ state: "detached" });
});

test("functions: rate, latency and errors, search and order", async () => {
  const load = setInterval(() => {
    for (const name of ["orders", "orders", "orders", "invoices"]) call(name).catch(() => {});
    call("orders/sleep", "", "?ms=80").catch(() => {});
  }, 120);
  try {
    await until("a rate", async () => Number((await row("orders").getByRole("cell").nth(2).innerText()).trim()) > 0);
    await row("invoices").getByText("100 %").waitFor();
    await row("orders").getByText(/\d ms/).waitFor();
    await until("some history", () => page.locator("tr", { hasText: "orders" }).locator(".spark .line").first().evaluate((line) => line.getAttribute("d").split("L").length > 4));
    await looked(page, "functions");
  } finally {
    clearInterval(load);
  }
  await page.getByLabel("Search").fill("thumb");
  await row("orders").waitFor({ state: "detached" });
  await row("thumbnail").waitFor();
  await page.getByLabel("Search").fill("nothing of this name");
  await page.getByRole("heading", { name: "Nothing found" }).waitFor();
  await button("Show all").click();
  await page.getByRole("columnheader", { name: "Function" }).getByRole("button").click();
  const names = () => page.getByRole("rowheader").getByRole("link").allInnerTexts();
  assert.deepEqual(await names(), ["invoices", "orders", "thumbnail"]);
  await page.getByRole("columnheader", { name: "Function" }).getByRole("button").click();
  assert.deepEqual(await names(), ["thumbnail", "orders", "invoices"]);
  await page.locator('th[aria-sort="descending"]').waitFor();
});

test("function: what it is and how it does", async () => {
  await page.getByRole("link", { name: "orders" }).click();
  await heading("orders");
  assert.equal(await page.evaluate(() => document.activeElement.tagName), "H1", "the focus follows");
  assert.match(await page.title(), /^orders · /);
  const load = setInterval(() => call("orders").catch(() => {}), 100);
  try {
    await until("four charts", async () => (await page.locator(".uplot canvas").count()) === 4);
    await page.getByText("REGION").waitFor();
    await page.getByText("256Mi").waitFor();
    await page.getByText("answers with what it was sent").waitFor();
    assert.equal(await page.getByText("eu-north-1").count(), 0, "values of variables are not shown");
    await until("latency", async () => /\d/.test(await page.locator(".legend .time strong").first().innerText()));
    await looked(page, "function");
  } finally {
    clearInterval(load);
  }
  await page.getByRole("button", { name: "Copy URL", exact: true }).click();
  const url = await page.evaluate(() => navigator.clipboard.readText());
  assert.match(url, new RegExp(`^${gateway}/function/orders`));
  assert.equal((await call(new URL(url).pathname.replace("/function/", ""))).byteLength > 0, true);
  assert.match(await page.getByRole("region", { name: "command line" }).innerText(), /^curl http.*--data 'hello'$/);
});

test("function: scaling, by hand and explained", async () => {
  await page.getByLabel("Replicas").fill("3");
  await button("Scale").click();
  await notice("orders is being scaled from 1 to 3.");
  await page.getByText("3 of 3 ready").waitFor();
  await page.getByRole("link", { name: "Why so many?" }).click();
  await page.getByRole("cell", { name: "1 → 3" }).waitFor();
  await page.getByRole("cell", { name: "somebody set it" }).first().waitFor();
  await looked(page, "scaling");
  await page.getByRole("link", { name: "Overview" }).click();
  await button("To zero").click();
  await dialog().getByText("The next call starts it again").waitFor();
  await page.keyboard.press("Escape");
  await dialog().waitFor({ state: "detached" });
  // The focus comes back to what opened it.
  await page.waitForFunction(() => document.activeElement.textContent === "To zero");
  await button("To zero").click();
  await button("Scale to zero", dialog()).click();
  await page.getByText("Scaled to zero").first().waitFor();
});

test("function: invoke, at once", async () => {
  await page.getByRole("link", { name: "Invoke" }).click();
  await page.getByLabel("Show answer as").selectOption("json");
  await page.getByLabel("Path").fill("/a/b");
  await page.getByLabel("Query").fill("x=1");
  await button("Add").click();
  await page.getByLabel("Headers: Name 1").fill("X-Colour");
  await page.getByLabel("Headers: Value 1").fill("blue");
  await page.getByLabel("Body").fill('{"a":1}');
  await button("Invoke").click();
  // It was at zero: the call started it.
  await page.getByText("200 OK").waitFor();
  const answer = JSON.parse(await page.getByLabel("Answer", { exact: true }).innerText());
  assert.deepEqual([answer.method, answer.url, answer.headers["x-colour"], answer.headers["content-type"]], ["POST", "/a/b?x=1", "blue", "application/json"]);
  assert.equal(answer.headers.authorization, undefined, "functions do not get the gateway's credentials");
  await page.getByLabel("Method").selectOption("GET");
  assert.equal(await page.getByLabel("Body").count(), 0);
  await button("Invoke").click();
  await until("another answer", async () => (await page.getByLabel("Answer", { exact: true }).innerText()).includes('"GET"'));
  await looked(page, "invoke");
  await page.getByLabel("Path").fill("/exit-not-there");
  await button("Use again: call 1").click();
  assert.equal(await page.getByLabel("Path").inputValue(), "/a/b");
  assert.equal(await page.getByLabel("Method").inputValue(), "POST");
});

test("function: invoke, asynchronously, with the result by its id", async () => {
  await page.getByLabel("Asynchronously").check();
  await button("Queue the call").click();
  await page.locator(".answer").getByText(/^202/).waitFor();
  await page.locator(".queued").getByText("succeeded").waitFor();
  assert.match(await page.getByLabel("Result", { exact: true }).innerText(), /"url":"\/a\/b\?x=1"/);
});

test("function: an answer to save, as the label says", async () => {
  await go("#/functions", "Functions");
  await page.getByRole("link", { name: "thumbnail" }).click();
  await heading("thumbnail");
  await page.getByRole("link", { name: "Invoke" }).click();
  assert.equal(await page.getByLabel("Show answer as").inputValue(), "download");
  await page.getByLabel("Body").fill("bytes");
  const [download] = await Promise.all([page.waitForEvent("download"), button("Invoke").click()]);
  assert.match(download.suggestedFilename(), /^[0-9a-f-]{36}\.png$/);
  assert.equal(await readFile(await download.path(), "utf8"), "bytes");
  stand.expect(/Failed to load resource/);
});

test("function: its log is followed and filtered", async () => {
  await go("#/functions", "Functions");
  await page.getByRole("link", { name: "orders" }).click();
  await heading("orders");
  await page.getByRole("link", { name: "Logs" }).click();
  const log = page.getByRole("log");
  await log.getByText("listening on").first().waitFor();
  const lines = () => log.locator(".text").count();
  const before = await lines();
  await call("orders/logged");
  await until("a new line", async () => (await lines()) > before);
  await looked(page, "logs");
  await page.getByLabel("Filter").fill("listening");
  await until("fewer lines", async () => (await log.locator(".text").allInnerTexts()).every((text) => text.includes("listening")));
  await page.getByLabel("Filter").fill("never written");
  await log.getByText("No line contains that.").waitFor();
  await button("Pause").click();
  await page.getByText("Paused").waitFor();
});

test("function: edit and restart", async () => {
  await page.getByRole("link", { name: "Edit" }).click();
  await page.getByLabel("Name", { exact: true }).waitFor();
  assert.equal(await page.getByLabel("Environment: Value 1").count(), 1);
  const labels = page.getByRole("group", { name: "Labels" });
  await button("Add", labels).click();
  await labels.getByLabel(/Name 3/).fill("tier");
  await labels.getByLabel(/Value 3/).fill("gold");
  await looked(page, "edit");
  await button("Update").click();
  await notice("orders was updated.");
  await page.getByText("gold").waitFor();
  const deployed = await api("GET", "/system/function/orders");
  assert.equal(deployed.labels.team, "shop");
  assert.equal(deployed.envVars?.REGION ?? "eu-north-1", "eu-north-1", "what was there is kept");
  await button("Restart").click();
  await button("Restart it", dialog()).click();
  await notice("orders is being restarted.");
  await page.getByText("com.openfaas.portal.restarted").waitFor();
});

test("deploy: a form with everything", async () => {
  await go("#/deploy/custom", "Deploy");
  await page.getByLabel("Name", { exact: true }).fill("shout");
  await page.getByLabel("Process").fill("tr a-z A-Z");
  await page.getByLabel("Image").fill("local");
  const environment = page.getByRole("group", { name: "Environment" });
  await button("Add", environment).click();
  await page.waitForFunction(() => document.activeElement.getAttribute("aria-label") === "Environment: Name 1");
  await page.keyboard.type("content_type");
  await page.keyboard.press("Tab");
  await page.keyboard.type("text/plain");
  const annotations = page.getByRole("group", { name: "Annotations" });
  await button("Add", annotations).click();
  await annotations.getByLabel(/Name 1/).fill("topic");
  await annotations.getByLabel(/Value 1/).fill("words");
  await page.getByRole("group", { name: "Limits" }).getByLabel("Memory").fill("64Mi");
  await looked(page, "deploy");
  await button("Deploy").click();
  await notice("shout is being deployed.");
  await heading("shout");
  const deployed = await api("GET", "/system/function/shout");
  assert.deepEqual([deployed.envProcess, deployed.annotations.topic, deployed.limits.memory, deployed.envVars], ["tr a-z A-Z", "words", "64Mi", { content_type: "text/plain" }]);
  await until("an answer", async () => (await (await fetch(`${gateway}/function/shout`, { method: "POST", body: "loud" })).text()) === "LOUD");
});

test("deploy: what is wrong is said", async () => {
  stand.expect(/400/);
  await go("#/deploy/custom", "Deploy");
  await page.getByLabel("Name", { exact: true }).fill("wrong");
  await page.getByLabel("Image").fill("local");
  await page.getByLabel("Process").fill("cat 'no end");
  await button("Deploy").click();
  await page.locator(".notice.failed").getByText(/envProcess|quote/i).waitFor();
  await button("Close the notice", page.locator(".notice.failed")).click();
});

test("deploy: a stack.yaml", async () => {
  await go("#/deploy/stack", "Deploy");
  const text = page.getByLabel("File", { exact: true });
  await text.fill("functions:\n  broken: [");
  await page.getByText(/unexpected end|expected/i).first().waitFor();
  await text.fill(`version: 1.0
provider: {name: openfaas}
functions:
  words:
    lang: dockerfile
    handler: ./words
    image: local
    fprocess: wc -w
    environment: {max_inflight: 3, write_debug: true}
    labels: {team: text}
  letters:
    image: local
    fprocess: wc -c
    odd: yes
`);
  await page.getByText("letters: odd is not known and left out.").waitFor();
  await looked(page, "stack");
  await button("Deploy 2 functions").click();
  await notice("2 functions of 2 being deployed.");
  await row("words").getByText("Ready").waitFor();
  await row("letters").getByText("Ready").waitFor();
  const words = await api("GET", "/system/function/words");
  assert.deepEqual([words.envProcess, words.labels.team], ["wc -w", "text"]);
});

test("deploy: from a store", async () => {
  await go("#/deploy", "Deploy");
  const cards = page.locator(".shelf > li");
  await cards.first().waitFor();
  await looked(page, "store");
  const all = await cards.count();
  const deployable = cards.filter({ has: page.getByRole("button", { name: /^Deploy / }) });
  const title = await deployable.first().getByRole("heading").innerText();
  await page.getByLabel("Search").fill(title);
  await until("fewer", async () => (await cards.count()) < all);
  await page.getByLabel("Search").fill("there is no such thing");
  await page.getByRole("heading", { name: "Nothing found" }).waitFor();
  await page.getByLabel("Search").fill(title);
  await button(`Deploy ${title}`).click();
  await dialog().getByLabel("Name").fill("from-store");
  await button("Deploy", dialog()).click();
  await heading("from-store");
  await page.locator(".head").getByText("Ready").waitFor();
});

test("secrets: created, replaced, deleted, never shown", async () => {
  await api("POST", "/system/functions", { service: "reader", image: "local", envProcess: "cat" });
  await go("#/secrets", "Secrets");
  await page.getByRole("heading", { name: "No secret here" }).waitFor();
  await button("New secret").click();
  await dialog().getByLabel("Name").fill("api-key");
  await dialog().getByLabel("Value").fill("s3cret-value");
  await button("Create", dialog()).click();
  await notice("api-key was created.");
  await row("api-key").waitFor();
  await api("PUT", "/system/functions", { service: "reader", image: "local", envProcess: "cat", secrets: ["api-key"] });
  await row("api-key").getByText("reader").waitFor();
  await looked(page, "secrets");
  await button("Replace api-key").click();
  await dialog().getByLabel("Value").fill("another-value");
  await button("Replace", dialog()).click();
  await notice("api-key was replaced.");
  assert.equal((await page.content()).includes("another-value"), false);
  await button("Delete api-key").click();
  await dialog().getByText("reader read it").waitFor();
  await button("Cancel", dialog()).click();
  await api("PUT", "/system/functions", { service: "reader", image: "local", envProcess: "cat" });
  await row("api-key").getByText("no function").waitFor();
  await button("Delete api-key").click();
  await button("Delete it", dialog()).click();
  await notice("api-key was deleted.");
  await row("api-key").waitFor({ state: "detached" });
});

test("namespaces: created, labelled, deleted", async () => {
  await go("#/namespaces", "Namespaces");
  await button("New namespace").click();
  await dialog().getByLabel("Name", { exact: true }).fill("staging");
  await button("Add", dialog().getByRole("group", { name: "Labels" })).click();
  await dialog().getByLabel("Labels: Name 1").fill("stage");
  await dialog().getByLabel("Labels: Value 1").fill("two");
  await button("Create", dialog()).click();
  await row("staging").getByText("stage=two").waitFor();
  await looked(page, "namespaces");
  await button("Edit staging").click();
  await dialog().getByLabel("Labels: Value 1").fill("three");
  await button("Save", dialog()).click();
  await row("staging").getByText("stage=three").waitFor();
  // With a second one the list of functions has a filter.
  await go("#/functions", "Functions");
  await page.getByLabel("Namespace").selectOption("staging");
  await page.getByRole("heading", { name: "Nothing found" }).waitFor();
  await button("Show all").click();
  await go("#/namespaces", "Namespaces");
  await button("Delete staging").click();
  assert.equal(await button("Delete it", dialog()).isDisabled(), true, "the name has to be typed");
  await dialog().getByRole("textbox").fill("staging");
  await button("Delete it", dialog()).click();
  await notice("staging was deleted.");
  await row("staging").waitFor({ state: "detached" });
});

test("async: queues, pause, dead letters, and calls as they change", async () => {
  await go("#/async", "Asynchronous calls");
  await button("Pause all").click();
  await page.getByText("All are paused").waitFor();
  const queue = (name, id, headers = {}) => fetch(`${gateway}/async-function/${name}`, { method: "POST", body: "x", headers: { "X-Call-Id": id, ...headers } }).then((response) => response.arrayBuffer());
  await queue("orders", "first");
  await row("first").getByText("queued").waitFor();
  await button("Resume all").click();
  await row("first").getByText("succeeded").waitFor();
  await queue("invoices", "hopeless");
  await row("hopeless").getByText("dead").waitFor();
  await queue("orders", "later", { "X-Delay": "1h" });
  await row("later").getByText("queued").waitFor();
  await looked(page, "async");
  await button("Cancel later").click();
  await button("Take it back", dialog()).click();
  await row("later").getByText("cancelled").waitFor();
  await button(/^Pause invoices/).click();
  await notice(/^invoices.* is paused\.$/);
  await button("Make again: hopeless").click();
  await notice("The call will be made again.");
  await row("hopeless").getByText("queued").waitFor();
  await button(/^Resume invoices/).click();
  await row("hopeless").getByText("dead").waitFor();
  await button("Make dead ones again").click();
  await button("Make again", dialog()).click();
  await notice("1 call will be made again.");
  await row("hopeless").getByText("dead").waitFor();
  await page.getByLabel("State").selectOption("dead");
  await row("first").waitFor({ state: "detached" });
  await page.getByRole("link", { name: "hopeless" }).click();
  await heading("Call hopeless");
  await page.getByRole("heading", { name: "Tries" }).waitFor();
  await looked(page, "async-call");
  await page.getByRole("link", { name: "All calls" }).click();
  await heading("Asynchronous calls");
  await button("Forget ended ones").click();
  await button("Forget them", dialog()).click();
  await notice(/calls? forgotten/);
  await row("hopeless").waitFor({ state: "detached" });
});

test("configuration: a reload is seen live, good or bad", async () => {
  await go("#/configuration", "Configuration");
  await page.getByText(/Generation 1/).waitFor();
  await writeFile(configuration, `${start}[invoke]\nupstream_timeout = "41s"\n`);
  await notice("Configuration 2 is live.");
  await page.getByText(/Generation 2/).waitFor();
  await page.getByRole("cell", { name: "invoke.upstream_timeout" }).waitFor();
  await writeFile(configuration, `${start}[invoke]\nupstream_timeout = "soon"\n`);
  await page.getByRole("heading", { name: "What is wrong" }).waitFor();
  await page.getByText(/Last change failed/).waitFor();
  await page.locator(".notice.failed").waitFor();
  await looked(page, "configuration");
  await button("Close the notice", page.locator(".notice.failed")).click();
  await writeFile(configuration, start);
  await page.getByRole("heading", { name: "What is wrong" }).waitFor({ state: "detached" });
  await button("Reload").click();
  await notice("The files say what is live already.");
});

test("configuration: values with their sources", async () => {
  await page.getByRole("link", { name: "Values" }).click();
  await page.getByLabel("Only what is set").check();
  await row("queue.attempts").getByText("gateway.toml").waitFor();
  await row("auth.basic").getByText("basic_auth").waitFor();
  await page.getByLabel("Search").fill("queue.att");
  await row("auth.basic").waitFor({ state: "detached" });
  await looked(page, "configuration-values");
});

test("configuration: a candidate is compared and checked", async () => {
  stand.expect(/422/);
  await page.getByRole("link", { name: "Try a change" }).click();
  await page.getByLabel("Configuration in TOML").fill(`${start}[invoke]\nupstream_timeout = "42s"\n[server]\nlisten = "127.0.0.1:1"\n`);
  await button("What would change?").click();
  await row("invoke.upstream_timeout").getByText("42s").waitFor();
  await row("invoke.upstream_timeout").getByText("at once").waitFor();
  await looked(page, "configuration-try");
  await button("Validate").click();
  await page.getByText("It could go live").waitFor();
  await page.getByLabel("Configuration in TOML").fill("[invoke]\nupstream_timeuot = 1\n");
  await button("Validate").click();
  await page.getByText("It could not go live").waitFor();
  await page.locator(".mistakes").getByText(/upstream_timeuot/).waitFor();
});

test("about: versions, health and links", async () => {
  await go("#/about", "About");
  await page.getByText("The provider answers").waitFor();
  await page.getByText("faas-gateway-process").first().waitFor();
  await looked(page, "about");
  for (const link of await page.locator("main a").evaluateAll((links) => links.map((one) => one.href))) {
    const response = await fetch(link, { headers: { Authorization: `Basic ${Buffer.from(`${user}:${password}`).toString("base64")}` } });
    assert.equal(response.status, 200, link);
    // A body that nobody reads keeps its connection, and this program, for a minute.
    await response.arrayBuffer();
  }
});

test("delete: only with the name typed", async () => {
  await go("#/functions", "Functions");
  await page.getByRole("link", { name: "words" }).click();
  await heading("words");
  await button("Delete").click();
  await dialog().getByRole("textbox").fill("word");
  assert.equal(await button("Delete it", dialog()).isDisabled(), true);
  await looked(page, "delete");
  await dialog().getByRole("textbox").fill("words");
  await page.keyboard.press("Enter");
  await notice("words was deleted.");
  await heading("Functions");
  await row("words").waitFor({ state: "detached" });
  await page.goBack();
  await page.getByRole("heading", { name: "There is no such function" }).waitFor();
});

test("keyboard: the skip link, the menu of a phone, colours", async () => {
  await go("#/functions", "Functions");
  await page.reload();
  await heading("Functions");
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement.textContent), "Skip to the content");
  await page.keyboard.press("Enter");
  assert.equal(await page.evaluate(() => document.activeElement.tagName), "H1");
  await page.getByLabel("Colours").selectOption("dark");
  const ground = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const dark = await ground();
  await page.reload();
  await heading("Functions");
  assert.equal(await ground(), dark, "the choice stays");
  await page.getByLabel("Colours").selectOption("light");
  assert.notEqual(await ground(), dark);
  await page.getByLabel("Colours").selectOption("system");
  await page.setViewportSize({ width: 360, height: 780 });
  await button("Menu").click();
  await page.getByRole("link", { name: "Secrets" }).click();
  await heading("Secrets");
  assert.equal(await button("Menu").getAttribute("aria-expanded"), "false");
  await page.setViewportSize({ width: 1280, height: 860 });
});

test("parts: event streams, waiting, stacks, numbers", async () => {
  const results = await page.evaluate(async () => {
    const [events, stack, format, spark] = await Promise.all(["./events.js", "./components/stack.js", "./format.js", "./components/spark.js"].map((path) => import(new URL(path, document.baseURI).href)));
    const parse = events.parser();
    const pieces = [": keep-alive\r\n\r\nid: 7-1\neve", "nt: load\ndata: {\"a\":\ndata: 1}\n", "\ndata\n\nid\ndata:x\n\nevent: none\n\n"].flatMap(parse);
    const failure = (document) => {
      try {
        return stack.deploymentsOf(document);
      } catch (error) {
        return error.message;
      }
    };
    return {
      pieces,
      waits: [1, 2, 3, 9].map((failures) => [events.backoff(failures, 0), events.backoff(failures, 1)]),
      stacks: [failure([]), failure({}), failure({ functions: {} }), failure({ functions: { a: { lang: "go" } } }), failure({ functions: { a: { image: "i", labels: { n: { m: 1 } } } } })],
      one: stack.deploymentsOf({ functions: { a: { image: "i", environment: { n: 1, b: true, none: null }, secrets: ["s"], readonly_root_filesystem: true } } }).deployments,
      numbers: [format.duration(0.0000004), format.duration(0.0042), format.duration(0.25), format.duration(3), format.duration(86_400 * 3), format.percent(0.0004), format.percent(0.031), format.rate(0.25), format.rate(1234), format.bytes(1536), format.quoted("it's")],
      sparks: [spark.path([]), spark.path([1]), spark.path([0, 2])],
    };
  });
  assert.deepEqual(results.pieces, [
    { id: "7-1", type: "load", data: '{"a":\n1}' },
    { id: "7-1", type: "message", data: "" },
    { id: "", type: "message", data: "x" },
  ]);
  assert.deepEqual(results.waits, [[250, 500], [500, 1000], [1000, 2000], [7500, 15_000]]);
  assert.deepEqual(results.stacks, [
    "The file is no mapping of names to values.",
    "There is neither `functions` (a stack.yaml) nor `service` (one deployment).",
    "`functions` has none.",
    "a has neither image nor fprocess.",
    "a: labels: n is no text.",
  ]);
  assert.deepEqual(results.one, [{ service: "a", image: "i", envVars: { n: "1", b: "true", none: "" }, secrets: ["s"], readOnlyRootFilesystem: true }]);
  assert.deepEqual(results.numbers, ["0 s", "4.2 ms", "250 ms", "3.00 s", "3 d", "< 0.1 %", "3.1 %", "0.3", "1,234", "1.5 KiB", "'it'\\''s'"]);
  assert.deepEqual(results.sparks.slice(0, 2), ["", ""]);
  assert.match(results.sparks[2], /^M89\.1 22\.0L96\.0 2\.0$/);
});

test("connection: a break is told, and mended with what was missed", async () => {
  const way = await road(gateway);
  stand.expect(/Failed to load resource|ERR_|401/);
  try {
    await signIn(way.url);
    await page.getByText("Live", { exact: true }).waitFor();
    way.cut();
    await page.getByText("Not connected.").waitFor();
    await api("POST", "/system/functions", { service: "meanwhile", image: "local", envProcess: "cat" });
    way.mend();
    await row("meanwhile").getByText("Ready").waitFor();
    await page.getByText("Not connected.").waitFor({ state: "detached" });
    // Away from this road before it ends, for a broken one is told on the console.
    await page.goto(`${gateway}/ui/`);
  } finally {
    way.close();
  }
});

test("below another path: everything works there", async () => {
  stand.expect(/401/);
  await signIn(below);
  await page.getByRole("heading", { name: "No function yet" }).waitFor();
  await looked(page, "empty");
  await page.getByRole("link", { name: "Deploy", exact: true }).click();
  await heading("Deploy");
  await page.getByRole("link", { name: "Custom" }).click();
  await page.getByLabel("Name", { exact: true }).fill("deep");
  await page.getByLabel("Process").fill("cat");
  await page.getByLabel("Image").fill("local");
  await button("Deploy").click();
  await heading("deep");
  await page.locator(".head").getByText("Ready").waitFor();
  await page.getByRole("link", { name: "Invoke" }).click();
  await page.getByLabel("Body").fill("far down");
  await button("Invoke").click();
  await page.getByLabel("Answer", { exact: true }).getByText("far down").waitFor();
});

test("sign-out: nothing is left", async () => {
  stand.expect(/401/);
  await button("Sign out").click();
  await page.getByRole("heading", { name: "Sign in to faas-gateway" }).waitFor();
  assert.equal(await page.evaluate(() => sessionStorage.length), 0);
  await page.reload();
  await page.getByRole("heading", { name: "Sign in to faas-gateway" }).waitFor();
});
