// The first screen: every function, how it is doing now and how it did in the last minutes.
import { calledAs } from "../api.js";
import { Spark } from "../components/spark.js";
import { Empty, FunctionState, Head, Loading, Select, Table } from "../components/ui.js";
import { count, duration, percent, plural, rate } from "../format.js";
import { html, signal } from "../html.js";
import { functions, key, link, linkTo, list, loads, namespaces } from "../state.js";

// What was searched for stays when somebody comes back.
const search = signal("");
const namespace = signal("");
const order = signal(/** @type {{ by: Column, down: boolean }} */ ({ by: "rate", down: true }));

/** @typedef {"name" | "replicas" | "calls" | "rate" | "p95" | "errors"} Column */

/** What is shown of one function; pure. @param {Api.FunctionStatus} f @param {import("../state.js").Load | undefined} load */
export function row(f, load) {
  const points = load?.points ?? [];
  const newest = points.at(-1);
  // Errors and latency over the last half minute: of two seconds they would flicker.
  const recent = points.slice(-15);
  const sum = (/** @type {(point: import("../state.js").Point) => number} */ of) => recent.reduce((all, point) => all + of(point), 0);
  const calls = sum((point) => point.rate);
  const slow = recent.map((point) => point.p95).filter((value) => value !== undefined);
  return {
    f,
    points,
    name: calledAs(f),
    replicas: f.availableReplicas ?? 0,
    calls: Math.max(load?.calls ?? 0, f.invocationCount ?? 0),
    rate: newest?.rate ?? 0,
    p95: slow.length ? Math.max(...slow) : undefined,
    errors: calls > 0 ? sum((point) => point.errors) / calls : undefined,
  };
}

/** @param {ReturnType<typeof row>[]} rows @param {typeof order.value} wanted */
export function sorted(rows, { by, down }) {
  const compare = (/** @type {ReturnType<typeof row>} */ a, /** @type {ReturnType<typeof row>} */ b) => {
    const [one, other] = [a[by], b[by]];
    if (typeof one === "string" && typeof other === "string") return one.localeCompare(other);
    return Number(one ?? -1) - Number(other ?? -1);
  };
  return [...rows].sort((a, b) => (down ? -1 : 1) * compare(a, b) || b.calls - a.calls || a.name.localeCompare(b.name));
}

export function Functions() {
  const known = functions.value !== undefined;
  const rows = list.value.map((f) => row(f, loads.value.get(key(f))));
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  const several = new Set([...(namespaces.value ?? []), ...list.value.map((f) => f.namespace ?? "")]);
  const shown = sorted(
    rows.filter(
      ({ f, name }) =>
        (!namespace.value || f.namespace === namespace.value) &&
        words.every((word) => name.includes(word) || (f.image ?? "").toLowerCase().includes(word)),
    ),
    order.value,
  );
  /** @param {string} text @param {Column} by @param {boolean} number */
  const column = (text, by, number = true) => ({
    text,
    number,
    sort: () => (order.value = { by, down: order.value.by === by ? !order.value.down : by !== "name" }),
    sorted: order.value.by === by ? /** @type {"ascending" | "descending"} */ (order.value.down ? "descending" : "ascending") : undefined,
  });
  return html`
    <${Head} title="Functions" note=${known ? plural(rows.length, "function") : " "}
      actions=${html`<a class="button primary" href=${link("deploy")}>Deploy a function</a>`} />
    <${Summary} rows=${rows} />
    <div class="toolbar">
      <div class="field grow"><label for="search">Search</label>
        <input id="search" type="search" placeholder="Name or image" value=${search.value} onInput=${(/** @type {any} */ event) => (search.value = event.currentTarget.value)} /></div>
      ${several.size > 1 && html`<${Select} label="Namespace" value=${namespace.value} onChange=${(/** @type {string} */ value) => (namespace.value = value)}
        options=${[["", "All namespaces"], ...[...several].filter(Boolean).sort()]} />`}
    </div>
    ${!known && html`<${Loading} lines=${5} />`}
    ${known && rows.length === 0 && html`
      <${Empty} title="No function yet"><p>Deploy one from the store, or a command of your own.</p>
        <p><a class="button primary" href=${link("deploy")}>Deploy the first one</a></p><//>`}
    ${known && rows.length > 0 && shown.length === 0 && html`<${Empty} title="Nothing found"><p>No function matches.</p>
      <button type="button" onClick=${() => { search.value = ""; namespace.value = ""; }}>Show all</button><//>`}
    ${shown.length > 0 && html`
      <${Table} label="Functions" columns=${[column("Function", "name", false), { text: "State" }, column("Replicas", "replicas"), column("Calls/s", "rate"), column("p95", "p95"), column("Errors", "errors"), column("Calls", "calls")]}>
        ${shown.map(
          ({ f, points, ...of }) => html`
          <tr key=${key(f)}>
            <th scope="row"><a href=${linkTo(f)}>${f.name}</a>${several.size > 1 && f.namespace && html` <span class="tag">${f.namespace}</span>`}<span class="sub" title=${f.envProcess || f.image}>${f.envProcess || f.image}</span></th>
            <td data-label="State"><${FunctionState} f=${f} /></td>
            <td class="number" data-label="Replicas"><span>${of.replicas}<span class="muted"> / ${f.replicas ?? 0}</span></span></td>
            <td class="number live" data-label="Calls/s"><${Spark} values=${points.map((point) => point.rate)} /><span>${rate(of.rate)}</span></td>
            <td class="number live" data-label="p95"><${Spark} kind="time" values=${points.map((point) => point.p95 ?? 0)} /><span>${duration(of.p95)}</span></td>
            <td class="number live" data-label="Errors"><${Spark} kind="bad" values=${points.map((point) => point.errors)} /><span class=${of.errors ? "error" : ""}>${percent(of.errors)}</span></td>
            <td class="number" data-label="Calls">${count(of.calls)}</td>
          </tr>`,
        )}
      <//>`}`;
}

/** @param {{ rows: ReturnType<typeof row>[] }} props */
function Summary({ rows }) {
  /** The sum over all functions, point by point from the newest back. @param {(point: import("../state.js").Point) => number} of */
  const total = (of) => {
    const longest = Math.max(0, ...rows.map((one) => one.points.length));
    return Array.from({ length: longest }, (_, index) =>
      rows.reduce((sum, one) => {
        const point = one.points[one.points.length - longest + index];
        return sum + (point ? of(point) : 0);
      }, 0),
    );
  };
  const rates = total((point) => point.rate);
  const errors = total((point) => point.errors);
  const flights = total((point) => point.inFlight);
  const ready = rows.reduce((sum, one) => sum + one.replicas, 0);
  const wanted = rows.reduce((sum, one) => sum + (one.f.replicas ?? 0), 0);
  const recent = rates.slice(-15).reduce((a, b) => a + b, 0);
  const share = recent > 0 ? errors.slice(-15).reduce((a, b) => a + b, 0) / recent : undefined;
  return html`
    <dl class="tiles">
      <div><dt>Calls per second</dt><dd>${rate(rates.at(-1))}</dd><${Spark} values=${rates} /></div>
      <div><dt>In flight</dt><dd>${count(flights.at(-1))}</dd><${Spark} kind="time" values=${flights} /></div>
      <div><dt>Errors</dt><dd class=${share ? "error" : ""}>${percent(share)}</dd><${Spark} kind="bad" values=${errors} /></div>
      <div><dt>Replicas ready</dt><dd>${count(ready)}<span class="muted"> / ${count(wanted)}</span></dd><${Spark} kind="idle" values=${total((point) => point.replicas)} /></div>
    </dl>`;
}
