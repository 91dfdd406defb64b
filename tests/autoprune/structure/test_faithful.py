"""What is verified is the cut model itself, against one that shares nothing with it: closures, training, rounding."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations

from autoprune import StructureError
from autoprune.plugin import Inputs
from autoprune.structure import Structure, discover
from autoprune.structure.verify.training import in_training

from .zeros import with_zeros

pytestmark = pytest.mark.slow

Made = Callable[[], nn.Module]


def images(n: int = 4, seed: int = 0) -> Tensor:
    return torch.rand(n, 1, 12, 12, generator=torch.Generator().manual_seed(seed))


class Base(nn.Module):
    """Two convolutions and a head; how they are reached is the subclasses' affair."""

    def __init__(self) -> None:
        super().__init__()
        self.c1, self.c2, self.head = nn.Conv2d(1, 16, 3), nn.Conv2d(16, 16, 3), nn.Linear(16, 10)

    def body(self, x: Tensor) -> Tensor:
        return self.c2(self.c1(x).relu())

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x).relu().mean((2, 3)))


class ByLambda(Base):
    def __init__(self) -> None:
        super().__init__()
        self.body = lambda x: self.c2(self.c1(x).relu())  # type: ignore[method-assign]


class ByDefault(Base):
    def __init__(self) -> None:
        super().__init__()
        self.body = lambda x, one=self.c1, two=self.c2: two(one(x).relu())  # type: ignore[method-assign]


class ByPartial(Base):
    def __init__(self) -> None:
        super().__init__()

        def both(x: Tensor, *, one: nn.Module, two: nn.Module) -> Tensor:
            return two(one(x).relu())

        self.body = partial(partial(both, one=self.c1), two=self.c2)  # type: ignore[method-assign]


class ByBoundMethod(Base):
    def __init__(self) -> None:
        super().__init__()
        self.body = super().body  # type: ignore[method-assign]


class ByList(Base):
    def __init__(self) -> None:
        super().__init__()
        self.steps = [self.c1.forward, lambda x: x.relu(), {"last": lambda x: self.c2(x)}]

    def body(self, x: Tensor) -> Tensor:
        first, second, third = self.steps
        return third["last"](second(first(x)))  # type: ignore[index,operator]


class ByNestedClosures(Base):
    def __init__(self) -> None:
        super().__init__()
        layers = [self.c1, self.c2]

        def run(x: Tensor, number: int = 0) -> Tensor:
            return x if number == 2 else run(one(number)(x), number + 1)

        def one(number: int) -> Callable[[Tensor], Tensor]:
            return lambda x: layers[number](x) if number else layers[number](x).relu()

        self.body = run  # type: ignore[method-assign]


class ByHook(Base):
    """Its second convolution is in a hook of the first, which is not cut where only the second is."""

    def __init__(self) -> None:
        super().__init__()
        self.c1.register_forward_hook(lambda module, args, output: self.c2(output.relu()))

    def body(self, x: Tensor) -> Tensor:
        return self.c1(x)


class ByPatchedForward(Base):
    def __init__(self) -> None:
        super().__init__()
        plain = self.c2.forward
        self.c2.forward = lambda x: plain(x) + self.c1.bias.view(1, -1, 1, 1)  # type: ignore[method-assign,union-attr]


CLOSURES: list[Made] = [
    ByLambda, ByDefault, ByPartial, ByBoundMethod, ByList, ByNestedClosures, ByHook, ByPatchedForward,
]  # fmt: skip


def cut_half(structure: Structure, network: nn.Module) -> tuple[nn.Module, dict[str, Tensor]]:
    kept = {g.name: torch.arange(g.units)[1::2] for g in structure.groups}
    return structure.cut(network, kept).eval(), kept


def rebuilt(make: Made, structure: Structure, kept: dict[str, Tensor]) -> nn.Module:
    """A network of its own, with the entries of what was cut set to zero."""
    network = made(make)
    return with_zeros(network, structure.plan(network, kept).kept)


def made(make: Made) -> nn.Module:
    torch.manual_seed(0)
    return make().eval()


@pytest.mark.parametrize("make", CLOSURES)
def test_functions_of_a_copy_use_the_copy(make: Made) -> None:
    network = made(make)
    structure = discover(network, images())
    assert {g.name for g in structure.groups} >= {"c1"}
    small, kept = cut_half(structure, network)
    reference = rebuilt(make, structure, kept)
    x = images(7, seed=1)
    with torch.no_grad():
        torch.testing.assert_close(small(x), reference(x))
        before = small(x)
        for parameter in network.parameters():  # the original may become what it likes
            parameter.fill_(torch.nan)
        assert torch.equal(small(x), before)
    small.train()(x).square().mean().backward()
    assert all(parameter.grad is not None for parameter in small.parameters())
    assert all(parameter.grad is None for parameter in network.parameters())


_ELSEWHERE: list[nn.Module] = []


class ByGlobal(Base):
    def __init__(self) -> None:
        super().__init__()
        _ELSEWHERE[:] = [self.c1, self.c2]

    def body(self, x: Tensor) -> Tensor:
        return _ELSEWHERE[1](_ELSEWHERE[0](x).relu())


class ByGlobalWeight(Base):
    def __init__(self) -> None:
        super().__init__()
        _ELSEWHERE[:] = [self.c2]

    def body(self, x: Tensor) -> Tensor:
        return functional.conv2d(self.c1(x).relu(), _ELSEWHERE[0].weight)  # type: ignore[arg-type]


@pytest.mark.parametrize("make", [ByGlobal, ByGlobalWeight])
def test_modules_that_a_copy_cannot_reach_are_not_cut(make: Made) -> None:
    structure = discover(made(make), images(), form="modules")
    assert structure.groups == ()
    reasons = {uncut.layer: uncut.reason for uncut in structure.uncut}
    assert re.search("does not run|still uses c[12].weight of the original", reasons["c1"])


@pytest.mark.parametrize("make", [ByGlobal, ByGlobalWeight])
def test_their_graph_can_be(make: Made) -> None:
    network = made(make)
    structure = discover(network, images())
    assert structure.form == "graph"
    small, kept = cut_half(structure, network)
    with torch.no_grad():
        torch.testing.assert_close(small(images(7, seed=1)), rebuilt(make, structure, kept)(images(7, seed=1)))


class Shares(Base):
    """What it uses of the original has the right size, whatever is cut."""

    def body(self, x: Tensor) -> Tensor:
        y = super().body(x)
        return y + _ELSEWHERE[0].bias.sum()  # type: ignore[operator,union-attr]

    def __init__(self) -> None:
        super().__init__()
        _ELSEWHERE[:] = [self.c1]


def test_what_of_the_original_would_fit_is_told_by_name() -> None:
    structure = discover(made(Shares), images(), form="modules")
    assert structure.groups == ()
    assert {uncut.reason for uncut in structure.uncut if uncut.layer != "head"} == {
        "a copy of the model still uses c1.bias of the original: its code has it from elsewhere than its module"
    }


# train()


class Auxiliary(Base):
    def __init__(self) -> None:
        super().__init__()
        self.aux = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        y = self.c1(x).relu()
        extra = self.aux(y.mean((2, 3))) if self.training else 0
        return self.head(self.c2(y).relu().mean((2, 3))) + extra


class NoisyWidth(Base):
    def forward(self, x: Tensor) -> Tensor:
        y = self.c1(x).relu()
        y = y + 0.1 * torch.randn(1, 16, 1, 1) if self.training else y
        return self.head(self.c2(y).relu().mean((2, 3)))


@pytest.mark.parametrize("make", [Auxiliary, NoisyWidth])
def test_what_train_alone_runs_must_run_cut_too(make: Made) -> None:
    network = made(make)
    structure = discover(network, images(), form="modules")
    assert [g.name for g in structure.groups] == ["c2"]
    reason = next(uncut.reason for uncut in structure.uncut if uncut.layer == "c1")
    assert reason.startswith("the cut model does not run in train(): RuntimeError: ")
    small, _ = cut_half(structure, network)
    assert small.train()(images()).shape == (4, 10)


def test_a_graph_does_not_take_the_place_of_what_trains_more() -> None:
    structure = discover(made(Auxiliary), images())
    assert (structure.form, [g.name for g in structure.groups]) == ("modules", ["c2"])


class TrainedSum(Auxiliary):
    """Cut in its trunk it runs in train(), too, but gives something else."""

    def forward(self, x: Tensor) -> Tensor:
        y = self.c1(x).relu()
        extra = self.aux(y.sum((1, 2, 3)).unsqueeze(1).expand(-1, 16) / y.shape[1]) if self.training else 0
        return self.head(self.c2(y).relu().mean((2, 3))) + extra


def test_what_train_gives_is_compared_where_it_uses_more() -> None:
    structure = discover(made(TrainedSum), images(), form="modules")
    reason = next(uncut.reason for uncut in structure.uncut if uncut.layer == "c1")
    assert reason.startswith("in train() the cut model differs from the masked one by ")


class Dropped(Base):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.drop = nn.BatchNorm2d(16), nn.Dropout2d(0.5)

    def body(self, x: Tensor) -> Tensor:
        return self.norm(self.c2(self.drop(self.c1(x)).relu()))


def test_training_without_dropout_leaves_no_trace() -> None:
    network = made(Dropped)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    modes = [module.training for module in network.modules()]
    with torch.no_grad():
        one, other = in_training(network, Inputs.of(images())), in_training(network, Inputs.of(images()), seed=5)
        assert torch.equal(one[0], other[0])
        network.drop.p = 0.0  # type: ignore[union-attr]
        assert torch.equal(one[0], made_again(network)(images()))
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    assert modes == [module.training for module in network.modules()]
    discover(network, images())
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())


def made_again(network: nn.Module) -> nn.Module:
    new = made(Dropped)
    new.load_state_dict(network.state_dict())
    new.drop.p = 0.0  # type: ignore[union-attr]
    return new.train()


# Random in eval()


class Drops(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.head(functional.dropout(self.body(x).relu().mean((2, 3)), 0.5))


class Samples(Base):
    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x).mean((2, 3))
        return self.head(y + torch.randn_like(y))


class Hidden(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x).mean((2, 3)) * random.random())


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (Drops, r"its code at .*test_faithful\.py:\d+ \(return self\.head\(functional\.dropout.*drops out in eval"),
        (
            Samples,
            r"its code at .*test_faithful\.py:\d+ \(return self\.head\(y \+ torch\.randn_like\(y\)\)\) draws num",
        ),
        (Hidden, "nothing in its graph draws numbers: look for numpy or random in its code"),
    ],
)
def test_a_model_that_is_random_in_eval_is_refused_with_the_place(make: Made, told: str) -> None:
    with pytest.raises(StructureError, match=f"{make.__name__} is random in eval.*{told}"):  # type: ignore[attr-defined]
        discover(made(make), images())


# Rounding, and weights that are computed


class Tokens(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.e, self.a, self.n = nn.Embedding(20, 16), nn.Linear(16, 32), nn.RMSNorm(16)
        self.b, self.o = nn.Linear(32, 16), nn.Linear(16, 4)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.e(ids)
        return self.o((x + self.b(functional.gelu(self.a(self.n(x))))).mean(1))


class Mixed(Tokens):
    """Its code says which numbers it computes with."""

    def forward(self, ids: Tensor) -> Tensor:
        x = self.e(ids).bfloat16()
        return self.o((x + self.b(functional.gelu(self.a(self.n(x))))).mean(1))


def ids() -> Tensor:
    return torch.randint(0, 20, (4, 6), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_short_numbers_are_verified_in_float32(dtype: torch.dtype) -> None:
    network = made(Tokens)
    whole = discover(network, ids())
    short = discover(network.to(dtype), ids())
    assert [(g.name, g.units) for g in short.groups] == [(g.name, g.units) for g in whole.groups] != []
    small, kept = cut_half(short, network)
    assert {parameter.dtype for parameter in small.parameters()} == {dtype}
    assert short.costs({name: len(index) for name, index in kept.items()}).params < whole.dense_costs.params
    assert {parameter.dtype for parameter in network.parameters()} == {dtype}


def test_code_that_names_short_numbers_is_not_verified_in_others() -> None:
    structure = discover(made(Mixed).bfloat16(), ids())
    assert {uncut.layer for uncut in structure.uncut} >= {"o"}


class Normed(nn.Module):
    def __init__(self, norm: Callable[[nn.Module], nn.Module]) -> None:
        super().__init__()
        self.a, self.b = norm(nn.Conv1d(4, 16, 3, padding=2, dilation=2)), norm(nn.Conv1d(16, 16, 3, padding=1))
        self.up, self.o = norm(nn.ConvTranspose1d(16, 8, 4, 2, 1)), norm(nn.Linear(8, 5))

    def forward(self, x: Tensor) -> Tensor:
        x = functional.leaky_relu(self.a(x), 0.1)
        x = x + functional.leaky_relu(self.b(x), 0.1)
        return self.o(functional.leaky_relu(self.up(x), 0.1).mean(2))


@pytest.mark.parametrize("dim", [0, 1])
def test_weight_norm_is_cut(dim: int) -> None:
    def norm(layer: Any) -> Any:
        return parametrizations.weight_norm(layer, dim=dim)

    network = made(lambda: Normed(norm))
    x = torch.randn(3, 4, 20, generator=torch.Generator().manual_seed(0))
    structure = discover(network, x)
    assert sum(g.units for g in structure.groups) == 24
    small, kept = cut_half(structure, network)
    with torch.no_grad():
        found, expected = small(x), structure.masked(network, kept)(x)
        torch.testing.assert_close(found, expected)
        # The norms by themselves: the effective weights of the cut network are those of its own directions.
        direction = small.b.parametrizations.weight.original1  # type: ignore[union-attr]
        over = [d for d in range(direction.ndim) if d != dim]
        size = small.b.parametrizations.weight.original0  # type: ignore[union-attr]
        torch.testing.assert_close(small.b.weight, size * direction / direction.square().sum(over, keepdim=True).sqrt())


# Reasons


class Tied(nn.Module):
    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.a, self.n, self.b = nn.Conv2d(1, 16, 3), norm, nn.Conv2d(16, 8, 3)
        self.o = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.o(self.b(self.n(self.a(x)).relu()).mean((2, 3)))


def test_one_unit_is_told_with_what_makes_it_one() -> None:
    norm = nn.Sequential(nn.GroupNorm(8, 16), nn.ChannelShuffle(8))
    structure = discover(made(lambda: Tied(norm)), images(), form="modules")
    assert [g.name for g in structure.groups] == ["b"]
    assert [u.reason for u in structure.uncut if u.layer == "a"] == [
        "its 16 units all go together: aten.group_norm.default in n.0 ties them"
    ]
