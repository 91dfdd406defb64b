"""What is found, what is refused and why."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autoprune.errors import StructureError
from autoprune.structure import Structure, discover
from autoprune.structure.graph.ties import Ties

from .nets import CASES, discovered, example, perturb


def structure_of(name: str) -> Structure:
    return discovered(name)[1]


def reasons(structure: Structure, layer: str) -> str:
    return " | ".join(uncut.reason for uncut in structure.uncut if uncut.layer == layer)


def test_option_a_couples_the_stream_at_its_offset() -> None:
    stream = structure_of("option-a").groups[0]
    assert stream.layers == ("stem.0", "a.0", "b.0", "c.0")
    rows = {part.parameter: part.index.flatten().tolist() for part in stream.slices if part.role == "output"}
    assert rows["stem.0.weight"] == list(range(8))
    assert rows["b.0.weight"] == list(range(4, 12)), "padded by four channels on either side"


def test_roles_tell_rows_columns_and_vectors() -> None:
    group = next(g for g in structure_of("vgg").groups if g.name == "features.2.0")
    roles = {(part.parameter, part.dim): (part.role, tuple(part.index.shape)) for part in group.slices}
    assert roles == {
        ("features.2.0.weight", 0): ("output", (12, 1)),
        ("features.2.1.weight", 0): ("vector", (12, 1)),
        ("features.2.1.bias", 0): ("vector", (12, 1)),
        ("features.2.1.running_mean", 0): ("vector", (12, 1)),
        ("features.2.1.running_var", 0): ("vector", (12, 1)),
        ("classifier.0.weight", 1): ("input", (12, 16)),  # every channel is read at 4 × 4 places
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    ("net", "layer", "reason"),
    [
        ("vgg", "classifier.5", "output of the model"),
        ("option-a", "b.0", "tied to a constant or an input by aten.add.Tensor"),
        ("unknown", "b.0", "aten::renorm in the model has no rule"),
        ("fixed-view", "b.0", "does not run"),
        ("u-net", "out", "output of the model"),
        ("spatial-attention", "map", ""),
    ],
)
def test_says_why_units_stay(net: str, layer: str, reason: str) -> None:
    assert reason in reasons(structure_of(net), layer)


class Untraceable(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) if x.sum() > 0 else x


def test_untraceable_model_is_one_clear_error() -> None:
    with pytest.raises(StructureError, match=r"torch.export cannot trace Untraceable"):
        discover(Untraceable(), (torch.ones(2, 4),))


class LyingView(nn.Module):
    """Runs after a cut, but means something else: the fixed slice then takes other channels."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 12), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.a(x))
        return self.b(y[:, :6] + y[:, -6:])


def test_a_cut_that_runs_but_differs_is_not_offered() -> None:
    torch.manual_seed(0)
    structure = discover(LyingView(), (torch.randn(2, 6),), form="modules")
    assert structure.groups == ()
    assert "a" in {uncut.layer for uncut in structure.uncut}


def test_a_model_that_returns_nan_is_told_so() -> None:
    net = CASES["vgg"].make().eval()
    with torch.no_grad():
        net.classifier[0].bias.fill_(float("nan"))
    with pytest.raises(StructureError, match="Vgg returns NaN on the example"):
        discover(net, example(CASES["vgg"]))


def test_training_mode_and_hooks_survive_discovery() -> None:
    net = CASES["residual"].make().train()
    net.a.eval()
    discover(net, example(CASES["residual"]))
    assert net.training
    assert not net.a.training
    assert net.b.training


def test_frozen_parameters_are_cut_too() -> None:
    net = perturb(CASES["vgg"].make()).requires_grad_(False)
    structure = discover(net, example(CASES["vgg"]))
    small = structure.cut(net, {"features.0.0": torch.tensor([1, 4])})
    assert small.features[0][0].out_channels == 2
    assert not any(p.requires_grad for p in small.parameters())


@pytest.mark.parametrize(
    ("kept", "message"),
    [
        ({"features.0.0": torch.tensor([], dtype=torch.int64)}, "lose all of its 8 units"),
        ({"nope": torch.tensor([0])}, "no group 'nope'"),
    ],
)
def test_impossible_cuts_are_refused(kept: dict[str, Tensor], message: str) -> None:
    net, structure = discovered("vgg")
    with pytest.raises(StructureError, match=message):
        structure.cut(net, kept)


def test_components_against_a_plain_union_find() -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        size = int(torch.randint(2, 200, (), generator=generator))
        pairs = torch.randint(1, size, (int(torch.randint(1, size, (), generator=generator)), 2), generator=generator)
        ties = Ties()
        ties.tie(pairs[:, 0], pairs[:, 1])
        parent = list(range(size))

        def find(label: int, parent: list[int] = parent) -> int:
            while parent[label] != label:
                label = parent[label]
            return label

        for a, b in pairs.tolist():
            low, high = sorted((find(a), find(b)))
            parent[high] = low
        assert ties.components(size).tolist() == [find(label) for label in range(size)]
