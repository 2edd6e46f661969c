// The page itself: navigation, the screen that the address names, notices, and who is signed in.
import { Questions } from "./components/dialog.js";
import { Failure, Loading, Status } from "./components/ui.js";
import { credentials } from "./api.js";
import { html, render, useEffect, useRef, useState } from "./html.js";
import { Functions } from "./screens/functions.js";
import { SignIn } from "./screens/signin.js";
import { configuration, connection, dismiss, info, link, notices, refusal, retry, route, session, signOut, start, theme } from "./state.js";

/**
 * Screens by the first part of the address. All but the first are fetched when they are asked for.
 * @type {Record<string, { text: string, of?: string, load: () => Promise<any> }>}
 */
const SCREENS = {
  functions: { text: "Functions", load: async () => Functions },
  function: { text: "Function", of: "functions", load: () => import("./screens/function.js").then((module) => module.OneFunction) },
  deploy: { text: "Deploy", load: () => import("./screens/deploy.js").then((module) => module.Deploy) },
  async: { text: "Async calls", load: () => import("./screens/async.js").then((module) => module.Async) },
  secrets: { text: "Secrets", load: () => import("./screens/secrets.js").then((module) => module.Secrets) },
  namespaces: { text: "Namespaces", load: () => import("./screens/namespaces.js").then((module) => module.Namespaces) },
  configuration: { text: "Configuration", load: () => import("./screens/configuration.js").then((module) => module.ConfigurationScreen) },
  about: { text: "About", load: () => import("./screens/about.js").then((module) => module.About) },
};

function App() {
  if (session.value === "starting") return html`<main class="alone" id="main"><${Loading} lines=${4} /></main>`;
  if (session.value === "unreachable") {
    return html`<main class="alone" id="main"><h1 tabindex="-1">faas-gateway</h1><${Failure} text=${refusal.value} retry=${start} /></main>`;
  }
  if (session.value === "signedOut") return html`<${SignIn} />`;
  return html`
    <a class="skip" href="#main" onClick=${skip}>Skip to the content</a>
    <${Side} />
    <div class="page">
      <${Connection} />
      <main id="main"><${Screen} key=${route.value.screen} /></main>
    </div>
    <${Notices} />
    <${Questions} />`;
}

/** The address names the screen, so that the link must not change it. @param {Event} event */
function skip(event) {
  event.preventDefault();
  /** @type {HTMLElement | null} */ (document.querySelector("main h1"))?.focus();
}

function Screen() {
  const { screen, parts } = route.value;
  const known = SCREENS[screen];
  const [loaded, setLoaded] = useState(/** @type {{ show?: any, failed?: string }} */ ({ show: screen === "functions" ? Functions : undefined }));
  const place = [screen, ...parts].join("/");
  const first = useRef(true);
  useEffect(() => {
    known?.load().then(
      (show) => setLoaded({ show }),
      () => setLoaded({ failed: "This part of the page could not be fetched." }),
    );
  }, []);
  useEffect(() => {
    const name = screen === "function" ? parts[1] : (known?.text ?? "Not found");
    document.title = `${name} · faas-gateway`;
    if (!loaded.show) return;
    // Whoever follows a link is at the top of what it leads to; but not when the page has just been opened.
    if (moved) {
      scrollTo(0, 0);
      if (first.current) /** @type {HTMLElement | null} */ (document.querySelector("main h1"))?.focus({ preventScroll: true });
    }
    first.current = false;
    moved = true;
  }, [place, loaded.show]);
  if (!known) return html`<h1 tabindex="-1">Not found</h1><p>There is no such page. <a href=${link("functions")}>All functions</a></p>`;
  if (loaded.failed) return html`<${Failure} text=${loaded.failed} retry=${() => location.reload()} />`;
  return loaded.show ? html`<${loaded.show} />` : html`<${Loading} lines=${6} />`;
}
let moved = false;

function Side() {
  const [open, setOpen] = useState(false);
  const current = SCREENS[route.value.screen]?.of ?? route.value.screen;
  const pending = configuration.value?.last_attempt.result === "failed";
  // What was chosen is what one wants to see, not the menu.
  useEffect(() => setOpen(false), [route.value]);
  return html`
    <header class="side ${open ? "open" : ""}">
      <a class="brand" href=${link("functions")}><${Logo} /><span>faas-gateway</span></a>
      <button type="button" class="menu" aria-expanded=${open ? "true" : "false"} aria-controls="nav" onClick=${() => setOpen(!open)}>Menu</button>
      <div class="drawer" id="nav">
        <nav aria-label="Main"><ul>
          ${Object.entries(SCREENS)
            .filter(([, { of }]) => !of)
            .map(
              ([name, { text }]) => html`
              <li key=${name}><a href=${link(name)} aria-current=${name === current ? "page" : undefined}>${text}
                ${name === "configuration" && pending && html`<span class="badge">failed</span>`}</a></li>`,
            )}
        </ul></nav>
        <div class="foot">
          <${Live} />
          <label class="theme"><span>Colours</span>
            <select value=${theme.value} onChange=${(/** @type {any} */ event) => (theme.value = event.currentTarget.value)}>
              ${[["system", "As the system"], ["light", "Light"], ["dark", "Dark"]].map(([of, text]) => html`<option key=${of} value=${of} selected=${of === theme.value}>${text}</option>`)}
            </select></label>
          ${credentials.known && html`<button type="button" class="onink" onClick=${signOut}>Sign out</button>`}
          <p class="versions">${info.value?.version.release ?? ""} · ${info.value?.provider.provider || "provider not reachable"}</p>
        </div>
      </div>
    </header>`;
}

const Logo = () => html`
  <svg viewBox="0 0 32 32" aria-hidden="true" class="logo"><path d="M4 28V15a12 12 0 0 1 24 0v13h-6V15a6 6 0 0 0-12 0v13z" /><circle cx="16" cy="24" r="4" /></svg>`;

function Live() {
  const { state } = connection.value;
  /** @type {Record<string, ["good" | "busy" | "bad", string]>} */
  const texts = { live: ["good", "Live"], connecting: ["busy", "Connecting"], waiting: ["bad", "Not connected"], off: ["busy", "Connecting"] };
  const [kind, text] = texts[state] ?? ["busy", state];
  return html`<div class="live-state" role="status"><${Status} kind=${kind}>${text}<//></div>`;
}

/** Says that what is shown may be old. */
function Connection() {
  const { state, error } = connection.value;
  if (state !== "waiting") return null;
  return html`
    <div class="banner" role="status"><p><strong>Not connected.</strong> What is shown may be old; trying again. ${error ?? ""}</p>
      <button type="button" class="small" onClick=${retry}>Try now</button></div>`;
}

function Notices() {
  return html`
    <div class="notices" role="region" aria-label="Notices">
      <div aria-live="polite">${notices.value.filter(({ kind }) => kind === "done").map(one)}</div>
      <div aria-live="assertive">${notices.value.filter(({ kind }) => kind === "failed").map(one)}</div>
    </div>`;
}

/** @param {import("./state.js").Notice} notice */
const one = ({ id, kind, text }) => html`
  <div key=${id} class="notice ${kind}"><${Status} kind=${kind === "done" ? "good" : "bad"}><span class="hidden">${kind === "done" ? "Done" : "Failed"}</span><//><p>${text}</p>
    <button type="button" class="small quiet" aria-label="Close the notice" onClick=${() => dismiss(id)}>Close</button></div>`;

render(html`<${App} />`, /** @type {HTMLElement} */ (document.getElementById("app")));
start();
