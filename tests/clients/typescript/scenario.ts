// What a user of the generated client does, from the first refusal to the last 404.
// openapi-fetch sends any body; the types know it as a string.

import createClient, { type Client } from "openapi-fetch";
import type { components, paths } from "./schema.js";

const { GATEWAY_URL: url, GATEWAY_USER: user, GATEWAY_PASSWORD: password } = process.env;
const NAME = "scenario";

function signedIn(user: string, password: string): Client<paths> {
  const credentials = Buffer.from(`${user}:${password}`).toString("base64");
  return createClient<paths>({ baseUrl: url, headers: { Authorization: `Basic ${credentials}` } });
}

const gateway = signedIn(user!, password!);
// Types of bodies are ours to say: they are sent as they are.
const raw = { bodySerializer: (body?: string) => body, headers: { "Content-Type": "text/plain" } };

function expect(what: string, found: unknown, expected: unknown): void {
  const [left, right] = [JSON.stringify(found), JSON.stringify(expected)];
  if (left !== right) throw new Error(`${what}: expected ${right}, found ${left}`);
}

async function eventually<T>(what: string, look: () => Promise<T>, expected: T): Promise<void> {
  let found: T | undefined;
  for (const until = Date.now() + 20_000; Date.now() < until; ) {
    found = await look();
    if (found === expected) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  expect(what, found, expected);
}

// Errors are text for those who do not accept JSON, and the types say so.
function problem(error: components["schemas"]["Problem"] | string | undefined): components["schemas"]["Problem"] {
  if (typeof error !== "object") throw new Error(`expected a problem, found ${error}`);
  return error;
}

const functionPath = { params: { path: { name: NAME } } };

async function status(): Promise<components["schemas"]["FunctionStatus"]> {
  const { data, error } = await gateway.GET("/system/function/{name}", functionPath);
  if (error) throw new Error(`status: ${problem(error).detail}`);
  return data!;
}

async function refused(client: Client<paths>): Promise<void> {
  const { error, response } = await client.GET("/system/functions");
  expect("status", response.status, 401);
  const { status, component, detail } = problem(error);
  expect("problem", [status, component, detail], [401, "gateway", "invalid credentials"]);
}

async function secretNames(): Promise<string[]> {
  const { data } = await gateway.GET("/system/secrets");
  return data!.map((secret) => secret.name);
}

const steps: Record<string, () => Promise<void>> = {
  "refused without credentials": () => refused(createClient<paths>({ baseUrl: url })),

  "refused with wrong credentials": () => refused(signedIn(user!, "wrong")),

  deploy: async () => {
    const body = { service: NAME, image: "local", envProcess: "cat", labels: { scenario: "yes" } };
    const { response } = await gateway.POST("/system/functions", { body });
    expect("status", response.status, 202);
    const { data } = await gateway.GET("/system/functions");
    expect("functions", data?.map((one) => [one.name, one.envProcess, one.labels?.scenario]), [[NAME, "cat", "yes"]]);
  },

  ready: () => eventually("available replicas", async () => (await status()).availableReplicas, 1),

  invoke: async () => {
    const call = await gateway.POST("/function/{name}", {
      ...functionPath, ...raw, body: "héllo\n", parseAs: "text",
    });
    expect("status", call.response.status, 200);
    expect("body", call.data, "héllo\n");
  },

  "errors of calls": async () => {
    const path = (name: string, path: string) => ({ params: { path: { name, path } } });
    const body = { service: "picky", image: "local", envProcess: process.env.PICKY!, envVars: { mode: "http" } };
    const deployed = await gateway.POST("/system/functions", { body });
    expect("status", deployed.response.status, 202);
    const look = async () => (await gateway.GET("/system/function/{name}", path("picky", ""))).data?.availableReplicas;
    await eventually("available replicas", look, 1);
    // The function's own, whatever it is.
    const own = await gateway.GET("/function/{name}/{path}", path("picky", "404"));
    expect("own", [own.response.status, own.error, own.response.headers.get("X-OpenFaaS-Internal")], [404, [1], null]);
    const gone = await gateway.DELETE("/system/functions", { body: { functionName: "picky" } });
    expect("status", gone.response.status, 202);
    // The gateway's, with its header.
    const { error, response } = await gateway.GET("/function/{name}", { params: { path: { name: "nobody" } } });
    expect("problem", [response.headers.get("X-OpenFaaS-Internal"), problem(error).status], ["gateway", 404]);
  },

  scale: async () => {
    const body = { serviceName: NAME, replicas: 2 };
    const { response } = await gateway.POST("/system/scale-function/{name}", { ...functionPath, body });
    expect("status", response.status, 202);
    await eventually("available replicas", async () => (await status()).availableReplicas, 2);
    expect("replicas", (await status()).replicas, 2);
  },

  // A stream: followed, and left after its first entry. The types know one entry.
  logs: async () => {
    const leave = new AbortController();
    const { data, response } = await gateway.GET("/system/logs", {
      params: { query: { name: NAME, follow: true } }, parseAs: "stream", signal: leave.signal,
    });
    expect("status", response.status, 200);
    let text = "";
    for await (const chunk of data!.pipeThrough(new TextDecoderStream())) {
      text += chunk;
      if (text.includes("\n")) break;
    }
    leave.abort();
    const entry: components["schemas"]["LogMessage"] = JSON.parse(text.split("\n")[0]!);
    expect("name", entry.name, NAME);
    expect("text", entry.text, "Forking fprocess.");
    expect("time", Math.abs(Date.now() - Date.parse(entry.timestamp)) < 120_000, true);
  },

  secrets: async () => {
    const created = await gateway.POST("/system/secrets", { body: { name: "token", value: "one" } });
    expect("created", created.response.status, 201);
    expect("names", await secretNames(), ["token"]);
    const rawValue = Buffer.from("two").toString("base64");
    const updated = await gateway.PUT("/system/secrets", { body: { name: "token", rawValue } });
    expect("updated", updated.response.status, 202);
    const deleted = await gateway.DELETE("/system/secrets", { body: { name: "token" } });
    expect("deleted", deleted.response.status, 202);
    expect("names", await secretNames(), []);
  },

  namespaces: async () => {
    const path = { params: { path: { name: "team" } } };
    const created = await gateway.POST("/system/namespace/{name}", { ...path, body: { name: "team" } });
    expect("created", created.response.status, 201);
    const updated = await gateway.PUT("/system/namespace/{name}", { ...path, body: { name: "team", labels: { a: "b" } } });
    expect("updated", updated.response.status, 202);
    const { data } = await gateway.GET("/system/namespace/{name}", path);
    expect("labels", data?.labels, { a: "b" });
    const names = await gateway.GET("/system/namespaces");
    expect("listed", names.data?.includes("team"), true);
    const deleted = await gateway.DELETE("/system/namespace/{name}", { ...path, body: { name: "team" } });
    expect("deleted", deleted.response.status, 202);
    const gone = await gateway.GET("/system/namespace/{name}", path);
    expect("gone", gone.response.status, 404);
  },

  "asynchronous call": async () => {
    const { response } = await gateway.POST("/async-function/{name}", { ...functionPath, ...raw, body: "later" });
    expect("status", response.status, 202);
    const path = { params: { path: { id: response.headers.get("X-Call-Id")! } } };
    const call = async () => (await gateway.GET("/system/async/{id}", path)).data;
    await eventually("state", async () => (await call())?.state, "succeeded");
    const result = (await call())?.result;
    expect("result", [result?.status, result?.body], [200, "later"]);
  },

  "config status": async () => {
    const { data } = await gateway.GET("/system/config/status");
    expect("status", [data?.generation, data?.last_attempt.result, data?.pending_restart], [1, "applied", []]);
  },

  delete: async () => {
    const { response } = await gateway.DELETE("/system/functions", { body: { functionName: NAME } });
    expect("status", response.status, 202);
    const look = async () => (await gateway.GET("/system/function/{name}", functionPath)).response.status;
    await eventually("status of the function", look, 404);
    const { error } = await gateway.GET("/system/function/{name}", functionPath);
    const { status, title } = problem(error);
    expect("problem", [status, title], [404, "Not Found"]);
  },
};

for (const [name, step] of Object.entries(steps)) {
  try {
    await step();
  } catch (error) {
    console.log(`FAILED ${name}: ${error instanceof Error ? error.message : error}`);
    process.exit(1);
  }
  console.log(`ok ${name}`);
}
