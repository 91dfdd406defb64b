"""Searches with metrics of a file beside the spec."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from sklearn.metrics import f1_score

import autoprune
from autoprune.host.plugins import PluginHost
from autoprune.plugin import DataSource, SourceContext

MODULE = """\
from mylibrary import macro


def macro_f1(outputs, targets):
    return macro(targets, outputs.argmax(1))


def rarest(outputs, targets):
    if len(targets) < 20:
        raise ValueError("a class is missing")
    return float(min((outputs.argmax(1) == targets)[targets == c].double().mean() for c in targets.unique()))


def undefined(outputs, targets):
    return float("nan")
"""
LIBRARY = """\
from sklearn.metrics import f1_score


def macro(true, found):
    return f1_score(true, found, average="macro")
"""
SPEC = """\
name: own-metrics
model: {use: digits-cnn, width: 4, epochs: 2}
data: {use: digits}
evaluators:
  - {use: params}
  - {use: metric, target: "mymetrics:macro_f1", direction: maximize, resamples: 40}
  - {use: metric, target: "mymetrics:rarest", direction: maximize, resamples: 0}
objectives: {macro_f1: maximize, params: minimize}
search: {sampler: {use: random}, trials: 4, ladder: 2, workers: 2}
tracking: {enabled: false}
device: cpu
output: study
strategy: {use: one-shot}
"""


@pytest.fixture
def spec(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "mymetrics.py").write_text(MODULE)
    (tmp_path / "mylibrary.py").write_text(LIBRARY)
    path = tmp_path / "spec.yaml"
    path.write_text(SPEC)
    yield path
    for name in ("mymetrics", "mylibrary"):
        sys.modules.pop(name, None)


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.usefixtures("quick_workers")
def test_a_function_beside_the_spec_is_an_objective_also_in_workers(spec: Path) -> None:
    """The rehearsal's eight samples are too few for one of the metrics, which all samples are not."""
    result = autoprune.search(spec)
    done = [trial for trial in result.trials.itertuples() if trial.state == "complete"]
    assert len(done) == 4
    source = PluginHost()(DataSource, "digits")()
    data = source.load(SourceContext(folder=spec.parent, cache=spec.parent, seed=0))
    assert result.front.points
    for point in result.front.points:
        network = autoprune.load_pruned(point.trial.model, trust=True)
        for split, found in ((data.validation, point.trial.metrics), (data.test, point.test)):
            inputs, targets = split.fetch(torch.arange(len(split)))
            with torch.no_grad():
                predicted = network(inputs.first).argmax(1)
            expected = f1_score(targets, predicted, average="macro")
            assert found["macro_f1"].value == pytest.approx(expected, rel=1e-6)
            assert found["macro_f1"].low < expected < found["macro_f1"].high
            assert found["rarest"].value <= found["macro_f1"].value


@pytest.mark.parametrize(
    ("swap", "message"),
    [
        (
            ("mymetrics:rarest", "mymetrics:undefined"),
            r"^.*:7:5: evaluators\.2: metric: mymetrics:undefined .* gives nan$",
        ),
        (("mymetrics:rarest", "mymetric:rarest"), r"^.*:7:5: evaluators\.2: .* no module 'mymetric' .* did you mean"),
        (("resamples: 0", "head: kind"), r"^.*:7:5: evaluators\.2: .* no head 'kind'"),
    ],
    ids=["nan", "no such module", "no such head"],
)
@pytest.mark.slow
def test_what_cannot_work_is_told_at_its_line_before_the_first_trial(
    swap: tuple[str, str], message: str, spec: Path
) -> None:
    spec.write_text(SPEC.replace(*swap))
    with pytest.raises(autoprune.SpecError, match=message):
        autoprune.search(spec)
    assert not (spec.parent / "study").exists()


def test_two_metrics_of_one_name_are_told_apart(spec: Path) -> None:
    spec.write_text(SPEC.replace("mymetrics:rarest", "others:macro_f1"))
    with pytest.raises(autoprune.SpecError, match=r":7:5: evaluators\.2: makes macro_f1, as evaluators\.1 does; give"):
        autoprune.load_spec(spec)


def test_objectives_know_the_metric_without_importing_it(spec: Path) -> None:
    spec.write_text(SPEC.replace("objectives: {macro_f1:", "objectives: {macro_fi:"))
    with pytest.raises(autoprune.SpecError, match=r"no evaluator makes this metric; did you mean 'macro_f1'\?$"):
        autoprune.load_spec(spec)
    assert "mymetrics" not in sys.modules
