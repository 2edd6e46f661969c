// Namespaces with their labels and annotations.
import { createNamespace, deleteNamespace, getNamespace, listNamespaces, updateNamespace } from "../api.js";
import { confirm, Modal } from "../components/dialog.js";
import { Empty, Failure, fromPairs, Head, Loading, PairsEditor, Table, Text, toPairs, useLoad } from "../components/ui.js";
import { count } from "../format.js";
import { html, useState } from "../html.js";
import { attempt, list, refreshNamespaces } from "../state.js";

export function Namespaces() {
  const [editing, setEditing] = useState(/** @type {Partial<Api.FunctionNamespace> | undefined} */ (undefined));
  const { data, error, reload } = useLoad(async () => {
    const names = (await listNamespaces()) ?? [];
    // One that cannot be read, as with providers that only list them, still has its name.
    return Promise.all(names.map((name) => getNamespace(name).catch(() => ({ name, labels: undefined, annotations: undefined }))));
  }, []);
  const changed = () => {
    reload();
    refreshNamespaces();
  };
  /** @param {string} name */
  const remove = async (name) => {
    const inside = list.value.filter((f) => f.namespace === name).length;
    const yes = await confirm({
      title: `Delete the namespace ${name}?`,
      text: inside ? `${count(inside)} functions are in it; they go with it where the provider permits that.` : "No function is in it.",
      action: "Delete it",
      type: name,
    });
    if (yes && (await attempt(() => deleteNamespace(name), `${name} was deleted.`))) changed();
  };
  return html`
    <${Head} title="Namespaces" note="Functions and secrets of one do not see those of another."
      actions=${html`<button type="button" class="primary" onClick=${() => setEditing({})}>New namespace</button>`} />
    ${error && html`<${Failure} text=${error} retry=${reload} />`}
    ${!data && !error && html`<${Loading} />`}
    ${data?.length === 0 && html`<${Empty} title="No namespaces"><p>This provider has none.</p><//>`}
    ${data && data.length > 0 && html`
      <${Table} label="Namespaces" columns=${[{ text: "Name" }, { text: "Functions", number: true }, { text: "Labels" }, { text: "Annotations" }, { text: "Actions", number: true }]}>
        ${data.map((one) => {
          const name = one.name ?? "";
          return html`
          <tr key=${name}>
            <th scope="row">${name}</th>
            <td class="number" data-label="Functions">${count(list.value.filter((f) => f.namespace === name).length)}</td>
            <td data-label="Labels"><${Tags} of=${one.labels} /></td>
            <td data-label="Annotations"><${Tags} of=${one.annotations} /></td>
            <td class="buttons">
              <button type="button" class="small" aria-label=${`Edit ${name}`} onClick=${() => setEditing(one)}>Edit</button>
              <button type="button" class="small danger" aria-label=${`Delete ${name}`} onClick=${() => remove(name)}>Delete</button>
            </td>
          </tr>`;
        })}
      <//>`}
    ${editing && html`<${Edit} start=${editing} close=${(/** @type {boolean} */ done) => {
      setEditing(undefined);
      if (done) changed();
    }} />`}`;
}

/** @param {{ of: Record<string, string> | undefined }} props */
const Tags = ({ of }) => {
  const entries = Object.entries(of ?? {});
  return entries.length ? entries.map(([name, value]) => html`<span key=${name} class="tag">${name}=${value}</span> `) : html`<span class="muted">none</span>`;
};

/** @param {{ start: Partial<Api.FunctionNamespace>, close: (done: boolean) => void }} props */
function Edit({ start, close }) {
  const known = start.name !== undefined;
  const [name, setName] = useState(start.name ?? "");
  const [labels, setLabels] = useState(toPairs(start.labels));
  const [annotations, setAnnotations] = useState(toPairs(start.annotations));
  /** @param {Event} event */
  const send = async (event) => {
    event.preventDefault();
    const body = { name, labels: fromPairs(labels), annotations: fromPairs(annotations) };
    if (await attempt(() => (known ? updateNamespace(name, body) : createNamespace(body)), known ? `${name} was changed.` : `${name} was created.`)) close(true);
  };
  return html`
    <${Modal} title=${known ? `Edit ${name}` : "New namespace"} onClose=${() => close(false)}>
      <form onSubmit=${send}>
        <${Text} label="Name" required readonly=${known} value=${name} onInput=${setName} pattern="[a-z0-9]([\\-a-z0-9]*[a-z0-9])?" maxlength=${63} />
        <${PairsEditor} label="Labels" pairs=${labels} onChange=${setLabels} />
        <${PairsEditor} label="Annotations" pairs=${annotations} onChange=${setAnnotations} />
        <div class="buttons"><button type="button" onClick=${() => close(false)}>Cancel</button><button class="primary">${known ? "Save" : "Create"}</button></div>
      </form>
    <//>`;
}
