// The form for everything that a deployment can say, for new functions and for changes.
import { html, useState } from "../html.js";
import { attempt, info, namespaces } from "../state.js";
import { Area, fromPairs, PairsEditor, Select, Text, toPairs } from "./ui.js";

export const NAME = "[a-z0-9]([\\-a-z0-9]*[a-z0-9])?";

const GPUS = /** @type {const} */ (["nvidia.com/gpu", "amd.com/gpu", "intel.com/gpu"]);

/** What the form shows. @param {Partial<Api.FunctionDeployment>} d */
export const toForm = (d) => ({
  service: d.service ?? "",
  image: d.image ?? "",
  namespace: d.namespace ?? "",
  envProcess: d.envProcess ?? "",
  envVars: toPairs(d.envVars),
  labels: toPairs(d.labels),
  annotations: toPairs(d.annotations),
  secrets: (d.secrets ?? []).join("\n"),
  constraints: (d.constraints ?? []).join("\n"),
  limits: /** @type {Record<string, string>} */ ({ ...d.limits }),
  requests: /** @type {Record<string, string>} */ ({ ...d.requests }),
  readOnlyRootFilesystem: d.readOnlyRootFilesystem ?? false,
});

/** @typedef {ReturnType<typeof toForm>} Form */

const lines = (/** @type {string} */ text) => text.split("\n").map((line) => line.trim()).filter(Boolean);

/** @param {Record<string, string>} of @returns {Api.FunctionResources | undefined} */
function resources(of) {
  const entries = Object.entries(of).filter(([, value]) => value.trim());
  return entries.length ? Object.fromEntries(entries.map(([name, value]) => [name, value.trim()])) : undefined;
}

/** What is sent. @param {Form} form @returns {Api.FunctionDeployment} */
export const toDeployment = (form) => ({
  service: form.service.trim(),
  image: form.image.trim() || undefined,
  namespace: form.namespace || undefined,
  envProcess: form.envProcess.trim() || undefined,
  envVars: fromPairs(form.envVars),
  labels: fromPairs(form.labels),
  annotations: fromPairs(form.annotations),
  secrets: lines(form.secrets),
  constraints: lines(form.constraints),
  limits: resources(form.limits),
  requests: resources(form.requests),
  readOnlyRootFilesystem: form.readOnlyRootFilesystem || undefined,
});

/** A function's status as what would deploy it. @param {Api.FunctionStatus} f @returns {Api.FunctionDeployment} */
export const deploymentOf = (f) => ({
  service: f.name,
  image: f.image,
  namespace: f.namespace,
  envProcess: f.envProcess,
  envVars: f.envVars,
  labels: withoutOwn(f.labels),
  annotations: f.annotations,
  secrets: f.secrets,
  constraints: f.constraints,
  limits: f.limits,
  requests: f.requests,
  readOnlyRootFilesystem: f.readOnlyRootFilesystem,
});

/** Without the label that providers add themselves. @param {Record<string, string> | undefined} labels */
function withoutOwn(labels) {
  const { faas_function: _, ...rest } = labels ?? {};
  return rest;
}

/**
 * @param {{ start: Partial<Api.FunctionDeployment>, action: string, fixed?: boolean, submit: (deployment: Api.FunctionDeployment) => Promise<unknown>, done: (deployment: Api.FunctionDeployment) => void }} props
 * `fixed`: name and namespace stay, for the function exists
 */
export function DeploymentForm({ start, action, fixed, submit, done }) {
  const [form, setForm] = useState(() => toForm(start));
  const [busy, setBusy] = useState(false);
  /** @template {keyof Form} K @param {K} name */
  const set = (name) => (/** @type {Form[K]} */ value) => setForm({ ...form, [name]: value });
  const local = info.value?.provider.orchestration === "process";
  const known = namespaces.value ?? [];
  /** @param {Event} event */
  const send = async (event) => {
    event.preventDefault();
    if (busy) return;
    setBusy(true);
    const deployment = toDeployment(form);
    const sent = await attempt(() => submit(deployment));
    setBusy(false);
    if (sent) done(deployment);
  };
  /** @param {"limits" | "requests"} of @param {string} title */
  const resourceFields = (of, title) => html`
    <fieldset><legend>${title}</legend><div class="row">
      ${[["memory", "Memory", "128Mi"], ["cpu", "CPU", "100m"], ...GPUS.map((name) => [name, name, "0"])].map(
        ([name, label, example]) => html`<${Text} key=${name} label=${label} placeholder=${example} value=${form[of][/** @type {string} */ (name)] ?? ""}
          onInput=${(/** @type {string} */ value) => set(of)({ ...form[of], [/** @type {string} */ (name)]: value })} />`,
      )}</div></fieldset>`;
  return html`
    <form class="deployment" onSubmit=${send}>
      <div class="row">
        <${Text} label="Name" class="grow" required value=${form.service} readonly=${fixed} pattern=${NAME} maxlength=${63}
          hint="Lower-case letters, digits and hyphens" onInput=${set("service")} />
        ${known.length > 1 || (form.namespace && !known.includes(form.namespace))
          ? fixed
            ? html`<${Text} label="Namespace" value=${form.namespace} readonly onInput=${() => {}} />`
            : html`<${Select} label="Namespace" value=${form.namespace} options=${[["", "Default"], ...known]} onChange=${set("namespace")} />`
          : null}
      </div>
      <${Text} label="Image" value=${form.image} required=${!local} onInput=${set("image")} placeholder=${local ? "local" : "ghcr.io/openfaas/figlet:latest"}
        hint=${local ? "A name from provider.process.images, or any word where the process below says what runs" : "A container image"} />
      <${Text} label="Process" value=${form.envProcess} onInput=${set("envProcess")} placeholder=${local ? "sha512sum" : "the image's own"}
        hint="The command, quoted as in a shell" />
      <${PairsEditor} label="Environment" pairs=${form.envVars} onChange=${set("envVars")} />
      <div class="columns">
        <${PairsEditor} label="Labels" pairs=${form.labels} onChange=${set("labels")} />
        <${PairsEditor} label="Annotations" pairs=${form.annotations} onChange=${set("annotations")} />
      </div>
      <div class="columns">
        <${Area} label="Secrets" hint="Names, one a line" rows=${2} value=${form.secrets} onInput=${set("secrets")} />
        <${Area} label="Constraints" hint="One a line; for providers that place" rows=${2} value=${form.constraints} onInput=${set("constraints")} />
      </div>
      ${resourceFields("limits", "Limits")}
      ${resourceFields("requests", "Requests")}
      <label class="check"><input type="checkbox" checked=${form.readOnlyRootFilesystem}
        onChange=${(/** @type {any} */ event) => set("readOnlyRootFilesystem")(event.currentTarget.checked)} /> Read-only file system</label>
      <div class="buttons"><button class="primary" aria-busy=${busy ? "true" : undefined}>${action}</button></div>
    </form>`;
}
