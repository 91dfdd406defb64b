"""Optuna's samplers as components, driven by the study that a search uses."""

from __future__ import annotations

import importlib.util
import os
import warnings
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import optuna
import pytest
from pydantic import ValidationError

from autoprune.host.plugins import PluginHost
from autoprune.plugin import Choice, Cost, Measured, Metric, Range, Sampler, SearchedGroup, TrialResult
from autoprune.spec import Spec
from autoprune.study.guide import Guide
from autoprune.study.jobs import Cut, Effect, Probed
from autoprune.study.storage import Study
from autoprune_samplers import _proposer, autoprune_components
from autoprune_samplers.bayesian import Gp, Tpe
from autoprune_samplers.genetic import Nsga2, Nsga3
from autoprune_samplers.sensitivity import SensitivitySampler
from autoprune_samplers.uniform import Random

KNOBS = (
    Choice("strategy", ("one-shot", "other")),
    Range("lr", 1e-4, 1e-1, log=True),
    Range("epochs", 1, 5, whole=True),
    Range("rank.3", 0.2, 1.0, usual=1.0),
)
USUAL = {knob.name: knob.default for knob in KNOBS}
GROUPS = tuple(
    SearchedGroup(name=str(i), units=50, step=1, fewest=0, most=40, parameter=f"ratio.{i}", low=0.0, high=0.8)
    for i in range(4)
)
WEIGHTS = np.array([0.05, 1.0, 1.0, 1.0])
SMALL = [
    Nsga2(population_size=4),
    Nsga2(population_size=4, crossover="sbx", mutation="polynomial", mutation_prob=0.5),
    Nsga2(population_size=4, crossover="spx"),
    Nsga2(population_size=4, crossover="undx"),
    Nsga2(population_size=4, crossover="blx-alpha"),
    Nsga2(population_size=4, crossover="vsbx"),
    Nsga3(population_size=4),
    Tpe(n_startup_trials=4),
    Tpe(n_startup_trials=4, multivariate=False),
    Gp(n_startup_trials=4),
    Random(),
    SensitivitySampler(),
    SensitivitySampler(allocation=False),
    SensitivitySampler(moves=False),
    SensitivitySampler(surrogate=False),
]


def named(sampler):
    return str(sampler.reference())


@pytest.fixture(autouse=True)
def _without_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _: None)


def make_spec(objectives: int, seed: int = 0) -> Spec:
    return Spec.model_validate({
        "name": "samplers", "model": {"use": "m"}, "data": {"use": "d"}, "evaluators": [{"use": "e"}],
        "objectives": {f"f{i}": "minimize" for i in range(objectives)}, "constraints": {"f0": "<= 0.7"},
        "search": {"seed": seed},
    })  # fmt: skip


def measure(proposal, objectives: int) -> TrialResult:
    """Losing units or rank costs f0 little in group 0 and much in the others; f1 is what is kept.

    The second strategy, a learning rate off 1e-2 and a single epoch make it worse.
    """
    ratios = np.array([proposal.params[f"ratio.{i}"] for i in range(4)])
    knobs = {name: proposal.params[name] for name in USUAL}
    weights = WEIGHTS * (1.0 if knobs["strategy"] == "one-shot" else 1.3) * (1 + 0.1 * abs(np.log10(knobs["lr"]) + 2))
    damage = float((weights * ratios**2).sum() + 0.2 * (1 - knobs["rank.3"]) + 0.02 / knobs["epochs"])
    kept = float(guide(2).costs(np.rint(50 * ratios[None]).astype(np.int64), [knobs])["f1"][0])
    values = [damage, kept, float(ratios[3]), float(ratios[0] ** 2)]
    achieved = {str(i): ratio for i, ratio in enumerate(ratios)}
    state = "rejected" if values[1] > 0.95 and proposal.origin == "sampler" else "complete"
    now = datetime.now(UTC)
    return TrialResult(
        number=proposal.number, state=state, origin=proposal.origin, ratios={}, achieved=achieved,
        scorers={}, strategy=knobs["strategy"], knobs=knobs,
        metrics={f"f{i}": Measured(value=v) for i, v in enumerate(values[:objectives])}, seed=0,
        violations={"f0": values[0] - 0.7} if state == "complete" else {}, started=now, finished=now,
    )  # fmt: skip


def guide(objectives: int) -> Guide:
    """A net of four layers, each of which reads the one before; the last may get a lower rank."""

    def costs(cut_units, choices):
        kept = 50.0 - cut_units
        kept[:, 3] *= [each["rank.3"] for each in choices] if choices else 1.0
        macs = 50 * kept[:, 0] + (kept[:, 1:] * kept[:, :-1]).sum(axis=1)
        return {"params": macs, "macs": macs, "bytes": 4 * macs, "nonzero": macs, "f1": kept.mean(axis=1) / 50}

    return Guide(
        parameters=(*(Range(f"ratio.{i}", 0.0, 0.8) for i in range(4)), *KNOBS),
        metrics={
            f"f{i}": Metric(f"f{i}", "", "minimize", Cost.EXACT if i == 1 else Cost.FORWARD) for i in range(objectives)
        },
        groups=GROUPS,
        scorers=("l1", "l2"),
        knobs=KNOBS,
        meetings=((0, 1), (1, 2), (2, 3)),
        costs=costs,
        priced=frozenset({"rank.3"}),
    )


def effect(cut: Cut) -> Effect:
    """Ranked by l2, a group suffers more."""
    damage = WEIGHTS[int(cut.group)] * (cut.units / 50) ** 2 * (1.0 if cut.scorer == "l1" else 1.3)
    return Effect(cut=cut, divergence=damage, agreement=1 / (1 + damage))


def explore(sampler, journal: Path, *, trials: int, objectives: int = 2, seed: int = 0, new: bool = True):
    study = Study(
        "s", spec=make_spec(objectives, seed), guide=guide(objectives), sampler=sampler, journal=journal, new=new
    )
    while sampler.probe_samples and (cuts := study.rankings.next(4)):
        study.record_probe(Probed(effects=tuple(effect(cut) for cut in cuts)))
    study.enqueue([("dense", {**{f"ratio.{i}": 0.0 for i in range(4)}, **USUAL})])
    made = study.unfinished()
    for proposal in made:
        study.tell(measure(proposal, objectives))
    while study.begun < trials:
        made.append(study.ask())
        study.tell(measure(made[-1], objectives))
    return made, study


def test_the_entry_point_brings_them():
    assert {cls.name for cls in autoprune_components()} == {"sensitivity", "nsga2", "nsga3", "tpe", "gp", "random"}
    known = PluginHost().components(Sampler)
    assert known["nsga2"] is Nsga2
    assert known["gp"] is Gp


@pytest.mark.slow
@pytest.mark.parametrize("sampler", SMALL, ids=named)
def test_a_study_killed_anywhere_goes_on_with_the_same_proposals(sampler, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        whole, _ = explore(sampler, tmp_path / "whole", trials=8)
    lines = (tmp_path / "whole").read_text().splitlines(keepends=True)
    # Within the sixth and the seventh trial: while it is asked for, and with a part of its parameters.
    begins = [i for i, line in enumerate(lines) if '"op_code":4' in line]
    ends = [begins[6] + 1, begins[6] + 4, begins[7] + 2]
    if isinstance(sampler, Gp):  # takes a half-asked trial for one that runs elsewhere, and keeps away from it
        ends = ends[:1]
    for end in ends:
        path = tmp_path / f"cut-{end}"
        path.write_text("".join(lines[:end]))
        again, _ = explore(sampler, path, trials=8, new=False)
        assert again == whole[-len(again) :]


@pytest.mark.slow
@pytest.mark.parametrize("sampler", SMALL, ids=named)
@pytest.mark.parametrize("objectives", [1, 2, 4])
def test_every_number_of_objectives_works_or_is_refused(sampler, objectives, tmp_path, capfd):
    if isinstance(sampler, Nsga3) and objectives == 1:
        assert "there is one; use nsga2, tpe or gp" in sampler.refuses({"f0": "minimize"})
        return
    assert sampler.refuses({f"f{i}": "minimize" for i in range(objectives)}) is None
    trials = 6 if isinstance(sampler, Gp) else 11
    made, _ = explore(sampler, tmp_path / "journal", trials=trials, objectives=objectives)
    assert len(made) == trials
    assert all(0 <= p.params[f"ratio.{i}"] <= 0.8 for p in made for i in range(4))
    assert all(1e-4 <= p.params["lr"] <= 1e-1 for p in made)
    assert {p.params["epochs"] for p in made} <= {1.0, 2.0, 3.0, 4.0, 5.0}
    if not isinstance(sampler, Gp):  # sure of an optimum at a bound, it proposes that again
        assert len({str(p.params) for p in made}) == trials
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
@pytest.mark.parametrize("sampler", [Nsga2(), Nsga3(), Tpe(), Gp(), Random(), SensitivitySampler()], ids=named)
def test_the_seed_decides(sampler, tmp_path):
    runs = [explore(sampler, tmp_path / f"{i}", trials=4, seed=seed)[0] for i, seed in enumerate([1, 1, 2])]
    assert runs[0] == runs[1]
    assert runs[0][1:] != runs[2][1:]


@pytest.mark.slow
@pytest.mark.parametrize(
    "sampler", [Nsga2(population_size=10), Nsga3(population_size=10), Tpe(), SensitivitySampler()], ids=named
)
def test_it_learns(sampler, tmp_path):
    """With one seed: the best trials of the sampler's second half are better than chance's best."""
    trials = 60

    def best(sampler, name, first):
        _, study = explore(sampler, tmp_path / name, trials=trials)
        sums = sorted(r.metrics["f0"].value + r.metrics["f1"].value for r in study.results[first:] if r.feasible)
        return sum(sums[:5]) / 5

    assert best(sampler, "own", trials // 2) < best(Random(), "chance", 0)


def test_what_failed_is_not_proposed_again(tmp_path, monkeypatch):
    """Nothing is learned from a failure, so of the allocations alone the same one would look best for ever."""
    monkeypatch.setattr(_proposer, "scattered", lambda groups, count, rng: np.zeros((0, len(groups)), dtype=np.int64))
    _, study = explore(SensitivitySampler(moves=False), tmp_path / "journal", trials=3)
    tried = []
    for _ in range(6):
        proposal = study.ask()
        cuts = (round(50 * proposal.params[f"ratio.{i}"]) for i in range(4))
        tried.append((*cuts, *(proposal.params[name] for name in USUAL)))
        result = measure(proposal, 2)
        study.tell(result.model_copy(update={"state": "failed", "metrics": {}, "violations": {}, "reason": "made up"}))
    assert len(set(tried)) == len(tried)


def test_trials_that_run_count_as_tried_with_their_knobs(tmp_path):
    """Four at a time explore four regions of the knobs, and a study that is opened again has the same four."""
    _, study = explore(SensitivitySampler(), tmp_path / "journal", trials=2)
    running = [study.ask() for _ in range(4)]
    explored = {tuple(proposal.params[name] for name in ("strategy", "lr", "epochs")) for proposal in running}
    assert len(explored) == 4
    study.close()
    again = Study(
        "s", spec=make_spec(2), guide=guide(2), sampler=SensitivitySampler(), journal=tmp_path / "journal", new=False
    )
    assert again.unfinished() == running
    again.close()


def test_options_reach_optuna(tmp_path):
    _, study = explore(Random(), tmp_path / "journal", trials=1)
    context = study._context
    nsga2 = Nsga2(
        population_size=7, crossover="blx-alpha", crossover_prob=0.3, mutation="polynomial", mutation_prob=0.2
    ).build(context)
    assert isinstance(nsga2, optuna.samplers.NSGAIISampler)
    assert nsga2.population_size == 7
    child = nsga2._child_generation_strategy
    assert type(child._crossover).__name__ == "BLXAlphaCrossover"
    assert (child._crossover_prob, child._mutation_prob, type(child._mutation).__name__) == (
        0.3,
        0.2,
        "PolynomialMutation",
    )
    uniform = Nsga2(swapping_prob=0.1).build(context)
    assert uniform._child_generation_strategy._crossover._swapping_prob == 0.1
    assert uniform.population_size == 20
    nsga3 = Nsga3(divisions=5, population_size=9).build(context)
    assert isinstance(nsga3, optuna.samplers.NSGAIIISampler)
    assert nsga3.population_size == 9
    assert nsga3._elite_population_selection_strategy._dividing_parameter == 5
    tpe = Tpe(n_startup_trials=3, n_ei_candidates=5, multivariate=False).build(context)
    assert (tpe._n_startup_trials, tpe._n_ei_candidates, tpe._multivariate) == (3, 5, False)
    assert Tpe().build(context)._multivariate is True
    assert Gp(n_startup_trials=2).build(context)._n_startup_trials == 2


@pytest.mark.parametrize(
    "options",
    [{"population_size": 1}, {"crossover": "two-point"}, {"mutation_prob": 1.5}, {"constraints_func": None}],
    ids=str,
)
def test_wrong_options_are_refused(options):
    with pytest.raises(ValidationError):
        Nsga2(**options)


def test_gp_without_scipy_says_what_to_install(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "scipy" else find(name, *a))
    assert Gp().refuses({"f0": "minimize"}) == "gp needs SciPy: pip install 'autoprune[gp]'"


@pytest.mark.slow
def test_importing_them_imports_no_optuna():
    import subprocess
    import sys

    code = "import autoprune_samplers, sys; sys.exit(any(m in sys.modules for m in ('optuna', 'torch', 'scipy')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
