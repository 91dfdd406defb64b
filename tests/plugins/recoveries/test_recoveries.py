"""Recoveries against exact statistics, plain training and each other."""

from __future__ import annotations

import copy
import dataclasses
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from autoprune import TrialError
from autoprune.plugin import Data, PruneContext, Pruned, Recovery, Split
from autoprune_recoveries.bn_recalibration import BatchNormRecalibration
from autoprune_recoveries.fine_tune import FineTune
from autoprune_recoveries.nothing import NoRecovery
from autoprune_tasks.classification import Classification


def drawn(split: Split, size: int, samples: int) -> list[Tensor]:
    """The batches that the context's seed 0 draws."""
    return [
        inputs.first for inputs, _ in split.batches(size, samples=samples, generator=torch.Generator().manual_seed(0))
    ]


def loss_of(ctx: PruneContext, network: nn.Module) -> float:
    ((inputs, targets),) = ctx.data.validation.batches(1000)
    with torch.no_grad():
        return float(cross_entropy(inputs.feed(ctx.predictor(network)), targets))


def test_recalibration_gives_the_exact_statistics(ctx: PruneContext, net: nn.Module) -> None:
    BatchNormRecalibration(samples=96, batch_size=96).recover(Pruned(net), ctx)
    (images,) = drawn(ctx.data.train, 96, 96)
    with torch.no_grad():
        activations = net.conv((images - 0.3) / 0.35)
    assert torch.allclose(net.bn.running_mean, activations.mean((0, 2, 3)), atol=1e-5)
    assert torch.allclose(net.bn.running_var, activations.var((0, 2, 3)), rtol=1e-4)


def test_recalibration_weighs_all_batches_alike_and_drops_the_rest(ctx: PruneContext, net: nn.Module) -> None:
    BatchNormRecalibration(samples=110, batch_size=32).recover(Pruned(net), ctx)
    batches = drawn(ctx.data.train, 32, 96)
    assert [len(b) for b in batches] == [32, 32, 32]
    with torch.no_grad():
        means = torch.stack([net.conv((b - 0.3) / 0.35).mean((0, 2, 3)) for b in batches])
    assert torch.allclose(net.bn.running_mean, means.mean(0), atol=1e-5)
    assert net.bn.num_batches_tracked == 3


def test_recalibration_forgets_the_old_statistics_and_restores_the_settings(ctx: PruneContext, net: nn.Module) -> None:
    net.bn.momentum = 0.07
    net.bn.running_mean.fill_(1e6)
    BatchNormRecalibration().recover(Pruned(net), ctx)
    assert net.bn.running_mean.abs().max() < 100
    assert net.bn.momentum == 0.07
    assert not any(module.training for module in net.modules())


def test_recalibration_is_deterministic_though_the_net_has_dropout(ctx: PruneContext, net: nn.Module) -> None:
    twin = copy.deepcopy(net)
    BatchNormRecalibration().recover(Pruned(net), ctx)
    torch.rand(5)
    BatchNormRecalibration().recover(Pruned(twin), ctx)
    assert torch.equal(net.bn.running_var, twin.bn.running_var)


def test_recalibration_leaves_a_net_without_batch_norm_alone(
    ctx: PruneContext, unnormalized: Callable[[], nn.Module]
) -> None:
    net = unnormalized()
    before = copy.deepcopy(net.state_dict())
    net.register_forward_hook(lambda *_: pytest.fail("no pass is needed"))
    BatchNormRecalibration().recover(Pruned(net), ctx)
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"optimizer": "adamw", "lr": 5e-3, "schedule": "constant"}], ids=str)
def test_fine_tune_lowers_the_loss_on_digits(options: dict[str, object], ctx: PruneContext, net: nn.Module) -> None:
    before = loss_of(ctx, net)
    FineTune(epochs=8, batch_size=32, **options).recover(Pruned(net), ctx)
    assert loss_of(ctx, net) < before / 4


def test_fine_tune_is_the_same_again_for_the_same_seed(
    make_context: Callable[..., PruneContext], net: nn.Module
) -> None:
    nets = [copy.deepcopy(net) for _ in range(3)]
    for network, seed in zip(nets, (3, 3, 4), strict=True):
        torch.rand(11)  # whatever else drew from the global generator
        FineTune(epochs=0.5).recover(Pruned(network), make_context(seed=seed))
    assert torch.equal(nets[0].head.weight, nets[1].head.weight)
    assert not torch.equal(nets[0].head.weight, nets[2].head.weight)


def test_fine_tune_does_not_disturb_the_global_generator(ctx: PruneContext, net: nn.Module) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    FineTune(epochs=0.1).recover(Pruned(net), ctx)
    assert torch.equal(torch.rand(3), expected)


def test_fine_tune_against_plain_sgd(make_context: Callable[..., PruneContext], net: nn.Module) -> None:
    """Two steps at a constant rate, written out; the task says what training minimises."""
    net.drop.p = 0.0
    twin, ctx = copy.deepcopy(net), make_context(task=Classification(label_smoothing=0.1))
    two = FineTune(epochs=2 * 64 / len(ctx.data.train), batch_size=64, lr=0.05, schedule="constant")
    two.recover(Pruned(net), ctx)
    twin.train()
    optimizer = torch.optim.SGD(twin.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=5e-4)
    batches = ctx.data.train.batches(64, generator=torch.Generator().manual_seed(0))
    for _, (inputs, targets) in zip(range(2), batches, strict=False):
        optimizer.zero_grad()
        cross_entropy(twin((inputs.first - 0.3) / 0.35), targets, label_smoothing=0.1).backward()
        optimizer.step()
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(net.parameters(), twin.parameters(), strict=True))


def test_the_cosine_schedule_falls_from_the_rate_to_nothing() -> None:
    rates = [FineTune(lr=0.2).rate(step / 10) for step in range(11)]
    assert rates[0] == 0.2
    assert rates[5] == pytest.approx(0.1)
    assert rates[10] == pytest.approx(0.0, abs=1e-9)
    assert rates == sorted(rates, reverse=True)


@pytest.mark.parametrize(
    "frozen", [(), ("conv.weight",), ("conv.weight", "bn.weight", "bn.bias", "head.weight", "head.bias")]
)
def test_fine_tune_trains_what_requires_gradients_or_everything(
    frozen: tuple[str, ...], ctx: PruneContext, net: nn.Module
) -> None:
    names = [name for name, _ in net.named_parameters()]
    for name in frozen:
        net.get_parameter(name).requires_grad_(False)
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    FineTune(epochs=0.3).recover(Pruned(net), ctx)
    changed = {name for name, p in net.named_parameters() if not torch.equal(p, before[name])}
    assert changed == set(names) - (set() if len(frozen) == len(names) else set(frozen))
    assert {name for name, p in net.named_parameters() if not p.requires_grad} == set(frozen)
    assert all(p.grad is None for p in net.parameters())
    assert not any(module.training for module in net.modules())


def test_fine_tune_that_diverges_fails_the_trial_and_says_what_to_do(ctx: PruneContext, net: nn.Module) -> None:
    with pytest.raises(TrialError, match="lower lr"):
        FineTune(epochs=5, lr=1e30).recover(Pruned(net), ctx)
    assert not net.training


def test_a_train_split_smaller_than_a_batch_still_works(ctx: PruneContext, net: nn.Module, data: Data) -> None:
    tiny = Split.of_tensors(*data.train.fetch(torch.arange(5)))
    small = dataclasses.replace(ctx, data=dataclasses.replace(data, train=tiny))
    FineTune(epochs=2).recover(Pruned(net), small)
    BatchNormRecalibration().recover(Pruned(net), small)
    assert net.bn.num_batches_tracked == 1


def test_data_too_small_to_train_on_is_refused(data: Data) -> None:
    one = dataclasses.replace(data, train=Split.of_tensors(*data.train.fetch(torch.arange(1))))
    assert "2 train samples" in (FineTune().refuses(one) or "")
    assert FineTune().refuses(data) is None
    assert "2 train samples" in (BatchNormRecalibration().refuses(one) or "")
    assert BatchNormRecalibration().refuses(data) is None


def test_nothing_is_done_by_none(ctx: PruneContext) -> None:
    untouched = Pruned(lambda: pytest.fail("nobody needs the network"))
    NoRecovery().recover(untouched, ctx)
    assert untouched.untouched


@pytest.mark.slow
def test_the_host_finds_them_and_torch_is_imported_by_none() -> None:
    from autoprune.host.plugins import PluginHost

    assert {"none", "bn-recalibration", "fine-tune", "distill"} <= PluginHost().components(Recovery).keys()
    code = "import sys; import autoprune_recoveries as r; r.autoprune_components(); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
