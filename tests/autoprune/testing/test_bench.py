from __future__ import annotations

import pytest
import torch
from torch import nn

import autoprune.testing
from autoprune import TrialError
from autoprune.plugin import Recovery
from autoprune.testing import Bench, ToyScorer, toy_data, toy_network, untouched
from tests.autoprune.testing.plain import groups_without_pytest
from tests.fresh import returned


def test_every_public_name_is_there():
    assert sorted(autoprune.testing.__all__) == sorted(autoprune.testing._LAZY)
    for name in autoprune.testing.__all__:
        assert getattr(autoprune.testing, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = autoprune.testing.Nothing


@pytest.mark.slow
def test_the_bench_needs_no_pytest():
    assert returned(groups_without_pytest) == 3


def test_the_toys_are_learnt_and_the_same_every_time():
    network, again, data = toy_network(), toy_network(), toy_data()
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), again.parameters(), strict=True))
    assert network.stem.weight is not again.stem.weight
    assert torch.equal(data.test.fetch(torch.arange(3))[0].first, toy_data().test.fetch(torch.arange(3))[0].first)
    bench = Bench()
    inputs, targets = data.validation.fetch(torch.arange(len(data.validation)))
    with torch.no_grad():
        predicted = inputs.feed(bench.predictor(network)).argmax(1)
    assert (predicted == targets).float().mean() > 0.8
    assert {g.name: (g.units, g.layers) for g in bench.structure.groups} == {
        "stem": (8, ("stem", "outer")),
        "inner": (6, ("inner",)),
        "top": (12, ("top",)),
    }


def test_a_bench_takes_any_network_and_data():
    network = nn.Sequential(nn.Flatten(), nn.Linear(192, 10), nn.ReLU(), nn.Linear(10, 4))
    bench = Bench(network, toy_data())
    assert bench.uniform(0.5) == {"1": 5}
    assert bench.score(ToyScorer())["1"].tolist() == list(range(10, 0, -1))
    assert bench.cut({"1": 3})[1].weight.shape == (7, 192)


def test_the_host_s_checks_are_the_bench_s():
    class Halves(ToyScorer):
        """Forgets half of the units."""

        name = "halves"

        def score(self, group, ctx):
            return super().score(group, ctx)[::2]

    with pytest.raises(TrialError, match=r"scores of stem have the shape \(4,\), not \(8,\)"):
        Bench().score(Halves())


def test_components_run_under_the_host_s_seeds():
    class Draws(Recovery):
        """Draws from the global generator, which the host seeds."""

        name = "draws"

        def recover(self, pruned, ctx):
            pruned.network.linear.bias.data = torch.rand(4)

    bench = Bench()
    pruned = [bench.pruned({}) for _ in range(3)]
    before = torch.get_rng_state()
    for each, seed in zip(pruned, (1, 1, 2), strict=True):
        bench.recover(Draws(), each, seed=seed)
    networks = [each.network for each in pruned]
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(networks[0].linear.bias, networks[1].linear.bias)
    assert not torch.equal(networks[0].linear.bias, networks[2].linear.bias)


@pytest.mark.parametrize(
    ("touch", "told"),
    [
        (lambda net: net.linear.bias.data.add_(1), "the dense network was changed: linear.bias"),
        (lambda net: net.stem_bn.running_mean.add_(1), "was changed: stem_bn.running_mean"),
        (lambda net: net.register_buffer("extra", torch.ones(1)), "was changed: extra"),
        (lambda net: net.top_bn.train(), "left in another mode"),
        (lambda net: net.linear.bias.requires_grad_(False), "requires_grad was changed"),
        (lambda net: net.linear.bias.sum().backward(), "gradients were left behind: linear.bias"),
        (lambda net: net.stem.register_forward_pre_hook(print), "hooks were left behind"),
    ],
)
def test_untouched_tells_what_was_touched(touch, told):
    network = toy_network()
    with untouched(network):
        network(torch.rand(2, 3, 8, 8))
    with pytest.raises(AssertionError, match=told.replace(".", r"\.")), untouched(network):
        touch(network)
