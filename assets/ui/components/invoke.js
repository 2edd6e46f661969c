// Calls a function from the page: any method, path, query, headers and body; at once or asynchronously.
//
// As in OpenFaaS's portal an answer is shown as text or JSON, or saved as a file; the label com.openfaas.ui.ext gives
// the file's extension and chooses saving. Credentials of the gateway are not sent to functions.
import { base, calledAs, getAsyncCall } from "../api.js";
import { bytes, clock, duration } from "../format.js";
import { html, signal, useEffect, useState } from "../html.js";
import { key, lastAsync, link, message } from "../state.js";
import { AsyncState, Result } from "./asynccall.js";
import { Area, PairsEditor, Select, Status, Text } from "./ui.js";

const METHODS = ["POST", "GET", "PUT", "PATCH", "DELETE"];
const SHOWN = 256 * 1024; // characters of an answer
const REMEMBERED = 20;
export const EXTENSION_LABEL = "com.openfaas.ui.ext";

/**
 * @typedef {object} Asked
 * @property {string} method @property {string} path @property {string} query
 * @property {[string, string][]} headers @property {string} type @property {string} body
 * @property {"text" | "json" | "download"} as @property {boolean} async
 *
 * @typedef {object} Answer
 * @property {number} status @property {string} statusText @property {number} seconds
 * @property {[string, string][]} headers @property {Blob} blob @property {string} text @property {string} [id] of an asynchronous call
 *
 * @typedef {{ at: string, asked: Asked, outcome: string, seconds: number, good: boolean }} Past
 */

/** Calls of this visit by function; forgotten with the page. */
const history = signal(/** @type {Map<string, Past[]>} */ (new Map()));

/** Answers become what was asked for; the content type that OpenFaaS's portal sends with each. */
const TYPES = { text: "text/plain", json: "application/json", download: "binary/octet-stream" };

/** Where a call goes. @param {Api.FunctionStatus} f @param {Asked} asked */
export function addressOf(f, { path, query, async }) {
  const below = path && !path.startsWith("/") ? `/${path}` : path;
  const url = new URL(`${async ? "async-function" : "function"}/${encodeURIComponent(calledAs(f))}${below.replace(/[?#]/g, encodeURIComponent)}`, base);
  url.search = query.replace(/^\?/, "");
  return url;
}

/** Text as it is shown: JSON with indentation where it is asked for. @param {string} text @param {Asked["as"]} as */
export function shown(text, as) {
  if (as === "json") {
    try {
      return JSON.stringify(JSON.parse(text), null, 2);
    } catch {
      return text;
    }
  }
  return text;
}

/** @param {{ f: Api.FunctionStatus }} props */
export function Invoke({ f }) {
  const extension = f.labels?.[EXTENSION_LABEL];
  const [asked, setAsked] = useState(
    /** @type {Asked} */ ({ method: "POST", path: "", query: "", headers: [], type: "text/plain", body: "", as: extension ? "download" : "text", async: false }),
  );
  const [answer, setAnswer] = useState(/** @type {Answer | undefined} */ (undefined));
  const [failure, setFailure] = useState("");
  const [running, setRunning] = useState(/** @type {AbortController | undefined} */ (undefined));
  const past = history.value.get(key(f)) ?? [];
  /** @param {Partial<Asked>} change */
  const set = (change) => setAsked({ ...asked, ...change });
  const hasBody = asked.method !== "GET";
  const ready = (f.availableReplicas ?? 0) > 0;

  /** @param {Event} event */
  const call = async (event) => {
    event.preventDefault();
    if (running) return;
    const stop = new AbortController();
    setRunning(stop);
    setFailure("");
    setAnswer(undefined);
    const began = performance.now();
    /** @param {string} outcome @param {boolean} good */
    const remember = (outcome, good) => {
      const entry = { at: new Date().toISOString(), asked, outcome, seconds: (performance.now() - began) / 1000, good };
      history.value = new Map(history.value).set(key(f), [entry, ...past].slice(0, REMEMBERED));
    };
    try {
      const headers = new Headers(asked.headers.filter(([name]) => name.trim()).map(([name, value]) => /** @type {[string, string]} */ ([name.trim(), value])));
      if (hasBody && asked.type && !headers.has("Content-Type")) headers.set("Content-Type", asked.type);
      const response = await fetch(addressOf(f, asked), {
        method: asked.method,
        headers,
        body: hasBody ? asked.body : undefined,
        credentials: "omit",
        cache: "no-store",
        signal: stop.signal,
      });
      const blob = await response.blob();
      const got = {
        status: response.status,
        statusText: response.statusText,
        seconds: (performance.now() - began) / 1000,
        headers: [...response.headers],
        blob,
        text: asked.as === "download" ? "" : (await blob.text()).slice(0, SHOWN),
        id: asked.async && response.status === 202 ? (response.headers.get("X-Call-Id") ?? undefined) : undefined,
      };
      remember(String(response.status), response.ok);
      setAnswer(got);
      if (asked.as === "download" && response.ok && !asked.async) save(blob, extension);
    } catch (error) {
      const text = stop.signal.aborted ? "Cancelled." : `The call failed: ${message(error)}`;
      remember(stop.signal.aborted ? "cancelled" : "failed", false);
      setFailure(text);
    } finally {
      setRunning(undefined);
    }
  };

  return html`
    <form class="invoke" onSubmit=${call}>
      <div class="row">
        <${Select} label="Method" value=${asked.method} options=${METHODS} onChange=${(/** @type {string} */ method) => set({ method })} />
        <${Text} label="Path" class="grow" placeholder="/" value=${asked.path} onInput=${(/** @type {string} */ path) => set({ path })} />
        <${Text} label="Query" class="grow" placeholder="name=value" value=${asked.query} onInput=${(/** @type {string} */ query) => set({ query })} />
      </div>
      <div class="row">
        <${Select} label="Show answer as" value=${asked.as} options=${[["text", "Text"], ["json", "JSON"], ["download", "Download"]]}
          onChange=${(/** @type {Asked["as"]} */ as) => set({ as, type: TYPES[as] })} />
        ${hasBody && html`<${Text} label="Content type" class="grow" value=${asked.type} onInput=${(/** @type {string} */ type) => set({ type })} />`}
      </div>
      <${PairsEditor} label="Headers" pairs=${asked.headers} onChange=${(/** @type {[string, string][]} */ headers) => set({ headers })} />
      ${hasBody && html`<${Area} label="Body" value=${asked.body} rows=${5} onInput=${(/** @type {string} */ body) => set({ body })} />`}
      <div class="row middle">
        ${running
          ? html`<button type="button" onClick=${() => running.abort()}>Cancel</button>`
          : html`<button class="primary">${asked.async ? "Queue the call" : "Invoke"}</button>`}
        <label class="check"><input type="checkbox" checked=${asked.async} onChange=${(/** @type {any} */ event) => set({ async: event.currentTarget.checked })} /> Asynchronously</label>
        ${!ready && html`<p class="muted">No replica is ready: a call starts one where that is switched on.</p>`}
      </div>
    </form>
    <div class="answer" aria-live="polite" aria-busy=${running ? "true" : "false"}>
      ${running && html`<p class="muted">Calling …</p>`}
      ${failure && html`<p class="error">${failure}</p>`}
      ${answer && html`<${Shown} answer=${answer} asked=${asked} extension=${extension} />`}
    </div>
    ${answer?.id && html`<${Queued} id=${answer.id} />`}
    ${past.length > 0 && html`
      <h3>History</h3>
      <ol class="history">${past.map(
        (entry, index) => html`
        <li key=${index}>
          <${Status} kind=${entry.good ? "good" : "bad"}>${entry.outcome}<//>
          <code>${entry.asked.method} ${entry.asked.path || "/"}${entry.asked.query && `?${entry.asked.query}`}</code>
          <span class="muted">${clock(entry.at)} · ${duration(entry.seconds)}${entry.asked.async ? " · asynchronous" : ""}</span>
          <button type="button" class="small quiet" aria-label=${`Use again: call ${past.length - index}`} onClick=${() => setAsked(entry.asked)}>Use again</button>
        </li>`,
      )}</ol>`}`;
}

/** @param {{ answer: Answer, asked: Asked, extension: string | undefined }} props */
function Shown({ answer, asked, extension }) {
  const good = answer.status < 400;
  const image = answer.blob.type.startsWith("image/");
  return html`
    <p class="outcome">
      <${Status} kind=${good ? "good" : "bad"}>${answer.status} ${answer.statusText}<//>
      <span>${answer.seconds.toFixed(3)} s</span><span>${bytes(answer.blob.size)}</span><span class="muted">${answer.blob.type}</span>
      <button type="button" class="small quiet" onClick=${() => save(answer.blob, extension)}>Save</button>
    </p>
    <details><summary>${answer.headers.length} header fields</summary>
      <dl class="definitions">${answer.headers.map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd>${value}</dd></div>`)}</dl></details>
    ${image && html`<${Picture} blob=${answer.blob} />`}
    ${asked.as !== "download" && !image && answer.blob.size > 0 && html`
      <pre class="body" tabindex="0" aria-label="Answer">${shown(answer.text, asked.as)}${answer.blob.size > SHOWN ? "\n… (the rest is not shown; save it)" : ""}</pre>`}`;
}

/** @param {{ blob: Blob }} props */
function Picture({ blob }) {
  const [url, setUrl] = useState("");
  useEffect(() => {
    const made = URL.createObjectURL(blob);
    setUrl(made);
    return () => URL.revokeObjectURL(made);
  }, [blob]);
  return url ? html`<img class="picture" src=${url} alt="The answer" />` : null;
}

/** What became of an asynchronous call; events say when to look. @param {{ id: string }} props */
function Queued({ id }) {
  const [call, setCall] = useState(/** @type {Api.AsyncCall | undefined} */ (undefined));
  const [failure, setFailure] = useState("");
  const newest = lastAsync.value;
  const reason = newest?.id === undefined || newest.id === id ? newest?.time : "";
  useEffect(() => {
    let current = true;
    getAsyncCall(id).then(
      (got) => {
        if (!current) return;
        setCall(got);
        setFailure("");
      },
      (error) => current && setFailure(message(error)),
    );
    return () => {
      current = false;
    };
  }, [id, reason]);
  return html`
    <div class="queued" aria-live="polite">
      <p>Call <a href=${link("async", id)}><code>${id}</code></a> ${call && html`<${AsyncState} state=${call.state} />`}</p>
      ${failure && html`<p class="error">${failure}</p>`}
      ${call?.result && html`<${Result} result=${call.result} />`}
    </div>`;
}

/** @param {Blob} blob @param {string | undefined} extension */
function save(blob, extension) {
  const url = URL.createObjectURL(blob);
  const anchor = document.createElement("a");
  anchor.href = url;
  const name = "randomUUID" in crypto ? crypto.randomUUID() : String(Date.now());
  anchor.download = extension ? `${name}.${extension.replace(/^\./, "")}` : name;
  anchor.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
