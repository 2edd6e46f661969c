// What every component is written with: Preact, its hooks, signals, and `html` for markup without a build.
import { h } from "./vendor/preact.js";
import htm from "./vendor/htm.js";

/** Markup as a template: html`<p class="note">${text}</p>`. */
export const html = htm.bind(h);

export { Fragment, render } from "./vendor/preact.js";
export { useEffect, useId, useLayoutEffect, useMemo, useRef, useState } from "./vendor/hooks.js";
// Importing signals also teaches Preact to draw a component again when a signal it read changes.
export { batch, computed, effect, signal, useSignal } from "./vendor/signals.js";
