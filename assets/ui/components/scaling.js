// Why a function has the replicas that it has: GET /system/scaling/{name}, in words.
import { explainScaling } from "../api.js";
import { clock, count, duration, percent, rate } from "../format.js";
import { html } from "../html.js";
import { key, lastScaling } from "../state.js";
import { Failure, Loading, Table, useLoad } from "./ui.js";

/** @type {Record<string, string>} */
const MODES = {
  load: "Replicas follow the load.",
  static: "Replicas keep to bounds and schedule.",
  off: "It asks for no scaling: replicas stay as they were set.",
  disabled: "The autoscaler is switched off (scaling.autoscale).",
  standby: "Another gateway scales.",
};

/** @type {Record<string, string>} */
const REASONS = {
  load: "the load needs so many",
  panic: "the load rose suddenly",
  down_window: "more were needed a moment ago",
  min: "the least that is wanted",
  max: "the most that is allowed",
  schedule: "the schedule says so",
  idle: "nobody used it",
  at_zero: "it is at zero until it is called",
  called: "it was called",
  static: "bounds and schedule say so",
  no_signal: "the load could not be measured",
  activation: "a call started it",
  manual: "somebody set it",
  alert: "an alert asked for it",
  outside: "it was changed outside the gateway",
};

/** @param {{ f: Api.FunctionStatus }} props */
export function Scaling({ f }) {
  const newest = lastScaling.value;
  const { data, error, reload } = useLoad(
    () => explainScaling(f),
    [f.name, f.namespace, f.replicas, f.availableReplicas, newest && key(newest) === key(f) ? newest.time : ""],
  );
  if (error) return html`<${Failure} text=${error} retry=${reload} />`;
  if (!data) return html`<${Loading} />`;
  const facts = [
    ["Wanted", count(data.replicas)],
    ["Ready", count(data.availableReplicas)],
    ["Bounds", `${data.min} to ${data.max}`],
    ["In flight", count(data.inFlight)],
    ["Queued", count(data.queued)],
    ["Waiting for a replica", count(data.held)],
    ...(data.mode === "load" || data.load !== undefined
      ? [
          ["Signal", data.signal],
          ["Load", data.load === undefined ? "not measured" : rate(data.load)],
          ["Target of a replica", `${rate(data.target)} (aims at ${percent(data.targetProportion)})`],
          ["Needed", count(data.needed)],
          ["Window", `${duration(data.stableWindowSeconds)}, down after ${duration(data.downWindowSeconds)}`],
        ]
      : []),
    ["Unused for", duration(data.idleSeconds)],
    ["To zero after", data.zeroAfterSeconds === undefined ? "never" : duration(data.zeroAfterSeconds)],
    ...(data.leader ? [["Scaled by", data.leader]] : []),
  ];
  return html`
    <p>${MODES[data.mode] ?? data.mode} ${data.reason && html`Now <strong>${count(data.desired ?? data.replicas)}</strong>: ${REASONS[data.reason] ?? data.reason}.`}</p>
    <dl class="facts">${facts.map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>
    <div class="row end"><button type="button" class="small quiet" onClick=${reload}>Look again</button></div>
    <h3>Changes</h3>
    ${data.changes.length === 0
      ? html`<p class="muted">Replicas did not change since the gateway started.</p>`
      : html`<${Table} label="Changes of replicas" columns=${[{ text: "When" }, { text: "Replicas" }, { text: "Why" }]}>
          ${data.changes.map(
            (change, index) => html`
            <tr key=${index}>
              <td data-label="When">${clock(change.at)}</td>
              <td data-label="Replicas">${change.from ?? "?"} → ${change.to}</td>
              <td data-label="Why">${REASONS[change.reason] ?? change.reason}${change.error && html`<span class="error"> (failed: ${change.error})</span>`}</td>
            </tr>`,
          )}
        <//>`}`;
}
