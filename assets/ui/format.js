// Numbers and times as people read them.

const DASH = "–";

/** @param {number | undefined} value */
export const count = (value) => (value === undefined ? DASH : Math.round(value).toLocaleString("en"));

/** Calls per second. @param {number | undefined} value */
export function rate(value) {
  if (value === undefined) return DASH;
  if (value === 0) return "0";
  return value < 10 ? value.toFixed(1) : count(value);
}

/** @param {number | undefined} seconds */
export function duration(seconds) {
  if (seconds === undefined || Number.isNaN(seconds)) return DASH;
  if (seconds < 5e-7) return "0 s";
  if (seconds < 0.001) return `${Math.max(1, Math.round(seconds * 1e6))} µs`;
  if (seconds < 0.01) return `${(seconds * 1000).toFixed(1)} ms`;
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 10) return `${seconds.toFixed(2)} s`;
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172_800) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86_400)} d`;
}

/** A share from 0 to 1. @param {number | undefined} share */
export function percent(share) {
  if (share === undefined || Number.isNaN(share)) return DASH;
  if (share === 0) return "0 %";
  if (share < 0.001) return "< 0.1 %";
  return `${share < 0.1 ? (share * 100).toFixed(1) : Math.round(share * 100)} %`;
}

/** @param {number | undefined} value */
export function bytes(value) {
  if (value === undefined) return DASH;
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  let size = value;
  while (size >= 1024 && unit < units.length - 1) {
    size /= 1024;
    unit += 1;
  }
  return `${unit === 0 || size >= 100 ? Math.round(size) : size.toFixed(1)} ${units[unit]}`;
}

/** Time of day, with the date where it is another one. @param {string | undefined} time @param {Date} now */
export function clock(time, now = new Date()) {
  if (!time) return DASH;
  const date = new Date(time);
  const day = date.toDateString() === now.toDateString() ? "" : `${date.toISOString().slice(0, 10)} `;
  return `${day}${date.toTimeString().slice(0, 8)}`;
}

/** @param {string | undefined} time @param {number} now milliseconds */
export function ago(time, now = Date.now()) {
  if (!time) return DASH;
  const seconds = (now - Date.parse(time)) / 1000;
  if (seconds < -1) return `in ${duration(-seconds)}`;
  return seconds < 1 ? "now" : `${seconds < 120 ? `${Math.round(seconds)} s` : duration(seconds)} ago`;
}

/** @param {number} number @param {string} word @param {string} many */
export const plural = (number, word, many = `${word}s`) => `${count(number)} ${number === 1 ? word : many}`;

/** A command line that a shell takes as it is. @param {string} text */
export const quoted = (text) => (/^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);
