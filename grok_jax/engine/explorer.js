"use strict";

// The data are those of explorer.py. Everything drawn follows from `data` and `state`:
// a control changes the state, and what depends on it is drawn again.

const byId = (id) => document.getElementById(id);

/** An element with attributes and children; text is never parsed as HTML. */
function make(name, attributes = {}, ...children) {
  const svg = ["svg", "g", "rect", "path", "line", "circle", "text", "defs", "pattern",
    "linearGradient", "stop"].includes(name);
  const element = svg ? document.createElementNS("http://www.w3.org/2000/svg", name)
    : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined) element.setAttribute(key, value);
  }
  element.append(...children);
  return element;
}

/** A number as the report writes it: thousands apart, four digits below. */
function format(value) {
  if (value === null || Number.isNaN(value)) return "unknown";
  if (!Number.isFinite(value)) return value > 0 ? "never" : "−∞";
  const size = Math.abs(value);
  if (size >= 1e7 || (size && size < 1e-4)) {
    return value.toExponential(3).replace(/\.?0+e/, "e").replace("e+", "e");
  }
  if (size >= 1000) return Math.round(value).toLocaleString("en-US");
  return String(Number(value.toPrecision(4)));
}

function decode(values) {
  const words = { inf: Infinity, "-inf": -Infinity };
  return Float64Array.from(values, (v) => v === null ? NaN : words[v] ?? v);
}

async function unpack(text) {
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const plain = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const data = await new Response(plain).json();
  for (const each of [...data.quantities, ...data.curves]) {
    each.values = decode(each.values);
  }
  return data;
}

/* ---- What is shown: the state, and what follows from it ---- */

const NONE = -1;
let data, state, strides, seeds, drawn = [];

/** Which quantities and axes are shown first. */
function firstState() {
  const axes = data.axes.map((axis, a) => a).filter((a) => a !== seeds);
  const rank = (a) => (data.axes[a].values ? 1000 : 0) + data.axes[a].labels.length;
  const best = axes.filter((a) => size(a) > 1).sort((a, b) => rank(b) - rank(a)).slice(0, 2);
  const known = (q) => q.values.some(Number.isFinite);
  const wanted = ["delay", "t_test", "last test_accuracy", "last test_loss"];
  const named = wanted.map((name) => data.quantities.findIndex((q) => q.name === name));
  const quantity = named.find((q) => q >= 0 && known(data.quantities[q]))
    ?? Math.max(data.quantities.findIndex(known), 0);
  return {
    x: best.length ? Math.min(...best) : axes[0] ?? seeds,  // NONE, where there are none
    y: best.length > 1 ? Math.max(...best) : NONE,
    quantity,
    at: data.axes.map(() => 0),
    over: "median",
    highlight: "all",
    logColour: wantsLog(quantity), logStep: true, logLoss: true,
    step: Infinity,
    cell: [0, 0],
  };
}

/** Whether a quantity is clearer on a logarithmic scale: most runs span a decade. */
function wantsLog(q) {
  const known = data.quantities[q].values.filter(Number.isFinite).sort();
  const [low, high] = [0.1, 0.9].map((share) => known[Math.round(share * (known.length - 1))]);
  return low > 0 && high > 10 * low;
}

const size = (a) => a === NONE ? 1 : data.axes[a].labels.length;
const pooled = () => seeds !== NONE && state.x !== seeds && state.y !== seeds;

/** The runs at place (i, j) of the map: one for each seed, unless seeds are an axis. */
function runsAt(i, j) {
  let first = 0;
  data.axes.forEach((axis, a) => {
    if (a === seeds && pooled()) return;
    first += strides[a] * (a === state.x ? i : a === state.y ? j : state.at[a]);
  });
  if (!pooled()) return [first];
  return data.axes[seeds].labels.map((_, s) => first + s * strides[seeds]);
}

/** What a run counts with: a time that never came is later than any other. */
function counted(quantity, run) {
  const value = quantity.values[run];
  return quantity.group === "times" && Number.isNaN(value) ? Infinity : value;
}

/** {value, never, unknown, of, low, high} of a place, over its seeds. */
function measure(i, j) {
  const quantity = data.quantities[state.quantity];
  let runs = runsAt(i, j);
  if (pooled() && /^\d+$/.test(state.over)) runs = [runs[Number(state.over)]];
  const all = runs.map((run) => counted(quantity, run));
  const known = all.filter((v) => !Number.isNaN(v)).sort((a, b) => a - b);
  const n = known.length;
  const picked = {
    least: known[0],
    largest: known[n - 1],
    share: n ? known.filter(Number.isFinite).length / all.length : NaN,
  };
  const middle = n ? (known[(n - 1) >> 1] + known[n >> 1]) / 2 : NaN;
  return {
    value: n ? picked[state.over] ?? middle : NaN,
    never: known.filter((v) => v === Infinity).length,
    of: all.length, low: known[0], high: known[n - 1], unknown: all.length - n,
  };
}

function overWords() {
  if (!pooled() || size(seeds) === 1) return "";
  if (/^\d+$/.test(state.over)) return `, ${data.axes[seeds].label} ${data.axes[seeds].labels[state.over]}`;
  return state.over === "share" ? ", share of seeds that reached it" : `, ${state.over} over seeds`;
}

function quantityWords() {
  const q = data.quantities[state.quantity];
  return q.group.endsWith("value") ? `${q.group} of ${q.label}` : q.label;
}

function neverWords() {
  return { delay: "never generalised (or never fitted)", t_test: "never generalised",
    t_train: "never fitted" }[data.quantities[state.quantity].name] ?? "never";
}

function placeWords(i, j) {
  return data.axes
    .map((axis, a) => a === seeds && pooled() ? "" :
      `${axis.label} ${axis.labels[a === state.x ? i : a === state.y ? j : state.at[a]]}`)
    .filter(Boolean).join(", ");
}

function valueWords(m) {
  const value = Number.isNaN(m.value) ? "unknown" : m.value === Infinity ? neverWords() : format(m.value);
  if (m.of === 1) return value;
  const never = m.never ? `; ${m.never} of ${m.of} never` : "";
  const unknown = m.unknown ? `; ${m.unknown} of ${m.of} unknown` : "";
  const range = m.low !== m.high && Number.isFinite(m.low)
    ? `; ${format(m.low)} to ${format(m.high)} over ${m.of} seeds` : "";
  return value + range + never + unknown;
}

/* ---- Scales ---- */

const STOPS = ["#440154", "#482878", "#3e4a89", "#31688e", "#26828e", "#1f9e89",
  "#35b779", "#6dcd59", "#b4de2c", "#fde725"].map((hex) =>
  [1, 3, 5].map((k) => parseInt(hex.slice(k, k + 2), 16)));

function colour(share) {
  const at = Math.max(0, Math.min(1, share)) * (STOPS.length - 1);
  const k = Math.min(Math.floor(at), STOPS.length - 2);
  return STOPS[k].map((low, c) => Math.round(low + (at - k) * (STOPS[k + 1][c] - low)));
}

const rgb = (c) => `rgb(${c.join()})`;
/** Black or white, whichever reads better on a colour. */
function inkOn([r, g, b]) {
  const linear = [r, g, b].map((v) => v / 255).map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  const light = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
  return light > 0.179 ? "#000" : "#fff";
}

function extent(values) {
  return values.reduce(([low, high], v) => [Math.min(low, v), Math.max(high, v)], [Infinity, -Infinity]);
}

/** A scale of values onto [0, 1], logarithmic if asked for and possible, with ticks. */
function scale(values, log, count = 5) {
  const known = values.filter(Number.isFinite);
  const able = known.length > 0 && known.every((v) => v > 0), logs = able && log;
  const forward = logs ? Math.log10 : (v) => v;
  const [low, high] = known.length ? extent(known) : [0, 1];
  const [a, b] = [forward(low), forward(high)];
  const to = (v) => b > a ? (forward(v) - a) / (b - a) : 0.5;
  return { to, low, high, able, log: logs, ticks: logs ? logTicks(low, high, count) : ticks(low, high, count) };
}

function ticks(low, high, count) {
  if (!(high > low)) return [low];
  const rough = (high - low) / count, power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((m) => m * power >= rough);
  const out = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + step * 1e-9; k++) {
    out.push(Number((k * step).toPrecision(12)));
  }
  return out;
}

/** Powers of ten, with 2 and 5 times them where there are few. */
function logTicks(low, high, count) {
  const [a, b] = [Math.floor(Math.log10(low) + 1e-9), Math.floor(Math.log10(high) + 1e-9)];
  if (high < 5 * low) return ticks(low, high, count).filter((v) => v > 0);
  const every = Math.ceil((b - a) / count) || 1, out = [];
  for (let k = a; k <= b; k += every) {
    for (const m of b - a < 2 ? [1, 2, 5] : [1]) {
      const tick = m * 10 ** k;
      if (tick >= low * (1 - 1e-9) && tick <= high * (1 + 1e-9)) out.push(tick);
    }
  }
  return out;
}

/* ---- Controls ---- */

function option(value, text, chosen) {
  const made = make("option", { value }, text);
  made.selected = chosen;
  return made;
}

function select(id, label, options, chosen, set) {
  const made = make("select", { id });
  for (const [value, text, group] of options) {
    let into = made;
    if (group) {
      into = [...made.children].find((c) => c.label === group) ?? made.appendChild(make("optgroup", { label: group }));
    }
    into.append(option(value, text, String(value) === String(chosen)));
  }
  made.addEventListener("change", () => set(made.value));
  return make("label", {}, label, made);
}

function check(id, label, on, set) {
  const made = make("input", { id, type: "checkbox" });
  made.checked = on;
  made.addEventListener("change", () => set(made.checked));
  return make("label", { class: "check" }, made, label);
}

function slider(id, label, texts, at, set) {
  const made = make("input", { id, type: "range", min: 0, max: texts.length - 1, step: 1 });
  const shown = make("output", { for: id });
  const say = () => {
    shown.textContent = texts[made.value];
    made.setAttribute("aria-valuetext", texts[made.value]);
  };
  made.value = at;
  say();
  made.addEventListener("input", () => { say(); set(Number(made.value)); });
  return make("label", { for: id }, make("span", {}, `${label}: `, shown), made);
}

function controls() {
  const form = byId("controls");
  const focused = document.activeElement?.id;
  const named = data.axes.map((axis, a) => [a, axis.label]);
  const parts = [];
  const axisSet = (own, other) => (value) => {
    const chosen = Number(value);
    if (chosen === state[other]) state[other] = state[own];
    state[own] = chosen;
    if (state.x === NONE) [state.x, state.y] = [state.y, NONE];
    state.cell = [0, 0];
    all();
  };
  parts.push(select("quantity", "show", data.quantities.map((q, k) => [k, q.label, q.group]), state.quantity,
    (v) => { state.quantity = Number(v); state.logColour = wantsLog(state.quantity); all(); }));
  if (data.axes.length > 1) {
    parts.push(select("x", "across", named, state.x, axisSet("x", "y")));
    parts.push(select("y", "up", [...named, [NONE, "none: a line"]], state.y, axisSet("y", "x")));
  }
  data.axes.forEach((axis, a) => {
    if (a === state.x || a === state.y) return;
    if (axis.labels.length === 1) return;
    if (a === seeds) {
      const seedOptions = axis.labels.map((text, s) => [s, `${axis.label} ${text}`, "one"]);
      parts.push(select("over", "of the seeds", [["median", "median"], ["least", "least"],
        ["largest", "largest"], ["share", "share that reached it"], ...seedOptions], state.over,
      (v) => { state.over = v; all(); }));
    } else {
      const set = (v) => { state.at[a] = Number(v); maps(); cell(); };
      parts.push(axis.values && axis.labels.length > 2
        ? slider(`at-${axis.name}`, axis.label, axis.labels, state.at[a], set)
        : select(`at-${axis.name}`, axis.label, axis.labels.map((t, k) => [k, t]), state.at[a], set));
    }
  });
  parts.push(check("log-colour", state.y === NONE ? "log scale" : "log colours", state.logColour,
    (v) => { state.logColour = v; maps(); }));
  form.replaceChildren(...parts);
  if (focused && form.querySelector(`#${CSS.escape(focused)}`)) byId(focused).focus();
}

/* ---- The map, or the line ---- */

const CHAR = 7;  // pixels of a character, at most

function hatchDefs() {
  return make("defs", {}, make("pattern", { id: "hatch", width: 8, height: 8, patternUnits: "userSpaceOnUse" },
    make("rect", { width: 8, height: 8 }), make("path", { d: "M-2 2 2 -2M0 8 8 0M6 10 10 6" })));
}

/** Labels of an axis that fit: [places to label, whether they are slanted]. */
function fitting(labels, room) {
  const widest = Math.max(...labels.map((t) => t.length)) * CHAR + 6;
  if (widest <= room) return [1, false];
  return [room >= 14 ? 1 : Math.ceil(20 / room), true];
}

const short = (text, most = 16) => text.length > most ? `${text.slice(0, most - 1)}…` : text;

/** The labels of an axis as they stand beside it: four digits, or few characters. */
function tickTexts(axis, most = 16) {
  return axis.labels.map((text) => short(/^\d*\.\d+$/.test(text) ? String(Number(Number(text).toPrecision(4))) : text, most));
}

function bottomAxis(svg, axis, left, top, wide) {
  const room = wide / axis.labels.length, texts = tickTexts(axis);
  const [every, slanted] = fitting(texts, room);
  const deep = slanted ? Math.min(Math.max(...texts.map((t) => t.length)) * CHAR * 0.75, 90) + 12 : 20;
  texts.forEach((text, i) => {
    if (i % every) return;
    const [x, y] = [left + (i + 0.5) * room, top + 15];
    svg.append(make("text", slanted
      ? { x, y: y - 3, "text-anchor": "end", transform: `rotate(-45 ${x} ${y - 3})` }
      : { x, y, "text-anchor": "middle" }, text));
  });
  svg.append(make("text", { x: left + wide / 2, y: top + deep + 14, "text-anchor": "middle", class: "faint" }, axis.label));
  return deep + 22;
}

function maps() {
  const holder = byId("map");
  const focused = holder.contains(document.activeElement) && document.activeElement !== holder;
  const [nx, ny] = [size(state.x), size(state.y)];
  state.cell = [Math.min(state.cell[0], nx - 1), Math.min(state.cell[1], ny - 1)];
  const cells = Array.from({ length: ny }, (_, j) => Array.from({ length: nx }, (_, i) => measure(i, j)));
  const wide = Math.max(holder.clientWidth, 240);
  const draw = state.y === NONE ? drawLine : drawMap;
  const [svg, able] = draw(cells, wide);
  holder.replaceChildren(svg);
  byId("log-colour").disabled = !able;
  byId("over-title").textContent = `${quantityWords()}${overWords()}`;
  const late = cells.flat().some((m) => m.never) ? "A time that never came is later than any other. " : "";
  byId("hint").textContent = nx * ny > 1
    ? "Click a place, or move with the arrow keys (Home and End go to the ends), to see " : late;
  if (nx * ny > 1) byId("hint").append(make("a", { href: "#cell" }, "its curves"), `. ${late}`);
  mark(focused);
}

/** The parts of a map that can be chosen, and how they are chosen. */
function cellOf(i, j, m, attributes) {
  const made = make("rect", {
    role: "gridcell", "data-i": i, "data-j": j, "data-value": String(m.value), tabindex: -1,
    "aria-label": `${placeWords(i, j)}: ${quantityWords()} ${valueWords(m)}`, ...attributes,
  });
  made.append(titleOf(`${placeWords(i, j)}: ${valueWords(m)}`));
  made.addEventListener("click", () => choose(i, j));
  made.addEventListener("focus", () => choose(i, j));
  return made;
}

function titleOf(text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", "title");
  made.textContent = text;
  return made;
}

function summaryOf(cells) {
  const finite = cells.flat().map((m) => m.value).filter(Number.isFinite);
  const never = cells.flat().filter((m) => m.value === Infinity).length;
  const range = finite.length ? `from ${extent(finite).map(format).join(" to ")}` : "no value";
  const over = [state.x, state.y].filter((a) => a !== NONE).map((a) => `${data.axes[a].label} (${size(a)} values)`).join(" and ");
  return `${quantityWords()}${overWords()} over ${over}: ${range}${never ? `; never at ${never} of ${cells.flat().length} places` : ""}`;
}

function drawMap(cells, wide) {
  const colours = scale(cells.flat().map((m) => m.value), state.logColour);
  const [nx, ny] = [size(state.x), size(state.y)];
  const yTexts = tickTexts(data.axes[state.y], wide < 500 ? 11 : 16);
  const left = Math.max(...yTexts.map((t) => t.length)) * CHAR + 30;
  const w = (wide - left - 4) / nx;
  const h = Math.max(Math.min(w * 0.8, 64, 480 / ny), Math.min(22, 480 / ny));
  const tall = h * ny;
  const svg = make("svg", { width: wide, class: "map", role: "grid", "aria-label": summaryOf(cells),
    "aria-rowcount": ny, "aria-colcount": nx }, hatchDefs());
  const gap = Math.min(w, h) > 8 ? 1 : 0;
  for (let j = ny - 1; j >= 0; j--) {
    const row = make("g", { role: "row" });
    for (let i = 0; i < nx; i++) {
      const m = cells[j][i], [x, y] = [left + i * w, (ny - 1 - j) * h];
      const finite = Number.isFinite(m.value);
      const fill = colour(colours.to(m.value));
      row.append(cellOf(i, j, m, { x, y, width: Math.max(w - gap, 0.5), height: Math.max(h - gap, 0.5),
        "shape-rendering": gap ? null : "crispEdges",
        ...(finite ? { fill: rgb(fill) } : { class: m.value === Infinity ? "hatched" : "unknown" }) }));
      const text = finite ? format(m.value) : m.value === Infinity ? "" : "?";
      if (h >= 18 && text.length * 6.3 + 4 < w) {
        row.append(make("text", { class: "in", "aria-hidden": true, x: x + w / 2, y: y + h / 2 + 4, "text-anchor": "middle",
          ...(finite ? { style: `fill:${inkOn(fill)}` } : {}) }, text));
      }
    }
    svg.append(row);
  }
  const every = h >= 13 ? 1 : Math.ceil(20 / h);
  yTexts.forEach((text, j) => {
    if (j % every) return;
    svg.append(make("text", { x: left - 6, y: (ny - 0.5 - j) * h + 4, "text-anchor": "end" }, text));
  });
  svg.append(make("text", { class: "faint", "text-anchor": "middle", transform: `translate(11 ${tall / 2}) rotate(-90)` }, data.axes[state.y].label));
  const below = bottomAxis(svg, data.axes[state.x], left, tall, wide - left - 4);
  for (const kind of ["outer", "inner"]) svg.append(make("rect", { class: `cursor ${kind}`, rx: 2, "aria-hidden": true }));
  svg.setAttribute("height", tall + below);
  legend(cells, colours, wide, left);
  return [svg, colours.able];
}

function legend(cells, colours, wide, left) {
  const flat = cells.flat();
  const bar = Math.min(wide - left - 4, 360), svg = make("svg", { width: wide, height: 40, role: "img",
    "aria-label": `Colours from ${format(colours.low)} to ${format(colours.high)}${colours.log ? ", logarithmic" : ""}` });
  const fade = make("linearGradient", { id: "fade" });
  STOPS.forEach((stop, k) => fade.append(make("stop", { offset: k / (STOPS.length - 1), "stop-color": rgb(stop) })));
  svg.append(make("defs", {}, fade), make("rect", { x: left, y: 4, width: bar, height: 12, fill: "url(#fade)" }));
  let free = -Infinity;
  for (const tick of colours.high > colours.low ? [...colours.ticks] : [colours.low]) {
    const x = left + colours.to(tick) * bar, text = format(tick), half = text.length * CHAR / 2;
    if (x - half < free) continue;
    free = x + half + 6;
    svg.append(make("line", { class: "grid", x1: x, x2: x, y1: 16, y2: 20 }),
      make("text", { x, y: 32, "text-anchor": "middle" }, text));
  }
  const parts = flat.some((m) => Number.isFinite(m.value)) ? [svg] : [];
  const swatch = (kind, text) => make("p", { class: "hint key" },
    swatchOf(kind), ` ${text}`);
  if (flat.some((m) => m.value === Infinity)) parts.push(swatch("hatched", neverWords()));
  if (flat.some((m) => Number.isNaN(m.value))) parts.push(swatch("unknown", "?: unknown"));
  byId("legend").replaceChildren(...parts);
}

function swatchOf(kind) {
  const svg = make("svg", { width: 26, height: 14, "aria-hidden": true, style: "display:inline-block;vertical-align:-2px" });
  svg.append(make("rect", { class: kind, width: 26, height: 14 }));
  return svg;
}

/** One axis: each seed as a dot, the value over seeds as a larger one, in bands that can
    be chosen like the places of a map. */
function drawLine(cells, wide) {
  const row = cells[0], n = row.length, quantity = data.quantities[state.quantity];
  const each = row.map((_, i) => runsAt(i, 0).map((run) => counted(quantity, run)));
  const share = pooled() && state.over === "share";
  const drawn = share ? row.map((m) => [m.value]) : each;
  const y = scale([...drawn.flat(), ...row.map((m) => m.value)], state.logColour);
  const tickTexts = y.ticks.map(format);
  const left = Math.max(...tickTexts.map((t) => t.length), 5) * CHAR + 26, right = wide - 8;
  const [top, tall] = [34, 300], room = (right - left) / n;
  const at = (v) => v === Infinity ? 18 : top + (1 - y.to(v)) * (tall - top - 8);
  const svg = make("svg", { width: wide, class: "map line", role: "grid", "aria-label": summaryOf(cells), "aria-rowcount": 1, "aria-colcount": n }, hatchDefs());
  const bands = make("g", { role: "row" });
  row.forEach((m, i) => bands.append(cellOf(i, 0, m, { class: "band", x: left + i * room, y: 4, width: room, height: tall - 4 })));
  svg.append(bands);
  y.ticks.forEach((tick, k) => svg.append(
    make("line", { class: "grid", x1: left, x2: right, y1: at(tick), y2: at(tick), "pointer-events": "none" }),
    make("text", { x: left - 6, y: at(tick) + 4, "text-anchor": "end" }, tickTexts[k])));
  if (drawn.flat().includes(Infinity)) {
    svg.append(make("rect", { class: "hatched", x: left, y: 9, width: right - left, height: 18, "pointer-events": "none", opacity: 0.8 }),
      make("text", { x: left - 6, y: 22, "text-anchor": "end" }, "never"));
  }
  const middle = (i) => left + (i + 0.5) * room;
  if (data.axes[state.x]?.values) {
    let path = "";
    row.forEach((m, i) => {
      if (!Number.isFinite(m.value)) return;
      path += `${path && Number.isFinite(row[i - 1]?.value) ? "L" : "M"}${middle(i)} ${at(m.value)}`;
    });
    svg.append(make("path", { class: "median", d: path, "pointer-events": "none" }));
  }
  drawn.forEach((values, i) => values.forEach((v) => {
    if (!Number.isNaN(v)) svg.append(make("circle", { class: "dot", cx: middle(i), cy: at(v), r: 3.5 }));
  }));
  row.forEach((m, i) => {
    if (!Number.isNaN(m.value)) svg.append(make("circle", { class: "middle", cx: middle(i), cy: at(m.value), r: 6 }));
  });
  const axis = data.axes[state.x];
  const below = axis ? bottomAxis(svg, axis, left, tall, right - left) : 4;
  svg.append(make("text", { class: "faint", "text-anchor": "middle", transform: `translate(11 ${tall / 2}) rotate(-90)` }, quantityWords()));
  for (const kind of ["outer", "inner"]) svg.append(make("rect", { class: `cursor ${kind}`, rx: 2, "aria-hidden": true }));
  svg.setAttribute("height", tall + below);
  byId("legend").replaceChildren(...(pooled() && !share ? [make("p", { class: "hint" }, "Small dots are seeds.")] : []));
  return [svg, y.able];
}

const cellAt = (i, j) => byId("map").querySelector(`[data-i="${i}"][data-j="${j}"]`);

/** Moves the mark, and what the Tab key reaches, to the chosen place. */
function mark(focus) {
  const map = byId("map").firstElementChild, chosen = cellAt(...state.cell);
  for (const old of map.querySelectorAll("[aria-selected=true]")) {
    old.setAttribute("aria-selected", false);
    old.setAttribute("tabindex", -1);
  }
  chosen.setAttribute("aria-selected", true);
  chosen.setAttribute("tabindex", 0);
  for (const cursor of map.querySelectorAll(".cursor")) {
    for (const side of ["x", "y", "width", "height"]) cursor.setAttribute(side, chosen.getAttribute(side));
  }
  if (focus) chosen.focus({ preventScroll: true });
}

function choose(i, j) {
  if (state.cell[0] === i && state.cell[1] === j) return;
  state.cell = [i, j];
  mark(false);
  cell();
}

function keys(event) {
  const [i, j] = state.cell, [nx, ny] = [size(state.x), size(state.y)];
  const to = {
    ArrowLeft: [i - 1, j], ArrowRight: [i + 1, j], ArrowUp: [i, j + 1], ArrowDown: [i, j - 1],
    Home: [0, event.ctrlKey ? ny - 1 : j], End: [nx - 1, event.ctrlKey ? 0 : j],
  }[event.key];
  if (!to || event.altKey || event.metaKey || event.target.getAttribute("role") !== "gridcell") return;
  event.preventDefault();
  const next = [Math.max(0, Math.min(nx - 1, to[0])), Math.max(0, Math.min(ny - 1, to[1]))];
  cellAt(...next).focus();
}

/* ---- The chosen place: its curves and its runs ---- */

const isLoss = (panel) => /loss|risk|error|regression/.test(panel);

/** The points of a run's curve that are known: [step, value]. */
function points(curve, run) {
  const n = curve.steps.length, out = [];
  for (let k = 0; k < n; k++) {
    const value = curve.values[run * n + k];
    if (Number.isFinite(value)) out.push([curve.steps[k], value]);
  }
  return out;
}

function cell() {
  const runs = runsAt(...state.cell);
  byId("place").textContent = `${placeWords(...state.cell)}${placeWords(...state.cell) && ": "}${quantityWords()} ${valueWords(measure(...state.cell))}`;
  const names = pooled() ? data.axes[seeds].labels : runs.map(() => "");
  if (Number(state.highlight) >= runs.length) state.highlight = "all";
  const shown = data.curves
    .map((curve) => ({ curve, lines: runs.map((run) => points(curve, run)) }))
    .filter(({ lines }) => lines.some((line) => line.length));
  const panels = Map.groupBy ? Map.groupBy(shown, (s) => s.curve.panel)
    : shown.reduce((m, s) => m.set(s.curve.panel, [...(m.get(s.curve.panel) ?? []), s]), new Map());
  const steps = [...new Set(shown.flatMap(({ lines }) => lines.flat().map((p) => p[0])))].sort((a, b) => a - b);
  curveControls(names, steps);
  const last = steps.at(-1) ?? 0;
  const holders = [...panels].map(([panel, group]) => {
    const figure = make("figure", {}, make("figcaption", {}, panel), make("p", { class: "read" }));
    return { panel, group, figure };
  });
  byId("panels").replaceChildren(...holders.map((h) => h.figure));
  if (!holders.length) byId("panels").append(make("p", { class: "hint" }, "No curve was recorded here."));
  drawn = holders.map((h) => drawPanel(h, last));
  readOut();
  runTable(runs, names);
}

function curveControls(names, steps) {
  const form = byId("curve-controls"), focused = document.activeElement?.id;
  const parts = [];
  if (names.length > 1) {
    parts.push(select("highlight", "curves of", [["all", "all seeds"], ...names.map((t, s) => [s, `${data.axes[seeds].label} ${t}`])],
      state.highlight, (v) => { state.highlight = v; cell(); }));
  }
  parts.push(check("log-step", "log steps", state.logStep, (v) => { state.logStep = v; cell(); }),
    check("log-loss", "log losses", state.logLoss, (v) => { state.logLoss = v; cell(); }));
  if (steps.length > 1) {
    const at = Math.max(0, steps.findLastIndex((s) => s <= state.step));
    const made = slider("record", "values at step", steps.map(format), at, (k) => { state.step = steps[k]; readOut(); });
    made.classList.add("wide");
    parts.push(made);
  }
  form.replaceChildren(...parts);
  if (focused && form.querySelector(`#${CSS.escape(focused)}`)) byId(focused).focus();
}

function splitClass(split) {
  return split || "other";
}

function drawPanel({ panel, group, figure }, last) {
  const wide = Math.max(figure.clientWidth, 180), tall = 170, top = 6, base = tall - 30;
  const y = scale(group.flatMap((g) => g.lines.flat().map((p) => p[1])), isLoss(panel) && state.logLoss, 4);
  const left = Math.max(...y.ticks.map((t) => format(t).length), 3) * CHAR + 8, right = wide - 8;
  const place = state.logStep ? (s) => Math.log10(s + 1) : (s) => s;
  const end = place(last) || 1;
  const x = (s) => left + place(s) / end * (right - left), up = (v) => base - y.to(v) * (base - top);
  const names = group.map(({ curve }) => curve.split || curve.label).join(" and ");
  const svg = make("svg", { width: wide, height: tall, role: "img" });
  y.ticks.forEach((t) => svg.append(make("line", { class: "grid", x1: left, x2: right, y1: up(t), y2: up(t) }),
    make("text", { x: left - 4, y: up(t) + 4, "text-anchor": "end" }, format(t))));
  let free = -Infinity;
  for (const s of state.logStep ? [0, ...logTicks(1, Math.max(last, 1), 5)] : ticks(0, last, 4)) {
    const text = format(s), half = text.length * CHAR / 2, middle = Math.min(x(s), wide - half);
    if (s > last || middle - half < free) continue;
    free = middle + half + 4;
    svg.append(make("text", { x: middle, y: base + 15, "text-anchor": "middle" }, text));
  }
  svg.append(make("line", { class: "grid", x1: left, x2: right, y1: base, y2: base }),
    make("text", { class: "faint", x: (left + right) / 2, y: base + 28, "text-anchor": "middle" }, "step"));
  const ends = [];
  group.forEach(({ curve, lines }) => lines.forEach((line, s) => {
    const kind = state.highlight === "all" ? "" : String(s) === String(state.highlight) ? "strong" : "faded";
    const d = line.map(([step, v], k) => `${k ? "L" : "M"}${x(step).toFixed(1)} ${up(v).toFixed(1)}`).join("");
    if (line.length === 1) {
      svg.append(make("circle", { class: `point ${splitClass(curve.split)} ${kind}`, cx: x(line[0][0]), cy: up(line[0][1]), r: 3 }));
    }
    svg.append(make("path", { class: `curve ${splitClass(curve.split)} ${kind}`, d, "data-curve": curve.name, "data-seed": s }));
    if (line.length) ends.push(`${curve.split || curve.label} ends at ${format(line.at(-1)[1])}`);
  }));
  svg.setAttribute("aria-label", `${panel} over steps, ${names}${y.log ? ", logarithmic" : ""}: ${ends.slice(0, 6).join(", ")}${ends.length > 6 ? ", ..." : ""}`);
  const now = make("line", { class: "now", y1: top, y2: base });
  svg.append(now);
  svg.addEventListener("pointermove", (event) => {
    const share = (event.clientX - svg.getBoundingClientRect().left - left) / (right - left);
    const wanted = state.logStep ? 10 ** (share * end) - 1 : share * end;
    const range = byId("record");
    if (!range) return;
    const steps = stepsShown();
    const k = steps.reduce((best, s, i) => Math.abs(place(s) - place(Math.max(wanted, 0))) < Math.abs(place(steps[best]) - place(Math.max(wanted, 0))) ? i : best, 0);
    if (Number(range.value) !== k) {
      range.value = k;
      range.dispatchEvent(new Event("input"));
    }
  });
  figure.insertBefore(svg, figure.lastElementChild);
  return { group, figure, now, x, last, read: figure.lastElementChild };
}

function stepsShown() {
  return [...new Set(drawn.flatMap(({ group }) => group.flatMap(({ lines }) => lines.flat().map((p) => p[0]))))].sort((a, b) => a - b);
}

/** Writes the values at the chosen step under each panel: of one seed, or the median. */
function readOut() {
  for (const { group, now, x, last, read } of drawn) {
    const step = Math.min(state.step, last);
    now.setAttribute("x1", x(step));
    now.setAttribute("x2", x(step));
    const parts = group.map(({ curve, lines }) => {
      const asked = state.highlight === "all" ? lines : [lines[state.highlight]];
      const values = asked.map((line) => line.findLast(([s]) => s <= step)?.[1]).filter((v) => v !== undefined).sort((a, b) => a - b);
      const n = values.length, text = n ? format((values[(n - 1) >> 1] + values[n >> 1]) / 2) : "–";
      const range = n > 1 && values[0] !== values[n - 1] ? ` (${format(values[0])} to ${format(values[n - 1])})` : "";
      return make("span", { style: `color:var(--${splitClass(curve.split)})`, "data-read": curve.name }, `${curve.split ? `${curve.split} ` : ""}${text}${range}`);
    });
    read.replaceChildren(...parts.flatMap((p, k) => k ? [" · ", p] : [p]));
  }
}

function runTable(runs, names) {
  const first = ["t_train", "t_test", "delay"];
  const wanted = data.quantities.filter((q, k) => first.includes(q.name) || k === state.quantity || /^last (train|test)_(loss|accuracy)$/.test(q.name) || (q.name === "diverged" && runs.some((run) => q.values[run])));
  const label = (q) => q.group.endsWith("value") ? `${q.group.split(" ")[0]} ${q.label}` : q.name === "delay" ? "delay" : q.label.replace(/^t /, "t\u00a0");
  const seedLabel = pooled() ? data.axes[seeds].label : "run";
  const value = (q, run) => {
    const v = q.values[run];
    if (q.name === "diverged") return v ? "yes" : "no";
    return q.group === "times" && Number.isNaN(v) ? (q.name === "delay" ? "never fitted" : "never") : format(v);
  };
  byId("runs").replaceChildren(
    make("caption", { id: "runs-caption" }, "Each run"),
    make("thead", {}, make("tr", {}, ...[seedLabel, ...wanted.map(label)].map((t) => make("th", { scope: "col" }, t)))),
    make("tbody", {}, ...runs.map((run, s) => make("tr", {}, make("th", { scope: "row" }, names[s] || "this one"),
      ...wanted.map((q) => make("td", { "data-quantity": q.name }, value(q, run)))))));
}

/* ---- Claims and facts ---- */

function claims() {
  const held = data.claims.filter((c) => c.holds).length;
  byId("score").textContent = data.claims.length ? `${held} of ${data.claims.length} hold.` : "None were tested.";
  byId("claim-list").replaceChildren(...data.claims.map((c) => make("li", {},
    make("p", {}, make("span", { class: `verdict ${c.holds ? "yes" : "no"}` }, c.holds ? "✓ holds" : "✗ does not hold"), ` · ${c.id} · ${c.place}`),
    make("p", {}, c.statement + (c.less ? ` (Not tested: ${c.less}.)` : "")),
    make("details", {}, make("summary", {}, `Test and measurements of ${c.id}`), make("p", {}, `Expected: ${c.expected}`),
      make("ul", { class: "measured" }, ...c.measured.map((m) => make("li", {}, m)))))));
  byId("facts").replaceChildren(...Object.entries(data.facts ?? {}).flatMap(([k, v]) => [make("dt", {}, k), make("dd", {}, v)]));
  byId("left-out").textContent = data.left_out.length ? `Not in this page, but in results.nc: ${data.left_out.join("; ")}.` : "";
}

function all() {
  controls();
  maps();
  cell();
}

async function start() {
  data = await unpack(byId("data").textContent.trim());
  byId("name").textContent = data.name || "Runs";
  byId("description").textContent = data.description ?? "";
  if (data.back) byId("back").setAttribute("href", data.back);
  claims();
  byId("main").hidden = false;
  if (!data.quantities.length) {
    byId("over").replaceChildren(make("p", {}, "These runs are too many for one page; results.nc holds them all."));
    byId("cell").hidden = true;
    return;
  }
  seeds = data.axes.findIndex((axis) => axis.name === "seed");
  strides = data.axes.map((_, a) => data.axes.slice(a + 1).reduce((n, axis) => n * axis.labels.length, 1));
  state = firstState();
  all();
  byId("map").addEventListener("keydown", keys);
  for (const form of document.forms) form.addEventListener("submit", (event) => event.preventDefault());
  let before = innerWidth;
  addEventListener("resize", () => {
    if (innerWidth !== before) all();
    before = innerWidth;
  });
}

start().catch((error) => {
  byId("trouble").hidden = false;
  byId("trouble").textContent = `This page cannot be shown here (${error.message}). It needs a browser of 2023 or later; results.nc holds the runs.`;
});
