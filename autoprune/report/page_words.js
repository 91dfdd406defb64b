// What the page is of, and how it is told: numbers as in the written report.

const data = JSON.parse(document.getElementById("data").textContent);
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
