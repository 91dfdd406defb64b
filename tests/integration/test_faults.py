"""What used to go wrong in silence: each now is right, or refused with the line that says what to write.

One table of what is refused before the first trial, one of what fails the trial that does it alone, one of what is said
aloud; and what is right by now.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import autoprune
from autoprune import NoFeasibleTrialError, SearchResult, SpecError
from autoprune.cli.run import run
from autoprune.host.plugins import PluginHost
from autoprune.plugin import DataSource, ModelSource, TrialResult

from .witnesses import PLUGINS

FILES = [str(PLUGINS / name) for name in ("tiny.py", "faulty.py")]
SPEC: dict[str, Any] = {
    "name": "faults",
    "plugins": FILES,
    "model": {"use": "tiny-net"},
    "data": {"use": "tiny-data"},
    "scorer": {"use": "l1"},
    "evaluators": [{"use": "params"}, {"use": "loss"}],
    "objectives": {"loss": "minimize", "params": "minimize"},
    "search": {"sampler": {"use": "random"}, "trials": 4, "ladder": 3},
    "tracking": {"enabled": False},
    "device": "cpu",
    "output": "study",
}
"""Four trials that hang on nothing: the dense model and a ladder of ratios."""
NUMBERS = {"model": {"use": "tiny-net", "outputs": 1}, "data": {"use": "tiny-data", "targets": "numbers"}}
WORDS = {"data": {"use": "tiny-data", "targets": "tokens"}}
Change = Mapping[str, Any]
Searching = Callable[..., SearchResult]


@pytest.fixture(scope="module")
def host() -> PluginHost:
    """The installed plugins; those of the spec's files come in with the first one."""
    return PluginHost()


@pytest.fixture
def searching(host: PluginHost, tmp_path: Path) -> Searching:
    """Search by the spec with changes, which replace its sections."""

    def search(*changes: Change, output: str = "study") -> SearchResult:
        spec = dict(SPEC)
        for change in changes:
            spec |= change
        return autoprune.search(
            autoprune.spec_from_mapping(spec | {"output": output}, folder=tmp_path, host=host), host=host
        )

    return search


def made(contract: Any, reference: Mapping[str, Any]) -> Any:
    """A component of the spec."""
    host = PluginHost()
    for file in FILES:
        host.load_file(file)
    return contract.model_validate(reference, context=host)


def metrics(trial: TrialResult) -> dict[str, float]:
    return {name: measured.value for name, measured in trial.metrics.items()}


REFUSED: dict[str, tuple[Change, str, list[str]]] = {
    "regression with one output, under classification": (
        NUMBERS,
        "task",
        ["outputs (4, 1) float32", "targets are (4, 1) float32", "write task: {use: regression}"],
    ),
    "a language model's (N, T, V), under classification": (
        WORDS | {"model": {"use": "tiny-net", "reads": "tokens"}},
        "task",
        ["outputs (4, 6, 10) float32", "targets are (4, 6) int64", "write task: {use: causal-lm}"],
    ),
    "the same as (N, V, T)": (
        WORDS | {"model": {"use": "tiny-net", "reads": "tokens, time last"}},
        "task",
        ["outputs (4, 10, 6) float32", "targets are (4, 6) int64", "write task: {use: segmentation}"],
    ),
    "multi-hot targets, under classification": (
        {"data": {"use": "tiny-data", "targets": "multi-hot"}},
        "task",
        ["targets are (4, 3) float32", "for several classes each, write task: {use: multilabel}"],
    ),
    "classes, under regression": (
        {"task": {"use": "regression"}},
        "task",
        ["targets are (4,) int64", "write task: {use: classification}"],
    ),
    "a label outside the outputs": (
        {"data": {"use": "tiny-data", "stray": 2}},
        "task",
        ["a target is class 3, but the model has 3 outputs: classes are 0 to 2"],
    ),
    "the same beyond the first samples": (
        {"data": {"use": "tiny-data", "stray": 6}},
        "data",
        ["sample 6: a target is class 3, but the model has 3 outputs: classes are 0 to 2"],
    ),
    "more classes than outputs": (
        {"model": {"use": "tiny-net", "outputs": 2}, "data": {"use": "tiny-data"}},
        "task",
        ["the data has 3 classes, but the model has 2 outputs, (4, 2) float32"],
    ),
    "a metric with a misspelt direction": (
        {"plugins": [*FILES, str(PLUGINS / "maximise.py")]},
        "plugins.2",
        ["maximise.py:14: ", "metric margin: direction is minimize or maximize, not 'maximise'"],
    ),
    "an option without a JSON form": (
        {"evaluators": [*SPEC["evaluators"], {"use": "with-function", "reduce": "amax"}]},
        "evaluators.2.reduce",
        ["has no JSON form, in which a study keeps it"],
    ),
    "an evaluator that does not fit the data": (
        {"evaluators": [*SPEC["evaluators"], {"use": "misfit"}]},
        "evaluators.2",
        ["misfit: ValueError: images have 32 rows, not 4"],
    ),
    "accuracy, where nothing is right or wrong": (
        NUMBERS
        | {
            "task": {"use": "regression"},
            "evaluators": [*SPEC["evaluators"], {"use": "accuracy"}],
        },
        "evaluators.2",
        ["accuracy: regression has nothing that is right or wrong; use loss"],
    ),
    "a scorer that breaks its contract": (
        {"scorer": {"use": "short"}},
        "scorer",
        ["no scorer can rank 'first': short: scores of first have the shape (15,), not (16,)"],
    ),
}
"""Changes of the spec, where the mistake stands, and words of its line."""


@pytest.mark.parametrize("fault", REFUSED)
def test_it_is_refused_at_its_place_before_the_first_trial(fault: str, searching: Searching, tmp_path: Path) -> None:
    change, place, words = REFUSED[fault]
    with pytest.raises(SpecError) as caught:
        searching(change)
    (mistake,) = caught.value.mistakes
    assert ".".join(map(str, mistake.path)) == place
    for text in words:
        assert text in mistake.message
    assert "\n" not in str(mistake)
    assert not (tmp_path / "study").exists(), "a study has begun"


def test_a_file_says_the_line_and_the_command_ends_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = SPEC | NUMBERS | {"task": {"use": "classification"}}
    lines = [f"{key}: {json.dumps(value)}" for key, value in spec.items()]
    (tmp_path / "spec.yaml").write_text("\n".join(lines))
    at = 1 + next(number for number, line in enumerate(lines) if line.startswith("task:"))
    assert run(["search", str(tmp_path / "spec.yaml")]) == 2
    (said,) = [line for line in capsys.readouterr().err.splitlines() if "spec.yaml" in line]
    assert f"spec.yaml:{at}:1: task: targets are (4, 1) float32" in said


LOST = "which a saved model would not have; replace modules by a transform (`transforms:`)"
FAILED: dict[str, tuple[Change, str]] = {
    "a gate in a forward hook": (
        {"strategy": {"use": "meddling", "fault": "hook"}},
        f"strategy meddling: module first has a forward hook, {LOST}",
    ),
    "a module that a strategy replaced": (
        {"strategy": {"use": "meddling", "fault": "replace"}},
        f"strategy meddling: module first is a Gated, not a Linear, {LOST}",
    ),
    "outputs that are NaN": (
        {
            "strategy": {"use": "meddling", "fault": "nan"},
            "evaluators": [{"use": "params"}, {"use": "accuracy"}],  # which could count them as wrong
            "objectives": {"accuracy": "maximize", "params": "minimize"},
        },
        "evaluator accuracy: the model's outputs are NaN",
    ),
}
"""Changes of the spec, and why every pruned model fails."""


@pytest.mark.parametrize("fault", FAILED)
def test_it_fails_the_trial_with_its_line(fault: str, searching: Searching) -> None:
    change, reason = FAILED[fault]
    with pytest.raises(NoFeasibleTrialError) as caught:
        searching(change)
    assert f"3 failed (3 times: {reason})" in str(caught.value)


@pytest.mark.slow
def test_what_is_nan_fails_its_own_trial_alone(searching: Searching) -> None:
    whole = searching({"strategy": {"use": "one-shot"}}, output="whole").outcome.trials
    result = searching({"strategy": {"use": "meddling", "fault": "nan", "beyond": 0.6}})
    assert [trial.state for trial in result.outcome.trials] == ["complete", "complete", "complete", "failed"]
    assert result.outcome.trials[3].reason == "evaluator loss: the model's outputs are NaN"
    assert [metrics(t) for t in result.outcome.trials[:3]] == [metrics(t) for t in whole[:3]]


@pytest.mark.slow
def test_an_evaluator_that_changes_the_dense_model_fails_its_own_trial_alone(searching: Searching) -> None:
    evaluators = [*SPEC["evaluators"], {"use": "vandal"}]
    right = searching({"evaluators": evaluators}, output="right").outcome.trials
    evaluators[2] = {"use": "vandal", "params": round(right[1].metrics["params"].value)}
    result = searching({"evaluators": evaluators})
    first, spoilt, *later = result.outcome.trials
    assert spoilt.state == "failed"
    assert spoilt.reason == "evaluator vandal: changed the dense network (second.weight)"
    assert [t.state for t in later] == ["complete", "complete"]
    assert metrics(first) == metrics(right[0])
    assert [metrics(t) for t in later] == [metrics(t) for t in right[2:]]
    assert all(t.metrics["distance"].value > 0 for t in later)


SAID: dict[str, tuple[Change, str]] = {
    "probes that are all zero": (
        NUMBERS | {"task": {"use": "deaf"}, "search": SPEC["search"] | {"sampler": {"use": "sensitivity"}}},
        "no cut of any group changes the outputs as the task sees them: its divergence is exactly 0",
    ),
    "a dense model that is not as fast as itself": (
        {"evaluators": [*SPEC["evaluators"], {"use": "slow"}]},
        "timings on this machine are too noisy to trust: of the dense model over itself, time_ratio is 1.40",
    ),
}
"""Changes of the spec, and how what is said once begins."""


@pytest.mark.parametrize("fault", SAID)
def test_it_is_said_aloud_once(fault: str, searching: Searching, caplog: pytest.LogCaptureFixture) -> None:
    change, line = SAID[fault]
    with caplog.at_level(logging.WARNING, "autoprune"):
        searching(change)
    (record,) = caplog.records
    assert record.getMessage().startswith(line)


def test_an_observer_that_writes_over_the_report_is_told(
    searching: Searching, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "autoprune"):
        folder = searching({"observers": [{"use": "overwriting"}]}).study.folder
    (record,) = caplog.records
    assert record.getMessage().startswith("observer overwriting wrote report.md into the study's folder, where that is")
    assert not (folder / "report.md").exists()
    assert "my notes" in (folder / "observers" / "overwriting" / "report.md").read_text()


@pytest.mark.slow
def test_a_regression_is_searched(searching: Searching, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    heard = tmp_path / "heard"
    regression = NUMBERS | {"task": {"use": "regression"}}
    search = {"search": {"sampler": {"use": "listening", "heard": str(heard)}, "trials": 5, "ladder": 3}}
    with caplog.at_level(logging.WARNING, "autoprune"):
        bare = searching(regression, search, output="bare")
    assert not caplog.records
    assert len(bare.front.points) >= 2
    probes = [line.split() for line in heard.read_text().splitlines()]
    assert {group for group, *_ in probes} == {"first", "second"}
    assert all(float(divergence) > 0 for *_, divergence in probes)
    training = {"epochs": 30, "batch_size": 16, "optimizer": "adamw", "lr": 0.02}
    strategy = {"strategy": {"use": "one-shot", "recover": {"use": "fine-tune", **training}}}
    tuned = searching(regression, search, strategy, output="tuned")
    for cut, again in zip(bare.outcome.trials[1:4], tuned.outcome.trials[1:4], strict=True):
        assert cut.achieved == again.achieved
        assert again.metrics["loss"].value < 0.5 * cut.metrics["loss"].value
    # The loss is the mean squared error, by PyTorch's own, of the model that was saved.
    point = min(tuned.front.points, key=lambda point: point.trial.metrics["loss"].value)
    data = made(DataSource, NUMBERS["data"]).load(None)
    inputs, targets = data.test.fetch(torch.arange(len(data.test)))
    with torch.no_grad():
        outputs = autoprune.load_pruned(tuned.models[point.trial.number], trust=True)(*inputs.args)
    assert point.test["loss"].value == pytest.approx(torch.nn.functional.mse_loss(outputs, targets).item(), rel=1e-5)


@pytest.mark.slow
def test_inputs_by_keyword_are_searched(searching: Searching) -> None:
    named = {"model": {"use": "tiny-net", "reads": "named"}, "data": {"use": "tiny-data", "named": True}}
    by_name, by_place = searching(named, output="named"), searching(output="placed")
    assert [metrics(t) for t in by_name.outcome.trials] == [metrics(t) for t in by_place.outcome.trials]
    assert by_name.models.keys() == by_place.models.keys()


@pytest.mark.slow
def test_what_was_trained_before_the_cut_is_in_the_saved_model(searching: Searching, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    strategy = {"use": "trains-first", "kept": str(kept), "epochs": 5, "batch_size": 16, "lr": 0.1}
    result = searching({"strategy": strategy})
    dense = dict(made(ModelSource, SPEC["model"]).build(None).named_parameters())
    pruned = [point.trial for point in result.front.points if point.trial.origin != "dense"]
    assert pruned
    for trial in pruned:
        trained = load_file(kept / str(trial.seed))
        assert all((trained[name] - dense[name]).abs().max() > 1e-3 for name in dense)
        groups = json.loads((result.models[trial.number] / "recipe.json").read_text())["groups"]
        first, second = groups["first"], groups["second"]
        assert len(first) < 16
        saved = dict(autoprune.load_pruned(result.models[trial.number], trust=True).named_parameters())
        expected = {
            "first.weight": trained["first.weight"][first],
            "first.bias": trained["first.bias"][first],
            "second.weight": trained["second.weight"][second][:, first],
            "second.bias": trained["second.bias"][second],
            "head.weight": trained["head.weight"][:, second],
            "head.bias": trained["head.bias"],
        }
        assert saved.keys() == expected.keys()
        assert all(torch.equal(saved[name], tensor) for name, tensor in expected.items())


@pytest.mark.slow
def test_a_replaced_module_is_right_as_a_transform(searching: Searching) -> None:
    bare, gated = searching(output="bare"), searching({"transforms": [{"use": "gates"}]})
    for plain, trial in zip(bare.outcome.trials[1:], gated.outcome.trials[1:], strict=True):
        units = 16 - round(16 * trial.achieved["first"])
        assert trial.metrics["params"].value == plain.metrics["params"].value + units
    number = max(gated.models)
    opened = autoprune.load_pruned(gated.models[number], trust=True)
    assert type(opened.first).__name__ == "Gated"
    data = made(DataSource, SPEC["data"]).load(None)
    inputs, targets = data.test.fetch(torch.arange(len(data.test)))
    with torch.no_grad():
        loss = torch.nn.functional.cross_entropy(opened(*inputs.args), targets).item()
    (point,) = [point for point in gated.front.points if point.trial.number == number]
    assert point.test["loss"].value == pytest.approx(loss, rel=1e-5)
