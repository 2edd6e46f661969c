// Questions before something is done that cannot be undone. `<dialog>` keeps the focus inside and gives it back.
import { html, signal, useLayoutEffect, useRef, useState } from "../html.js";

/**
 * @typedef {object} Question
 * @property {string} title
 * @property {string} text
 * @property {string} action what the button says
 * @property {string} [type] what has to be typed before the button can be used
 */

/** @type {import("../vendor/signals.js").Signal<(Question & { answer: (yes: boolean) => void }) | undefined>} */
const asked = signal(undefined);

/** Asks, and resolves to whether it may be done. @param {Question} question @returns {Promise<boolean>} */
export const confirm = (question) =>
  new Promise((resolve) => {
    asked.value = { ...question, answer: resolve };
  });

/** The place where questions show; once in the page. */
export function Questions() {
  const question = asked.value;
  return question ? html`<${Ask} key=${question.title} question=${question} />` : null;
}

/** @param {{ question: NonNullable<typeof asked.value> }} props */
function Ask({ question }) {
  const [typed, setTyped] = useState("");
  const may = !question.type || typed === question.type;
  /** @param {boolean} yes */
  const close = (yes) => {
    question.answer(yes);
    asked.value = undefined;
  };
  return html`
    <${Modal} title=${question.title} onClose=${() => close(false)}>
      <form onSubmit=${(/** @type {Event} */ event) => {
        event.preventDefault();
        if (may) close(true);
      }}>
        <p id="question">${question.text}</p>
        ${question.type && html`
          <label class="field"><span>Type <strong>${question.type}</strong> to go on</span>
            <input value=${typed} autocomplete="off" spellcheck="false" autofocus
              onInput=${(/** @type {any} */ event) => setTyped(event.currentTarget.value)} /></label>`}
        <div class="buttons">
          <button type="button" autofocus=${!question.type} onClick=${() => close(false)}>Cancel</button>
          <button class="danger" disabled=${!may}>${question.action}</button>
        </div>
      </form>
    <//>`;
}

/** A dialog that is open as long as it is drawn. @param {{ title: string, onClose: () => void, wide?: boolean, children?: any }} props */
export function Modal({ title, onClose, wide, children }) {
  const dialog = useRef(/** @type {HTMLDialogElement | null} */ (null));
  // Before anything is painted, and as soon as it is gone: the focus is never nowhere.
  useLayoutEffect(() => {
    const before = /** @type {HTMLElement | null} */ (document.activeElement);
    const element = dialog.current;
    element?.showModal();
    /** @type {HTMLElement | null | undefined} */ (element?.querySelector("[autofocus]"))?.focus();
    return () => {
      element?.close();
      if (before?.isConnected) before.focus();
      else /** @type {HTMLElement | null} */ (document.querySelector("h1"))?.focus();
    };
  }, []);
  return html`
    <dialog ref=${dialog} class=${wide ? "wide" : ""} aria-label=${title} onCancel=${(/** @type {Event} */ event) => {
      event.preventDefault();
      onClose();
    }}>
      <h2>${title}</h2>
      ${children}
    </dialog>`;
}
