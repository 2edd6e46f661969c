// A live chart over time, by uPlot, which is fetched with the first one. Colours are those of the style sheet.
import { html, useEffect, useRef, useState } from "../html.js";
import { theme } from "../state.js";

/** @typedef {{ text: string, colour: string, values: (number | null | undefined)[], fill?: boolean, stepped?: boolean }} Series */

/** @type {Promise<typeof import("../vendor/uplot.js").default> | undefined} */
let library;

function load() {
  library ??= new Promise((resolve, reject) => {
    const style = document.createElement("link");
    style.rel = "stylesheet";
    style.href = new URL("../vendor/uplot.css", import.meta.url).href;
    style.onload = () => resolve(import("../vendor/uplot.js").then((module) => module.default));
    style.onerror = reject;
    document.head.append(style);
  });
  return library;
}

const dark = matchMedia("(prefers-color-scheme: dark)");

/**
 * @param {{ title: string, times: number[], series: Series[], format: (value: number) => string, least?: number, whole?: boolean }} props
 * `least` is what the axis shows at least, so that noise does not look like a storm; `whole` numbers have no ticks between
 */
export function Chart({ title, times, series, format, least = 1, whole = false }) {
  const box = useRef(/** @type {HTMLDivElement | null} */ (null));
  const chart = useRef(/** @type {any} */ (null));
  const [system, setSystem] = useState(dark.matches);
  /** @type {any} */
  const data = [times, ...series.map(({ values }) => values.map((value) => value ?? null))];
  useEffect(() => {
    const change = () => setSystem(dark.matches);
    dark.addEventListener("change", change);
    return () => dark.removeEventListener("change", change);
  }, []);
  useEffect(() => {
    let gone = false;
    /** @type {ResizeObserver | undefined} */
    let observer;
    load().then((UPlot) => {
      const element = box.current;
      if (gone || !element) return;
      const style = getComputedStyle(element);
      /** @param {string} name */
      const colour = (name) => style.getPropertyValue(name).trim();
      const axis = {
        stroke: colour("--muted"),
        grid: { stroke: colour("--line"), width: 1 },
        ticks: { show: false },
        font: `11px ${style.fontFamily}`,
      };
      const size = () => ({ width: Math.max(200, element.clientWidth), height: 150 });
      chart.current = new UPlot(
        {
          ...size(),
          pxAlign: false,
          legend: { show: false },
          cursor: { y: false, drag: { x: false, y: false } },
          scales: {
            x: { time: true },
            y: { range: (_, low, high) => [Math.min(0, low ?? 0), Math.max(least, (high ?? 0) * 1.1)] },
          },
          axes: [
            { ...axis, space: 70, values: "{HH}:{mm}:{ss}", size: 28 },
            { ...axis, size: 58, space: 34, values: (_, ticks) => ticks.map((tick) => (whole && !Number.isInteger(tick) ? "" : format(tick))) },
          ],
          series: [
            {},
            ...series.map((one) => ({
              label: one.text,
              stroke: colour(one.colour),
              width: 2,
              points: { show: false },
              ...(one.fill ? { fill: `${colour(one.colour)}22` } : {}),
              ...(one.stepped && UPlot.paths.stepped ? { paths: UPlot.paths.stepped({ align: 1 }) } : {}),
            })),
          ],
        },
        data,
        element,
      );
      observer = new ResizeObserver(() => chart.current?.setSize(size()));
      observer.observe(element);
    });
    return () => {
      gone = true;
      observer?.disconnect();
      chart.current?.destroy();
      chart.current = null;
    };
    // Another theme has other colours, which a canvas does not notice.
  }, [theme.value, system, series.map((one) => one.text).join()]);
  useEffect(() => chart.current?.setData(data));
  return html`
    <figure class="chart">
      <figcaption>
        <h2>${title}</h2>
        <ul class="legend">${series.map(
          ({ text, colour, values }) => html`
          <li key=${text} class=${colour.slice(2)}><span aria-hidden="true" class="swatch"></span>${text} <strong>${newest(values, format)}</strong></li>`,
        )}</ul>
      </figcaption>
      <div class="plot" ref=${box} aria-hidden="true"></div>
    </figure>`;
}

/** @param {(number | null | undefined)[]} values @param {(value: number) => string} format */
function newest(values, format) {
  const value = values.at(-1);
  return value === undefined || value === null ? "–" : format(value);
}
