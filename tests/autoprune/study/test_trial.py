"""One trial: what is measured, what a component may not do, and that nothing of it is lost."""

from __future__ import annotations

import random
import re
import signal

import numpy as np
import pytest
import torch
import toy_plugin

from autoprune.structure import load_pruned
from autoprune.study.jobs import Remeasure
from autoprune.study.proposal import Proposal
from autoprune.study.resolution import resolve
from autoprune.study.scoring import Scoring
from autoprune.study.stages import Stages
from autoprune.study.trial import Runner, model_folder

HALF = {"ratio.wide": 0.5, "ratio.narrow": 0.5}


@pytest.fixture
def runner(spec, host, tmp_path):
    def make(*overrides, swap=("", "")):
        # As in a worker process: there, nothing is rehearsed.
        return Runner(resolve(spec(*overrides, swap=swap), host, worker=0), tmp_path)

    return make


def run(runner, *, number=3, origin="sampler", scorers=(), **params):
    return runner.run(Proposal(number=number, origin=origin, params=params or HALF, scorers=dict(scorers)))


def checksum(network):
    return [tensor.clone() for tensor in network.state_dict().values()]


def test_a_trial_measures_everything_and_saves_its_model(runner, tmp_path):
    runner = runner("search.seed=11")
    result = run(runner, **{"ratio.wide": 0.28, "ratio.narrow": 0.5})
    assert (result.state, result.reason, result.origin, result.number) == ("complete", None, "sampler", 3)
    assert result.ratios == {"wide": 0.28, "narrow": 0.5}
    assert result.achieved == {"wide": 0.25, "narrow": 0.5}  # 4 of 16, 4 of 8
    assert (result.scorers, result.strategy) == (dict.fromkeys(("wide", "narrow"), "toy-scorer"), "toy-strategy")
    network = load_pruned(model_folder(tmp_path, 3), dense=runner._problem.network)
    assert sum(p.numel() for p in network.parameters()) == 6 * 12 + 12 + 12 * 4 + 4 + 4 * 3 + 3
    dense = runner._problem.network
    assert result.metrics["share"].value * sum(p.numel() for p in dense.parameters()) == pytest.approx(151)
    inputs, _ = runner._problem.data.validation.fetch(torch.arange(24))
    x = (inputs.first - 0.5) / 0.3
    distance = (network(x) - dense(x)).abs().mean().item()
    assert result.metrics["distance"].value == pytest.approx(distance)
    assert result.metrics["distance"].samples == 24
    assert set(result.durations_s) == {"toy-share", "score", "cut", "recover", "toy-distance", "save"}
    total = (result.finished - result.started).total_seconds()
    assert sum(result.durations_s.values()) <= total


def test_the_model_of_a_trial_that_is_dominated_is_not_saved(runner, tmp_path):
    runner = runner("search.early_rejection=0")
    for number, share in ((4, 0.1), (5, 0.99)):  # no model is that small; each model is smaller than that
        done = runner.run(Proposal(number=number, origin="sampler", params=HALF, rivals=((-1.0, share),)))
        assert done.state == "complete"
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["5"]


def test_what_was_quick_on_the_dense_model_is_asked_first(runner):
    runner = runner(swap=("evaluators: [", "evaluators: [{use: toy-mode}, "))
    asked = {}
    for number, seconds in ((4, {}), (5, {"toy-mode": 0.01, "toy-distance": 1.0})):
        done = runner.run(Proposal(number=number, origin="sampler", params=HALF, dense_s=seconds))
        asked[number] = [stage for stage in done.durations_s if stage in ("toy-mode", "toy-distance")]
    assert asked == {4: ["toy-distance", "toy-mode"], 5: ["toy-mode", "toy-distance"]}


def test_a_trial_tells_its_precision_and_measures_in_it(runner):
    runner = runner()
    full, low = (
        runner.run(Proposal(number=number, origin="sampler", params=HALF, precision=precision))
        for number, precision in ((4, "float32"), (5, "bfloat16"))
    )
    assert (full.precision, low.precision) == ("float32", "bfloat16")
    distances = [result.metrics["distance"].value for result in (full, low)]
    assert distances[0] != distances[1]
    assert distances[0] == pytest.approx(distances[1], rel=0.05)


def test_the_lowest_scores_go(runner, tmp_path):
    run(runner())
    dense = runner()._problem.network
    kept = dense.wide.weight.abs().sum(1).topk(8).indices.sort().values
    network = load_pruned(model_folder(tmp_path, 3), dense=dense)
    lost = dense.narrow.weight.abs().sum(1).topk(4).indices.sort().values
    torch.testing.assert_close(network.narrow.weight, dense.narrow.weight[lost][:, kept])


def test_the_dense_trial_is_the_dense_model_untouched_by_the_strategy(runner):
    result = run(runner("strategy.noise=1.0"), number=0, origin="dense")
    assert result.metrics["distance"].value == 0
    assert result.metrics["share"].value == 1
    assert set(result.achieved.values()) == {0.0}


def test_nothing_changes_the_dense_network(runner):
    runner = runner("strategy.noise=0.5", swap=("use: toy-scorer", "use: toy-scorer, fault: hurt"))
    before = checksum(runner._problem.network)
    for number in range(3):
        assert run(runner, number=number).state == "complete"
    runner.remeasure(Remeasure(number=1, dense=False))
    assert all(torch.equal(a, b) for a, b in zip(before, checksum(runner._problem.network), strict=True))
    assert not runner._problem.network.training


@pytest.mark.parametrize("component", ["toy-strategy", "toy-distance"])
def test_a_component_that_changes_the_dense_network_ruins_no_later_trial(runner, component):
    runner = runner(swap=(f"use: {component}", f"use: {component}, fault: ruin"))
    before = checksum(runner._problem.network)
    assert [run(runner, number=number).state for number in range(2)] == ["failed", "failed"]
    assert all(torch.equal(a, b) for a, b in zip(before, checksum(runner._problem.network), strict=True))


def test_a_scorer_that_spoils_its_copy_spoils_no_other_scorer(runner):
    runner = runner("scorer=[{use: toy-scorer, fault: hurt}, {use: toy-scorer, power: 2}]")
    hurt, other = runner._problem.space.scorers
    clean = runner._problem.network.wide.weight.abs().square().sum(1)
    run(runner, scorers=dict.fromkeys(("wide", "narrow"), hurt))
    run(runner, scorers={"wide": other})
    scores = Scoring(runner._problem).scores(other, "wide", Stages(torch.device("cpu")))
    torch.testing.assert_close(scores, clean.detach())


def test_scores_are_made_once_per_scorer(runner, monkeypatch):
    calls = []
    score = toy_plugin.ToyScorer.score
    monkeypatch.setattr(
        toy_plugin.ToyScorer, "score", lambda self, g, ctx: calls.append((self.power, g.name)) or score(self, g, ctx)
    )
    runner = runner("scorer=[{use: toy-scorer}, {use: toy-scorer, power: 2}]")
    for number, label in enumerate([*runner._problem.space.scorers] * 3):
        assert run(runner, number=number, scorers={"wide": label, "narrow": label}).scorer == label
    assert calls == [(1, "wide"), (1, "narrow"), (2, "wide"), (2, "narrow")]


def test_a_strategy_cannot_change_the_cached_scores(runner, monkeypatch):
    prune = toy_plugin.ToyStrategy.prune

    def spoil(self, candidate, ctx):
        pruned = prune(self, candidate, ctx)
        for scores in ctx.score(ctx.start()).values():
            scores.neg_()
        return pruned

    monkeypatch.setattr(toy_plugin.ToyStrategy, "prune", spoil)
    runner = runner()
    assert run(runner, number=1).metrics == run(runner, number=2).metrics


def test_a_broken_exact_bound_rejects_before_anything_runs(runner, monkeypatch, tmp_path):
    monkeypatch.setattr(toy_plugin.ToyStrategy, "prune", lambda *_: pytest.fail("it ran"))
    result = run(runner("constraints={share: <= 0.3, distance: <= 9}"))
    assert (result.state, result.reason) == ("rejected", "share 0.389091 is not <= 0.3")
    assert set(result.metrics) == {"share"}
    assert result.violations == {"share": pytest.approx(107 / 275 - 0.3)}
    assert not result.feasible
    assert not model_folder(tmp_path, 3).exists()


def test_a_candidate_that_prunes_nothing_is_rejected(runner, monkeypatch):
    monkeypatch.setattr(toy_plugin.ToyStrategy, "prune", lambda *_: pytest.fail("it ran"))
    result = run(runner(), **{"ratio.wide": 0.01, "ratio.narrow": 0.0})
    assert (result.state, result.reason) == ("rejected", "nothing is pruned: every ratio rounds to no unit")


def test_the_dense_model_is_measured_even_out_of_bounds(runner, tmp_path):
    result = run(runner("constraints={share: <= 0.4}"), number=0, origin="dense")
    assert (result.state, set(result.metrics)) == ("complete", {"share", "distance"})
    assert not result.feasible
    assert not model_folder(tmp_path, 0).exists()


def test_a_broken_measured_bound_makes_it_infeasible_not_failed(runner, tmp_path):
    result = run(runner("constraints={distance: <= 0.001}"))
    assert (result.state, result.feasible, result.reason) == ("complete", False, None)
    assert result.violations["distance"] == pytest.approx(result.metrics["distance"].value - 0.001)
    assert not model_folder(tmp_path, 3).exists()


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("raise", r"evaluator toy-distance: ValueError: the toy broke \(toy_plugin\.py:\d+ in _misbehave\)"),
        ("exit", r"evaluator toy-distance: SystemExit: leaving \(toy_plugin\.py:\d+ in _misbehave\)"),
        ("memory", r"evaluator toy-distance: MemoryError \(toy_plugin\.py:\d+ in _misbehave\)"),
        ("nan", "evaluator toy-distance: distance is nan, with interval \\[None, None\\]"),
        ("inf", "evaluator toy-distance: distance is inf, with interval .*"),
        ("missing", "evaluator toy-distance: did not measure distance"),
        ("extra", "evaluator toy-distance: measured surprise, which it does not declare"),
        ("ruin", r"evaluator toy-distance: changed the dense network \(wide\.weight.*\)"),
        ("spoil", r"evaluator toy-distance: changed the model that it measured \(wide\.bias.*\)"),
        ("text", "evaluator toy-distance: ValueError: could not convert string to float: 'far'"),
    ],
)
def test_an_evaluators_fault_fails_the_trial_with_its_reason(runner, fault, reason):
    result = run(runner(swap=("use: toy-distance", f"use: toy-distance, fault: {fault}")))
    assert result.state == "failed"
    assert re.fullmatch(reason, result.reason), result.reason
    assert set(result.metrics) == {"share"}, "what was measured before is kept"
    assert result.achieved == {"wide": 0.5, "narrow": 0.5}
    assert "toy-distance" in result.durations_s


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("shape", r"scorer toy-scorer: scores of wide have the shape \(15,\), not \(16,\)"),
        ("nan", "scorer toy-scorer: scores of wide are not all finite"),
        ("no-tensor", "scorer toy-scorer: scores of wide are a list, not a tensor"),
        ("raise", r"scorer toy-scorer: RuntimeError: no score today \(toy_plugin\.py:\d+ in score\)"),
    ],
)
def test_a_scorers_fault_fails_the_trial_with_its_reason(runner, fault, reason):
    result = run(runner(swap=("use: toy-scorer", f"use: toy-scorer, fault: {fault}")))
    assert result.state == "failed"
    assert re.fullmatch(reason, result.reason), result.reason


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("nothing", "strategy toy-strategy: wide lost 0 of its 16 units, not 8"),
        ("dense", "strategy toy-strategy: returned the dense network itself, not a copy"),
        ("miscount", "strategy toy-strategy: wide lost 9 of its 16 units, not 8"),
        ("unsorted", "strategy toy-strategy: kept units of wide are not sorted indices below 16, each once"),
        ("lie", r"strategy toy-strategy: wide\.weight has the shape \(16, 6\), not \(8, 6\) as the kept units tell"),
        ("mask", "strategy toy-strategy: .*mask.*"),
        ("hook", "strategy toy-strategy: .*hook.*wide.*|strategy toy-strategy: .*wide.*hook.*"),
        ("attribute", "the saved model predicts otherwise than the network: .*"),
        ("ruin", r"strategy toy-strategy: changed the dense network \(wide\.weight.*\)"),
        ("none", "strategy toy-strategy: returned a NoneType, not what ctx.start or ctx.cut gave it"),
    ],
)
def test_a_strategys_fault_fails_the_trial_with_its_reason(runner, fault, reason):
    result = run(runner(swap=("use: toy-strategy", f"use: toy-strategy, fault: {fault}")))
    assert result.state == "failed"
    assert re.fullmatch(reason, result.reason), result.reason


def test_ctrl_c_passes_through(runner):
    runner = runner(swap=("use: toy-distance", "use: toy-distance, fault: interrupt"))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    try:
        with pytest.raises(KeyboardInterrupt):
            run(runner)
    finally:
        signal.signal(signal.SIGINT, before)


def test_the_next_trial_is_none_the_worse_for_a_failed_one(runner, tmp_path):
    runner = runner(swap=("use: toy-distance", f"use: toy-distance, fault: raise, once: true, log: {tmp_path / 'log'}"))
    assert [run(runner, number=n).state for n in (1, 2)] == ["failed", "complete"]


def test_every_evaluator_gets_the_models_in_eval_and_its_own_seed(runner):
    """Whatever the evaluator before did to the models' mode and to the global generators."""
    swap = ("{use: toy-distance}", "{use: toy-distance, fault: train}, {use: toy-mode}, {use: toy-mode, label: b}")
    runner = runner("strategy.noise=0.1", swap=swap)
    one, two = run(runner, number=1), run(runner, number=2)
    assert one.metrics["training"].value == 0
    assert one.metrics["draw"] == one.metrics["draw_b"] == two.metrics["draw"]


def test_strategies_are_seeded_by_the_trial(runner):
    runner = runner("strategy.noise=0.1")
    one, again, other = run(runner, number=1), run(runner, number=1), run(runner, number=2)
    assert one.metrics == again.metrics
    assert one.seed == again.seed != other.seed
    assert one.metrics["distance"] != other.metrics["distance"]


def test_global_generators_are_given_back_as_they_were(runner):
    runner = runner("strategy.noise=0.1", swap=("{use: toy-distance}", "{use: toy-distance}, {use: toy-mode}"))
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    run(runner)
    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1:] == (random.getstate(), np.random.get_state()[1].tolist())


def test_a_saved_model_is_measured_on_the_test_split(runner, tmp_path):
    log = tmp_path / "log"
    runner = runner("strategy.noise=0.1", swap=("use: toy-distance", f"use: toy-distance, log: {log}"))
    trial = run(runner)
    again = runner.remeasure(Remeasure(number=3, dense=False))
    assert again.reason is None
    assert again.metrics["share"] == trial.metrics["share"]
    assert again.metrics["distance"].samples == 16
    network = load_pruned(model_folder(tmp_path, 3), dense=runner._problem.network)
    inputs, _ = runner._problem.data.test.fetch(torch.arange(16))
    x = (inputs.first - 0.5) / 0.3
    expected = (network(x) - runner._problem.network(x)).abs().mean().item()
    assert again.metrics["distance"].value == pytest.approx(expected)
    assert runner.remeasure(Remeasure(number=0, dense=True)).metrics["distance"].value == 0
    assert [line.split()[0] for line in log.read_text().splitlines()] == ["validation", "test", "test"]


def test_the_final_version_of_an_evaluator_measures_the_test_split(runner, monkeypatch):
    monkeypatch.setattr(toy_plugin.ToyDistance, "final", lambda self: self.model_copy(update={"fault": "raise"}))
    runner = runner()
    assert run(runner).state == "complete"
    again = runner.remeasure(Remeasure(number=3, dense=False))
    assert "ValueError: the toy broke" in again.reason
    assert set(again.metrics) == {"share"}


def test_a_model_that_is_gone_is_told(runner):
    assert "holds no saved model" in runner().remeasure(Remeasure(number=8, dense=False)).reason


def test_a_group_that_is_kept_is_not_scored(runner, monkeypatch):
    asked = []
    score = toy_plugin.ToyScorer.score
    monkeypatch.setattr(
        toy_plugin.ToyScorer, "score", lambda self, group, ctx: asked.append(group.name) or score(self, group, ctx)
    )
    result = run(runner("search_space.groups={wide: keep}"), **{"ratio.narrow": 0.5})
    assert result.state == "complete"
    assert result.achieved == {"wide": 0.0, "narrow": 0.5}
    assert asked == ["narrow"]
