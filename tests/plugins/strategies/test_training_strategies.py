"""Strategies that rank other weights than the dense ones: untrained, or trained under a penalty."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from autoprune import TrialError
from autoprune.plugin import Candidate, Data, Group, Split
from autoprune_recoveries.fine_tune import FineTune
from autoprune_strategies._penalty import penalty_of
from autoprune_strategies.pre_prune import PrePrune
from autoprune_strategies.sparse_training import SparseTraining

Cutting = Callable[[int], Candidate]


def accuracy(network: nn.Module, data: Data) -> float:
    ((inputs, targets),) = data.validation.batches(1000)
    with torch.no_grad():
        return float((inputs.feed(network).argmax(1) == targets).float().mean())


def same(first: nn.Module, second: nn.Module) -> bool:
    ours, theirs = first.state_dict(), second.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(value, theirs[key]) for key, value in ours.items())


def test_pruning_before_training_uses_no_trained_weight(session: Any, net: nn.Module, cutting: Cutting) -> None:
    """The same whatever the dense weights are, and those stay."""
    results, untrained = [], copy.deepcopy(net)
    for scale in (1.0, -5.0):
        with torch.no_grad():
            net.conv.weight.mul_(scale).add_(0.1)
        before = copy.deepcopy(net)
        session.build = lambda: copy.deepcopy(untrained)
        results.append(PrePrune(epochs=1, batch_size=32).prune(cutting(5), session.context()))
        assert same(net, before)
    assert same(results[0].network, results[1].network)


def test_what_is_left_of_an_untrained_network_is_ranked_cut_and_trained(
    session: Any, net: nn.Module, cutting: Cutting, data: Data
) -> None:
    untrained = copy.deepcopy(net)
    with torch.no_grad():
        net.conv.weight.zero_()
        untrained.conv.weight.mul_(torch.tensor([1.0, 9, 2, 8, 3, 7, 4, 6]).view(8, 1, 1, 1) * 0.1)
    best = untrained.conv.weight.detach().abs().mean((1, 2, 3)).argsort(descending=True)[:3].sort().values
    session.build = lambda: untrained
    pruned = PrePrune(epochs=10, batch_size=32, recover=FineTune(epochs=1)).prune(cutting(5), session.context())
    assert pruned.kept["conv"].tolist() == best.tolist()
    assert session.trained == [3, 3]
    assert accuracy(pruned.network, data) > 0.9


def test_a_model_that_is_built_trained_cannot_be_pruned_before(session: Any, net: nn.Module, cutting: Cutting) -> None:
    session.build = lambda: copy.deepcopy(net)
    with pytest.raises(TrialError, match="built with its trained weights"):
        PrePrune().prune(cutting(1), session.context())


def test_sparse_training_is_done_once_by_options(session: Any, cutting: Cutting) -> None:
    options = {"epochs": 1.0, "batch_size": 32}
    first = SparseTraining(**options).prune(cutting(2), session.context(seed=1))
    again = SparseTraining(**options).prune(cutting(2), session.context(seed=2))
    recovered = SparseTraining(**options, recover=FineTune()).prune(cutting(2), session.context(seed=2))
    assert len(session.made) == 1
    assert same(first.network, again.network), "it hangs on the seed of the trial that comes first"
    assert not same(first.network, recovered.network)
    for other in ({"penalty": "group-lasso"}, {"strength": 1e-3}, {"lr": 0.02}):
        SparseTraining(**{**options, **other}).prune(cutting(2), session.context())
    assert len(session.made) == 4


def test_sparse_training_ranks_and_cuts_the_trained_network(session: Any, net: nn.Module, cutting: Cutting) -> None:
    before = copy.deepcopy(net)
    session.rank = lambda network: network.bn.weight.detach().abs()
    pruned = SparseTraining(epochs=4, batch_size=16, strength=0.05, lr=0.05).prune(cutting(4), session.context())
    (trained,) = session.made.values()
    scales = trained["bn.weight"]
    kept = scales.abs().argsort(descending=True, stable=True)[:4].sort().values
    assert pruned.kept["conv"].tolist() == kept.tolist()
    assert torch.equal(pruned.network.bn.weight, scales[kept])
    assert torch.equal(pruned.network.conv.weight, trained["conv.weight"][kept])
    assert same(net, before)


@pytest.mark.parametrize(
    ("penalty", "shrunk"), [("l1", lambda s: s["bn.weight"].abs().sum()), ("group-lasso", lambda s: norms(s).sum())]
)
def test_the_penalty_shrinks_what_it_is_of(
    penalty: Any, shrunk: Callable[[dict[str, Tensor]], Tensor], session: Any, cutting: Cutting
) -> None:
    options = {"epochs": 5.0, "batch_size": 16, "lr": 0.05, "penalty": penalty}
    for strength in (1e-9, 0.2):
        SparseTraining(strength=strength, **options).prune(cutting(2), session.context())
    weak, strong = session.made.values()
    assert shrunk(strong) < 0.8 * shrunk(weak)


def norms(weights: dict[str, Tensor]) -> Tensor:
    """Euclidean norm of what makes and what reads each unit, (8,)."""
    conv, head = weights["conv.weight"], weights["head.weight"].reshape(4, 8, 16)
    return torch.stack([torch.cat([conv[u].flatten(), head[:, u].flatten()]).norm() for u in range(8)])


def test_penalties_by_hand(net: nn.Module, group: Group) -> None:
    with torch.no_grad():
        net.bn.weight.copy_(torch.tensor([1.0, -2, 3, -4, 5, -6, 7, -8]))
    weights = dict(net.named_parameters())
    assert penalty_of(net, (group,), "l1", 0.5)().item() == 18
    lasso = penalty_of(net, (group,), "group-lasso", 2.0)
    assert torch.allclose(lasso(), 2 * norms(weights).sum())
    # Without a batch norm: the weights that make the units.
    bare = replace(group, slices=tuple(part for part in group.slices if not part.parameter.startswith("bn.")))
    assert torch.allclose(penalty_of(net, (bare,), "l1", 1.0)(), net.conv.weight.abs().sum())
    # Weights and kernels on their own, and blocks with all that they own.
    masked = Group("w", 8 * 9, "weight", ("conv",), masked="conv.weight")
    for kind in ("l1", "group-lasso"):
        assert torch.allclose(penalty_of(net, (masked,), kind, 1.0)(), net.conv.weight.abs().sum(), rtol=1e-4)
    kernels = Group("k", 8, "kernel", ("conv",), masked="conv.weight")
    expected = net.conv.weight.flatten(1).norm(dim=1).sum()
    assert torch.allclose(penalty_of(net, (kernels,), "group-lasso", 1.0)(), expected)
    owned = Group("b", 1, "block", ("bn",), owned=(("bn.weight", "bn.bias", "head.bias"),))
    assert penalty_of(net, (owned,), "l1", 1.0)().item() == 36
    together = torch.cat([net.bn.weight, net.bn.bias, net.head.bias]).norm()
    assert torch.allclose(penalty_of(net, (owned,), "group-lasso", 1.0)(), together)


def test_groups_without_weights_are_left_out_and_none_at_all_is_refused(net: nn.Module, group: Group) -> None:
    bare = Group("bias", 8, "channel", ("bn",), slices=tuple(p for p in group.slices if p.parameter == "bn.bias"))
    both = penalty_of(net, (bare, group), "group-lasso", 1.0)()
    assert torch.equal(both, penalty_of(net, (group,), "group-lasso", 1.0)())
    for kind in ("l1", "group-lasso"):
        with pytest.raises(TrialError, match=f"a penalty of {kind}"):
            penalty_of(net, (bare,), kind, 1.0)


def test_a_unit_that_is_zero_has_a_penalty_with_a_gradient(net: nn.Module, group: Group) -> None:
    with torch.no_grad():
        net.conv.weight[3] = 0
        net.head.weight.view(4, 8, 16)[:, 3] = 0
    penalty_of(net, (group,), "group-lasso", 1.0)().backward()
    assert net.conv.weight.grad.isfinite().all()
    assert not net.conv.weight.grad[3].any()


@pytest.mark.parametrize("strategy", [PrePrune(), SparseTraining()], ids=lambda s: s.name)
def test_data_too_small_to_train_on_is_refused(strategy: Any, data: Data) -> None:
    one = replace(data, train=Split.of_tensors(*data.train.fetch(torch.arange(1))))
    assert "2 train samples" in strategy.refuses(one)
    assert strategy.refuses(data) is None
