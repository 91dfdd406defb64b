// Uses a report's page as a reader would, and writes down what there is to see. Knows nothing of the page's script.
(() => {
  const seen = {};
  const all = (selector) => [...document.querySelectorAll(selector)];
  const numbers = (selector) => all(selector).map((mark) => Number(mark.closest("[data-trial]").dataset.trial));
  const centre = (mark) => {
    const box = mark.getBoundingClientRect();
    return [box.left + box.width / 2, box.top + box.height / 2];
  };
  const places = () => all("#scatter .mark").map((mark) => [Number(mark.closest("[data-trial]").dataset.trial), ...centre(mark)]);
  const texts = (selector) => all(selector).map((element) => element.textContent);
  const change = (id, index) => {
    document.getElementById(id).selectedIndex = index;
    document.getElementById(id).dispatchEvent(new Event("change", { bubbles: true }));
  };
  const point = (target, type, x, y) =>
    target.dispatchEvent(new PointerEvent(type, { bubbles: true, cancelable: true, clientX: x, clientY: y, pointerId: 1 }));

  seen.hidden = document.getElementById("views").hidden;
  seen.verdict = texts(".verdict");
  seen.legend = texts("#legend span").map((text) => text.trim());
  seen.rings = numbers("#scatter .ring");
  seen.front = numbers("#scatter a .mark");
  seen.marks = numbers("#scatter .mark");
  seen.lines = numbers("#parallel polyline");
  seen.columns = numbers("#heat .column");
  seen.volumes = numbers("#volume .mark");
  seen.opened = texts("#point pre, #point p, #point td");
  seen.wide = document.documentElement.scrollWidth > innerWidth;
  seen.axes = texts("#across option");
  seen.before = places();
  seen.bounds = all("#scatter .bound").map(centre);

  change("across", seen.axes.findIndex((name) => name.startsWith("macs")));
  change("up", seen.axes.indexOf("robust accuracy"));
  seen.after = places();
  seen.otherBounds = all("#scatter .bound").length;
  seen.labels = texts("#scatter text");

  const svg = () => document.querySelector("#scatter svg");
  const [x, y] = centre(document.querySelector("#scatter .ring"));
  const area = [x - 60, y - 45, x + 80, y + 30];
  seen.within = places().filter(([, a, b]) => a >= area[0] && a <= area[2] && b >= area[1] && b <= area[3]).map(([n]) => n);
  point(svg(), "pointerdown", area[0], area[3]);
  point(svg(), "pointermove", x, y);
  point(svg(), "pointermove", area[2], area[1]);
  seen.brushing = all("#scatter .brush").length;
  point(svg(), "pointerup", area[2], area[1]);
  seen.selected = {
    scatter: numbers("#scatter .on .mark"),
    lines: numbers("#parallel .on"),
    columns: numbers("#heat .on"),
    volumes: numbers("#volume .on"),
    rows: numbers("tr.on"),
    told: texts("#selected")[0],
    brush: all("#scatter .brush").length,
  };
  change("across", 0);
  seen.kept = numbers("#scatter .on .mark");
  document.dispatchEvent(new KeyboardEvent("keydown", { key: "Escape", bubbles: true }));
  seen.cleared = all(".on").length;
  change("across", seen.axes.indexOf("accuracy, test split"));
  seen.tested = places();

  const member = all("#scatter a").at(-2);
  point(member.querySelector(".mark"), "pointermove", ...centre(member));
  seen.tip = [Number(member.dataset.trial), document.getElementById("tip").hidden, texts("#tip")[0]];
  const column = all("#heat .column").at(-1);
  const box = column.getBoundingClientRect();
  const rows = all("#heat text[text-anchor=end]").map((text) => text.textContent); // names of groups come first
  point(column, "pointermove", box.left + 1, box.top + ((rows.indexOf("layer1.0.conv1") + 0.5) / 6) * box.height);
  seen.cell = [Number(column.dataset.trial), texts("#tip")[0]];
  point(document.querySelector("h1"), "pointermove", 5, 5);
  seen.away = document.getElementById("tip").hidden;
  member.focus();
  seen.focused = texts("#tip")[0];

  const press = (key) => document.activeElement.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
  change("across", 1);
  svg().focus();
  for (const key of ["ArrowRight", "ArrowRight", "ArrowRight", " ", "ArrowLeft", " "]) press(key);
  seen.pressed = numbers("#scatter a.on .mark");
  press(" ");
  seen.unpressed = numbers("#scatter a.on .mark");
  press("Escape");

  const row = all("tr[data-trial] a").at(-1);
  row.click();
  seen.clicked = [Number(row.textContent), texts("#point .verdict")[0], all("#point tr").map((line) => [...line.cells].map((cell) => cell.textContent))];

  seen.address = location.hash;
  seen.errors = window.pageErrors;
  const result = document.createElement("pre");
  result.id = "seen";
  result.textContent = JSON.stringify(seen);
  document.body.append(result);
})();
