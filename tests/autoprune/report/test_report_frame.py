"""The report in a notebook's cell: a frame whose script runs, and reaches nothing of the notebook."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest

from autoprune.report import front_html, report_page
from autoprune.report import html as module

INSIDE = """<script type="module">
const seen = { marks: document.querySelectorAll("#scatter .mark").length };
try { seen.parent = parent.document.title; } catch (error) { seen.parent = error.name; }
document.querySelector("td a").click();
setTimeout(() => {
  seen.opened = document.getElementById("point").textContent;
  seen.errors = window.pageErrors;
  parent.postMessage(seen, "*");
}, 200);
</script></body>"""
CATCH = "<head><script>window.pageErrors = []; addEventListener('error', (e) => pageErrors.push(e.message));</script>"
NOTEBOOK = """<!doctype html><title>the notebook</title><div id="cell">%s</div><script>
const before = Object.keys(window).length;
addEventListener("message", (event) => {
  const seen = { ...event.data, scripts: document.querySelectorAll("#cell script").length };
  seen.rows = document.querySelectorAll("#cell table tr").length;
  seen.globals = Object.keys(window).length - before;
  document.body.append(Object.assign(document.createElement("pre"), { id: "seen", textContent: JSON.stringify(seen) }));
});
</script>"""


class Tags(HTMLParser):
    """Tags and their attributes, as they follow one another."""

    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))


@pytest.fixture
def study(synthetic, tmp_path):
    return synthetic.study(tmp_path, objectives=3)


@pytest.fixture
def outcome(synthetic, study):
    return synthetic.outcome(study, synthetic.trials(24))


def test_the_table_comes_first_and_the_frame_holds_the_whole_page(study, outcome):
    found = Tags(front_html(study, outcome, caption="a & b")).found
    names = [tag for tag, _ in found]
    assert names.index("table") < names.index("iframe") == len(names) - 1
    assert "script" not in names
    frame = found[-1][1]
    assert frame["srcdoc"] == report_page(study, outcome)
    assert frame["sandbox"] == "allow-scripts", "no more: not the same origin, no forms, no windows"
    assert "src" not in frame


def test_what_is_too_large_for_a_cell_is_left_to_the_file(study, outcome, monkeypatch):
    monkeypatch.setattr(module, "_MOST_BYTES", 1000)
    text = front_html(study, outcome, caption="")
    assert "iframe" not in text
    assert "report.html" in text
    assert "<table>" in text


def test_without_a_front_there_is_no_frame(synthetic, study):
    empty = synthetic.outcome(study, (synthetic.trial(0, state="failed"),), tested=False)
    assert "iframe" not in front_html(study, empty, caption="")


@pytest.mark.slow
@pytest.mark.browser
def test_its_script_runs_and_reaches_nothing_outside(study, outcome, tmp_path):
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    assert chromium, "no chromium is installed"
    cell = front_html(study, outcome, caption="")
    for plain, probed in (("<head>", CATCH), ("</body>", INSIDE)):
        assert cell.count(html.escape(plain)) == 1
        cell = cell.replace(html.escape(plain), html.escape(probed))
    (tmp_path / "notebook.html").write_text(NOTEBOOK % cell, encoding="utf-8")
    # In a process of its own the frame would have a clock of its own, which the budget does not wait for.
    options = (
        "--headless --no-sandbox --disable-gpu --no-first-run --virtual-time-budget=10000 --dump-dom"
        " --disable-features=IsolateSandboxedIframes"
    ).split()
    command = [chromium, *options, f"--user-data-dir={tmp_path / 'profile'}", (tmp_path / "notebook.html").as_uri()]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    found = re.search(r'<pre id="seen">(.*?)</pre>', shown, re.DOTALL)
    assert found, "the script of the frame ran"
    seen = json.loads(html.unescape(found[1]))
    assert seen["marks"] == sum(trial.state == "complete" for trial in outcome.trials)
    assert seen["parent"] == "SecurityError"
    assert seen["opened"].startswith("The dense model."), "a link of the table opens that model in the frame"
    assert (seen["errors"], seen["scripts"], seen["globals"]) == ([], 0, 0)
    assert seen["rows"] == 1 + len({0, *(point.trial.number for point in outcome.front.points)})
