// How an asynchronous call stands and what its answer was.
import { bytes } from "../format.js";
import { html } from "../html.js";
import { Status } from "./ui.js";

/** @type {Record<string, "good" | "busy" | "bad" | "idle">} */
const KINDS = { queued: "idle", running: "busy", retrying: "busy", succeeded: "good", failed: "bad", dead: "bad", cancelled: "idle" };

export const STATES = ["queued", "running", "retrying", "succeeded", "failed", "dead", "cancelled"];

/** @param {{ state: string }} props */
export const AsyncState = ({ state }) => html`<${Status} kind=${KINDS[state] ?? "info"}>${state}<//>`;

/** @param {{ result: Api.AsyncResult }} props */
export function Result({ result }) {
  const size = result.body?.length ?? Math.floor(((result.bodyBase64?.length ?? 0) * 3) / 4);
  return html`
    <p class="outcome"><${Status} kind=${result.status < 400 ? "good" : "bad"}>${result.status}<//><span>${bytes(size)}</span>
      ${result.truncated && html`<span class="muted">cut off at queue.max_result</span>`}</p>
    <details><summary>${Object.keys(result.headers).length} header fields</summary>
      <dl class="definitions">${Object.entries(result.headers).map(([name, values]) => html`<div key=${name}><dt>${name}</dt><dd>${values.join(", ")}</dd></div>`)}</dl></details>
    ${result.body !== undefined && result.body !== "" && html`<pre class="body" tabindex="0" aria-label="Result">${result.body}</pre>`}
    ${result.bodyBase64 && html`<p class="muted">The body is no text:</p><pre class="body" tabindex="0" aria-label="Result in base64">${result.bodyBase64}</pre>`}`;
}
