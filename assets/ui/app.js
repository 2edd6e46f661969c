// The portal: lists, deploys, scales, calls and removes functions.
// Every address is relative, so the page also works below a path prefix.

const REFRESH = 3500; // milliseconds between two looks at the list
const LONGEST_ANSWER = 512 * 1024; // characters of an answer that are shown
const USUAL_NAMESPACE = "openfaas-fn"; // shown first where it exists

const one = (selector, root = document) => root.querySelector(selector);
const rows = one("#rows");
const invoke = one("#invoke");
const deploy = one("#deploy");
const namespaces = one("#namespace");

let functions = [];
let timer;

/** A request to the gateway's API; fails with the text that it answers. */
async function api(path, options = {}) {
  const headers = { Accept: "application/json", ...(options.body ? { "Content-Type": "application/json" } : {}) };
  const response = await fetch(`../system/${path}`, { ...options, headers, redirect: "error" });
  const text = await response.text();
  if (!response.ok) throw new Error(detail(text) || `${response.status} ${response.statusText}`);
  return text ? JSON.parse(text) : undefined;
}

function detail(text) {
  try {
    return JSON.parse(text).detail;
  } catch {
    return text.trim();
  }
}

function notice(text, failed = false) {
  const element = one("#notice");
  delete element.dataset.cause;
  one("p", element).textContent = text;
  element.classList.toggle("error", failed);
  element.hidden = !text;
}

one("#notice button").addEventListener("click", () => notice(""));

/** Runs something that a person asked for, with its button off meanwhile. */
async function act(button, work) {
  button.disabled = true;
  try {
    await work();
  } catch (error) {
    notice(error.message, true);
  } finally {
    button.disabled = false;
    // A button that is switched off loses the keyboard focus.
    if (document.activeElement === document.body) (button.isConnected ? button : one("#functions")).focus();
  }
}

const key = (f) => `${f.name}.${f.namespace ?? ""}`;
const address = (f) => encodeURIComponent(f.namespace ? `${f.name}.${f.namespace}` : f.name);
const query = (namespace) => (namespace ? `?namespace=${encodeURIComponent(namespace)}` : "");

async function refresh() {
  clearTimeout(timer);
  const asked = namespaces.value;
  try {
    const listed = (await api(`functions${query(asked)}`)) ?? [];
    if (asked !== namespaces.value) return;
    functions = listed.sort((a, b) => a.name.localeCompare(b.name));
    draw();
    if (one("#notice").dataset.cause === "list") notice("");
  } catch (error) {
    notice(`The list could not be read: ${error.message}`, true);
    one("#notice").dataset.cause = "list";
  } finally {
    clearTimeout(timer);
    timer = setTimeout(refresh, document.hidden ? REFRESH * 8 : REFRESH);
  }
}

/** Brings the table up to date, keeping rows (and so the keyboard focus) of functions that stay. */
function draw() {
  const known = new Map([...rows.children].map((row) => [row.dataset.key, row]));
  functions.forEach((f, index) => {
    const row = known.get(key(f)) ?? newRow(f);
    known.delete(key(f));
    const fields = {
      name: f.name,
      namespace: f.namespace ?? "",
      image: f.image,
      ready: `${f.availableReplicas ?? 0} of ${f.replicas ?? 0}`,
      calls: (f.invocationCount ?? 0).toLocaleString(),
    };
    for (const [name, value] of Object.entries(fields)) {
      const cell = one(`[data-field="${name}"]`, row);
      if (cell.textContent !== value) cell.textContent = value;
    }
    const replicas = one("input", row);
    if (document.activeElement !== replicas && !row.dataset.edited) replicas.value = f.replicas ?? 0;
    if (rows.children[index] !== row) rows.insertBefore(row, rows.children[index] ?? null);
  });
  for (const row of known.values()) row.remove();
  one("#empty").hidden = functions.length > 0;
  drawChoice();
}

function newRow(f) {
  const row = one("#row").content.firstElementChild.cloneNode(true);
  const form = one("form", row);
  row.dataset.key = key(f);
  form.elements.replicas.setAttribute("aria-label", `Replicas of ${f.name}`);
  form.elements.replicas.addEventListener("input", () => (row.dataset.edited = "yes"));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    act(one("button", form), async () => {
      const replicas = form.elements.replicas.valueAsNumber;
      await send("POST", `scale-function/${encodeURIComponent(f.name)}${query(f.namespace)}`, {
        serviceName: f.name, namespace: f.namespace, replicas,
      });
      delete row.dataset.edited;
      notice(`${f.name} is being scaled to ${replicas}.`);
      await refresh();
    });
  });
  const choose = one('[data-action="choose"]', row);
  choose.setAttribute("aria-label", `Call ${f.name}`);
  choose.addEventListener("click", () => {
    invoke.elements.function.value = key(f);
    invoke.elements.body.focus();
  });
  const remove = one('[data-action="remove"]', row);
  remove.setAttribute("aria-label", `Remove ${f.name}`);
  remove.addEventListener("click", () => removeFunction(f, remove));
  return row;
}

function drawChoice() {
  const select = invoke.elements.function;
  const wanted = functions.map(key);
  if (wanted.join() === [...select.options].map((option) => option.value).join()) return;
  const chosen = select.value;
  select.replaceChildren(...functions.map((f) => new Option(f.namespace ? `${f.name}.${f.namespace}` : f.name, key(f))));
  if (wanted.includes(chosen)) select.value = chosen;
}

const send = (method, path, body) => api(path, { method, body: JSON.stringify(body) });

async function removeFunction(f, button) {
  const dialog = one("#confirm");
  one("#confirm-text").textContent = `Remove the function ${f.name}? Its replicas are stopped.`;
  dialog.returnValue = "no";
  dialog.showModal();
  await new Promise((resolve) => dialog.addEventListener("close", resolve, { once: true }));
  if (dialog.returnValue !== "yes") return;
  await act(button, async () => {
    await send("DELETE", `functions${query(f.namespace)}`, { functionName: f.name, namespace: f.namespace });
    notice(`${f.name} was removed.`);
    await refresh();
  });
}

const lines = (text) => text.split("\n").map((line) => line.trim()).filter(Boolean);

function variables(text) {
  return Object.fromEntries(
    lines(text).map((line) => {
      const at = line.indexOf("=");
      if (at < 1) throw new Error(`"${line}" is not NAME=value`);
      return [line.slice(0, at), line.slice(at + 1)];
    }),
  );
}

deploy.addEventListener("submit", (event) => {
  event.preventDefault();
  act(one("button", deploy), async () => {
    const field = (name) => deploy.elements[name].value.trim();
    const name = field("service");
    const known = functions.some((f) => f.name === name);
    await send(known ? "PUT" : "POST", "functions", {
      service: name,
      image: field("image"),
      namespace: namespaces.value || undefined,
      envProcess: field("envProcess") || undefined,
      envVars: variables(field("envVars")),
      secrets: lines(field("secrets")),
      labels: {},
      annotations: {},
    });
    notice(`${name} was ${known ? "updated" : "deployed"}.`);
    await refresh();
    const deployed = functions.find((f) => f.name === name);
    if (deployed) invoke.elements.function.value = key(deployed);
  });
});

invoke.addEventListener("submit", (event) => {
  event.preventDefault();
  const outcome = one("#outcome");
  const answer = one("#answer");
  act(one("button", invoke), async () => {
    const { method, path, type, body } = invoke.elements;
    const chosen = functions.find((f) => key(f) === invoke.elements.function.value);
    if (!chosen) throw new Error("Choose a function first.");
    const hasBody = method.value !== "GET";
    const rest = path.value && !/^[/?]/.test(path.value) ? `/${path.value}` : path.value;
    outcome.textContent = "Calling …";
    answer.hidden = true;
    const started = performance.now();
    try {
      const response = await fetch(`../function/${address(chosen)}${rest}`, {
        method: method.value,
        headers: hasBody && type.value ? { "Content-Type": type.value } : {},
        body: hasBody ? body.value : undefined,
        credentials: "omit",
      });
      const text = await response.text();
      const seconds = ((performance.now() - started) / 1000).toFixed(3);
      outcome.textContent = `${response.status} ${response.statusText} in ${seconds} s`;
      answer.textContent = text.length > LONGEST_ANSWER ? `${text.slice(0, LONGEST_ANSWER)}\n… (cut off)` : text;
      answer.hidden = false;
    } catch (error) {
      outcome.textContent = "";
      throw new Error(`The call failed: ${error.message}`);
    }
    await refresh();
  });
});

namespaces.addEventListener("change", refresh);
document.addEventListener("visibilitychange", () => document.hidden || refresh());

async function start() {
  const [known, info] = await Promise.allSettled([api("namespaces"), api("info")]);
  const names = known.status === "fulfilled" && Array.isArray(known.value) ? known.value : [];
  namespaces.replaceChildren(...(names.length ? names : [""]).map((name) => new Option(name || "default", name)));
  if (names.includes(USUAL_NAMESPACE)) namespaces.value = USUAL_NAMESPACE;
  namespaces.disabled = names.length < 2;
  if (info.status === "fulfilled") {
    const { version, provider } = info.value;
    one("#versions").textContent = `gateway ${version.release}, provider ${provider.provider || "not reachable"}`;
  }
  await refresh();
}

start();
