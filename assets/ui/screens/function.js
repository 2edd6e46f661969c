// One function: how it is doing, what it is, and everything that can be done to it.
import { base, calledAs, deleteFunction, getFunction, scale, update } from "../api.js";
import { Chart } from "../components/chart.js";
import { confirm } from "../components/dialog.js";
import { DeploymentForm, deploymentOf } from "../components/deployment.js";
import { Invoke } from "../components/invoke.js";
import { Logs } from "../components/logs.js";
import { Scaling } from "../components/scaling.js";
import { Act, Card, Copyable, Definitions, Empty, FunctionState, Head, Loading, Tabs, useLoad } from "../components/ui.js";
import { bytes, clock, count, duration, rate, quoted } from "../format.js";
import { html, useEffect, useState } from "../html.js";
import { attempt, functions, go, key, link, linkTo, loads, notify, route } from "../state.js";

const TABS = [
  ["overview", "Overview"],
  ["invoke", "Invoke"],
  ["logs", "Logs"],
  ["scaling", "Scaling"],
  ["edit", "Edit"],
];

export function OneFunction() {
  const [namespace = "", name = "", tab = "overview"] = route.value.parts;
  const known = functions.value;
  const f = known?.get(key({ name, namespace }));
  if (!known) return html`<${Head} title=${name} /><${Loading} lines=${6} />`;
  if (!f) {
    return html`<${Head} title=${name} />
      <${Empty} title="There is no such function"><p><strong>${calledAs({ name, namespace })}</strong> is not deployed, or no longer.</p>
        <p><a class="button" href=${link("functions")}>All functions</a></p><//>`;
  }
  return html`
    <${Head} title=${f.name} note=${html`<${FunctionState} f=${f} /> <span class="tag">${f.namespace || "no namespace"}</span> ${f.image}`}
      actions=${html`<${Actions} f=${f} />`} />
    <${Tabs} label="Function" current=${tab} tabs=${TABS.map(([name = "", text = ""]) => ({ name, text, href: linkTo(f, name === "overview" ? undefined : name) }))} />
    ${tab === "overview" && html`<${Overview} f=${f} />`}
    ${tab === "invoke" && html`<${Card} title="Invoke"><${Invoke} key=${key(f)} f=${f} /><//>`}
    ${tab === "logs" && html`<${Card} title="Logs"><${Logs} f=${f} /><//>`}
    ${tab === "scaling" && html`<${Card} title="Scaling"><${Scaling} f=${f} /><//>`}
    ${tab === "edit" && html`<${Edit} f=${f} />`}`;
}

/** @param {{ f: Api.FunctionStatus }} props */
function Actions({ f }) {
  const restart = async () => {
    // The API has no restart: a deployment with nothing changed but an annotation replaces the replicas.
    const current = await getFunction(f);
    const deployment = deploymentOf(current);
    await update({ ...deployment, annotations: { ...deployment.annotations, "com.openfaas.portal.restarted": new Date().toISOString() } });
  };
  const remove = async () => {
    const yes = await confirm({
      title: `Delete ${f.name}?`,
      text: `Its replicas are stopped and calls to ${calledAs(f)} fail from then on.`,
      action: "Delete it",
      type: f.name,
    });
    if (yes && (await attempt(() => deleteFunction(f), `${f.name} was deleted.`))) go(link("functions"));
  };
  return html`
    <${Act} onClick=${async () => {
      const yes = await confirm({ title: `Restart ${f.name}?`, text: "It is deployed again as it is, so that its replicas are replaced; the time is noted in an annotation.", action: "Restart it" });
      if (yes) await attempt(restart, `${f.name} is being restarted.`);
    }}>Restart<//>
    <${Act} class="danger" onClick=${remove}>Delete<//>`;
}

/** @param {{ f: Api.FunctionStatus }} props */
function Overview({ f }) {
  const points = loads.value.get(key(f))?.points ?? [];
  const newest = points.at(-1);
  const url = new URL(`function/${encodeURIComponent(calledAs(f))}`, base).href;
  const { data } = useLoad(() => getFunction(f), [key(f), f.replicas, f.availableReplicas]);
  const times = points.map((point) => point.time);
  const facts = [
    ["Replicas", `${f.availableReplicas ?? 0} of ${f.replicas ?? 0}`],
    ["Calls/s", rate(newest?.rate)],
    ["In flight", count(newest?.inFlight)],
    ["p95", duration(newest?.p95)],
    ["Calls", count(Math.max(loads.value.get(key(f))?.calls ?? 0, f.invocationCount ?? 0))],
    ["Memory", bytes(data?.usage?.totalMemoryBytes)],
    ["CPU", data?.usage?.cpu === undefined ? "–" : `${Math.round(data.usage.cpu)} m`],
    ["Deployed", clock(f.createdAt)],
  ];
  return html`
    <dl class="facts big">${facts.map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>
    <div class="charts">
      <${Chart} title="Calls per second" times=${times} format=${rate} series=${[
        { text: "all", colour: "--accent", values: points.map((point) => point.rate), fill: true },
        { text: "errors", colour: "--bad", values: points.map((point) => point.errors) },
      ]} />
      <${Chart} title="Latency" times=${times} format=${duration} least=${0.001} series=${[
        { text: "p50", colour: "--accent", values: points.map((point) => point.p50) },
        { text: "p95", colour: "--time", values: points.map((point) => point.p95) },
        { text: "p99", colour: "--bad", values: points.map((point) => point.p99) },
      ]} />
      <${Chart} title="In flight" whole times=${times} format=${count} series=${[{ text: "calls", colour: "--time", values: points.map((point) => point.inFlight), fill: true }]} />
      <${Chart} title="Replicas" whole times=${times} format=${count} series=${[{ text: "ready", colour: "--accent", values: points.map((point) => point.replicas), fill: true, stepped: true }]} />
    </div>
    <div class="columns">
      <${Card} title="Endpoint">
        <${Copyable} label="URL" text=${url} />
        <${Copyable} label="command line" text=${`curl ${quoted(url)} --data 'hello'`} />
        <${Copyable} label="asynchronous URL" text=${url.replace("/function/", "/async-function/")} />
      <//>
      <${Card} title="Scale"><${Scale} f=${f} /><//>
      <${Card} title="Process"><${Definitions} none="" of=${{ Process: f.envProcess || "the image's own", Image: f.image || "–", "Read-only file system": f.readOnlyRootFilesystem ? "yes" : "no", Secrets: f.secrets?.join(", ") || "none", Constraints: f.constraints?.join(", ") || "none" }} /><//>
      <${Card} title="Environment" note="Names only"><${Names} of=${data?.envVars ?? f.envVars} /><//>
      <${Card} title="Limits and requests"><${Definitions} none="No limits." of=${{ ...prefixed("limit: ", f.limits), ...prefixed("request: ", f.requests) }} /><//>
      <${Card} title="Labels"><${Definitions} none="No labels." of=${f.labels} /><//>
      <${Card} title="Annotations"><${Definitions} none="No annotations." of=${f.annotations} /><//>
    </div>`;
}

/** @param {string} prefix @param {object | undefined} of */
const prefixed = (prefix, of) => Object.fromEntries(Object.entries(of ?? {}).map(([name, value]) => [prefix + name, value]));

/** @param {{ of: Record<string, string> | undefined }} props */
const Names = ({ of }) => {
  const names = Object.keys(of ?? {});
  return names.length ? html`<ul class="tags">${names.map((name) => html`<li key=${name} class="tag">${name}</li>`)}</ul>` : html`<p class="muted">None that the provider reports.</p>`;
};

/** @param {{ f: Api.FunctionStatus }} props */
function Scale({ f }) {
  const [wanted, setWanted] = useState(String(f.replicas ?? 0));
  // What somebody else sets shows here, until it is typed over.
  useEffect(() => setWanted(String(f.replicas ?? 0)), [f.replicas]);
  const number = Number(wanted);
  const wrong = wanted === "" || !Number.isInteger(number) || number < 0;
  /** @param {number} replicas */
  const set = async (replicas) => {
    if (replicas === 0) {
      const yes = await confirm({ title: `Stop ${f.name}?`, text: "It is scaled to zero. The next call starts it again where that is switched on.", action: "Scale to zero" });
      if (!yes) return;
    }
    const before = f.replicas ?? 0;
    if (await attempt(() => scale(f, replicas))) notify(`${f.name} is being scaled from ${before} to ${replicas}.`);
  };
  return html`
    <form class="row end" onSubmit=${(/** @type {Event} */ event) => {
      event.preventDefault();
      if (!wrong) set(number);
    }}>
      <div class="field"><label for="replicas">Replicas</label>
        <input id="replicas" type="number" min="0" step="1" value=${wanted} onInput=${(/** @type {any} */ event) => setWanted(event.currentTarget.value)} /></div>
      <button disabled=${wrong}>Scale</button>
      <${Act} disabled=${(f.replicas ?? 0) === 0} onClick=${() => set(0)}>To zero<//>
    </form>
    <p class="muted">${f.availableReplicas ?? 0} of ${f.replicas ?? 0} ready. <a href=${linkTo(f, "scaling")}>Why so many?</a></p>`;
}

/** @param {{ f: Api.FunctionStatus }} props */
function Edit({ f }) {
  // Read anew: lists may leave out what only the function's own page tells.
  const { data, error } = useLoad(() => getFunction(f), [key(f)]);
  if (error) return html`<${Card} title="Edit"><p class="error">${error}</p><//>`;
  if (!data) return html`<${Loading} lines=${6} />`;
  return html`<${Card} title="Edit" note="Replicas are replaced by ones that run what is said here.">
    <${DeploymentForm} start=${deploymentOf(data)} fixed action="Update" submit=${update} done=${() => {
      notify(`${f.name} was updated.`);
      go(linkTo(f));
    }} /><//>`;
}
