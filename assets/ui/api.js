// The one client of the gateway's API. Types are those of openapi.json (see tests/portal/types.d.ts).
//
// Addresses are relative to this page, so that it works below any path. The page signs in by itself: credentials stay
// in sessionStorage, are sent to /system only, and the browser's own prompt never shows.

/** Where the gateway is: the directory above the portal's. */
export const base = new URL("../", document.baseURI);

const STORED = "faas-gateway.authorization";

/** What went wrong, as the gateway tells it. */
export class ApiError extends Error {
  /** @param {number} status @param {Partial<Api.Problem>} problem */
  constructor(status, problem) {
    super(problem.detail || problem.title || `The gateway answered ${status}.`);
    this.status = status;
    this.problem = problem;
  }
}

/** @type {() => void} called when the gateway wants (other) credentials */
let refused = () => {};

/** @param {() => void} action */
export const onRefusal = (action) => (refused = action);

export const credentials = {
  /** Whether there are any. */
  get known() {
    return sessionStorage.getItem(STORED) !== null;
  },
  /** @param {string} user @param {string} password */
  set(user, password) {
    const bytes = new TextEncoder().encode(`${user}:${password}`);
    sessionStorage.setItem(STORED, `Basic ${btoa(String.fromCharCode(...bytes))}`);
  },
  forget() {
    sessionStorage.removeItem(STORED);
  },
};

/**
 * @typedef {object} Options
 * @property {Record<string, string | number | boolean | undefined>} [query]
 * @property {unknown} [body] sent as JSON
 * @property {{ type: string, content: string }} [text] sent as it is
 * @property {Record<string, string>} [headers]
 * @property {AbortSignal} [signal]
 */

/** @param {string} path @param {Options["query"]} query */
export function address(path, query = {}) {
  const url = new URL(path, base);
  for (const [name, value] of Object.entries(query)) {
    if (value !== undefined && value !== "") url.searchParams.set(name, String(value));
  }
  return url;
}

/**
 * One request to /system; fails with an ApiError.
 * @param {string} method @param {string} path @param {Options} options
 */
export async function send(method, path, { query, body, text, headers, signal } = {}) {
  const authorization = sessionStorage.getItem(STORED);
  const type = text?.type ?? (body === undefined ? undefined : "application/json");
  let response;
  try {
    response = await fetch(address(path, query), {
      method,
      signal,
      body: text?.content ?? (body === undefined ? undefined : JSON.stringify(body)),
      headers: {
        Accept: "application/json",
        ...(authorization ? { Authorization: authorization } : {}),
        ...(type ? { "Content-Type": type } : {}),
        ...headers,
      },
      credentials: "omit",
      redirect: "manual",
      cache: "no-store",
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiError(0, { detail: "The gateway cannot be reached." });
  }
  if (response.type === "opaqueredirect") {
    throw new ApiError(0, { detail: "The gateway sends callers elsewhere to sign in (auth.proxy_url); this page cannot follow." });
  }
  if (response.status === 401) refused();
  if (!response.ok) throw new ApiError(response.status, problem(await response.text()));
  return response;
}

/** @param {string} text @returns {Partial<Api.Problem>} */
function problem(text) {
  try {
    return JSON.parse(text);
  } catch {
    return { detail: text.trim() };
  }
}

/**
 * The answer as JSON.
 * @param {string} method @param {string} path @param {Options} [options] @returns {Promise<any>}
 */
async function json(method, path, options) {
  const text = await (await send(method, path, options)).text();
  return text ? JSON.parse(text) : undefined;
}

/** For what answers nothing. @param {string} method @param {string} path @param {Options} [options] @returns {Promise<void>} */
async function done(method, path, options) {
  await send(method, path, options);
}

const part = encodeURIComponent;

/** @typedef {{ name: string, namespace?: string }} Ref */
/** How a function is called: `name`, or `name.namespace`. @param {Ref} f */
export const calledAs = (f) => (f.namespace ? `${f.name}.${f.namespace}` : f.name);

/** @returns {Promise<Api.GatewayInfo>} */
export const getInfo = () => json("GET", "system/info");
/** @returns {Promise<string[]>} */
export const listNamespaces = () => json("GET", "system/namespaces");
/** @param {string} name @returns {Promise<Api.FunctionNamespace>} */
export const getNamespace = (name) => json("GET", `system/namespace/${part(name)}`);
/** @param {Api.FunctionNamespace} body */
export const createNamespace = (body) => done("POST", "system/namespace/", { body });
/** @param {string} name @param {Api.FunctionNamespace} body */
export const updateNamespace = (name, body) => done("PUT", `system/namespace/${part(name)}`, { body });
/** @param {string} name */
export const deleteNamespace = (name) => done("DELETE", `system/namespace/${part(name)}`, { body: { name } });

/** @param {Ref} f @returns {Promise<Api.FunctionStatus>} */
export const getFunction = (f) =>
  json("GET", `system/function/${part(f.name)}`, { query: { namespace: f.namespace, usage: "1" } });
/** @param {Api.FunctionDeployment} body */
export const deploy = (body) => done("POST", "system/functions", { body });
/** @param {Api.FunctionDeployment} body */
export const update = (body) => done("PUT", "system/functions", { body });
/** The namespace is in query and body: providers differ in where they look. @param {Ref} f */
export const deleteFunction = (f) =>
  done("DELETE", "system/functions", {
    query: { namespace: f.namespace },
    body: { functionName: f.name, namespace: f.namespace },
  });
/** @param {Ref} f @param {number} replicas */
export const scale = (f, replicas) =>
  done("POST", `system/scale-function/${part(f.name)}`, {
    query: { namespace: f.namespace },
    body: { serviceName: f.name, namespace: f.namespace, replicas },
  });
/** @param {Ref} f @returns {Promise<Api.ScalingStatus>} */
export const explainScaling = (f) => json("GET", `system/scaling/${part(f.name)}`, { query: { namespace: f.namespace } });

/** @param {{ store?: string, search?: string, architecture?: string }} query @returns {Promise<Api.Store>} */
export const listStore = (query) => json("GET", "system/store", { query });

/** @param {string} [namespace] @returns {Promise<Api.Secret[]>} */
export const listSecrets = (namespace) => json("GET", "system/secrets", { query: { namespace } });
/** @param {Api.Secret} body */
export const createSecret = (body) => done("POST", "system/secrets", { body, query: { namespace: body.namespace } });
/** @param {Api.Secret} body */
export const updateSecret = (body) => done("PUT", "system/secrets", { body, query: { namespace: body.namespace } });
/** @param {Api.Secret} body */
export const deleteSecret = (body) => done("DELETE", "system/secrets", { body, query: { namespace: body.namespace } });

/** @returns {Promise<Api.AsyncStatus>} */
export const getAsyncStatus = () => json("GET", "system/async-status");
/** @param {{ function?: string, state?: string, after?: string, limit?: number }} query @returns {Promise<Api.AsyncCalls>} */
export const listAsyncCalls = (query) => json("GET", "system/async", { query });
/** @param {string} id @returns {Promise<Api.AsyncCall>} */
export const getAsyncCall = (id) => json("GET", `system/async/${part(id)}`);
/** @param {string} id */
export const redriveAsyncCall = (id) => done("POST", `system/async/${part(id)}/redrive`);
/** @param {{ function?: string, state?: string }} query @returns {Promise<Api.AsyncDone>} */
export const redriveAsyncCalls = (query) => json("POST", "system/async-redrive", { query });
/** @param {{ function?: string, state?: string }} query @returns {Promise<Api.AsyncDone>} */
export const purgeAsyncCalls = (query) => json("DELETE", "system/async", { query });
/** @param {string} id */
export const cancelAsyncCall = (id) => done("DELETE", `async-function/${part(id)}`);
/** @param {{ function?: string }} query */
export const pauseAsyncCalls = (query) => done("POST", "system/async-pause", { query });
/** @param {{ function?: string }} query */
export const resumeAsyncCalls = (query) => done("POST", "system/async-resume", { query });

/** @returns {Promise<Api.Configuration>} */
export const getConfig = () => json("GET", "system/config");
/** @param {string} toml @returns {Promise<Api.ConfigDiff>} */
export const diffConfig = (toml) => json("POST", "system/config/diff", { text: { type: "application/toml", content: toml } });
/** @param {string} toml @returns {Promise<Api.ConfigCheck>} */
export const validateConfig = (toml) =>
  json("POST", "system/config/validate", { text: { type: "application/toml", content: toml } });
/** @returns {Promise<Api.ConfigReload>} */
export const reloadConfig = () => json("POST", "system/config/reload");

/** @returns {Promise<string>} what the provider says of its health; fails with an ApiError */
export const getHealth = async () => (await send("GET", "healthz")).text();

/**
 * Lines of a function's log as they come, until the signal ends it.
 * @param {Ref & { instance?: string, tail?: number, follow?: boolean }} asked
 * @param {(lines: Api.LogMessage[]) => void} take @param {AbortSignal} signal
 */
export async function followLogs({ name, namespace, instance, tail, follow = true }, take, signal) {
  const response = await send("GET", "system/logs", { query: { name, namespace, instance, tail, follow }, signal });
  let rest = "";
  for await (const text of textOf(response)) {
    const lines = (rest + text).split("\n");
    rest = lines.pop() ?? "";
    const messages = lines.filter(Boolean).map((line) => JSON.parse(line));
    if (messages.length) take(messages);
  }
}

/** The body of an answer, piece by piece. @param {Response} response */
export async function* textOf(response) {
  if (!response.body) return;
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  try {
    for (;;) {
      const { done: ended, value } = await reader.read();
      if (ended) return;
      yield value;
    }
  } finally {
    // Whoever stops listening ends the request.
    reader.cancel().catch(() => {});
  }
}
