// A line as small as a word, of the last two minutes; of less where there is less, but never of less than half a minute.
import { html } from "../html.js";

const POINTS = 60;
const FEWEST = 15;
const WIDTH = 96;
const HEIGHT = 24;

/** The path of values in the box, the newest at the right; pure. @param {number[]} values @param {number} most */
export function path(values, most = Math.max(...values, 0)) {
  const shown = values.slice(-POINTS);
  if (shown.length < 2) return "";
  const step = WIDTH / (Math.max(FEWEST, shown.length) - 1);
  const left = WIDTH - (shown.length - 1) * step;
  const y = (/** @type {number} */ value) => (most > 0 ? HEIGHT - 2 - (value / most) * (HEIGHT - 4) : HEIGHT - 2);
  return shown.map((value, index) => `${index ? "L" : "M"}${(left + index * step).toFixed(1)} ${y(value).toFixed(1)}`).join("");
}

/** The numbers are beside it, so that it is nothing to who cannot see it. @param {{ values: number[], kind?: string }} props */
export const Spark = ({ values, kind = "" }) => {
  const line = path(values);
  // Back along the bottom, to where the line began.
  const begin = line.slice(1, line.indexOf(" "));
  return html`
    <svg class="spark ${kind}" viewBox="0 0 ${WIDTH} ${HEIGHT}" aria-hidden="true" preserveAspectRatio="none">
      ${line && html`<path class="area" d=${`${line}L${WIDTH} ${HEIGHT}L${begin} ${HEIGHT}Z`} />`}
      <path class="line" d=${line || `M0 ${HEIGHT - 2}H${WIDTH}`} />
    </svg>`;
};
