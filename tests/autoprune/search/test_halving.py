"""Recovery budgets that grow for the promising."""

from __future__ import annotations

import itertools
import shutil
from datetime import UTC, datetime

import numpy as np
import optuna
import pytest

from autoprune.errors import SpecError
from autoprune.plugin import Measured, TrialResult
from autoprune.search import resume, search
from autoprune.search.front import ranked
from autoprune.search.halving import FACTOR, Promotion, efforts, promotion

OBJECTIVES = {"quality": "maximize", "cost": "minimize"}
PATIENT = ("use: toy-strategy", "use: toy-strategy, patient: true, noise: 0.02")


def trial(number, quality, cost, *, effort=1 / 3, state="complete", origin="sampler", violation=0.0):
    now = datetime.now(UTC)
    return TrialResult(
        number=number, state=state, origin=origin, ratios={}, achieved={}, scorer="", strategy="", seed=0,
        effort=effort, metrics={"quality": Measured(value=quality), "cost": Measured(value=cost)},
        violations={"cost": violation}, started=now, finished=now,
    )  # fmt: skip


def test_every_rung_has_three_times_the_effort_and_the_last_one_all():
    assert efforts(1) == (1.0,)
    assert efforts(3) == pytest.approx((1 / 9, 1 / 3, 1))
    assert efforts(4)[-1] == 1


def test_ranks_are_those_of_optunas_own_sorting_and_the_ends_of_a_front_come_first():
    rng = np.random.default_rng(0)
    results = [trial(n, *rng.integers(0, 6, 2).astype(float)) for n in range(40)]
    unique = list({(r.metrics["quality"].value, r.metrics["cost"].value): r for r in results}.values())
    order = ranked(unique, OBJECTIVES)
    assert sorted(r.number for r in order) == sorted(r.number for r in unique)
    study = optuna.create_study(directions=["maximize", "minimize"])
    left = list(order)
    while left:
        study = optuna.create_study(directions=["maximize", "minimize"])
        study.add_trials([optuna.create_trial(values=[r.metrics[n].value for n in OBJECTIVES]) for r in left])
        best = {left[t.number].number for t in study.best_trials}
        assert {r.number for r in left[: len(best)]} == best
        front, left = left[: len(best)], left[len(best) :]
        qualities = [r.metrics["quality"].value for r in front]
        assert {max(qualities), min(qualities)} == set(qualities[:2])


def test_the_best_third_of_a_rung_is_promoted_once_each():
    results = [trial(n, quality, 1.0) for n, quality in enumerate((0.3, 0.9, 0.5, 0.7, 0.1, 0.2))]
    chosen, promoted = [], set()
    while earned := promotion(results, OBJECTIVES, rungs=2, promoted=promoted):
        chosen.append(earned)
        promoted.add(earned.trial)
    assert chosen == [Promotion(trial=1, effort=1.0), Promotion(trial=3, effort=1.0)]


def test_nothing_is_promoted_before_a_rung_holds_three():
    results = [trial(0, 1.0, 1.0, origin="dense", effort=1.0), trial(1, 0.9, 0.5), trial(2, 0.8, 0.4)]
    assert promotion(results, OBJECTIVES, rungs=2, promoted=()) is None


def test_what_was_rejected_or_breaks_a_bound_fills_its_rung_but_stays_there():
    results = [trial(0, 0.9, 1.0, state="rejected"), trial(1, 0.8, 1.0, violation=1.0), trial(2, 0.1, 1.0)]
    assert promotion(results, OBJECTIVES, rungs=2, promoted=()) == Promotion(trial=2, effort=1.0)
    assert promotion(results[:2] * 2, OBJECTIVES, rungs=2, promoted=()) is None


def test_the_higher_rung_comes_first():
    lower = [trial(n, n / 10, 1.0, effort=1 / 9) for n in range(9)]
    upper = [trial(10 + n, n / 10, 1.0, effort=1 / 3) for n in range(3)]
    earned = promotion(lower + upper, OBJECTIVES, rungs=3, promoted={8, 7})
    assert earned == Promotion(trial=12, effort=1.0)
    assert promotion(lower + upper, OBJECTIVES, rungs=3, promoted={8, 7, 12}) == Promotion(trial=6, effort=1 / 3)


def test_a_search_gives_more_to_those_that_had_earned_it_then(spec, host):
    result = search(spec("search.rungs=3", "search.trials=40", swap=PATIENT), host=host)
    trials = result.outcome.trials
    levels = efforts(3)
    assert [t.number for t in trials if t.effort not in levels] == []
    assert all(t.effort == levels[0] for t in trials if t.origin in ("ladder", "sampler"))
    promoted = [t for t in trials if t.origin == "promoted"]
    assert {t.effort for t in promoted} == set(levels[1:])
    for again in promoted:
        source = trials[again.promoted_from]
        assert (again.achieved, again.scorer) == (source.achieved, source.scorer)
        assert again.effort == levels[levels.index(source.effort) + 1]
        rung = [t for t in trials[: again.number] if t.effort == source.effort and t.origin != "dense"]
        best = ranked([t for t in rung if t.feasible], result.front.objectives)[: len(rung) // FACTOR]
        assert source.number in {t.number for t in best}
    assert len({t.promoted_from for t in promoted}) == len(promoted)
    # The noise of this toy's recovery is gone at full effort: those that had it are nearer to the dense model.
    gains = [trials[t.promoted_from].metrics["distance"].value - t.metrics["distance"].value for t in promoted]
    assert np.median(gains) > 0


def test_a_study_cut_anywhere_goes_on_with_the_same_promotions(spec, host, tmp_path):
    whole = search(spec("search.rungs=2", "search.trials=12", swap=PATIENT), host=host)
    assert sum(t.origin == "promoted" for t in whole.outcome.trials) >= 2
    told = [(t.number, t.origin, t.effort, t.promoted_from, t.achieved) for t in whole.outcome.trials]
    journal = (tmp_path / "study" / "journal.log").read_text().splitlines(keepends=True)
    named = [place for place, line in enumerate(journal) if "promoted" in line]
    for end in sorted({*itertools.chain.from_iterable((at, at + 1) for at in named)}):
        copy = tmp_path / f"cut-{end}"
        shutil.copytree(tmp_path / "study", copy)
        (copy / "journal.log").write_text("".join(journal[:end]))
        again = resume(copy, host=host).outcome.trials
        assert [(t.number, t.origin, t.effort, t.promoted_from, t.achieved) for t in again] == told, f"cut at {end}"


def test_rungs_need_a_strategy_that_can_share_its_work_out(spec, host):
    with pytest.raises(SpecError, match=r"no strategy here spends a share of its recovery"):
        search(spec("search.rungs=2"), host=host)
