// Asynchronous calls: how many are where, what became of each, and what is to become of them.
import { calledAs, cancelAsyncCall, getAsyncCall, getAsyncStatus, listAsyncCalls, pauseAsyncCalls, purgeAsyncCalls, redriveAsyncCall, redriveAsyncCalls, resumeAsyncCalls } from "../api.js";
import { AsyncState, Result, STATES } from "../components/asynccall.js";
import { confirm } from "../components/dialog.js";
import { Act, Card, Empty, Failure, Head, Loading, Select, Status, Table, useLoad } from "../components/ui.js";
import { ago, clock, count, duration, plural } from "../format.js";
import { html, useEffect, useRef, useState } from "../html.js";
import { attempt, lastAsync, link, linkTo, list, notify, route } from "../state.js";

const ENDED = ["succeeded", "failed", "dead", "cancelled"];
const AGAIN = ["failed", "dead", "cancelled"];
const PAGE = 50;

export function Async() {
  const [id] = route.value.parts;
  return id ? html`<${One} key=${id} id=${id} />` : html`<${All} />`;
}

/** Counts events, at most two a second: under load each would ask for the whole list. */
function useChanges() {
  const [changes, setChanges] = useState(0);
  const timer = useRef(/** @type {ReturnType<typeof setTimeout> | undefined} */ (undefined));
  const newest = lastAsync.value;
  useEffect(() => {
    if (!newest || timer.current) return;
    timer.current = setTimeout(() => {
      timer.current = undefined;
      setChanges((number) => number + 1);
    }, 500);
  }, [newest]);
  useEffect(() => () => clearTimeout(timer.current), []);
  return changes;
}

/** Numbers by state, and by function and state; pure. @param {Api.AsyncCount[]} counts */
export function summed(counts) {
  /** @type {Record<string, number>} */
  const states = {};
  /** @type {Map<string, { name: string, namespace: string, states: Record<string, number> }>} */
  const of = new Map();
  for (const { function: name, namespace, state, calls } of counts) {
    states[state] = (states[state] ?? 0) + calls;
    const called = calledAs({ name, namespace });
    const known = of.get(called) ?? { name, namespace, states: {} };
    known.states[state] = (known.states[state] ?? 0) + calls;
    of.set(called, known);
  }
  return { states, functions: [...of].sort(([a], [b]) => a.localeCompare(b)) };
}

function All() {
  const changes = useChanges();
  const [name, setName] = useState("");
  const [state, setState] = useState("");
  const [limit, setLimit] = useState(PAGE);
  const status = useLoad(getAsyncStatus, [changes]);
  const calls = useLoad(() => listAsyncCalls({ function: name, state, limit }), [changes, name, state, limit]);
  const again = () => {
    status.reload();
    calls.reload();
  };
  /** @param {() => Promise<unknown>} work @param {string} [text] */
  const act = async (work, text) => {
    await attempt(work, text);
    again();
  };
  if (status.error && !status.data) return html`<${Head} title="Asynchronous calls" /><${Failure} text=${status.error} retry=${again} />`;
  if (!status.data) return html`<${Head} title="Asynchronous calls" /><${Loading} lines=${6} />`;
  const { paused, paused_functions: pausedFunctions } = status.data;
  const { states, functions } = summed(status.data.counts);
  const names = [...new Set([...functions.map(([called]) => called), ...list.value.map(calledAs)])].sort();
  const scope = `${name ? ` of ${name}` : ""}${state ? ` that are ${state}` : ""}`;
  const redriveAll = async () => {
    const yes = await confirm({ title: "Make them again?", text: `All calls${name ? ` of ${name}` : ""} that are ${state && AGAIN.includes(state) ? state : "dead"} are made again, with all their tries.`, action: "Make again" });
    if (yes) await act(async () => notify(`${plural((await redriveAsyncCalls({ function: name, state: AGAIN.includes(state) ? state : undefined })).calls, "call")} will be made again.`));
  };
  const purge = async () => {
    const yes = await confirm({ title: "Forget calls?", text: `Calls${scope} that have ended are forgotten, with their results. This cannot be undone.`, action: "Forget them" });
    if (yes) await act(async () => notify(`${plural((await purgeAsyncCalls({ function: name, state })).calls, "call")} forgotten.`));
  };
  return html`
    <${Head} title="Asynchronous calls" note=${paused ? html`<${Status} kind="bad">All are paused<//>` : "Taken now, made as soon as there is room, tried again when they fail"}
      actions=${paused
        ? html`<${Act} class="primary" onClick=${() => act(() => resumeAsyncCalls({}), "Asynchronous calls are resumed.")}>Resume all<//>`
        : html`<${Act} onClick=${() => act(() => pauseAsyncCalls({}), "Asynchronous calls are paused.")}>Pause all<//>`} />
    <ul class="tiles states">${STATES.map(
      (one) => html`
      <li key=${one}><button type="button" aria-pressed=${state === one} onClick=${() => setState(state === one ? "" : one)}>
        <${AsyncState} state=${one} /><strong>${count(states[one] ?? 0)}</strong></button></li>`,
    )}</ul>
    ${functions.length > 0 && html`
      <${Card} title="Queues" note="One for each function">
        <${Table} label="Queues" columns=${[{ text: "Function" }, ...["queued", "running", "retrying", "dead"].map((text) => ({ text, number: true })), { text: "Actions", number: true }]}>
          ${functions.map(([called, { name: one, namespace, states: of }]) => {
            const isPaused = pausedFunctions.includes(called);
            return html`
            <tr key=${called}>
              <th scope="row"><a href=${linkTo({ name: one, namespace })}>${called}</a> ${isPaused && html`<${Status} kind="idle">paused<//>`}</th>
              ${["queued", "running", "retrying", "dead"].map((which) => html`<td key=${which} class="number" data-label=${which}>${count(of[which] ?? 0)}</td>`)}
              <td class="buttons">${isPaused
                ? html`<${Act} class="small" label=${`Resume ${called}`} onClick=${() => act(() => resumeAsyncCalls({ function: called }), `${called} is resumed.`)}>Resume<//>`
                : html`<${Act} class="small" label=${`Pause ${called}`} onClick=${() => act(() => pauseAsyncCalls({ function: called }), `${called} is paused.`)}>Pause<//>`}</td>
            </tr>`;
          })}
        <//>
      <//>`}
    <${Card} title="Calls" actions=${html`
      <${Act} class="small" onClick=${redriveAll}>Make dead ones again<//>
      <${Act} class="small danger" onClick=${purge}>Forget ended ones<//>`}>
      <div class="toolbar">
        <${Select} label="Function" value=${name} onChange=${setName} options=${[["", "All functions"], ...names]} />
        <${Select} label="State" value=${state} onChange=${setState} options=${[["", "All states"], ...STATES]} />
      </div>
      ${calls.error && html`<${Failure} text=${calls.error} retry=${again} />`}
      ${!calls.data && !calls.error && html`<${Loading} />`}
      ${calls.data?.calls.length === 0 && html`<${Empty} title=${scope ? "No such call" : "No call yet"}><p>Post to <code>/async-function/NAME</code>, or choose “Asynchronously” where a function is invoked.</p><//>`}
      ${calls.data && calls.data.calls.length > 0 && html`
        <${Table} label="Calls" columns=${[{ text: "Call" }, { text: "State" }, { text: "Function" }, { text: "Tries", number: true }, { text: "Taken" }, { text: "Actions", number: true }]}>
          ${calls.data.calls.map(
            (call) => html`
            <tr key=${call.id}>
              <th scope="row"><a href=${link("async", call.id)}><code>${call.id.length > 20 ? `${call.id.slice(0, 18)}…` : call.id}</code></a></th>
              <td data-label="State"><${AsyncState} state=${call.state} /></td>
              <td data-label="Function">${call.targetUrl ?? calledAs({ name: call.function, namespace: call.namespace })}</td>
              <td class="number" data-label="Tries">${call.attempts.length}</td>
              <td data-label="Taken">${ago(call.created)}</td>
              <td class="buttons"><${CallActions} call=${call} act=${act} small /></td>
            </tr>`,
          )}
        <//>
        ${calls.data.next && limit < 500 && html`<p><button type="button" onClick=${() => setLimit(Math.min(500, limit + 3 * PAGE))}>Show more</button></p>`}`}
    <//>`;
}

/** @param {{ call: Api.AsyncCall, act: (work: () => Promise<unknown>, text?: string) => Promise<void>, small?: boolean }} props */
function CallActions({ call, act, small }) {
  const size = small ? "small" : "";
  const cancel = async () => {
    const yes = await confirm({ title: "Take the call back?", text: `${call.id} is not made, or not tried again.`, action: "Take it back" });
    if (yes) await act(() => cancelAsyncCall(call.id), "The call was taken back.");
  };
  if (AGAIN.includes(call.state)) {
    return html`<${Act} class=${size} label=${`Make again: ${call.id}`} onClick=${() => act(() => redriveAsyncCall(call.id), "The call will be made again.")}>Make again<//>`;
  }
  if (!ENDED.includes(call.state)) return html`<${Act} class=${`${size} danger`} label=${`Cancel ${call.id}`} onClick=${cancel}>Cancel<//>`;
  return null;
}

/** @param {{ id: string }} props */
function One({ id }) {
  const newest = lastAsync.value;
  const changes = useChanges();
  const { data, error, reload } = useLoad(() => getAsyncCall(id), [id, changes, newest?.id === id ? newest.time : ""]);
  /** @param {() => Promise<unknown>} work @param {string} [text] */
  const act = async (work, text) => {
    await attempt(work, text);
    reload();
  };
  const back = html`<a href=${link("async")}>All calls</a>`;
  if (!data && error) return html`<${Head} title="Call" note=${back} /><${Failure} text=${error} retry=${reload} />`;
  if (!data) return html`<${Head} title="Call" note=${back} /><${Loading} />`;
  const facts = [
    ["Function", html`<a href=${linkTo({ name: data.function, namespace: data.namespace })}>${calledAs({ name: data.function, namespace: data.namespace })}</a>`],
    ["Path", `${data.path || "/"}${data.query ? `?${data.query}` : ""}`],
    ["Taken", clock(data.created)],
    ["Due", clock(data.due)],
    ["Ended", clock(data.finished)],
    ...(data.callbackUrl ? [["Answer goes to", data.callbackUrl]] : []),
    ...(data.targetUrl ? [["Sent to", data.targetUrl]] : []),
  ];
  return html`
    <${Head} title=${html`Call <code>${data.id}</code>`} note=${html`<${AsyncState} state=${data.state} /> ${back}`} actions=${html`<${CallActions} call=${data} act=${act} />`} />
    <dl class="facts">${facts.map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>
    <${Card} title="Tries">
      ${data.attempts.length === 0 ? html`<p class="muted">Not tried yet.</p>` : html`
        <${Table} label="Tries" columns=${[{ text: "Began" }, { text: "Took", number: true }, { text: "Answer" }]}>
          ${data.attempts.map((one, index) => html`
            <tr key=${index}><td data-label="Began">${clock(one.started)}</td><td class="number" data-label="Took">${duration(one.durationSeconds)}</td>
              <td data-label="Answer">${one.status !== undefined && html`<${Status} kind=${one.status < 400 ? "good" : "bad"}>${one.status}<//> `}${one.error ?? ""}</td></tr>`)}
        <//>`}
    <//>
    ${data.result && html`<${Card} title="Result"><${Result} result=${data.result} /><//>`}`;
}
