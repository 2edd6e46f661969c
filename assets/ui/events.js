// The one stream of events that keeps the page current: GET /system/events, read with fetch, for EventSource cannot
// send headers. It reconnects by itself, waits longer after each failure, and asks for what it missed.
import { ApiError, send, textOf } from "./api.js";

const FIRST_WAIT = 500; // milliseconds
const LONGEST_WAIT = 15_000;
// The gateway writes at least a comment every 15 s.
const SILENCE = 40_000;

/** @typedef {{ id: string, type: string, data: string }} Message */

/** Takes text in pieces and gives whole messages, as the HTML standard reads an event stream. */
export function parser() {
  let rest = "";
  let id = "";
  /** @type {string[]} */
  let data = [];
  let type = "";
  /** @param {string} text @returns {Message[]} */
  return (text) => {
    const lines = (rest + text).split("\n");
    rest = lines.pop() ?? "";
    const messages = [];
    for (const raw of lines) {
      const line = raw.endsWith("\r") ? raw.slice(0, -1) : raw;
      if (line === "") {
        if (data.length) messages.push({ id, type: type || "message", data: data.join("\n") });
        data = [];
        type = "";
        continue;
      }
      const colon = line.indexOf(":");
      if (colon === 0) continue;
      const field = colon < 0 ? line : line.slice(0, colon);
      const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
      if (field === "data") data.push(value);
      else if (field === "event") type = value;
      else if (field === "id") id = value;
    }
    return messages;
  };
}

/** How long to wait before trial number `failures`, with `luck` from 0 to 1. @param {number} failures @param {number} luck */
export const backoff = (failures, luck) =>
  Math.min(LONGEST_WAIT, FIRST_WAIT * 2 ** Math.min(failures - 1, 10)) * (0.5 + luck / 2);

/**
 * @typedef {object} Listener
 * @property {(message: Message) => void} event
 * @property {(state: "connecting" | "live" | "waiting", error?: Error, retryAt?: number) => void} state
 */

/**
 * Listens until the returned function is called.
 * @param {Listener} listener
 */
export function listen(listener) {
  const all = new AbortController();
  let wake = () => {};
  let last = "";

  const follow = async () => {
    const one = new AbortController();
    const end = () => one.abort();
    all.signal.addEventListener("abort", end, { once: true });
    // A connection that died without a word looks like one on which nothing happens.
    let silence = setTimeout(end, SILENCE);
    try {
      const response = await send("GET", "system/events", {
        headers: { Accept: "text/event-stream", ...(last ? { "Last-Event-ID": last } : {}) },
        signal: one.signal,
      });
      listener.state("live");
      const parse = parser();
      for await (const text of textOf(response)) {
        clearTimeout(silence);
        silence = setTimeout(end, SILENCE);
        for (const message of parse(text)) {
          last = message.id;
          listener.event(message);
        }
      }
    } finally {
      clearTimeout(silence);
      all.signal.removeEventListener("abort", end);
    }
  };

  const run = async () => {
    let failures = 0;
    while (!all.signal.aborted) {
      const began = Date.now();
      /** @type {Error | undefined} */
      let error;
      listener.state("connecting");
      try {
        await follow();
      } catch (thrown) {
        error = thrown instanceof Error ? thrown : new Error(String(thrown));
      }
      if (all.signal.aborted) return;
      if (error instanceof ApiError && error.status === 401) return;
      failures = Date.now() - began > LONGEST_WAIT ? 1 : failures + 1;
      const wait = backoff(failures, Math.random());
      listener.state("waiting", error, Date.now() + wait);
      await new Promise((resolve) => {
        const timer = setTimeout(resolve, wait);
        wake = () => {
          clearTimeout(timer);
          resolve(undefined);
        };
      });
    }
  };
  run();
  // Back online, or back in front: no need to wait.
  const now = () => document.hidden || wake();
  addEventListener("online", now);
  document.addEventListener("visibilitychange", now);
  return {
    stop() {
      all.abort();
      wake();
      removeEventListener("online", now);
      document.removeEventListener("visibilitychange", now);
    },
    retry: () => wake(),
  };
}
