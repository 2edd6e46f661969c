// The log of a function as it is written, with a filter. Lines beyond the last thousands are let go.
import { followLogs } from "../api.js";
import { clock } from "../format.js";
import { html, useEffect, useRef, useState } from "../html.js";
import { message } from "../state.js";
import { Select } from "./ui.js";

const KEPT = 2000;
const AGAIN = 2000; // milliseconds

/** @param {{ f: Api.FunctionStatus }} props */
export function Logs({ f }) {
  const [lines, setLines] = useState(/** @type {Api.LogMessage[]} */ ([]));
  const [state, setState] = useState(/** @type {{ text: string, failed?: boolean }} */ ({ text: "Connecting …" }));
  const [filter, setFilter] = useState("");
  const [instance, setInstance] = useState("");
  const [following, setFollowing] = useState(true);
  const box = useRef(/** @type {HTMLDivElement | null} */ (null));

  useEffect(() => {
    if (!following) {
      setState({ text: "Paused" });
      return;
    }
    const stop = new AbortController();
    /** @type {ReturnType<typeof setTimeout>} */
    let timer;
    const open = async () => {
      try {
        setLines([]);
        setState({ text: "Following" });
        // What comes is drawn at most once in a frame.
        /** @type {Api.LogMessage[]} */
        let waiting = [];
        await followLogs(
          { name: f.name, namespace: f.namespace, tail: 500 },
          (more) => {
            if (!waiting.length) {
              requestAnimationFrame(() => {
                const taken = waiting;
                waiting = [];
                setLines((before) => [...before, ...taken].slice(-KEPT));
              });
            }
            waiting = waiting.concat(more);
          },
          stop.signal,
        );
        setState({ text: "The log ended; asking again" });
      } catch (error) {
        if (stop.signal.aborted) return;
        setState({ text: message(error), failed: true });
      }
      if (!stop.signal.aborted) timer = setTimeout(open, AGAIN);
    };
    open();
    return () => {
      stop.abort();
      clearTimeout(timer);
    };
  }, [f.name, f.namespace, following]);

  const wanted = filter.toLowerCase();
  const shown = lines.filter((line) => (!instance || line.instance === instance) && (!wanted || line.text.toLowerCase().includes(wanted)));
  const instances = [...new Set(lines.map((line) => line.instance))].sort();

  // Stay at the end unless somebody scrolled away from it.
  const atEnd = useRef(true);
  useEffect(() => {
    if (atEnd.current && box.current) box.current.scrollTop = box.current.scrollHeight;
  });
  const scrolled = () => {
    const { scrollTop = 0, scrollHeight = 0, clientHeight = 0 } = box.current ?? {};
    atEnd.current = scrollHeight - scrollTop - clientHeight < 40;
  };

  return html`
    <div class="toolbar">
      <div class="field grow"><label for="log-filter">Filter</label>
        <input id="log-filter" type="search" placeholder="Lines that contain …" value=${filter} onInput=${(/** @type {any} */ event) => setFilter(event.currentTarget.value)} /></div>
      <${Select} label="Replica" value=${instance} onChange=${setInstance} options=${[["", "All replicas"], ...instances]} />
      <button type="button" aria-pressed=${!following} onClick=${() => setFollowing(!following)}>${following ? "Pause" : "Follow"}</button>
    </div>
    <p class=${state.failed ? "error" : "muted"} role="status">${state.text} · ${shown.length} of ${lines.length} lines</p>
    <div class="log" ref=${box} onScroll=${scrolled} tabindex="0" role="log" aria-label=${`Log of ${f.name}`} aria-live="off">
      ${shown.length === 0 && html`<p class="muted">${lines.length ? "No line contains that." : "Nothing was written yet."}</p>`}
      ${shown.map(
        (line, index) => html`
        <div key=${index}><time>${clock(line.timestamp)}</time>${instances.length > 1 && html`<span class="from">${line.instance}</span>`}<span class="text">${line.text}</span></div>`,
      )}
    </div>`;
}
