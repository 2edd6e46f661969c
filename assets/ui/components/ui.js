// Small pieces that every screen uses.
import { html, useEffect, useId, useLayoutEffect, useRef, useState } from "../html.js";
import { message } from "../state.js";

/**
 * What `load` answers, again whenever one of `reasons` changes. What was there stays until the new answer has come.
 * @template T
 * @param {() => Promise<T>} load @param {unknown[]} reasons
 */
export function useLoad(load, reasons) {
  const [state, setState] = useState(/** @type {{ data?: T, error?: string, busy: boolean }} */ ({ busy: true }));
  const [again, setAgain] = useState(0);
  useEffect(() => {
    let current = true;
    setState((before) => ({ ...before, busy: true }));
    load().then(
      (data) => current && setState({ data, busy: false }),
      (error) => current && setState((before) => ({ ...before, error: message(error), busy: false })),
    );
    return () => {
      current = false;
    };
  }, [...reasons, again]);
  return { ...state, reload: () => setAgain((number) => number + 1) };
}

const SHAPES = {
  good: "M3 8.5l3.2 3.2L13 5",
  busy: "M8 3v5l3.5 2",
  bad: "M4 4l8 8M12 4l-8 8",
  idle: "M4 8h8",
  info: "M8 7v5M8 4v.5",
};

/** A state in colour, shape and words. @param {{ kind: keyof typeof SHAPES, children?: any }} props */
export const Status = ({ kind, children }) => html`
  <span class="status ${kind}">
    <svg viewBox="0 0 16 16" aria-hidden="true"><path d=${SHAPES[kind]} /></svg>${children}
  </span>`;

/** The state of a function. @param {Api.FunctionStatus} f @returns {[keyof typeof SHAPES, string]} */
export function stateOf(f) {
  const wanted = f.replicas ?? 0;
  const ready = f.availableReplicas ?? 0;
  if (wanted === 0 && ready === 0) return ["idle", "Scaled to zero"];
  if (ready === 0) return ["bad", "Not ready"];
  if (ready < wanted) return ["busy", "Starting"];
  if (ready > wanted) return ["busy", "Stopping"];
  return ["good", "Ready"];
}

/** @param {{ f: Api.FunctionStatus }} props */
export const FunctionState = ({ f }) => {
  const [kind, text] = stateOf(f);
  return html`<${Status} kind=${kind}>${text}<//>`;
};

/** @param {{ lines?: number }} props */
export const Loading = ({ lines = 3 }) => html`
  <div class="skeleton" role="status">
    <span class="hidden">Loading …</span>
    ${Array.from({ length: lines }, (_, line) => html`<span key=${line} class="bone"></span>`)}
  </div>`;

/** What could not be had, and a way to try again. @param {{ text: string, retry?: () => void }} props */
export const Failure = ({ text, retry }) => html`
  <div class="failure" role="alert">
    <p>${text}</p>
    ${retry && html`<button type="button" onClick=${retry}>Try again</button>`}
  </div>`;

/** @param {{ title: string, children?: any }} props */
export const Empty = ({ title, children }) => html`
  <div class="empty"><h2>${title}</h2>${children}</div>`;

/** @param {{ title: string, note?: any, actions?: any, class?: string, children?: any }} props */
export function Card({ title, note, actions, children, ...rest }) {
  const id = useId();
  return html`
    <section class="card ${rest.class ?? ""}" aria-labelledby=${id}>
      <header><h2 id=${id}>${title}</h2>${note && html`<p class="muted">${note}</p>`}${actions && html`<div class="actions">${actions}</div>`}</header>
      ${children}
    </section>`;
}

/** The head of a screen. @param {{ title: any, note?: any, actions?: any }} props */
export const Head = ({ title, note, actions }) => html`
  <header class="head">
    <div><h1 tabindex="-1">${title}</h1>${note && html`<p class="muted">${note}</p>`}</div>
    ${actions && html`<div class="actions">${actions}</div>`}
  </header>`;

/** A button that is off while what it started runs. @param {{ onClick: () => unknown, children?: any, class?: string, disabled?: boolean, label?: string, type?: string }} props */
export function Act({ onClick, children, disabled, label, ...rest }) {
  const [busy, setBusy] = useState(false);
  const click = async () => {
    if (busy) return;
    setBusy(true);
    try {
      await onClick();
    } finally {
      setBusy(false);
    }
  };
  // Not `disabled` while busy: the keyboard focus would be lost.
  return html`<button type="button" class=${rest.class} disabled=${disabled} aria-busy=${busy ? "true" : undefined} aria-label=${label} onClick=${click}>${children}</button>`;
}

/** @param {{ text: string, label: string }} props */
export function Copy({ text, label }) {
  const [said, setSaid] = useState("");
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      setSaid("Copied");
    } catch {
      // Without HTTPS browsers may refuse; the text can be selected.
      setSaid("Select and copy it");
    }
    setTimeout(() => setSaid(""), 2000);
  };
  return html`<button type="button" class="small quiet" aria-label=${`Copy ${label}`} onClick=${copy}>
    <span aria-live="polite">${said || "Copy"}</span></button>`;
}

/** Text to copy. @param {{ label: string, text: string }} props */
export const Copyable = ({ label, text }) => html`
  <div class="copyable"><code tabindex="0" role="region" aria-label=${label}>${text}</code><${Copy} text=${text} label=${label} /></div>`;

/**
 * A labelled control; `control` gets the attributes that tie them together.
 * @param {{ label: any, hint?: any, error?: string, class?: string, control: (attributes: Record<string, string | undefined>) => any }} props
 */
export function Field({ label, hint, error, control, ...rest }) {
  const id = useId();
  const described = [hint && `${id}-hint`, error && `${id}-error`].filter(Boolean).join(" ");
  return html`
    <div class="field ${rest.class ?? ""}">
      <label for=${id}>${label}</label>
      ${control({ id, "aria-describedby": described || undefined, "aria-invalid": error ? "true" : undefined })}
      ${hint && html`<p class="hint" id=${`${id}-hint`}>${hint}</p>`}
      ${error && html`<p class="error" id=${`${id}-error`}>${error}</p>`}
    </div>`;
}

/**
 * A line of text.
 * @param {{ label: any, value: string, onInput: (value: string) => void, hint?: any, error?: string, class?: string, type?: string,
 *   required?: boolean, placeholder?: string, pattern?: string, list?: string, min?: number, autocomplete?: string, readonly?: boolean, maxlength?: number }} props
 */
export const Text = ({ label, value, onInput, hint, error, type = "text", class: of, ...rest }) => html`
  <${Field} label=${label} hint=${hint} error=${error} class=${of} control=${(/** @type {any} */ tied) => html`
    <input ...${tied} type=${type} value=${value} spellcheck="false" autocomplete="off" ...${rest}
      onInput=${(/** @type {any} */ event) => onInput(event.currentTarget.value)} />`} />`;

/** @param {{ label: any, value: string, onInput: (value: string) => void, hint?: any, error?: string, class?: string, rows?: number, placeholder?: string, required?: boolean }} props */
export const Area = ({ label, value, onInput, hint, error, rows = 4, class: of, ...rest }) => html`
  <${Field} label=${label} hint=${hint} error=${error} class=${of} control=${(/** @type {any} */ tied) => html`
    <textarea ...${tied} rows=${rows} spellcheck="false" ...${rest} value=${value}
      onInput=${(/** @type {any} */ event) => onInput(event.currentTarget.value)}></textarea>`} />`;

/** @param {{ label: any, value: string, onChange: (value: string) => void, options: (string | [string, string])[], hint?: any, class?: string }} props */
export const Select = ({ label, value, onChange, options, hint, class: of }) => html`
  <${Field} label=${label} hint=${hint} class=${of} control=${(/** @type {any} */ tied) => html`
    <select ...${tied} value=${value} onChange=${(/** @type {any} */ event) => onChange(event.currentTarget.value)}>
      ${options.map((option) => {
        const [of, text] = typeof option === "string" ? [option, option] : option;
        return html`<option key=${of} value=${of} selected=${of === value}>${text}</option>`;
      })}
    </select>`} />`;

/** @typedef {[string, string][]} Pairs */

/**
 * Names with values, as many as are needed.
 * @param {{ label: string, pairs: Pairs, onChange: (pairs: Pairs) => void, name?: string, value?: string }} props
 */
export function PairsEditor({ label, pairs, onChange, name = "Name", value = "Value" }) {
  const box = useRef(/** @type {HTMLFieldSetElement | null} */ (null));
  // What gets the focus when the rows are drawn anew: not a moment later, when somebody types already.
  const next = useRef("");
  useLayoutEffect(() => {
    if (next.current) /** @type {HTMLElement | null | undefined} */ (box.current?.querySelector(next.current))?.focus();
    next.current = "";
  }, [pairs.length]);
  /** @param {number} row @param {number} side @param {string} text */
  const set = (row, side, text) =>
    onChange(pairs.map((pair, index) => (index === row ? /** @type {[string, string]} */ (side ? [pair[0], text] : [text, pair[1]]) : pair)));
  const add = () => {
    next.current = ".pair:last-of-type input";
    onChange([...pairs, ["", ""]]);
  };
  /** @param {number} row */
  const remove = (row) => {
    next.current = "button.add";
    onChange(pairs.filter((_, index) => index !== row));
  };
  return html`
    <fieldset class="pairs" ref=${box}>
      <legend>${label}</legend>
      ${pairs.map(
        ([left, right], row) => html`
        <div class="pair" key=${row}>
          <input aria-label=${`${label}: ${name} ${row + 1}`} placeholder=${name} value=${left} spellcheck="false" autocomplete="off"
            onInput=${(/** @type {any} */ event) => set(row, 0, event.currentTarget.value)} />
          <input aria-label=${`${label}: ${value} ${row + 1}`} placeholder=${value} value=${right} spellcheck="false" autocomplete="off"
            onInput=${(/** @type {any} */ event) => set(row, 1, event.currentTarget.value)} />
          <button type="button" class="quiet small" aria-label=${`Remove ${label} ${left || row + 1}`} onClick=${() => remove(row)}>Remove</button>
        </div>`,
      )}
      <button type="button" class="quiet small add" onClick=${add}>Add</button>
    </fieldset>`;
}

/** @param {Record<string, string> | undefined} object @returns {Pairs} */
export const toPairs = (object) => Object.entries(object ?? {});
/** @param {Pairs} pairs */
export const fromPairs = (pairs) => Object.fromEntries(pairs.filter(([name]) => name.trim()).map(([name, value]) => [name.trim(), value]));

/** Names with values, to read. @param {{ of: Record<string, any> | undefined, none: string }} props */
export const Definitions = ({ of, none }) => {
  const entries = Object.entries(of ?? {});
  if (!entries.length) return html`<p class="muted">${none}</p>`;
  return html`<dl class="definitions">${entries.map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>`;
};

/**
 * Tabs that are links: each is a place of its own, to which one can come back.
 * @param {{ label: string, tabs: { name: string, text: string, href: string }[], current: string }} props
 */
export const Tabs = ({ label, tabs, current }) => html`
  <nav class="tabs" aria-label=${label}>
    ${tabs.map(({ name, text, href }) => html`<a key=${name} href=${href} aria-current=${name === current ? "page" : undefined}>${text}</a>`)}
  </nav>`;

/**
 * A table that becomes a list of cards where there is little room.
 * @param {{ label: string, columns: { text: string, number?: boolean, sort?: () => void, sorted?: "ascending" | "descending" }[], children?: any }} props
 */
export const Table = ({ label, columns, children }) => html`
  <div class="table" role="group" aria-label=${label} tabindex="0">
    <table>
      <caption class="hidden">${label}</caption>
      <thead><tr>${columns.map(
        ({ text, number, sort, sorted }) => html`
        <th key=${text} scope="col" class=${number ? "number" : ""} aria-sort=${sorted}>
          ${sort ? html`<button type="button" class="sort" onClick=${sort}>${text}<span aria-hidden="true">${sorted ? (sorted === "ascending" ? " ↑" : " ↓") : ""}</span></button>` : text}
        </th>`,
      )}</tr></thead>
      <tbody>${children}</tbody>
    </table>
  </div>`;
