"""The parts of the sensitivity sampler, each against brute force or a formula."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoprune.plugin import SearchedGroup, Sensitivity
from autoprune.plugin.volume import hypervolume
from autoprune_samplers import _allocation
from autoprune_samplers._allocation import allocate, factors
from autoprune_samplers._damage import Profile
from autoprune_samplers._improvement import directions, expected_improvement
from autoprune_samplers._latency import aligned, padded_macs
from autoprune_samplers._pool import allocations, levels, moves, scattered
from autoprune_samplers._process import Traits
from autoprune_samplers._surrogate import Link, Plain, Quality, fit_link


def group(name: str, units: int, *, step: int = 1, fewest: int = 0, most: int | None = None) -> SearchedGroup:
    top = units - 1 if most is None else most
    return SearchedGroup(
        name=name, units=units, step=step, fewest=fewest, most=top, parameter=f"ratio.{name}", low=0.0, high=top / units
    )


def of_shares(shares) -> Traits:
    return Traits(shares=shares, knobs=np.zeros((len(shares), 0)))


class Net:
    """Random products of what up to three of five groups keep, and random damage."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.levels = [np.arange(rng.integers(2, 5)) * int(rng.integers(1, 4)) for _ in range(5)]
        self.sizes = [int(own[-1]) + 3 for own in self.levels]
        self.terms = [(rng.random(), rng.choice(5, rng.integers(1, 4), replace=False).tolist()) for _ in range(6)]
        self.damage = [np.concatenate([[0.0], np.cumsum(rng.random(len(own) - 1) * 20)]) for own in self.levels]
        self.every = np.array(list(itertools.product(*(range(len(own)) for own in self.levels))))

    def cost(self, cut_units):
        return sum(f * np.prod([self.sizes[g] - cut_units[:, g] for g in groups], axis=0) for f, groups in self.terms)

    def cuts(self, rows):
        return np.stack([own[rows[:, g]] for g, own in enumerate(self.levels)], axis=1)

    def price(self, rows, multiplier):
        return sum(self.damage[g][rows[:, g]] for g in range(5)) + multiplier * self.cost(self.cuts(rows))


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6))
def test_factors_add_up_to_the_cost(seed):
    net = Net(seed)
    tables = factors(net.cost, net.levels, [groups for _, groups in net.terms])
    start = net.cost(net.cuts(net.every[:1]))
    total = start + sum(table[tuple(net.every[:, g] for g in groups)] for groups, table in tables.items())
    np.testing.assert_allclose(total, net.cost(net.cuts(net.every)), rtol=1e-9)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6))
def test_the_allocation_is_the_best_of_all_combinations(seed):
    net = Net(seed)
    tables = factors(net.cost, net.levels, [groups for _, groups in net.terms])
    multipliers = np.geomspace(0.01, 100, 25)
    found = allocate(net.damage, tables, multipliers)
    for row, multiplier in zip(found, multipliers, strict=True):
        best = net.price(net.every, multiplier).min()
        assert net.price(row[None], multiplier)[0] == pytest.approx(best, rel=1e-9)


@pytest.mark.slow
def test_where_tables_would_get_too_large_it_descends(monkeypatch):
    exact, found = [], []
    for seed in range(20):
        net = Net(seed)
        tables = factors(net.cost, net.levels, [groups for _, groups in net.terms])
        with monkeypatch.context() as patch:
            patch.setattr(_allocation, "_LARGEST", 1)
            rows = allocate(net.damage, tables, np.geomspace(0.01, 100, 25))
        for row, multiplier in zip(rows, np.geomspace(0.01, 100, 25), strict=True):
            found.append(net.price(row[None], multiplier)[0])
            exact.append(net.price(net.every, multiplier).min())
            for g, own in enumerate(net.levels):  # no change of one group is better
                others = np.tile(row, (len(own), 1))
                others[:, g] = np.arange(len(own))
                assert net.price(others, multiplier).min() >= found[-1] - 1e-9
    assert np.mean(np.isclose(found, exact)) > 0.9


def test_a_chain_of_many_groups_is_exact_in_no_time():
    rng = np.random.default_rng(0)
    count = 200
    own = [np.arange(0, 60, 6) for _ in range(count)]

    def cost(cut_units):
        kept = 64.0 - cut_units
        return (kept[:, 1:] * kept[:, :-1]).sum(axis=1)

    damage = [np.linspace(0, 3, 10) ** 2 * rng.random() for _ in range(count)]
    tables = factors(cost, own, [(g, g + 1) for g in range(count - 1)])
    rows = allocate(damage, tables, np.array([1e-3]))
    cuts = rows * 6

    def price(chosen):
        return sum(d[level] for d, level in zip(damage, chosen // 6, strict=True)) + 1e-3 * cost(chosen[None])[0]

    best = price(cuts[0])
    for _ in range(300):
        other = cuts[0].copy()
        touched = rng.choice(count, size=2, replace=False)
        other[touched] = rng.integers(0, 10, size=2) * 6
        assert price(other) >= best - 1e-9


def test_damage_passes_through_the_probes_and_starts_as_a_square():
    groups = [group("a", 10), group("b", 20), group("unmeasured", 10)]
    measured = {
        "a": Sensitivity(cut_units=(3, 6, 9), divergence=(0.09, 0.36, 0.5), agreement=(0.9, 0.8, 0.6)),
        "b": Sensitivity(cut_units=(10, 19), divergence=(0.4, 0.2), agreement=(0.7, 0.8)),
    }
    profile = Profile(groups, measured)
    rows = np.array([[0, 0, 0], [3, 10, 5], [6, 19, 9], [1, 5, 1]])
    damage = profile.per_group(rows)
    np.testing.assert_allclose(damage[:, 0], [0, 0.09, 0.36, 0.01])
    # More units cannot do less: what noise said otherwise is flattened.
    np.testing.assert_allclose(damage[:, 1], [0, 0.4, 0.4, 0.1])
    assert (damage[1:, 2] > 0).all()


def test_the_link_is_found_again():
    link = Link(scale=2.0, power=0.7)
    damage = np.geomspace(0.01, 30, 20)
    fitted = fit_link(damage, link.share(np.log(damage)))
    assert fitted.scale == pytest.approx(2.0, rel=0.05)
    assert fitted.power == pytest.approx(0.7, rel=0.05)
    np.testing.assert_allclose(link.log_damage(link.share(np.log(damage[3:15]))), np.log(damage[3:15]))


def test_a_quality_is_predicted_better_with_every_trial():
    """The truth: two of six groups matter three times as much as their profile says."""
    rng = np.random.default_rng(1)
    link, weights = Link(1.0, 1.0), np.array([3.0, 3.0, 1.0, 1.0, 1.0, 1.0])

    def measure(shares):
        return 0.9 * link.share(np.log((weights * shares**2).sum(axis=1) + 1e-6))

    unseen = rng.random((200, 6)) * 0.8
    errors = []
    for count in (1, 10, 60):
        seen = rng.random((count, 6)) * 0.8
        fitted = Quality(
            link,
            traits=of_shares(seen),
            log_damage=np.log((seen**2).sum(axis=1)),
            values=measure(seen),
            dense=0.9,
        )
        drawn = fitted.draws(of_shares(unseen), np.log((unseen**2).sum(axis=1)), np.array([-1.0, 0.0, 1.0]))
        assert (np.diff(drawn, axis=0) >= 0).all()  # from poor to good
        errors.append(float(np.abs(drawn[1] - measure(unseen)).mean()))
    assert errors[2] < errors[1] < errors[0]
    assert errors[2] < 0.02


def test_a_loss_grows_with_damage():
    rng = np.random.default_rng(0)
    seen = rng.random((30, 3))
    loss = 0.3 + 2 * (seen**2).sum(axis=1)
    log_damage = np.log((seen**2).sum(axis=1))
    fitted = Quality(Link(1.0, 1.0), traits=of_shares(seen), log_damage=log_damage, values=loss, dense=0.3)
    drawn = fitted.draws(of_shares(seen), log_damage, np.array([-1.0, 0.0, 1.0]))
    assert np.abs(drawn[1] - loss).mean() < 0.1
    assert (np.diff(drawn, axis=0) <= 0).all()


def test_what_hangs_on_luck_is_less_certain_than_what_never_changes():
    """Trials that guess all measure the same; others vary by more than their cuts explain."""
    rng = np.random.default_rng(0)
    shares = np.concatenate([rng.random((40, 3)) * 0.5, 0.9 + 0.1 * rng.random((40, 3))])
    log_damage = np.log(20 * (shares**2).sum(axis=1))
    guesses = shares[:, 0] > 0.7
    values = np.where(guesses, 0.1, 0.9 / (1 + np.exp(log_damage)) + 0.02 * rng.standard_normal(80))
    fitted = Quality(Link(1.0, 1.0), traits=of_shares(shares), log_damage=log_damage, values=values, dense=0.9)
    drawn = fitted.draws(of_shares(shares), log_damage, np.array([-1.0, 1.0]))
    deviation = (drawn[1] - drawn[0]) / np.minimum(drawn[1], 0.9 - drawn[0])
    assert np.median(deviation[guesses]) < np.median(deviation[~guesses]) / 2


def test_candidates_may_be_better_than_the_dense_model():
    """Recovery makes the small ones better than the dense model here."""
    rng = np.random.default_rng(0)
    shares = rng.random((40, 3))
    log_damage = np.log((shares**2).sum(axis=1))
    values = 0.8 * Link(3.0, 2.0).share(log_damage)
    for seen, dense in ((values, 0.7), (1 / values, 1 / 0.7)):
        fitted = Quality(Link(3.0, 2.0), traits=of_shares(shares), log_damage=log_damage, values=seen, dense=dense)
        drawn = fitted.draws(of_shares(shares), log_damage, np.zeros(1))[0]
        better = values > 0.72
        assert better.sum() > 5
        assert np.corrcoef(drawn[better], seen[better])[0, 1] > 0.9


def test_a_latency_follows_the_arithmetic():
    rng = np.random.default_rng(0)
    seen = rng.random((20, 4))
    ratio = 1 - seen.mean(axis=1)
    fitted = Plain(traits=of_shares(seen), arithmetic=ratio[:, None], values=5 + 10 * ratio, dense=15.0)
    unseen = rng.random((50, 4))
    drawn = fitted.draws(of_shares(unseen), 1 - unseen.mean(axis=1, keepdims=True), np.zeros(1))[0]
    np.testing.assert_allclose(drawn, 5 + 10 * (1 - unseen.mean(axis=1)), rtol=0.05)


def test_latency_counts_whole_blocks_of_channels():
    groups = [group("a", 64), group("heads", 4)]

    def costs(cut_units, choices):
        ranks = np.array([each["rank"] for each in choices]) if choices else 1.0
        return {"macs": ranks * (64.0 - cut_units[:, 0]) * (4 - cut_units[:, 1])}

    rows = np.array([[0, 0], [1, 0], [15, 0], [16, 0], [20, 0], [24, 1], [63, 0]])
    np.testing.assert_allclose(
        padded_macs(costs, groups, rows),
        [
            [1.0, 1.0, 1.0],
            [63 / 64, 1.0, 1.0],
            [49 / 64, 56 / 64, 1.0],
            [48 / 64, 48 / 64, 48 / 64],
            [44 / 64, 48 / 64, 48 / 64],
            [30 / 64, 30 / 64, 36 / 64],
            [1 / 64, 8 / 64, 16 / 64],
        ],
    )
    half = [{"rank": 0.5}] * len(rows)  # of the whole model's, of the usual rank
    np.testing.assert_allclose(padded_macs(costs, groups, rows, half), padded_macs(costs, groups, rows) / 2)
    cuts = aligned(groups[0], np.array([0, 5, 30, 57]))
    assert {0, 5, 8, 30, 32, 56, 57} <= set(cuts.tolist())
    assert (np.diff(cuts) > 0).all()
    assert aligned(groups[1], np.array([0, 1, 3])).tolist() == [0, 1, 3]


@pytest.mark.parametrize("objectives", [1, 2, 3, 4])
def test_the_improvement_is_that_of_the_hypervolume(objectives):
    """Proportional to the exact difference, for points that are known for sure."""
    rng = np.random.default_rng(objectives)
    known = -rng.random((6, objectives))
    candidates = -rng.random((40, objectives)) * 1.2
    towards = directions(objectives, 20_000, rng)
    gains = expected_improvement(candidates[None], known, towards)
    reference = np.zeros(objectives)
    before = hypervolume(known, reference)
    exact = np.array([hypervolume(np.vstack([known, point]), reference) - before for point in candidates])
    factor = gains.sum() / exact.sum()
    np.testing.assert_allclose(gains, factor * exact, atol=0.02 * factor * exact.max())


def test_the_pool_keeps_to_the_bounds_and_steps():
    groups = [group("a", 16, fewest=2, most=12), group("b", 32, step=4, most=28), group("whole", 8, most=0)]
    rng = np.random.default_rng(0)
    start = np.array([[2, 0, 0], [6, 8, 0], [12, 28, 0]])
    profile = Profile(
        groups, {"a": Sensitivity((4, 12), (0.1, 1.0), (0.9, 0.5)), "b": Sensitivity((8, 28), (0.1, 2.0), (0.9, 0.4))}
    )
    cuts = levels(groups)
    cost = factors(lambda c: (16.0 - c[:, 0]) * (32 - c[:, 1]) / 512, cuts, [(0, 1)])
    for rows in (moves(start, groups, 300, rng), scattered(groups, 300, rng), allocations(profile, cuts, cost)):
        assert len(rows) > 1
        for column, own in enumerate(groups):
            assert rows[:, column].min() >= own.fewest
            assert rows[:, column].max() <= own.most
            assert (rows[:, column] % own.step == 0).all()
    moved = moves(start, groups, 300, rng)
    assert len(np.unique(moved, axis=0)) > 30
    levels_too = moves(np.concatenate([start, [[0, 3], [1, 4], [2, 5]]], axis=1), groups, 300, rng)
    assert {tuple(row) for row in levels_too[:, 3:].tolist()} >= {(0, 3), (1, 4), (2, 5)}  # they stay, or are mixed
    assert set(levels_too[:, 3]) == {0, 1, 2}
    assert set(levels_too[:, 4]) == {3, 4, 5}


def test_with_no_group_to_choose_there_are_no_moves():
    whole = [group("whole", 8, most=0)]
    rows = moves(np.array([[0, 5]]), whole, 10, np.random.default_rng(0))
    assert (rows == [0, 5]).all()


def test_what_a_knob_does_to_some_cuts_is_expected_of_others():
    """A knob doubles the damage of any cut: learned from cuts unlike those that it is asked for."""
    rng = np.random.default_rng(0)
    link = Link(1.0, 1.0)

    def trials(count, low, high):
        shares, level = low + (high - low) * rng.random((count, 6)), rng.integers(2, size=count)
        log_damage = np.log((shares**2).sum(axis=1))
        values = 0.9 * link.share(log_damage + np.log(1 + 3 * level))
        return Traits(shares, 0.5 * np.eye(2)[level]), log_damage, values

    seen, seen_damage, values = trials(25, 0.0, 0.4)
    fitted = Quality(link, traits=seen, log_damage=seen_damage, values=values, dense=0.9)
    unseen, log_damage, truth = trials(100, 0.4, 0.8)
    error = np.abs(fitted.draws(unseen, log_damage, np.zeros(1))[0] - truth).mean()
    without = Quality(link, traits=of_shares(seen.shares), log_damage=seen_damage, values=values, dense=0.9)
    ignorant = np.abs(without.draws(of_shares(unseen.shares), log_damage, np.zeros(1))[0] - truth).mean()
    assert error < ignorant / 2
