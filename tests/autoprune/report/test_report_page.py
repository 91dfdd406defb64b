from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from autoprune.plugin import GroupSummary, Measured
from autoprune.plugin.values import Difference
from autoprune.report import named_member, point_verdict, report_page, verdict
from autoprune.report._words import against, spread
from autoprune.report.files import report_files, write_report

EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&"


class Page(HTMLParser):
    """What a browser would see of a page, before its script runs."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.scripts, self.rows, self._in, self.texts = [], [], [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += [(tag, *each) for each in attributes]
        if tag not in ("meta", "link", "img"):
            self._in.append(tag)
        if tag == "script":
            self.scripts.append("")
        if tag == "tr":
            self.rows.append([])

    def handle_endtag(self, tag):
        assert self._in.pop() == tag, "elements are nested"

    def handle_data(self, text):
        if self._in[-1:] == ["script"]:
            self.scripts[-1] += text
            return
        self.texts.append((self._in[-1] if self._in else "", text))
        if self._in[-1:] in (["td"], ["th"]) or self._in[-2:] == ["td", "a"]:
            self.rows[-1].append(text)

    @property
    def data(self):
        return json.loads(self.scripts[0], parse_constant=pytest.fail)

    def text(self, tag):
        return [text for where, text in self.texts if where == tag]


@pytest.fixture
def study(synthetic, tmp_path):
    return synthetic.study(tmp_path / "study", objectives=3)


@pytest.fixture
def outcome(synthetic, study):
    return synthetic.outcome(study, synthetic.trials(24))


def test_the_verdict_comes_first_and_the_counts_after_it(study, outcome):
    shown = Page(report_page(study, outcome))
    assert shown.text("h1") == ["synthetic"]
    told = [text for _, text in shown.texts if text.strip()]
    assert told[told.index("synthetic", 2) + 1] == verdict(study, outcome)
    counts = [line for line in shown.text("li") if not line.startswith(", ")]  # what is picked comes before them
    assert counts[0] == "24 of 24 trials: 22 complete, 1 failed, 1 rejected."
    assert "Rejected, 1: macs 4.1e+07 breaks <= 3e7" in counts
    assert f"{len(outcome.front.points)} on the front, hypervolume 1.234." in counts


def test_the_page_needs_nothing_but_itself(study, outcome):
    text = report_page(study, outcome)
    shown = Page(text)
    assert not set(shown.tags) & {"link", "img", "iframe", "object", "base"}
    for tag, name, value in shown.attributes:
        assert not name.startswith("on"), (tag, name)
        assert name != "src"
        assert name != "href" or re.fullmatch(r"#trial-\d+", value)
    assert not re.search(r"@import|url\(|fetch\(|XMLHttp|innerHTML|document\.write|\beval\b", text)
    addresses = set(re.findall(r"https?://[^\s\"']+", text))
    assert addresses == {"http://www.w3.org/2000/svg"}, "the name of a language, which nothing loads"
    assert len(shown.scripts) == 2
    assert ("script", "type", "application/json") in shown.attributes


def test_what_a_spec_or_a_plugin_names_is_only_text(synthetic, study, outcome):
    evil = GroupSummary(name=EVIL, units=16, granularity=EVIL, layers=(EVIL, "b"), low=0, high=0.8)
    trials = [
        trial.model_copy(
            update={
                "reason": trial.reason and EVIL,
                "strategy": EVIL,
                "scorers": {EVIL: EVIL},
                "knobs": {EVIL: EVIL},
                "achieved": {EVIL: 0.5 * (trial.number % 3) / 2},
                "metrics": {**trial.metrics, EVIL: Measured(value=1)},
            }
        )
        for trial in outcome.trials
    ]
    named = study.model_copy(
        update={
            "name": EVIL,
            "groups": (evil,),
            "environment": {EVIL: EVIL},
            "constraints": {EVIL: EVIL},
            "units": {**study.units, EVIL: EVIL},
        }
    )
    shown = Page(report_page(named, synthetic.outcome(named, tuple(trials))))
    plain = Page(report_page(study, outcome))
    assert len(shown.scripts) == 2
    assert shown.scripts[1] == plain.scripts[1], "the page's own"
    assert set(shown.tags) == set(plain.tags)
    assert {name for _, name, _ in shown.attributes} == {name for _, name, _ in plain.attributes}
    assert "".join(shown.text("h1")) == EVIL
    assert shown.data["groups"][0] == {
        "name": EVIL, "units": 16, "kind": EVIL, "layers": [EVIL, "b"], "searched": True,
    }  # fmt: skip
    assert [row for row in shown.rows if row[:1] == ["failed"]] == [["failed", "1", "8", EVIL]]


def test_the_data_are_the_trials(study, outcome):
    data = Page(report_page(study, outcome)).data
    names = [metric["name"] for metric in data["metrics"]]
    assert names[:3] == list(study.objectives)
    assert [metric["direction"] for metric in data["metrics"]] == ["maximize", "minimize", "maximize", None]
    assert [metric["bound"] for metric in data["metrics"]] == [None] * 4
    complete = {trial.number: trial for trial in outcome.trials if trial.state == "complete"}
    assert [trial["number"] for trial in data["trials"]] == sorted(complete)
    for drawn in data["trials"]:
        trial = complete[drawn["number"]]
        for name, values in zip(names, drawn["metrics"], strict=True):
            measured = trial.metrics[name]
            expected = [v for v in (measured.value, measured.low, measured.high) if v is not None]
            assert values == pytest.approx(expected, rel=1e-5)
        cuts = {group["name"]: cut / group["units"] for group, cut in zip(data["groups"], drawn["cut"], strict=True)}
        assert cuts == {**trial.achieved, "head": 0}
    assert data["front"] == [point.trial.number for point in outcome.front.points]
    assert data["dense"] == data["points"][0]["number"] == 0
    assert data["pick"] == named_member(study, outcome).trial.number
    assert len(data["volumes"]) == 24


def test_members_are_as_their_saved_models_are(synthetic, study, outcome):
    again = synthetic.made_again(outcome)
    data = Page(report_page(study, again)).data
    drawn = {trial["number"]: trial["metrics"][0][0] for trial in data["trials"]}
    for point in again.front.points:
        assert drawn[point.trial.number] == pytest.approx(point.trial.metrics["accuracy"].value, rel=1e-5)
        shown = next(each for each in data["points"] if each["number"] == point.trial.number)
        searched = [values and values[0] for values in shown["searched"]][:1]
        assert searched == [pytest.approx(point.searched["accuracy"].value, rel=1e-5) if point.searched else None]
    assert data["test"] == "1,000 of 10,000 test samples"
    assert data["points"][0]["whole"][0][0] == pytest.approx(again.dense_whole_test["accuracy"].value, rel=1e-5)


def test_a_difference_goes_along(synthetic, study):
    trials = list(synthetic.trials(12))
    apart = Measured(value=0.999, low=0.99, high=1, difference=Difference(value=-0.02, low=-0.03, high=-0.01))
    trials[3] = trials[3].model_copy(update={"metrics": trials[3].metrics | {"accuracy": apart}})
    data = Page(report_page(study, synthetic.outcome(study, tuple(trials)))).data
    point = next(each for each in data["points"] if each["number"] == 3)
    assert point["validation"][0] == [0.999, 0.99, 1, -0.02, -0.03, -0.01]


@pytest.mark.parametrize(
    ("recipe", "option"),
    [
        ({"model": {"use": "digits-cnn"}}, ""),
        ({"model": {"use": "digits-cnn"}, "plugins": ["mine.py"]}, ", trust=True"),
        ({"model": {"use": "factory", "target": "m:net"}}, ", trust=True"),
        ({"model": {"use": "factory", "target": "m:net"}, "form": "graph"}, ""),
        ({"model": {"use": "exported", "path": "net.pt2"}}, ""),
        ({"model": {"use": "live", "key": "k"}}, ", dense=network"),
    ],
)
def test_two_lines_open_a_member_as_its_recipe_tells(synthetic, study, tmp_path, recipe, option):
    folder = tmp_path / 'models "7"'
    folder.mkdir()
    (folder / "recipe.json").write_text(json.dumps({"format": 2, "folder": str(tmp_path), "steps": [], **recipe}))
    trials = [trial.model_copy(update={"model": folder}) for trial in synthetic.trials(12)]
    for point in Page(report_page(study, synthetic.outcome(study, tuple(trials)))).data["points"]:
        assert point["code"].splitlines() == [
            "import autoprune",
            f"model = autoprune.load_pruned({str(folder)!r}{option})",
        ]
        compile(point["code"], "code", "exec")


def test_of_a_model_that_cannot_be_read_no_code_is_told(synthetic, study, tmp_path):
    (tmp_path / "recipe.json").write_text("{")
    trials = [trial.model_copy(update={"model": tmp_path}) for trial in synthetic.trials(12)]
    for point in Page(report_page(study, synthetic.outcome(study, tuple(trials)))).data["points"]:
        assert point["code"] is None


def test_reasons_that_differ_in_numbers_alone_are_told_once(synthetic, study):
    trials = [
        trial.model_copy(update={"state": "rejected", "reason": f"dominated: accuracy is {trial.number / 100} on 64"})
        if trial.number > 15
        else trial
        for trial in synthetic.trials(24)
    ]
    shown = Page(report_page(study, synthetic.outcome(study, tuple(trials))))
    rejected = [row for row in shown.rows if row[:1] == ["rejected"]]
    assert rejected == [
        ["rejected", "8", "16, 17, 18, 19, 20, 21, 22, 23", "dominated: accuracy is 0.16 on 64"],
        ["rejected", "1", "11", "macs 4.1e+07 breaks <= 3e7"],
    ]


def test_the_importance_of_groups_is_told_with_its_sign(study, outcome):
    from scipy.stats import spearmanr

    shown = Page(report_page(study, outcome))
    complete = [trial for trial in outcome.trials if trial.state == "complete"]
    row = next(row for row in shown.rows if row[0] == "fc1" and len(row) == 4)
    for cell, name in zip(row[1:], study.objectives, strict=True):
        expected = spearmanr([t.achieved["fc1"] for t in complete], [t.metrics[name].value for t in complete]).statistic
        assert cell.strip() == f"{expected:+.2f}".replace("-", "−")


def test_an_empty_study_has_a_page(synthetic, study):
    failed = tuple(synthetic.trial(n, state="failed") for n in range(3))
    outcome = synthetic.outcome(study, failed, tested=False)
    shown = Page(report_page(study, outcome))
    assert shown.data["front"] == []
    assert "svg" not in shown.tags
    assert "No feasible trial among 3: 3 failed." in shown.text("p")
    assert ["failed", "3", "0, 1, 2", "CUDA out of memory | tried 2 GiB\nTraceback …"] in shown.rows


def test_it_is_one_of_the_reports_files(study, outcome, tmp_path, monkeypatch):
    for name in ("front_figure", "ratios_figure"):
        monkeypatch.setattr(f"autoprune.report.files.{name}", lambda *_: "")
    write_report(tmp_path, study, outcome)
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == report_page(study, outcome)
    assert report_files(study, outcome)["report.html"] == report_page(study, outcome)


TRIALS = 2000
CATCH = (
    "<script>window.pageErrors = []; addEventListener('error', (event) => pageErrors.push(event.message));"
    "for (const how of ['error', 'warn']) console[how] = (...all) => pageErrors.push(all.join(' '));</script>"
)


@pytest.fixture(scope="module")
def large(synthetic, tmp_path_factory):
    """A study of 2,000 trials, some with a difference from the dense model."""
    study = synthetic.study(tmp_path_factory.mktemp("large") / "study", objectives=3, trials=TRIALS,
                            constraints={"latency_ms": ">= 3"})  # fmt: skip
    trials = list(synthetic.trials(TRIALS, bounds={"latency_ms": 3.0}))
    dense = trials[0].metrics["accuracy"].value
    for trial in trials[1:]:
        if accuracy := trial.metrics.get("accuracy"):
            value = accuracy.value - dense
            difference = Difference(value=value, low=value - 0.01, high=value + 0.01)
            trial.metrics["accuracy"] = accuracy.model_copy(update={"difference": difference})
    return study, synthetic.outcome(study, tuple(trials))


@pytest.fixture(scope="module")
def browse(tmp_path_factory):
    """What a browser shows of a page and what using it does, see ``probe.js``."""

    def seen(text, size="1100,2400", address=""):
        chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
        assert chromium, "no chromium is installed"
        folder = tmp_path_factory.mktemp("browser")
        probe = Path(__file__).with_name("probe.js").read_text(encoding="utf-8")
        text = text.replace("<head>", f"<head>{CATCH}", 1).replace(
            "</body>", f"<script type='module'>{probe}</script></body>", 1
        )
        (folder / "report.html").write_text(text, encoding="utf-8")
        options = (
            "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-sync "
            f"--disable-component-update --window-size={size} --virtual-time-budget=10000 --dump-dom"
        ).split()
        address = (folder / "report.html").as_uri() + address
        command = [chromium, *options, f"--user-data-dir={folder / 'profile'}", address]
        shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
        found = re.search(r'<pre id="seen">(.*?)</pre>', shown, re.DOTALL)
        assert found, "the probe ran to its end"
        return json.loads(html.unescape(found[1]))

    return seen


@pytest.fixture(scope="module")
def seen(large, browse):
    return browse(report_page(*large))


@pytest.fixture(scope="module")
def members(large):
    return {point.trial.number: point for point in large[1].front.points}


@pytest.mark.slow
@pytest.mark.parametrize("objectives", [2, 3])
def test_a_page_of_2000_trials_and_fifty_groups_is_small(synthetic, tmp_path, objectives):
    groups = tuple(f"layer{block}.{layer}.conv{part}" for block in range(5) for layer in range(5) for part in (1, 2))
    study = synthetic.study(tmp_path, objectives=objectives, trials=TRIALS, groups=groups)
    text = report_page(study, synthetic.outcome(study, synthetic.trials(TRIALS, groups=groups)))
    assert len(text.encode()) < 5_000_000


@pytest.mark.slow
@pytest.mark.browser
def test_the_script_draws_every_trial_and_the_whole_front(large, seen, members):
    study, outcome = large
    assert seen["errors"] == []
    assert not seen["hidden"]
    assert seen["verdict"][0] == verdict(study, outcome)
    complete = {trial.number for trial in outcome.trials if trial.state == "complete"}
    assert sorted(seen["marks"]) == sorted(complete)
    assert sorted(seen["front"]) == sorted({0, *members})
    assert sorted(seen["lines"]) == sorted({0, *members})
    assert seen["columns"] == [number for number in members if number != 0]
    assert sorted(seen["volumes"]) == sorted(complete)
    assert seen["rings"] == [named_member(study, outcome).trial.number]
    assert seen["legend"] == ["front", "dense model", "the verdict's pick", "uniform ratio", "dominated",
                              "breaks a constraint", "constraint"]  # fmt: skip
    at = {number: x for number, x, _ in seen["before"]}
    slope, start = np.polyfit([outcome.trials[n].metrics["latency_ms"].value for n in at], list(at.values()), 1)
    assert [x for x, _ in seen["bounds"]] == [pytest.approx(3 * slope + start, abs=0.5)]
    assert seen["otherBounds"] == 0
    assert any(not trial.feasible and trial.state == "complete" for trial in outcome.trials)
    assert not seen["wide"], "nothing sticks out"


@pytest.mark.slow
@pytest.mark.browser
def test_other_axes_redraw_the_front(seen, large, members):
    trials = {trial.number: trial for trial in large[1].trials}
    titles = {"accuracy": "accuracy", "latency": "latency (ms)", "robust accuracy": "robust accuracy"}
    titles["macs"] = "macs (multiply-accumulates)"
    tested = [title.replace(name, f"{name}, test split") for name, title in titles.items()]
    assert seen["axes"] == [*titles.values(), *tested, "mean ratio", "trial"]
    drawn = ((seen["before"], "latency_ms", "accuracy"), (seen["after"], "macs", "robust_accuracy"))
    for places, across, up in drawn:
        numbers, xs, ys = zip(*places, strict=True)
        for values, name, sign in ((xs, across, 1), (ys, up, -1)):
            wanted = [trials[number].metrics[name].value for number in numbers]
            assert np.corrcoef(values, wanted)[0, 1] == pytest.approx(sign, abs=1e-3), "a straight scale"
    tested = {number: point.test["accuracy"].value for number, point in members.items()}
    numbers, xs, _ = zip(*seen["tested"], strict=True)
    assert set(numbers) == {0, *members}, "the others were not tested"
    wanted = [tested.get(number, large[1].dense_test["accuracy"].value) for number in numbers]
    assert np.corrcoef(xs, wanted)[0, 1] == pytest.approx(1, abs=1e-3)
    assert "robust accuracy (%), higher is better" in seen["labels"]
    assert "macs (multiply-accumulates)" in seen["labels"]


@pytest.mark.slow
@pytest.mark.browser
def test_a_dragged_rectangle_selects_in_every_view(seen, members):
    within = set(seen["within"])
    front = within & set(members)
    assert len(within) > 5
    assert front
    chosen = seen["selected"]
    assert seen["brushing"] == 1
    assert chosen["brush"] == 0, "the rectangle goes"
    assert set(chosen["scatter"]) == set(chosen["volumes"]) == within
    assert set(chosen["lines"]) == front
    assert set(chosen["columns"]) == set(chosen["rows"]) == front
    assert chosen["told"].startswith(f"{len(within)} selected, {len(front)} of them on the front: ")
    assert set(seen["kept"]) == within, "other axes keep it"
    assert seen["cleared"] == 0


@pytest.mark.slow
@pytest.mark.browser
def test_keys_go_along_the_front_and_select(seen, members, large):
    latencies = {n: p.trial.metrics["latency_ms"].value for n, p in members.items()}
    latencies[0] = large[1].trials[0].metrics["latency_ms"].value
    fastest = sorted(latencies, key=latencies.get)
    assert set(seen["pressed"]) == {fastest[2], fastest[1]}
    assert seen["unpressed"] == [fastest[2]]


@pytest.mark.slow
@pytest.mark.browser
def test_hovering_tells_of_a_trial_as_the_written_report_does(seen, members, large):
    study, _ = large
    number, hidden, tip = seen["tip"]
    assert not hidden
    lines = tip.splitlines()
    trial = members[number].trial
    assert lines[0] == f"trial {number}: front"
    for name, title in (("accuracy", "accuracy"), ("latency_ms", "latency (ms)"), ("macs", "macs")):
        text = spread(trial.metrics[name], study.units[name])
        assert any(line.startswith(title) and line.endswith(text) for line in lines)
    for group, ratio in trial.achieved.items():
        assert (f"− {100 * ratio:.1f} % of {group}" in lines) == (ratio > 0)
    number, cell = seen["cell"]
    cut = round(16 * members[number].trial.achieved["layer1.0.conv1"])
    percents = f"{100 * cut / 16:.1f} %"
    assert cell.splitlines()[1] == f"− {percents} of layer1.0.conv1: {cut} of 16 units"
    assert seen["away"]
    assert seen["focused"] == tip, "the keyboard shows the same"


@pytest.mark.slow
@pytest.mark.browser
def test_one_model_is_told_of_in_full(seen, members, large):
    study, outcome = large
    number, told, rows = seen["clicked"]
    point = members[number]
    assert told == point_verdict(study, outcome, point)
    assert seen["address"] == f"#trial-{number}"
    assert seen["opened"][0] == verdict(study, outcome), "the pick, until another is opened"
    by_title = dict(zip(rows[0], next(row for row in rows if row[0] == "accuracy"), strict=True))
    dense, measured = outcome.trials[0].metrics["accuracy"], point.trial.metrics["accuracy"]
    assert by_title == {
        "": "accuracy",
        "validation": spread(measured, "fraction"),
        "test split": spread(point.test["accuracy"], "fraction"),
        "dense, validation": spread(dense, "fraction"),
        "dense, test split": spread(outcome.dense_test["accuracy"], "fraction"),
        "against dense, same samples": against(point.test["accuracy"].difference, "fraction"),
    }
    groups = {row[0]: row[2:] for row in rows if len(row) == 5 and row[1] == "channel"}
    assert groups == {
        group: ["16", f"{16 - round(16 * ratio)}", f"{100 * ratio:.1f} %"]
        for group, ratio in point.trial.achieved.items()
    }


@pytest.mark.slow
@pytest.mark.browser
def test_a_phone_shows_one_objective_and_odd_names(synthetic, study, browse):
    one = study.model_copy(update={"name": EVIL, "objectives": {"latency_ms": "minimize"}})
    seen = browse(report_page(one, synthetic.outcome(one, synthetic.trials(40))), size="400,900", address="#trial-0")
    assert seen["errors"] == []
    assert seen["opened"][0] == "The dense model.", "a link leads to a model"
    assert not seen["wide"]
