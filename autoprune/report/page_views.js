// Draws the views. Every mark of a trial has its number in data-trial, whatever the view: selecting, hovering and opening
// look for that alone. Texts are set as text, never as markup.

let placed = []; // what the scatter shows, with places in its picture

function put(parent, name, attributes = {}, text = "") {
  const space = parent.namespaceURI === "http://www.w3.org/2000/svg" || name === "svg";
  const element = space ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.textContent = text;
  return parent.appendChild(element);
}

function canvas(id, height) {
  const host = byId(id);
  host.replaceChildren();
  const width = Math.max(host.clientWidth, 280);
  return [put(host, "svg", { viewBox: `0 0 ${width} ${height}`, height }), width];
}

function scale(values, from, to, room = 0.05) {
  let [low, high] = values.reduce(([least, most], v) => [Math.min(least, v), Math.max(most, v)], [Infinity, -Infinity]);
  if (low === high) [low, high] = [low - (Math.abs(low) || 1) * 0.1, high + (Math.abs(high) || 1) * 0.1];
  const more = (high - low) * room;
  [low, high] = [low - more, high + more];
  const at = (value) => from + ((value - low) / (high - low)) * (to - from);
  const raw = (high - low) / 5;
  const size = 10 ** Math.floor(Math.log10(raw));
  const step = size * [1, 2, 5, 10].find((factor) => factor * size >= raw);
  at.ticks = [];
  for (let tick = Math.ceil(low / step); tick * step <= high; tick += 1) at.ticks.push(tick * step);
  return at;
}

function frame(svg, x, y, across, up, [left, top, right, bottom]) {
  for (const tick of x.ticks) {
    put(svg, "line", { class: "axis", x1: x(tick), x2: x(tick), y1: top, y2: bottom });
    put(svg, "text", { x: x(tick), y: bottom + 14, "text-anchor": "middle" }, bare(tick, across.unit));
  }
  for (const tick of y.ticks) {
    put(svg, "line", { class: "axis", x1: left, x2: right, y1: y(tick), y2: y(tick) });
    put(svg, "text", { x: left - 5, y: y(tick) + 4, "text-anchor": "end" }, bare(tick, up.unit));
  }
  const unit = (axis) => axis.unit.startsWith("fraction") ? ` (${axis.unit.replace("fraction", "%")})` : "";
  const name = (axis) => (unit(axis) ? axis.label + unit(axis) : titled(axis)) + (better[axis.direction] || "");
  put(svg, "text", { x: right, y: bottom + 30, "text-anchor": "end" }, name(across));
  put(svg, "text", { x: 2, y: 12 }, name(up));
}

const STAR = "M0,-7L1.7,-2.3 6.7,-2.2 2.7,.9 4.1,5.7 0,2.9 -4.1,5.7 -2.7,.9 -6.7,-2.2 -1.7,-2.3Z";
const LAYERS = ["infeasible", "plain", "ladder", "member", "dense"]; // the last is drawn on top

function layer(trial) {
  if (trial.origin === "dense") return "dense";
  if (members.has(trial.number)) return "member";
  return trial.feasible ? (trial.origin === "ladder" ? "ladder" : "plain") : "infeasible";
}

function shape(parent, type, x, y, more = {}) {
  const mark = { class: `mark ${type}`, ...more };
  if (type === "dense") return put(parent, "path", { d: STAR, transform: `translate(${x},${y})`, ...mark });
  if (type === "ladder") return put(parent, "path", { d: "M0,-4L4,0 0,4 -4,0Z", transform: `translate(${x},${y})`, ...mark });
  return put(parent, "circle", { cx: x, cy: y, r: type === "member" ? 4.5 : 3, ...mark });
}

function legend() {
  const entries = {
    member: "front", dense: "dense model", pick: "the verdict's pick", ladder: "uniform ratio", plain: "dominated",
    infeasible: "breaks a constraint", bound: "constraint",
  };
  const found = new Set(data.trials.map(layer));
  if (known(data.pick)) found.add("pick");
  if (data.metrics.some((metric) => known(metric.bound))) found.add("bound");
  for (const [type, text] of Object.entries(entries)) {
    if (!found.has(type)) continue;
    const entry = put(byId("legend"), "span");
    const svg = put(entry, "svg", { viewBox: "-8 -8 16 16", "aria-hidden": "true" });
    if (type === "bound") put(svg, "line", { class: "bound", x1: -8, x2: 8, y1: 0, y2: 0 });
    else shape(svg, type === "pick" ? "member" : type, 0, 0);
    if (type === "pick") put(svg, "circle", { class: "ring", r: 7 });
    entry.append(` ${text}`);
  }
}

function scatter() {
  const [across, up] = ["across", "up"].map((id) => axes[byId(id).value]);
  const height = 420;
  const [svg, width] = canvas("scatter", height);
  const box = [58, 22, width - 12, height - 38];
  const shown = data.trials.filter((trial) => across.measured(trial) && up.measured(trial));
  const x = scale(shown.map((trial) => across.measured(trial)[0]), box[0], box[2]);
  const y = scale(shown.map((trial) => up.measured(trial)[0]), box[3], box[1]);
  frame(svg, x, y, across, up, box);
  placed = shown.map((trial) => ({
    trial, number: trial.number, x: x(across.measured(trial)[0]), y: y(up.measured(trial)[0]),
  }));
  for (const [axis, at, ends] of [[across, x, [box[0], box[2]]], [up, y, [box[1], box[3]]]]) {
    const bound = at(axis.bound ?? NaN);
    if (!(bound >= ends[0] && bound <= ends[1])) continue;
    const line = axis === across ? { x1: bound, x2: bound, y1: box[1], y2: box[3] } : { y1: bound, y2: bound, x1: box[0], x2: box[2] };
    put(svg, "line", { class: "bound", ...line });
  }
  const inside = (value, low, high) => Math.min(Math.max(value, low), high);
  for (const { trial, x: left, y: top } of placed.filter((each) => members.has(each.number))) {
    const mark = put(svg, "g", { "data-trial": trial.number });
    const [, low, high] = across.measured(trial);
    if (known(low) && known(high))
      put(mark, "line", { class: "spread", y1: top, y2: top, x1: inside(x(low), box[0], box[2]), x2: inside(x(high), box[0], box[2]) });
    const [, least, most] = up.measured(trial);
    if (known(least) && known(most))
      put(mark, "line", { class: "spread", x1: left, x2: left, y1: inside(y(least), box[1], box[3]), y2: inside(y(most), box[1], box[3]) });
  }
  placed.sort((a, b) => LAYERS.indexOf(layer(a.trial)) - LAYERS.indexOf(layer(b.trial)));
  for (const { trial, number: its, x: left, y: top } of placed) {
    const opens = points.has(its);
    const attributes = opens ? { href: `#trial-${its}`, tabindex: -1, "aria-label": `trial ${its}` } : {};
    const mark = put(svg, opens ? "a" : "g", { "data-trial": its, ...attributes });
    shape(mark, layer(trial), left, top);
    if (its === data.pick) put(mark, "circle", { class: "ring", cx: left, cy: top, r: 8.5 });
  }
  brush(svg);
  step(svg);
  show();
}

function parallel() {
  const height = 300;
  const [svg, width] = canvas("parallel", height);
  const edge = Math.min(110, width / 6);
  const shown = data.points.map((point) => trials.get(point.number))
    .filter((trial) => objectives.every(({ place }) => trial.metrics[place]));
  const columns = objectives.map((metric, place) => {
    const share = objectives.length > 1 ? place / (objectives.length - 1) : 0.5;
    const ends = metric.direction === "maximize" ? [height - 34, 34] : [34, height - 34];
    return { metric, x: edge + share * (width - 2 * edge), y: scale(shown.map((trial) => trial.metrics[metric.place][0]), ...ends, 0) };
  });
  for (const { x } of columns) put(svg, "line", { class: "axis", x1: x, x2: x, y1: 34, y2: height - 34 });
  const order = (trial) => (trial.origin === "dense" ? 2 : trial.number === data.pick ? 1 : 0);
  for (const trial of [...shown].sort((a, b) => order(a) - order(b))) {
    const type = ["", " pick", " dense"][order(trial)];
    const places = columns.map(({ metric, x, y }) => `${x},${y(trial.metrics[metric.place][0])}`);
    if (places.length === 1) shape(svg, layer(trial), ...places[0].split(","), { "data-trial": trial.number });
    else put(svg, "polyline", { class: `line${type}`, points: places.join(" "), "data-trial": trial.number });
  }
  for (const { metric, x, y } of columns) {
    put(svg, "text", { x, y: 14, "text-anchor": "middle" }, titled(metric));
    for (const tick of y.ticks) put(svg, "text", { x: x + 5, y: y(tick) + 4 }, bare(tick, metric.unit));
  }
}

// Cividis, which is told apart with any colour vision: from nothing cut to all of it.
const COLOURS = [[254, 232, 56], [188, 173, 108], [124, 123, 120], [67, 78, 108], [0, 34, 78]];

function colour(ratio) {
  const place = Math.min(Math.max(ratio, 0), 1) * (COLOURS.length - 1);
  const low = Math.min(Math.floor(place), COLOURS.length - 2);
  return COLOURS[low].map((from, i) => Math.round(from + (COLOURS[low + 1][i] - from) * (place - low)));
}

function heat() {
  const rows = searched;
  const shown = data.front.map((its) => trials.get(its)).filter((trial) => trial.origin !== "dense");
  if (!rows.length || !shown.length) return;
  const size = rows.length > 60 ? 6 : 15;
  const height = rows.length * size + 66;
  const [svg, width] = canvas("heat", height);
  const left = Math.min(160, width / 3);
  const cell = Math.min((width - left - 10) / shown.length, 40);
  const picture = document.createElement("canvas"); // a pixel per cell: thousands of rectangles would be slow
  [picture.width, picture.height] = [shown.length, rows.length];
  const pixels = picture.getContext("2d").createImageData(shown.length, rows.length);
  rows.forEach(({ group, place }, down) => shown.forEach((trial, across) => {
    pixels.data.set([...colour(trial.cut[place] / group.units), 255], 4 * (down * shown.length + across));
  }));
  picture.getContext("2d").putImageData(pixels, 0, 0);
  put(svg, "image", {
    href: picture.toDataURL(), x: left, y: 0, width: cell * shown.length, height: size * rows.length,
    preserveAspectRatio: "none", style: "image-rendering: pixelated",
  });
  if (size > 10)
    rows.forEach(({ group }, down) => {
      const name = group.name.length > 24 ? `…${group.name.slice(-23)}` : group.name;
      put(svg, "text", { x: left - 5, y: (down + 0.75) * size, "text-anchor": "end" }, name);
    });
  let free = -Infinity; // where the next number fits without touching the last
  shown.forEach((trial, across) => {
    const x = left + across * cell;
    put(svg, "rect", { class: "column", "data-trial": trial.number, x, y: 0, width: cell, height: size * rows.length });
    if (x < free) return;
    put(svg, "text", { x: x + cell / 2, y: size * rows.length + 13, "text-anchor": "middle" }, `${trial.number}`);
    free = x + 30;
  });
  for (let step = 0; step <= 20; step += 1) {
    const fill = `rgb(${colour(step / 20)})`;
    put(svg, "rect", { x: left + step * 8, y: height - 36, width: 8, height: 10, fill });
  }
  put(svg, "text", { x: left, y: height - 12 }, "0 %");
  put(svg, "text", { x: left + 168, y: height - 12, "text-anchor": "end" }, "100 % of the units went");
}

function volume() {
  const height = 240;
  const [svg, width] = canvas("volume", height);
  const box = [58, 22, width - 12, height - 38];
  const x = scale(data.volumes.map(([its]) => its), box[0], box[2], 0.02);
  const y = scale([0, ...data.volumes.map(([, value]) => value)], box[3], box[1], 0.03);
  frame(svg, x, y, { label: "trial", unit: "" }, { label: "hypervolume", unit: "" }, box);
  const steps = data.volumes.map(([its, value]) => `H${x(its)}V${y(value)}`);
  put(svg, "path", { class: "steps", d: `M${x(data.volumes[0][0])},${y(0)}${steps.join("")}` });
  for (const [its, value] of data.volumes) {
    if (!trials.has(its)) continue;
    const type = layer(trials.get(its));
    put(svg, "circle", { class: `mark ${type}`, "data-trial": its, cx: x(its), cy: y(value), r: type === "member" ? 3.5 : 2 });
  }
}
