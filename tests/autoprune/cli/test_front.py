"""The front in a terminal: every value stands in it, whatever the terminal's width."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from autoprune import SearchResult
from autoprune.cli.answers import compared
from autoprune.cli.front import FrontTable
from autoprune.plugin import Measured, StudyInfo, StudyOutcome
from autoprune.report import number
from tests.autoprune.report import synthetic

LONG = {
    "top_five_accuracy_on_rare_classes": ("maximize", "fraction", 0.87654),
    "expectedcalibrationerrorofthewholenetwork": ("minimize", "", 123456.7),
    "latency_ms": ("minimize", "ms", 12345.6),
    "robust_accuracy": ("maximize", "fraction", 0.5),
    "r2": ("maximize", "", -0.25),
}


def made(folder: Path, objectives: int = 2, **options: object) -> tuple[StudyInfo, StudyOutcome]:
    study = synthetic.study(folder, objectives=objectives)
    return study, synthetic.outcome(study, synthetic.trials(), **options)


def wide(folder: Path) -> tuple[StudyInfo, StudyOutcome]:
    """Five objectives with long names and wide values, each with an interval."""
    study, outcome = made(folder)
    study = study.model_copy(
        update={
            "objectives": {name: way for name, (way, _, _) in LONG.items()},
            "units": {name: unit for name, (_, unit, _) in LONG.items()} | {"macs": "multiply-accumulates"},
        }
    )

    def metrics(place: int) -> dict[str, Measured]:
        found = {
            name: Measured(value=value - place / 100, low=value * 0.9 - place / 100 - 0.1, high=value * 1.1 + 0.1)
            for name, (_, _, value) in LONG.items()
        }
        return found | {"macs": Measured(value=123_456_789_000 - place)}

    points = []
    for n, point in enumerate(outcome.front.points):
        trial = point.trial.model_copy(update={"metrics": metrics(n), "number": 9990 + n})
        points.append(point.model_copy(update={"trial": trial, "test": metrics(n + 30)}))
    reference = {name: 0.0 if way == "maximize" else 1e6 for name, way in study.objectives.items()}
    told = {"points": tuple(points), "objectives": study.objectives, "reference": reference}
    front = outcome.front.model_copy(update=told)
    changes = {"front": front, "trials": tuple(p.trial for p in points), "dense_test": {}}
    return study, outcome.model_copy(update=changes)


def printed(study: StudyInfo, outcome: StudyOutcome, width: int) -> str:
    stream = io.StringIO()
    Console(file=stream, width=width, markup=False, highlight=False).print(FrontTable(study, outcome, "front of x"))
    return stream.getvalue()


def values(study: StudyInfo, outcome: StudyOutcome) -> list[str]:
    """Every number that is to be read, in words: of the members and of the dense model."""
    found = []
    for point in outcome.front.points:
        for metrics in (point.trial.metrics, point.test):
            for name in outcome.front.objectives:
                measured, unit = metrics[name], study.units[name]
                low, high = (number(end, unit).removesuffix(" %") for end in (measured.low, measured.high))
                found += [number(measured.value, unit), f"{low} to {high}" if measured.low < 0 else f"{low}–{high}"]
        found.append(number(point.trial.metrics["macs"].value, study.units["macs"]))
    return found


@pytest.mark.parametrize("width", [60, 80, 100, 200])
@pytest.mark.parametrize("kind", [2, 3, 5])
def test_no_line_is_too_long_and_nothing_is_cut_off(kind: int, width: int, tmp_path: Path) -> None:
    study, outcome = wide(tmp_path) if kind == 5 else made(tmp_path, kind)
    text = printed(study, outcome, width)
    assert max(len(line.rstrip()) for line in text.splitlines()) <= width
    assert "…" not in text
    for value in values(study, outcome):
        assert re.search(rf"(?<![\d.]){re.escape(value)}(?![\d.])", text), value
    plain = "".join(text.split())
    for point in outcome.front.points:
        assert re.search(rf"^ ?{point.trial.number}\b", text, re.MULTILINE)
    for word in ("accuracy", "latency", "(ms)", "MACs", *(("rare", "expectedcalibratione") if kind == 5 else ())):
        assert word in plain


def test_two_objectives_are_a_line_per_split_at_80_columns(tmp_path: Path) -> None:
    study, outcome = made(tmp_path)
    lines = printed(study, outcome, 80).splitlines()
    best = outcome.front.points[-1].trial
    accuracy, latency = (best.metrics[name] for name in study.objectives)
    row = next(line for line in lines if re.match(rf" {best.number}\b", line))
    told = [number(accuracy.value, "fraction"), number(latency.value, "ms"), number(best.metrics["macs"].value, "")]
    places = [row.index(text) for text in told]
    assert places == sorted(places)
    assert row.count("–") == 2, "both intervals"
    assert lines[lines.index(row) + 1].split()[0] == "test"


def test_the_mean_ratio_goes_before_anything_else(tmp_path: Path) -> None:
    study, outcome = made(tmp_path, 3)
    whole = printed(study, outcome, 200)
    assert " cut" in whole
    width = max(len(line.rstrip()) for line in whole.splitlines())
    narrower = printed(study, outcome, width - 2)
    assert " cut" not in narrower
    assert len(narrower.splitlines()) == len(whole.splitlines()), "intervals still stand behind their values"


def test_before_the_test_split_is_measured_there_is_a_line_a_model(tmp_path: Path) -> None:
    study, outcome = made(tmp_path, tested=False)
    text = printed(study, outcome, 80)
    assert "test" not in text
    rows = [line for line in text.splitlines() if re.match(r" \d", line)]
    numbers = {0, *(point.trial.number for point in outcome.front.points)}
    assert len(rows) == len(numbers)
    assert rows[0].split()[:2] == ["0", "dense"]


def test_studies_side_by_side_fit_80_columns(tmp_path: Path) -> None:
    study, outcome = wide(tmp_path)
    others = [SearchResult(study.model_copy(update={"name": name}), outcome) for name in ("digits-1", "digits-2")]
    stream = io.StringIO()
    Console(file=stream, width=80, markup=False, highlight=False).print(*compared(others).text)
    lines = stream.getvalue().splitlines()
    assert max(len(line.rstrip()) for line in lines) <= 80
    assert lines[1].split() == ["study", "digits-1", "digits-2"]
    for name in ("trials", "front", "hypervolume", "best latency (ms)"):
        assert [line for line in lines if line.startswith(f" {name} ")], name
    (accuracy,) = (line for line in lines if "best top five accuracy on rare classes" in line)
    assert accuracy.count("87.7 %") == 2
