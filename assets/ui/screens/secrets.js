// Secrets: names only. Values go in and are never shown, here or anywhere.
import { createSecret, deleteSecret, listSecrets, updateSecret } from "../api.js";
import { confirm, Modal } from "../components/dialog.js";
import { Area, Empty, Failure, Head, Loading, Select, Table, Text, useLoad } from "../components/ui.js";
import { html, useState } from "../html.js";
import { attempt, list, namespaces } from "../state.js";

export function Secrets() {
  const all = namespaces.value ?? [];
  const [namespace, setNamespace] = useState("");
  const [editing, setEditing] = useState(/** @type {{ name: string } | undefined} */ (undefined));
  const { data, error, reload } = useLoad(async () => (await listSecrets(namespace || undefined)) ?? [], [namespace]);
  /** @param {Api.Secret} secret */
  const remove = async ({ name, namespace: of }) => {
    const users = usersOf(name, of);
    const yes = await confirm({
      title: `Delete ${name}?`,
      text: users.length ? `${users.join(", ")} read it and will not start without it.` : "No function that is deployed reads it.",
      action: "Delete it",
    });
    if (yes && (await attempt(() => deleteSecret({ name, namespace: of || namespace || undefined }), `${name} was deleted.`))) reload();
  };
  return html`
    <${Head} title="Secrets" note="What functions read below /var/openfaas/secrets. Values are never shown."
      actions=${html`<button type="button" class="primary" onClick=${() => setEditing({ name: "" })}>New secret</button>`} />
    ${all.length > 1 && html`<div class="toolbar"><${Select} label="Namespace" value=${namespace} onChange=${setNamespace} options=${[["", "Default"], ...all]} /></div>`}
    ${error && html`<${Failure} text=${error} retry=${reload} />`}
    ${!data && !error && html`<${Loading} />`}
    ${data?.length === 0 && html`<${Empty} title="No secret here"><p>Functions name the secrets that they read; keep keys and passwords here.</p><//>`}
    ${data && data.length > 0 && html`
      <${Table} label="Secrets" columns=${[{ text: "Name" }, { text: "Read by" }, { text: "Actions", number: true }]}>
        ${data.map(
          (secret) => html`
          <tr key=${secret.name}>
            <th scope="row">${secret.name}${secret.namespace && all.length > 1 && html` <span class="tag">${secret.namespace}</span>`}</th>
            <td data-label="Read by">${usersOf(secret.name, secret.namespace).join(", ") || html`<span class="muted">no function</span>`}</td>
            <td class="buttons">
              <button type="button" class="small" aria-label=${`Replace ${secret.name}`} onClick=${() => setEditing({ name: secret.name })}>Replace</button>
              <button type="button" class="small danger" aria-label=${`Delete ${secret.name}`} onClick=${() => remove(secret)}>Delete</button>
            </td>
          </tr>`,
        )}
      <//>`}
    ${editing && html`<${Edit} name=${editing.name} namespace=${namespace} close=${(/** @type {boolean} */ changed) => {
      setEditing(undefined);
      if (changed) reload();
    }} />`}`;
}

/** @param {string} name @param {string | undefined} namespace */
const usersOf = (name, namespace) => list.value.filter((f) => f.secrets?.includes(name) && (!namespace || f.namespace === namespace)).map((f) => f.name);

/** @param {{ name: string, namespace: string, close: (changed: boolean) => void }} props */
function Edit({ name: known, namespace, close }) {
  const [name, setName] = useState(known);
  const [value, setValue] = useState("");
  const [raw, setRaw] = useState(/** @type {{ name: string, content: string } | undefined} */ (undefined));
  /** @param {Event} event */
  const send = async (event) => {
    event.preventDefault();
    const secret = { name, namespace: namespace || undefined, ...(raw ? { rawValue: raw.content } : { value }) };
    if (await attempt(() => (known ? updateSecret(secret) : createSecret(secret)), known ? `${name} was replaced.` : `${name} was created.`)) close(true);
  };
  /** @param {any} event */
  const take = async (event) => {
    const [file] = event.currentTarget.files;
    if (!file) return;
    const bytes = new Uint8Array(await file.arrayBuffer());
    setRaw({ name: file.name, content: btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join("")) });
  };
  return html`
    <${Modal} title=${known ? `Replace ${known}` : "New secret"} onClose=${() => close(false)}>
      <form onSubmit=${send}>
        <${Text} label="Name" required readonly=${known !== ""} value=${name} onInput=${setName} pattern="[a-z0-9]([\\-.a-z0-9]*[a-z0-9])?" maxlength=${253} hint="The name of the file that functions read" />
        ${raw
          ? html`<p>The value is the file <strong>${raw.name}</strong>. <button type="button" class="small quiet" onClick=${() => setRaw(undefined)}>Type it instead</button></p>`
          : html`<${Area} label="Value" class="secret" required rows=${3} value=${value} onInput=${setValue} hint="Kept as it is typed, without a newline at the end" />`}
        <label class="button">Take a file <input type="file" class="hidden" onChange=${take} /></label>
        ${known && html`<p class="muted">Replicas that run read it again when they are replaced.</p>`}
        <div class="buttons"><button type="button" onClick=${() => close(false)}>Cancel</button><button class="primary">${known ? "Replace" : "Create"}</button></div>
      </form>
    <//>`;
}
