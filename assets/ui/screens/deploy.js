// A new function: from a store, by a form, or from a stack.yaml as faas-cli has it.
import { deploy, listStore, update } from "../api.js";
import { confirm, Modal } from "../components/dialog.js";
import { DeploymentForm, toForm, toDeployment } from "../components/deployment.js";
import { fromStack } from "../components/stack.js";
import { Act, Area, Card, Empty, Failure, Head, Loading, Select, Status, Tabs, Text, useLoad } from "../components/ui.js";
import { ago, plural } from "../format.js";
import { html, useEffect, useState } from "../html.js";
import { attempt, functions, go, key, link, linkTo, message, namespaces, notify, route } from "../state.js";

/**
 * What stands between backticks, as code.
 * @param {string} text
 */
const withCode = (text) => text.split("`").map((part, index) => (index % 2 ? html`<code>${part}</code>` : part));

export function Deploy() {
  const [tab = "store"] = route.value.parts;
  return html`
    <${Head} title="Deploy" note="A function from a store, of your own, or from a file" />
    <${Tabs} label="Ways to deploy" current=${tab} tabs=${[
      { name: "store", text: "From a store", href: link("deploy") },
      { name: "custom", text: "Custom", href: link("deploy", "custom") },
      { name: "stack", text: "From stack.yaml", href: link("deploy", "stack") },
    ]} />
    ${tab === "store" && html`<${Store} />`}
    ${tab === "custom" && html`<${Card} title="Custom function"><${DeploymentForm} start=${{}} action="Deploy" submit=${deploy} done=${deployed} /><//>`}
    ${tab === "stack" && html`<${Stack} />`}`;
}

/** @param {Api.FunctionDeployment} deployment */
function deployed(deployment) {
  notify(`${deployment.service} is being deployed.`);
  go(linkTo(refOf(deployment)));
}

/** Where a deployment ends up: without a namespace in the provider's default. @param {Api.FunctionDeployment} d */
function refOf({ service, namespace }) {
  const all = namespaces.value ?? [];
  const usual = all.includes("openfaas-fn") ? "openfaas-fn" : (all[0] ?? "");
  return { name: service, namespace: namespace || usual };
}

const ARCHITECTURES = ["", "x86_64", "arm64", "armhf"];

function Store() {
  const [store, setStore] = useState("");
  const [search, setSearch] = useState("");
  const [architecture, setArchitecture] = useState("");
  const [chosen, setChosen] = useState(/** @type {Api.StoreFunction | undefined} */ (undefined));
  // All at once: searching is quicker here than a request for each letter.
  const { data, error, busy, reload } = useLoad(() => listStore({ architecture }), [architecture]);
  if (!data && error) return html`<${Failure} text=${error} retry=${reload} />`;
  if (!data) return html`<${Loading} lines=${6} />`;
  const words = search.toLowerCase().split(/\s+/).filter(Boolean);
  const shown = data.functions.filter((f) => {
    const text = `${f.title} ${f.name} ${f.description}`.toLowerCase();
    return (!store || f.store === store) && words.every((word) => text.includes(word));
  });
  return html`
    <div class="toolbar">
      <div class="field grow"><label for="store-search">Search</label>
        <input id="store-search" type="search" placeholder="Title, name or description" value=${search} onInput=${(/** @type {any} */ event) => setSearch(event.currentTarget.value)} /></div>
      ${data.stores.length > 1 && html`<${Select} label="Store" value=${store} onChange=${setStore} options=${[["", "All stores"], ...data.stores.map((one) => one.name)]} />`}
      <${Select} label="Architecture" value=${architecture} onChange=${setArchitecture} options=${ARCHITECTURES.map((name) => [name, name || "This machine's"])} />
      <button type="button" onClick=${reload} aria-busy=${busy ? "true" : undefined}>Refresh</button>
    </div>
    <ul class="stores">${data.stores.map(
      (one) => html`
      <li key=${one.name}><strong>${one.name}</strong> <${Status} kind=${one.state === "fresh" ? "good" : one.state === "pending" ? "busy" : one.state === "stale" ? "info" : "bad"}>${one.state}<//>
        <span class="muted">${plural(one.functions, "function")}${one.fetchedAt ? `, read ${ago(one.fetchedAt)}` : ""}</span>
        ${one.error && html`<span class="error">${one.error}</span>`}
        ${one.refused && one.refused.length > 0 && html`<details><summary>${plural(one.refused.length, "entry", "entries")} left out</summary>
          <ul>${one.refused.map(({ entry, reason }) => html`<li key=${entry}>${entry}: ${reason}</li>`)}</ul></details>`}</li>`,
    )}</ul>
    <p class="hidden" role="status">${plural(shown.length, "function")} found</p>
    ${shown.length === 0 && html`<${Empty} title="Nothing found"><p>No function of the stores matches.</p><//>`}
    <ul class="shelf">${shown.map(
      (f) => html`
      <li key=${`${f.store}/${f.name}`} class="card">
        <div class="avatar" aria-hidden="true">${f.title.slice(0, 1).toUpperCase()}</div>
        <h2>${f.title}</h2>
        <p class="muted">${f.name} · ${f.store}${f.author ? ` · ${f.author}` : ""}</p>
        <p>${withCode(f.description)}</p>
        ${f.requires && f.requires.length > 0 && html`<p class="muted">Needs ${f.requires.join(", ")}</p>`}
        <div class="row middle">
          ${f.deployable
            ? html`<button type="button" class="primary" aria-label=${`Deploy ${f.title}`} onClick=${() => setChosen(f)}>Deploy</button>`
            : html`<${Status} kind="idle">Not here: ${f.reason ?? "no image for this architecture"}<//>`}
          ${f.repo_url && html`<a href=${f.repo_url} rel="noreferrer" target="_blank" aria-label=${`Source of ${f.title}`}>Source</a>`}
        </div>
      </li>`,
    )}</ul>
    ${chosen && html`<${FromStore} f=${chosen} close=${() => setChosen(undefined)} />`}`;
}

/** @param {Api.StoreFunction} f @returns {Api.FunctionDeployment} */
export const deploymentFromStore = (f) => ({
  service: f.name,
  image: f.image,
  envProcess: f.fprocess,
  envVars: f.environment,
  labels: f.labels,
  annotations: f.annotations,
  secrets: f.secrets,
  readOnlyRootFilesystem: f.readOnlyRootFilesystem,
});

/** @param {{ f: Api.StoreFunction, close: () => void }} props */
function FromStore({ f, close }) {
  const start = deploymentFromStore(f);
  const [name, setName] = useState(f.name);
  const [namespace, setNamespace] = useState("");
  const all = namespaces.value ?? [];
  const deployment = { ...start, service: name, namespace: namespace || undefined };
  const taken = functions.value?.has(key(refOf(deployment)));
  /** @param {Event} event */
  const send = async (event) => {
    event.preventDefault();
    if (!(await attempt(() => (taken ? update(deployment) : deploy(deployment))))) return;
    close();
    deployed(deployment);
  };
  return html`
    <${Modal} title=${`Deploy ${f.title}`} onClose=${close}>
      <form onSubmit=${send}>
        <p>${withCode(f.description)}</p>
        <${Text} label="Name" required value=${name} onInput=${setName} pattern="[a-z0-9]([\\-a-z0-9]*[a-z0-9])?" maxlength=${63}
          hint=${taken ? "There is one of this name: it would be replaced." : undefined} />
        ${all.length > 1 && html`<${Select} label="Namespace" value=${namespace} onChange=${setNamespace} options=${[["", "Default"], ...all]} />`}
        <p class="muted"><code>${f.image}</code></p>
        ${f.secrets && f.secrets.length > 0 && html`<p>It reads these secrets, which must exist: ${f.secrets.join(", ")}. <a href=${link("secrets")}>Secrets</a></p>`}
        <div class="buttons"><button type="button" onClick=${close}>Cancel</button><button class="primary">${taken ? "Replace it" : "Deploy"}</button></div>
      </form>
    <//>`;
}

const EXAMPLE = `functions:
  shout:
    image: local
    fprocess: tr a-z A-Z
    environment:
      content_type: text/plain
`;

function Stack() {
  const [text, setText] = useState("");
  const [found, setFound] = useState(/** @type {Api.FunctionDeployment[]} */ ([]));
  const [error, setError] = useState("");
  const [warnings, setWarnings] = useState(/** @type {string[]} */ ([]));
  useEffect(() => {
    let current = true;
    if (!text.trim()) {
      setFound([]);
      setWarnings([]);
      setError("");
      return;
    }
    fromStack(text).then(
      (got) => {
        if (!current) return;
        setFound(got.deployments);
        setWarnings(got.warnings);
        setError("");
      },
      (thrown) => {
        if (!current) return;
        setFound([]);
        setWarnings([]);
        setError(message(thrown));
      },
    );
    return () => {
      current = false;
    };
  }, [text]);
  const all = async () => {
    const replaced = found.filter((one) => functions.value?.has(key(refOf(one))));
    if (replaced.length) {
      const yes = await confirm({ title: "Replace what is there?", text: `${replaced.map((one) => one.service).join(", ")}: already deployed, and replaced by what the file says.`, action: "Replace" });
      if (!yes) return;
    }
    let done = 0;
    for (const one of found) {
      const sent = await attempt(() => (functions.value?.has(key(refOf(one))) ? update(one) : deploy(one)));
      if (!sent) break;
      done += 1;
    }
    if (done === 1 && found[0]) deployed(found[0]);
    else if (done) {
      notify(`${plural(done, "function")} of ${found.length} being deployed.`);
      go(link("functions"));
    }
  };
  return html`
    <${Card} title="From stack.yaml" note="YAML or JSON: a whole stack.yaml, or one deployment as the API takes it">
      <${Area} label="File" rows=${14} value=${text} onInput=${setText} placeholder=${EXAMPLE} error=${error} />
      <div class="row middle">
        <label class="button">Open a file <input type="file" class="hidden" accept=".yml,.yaml,.json" onChange=${async (/** @type {any} */ event) => {
          const [file] = event.currentTarget.files;
          if (file) setText(await file.text());
        }} /></label>
        ${!text && html`<button type="button" class="quiet" onClick=${() => setText(EXAMPLE)}>Use an example</button>`}
      </div>
      ${warnings.length > 0 && html`<ul class="warnings">${warnings.map((warning) => html`<li key=${warning}>${warning}</li>`)}</ul>`}
      <div aria-live="polite">
        ${found.length > 0 && html`<h3>${plural(found.length, "function")}</h3>
          <ul class="found">${found.map((one) => html`<li key=${one.service}><strong>${one.service}</strong> <span class="muted">${one.envProcess ?? ""} ${one.image ?? ""}</span>
            ${functions.value?.has(key(refOf(one))) && html`<${Status} kind="info">replaces one<//>`}
            <details><summary>As it is sent</summary><pre tabindex="0" aria-label=${`Deployment of ${one.service}`}>${JSON.stringify(toDeployment(toForm(one)), null, 2)}</pre></details></li>`)}</ul>
          <${Act} class="primary" onClick=${all}>Deploy ${plural(found.length, "function")}<//>`}
      </div>
    <//>`;
}
