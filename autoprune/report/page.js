"use strict";
// Draws the views of a study. Every mark of a trial has its number in data-trial: hovering, selecting and opening
// look for that alone, whatever the view. Texts are set as text, never as markup.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  if (!data.front.length) return;
  const byId = (id) => document.getElementById(id);
  const trials = new Map(data.trials.map((trial) => [trial.number, trial]));
  const points = new Map(data.points.map((point) => [point.number, point]));
  const members = new Set(data.front);
  const objectives = data.metrics.map((metric, place) => ({ ...metric, place })).filter((metric) => metric.direction);
  const axes = [
    ...data.metrics.map((metric, place) => ({ ...metric, measured: (trial) => trial.metrics[place] })),
    ...data.metrics.map((metric, place) => {
      const measured = (trial) => points.get(trial.number)?.test[place];
      return { ...metric, label: `${metric.label}, ${data.test}`, bound: null, measured };
    }),
    { label: "mean ratio", unit: "fraction", measured: (trial) => [trial.mean] },
    { label: "trial", unit: "", measured: (trial) => [trial.number] },
  ].filter((axis) => data.trials.some(axis.measured));
  const searched = data.groups.map((group, place) => ({ group, place })).filter(({ group }) => group.searched);
  let selected = new Set();

  // ---- texts, as in the written report

  function fixed(value, digits) {
    const exact = value.toFixed(60);
    const end = exact.indexOf(".") + (digits ? digits + 1 : 0);
    const tie = /^\.?50*$/.test(exact.slice(end)) && "02468".includes(exact[end - 1]);
    return tie ? exact.slice(0, end) : value.toFixed(digits); // Python rounds ties to even, 56.25 to 56.2
  }

  function number(value, unit) {
    if (value === null || value === undefined) return "-";
    if (unit.startsWith("fraction")) return `${fixed(100 * value, 1)} %`;
    const size = Math.abs(value);
    for (const [least, factor, prefix] of [[1e9, 1e9, "G"], [1e6, 1e6, "M"], [1e4, 1e3, "k"]])
      if (size >= least) return `${fixed(value / factor, 1)} ${prefix}`;
    if (size >= 1000) return fixed(value, 0);
    return `${size < 1e-4 ? Number(value.toPrecision(3)) : Number(fixed(value, 2 - Math.floor(Math.log10(size))))}`;
  }
  const bare = (value, unit) => number(value, unit).replace(/ %$/, "");
  const known = (value) => value !== null && value !== undefined;

  function spread(measured, unit) {
    if (!measured) return "-";
    const [value, low, high] = measured;
    const ends = known(low) && known(high) ? ` (${bare(low, unit)} to ${bare(high, unit)})` : "";
    return number(value, unit) + ends;
  }

  function against(measured, unit) {
    const [, , , value, low, high] = measured || [];
    if (!known(value)) return "-";
    const text = (value > 0 ? "+" : "") + bare(value, unit);
    if (!known(low) || !known(high)) return text;
    return `${text} (${bare(low, unit)} to ${bare(high, unit)})${low <= 0 && high >= 0 ? " ≈" : ""}`;
  }

  const some = (numbers) => numbers.slice(0, 8).join(", ") + (numbers.length > 8 ? ", …" : "");
  const titled = (metric) => ["", "1", "fraction"].includes(metric.unit) ? metric.label : `${metric.label} (${metric.unit})`;
  const better = { maximize: ", higher is better", minimize: ", lower is better" };

  function kind(trial) {
    if (trial.number === data.pick) return "the verdict's pick";
    const shape = { dense: "the dense model", ladder: "uniform ratio" }[trial.origin];
    const whose = members.has(trial.number) ? "front" : trial.feasible ? "" : "breaks a constraint";
    return [whose, shape].filter(Boolean).join(", ") || "dominated";
  }

  function told(trial, cell) {
    const lines = [`trial ${trial.number}: ${kind(trial)}`];
    if (cell) {
      const { group, place } = cell;
      const cut = trial.cut[place];
      return [...lines, `− ${number(cut / group.units, "fraction")} of ${group.name}: ${cut} of ${group.units} units`].join("\n");
    }
    data.metrics.forEach((metric, place) => {
      if (trial.metrics[place]) lines.push(`${titled(metric)} ${spread(trial.metrics[place], metric.unit)}`);
    });
    const cuts = data.groups.map((group, place) => [group, trial.cut[place]]).filter(([, cut]) => cut > 0);
    cuts.slice(0, 12).forEach(([group, cut]) => lines.push(`− ${number(cut / group.units, "fraction")} of ${group.name}`));
    if (cuts.length > 12) lines.push(`… and of ${cuts.length - 12} more groups`);
    return lines.join("\n");
  }

  // ---- elements

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

  // ---- views

  let placed = []; // what the scatter shows, with places in its picture

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

  function step(svg) {
    svg.setAttribute("tabindex", 0);
    svg.setAttribute("aria-label", "The front. Arrow keys go from model to model.");
    const order = placed.filter((each) => points.has(each.number)).sort((a, b) => a.x - b.x).map((each) => each.number);
    svg.addEventListener("keydown", (event) => {
      const its = Number(document.activeElement.dataset.trial);
      const way = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (way) {
        const next = order.includes(its) ? (order.indexOf(its) + way + order.length) % order.length : 0;
        svg.querySelector(`a[data-trial="${order[next]}"]`).focus();
      } else if (event.key === " " && order.includes(its)) {
        select(selected.has(its) ? [...selected].filter((each) => each !== its) : [...selected, its]);
      } else return;
      event.preventDefault();
    });
  }

  function brush(svg) {
    let start = null;
    let area = null;
    const at = (event) => {
      const { x, y } = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
      return [x, y];
    };
    svg.addEventListener("pointerdown", (event) => { start = event.button ? null : at(event); });
    svg.addEventListener("dragstart", (event) => event.preventDefault());
    svg.addEventListener("pointermove", (event) => {
      if (!start) return;
      const [x, y] = at(event);
      if (!area && Math.hypot(x - start[0], y - start[1]) < 5) return;
      if (!area) {
        area = put(svg, "rect", { class: "brush" });
        try { svg.setPointerCapture(event.pointerId); } catch { /* the pointer is gone already */ }
      }
      const [left, top] = [Math.min(x, start[0]), Math.min(y, start[1])];
      const [right, bottom] = [Math.max(x, start[0]), Math.max(y, start[1])];
      for (const [key, value] of Object.entries({ x: left, y: top, width: right - left, height: bottom - top }))
        area.setAttribute(key, value);
      const within = placed.filter((p) => p.x >= left && p.x <= right && p.y >= top && p.y <= bottom);
      select(within.map((p) => p.number));
    });
    const end = () => { start = null; area?.remove(); area = null; };
    svg.addEventListener("pointerup", end);
    svg.addEventListener("pointercancel", end);
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

  // ---- one model

  function table(parent, titles, rows) {
    const body = put(put(parent, "div", { class: "wide", tabindex: 0 }), "table");
    for (const [cells, name] of [[titles, "th"], ...rows.map((row) => [row, "td"])]) {
      const line = put(body, "tr");
      for (const cell of cells) put(line, name, {}, cell);
    }
  }

  function open(its) {
    const [point, trial, dense] = [points.get(its), trials.get(its), points.get(data.dense)];
    const host = byId("point");
    byId("which").value = its;
    host.replaceChildren();
    put(host, "p", { class: "verdict" }, point.told);
    const like = point.alike.length ? ` No objective with an interval tells it from ${some(point.alike)}.` : "";
    const [strategy, scorer, precision] = point.made;
    const by = [`strategy ${strategy}`, scorer && `units ranked by ${scorer}`, `measured in ${precision}`];
    const knobs = Object.entries(point.knobs).map(([name, value]) => `${name} ${value}`);
    put(host, "p", {}, `${[...by, ...knobs].filter(Boolean).join(", ")}.${like}`);
    if (point.code) put(host, "pre", {}, point.code);

    const splits = [["validation", "validation"], ["searched", "as it was searched"], ["test", data.test], ["whole", "whole test split"]];
    const whose = splits.filter(([key]) => point[key].some(Boolean) && (key !== "whole" || data.test !== "test split"));
    const columns = whose.map(([key, title]) => [title, (m, i) => spread(point[key][i], m.unit)]);
    if (dense && dense !== point)
      for (const [key, title] of whose.filter(([key]) => dense[key].some(Boolean)))
        columns.push([`dense, ${title}`, (m, i) => spread(dense[key][i], m.unit)]);
    const surest = (i) => point.whole[i] || point.test[i] || point.validation[i];
    if (data.metrics.some((metric, i) => known(surest(i)?.[3])))
      columns.push(["against dense, same samples", (metric, i) => against(surest(i), metric.unit)]);
    const rows = data.metrics.map((metric, i) => [titled(metric), ...columns.map(([, of]) => of(metric, i))]);
    table(host, ["", ...columns.map(([title]) => title)], rows.filter((row) => row.slice(1).some((cell) => cell !== "-")));
    put(host, "p", {}, "Intervals are of 95 % confidence. Of differences, ≈ says that chance explains it.");

    const groups = data.groups.map((group, place) => {
      const cut = trial.cut[place];
      const name = [group.name, ...group.layers.filter((layer) => layer !== group.name)].join(", ");
      return [name, group.kind, `${group.units}`, `${group.units - cut}`, number(cut / group.units, "fraction")];
    });
    table(host, ["layers", "units are", "before", "after", "went"], groups);
  }

  // ---- selecting, hovering, opening

  function select(numbers) {
    selected = new Set(numbers);
    show();
  }

  function show() {
    document.body.classList.toggle("selecting", selected.size > 0);
    for (const mark of document.querySelectorAll("[data-trial]"))
      mark.classList.toggle("on", selected.has(Number(mark.dataset.trial)));
    byId("clear").disabled = !selected.size;
    const chosen = data.front.filter((its) => selected.has(its));
    const front = chosen.length ? `, ${chosen.length} of them on the front: ${some(chosen)}` : "";
    byId("selected").textContent = selected.size ? `${selected.size} selected${front}` : "";
  }

  function hover(event) {
    const mark = event.target.closest?.(".plot [data-trial]");
    const trial = mark && trials.get(Number(mark.dataset.trial));
    const tip = byId("tip");
    tip.hidden = !trial;
    if (!trial) return;
    const box = mark.getBoundingClientRect();
    const down = Math.floor((event.clientY - box.top) / box.height * searched.length);
    tip.textContent = told(trial, mark.classList.contains("column") ? searched[down] : null);
    const [x, y] = event.type === "focusin" ? [box.right, box.bottom] : [event.clientX, event.clientY];
    tip.style.left = `${Math.max(4, Math.min(x + 14, innerWidth - tip.offsetWidth - 8))}px`;
    tip.style.top = `${Math.max(4, Math.min(y + 14, innerHeight - tip.offsetHeight - 8))}px`;
  }

  function follow(event) {
    const mark = event.target.closest?.("[data-trial]");
    const its = Number(mark?.dataset.trial);
    if (!mark || !points.has(its) || event.target.closest("td:not(:has(a))")) return;
    event.preventDefault(); // in a frame of another page the address may not be ours to change
    open(its);
    byId("model").scrollIntoView();
    byId("model").focus({ preventScroll: true });
  }

  function draw() {
    scatter();
    parallel();
    heat();
    volume();
    show();
  }

  byId("views").hidden = false;
  axes.forEach((axis, place) => {
    for (const id of ["across", "up"]) put(byId(id), "option", { value: place }, titled(axis));
  });
  byId("up").value = objectives[0].place;
  byId("across").value = objectives.length > 1 ? objectives[1].place : axes.length - 1;
  for (const point of data.points) {
    const title = point.number === data.dense ? " (dense)" : point.number === data.pick ? " (the verdict's pick)" : "";
    put(byId("which"), "option", { value: point.number }, `${point.number}${title}`);
  }
  legend();
  draw();
  const wanted = Number(/^#trial-(\d+)$/.exec(location.hash)?.[1] ?? NaN);
  open(points.has(wanted) ? wanted : data.pick ?? data.points[0].number);
  if (points.has(wanted)) byId("model").scrollIntoView();

  for (const id of ["across", "up"]) byId(id).addEventListener("change", scatter);
  byId("which").addEventListener("change", (event) => open(Number(event.target.value)));
  byId("clear").addEventListener("click", () => select([]));
  for (const moment of ["pointermove", "focusin", "focusout"]) document.addEventListener(moment, hover);
  document.addEventListener("click", follow);
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") select([]); });
  let width = innerWidth;
  addEventListener("resize", () => { if (width !== innerWidth) draw(); width = innerWidth; });
})();
