"""Probes: what cuts of one group alone do to the predictions, measured once in a study's life."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from autoprune.host.plugins import PluginHost
from autoprune.plugin import Task, hookimpl
from autoprune.structure import discover
from autoprune.study import coordinator, precision, resume, search
from autoprune.study.dispatcher import Dispatcher
from autoprune.study.jobs import Calibrate, Calibrated, Cut, Probe, Probed
from autoprune.study.precision import fitting
from autoprune.study.predictor import Predictor
from autoprune.study.prober import Prober
from autoprune.study.resolution import resolve
from autoprune.study.trial import Runner

TASK = Task.model_validate({"use": "classification"}, context=PluginHost())


def stored(study: Path) -> list[Probed]:
    """The probes in its journal, in order."""
    lines = map(json.loads, (study / "journal.log").read_text().splitlines())
    attrs = [line["user_attr"] for line in lines if "user_attr" in line and "trial_id" not in line]
    return [Probed.model_validate(v) for attr in attrs for k, v in attr.items() if k.startswith("autoprune:probe:")]


def cuts(study: Path) -> list[Cut]:
    """All that was probed."""
    return [effect.cut for probed in stored(study) for effect in probed.effects]


def probe(group: str, *units: int, samples: int, scorer: str = "toy-scorer") -> Probe:
    return Probe(cuts=tuple(Cut(scorer=scorer, group=group, units=count) for count in units), samples=samples)


def test_it_is_the_divergence_of_the_predictions(spec, host, tmp_path):
    problem = resolve(spec(), host)
    runner = Runner(problem, tmp_path)
    probed = runner.probe(probe("wide", 4, 14, samples=1000))
    scores = problem.network.wide.weight.abs().sum(1)
    inputs, _ = problem.data.validation.fetch(torch.arange(24))
    with torch.no_grad():
        dense = inputs.feed(problem.predictor(problem.network)).log_softmax(1)
        for effect in probed.effects:
            kept = problem.structure.select({"wide": scores}, {"wide": effect.cut.units})
            small = inputs.feed(problem.predictor(problem.structure.cut(problem.network, kept))).log_softmax(1)
            assert effect.divergence == pytest.approx(float((dense.exp() * (dense - small)).sum(1).mean()), abs=1e-6)
            assert effect.agreement == pytest.approx(float((dense.argmax(1) == small.argmax(1)).double().mean()))
    assert probed.effects[1].divergence > probed.effects[0].divergence > 0


def test_batch_norms_use_the_batch_and_keep_their_statistics():
    """Of all the modules of the dense model's copies, batch norms alone go to train mode; the model itself stays."""
    torch.manual_seed(0)
    inputs = torch.randn(16, 3) * 5 + 2
    network = nn.Sequential(nn.Linear(3, 6), nn.BatchNorm1d(6), nn.Dropout(), nn.ReLU(), nn.Linear(6, 2)).eval()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    structure = discover(network, (inputs,))
    (group,) = structure.groups
    made: list[nn.Module] = []

    def predict(cut):
        made.append(cut)
        return Predictor(cut)(inputs)

    prober = Prober(structure, copy.deepcopy(network), predict, TASK, None)
    measured = [prober(group.name, torch.arange(6.0), units)[0] for units in (2, 4)]
    with torch.no_grad():
        hidden = nn.functional.batch_norm(network[0](inputs), None, None, training=True).relu()
        dense, *pruned = (  # the lowest scores go
            nn.functional.linear(hidden[:, gone:], network[4].weight[:, gone:], network[4].bias).log_softmax(1)
            for gone in (0, 2, 4)
        )
        assert not torch.allclose(dense, network(inputs).log_softmax(1), atol=0.01), "statistics of the batch differ"
    expected = [float((dense.exp() * (dense - other)).sum(1).mean()) for other in pruned]
    assert measured == pytest.approx(expected, abs=1e-6)
    assert max(measured) > 0
    trained = [(len(made_one[0].weight), [m.training for m in made_one]) for made_one in made]
    normed = [False, True] + [False] * 3
    assert sorted(trained) == [(2, normed), (4, normed), (6, normed)]
    assert [prober(group.name, torch.arange(6.0) ** 2, units)[0] for units in (2, 4)] == measured
    assert len(made) == 3, "the same cuts are not measured twice"
    assert not any(module.training for module in network.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_a_group_that_cannot_be_probed_has_a_reason(spec, host, tmp_path):
    problem = resolve(spec(), host)
    impossible, possible = Runner(problem, tmp_path).probe(probe("wide", 16, 4, samples=8)).effects
    assert "would lose all of its 16 units" in impossible.reason
    assert possible.reason is None


@pytest.mark.slow
def test_a_study_probes_once(spec, host):
    overrides = ("search.sampler={use: toy-profiled}", "search.trials=4", "search.ladder=0")
    result = search(spec(*overrides), host=host)
    first = cuts(result.study.folder)
    assert len(first) == len(set(first)) == 6
    assert {cut.group for cut in first} == {"wide", "narrow"}
    resume(result.study.folder, trials=6, host=host)
    assert cuts(result.study.folder) == first


def test_predictions_that_are_no_numbers_are_a_reason_not_a_zero(spec, host, tmp_path):
    problem = resolve(spec(), host)
    with torch.no_grad():
        problem.network.head.bias[0] = float("nan")
    (effect,) = Runner(problem, tmp_path).probe(probe("wide", 4, samples=8)).effects
    assert "are NaN" in effect.reason


@pytest.mark.slow
def test_the_time_limit_ends_probing_and_a_resumed_study_goes_on(spec, host, tmp_path, monkeypatch):
    now = 0.0

    class Slow:
        @hookimpl
        def autoprune_probe_finished(self):
            nonlocal now
            now += 100.0

    monkeypatch.setattr(coordinator, "time", SimpleNamespace(monotonic=lambda: now))
    monkeypatch.setattr(coordinator, "_PROBES", 2)
    first = search(spec("search.sampler={use: toy-profiled}", "search.timeout=1m"), host=host, observers=[Slow()])
    assert (len(first.outcome.trials), len(cuts(tmp_path / "study"))) == (1, 2)
    resumed = resume(tmp_path / "study", host=host, observers=[Slow()])
    assert (len(resumed.outcome.trials), len(cuts(tmp_path / "study"))) == (2, 4)
    assert len(resume(tmp_path / "study", host=host).outcome.trials) == 12
    assert len(cuts(tmp_path / "study")) == 6


def test_observers_are_told(spec, host):
    told = []

    class Watch:
        @hookimpl
        def autoprune_probe_finished(self, study, done, total):
            told.append((study.name, done, total))

        @hookimpl
        def autoprune_trial_finished(self, result):
            told.append(result.number)

    overrides = ("search.sampler={use: toy-profiled}", "search.trials=2", "search.ladder=0")
    name = search(spec(*overrides), host=host, observers=[Watch()]).study.name
    assert told == [0, (name, 6, 6), 1]


def test_nothing_is_probed_for_other_samplers_or_first_candidates(spec, host):
    assert stored(search(spec("search.trials=4"), host=host).study.folder) == []


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_executors_probe_and_calibrate(spec, host, workers, tmp_path, quick_workers):
    folder = search(spec("search.trials=1"), host=host).study.folder
    problem = resolve(spec("search.trials=1", f"search.workers={workers}"), host)
    dispatcher = Dispatcher(problem.components.executor, problem, folder)
    answers = []
    try:
        for job in (Calibrate(), probe("wide", 4, samples=8)):
            dispatcher.submit(job, answers.append)
            dispatcher.next()()
    finally:
        dispatcher.close()
    calibrated, probed = answers
    assert isinstance(calibrated, Calibrated)
    assert isinstance(probed, Probed)
    assert probed.effects[0].reason is None


def test_a_precision_that_predicts_otherwise_is_not_taken(monkeypatch):
    monkeypatch.setattr(precision, "_native", lambda device: True)
    scores = torch.eye(4).repeat(30, 1)

    def fits(low, macs=10**8) -> str:
        predict = {"float32": lambda: scores, "bfloat16": low}
        return fitting(lambda name: predict[name](), None, task=TASK, device=torch.device("cpu"), macs=macs)

    def missing():
        raise RuntimeError("no such kernel")

    assert fits(lambda: scores + 1e-3) == "bfloat16"
    assert fits(lambda: scores + 1e-3, macs=1000) == "float32"
    assert fits(lambda: scores.roll(1, dims=1)) == "float32"
    assert fits(lambda: scores * float("nan")) == "float32"
    assert fits(missing) == "float32"
    monkeypatch.setattr(precision, "_native", lambda device: False)
    assert fits(lambda: scores) == "float32"


def test_low_precision_is_for_passes_without_gradients():
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 4))
    seen: list[torch.dtype] = []
    network[0].register_forward_hook(lambda module, args, out: seen.append(out.dtype))
    low, full = Predictor(network, precision=torch.bfloat16), Predictor(network)
    inputs = torch.randn(2, 3, 8, 8)
    low(inputs)
    with torch.no_grad():
        close, exact = low(inputs), full(inputs)
    assert seen == [torch.float32, torch.bfloat16, torch.float32]
    assert close.dtype == torch.float32
    torch.testing.assert_close(close, exact, atol=0.05, rtol=0.05)
    assert not torch.equal(close, exact)
