from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from autoprune.errors import SpecError
from autoprune.host.variables import Variable
from autoprune.plugin import Choice, Group, Range
from autoprune.study.bounds import BoundedGroup
from autoprune.study.proposal import Proposal
from autoprune.study.resolution import resolve
from autoprune.study.space import labelled


def group(units):
    return Group(name="layer", units=units, granularity="channel", layers=("layer",), slices=())


bounds = st.tuples(st.floats(0, 0.999), st.floats(0, 0.999)).map(sorted)


@given(st.integers(1, 300), bounds, st.floats(0, 0.999))
def test_a_cut_is_the_nearest_whole_number_within_bounds_and_one_unit_stays(units, bounds, ratio):
    low, high = bounds
    ratio = min(max(ratio, low), high)
    cut = BoundedGroup(group(units), low, high).cut(ratio)
    assert 0 <= cut < units
    allowed = [n for n in range(units) if low * units - 1e-9 <= n <= high * units + 1e-9]
    if allowed:
        assert cut in allowed
        assert abs(cut - ratio * units) <= min(abs(n - ratio * units) for n in allowed) + 1e-9
    else:  # no whole number of units between the bounds
        assert abs(cut - low * units) <= 1


@pytest.mark.parametrize(
    ("units", "low", "high", "ratio", "cut"),
    [
        (10, 0.0, 0.8, 0.25, 3),
        (10, 0.0, 0.8, 0.249, 2),
        (5, 0.0, 0.3, 0.3, 1),  # 1.5 rounds to 2, but 2 of 5 is more than 0.3
        (4, 0.0, 0.99, 0.99, 3),  # one stays
        (1, 0.0, 0.9, 0.9, 0),
        (10, 0.3, 0.3, 0.3, 3),
        (10, 0.7, 0.9, 0.7, 7),  # 0.7 * 10 is 7.000000000000001 as floats
        (3, 0.4, 0.6, 0.5, 1),  # neither 1 nor 2 thirds lie within: the nearest to the lower bound
    ],
)
def test_cuts(units, low, high, ratio, cut):
    assert BoundedGroup(group(units), low, high).cut(ratio) == cut


def test_what_is_searched(spec, host):
    space = resolve(spec(), host).space
    assert space.parameters == (Range("ratio.wide", 0.0, 0.9), Range("ratio.narrow", 0.0, 0.9))
    assert [(g.name, g.units, g.low, g.high) for g in space.summary] == [
        ("wide", 16, 0.0, 0.9),
        ("narrow", 8, 0.0, 0.9),
    ]


def test_kept_groups_and_fixed_ones_are_no_parameters(spec, host):
    space = resolve(
        spec(
            'search_space.groups={"w*": keep, narrow: {low: 0.5, high: 0.5}}',
            "strategy=[{use: toy-strategy}, {use: toy-strategy, noise: 0.5}]",
        ),
        host,
    ).space
    assert space.parameters == (Choice("strategy", ("toy-strategy(noise=0.0)", "toy-strategy(noise=0.5)")),)
    proposal = Proposal(number=3, origin="sampler", params={"strategy": "toy-strategy(noise=0.5)"})
    candidate = space.candidate(proposal)
    assert (candidate.cut_units, candidate.ratios) == ({"wide": 0, "narrow": 4}, {"wide": 0.0, "narrow": 0.5})
    assert space.strategies[space.strategy(proposal)].component.noise == 0.5
    assert space.asked(proposal) == {"wide": 0.0, "narrow": 0.5}


def test_a_group_too_small_for_its_bounds_is_no_parameter(spec, host):
    space = resolve(spec("search_space.groups={narrow: {high: 0.1}}"), host).space
    assert [p.name for p in space.parameters] == ["ratio.wide"]


def test_the_last_pattern_counts_and_what_it_leaves_out_is_the_default(spec, host):
    text = 'search_space.groups={"*": {high: 0.4}, "n*": {low: 0.2}}'
    assert resolve(spec(text), host).space.parameters == (
        Range("ratio.wide", 0.0, 0.4),
        Range("ratio.narrow", 0.2, 0.9),
    )


def test_first_come_the_dense_model_and_uniform_ratios(spec, host):
    space = resolve(spec("search_space.groups={narrow: {low: 0.2, high: 0.5}}"), host).space
    (dense, whole), *ladder = space.first(3)
    assert dense == "dense"
    proposal = Proposal(number=0, origin="dense", params=whole)
    assert space.asked(proposal) == {"wide": 0.0, "narrow": 0.0}, "whole, although the bounds ask for a cut"
    assert set(space.candidate(proposal).cut_units.values()) == {0}
    assert whole == {"ratio.wide": 0.0, "ratio.narrow": 0.2}, "what Optuna is told lies within the bounds"
    assert ladder == [
        ("ladder", {"ratio.wide": pytest.approx(0.3), "ratio.narrow": pytest.approx(0.3)}),
        ("ladder", {"ratio.wide": pytest.approx(0.6), "ratio.narrow": pytest.approx(0.5)}),
        ("ladder", {"ratio.wide": pytest.approx(0.9), "ratio.narrow": pytest.approx(0.5)}),
    ]


def test_labels_are_names_unless_a_name_stands_twice(host):
    from toy_plugin import ToyScorer, ToyStrategy

    assert list(labelled([Variable(ToyScorer())])) == ["toy-scorer"]
    assert list(labelled([Variable(ToyScorer(power=1)), Variable(ToyScorer(power=3))])) == [
        "toy-scorer(power=1)",
        "toy-scorer(power=3)",
    ]
    assert list(labelled([Variable(ToyStrategy())])) == ["toy-strategy"]


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ("{wied: keep}", "4:25: search_space.groups.wied: no layer of the model is called so; did you mean 'wide'?"),
        (
            "{stem: keep}",
            "search_space.groups.stem: no layer of the model is called so; its layers: wide, narrow, head",
        ),
        ("{head: {high: 0.5}}", "search_space.groups.head: head has no units that can be cut: "),
    ],
)
def test_patterns_that_match_nothing_are_refused_where_they_stand(spec, host, groups, message):
    made = spec(swap=("search_space: {", f"search_space: {{groups: {groups}, "))
    with pytest.raises(SpecError) as caught:
        resolve(made, host)
    assert message in str(caught.value)
    assert len(caught.value.mistakes) == 1


def test_a_container_is_no_layer_but_its_layers_are_suggested(spec, host, monkeypatch):
    monkeypatch.setattr(
        "toy_plugin.ToyModel.build",
        lambda self, ctx: nn.Sequential(nn.Sequential(nn.Linear(6, 4), nn.ReLU()), nn.Linear(4, 3)),
    )
    with pytest.raises(SpecError, match=r"did you mean '0\.\*'"):
        resolve(spec('search_space.groups={"0": keep}'), host)


def test_keep_may_name_what_is_kept_anyway(spec, host):
    assert len(resolve(spec("search_space.groups={head: keep}"), host).space.parameters) == 2


def test_all_mistakes_at_once(spec, host):
    with pytest.raises(SpecError) as caught:
        resolve(spec("search_space.groups={wied: keep, norrow: {high: 0.5}}"), host)
    assert len(caught.value.mistakes) == 2
