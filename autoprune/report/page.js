// What one does with the views: open a model, select, hover, go along the front.

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
  event.preventDefault();
  open(its);
  // In a frame of another page the address is not ours to change.
  if (["file:", "http:", "https:"].includes(location.protocol)) history.replaceState(null, "", `#trial-${its}`);
  byId("model").scrollIntoView();
  byId("model").focus({ preventScroll: true });
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
