"""Sizes of inputs that a graph may have are free where its code says how it hangs on them, and checked elsewhere."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from autoprune import StructureError, load_program, save_program
from autoprune.plugin import Inputs
from autoprune.structure import Structure, discover
from autoprune.structure.surgery import symbolic
from autoprune.structure.surgery.graph_network import GraphNetwork

pytestmark = pytest.mark.slow


class Images(nn.Module):
    """A literal in its code, so that only its graph can be cut."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)
        self.c, self.o = nn.Conv2d(8, 16, 1), nn.Linear(16, 4)

    def features(self, x: Tensor) -> Tensor:
        x = self.b(self.a(x).relu()).relu()
        return self.c(x[:, :8]) + x

    def forward(self, x: Tensor) -> Tensor:
        return self.o(self.features(x).mean((2, 3)))


class Pooled(Images):
    def __init__(self) -> None:
        super().__init__()
        self.places = nn.Parameter(torch.randn(64, 16) / 4)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.adaptive_avg_pool2d(self.features(x), (x.shape[2] // 4, 1)).flatten(2).transpose(1, 2)
        return self.o((y * self.places[: y.shape[1]]).mean(1))


class Viewed(Images):
    def forward(self, x: Tensor) -> Tensor:
        y = self.features(x)
        n, c, h, w = y.shape
        return self.o(y.view(n, c, h * w).transpose(1, 2).reshape(n * h * w, c)).view(n, h * w, 4).mean(1)


class Decoded(Images):
    def forward(self, x: Tensor) -> Tensor:
        y = functional.max_pool2d(self.features(x), 2)
        y = functional.interpolate(y, size=x.shape[2:])
        y = torch.cat([y, torch.linspace(0, 1, x.shape[3]).expand(len(x), 1, x.shape[2], x.shape[3])], 1)
        return self.o(y[:, :16].mean((2, 3))) + y[:, 16:].mean((2, 3))


class Rooted(Images):
    """A size that is computed by Python, out of the trace's sight."""

    def forward(self, x: Tensor) -> Tensor:
        side = round(float(x.shape[2]) ** 0.5)
        return self.o(functional.adaptive_avg_pool2d(self.features(x), side).sum((2, 3)))


class Texts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.e, self.p = nn.Embedding(20, 16), nn.Parameter(torch.randn(40, 16))
        self.a, self.b, self.o = nn.Linear(16, 32), nn.Linear(32, 16), nn.Linear(8, 4)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        x = self.e(ids) + self.p[: ids.shape[1]]
        x = x + self.b(functional.gelu(self.a(x)))
        x = (x * mask.unsqueeze(2)).view(len(ids), ids.shape[1], 2, 8).mean(2)
        return self.o(x.sum(1))


def images(size: tuple[int, int] = (16, 16), n: int = 4) -> Tensor:
    return torch.rand(n, 3, *size, generator=torch.Generator().manual_seed(sum(size)))


def made(make: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return make().eval()


def cut(network: nn.Module, structure: Structure) -> tuple[nn.Module, nn.Module]:
    kept = {g.name: torch.arange(g.units)[: g.units // 2 or 1] for g in structure.groups}
    assert kept
    return structure.cut(network, kept).eval(), structure.masked(network, kept).eval()


@pytest.mark.parametrize("make", [Images, Pooled, Viewed])
def test_other_sizes_work_as_in_the_dense_network(make: Callable[[], nn.Module], tmp_path: Path) -> None:
    network = made(make)
    structure = discover(network, images(), form="graph")
    assert structure.sizes == ((None, 3, None, None),)
    small, reference = cut(network, structure)
    save_program(small, images(), tmp_path / "small.pt2")
    again = load_program(tmp_path / "small.pt2")
    assert again.sizes == structure.sizes
    with torch.no_grad():
        for size in ((16, 16), (24, 24), (32, 8), (20, 27), (12, 64)):
            for n in (1, 3):
                expected = reference(images(size, n))
                torch.testing.assert_close(small(images(size, n)), expected, rtol=1e-4, atol=1e-5)
                torch.testing.assert_close(again(images(size, n)), expected, rtol=1e-4, atol=1e-5)


def test_one_size_may_be_free_and_another_not() -> None:
    """A number of steps is no symbol to a trace."""
    network = made(Decoded)
    structure = discover(network, images(), form="graph")
    assert structure.sizes == ((None, 3, None, 16),)
    small, reference = cut(network, structure)
    with torch.no_grad():
        torch.testing.assert_close(small(images((40, 16))), reference(images((40, 16))))
        with pytest.raises(StructureError, match=r"\(4, 3, 16, 20\)"):
            small(images((16, 20)))


class Flat(nn.Module):
    """What it takes of other sizes it reads as more samples, each of which has some of the channels."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.o = nn.Conv2d(3, 16, 3, padding=1), nn.Linear(16 * 64, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.o(self.a(x).relu().view(-1, 1024))


def test_sizes_at_which_a_cut_graph_is_another_model_are_not_free() -> None:
    network = made(Flat)
    assert network(images((16, 16))).shape == (16, 4)
    structure = discover(network, images((8, 8)), form="graph")
    assert structure.sizes == ((None, 3, 8, 8),)
    small, reference = cut(network, structure)
    torch.testing.assert_close(small(images((8, 8))), reference(images((8, 8))))
    with pytest.raises(StructureError, match=r"of shape \(4, 3, 16, 16\)"):
        small(images((16, 16)))


def test_a_size_that_is_written_down_is_checked(tmp_path: Path) -> None:
    network = made(Rooted)
    structure = discover(network, images(), form="graph")
    assert structure.sizes == ((None, 3, 16, None),)
    small, reference = cut(network, structure)
    torch.testing.assert_close(small(images()), reference(images()))
    save_program(small, images(), tmp_path / "small.pt2")
    for model in (small, load_program(tmp_path / "small.pt2")):
        with pytest.raises(StructureError) as error:
            model(images((24, 16)))
        assert str(error.value).startswith(
            "an input is of shape (4, 3, 24, 16), but this model is the exported graph of one for (any, 3, 16, any), in"
            " which sizes are written down: "
        )
        with pytest.raises(StructureError, match=r"of shape \(3, 16, 16\)"):
            model(images()[0])


def test_sizes_that_hang_together_are_free_together() -> None:
    network = made(Texts)
    ids = torch.randint(0, 20, (4, 6), generator=torch.Generator().manual_seed(0))
    mask = torch.ones(4, 6)
    structure = discover(network, {"ids": ids, "mask": mask}, form="graph")
    assert structure.sizes == ((None, None), (None, None))
    small, reference = cut(network, structure)
    assert isinstance(small, GraphNetwork)
    with torch.no_grad():
        for length in (1, 6, 11, 40):
            ids = torch.randint(0, 20, (3, length))
            given = {"ids": ids, "mask": (ids > 3).float()}
            torch.testing.assert_close(small(**given), reference(**given))


def test_modules_take_what_they_take() -> None:
    structure = discover(made(lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 2, 3))), images())
    assert (structure.form, structure.sizes) == ("modules", None)


class Standardised(nn.Module):
    """Its weight goes through a norm that has no tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.a.weight.reshape(1, 8, -1)
        weight = functional.batch_norm(weight, None, None, training=True, momentum=0.0).reshape_as(self.a.weight)
        return self.b(functional.conv2d(x, weight).relu().mean((2, 3)))


def test_a_norm_without_tensors_is_saved(tmp_path: Path) -> None:
    network = made(Standardised)
    save_program(network, images(), tmp_path / "net.pt2")
    with torch.no_grad():
        torch.testing.assert_close(load_program(tmp_path / "net.pt2")(images()), network(images()))


def test_a_trace_of_symbols_that_takes_too_long_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    network, inputs = (
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3)),
        Inputs((torch.randn(2, 3, 9, 9),)),
    )
    assert symbolic.symbolic_graph(network, inputs) is not None
    for calls in range(6):  # each look at the clock is a second
        clock = itertools.count()
        monkeypatch.setattr(symbolic, "time", SimpleNamespace(process_time=lambda clock=clock: next(clock)))
        monkeypatch.setattr(symbolic, "_PATIENCE_S", calls)
        assert symbolic.symbolic_graph(network, inputs) is None
        assert torch.is_grad_enabled()
