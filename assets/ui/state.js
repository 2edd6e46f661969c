// What the page knows, in signals: components that read one are drawn again when it changes.
// Events change it; nothing else asks the gateway over and over.
import * as api from "./api.js";
import { listen } from "./events.js";
import { batch, computed, effect, signal } from "./html.js";

/** Points of history that are kept of each function: ten minutes of two seconds. */
const HISTORY = 300;

/** @typedef {{ time: number, rate: number, errors: number, inFlight: number, replicas: number, p50?: number, p95?: number, p99?: number }} Point */
/** @typedef {{ calls: number, errors: number, points: Point[] }} Load */

/** Whether somebody is signed in, or need not be. */
export const session = signal(/** @type {"starting" | "signedOut" | "open" | "unreachable"} */ ("starting"));
export const refusal = signal("");

/** How the stream of events is doing. */
export const connection = signal(/** @type {{ state: "off" | "connecting" | "live" | "waiting", error?: string }} */ ({ state: "off" }));

/** Functions by key; undefined before the first snapshot. */
export const functions = signal(/** @type {Map<string, Api.FunctionStatus> | undefined} */ (undefined));
export const loads = signal(/** @type {Map<string, Load>} */ (new Map()));
/** Counts up with every function that is added, changed or removed, by key. */
export const configuration = signal(/** @type {Api.ConfigStatus | undefined} */ (undefined));
export const namespaces = signal(/** @type {string[] | undefined} */ (undefined));
export const info = signal(/** @type {Api.GatewayInfo | undefined} */ (undefined));

/** The newest events of these kinds, for the screens that they concern. */
export const lastAsync = signal(/** @type {Api.AsyncEvent | undefined} */ (undefined));
export const lastScaling = signal(/** @type {Api.ScalingEvent | undefined} */ (undefined));

/** @param {api.Ref} f */
export const key = (f) => `${f.name}.${f.namespace ?? ""}`;

export const list = computed(() => [...(functions.value?.values() ?? [])]);

// Notices

/** @typedef {{ id: number, kind: "done" | "failed", text: string }} Notice */
export const notices = signal(/** @type {Notice[]} */ ([]));
let nextNotice = 1;

/** @param {string} text @param {Notice["kind"]} kind */
export function notify(text, kind = "done") {
  const id = nextNotice++;
  notices.value = [...notices.value.slice(-2), { id, kind, text }];
  // What went wrong stays until it is closed.
  if (kind === "done") setTimeout(() => dismiss(id), 8000);
}

/** @param {number} id */
export const dismiss = (id) => (notices.value = notices.value.filter((notice) => notice.id !== id));

/** @param {unknown} error */
export const message = (error) => (error instanceof Error ? error.message : String(error));

/** Runs what somebody asked for and says what became of it; true when it succeeded. @param {() => Promise<unknown>} work @param {string} [text] */
export async function attempt(work, text) {
  try {
    await work();
    if (text) notify(text);
    return true;
  } catch (error) {
    if (!(error instanceof api.ApiError && error.status === 401)) notify(message(error), "failed");
    return false;
  }
}

// Where we are: #/screen/part/part?query

export const route = signal(read());

function read() {
  const [path = "", query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  /** @param {string} text */
  const decoded = (text) => {
    try {
      return decodeURIComponent(text);
    } catch {
      return text;
    }
  };
  const [screen = "", ...parts] = path.split("/").map(decoded);
  return { screen: screen || "functions", parts, query: new URLSearchParams(query) };
}

addEventListener("hashchange", () => (route.value = read()));

/** @param {...string} parts */
export const link = (...parts) => `#/${parts.map(encodeURIComponent).join("/")}`;
/** @param {api.Ref} f @param {string} [tab] */
export const linkTo = (f, tab) => link("function", f.namespace ?? "", f.name, ...(tab ? [tab] : []));
/** @param {string} hash */
export const go = (hash) => (location.hash = hash);

// Light or dark

const THEME = "faas-gateway.theme";
export const theme = signal(localStorage.getItem(THEME) ?? "system");
effect(() => {
  if (theme.value === "system") {
    localStorage.removeItem(THEME);
    delete document.documentElement.dataset.theme;
  } else {
    localStorage.setItem(THEME, theme.value);
    document.documentElement.dataset.theme = theme.value;
  }
});

// Events

/** @param {Api.FunctionStatus} f */
function store(f) {
  functions.value = new Map(functions.value).set(key(f), f);
}

/** @param {Api.LoadEvent} event */
function addLoad(event) {
  const time = Date.parse(event.time) / 1000;
  const told = new Map(event.functions.map((f) => [key(f), f]));
  const next = new Map();
  for (const [id, f] of functions.value ?? []) {
    const before = loads.value.get(id);
    const now = told.get(id);
    const calls = now?.calls ?? before?.calls ?? 0;
    const point = {
      time,
      rate: now?.rate ?? 0,
      errors: now?.errorRate ?? 0,
      inFlight: now?.inFlight ?? 0,
      replicas: f.availableReplicas ?? 0,
      p50: now?.p50,
      p95: now?.p95,
      p99: now?.p99,
    };
    const points = [...(before?.points ?? []).slice(1 - HISTORY), point];
    next.set(id, { calls, errors: now?.errors ?? before?.errors ?? 0, points });
  }
  loads.value = next;
}

/** What each kind of event does to what we know. @type {Record<string, (data: any) => void>} */
const HANDLERS = {
  reset() {
    functions.value = undefined;
  },
  snapshot(/** @type {Api.SnapshotEvent} */ event) {
    functions.value = new Map(event.functions.map((f) => [key(f), f]));
    configuration.value = event.configuration;
  },
  function(/** @type {Api.FunctionEvent} */ event) {
    if (event.action === "removed") {
      const rest = new Map(functions.value);
      rest.delete(key(event));
      functions.value = rest;
    } else if (event.function) {
      store(event.function);
    }
  },
  replicas(/** @type {Api.ReplicasEvent} */ event) {
    const known = functions.value?.get(key(event));
    if (known) store({ ...known, replicas: event.replicas, availableReplicas: event.availableReplicas });
  },
  load: addLoad,
  scaling(/** @type {Api.ScalingEvent} */ event) {
    lastScaling.value = event;
  },
  async(/** @type {Api.AsyncEvent} */ event) {
    lastAsync.value = event;
  },
  configuration(/** @type {Api.ConfigStatus & { time: string }} */ event) {
    const failed = event.last_attempt.result === "failed";
    if (failed) notify(`The configuration was read again and is wrong; nothing changed. ${event.last_attempt.errors[0] ?? ""}`, "failed");
    else if (event.generation !== configuration.value?.generation) notify(`Configuration ${event.generation} is live.`);
    configuration.value = event;
  },
};

/** @type {ReturnType<typeof listen> | undefined} */
let stream;

function connect() {
  stream?.stop();
  stream = listen({
    event: ({ type, data }) => {
      const handler = HANDLERS[type];
      if (handler) batch(() => handler(JSON.parse(data)));
    },
    state: (state, error) => {
      // A stream that begins anew has said nothing yet.
      connection.value = { state, error: error && message(error) };
    },
  });
}

export const retry = () => stream?.retry();

// Signing in

export async function start() {
  try {
    info.value = await api.getInfo();
    session.value = "open";
    connect();
    refreshNamespaces();
  } catch (error) {
    if (error instanceof api.ApiError && error.status === 401) return;
    refusal.value = message(error);
    session.value = "unreachable";
  }
}

export const refreshNamespaces = async () => {
  try {
    namespaces.value = (await api.listNamespaces()) ?? [];
  } catch {
    // A provider without namespaces has none to choose from.
    namespaces.value = [];
  }
};

/** @param {string} user @param {string} password */
export async function signIn(user, password) {
  api.credentials.set(user, password);
  await start();
}

export function signOut() {
  api.credentials.forget();
  location.hash = "#/functions";
  leave("");
}

/** @param {string} why */
function leave(why) {
  stream?.stop();
  stream = undefined;
  batch(() => {
    functions.value = undefined;
    loads.value = new Map();
    configuration.value = undefined;
    notices.value = [];
    connection.value = { state: "off" };
    refusal.value = why;
    session.value = "signedOut";
  });
}

api.onRefusal(() => {
  const known = api.credentials.known;
  api.credentials.forget();
  leave(known ? "User or password is wrong." : "");
});
