// Versions, health, and where to read more.
import { base, getHealth, getInfo } from "../api.js";
import { Card, Failure, Head, Status, useLoad } from "../components/ui.js";
import { html } from "../html.js";
import { connection, functions } from "../state.js";

export function About() {
  const info = useLoad(getInfo, []);
  const health = useLoad(async () => {
    try {
      await getHealth();
      return "";
    } catch (error) {
      return error instanceof Error ? error.message : String(error);
    }
  }, [connection.value.state]);
  /** @param {Api.VersionInfo | undefined} version */
  const versionOf = (version) => html`<dl class="definitions">
    <div><dt>Release</dt><dd>${version?.release || "–"}</dd></div><div><dt>Commit</dt><dd><code>${version?.sha?.slice(0, 12) || "–"}</code> ${version?.commit_message ?? ""}</dd></div></dl>`;
  return html`
    <${Head} title="About" note="This gateway and what it stands on" />
    ${info.error && html`<${Failure} text=${info.error} retry=${info.reload} />`}
    <div class="columns">
      <${Card} title="Health">
        <p>${health.data === undefined ? html`<${Status} kind="busy">Asking …<//>` : health.data === "" ? html`<${Status} kind="good">The provider answers<//>` : html`<${Status} kind="bad">${health.data}<//>`}</p>
        <p class="muted">Events: ${connection.value.state}. Functions known: ${functions.value?.size ?? 0}.</p>
        <button type="button" class="small" onClick=${health.reload}>Ask again</button><//>
      <${Card} title="Gateway">${versionOf(info.data?.version)}<p class="muted">${info.data?.arch ?? ""}</p><//>
      <${Card} title="Provider"><dl class="definitions">
          <div><dt>Name</dt><dd>${info.data?.provider.provider || "not reachable"}</dd></div>
          <div><dt>Builds on</dt><dd>${info.data?.provider.orchestration || "–"}</dd></div>
          ${info.data?.provider.limits && html`<div><dt>Limits</dt><dd>${info.data.provider.limits}</dd></div>`}</dl>
        ${versionOf(info.data?.provider.version)}<//>
      <${Card} title="Read more"><ul class="plain">
        ${[["docs", "API reference, to try out"], ["docs/redoc", "API reference, to read"], ["openapi.json", "OpenAPI document"], ["openapi.yaml", "OpenAPI document in YAML"]].map(
          ([path = "", text]) => html`<li key=${path}><a href=${new URL(path, base).href}>${text}</a></li>`,
        )}
        <li><a href="vendor/README.md">What this page is made of</a></li></ul><//>
    </div>`;
}
