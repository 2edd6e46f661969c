// What is configured, where each value comes from, what became of the last change, and what another file would change.
import { diffConfig, getConfig, reloadConfig, validateConfig } from "../api.js";
import { Act, Area, Card, Failure, Head, Loading, Status, Table, Tabs, useLoad } from "../components/ui.js";
import { ago, clock, plural } from "../format.js";
import { html, useState } from "../html.js";
import { attempt, configuration, link, message, notify, route } from "../state.js";

export function ConfigurationScreen() {
  const [tab = "status"] = route.value.parts;
  const status = configuration.value;
  const reload = () =>
    attempt(async () => {
      const { result, changed, pending_restart: pending } = await reloadConfig();
      // A change is told by its event, to everybody.
      if (result === "unchanged") notify("The files say what is live already.");
      else if (!changed.length && pending.length) notify("Changes wait for a restart.");
    });
  return html`
    <${Head} title="Configuration" note=${status ? html`<${Outcome} status=${status} />` : " "}
      actions=${html`<${Act} class="primary" onClick=${reload}>Reload<//>`} />
    <${Tabs} label="Configuration" current=${tab} tabs=${[
      { name: "status", text: "Status", href: link("configuration") },
      { name: "values", text: "Values", href: link("configuration", "values") },
      { name: "try", text: "Try a change", href: link("configuration", "try") },
    ]} />
    ${!status ? html`<${Loading} lines=${6} />` : tab === "values" ? html`<${Values} generation=${status.generation} />` : tab === "try" ? html`<${Try} />` : html`<${State} status=${status} />`}`;
}

/** @param {{ status: Api.ConfigStatus }} props */
const Outcome = ({ status }) =>
  status.last_attempt.result === "failed"
    ? html`<${Status} kind="bad">Last change failed<//> Generation ${status.generation} stays live`
    : html`<${Status} kind="good">Live<//> Generation ${status.generation}, read ${ago(status.loaded_at)}`;

/** @param {{ status: Api.ConfigStatus }} props */
function State({ status }) {
  const { last_attempt: last, pending_restart: pending, shadowed_by_env: shadowed } = status;
  return html`
    ${last.errors.length > 0 && html`
      <${Card} title="What is wrong" class="wrong" note=${`Read ${clock(last.at)} because of ${last.trigger}; nothing of it is live.`}>
        <ul class="mistakes">${last.errors.map((error) => html`<li key=${error}><code>${error}</code></li>`)}</ul><//>`}
    ${last.warnings.length > 0 && html`<${Card} title="Permitted but odd"><ul class="warnings">${last.warnings.map((warning) => html`<li key=${warning}>${warning}</li>`)}</ul><//>`}
    <div class="columns">
      <${Card} title="Waiting for a restart">
        ${pending.length ? html`<ul class="tags">${pending.map((key) => html`<li key=${key} class="tag">${key}</li>`)}</ul>` : html`<p class="muted">Nothing: what the files say is what runs.</p>`}<//>
      <${Card} title="Files">
        <ul class="plain">${status.sources.map(({ path, sha256 }) => html`<li key=${path}><code>${path}</code> <span class="muted">${sha256 ? sha256.slice(0, 12) : "could not be read"}</span></li>`)}</ul>
        ${status.sources.length === 0 && html`<p class="muted">None: defaults, variables and the command line.</p>`}
        <p class="muted">${plural(status.live_generations, "generation")} in use · ${status.hash.slice(0, 12)}</p><//>
      ${shadowed.length > 0 && html`<${Card} title="Overridden" note="The file sets these to no effect.">
        <ul class="plain">${shadowed.map(({ key, by }) => html`<li key=${key}><code>${key}</code> by ${by}</li>`)}</ul><//>`}
    </div>
    <${Card} title="History">
      ${status.history.length === 0 ? html`<p class="muted">No change since the start.</p>` : html`
        <${Table} label="History of changes" columns=${[{ text: "When" }, { text: "Outcome" }, { text: "Generation" }, { text: "By" }, { text: "Changed" }]}>
          ${status.history.map(
            (event, index) => html`
            <tr key=${index}>
              <td data-label="When">${clock(event.at)}</td>
              <td data-label="Outcome"><${Status} kind=${event.result === "failed" ? "bad" : "good"}>${event.result}<//></td>
              <td data-label="Generation">${event.from_generation} → ${event.to_generation}</td>
              <td data-label="By">${event.trigger}${event.actors.map(({ user, address }) => ` ${user ?? ""} ${address ?? ""}`).join(",")}</td>
              <td data-label="Changed">${event.errors ? plural(event.errors, "mistake") : event.changed.join(", ") || "nothing that is live"}</td>
            </tr>`,
          )}
        <//>`}
    <//>`;
}

/** @param {{ generation: number }} props */
function Values({ generation }) {
  const [search, setSearch] = useState("");
  const [onlySet, setOnlySet] = useState(false);
  const { data, error, reload } = useLoad(getConfig, [generation]);
  if (!data && error) return html`<${Failure} text=${error} retry=${reload} />`;
  if (!data) return html`<${Loading} lines=${8} />`;
  const words = search.toLowerCase().split(/\s+/).filter(Boolean);
  const isSet = (/** @type {Api.ConfigValue} */ value) => value.source !== undefined && value.source !== "default" && value.source !== "derived";
  const shown = data.values.filter((value) => {
    const text = `${value.key} ${value.value ?? ""} ${value.source ?? ""}`.toLowerCase();
    return (!onlySet || isSet(value)) && words.every((word) => text.includes(word));
  });
  return html`
    <div class="toolbar">
      <div class="field grow"><label for="config-search">Search</label>
        <input id="config-search" type="search" placeholder="Key, value or source" value=${search} onInput=${(/** @type {any} */ event) => setSearch(event.currentTarget.value)} /></div>
      <label class="check"><input type="checkbox" checked=${onlySet} onChange=${(/** @type {any} */ event) => setOnlySet(event.currentTarget.checked)} /> Only what is set</label>
    </div>
    <p class="muted" role="status">${shown.length} of ${plural(data.values.length, "key")}</p>
    <${Table} label="Values" columns=${[{ text: "Key" }, { text: "Value" }, { text: "From" }, { text: "A change is" }]}>
      ${shown.map(
        (value) => html`
        <tr key=${value.key} class=${isSet(value) ? "set" : ""}>
          <th scope="row"><code>${value.key}</code></th>
          <td data-label="Value">${value.value === undefined ? html`<span class="muted">not set</span>` : html`<code>${value.value}</code>`}
            ${isSet(value) && value.default !== undefined && html`<span class="sub">default ${value.default}</span>`}</td>
          <td data-label="From">${value.source ?? "–"}${(value.overridden ?? []).map(({ source, value: other }) => html`<span key=${source} class="sub">over ${source}: ${other}</span>`)}</td>
          <td data-label="A change is">${value.live ? "live" : html`<span class="tag">at a restart</span>`}</td>
        </tr>`,
      )}
    <//>`;
}

function Try() {
  const [text, setText] = useState("");
  const [answer, setAnswer] = useState(/** @type {{ diff?: Api.ConfigDiff, check?: Api.ConfigCheck, mistakes?: string[] } | undefined} */ (undefined));
  /** @param {() => Promise<typeof answer>} ask */
  const asked = async (ask) => {
    setAnswer(undefined);
    try {
      setAnswer(await ask());
    } catch (error) {
      const mistakes = /** @type {{ problem?: Api.Problem }} */ (error).problem?.errors;
      setAnswer({ mistakes: mistakes?.length ? mistakes : [message(error)] });
    }
  };
  return html`
    <${Card} title="Try a change" note="Nothing here goes live: put the file where the gateway reads it, and it does.">
      <${Area} label="Configuration in TOML" rows=${12} value=${text} onInput=${setText} placeholder=${'[invoke]\nupstream_timeout = "30s"'} hint="A whole file: what it does not say becomes the default." />
      <div class="row">
        <${Act} class="primary" onClick=${() => asked(async () => ({ diff: await diffConfig(text) }))}>What would change?<//>
        <${Act} onClick=${() => asked(async () => ({ check: await validateConfig(text) }))}>Validate<//>
      </div>
      <div class="tried" aria-live="polite">
        ${answer?.mistakes && html`<h3><${Status} kind="bad">It could not go live<//></h3><ul class="mistakes">${answer.mistakes.map((text) => html`<li key=${text}><code>${text}</code></li>`)}</ul>`}
        ${answer?.check && html`<h3><${Status} kind="good">It could go live<//></h3>`}
        ${(answer?.check ?? answer?.diff)?.warnings.map((text) => html`<p key=${text} class="warning">${text}</p>`)}
        ${answer?.diff && html`<h3>${answer.diff.changes.length ? plural(answer.diff.changes.length, "key") + " would change" : "Nothing would change"}</h3>`}
        ${answer?.diff && answer.diff.changes.length > 0 && html`
          <${Table} label="Differences" columns=${[{ text: "Key" }, { text: "Live" }, { text: "Candidate" }, { text: "Takes effect" }]}>
            ${answer.diff.changes.map(
              (change) => html`
              <tr key=${change.key}><th scope="row"><code>${change.key}</code></th>
                <td data-label="Live"><del>${change.old ?? "not set"}</del></td><td data-label="Candidate"><ins>${change.new ?? "not set"}</ins></td>
                <td data-label="Takes effect">${change.effect === "live" ? html`<${Status} kind="good">at once<//>` : html`<${Status} kind="busy">at a restart<//>`}</td></tr>`,
            )}
          <//>`}
      </div>
    <//>`;
}
