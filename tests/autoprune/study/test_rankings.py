"""Which scorer ranks a group, and which probe comes next."""

from __future__ import annotations

import itertools
import math

import pytest

from autoprune.plugin import SearchedGroup
from autoprune.study import search
from autoprune.study.jobs import Cut, Effect
from autoprune.study.rankings import Rankings, cuts


def group(name: str, *, units: int = 30, fewest: int = 0, most: int = 27, step: int = 1) -> SearchedGroup:
    searched = fewest < most
    return SearchedGroup(
        name=name, units=units, step=step, fewest=fewest, most=most, low=0.0, high=0.9,
        parameter=f"ratio.{name}" if searched else None,
    )  # fmt: skip


def learned(rankings: Rankings, harm, count: int = 1000) -> list[Cut]:
    """Probe so many times; divergences by cut, None where the scorer cannot rank the group."""
    made = []
    while len(made) < count and (cut := next(iter(rankings.next(1)), None)) is not None:
        value = harm(cut)
        rankings.learn([Effect(cut=cut, reason="cannot") if value is None else Effect(cut=cut, divergence=value)])
        made.append(cut)
    return made


def test_probes_come_coarse_to_fine_and_the_last_by_the_best_scorer_alone():
    rankings = Rankings([group("a"), group("b", units=6, most=5)], ("x", "y"), sensitivity=True)
    assert rankings.total == 10
    made = learned(rankings, lambda cut: cut.units * (2.0 if (cut.scorer == "x") == (cut.group == "a") else 1.0))
    middle = [("x", "a", 18), ("x", "b", 3), ("y", "a", 18), ("y", "b", 3)]
    most = [("x", "a", 27), ("x", "b", 5), ("y", "a", 27), ("y", "b", 5)]
    assert [(c.scorer, c.group, c.units) for c in made] == [*middle, *most, ("y", "a", 9), ("x", "b", 2)]
    assert rankings.done == rankings.total
    assert rankings.next(3) == []
    assert rankings.scorers == {"a": "y", "b": "x"}
    assert rankings.sensitivity["a"].cut_units == (9, 18, 27)
    assert rankings.sensitivity["b"].divergence == (2.0, 3.0, 5.0)


@pytest.mark.parametrize(
    ("x", "y", "best"), [((0.1, 1.0), (0.2, 2.0), "x"), ((0.1, 1.0), (0.01, 2.0), "y"), ((0.0, 1.0), (1e-5, 0.5), "y")]
)
def test_least_harm_is_by_the_mean_logarithm(x, y, best):
    rankings = Rankings([group("a")], ("x", "y"), sensitivity=True)
    learned(rankings, lambda cut: {"x": x, "y": y}[cut.scorer][cut.units == 27] if cut.units > 9 else 0.0)
    assert rankings.scorers == {"a": best}


def test_only_cuts_that_all_scorers_made_are_compared():
    """However the probes come, the choice is by the mean logarithm over what each scorer has."""
    harm = {("x", 18): 1.0, ("y", 18): 2.0, ("x", 27): 9.0, ("y", 27): 3.0}
    for order in itertools.permutations(harm):
        rankings = Rankings([group("a")], ("x", "y"), sensitivity=False)
        known = {}
        for scorer, units in order:
            if units == 27 and (scorer, 18) not in known:
                break  # never asked for in this order
            known[scorer, units] = harm[scorer, units]
            rankings.learn([Effect(cut=Cut(scorer=scorer, group="a", units=units), divergence=known[scorer, units])])
            both = [u for u in (18, 27) if ("x", u) in known and ("y", u) in known]
            means = {s: sum(math.log(harm[s, u]) for u in both) for s in ("x", "y") if (s, 18) in known}
            assert rankings.scorers["a"] == min(means, key=means.get)


def test_a_scorer_that_cannot_rank_a_group_takes_no_part():
    rankings = Rankings([group("a"), group("b")], ("x", "y"), sensitivity=True)
    assert rankings.scorers == {"a": "x", "b": "x"}, "the first one, as long as nothing is known"
    learned(rankings, lambda cut: None if (cut.scorer, cut.group) == ("x", "a") else 1.0, count=1)
    assert rankings.scorers == {"a": "y", "b": "x"}
    learned(rankings, lambda cut: None if (cut.scorer, cut.group) == ("x", "a") else 1.0)
    assert rankings.scorers == {"a": "y", "b": "x"}
    assert rankings.sensitivity["a"].cut_units == (9, 18, 27)
    assert rankings.done == rankings.total


def test_what_is_begun_is_not_asked_for_again():
    rankings = Rankings([group("a"), group("b")], ("x",), sensitivity=True)
    begun = rankings.next(3)
    assert len(set(begun)) == 3
    assert not set(rankings.next(9, begun)) & set(begun)


def test_scorers_are_compared_without_a_sampler_that_wants_sensitivity_and_a_single_one_is_not():
    assert Rankings([group("a")], ("x", "y"), sensitivity=False).total == 4
    assert Rankings([group("a")], ("x",), sensitivity=False).total == 0
    fixed = group("a", fewest=20, most=20)
    assert Rankings([fixed], ("x", "y"), sensitivity=True).total == 4
    assert Rankings([fixed], ("x",), sensitivity=True).total == 0


def test_cuts_are_whole_steps_and_each_is_made_once():
    assert cuts(group("a")) == [18, 27, 9]
    assert cuts(group("a", units=32, most=28, step=4)) == [20, 28, 8]
    assert cuts(group("a", units=3, most=2)) == [1, 2]


@pytest.mark.slow
def test_a_search_ranks_each_group_by_the_scorer_that_does_less_harm(spec, host):
    """Of two real scorers: by hand, which one's cuts of each group alone change the toy's predictions less."""
    overrides = (
        "search.sampler={use: toy-profiled}",
        "search.trials=6",
        "search.ladder=0",
        "scorer=[{use: toy-scorer}, {use: toy-scorer, power: -1}]",
    )
    result = search(spec(*overrides), host=host)
    last = max(result.outcome.trials, key=lambda trial: trial.number)
    assert set(last.scorers.values()) == {"toy-scorer(power=1)"}, "those of the least norms do less harm"
