"""Toy studies in which knobs beside the ratios matter: the sensitivity sampler against chance and ratios alone."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import optuna
import pytest

from autoprune.plugin import (
    Choice,
    Cost,
    Knob,
    Measured,
    Metric,
    Range,
    SamplerContext,
    SearchedGroup,
    Sensitivity,
    TrialResult,
)
from autoprune.plugin.volume import hypervolume
from autoprune_samplers import sensitivity, uniform

GROUPS, UNITS, TRIALS, SEEDS = 5, 48, 30, 5
OBJECTIVES = {"accuracy": "maximize", "macs_ratio": "minimize"}
OURS, CHANCE = sensitivity.SensitivitySampler(), uniform.Random()
NOW = datetime.now(UTC)
LR, RECOVERY = Range("lr", 1e-5, 1.0, log=True), Choice("recovery", ("none", "good", "bad"))
RANKS = tuple(Range(f"rank.{g}", 0.1, 1.0, usual=1.0) for g in range(GROUPS))


class Toy:
    """A chain of layers; what goes does damage, which knobs make larger or smaller."""

    def __init__(self, seed: int, knobs: tuple[Knob, ...], *, rank_matters: float = 1.0) -> None:
        rng = np.random.default_rng(seed)
        self.seed, self.knobs = seed, knobs
        self.tolerance = rng.uniform(0.2, 3.0, GROUPS)
        self.truth = self.tolerance * rng.uniform(0.6, 1.7, GROUPS)
        self.rank_damage = rng.uniform(0.02, 0.6, GROUPS) * rank_matters
        self.best_lr = 10 ** rng.uniform(-3.2, -1.8)

    def good(self, params) -> bool:
        """Whether the learning rate and the recovery are right."""
        return abs(np.log10(params["lr"] / self.best_lr)) < 0.6 and params["recovery"] == "good"

    def costs(self, cut_units, choices):
        kept = 1 - cut_units / UNITS
        layers = np.concatenate([kept[:, :1], kept[:, 1:] * kept[:, :-1]], axis=1)
        if choices is not None:
            layers *= np.minimum(1.0, 1.6 * np.array([[each[k.name] for k in RANKS] for each in choices]))
        macs = layers.sum(axis=1)
        return {"params": macs, "macs": macs, "bytes": macs, "nonzero": macs, "macs_ratio": macs / GROUPS}

    def result(self, number: int, params, origin: str) -> TrialResult:
        cuts = np.array([[round(params[f"ratio.{g}"] * UNITS) for g in range(GROUPS)]])
        chosen = {knob.name: params[knob.name] for knob in self.knobs}
        damage = float((self.truth * (cuts[0] / UNITS) ** 2).sum())
        if "lr" in chosen:
            off = min(abs(np.log10(chosen["lr"] / self.best_lr)), 1.5)
            damage *= 0.25 * 10**off if chosen["recovery"] == "good" else 2.5
        ranks = [chosen[k.name] for k in RANKS] if RANKS[0] in self.knobs else [1.0] * GROUPS
        damage += float((self.rank_damage * (1 - np.array(ranks)) ** 2).sum())
        noise = np.random.default_rng([self.seed, number]).standard_normal()
        macs = self.costs(cuts, [chosen] if RANKS[0] in self.knobs else None)["macs_ratio"][0]
        values = {"accuracy": 0.9 / (1 + (damage / 1.6) ** 1.2) + 0.005 * noise, "macs_ratio": float(macs)}
        return TrialResult(
            number=number, state="complete", origin=origin, ratios={}, scorers={}, strategy="s", knobs=chosen, seed=0,
            achieved={str(g): cuts[0, g] / UNITS for g in range(GROUPS)}, started=NOW, finished=NOW,
            metrics={name: Measured(value=value) for name, value in values.items()},
        )  # fmt: skip

    def search(self, sampler, trials: int = TRIALS) -> list[TrialResult]:
        """A study in memory, all groups measured beforehand."""
        cuts = (16, 32, 43)
        divergence = [tuple(float(own * (cut / UNITS) ** 2) for cut in cuts) for own in self.tolerance]
        ranges = tuple(Range(f"ratio.{g}", 0.0, 0.9) for g in range(GROUPS))
        results: list[TrialResult] = []
        cache: dict = {}
        study = optuna.create_study(directions=list(OBJECTIVES.values()))
        dense = {r.name: 0.0 for r in ranges} | {k.name: k.default for k in self.knobs}
        study.enqueue_trial(dense)
        for number in range(trials):
            ctx = SamplerContext(
                seed=1000 * self.seed + number,
                cache=cache,
                objectives=OBJECTIVES,
                constraints={},
                metrics={
                    "accuracy": Metric("accuracy", "", "maximize", Cost.FORWARD),
                    "macs_ratio": Metric("macs_ratio", "", "minimize", Cost.EXACT),
                },
                groups=tuple(
                    SearchedGroup(
                        name=str(g), units=UNITS, step=1, fewest=0, most=43, parameter=r.name, low=r.low, high=r.high
                    )
                    for g, r in enumerate(ranges)
                ),
                knobs=self.knobs,
                priced=frozenset(knob.name for knob in self.knobs if knob in RANKS),
                meetings=tuple((g, g + 1) for g in range(GROUPS - 1)),
                costs=self.costs,
                sensitivity=lambda: {
                    str(g): Sensitivity(cuts, d, tuple(1 / (1 + each) for each in d)) for g, d in enumerate(divergence)
                },
                history=lambda: results,
                pending=dict,
            )
            study.sampler = sampler.build(ctx)
            trial = study.ask()
            params = {knob.name: suggested(trial, knob) for knob in (*ranges, *self.knobs)}
            results.append(self.result(number, params, "sampler" if number else "dense"))
            study.tell(trial, [results[-1].metrics[name].value for name in OBJECTIVES])
        return results


def suggested(trial, knob):
    if isinstance(knob, Choice):
        return trial.suggest_categorical(knob.name, knob.options)
    return trial.suggest_float(knob.name, knob.low, knob.high, log=knob.log)


def volume(results) -> float:
    points = np.array([[-r.metrics["accuracy"].value, r.metrics["macs_ratio"].value] for r in results])
    return hypervolume(points, np.array([0.0, 1.1])) / (0.9 * 1.1)


@pytest.fixture(scope="module", autouse=True)
def _quiet():
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    yield
    optuna.logging.set_verbosity(level)


@pytest.fixture(scope="module")
def alone():
    """What ratios alone reach, per seed."""
    return [volume(Toy(seed, ()).search(OURS)) for seed in range(SEEDS)]


@pytest.mark.slow
def test_it_finds_the_learning_rate_and_the_option_that_only_together_are_good():
    ours, chance = ([Toy(seed, (LR, RECOVERY)).search(each) for seed in range(SEEDS)] for each in (OURS, CHANCE))
    late = [[Toy(s, (LR, RECOVERY)).good(r.knobs) for r in study[-10:]] for s, study in enumerate(ours)]
    by_chance = [[Toy(s, (LR, RECOVERY)).good(r.knobs) for r in study[-10:]] for s, study in enumerate(chance)]
    assert np.mean(by_chance) < 0.2
    assert np.mean(late) > 0.5  # one in four explores
    assert np.mean([volume(study) for study in ours]) > 1.2 * np.mean([volume(study) for study in chance])


@pytest.mark.slow
def test_ranks_that_save_more_than_they_harm_make_the_front_better(alone):
    with_ranks = [volume(Toy(seed, RANKS).search(OURS)) for seed in range(SEEDS)]
    assert np.mean(with_ranks) > 1.02 * np.mean(alone)


@pytest.mark.slow
def test_ranks_that_only_harm_leave_the_front_as_it_is_with_ratios_alone(alone):
    with_ranks = [volume(Toy(seed, RANKS, rank_matters=30.0).search(OURS)) for seed in range(SEEDS)]
    assert np.mean(with_ranks) > 0.985 * np.mean(alone)


@pytest.mark.parametrize(("rank_matters", "fewest", "most"), [(1.0, 3, 12), (30.0, 11, 15)])
def test_a_search_with_ranks_tries_ratios_alone_as_well(rank_matters, fewest, most):
    tried = Toy(0, RANKS, rank_matters=rank_matters).search(OURS, trials=16)[1:]
    whole = [all(share == 1.0 for share in result.knobs.values()) for result in tried]
    assert whole[0]
    assert fewest <= sum(whole) <= most


@pytest.mark.slow
def test_knobs_are_searched_where_no_group_may_lose_anything():
    """Ratios are given, there is nothing to probe, and knobs are learned all the same."""
    found, given = [], {f"ratio.{g}": 0.5 for g in range(GROUPS)}
    for seed in range(SEEDS):
        toy = Toy(seed, (LR, RECOVERY))
        usual = {knob.name: knob.default for knob in toy.knobs}
        results = [toy.result(0, {f"ratio.{g}": 0.0 for g in range(GROUPS)} | usual, "dense")]
        cache: dict = {}
        for number in range(1, 24):
            ctx = SamplerContext(
                seed=number,
                cache=cache,
                objectives={"accuracy": "maximize"},
                constraints={},
                metrics={"accuracy": Metric("accuracy", "", "maximize", Cost.FORWARD)},
                groups=tuple(
                    SearchedGroup(
                        name=str(g), units=UNITS, step=1, fewest=24, most=24, parameter=None, low=0.5, high=0.5
                    )
                    for g in range(GROUPS)
                ),
                knobs=toy.knobs,
                priced=frozenset(),
                meetings=(),
                costs=toy.costs,
                sensitivity=dict,
                history=lambda results=results: results,
                pending=dict,
            )
            chosen = OURS.build(ctx).sample_relative(None, optuna.trial.create_trial(value=0.0), {})
            assert set(chosen) == {"lr", "recovery"}
            results.append(toy.result(number, given | chosen, "sampler"))
        found.append(max(r.metrics["accuracy"].value for r in results[1:]))
        best = toy.result(99, given | {"lr": toy.best_lr, "recovery": "good"}, "sampler")
        found[-1] /= best.metrics["accuracy"].value
    assert min(found) > 0.9


def test_the_space_has_each_knob_in_its_own_kind():
    knobs = (LR, Range("epochs", 1, 8, whole=True), Range("samples", 16, 512, log=True, whole=True), RECOVERY, RANKS[0])
    ctx = SamplerContext(
        seed=0, objectives={}, constraints={}, metrics={}, groups=(), knobs=knobs, priced=frozenset(), meetings=(),
        costs=lambda *_: {}, sensitivity=dict, history=list, pending=dict,
    )  # fmt: skip
    assert OURS.build(ctx).infer_relative_search_space(None, None) == {
        "lr": optuna.distributions.FloatDistribution(1e-5, 1.0, log=True),
        "epochs": optuna.distributions.IntDistribution(1, 8),
        "samples": optuna.distributions.IntDistribution(16, 512, log=True),
        "recovery": optuna.distributions.CategoricalDistribution(("none", "good", "bad")),
        "rank.0": optuna.distributions.FloatDistribution(0.1, 1.0),
    }
