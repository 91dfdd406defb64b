from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import pytest

from autoprune.plugin import GroupSummary, Measured
from autoprune.plugin.values import Difference
from autoprune.report import named_member, verdict
from autoprune.report.files import report_files, write_report
from autoprune.report.page import page
from autoprune.spec import Spec

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
    shown = Page(page(study, outcome))
    assert shown.text("h1") == ["synthetic"]
    told = [text for _, text in shown.texts if text.strip()]
    assert told[told.index("synthetic", 2) + 1] == verdict(study, outcome)
    counts = shown.text("li")
    assert counts[0] == "24 of 24 trials: 22 complete, 1 failed, 1 rejected."
    assert "Rejected, 1: macs 4.1e+07 breaks <= 3e7" in counts
    assert f"{len(outcome.front.points)} on the front, hypervolume 1.234." in counts


def test_the_page_needs_nothing_but_itself(study, outcome):
    text = page(study, outcome)
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
    shown = Page(page(named, synthetic.outcome(named, tuple(trials))))
    plain = Page(page(study, outcome))
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
    data = Page(page(study, outcome)).data
    names = [metric["name"] for metric in data["metrics"]]
    assert names[:3] == list(study.objectives)
    assert [metric["direction"] for metric in data["metrics"]] == ["maximize", "minimize", "maximize", None]
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
    data = Page(page(study, again)).data
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
    data = Page(page(study, synthetic.outcome(study, tuple(trials)))).data
    point = next(each for each in data["points"] if each["number"] == 3)
    assert point["validation"][0] == [0.999, 0.99, 1, -0.02, -0.03, -0.01]


@pytest.mark.parametrize(
    ("model", "option"),
    [
        ({"use": "digits-cnn"}, ""),
        ({"use": "factory", "target": "m:net"}, ", trust=True"),
        ({"use": "live"}, ", dense=network"),
    ],
)
def test_two_lines_open_a_member(synthetic, study, tmp_path, model, option):
    folder = tmp_path / 'models "7"'
    trials = [trial.model_copy(update={"model": folder}) for trial in synthetic.trials(12)]
    spec = Spec.model_validate({**study.spec.model_dump(mode="json", exclude_none=True), "model": model})
    named = study.model_copy(update={"spec": spec})
    for point in Page(page(named, synthetic.outcome(named, tuple(trials)))).data["points"]:
        assert point["code"].splitlines() == [
            "import autoprune",
            f"model = autoprune.load_pruned({str(folder)!r}{option})",
        ]
        compile(point["code"], "code", "exec")


def test_reasons_that_differ_in_numbers_alone_are_told_once(synthetic, study):
    trials = [
        trial.model_copy(update={"state": "rejected", "reason": f"dominated: accuracy is {trial.number / 100} on 64"})
        if trial.number > 15
        else trial
        for trial in synthetic.trials(24)
    ]
    shown = Page(page(study, synthetic.outcome(study, tuple(trials))))
    rejected = [row for row in shown.rows if row[:1] == ["rejected"]]
    assert rejected == [
        ["rejected", "8", "16, 17, 18, 19, 20, 21, 22, 23", "dominated: accuracy is 0.16 on 64"],
        ["rejected", "1", "11", "macs 4.1e+07 breaks <= 3e7"],
    ]


def test_the_importance_of_groups_is_told_with_its_sign(study, outcome):
    from scipy.stats import spearmanr

    shown = Page(page(study, outcome))
    complete = [trial for trial in outcome.trials if trial.state == "complete"]
    row = next(row for row in shown.rows if row[0] == "fc1" and len(row) == 4)
    for cell, name in zip(row[1:], study.objectives, strict=True):
        expected = spearmanr([t.achieved["fc1"] for t in complete], [t.metrics[name].value for t in complete]).statistic
        assert cell.strip() == f"{expected:+.2f}".replace("-", "−")


def test_an_empty_study_has_a_page(synthetic, study):
    failed = tuple(synthetic.trial(n, state="failed") for n in range(3))
    outcome = synthetic.outcome(study, failed, tested=False)
    shown = Page(page(study, outcome))
    assert shown.data["front"] == []
    assert "svg" not in shown.tags
    assert "No feasible trial among 3: 3 failed." in shown.text("p")
    assert ["failed", "3", "0, 1, 2", "CUDA out of memory | tried 2 GiB\nTraceback …"] in shown.rows


def test_it_is_one_of_the_reports_files(study, outcome, tmp_path, monkeypatch):
    for name in ("front_figure", "ratios_figure"):
        monkeypatch.setattr(f"autoprune.report.files.{name}", lambda *_: "")
    write_report(tmp_path, study, outcome)
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == page(study, outcome)
    assert report_files(study, outcome)["report.html"] == page(study, outcome)
