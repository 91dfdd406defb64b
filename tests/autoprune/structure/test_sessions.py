"""Cuts of cuts: the same as one cut of the dense network; and groups, scores, rows and costs of what is left."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import pytest
import torch
from torch import Tensor, nn

from autoprune.errors import StructureError
from autoprune.plugin import Group
from autoprune.structure import Structure, discover

from .nets import CASES, Case, cbr, discovered, example, perturb
from .test_granularities import IMAGES, resnet

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN"),
]

GRAPHS = (
    "registered",
    "shared",
    "option-a",
    "split-halves",
    "fixed-view",
    "resnext",
    "recurrent",
    "packed",
    "encoder-layers",
    "two-inputs",
)


@pytest.fixture(scope="module", params=[(name, "modules") for name in CASES] + [(name, "graph") for name in GRAPHS])
def found(request: pytest.FixtureRequest) -> tuple[Case, nn.Module, Structure]:
    name, form = request.param
    return CASES[name], *discovered(name, form)


def some_of(units: Tensor, generator: torch.Generator) -> Tensor:
    """At least one of them, sorted."""
    stays = int(torch.randint(1, len(units) + 1, (), generator=generator))
    return units[torch.randperm(len(units), generator=generator)[:stays]].sort().values


def rounds(structure: Structure, count: int, seed: int = 0) -> list[dict[str, Tensor]]:
    """Units that stay, fewer each time; every round but the last leaves out some groups."""
    generator = torch.Generator().manual_seed(seed)
    kept = {group.name: torch.arange(group.units) for group in structure.groups}
    result = []
    for number in range(count):
        told = {}
        for place, group in enumerate(structure.groups):
            if number == count - 1 or (place + number) % 3:
                told[group.name] = kept[group.name] = some_of(kept[group.name], generator)
        result.append(told)
    return result


def assert_same(actual: nn.Module, expected: nn.Module) -> None:
    """Bit for bit, attributes too."""
    assert str(actual) == str(expected)
    left, right = actual.state_dict(), expected.state_dict()
    assert left.keys() == right.keys()
    assert all(torch.equal(left[name], right[name]) for name in left)
    for (_, a), (_, b) in zip(actual.named_modules(), expected.named_modules(), strict=True):
        assert type(a).__name__ == type(b).__name__
        plain = {k: v for k, v in vars(b).items() if isinstance(v, int | tuple | str)}
        assert {k: vars(a)[k] for k in plain} == plain


def test_cuts_compose(found: tuple[Case, nn.Module, Structure]) -> None:
    case, net, structure = found
    small, kept = net, dict[str, Tensor]()
    for told in rounds(structure, 3):
        small = structure.cut(small, told, before=kept)
        kept |= told
    at_once = structure.cut(net, kept)
    assert_same(small, at_once)
    inputs = example(case, samples=3, seed=3)
    with torch.no_grad():
        assert torch.equal(small(*inputs), at_once(*inputs))
    copied = structure.cut(small, kept, before=kept)
    assert_same(copied, small)
    assert not {id(t) for t in copied.state_dict(keep_vars=True).values()} & {
        id(t) for t in small.state_dict(keep_vars=True).values()
    }


def test_a_cut_takes_the_weights_as_they_are(found: tuple[Case, nn.Module, Structure]) -> None:
    """Trained since, in ``train()`` or not; and the one that is cut again stays as it was."""
    _, net, structure = found
    first, second = rounds(structure, 2, seed=1)
    small = structure.cut(net, first)
    with torch.no_grad():
        for parameter in small.parameters():
            parameter.add_(1)
    before = {name: tensor.clone() for name, tensor in small.state_dict().items()}
    smaller = structure.cut(small, second, before=first)
    plain = structure.cut(net, {**first, **second})
    expected = {name: tensor + 1 for name, tensor in plain.named_parameters()}
    assert all(torch.equal(tensor, expected[name]) for name, tensor in smaller.named_parameters())
    assert all(torch.equal(before[name], tensor) for name, tensor in small.state_dict().items())
    assert structure.cut(small.train(), second, before=first).training


def test_what_is_whole_can_be_shared() -> None:
    net, structure = discovered("residual")
    small = structure.cut(net, {"stem": torch.arange(5)})
    shared = structure.cut(small, {"c.0": torch.arange(3)}, before={"stem": torch.arange(5)}, share=True)
    assert shared.stem is small.stem
    assert shared.c[0] is not small.c[0]


@pytest.mark.parametrize(
    ("kept", "before", "message"),
    [
        ({"stem": torch.tensor([1, 6])}, {"stem": torch.arange(5)}, "stem would keep units that an earlier cut took"),
        ({"stem": torch.tensor([], dtype=torch.int64)}, {}, "stem would lose all of its 8 units"),
        ({}, {"stum": torch.arange(2)}, "there is no group 'stum'"),
    ],
)
def test_what_is_gone_stays_gone(kept: dict[str, Tensor], before: dict[str, Tensor], message: str) -> None:
    net, structure = discovered("residual")
    with pytest.raises(StructureError, match=message):
        structure.cut(structure.cut(net, {"stem": torch.arange(5)}), kept, before=before)


@pytest.mark.parametrize(
    ("cut", "before", "message"),
    [
        ({}, {"stem": torch.arange(5)}, r"is of shape \(8, 3, 3, 3\), not \(5, 3, 3, 3\): .* not cut as it is said"),
        ({"stem": torch.arange(5)}, {}, r"is of shape \(5, 3, 3, 3\), not \(8, 3, 3, 3\): .* cut already, and nothing"),
        ({"stem": torch.arange(5)}, {"stem": torch.arange(6)}, "not cut as it is said"),
    ],
)
def test_another_network_than_is_said_is_refused(
    cut: dict[str, Tensor], before: dict[str, Tensor], message: str
) -> None:
    net, structure = discovered("residual")
    with pytest.raises(StructureError, match=message):
        structure.cut(structure.cut(net, cut), {"stem": torch.arange(3)}, before=before)


@pytest.mark.parametrize("masks", ["weights", "kernels", "2:4"])
@pytest.mark.parametrize("form", ["modules", "graph"])
def test_blocks_and_zeros_compose(masks: str, form: str) -> None:
    net = resnet()
    structure = discover(net, IMAGES, ["channels", "blocks", masks], form=form)
    generator = torch.Generator().manual_seed(0)
    scores = {g.name: torch.rand(g.units, generator=generator) for g in structure.groups}
    small, kept = net, dict[str, Tensor]()
    for share in (0.2, 0.4, 0.7):
        cut_units = {g.name: g.step if g.step > 1 else int(share * g.units) for g in structure.groups}
        gone = {name: structure.spread(name, _left(structure, scores[name], name, kept), kept) for name in scores}
        told = structure.select(gone, cut_units)
        small = structure.cut(small, told, before=kept)
        kept |= told
    at_once = structure.cut(net, kept)
    assert_same(small, at_once)
    with torch.no_grad():
        torch.testing.assert_close(small(*IMAGES), structure.masked(net, kept)(*IMAGES), atol=1e-5, rtol=1e-5)
        assert torch.equal(small(*IMAGES), at_once(*IMAGES))
    small.train()(*IMAGES).square().mean().backward()
    torch.optim.SGD(small.parameters(), lr=0.1).step()
    for name, tensor in at_once.named_parameters():
        assert (small.get_parameter(name)[tensor == 0] == 0).all(), "zeros stay through training"


def _left(structure: Structure, scores: Tensor, name: str, kept: Mapping[str, Tensor]) -> Tensor:
    """Scores of the units that are left, as a scorer of the cut network would give them."""
    left = by_name(structure.remaining(kept))[name]
    dense = by_name(structure.groups)[name]
    if not left.units or not dense.masked:
        return scores[kept[name]][: left.units] if name in kept else scores[: left.units]
    marks, _ = marked(resnet(), structure, {k: v for k, v in kept.items() if v.dtype != torch.bool})
    places = marks.get_parameter(name).detach().reshape(left.units, -1)[:, 0]
    return scores[places.long() * dense.units // resnet().get_parameter(name).numel()]


def by_name(groups: Sequence[Group]) -> dict[str, Group]:
    return {group.name: group for group in groups}


def marked(net: nn.Module, structure: Structure, kept: Mapping[str, Tensor]) -> tuple[nn.Module, dict[str, Tensor]]:
    """A cut whose tensors hold the places of their entries in the dense tensors, and the dense network's tensors."""
    net = copy.deepcopy(net).double()
    tensors = {**dict(net.named_parameters()), **dict(net.named_buffers())}
    with torch.no_grad():
        for tensor in tensors.values():
            tensor.copy_(torch.arange(tensor.numel()).view(tensor.shape))
    return structure.cut(net, kept), tensors


def test_remaining_groups_are_where_their_units_went(found: tuple[Case, nn.Module, Structure]) -> None:
    _, net, structure = found
    (kept,) = rounds(structure, 1, seed=2)
    small, dense = marked(net, structure, kept)
    tensors = {**dict(small.named_parameters()), **dict(small.named_buffers())}
    for old, new in zip(structure.groups, structure.remaining(kept), strict=True):
        assert (new.name, new.granularity, new.layers) == (old.name, old.granularity, old.layers)
        assert new.units == len(kept[old.name])
        for before, after in zip(old.slices, new.slices, strict=True):
            assert (after.parameter, after.dim, after.role) == (before.parameter, before.dim, before.role)
            for place, unit in enumerate(kept[old.name].tolist()):
                own = dense[before.parameter].index_select(before.dim, before.index[unit])
                left = tensors[after.parameter].index_select(after.dim, after.index[place])
                assert set(left.flatten().tolist()) <= set(own.flatten().tolist())
                assert left.shape[after.dim] == own.shape[before.dim]


@pytest.mark.parametrize("name", ["vgg", "residual", "u-net", "inception", "packed", "recurrent"])
def test_remaining_groups_are_what_is_found_in_the_smaller_network(name: str) -> None:
    net, structure = discovered(name)
    kept = {group.name: torch.arange(0, group.units, 2) for group in structure.groups}
    again = discover(structure.cut(net, kept), example(CASES[name]), form="modules")
    fresh = by_name(again.groups)
    for group in structure.remaining(kept):
        assert group.units == fresh[group.name].units
        for left, new in zip(group.slices, fresh[group.name].slices, strict=True):
            assert (left.parameter, left.dim, left.role) == (new.parameter, new.dim, new.role)
            assert torch.equal(left.index, new.index)


@pytest.mark.parametrize("masks", ["weights", "kernels", "2:4"])
def test_remaining_blocks_and_entries(masks: str) -> None:
    net = resnet()
    structure = discover(net, IMAGES, ["channels", "blocks", masks])
    generator = torch.Generator().manual_seed(4)
    scores = {g.name: torch.rand(g.units, generator=generator) for g in structure.groups}
    scores["blocks"] = torch.tensor([1.0, 0.0, 2.0])
    kept = structure.select(scores, {g.name: g.step if g.step > 1 else g.units // 3 for g in structure.groups})
    assert kept["blocks"].tolist() == [0, 2], "1.1 goes"
    small, dense = marked(net, structure, {k: v for k, v in kept.items() if v.dtype != torch.bool})
    left = by_name(structure.remaining(kept))
    assert left["blocks"].layers == ("1.0", "1.3")
    assert [len(names) for names in left["blocks"].owned] == [6, 6]
    for group in structure.groups:
        inside = "1.1." in group.masked or group.layers == ("1.1.first",)
        assert (left[group.name].units == 0) == inside, group.name
        assert not any(part.parameter.startswith("1.1.") for part in left[group.name].slices)
        own = torch.rand(left[group.name].units, generator=generator)
        wide = structure.spread(group.name, own, kept)
        assert wide.shape == (group.units,)
        if group.masked and not inside:
            per_unit = dense[group.masked].numel() // group.units
            places = small.get_parameter(group.masked).detach().reshape(len(own), -1)[:, 0].long() // per_unit
            expected = torch.full((group.units,), -torch.inf)
            expected[places] = own
            expected[~kept[group.name]] = -torch.inf
            assert torch.equal(wide, expected)
            if group.step > 1:
                assert len(own) // 2 // left[group.name].step == 1
        elif inside:
            assert (wide[kept[group.name]] == 0).all()
        else:
            assert torch.equal(wide[kept[group.name]], own)
            assert (wide == -torch.inf).sum() == group.units - len(own)


def test_rows_are_the_outputs_that_stayed(found: tuple[Case, nn.Module, Structure]) -> None:
    """Of every layer with a bias or running statistics, which are one number for each output."""
    case, net, structure = found
    (kept,) = rounds(structure, 1, seed=5)
    small, _ = marked(net, structure, kept)
    checked = 0
    for name, module in net.named_modules():
        told = dict(module.named_parameters(recurse=False)) | dict(module.named_buffers(recurse=False))
        one = next((n for n in ("bias", "in_proj_bias", "running_mean") if told.get(n) is not None), None)
        if one is None or isinstance(module, nn.MultiheadAttention):
            continue
        left = dict(small.named_parameters(remove_duplicate=False)) | dict(small.named_buffers(remove_duplicate=False))
        if f"{name}.{one}" in left:
            assert structure.rows(kept, name).tolist() == left[f"{name}.{one}"].tolist(), name
            checked += 1
    assert checked or case is CASES["grouped-query"]


def test_rows_without_a_bias() -> None:
    _, structure = discovered("recurrent")
    kept = {"embedding": torch.tensor([0, 3]), "lstm": torch.tensor([1, 4]), "gru": torch.tensor([2])}
    assert structure.rows(kept, "embedding").tolist() == [0, 3]
    assert structure.rows(kept, "lstm").tolist() == [1, 4, 7, 10], "both directions of the last layer"
    assert structure.rows(kept, "linear").tolist() == [0, 1, 2]
    with pytest.raises(StructureError, match="there is no layer 'lst' that makes outputs"):
        structure.rows(kept, "lst")
    _, structure = discovered("resnext")
    kept = {"narrow.0.0": torch.tensor([1, 6])}
    assert structure.rows(kept, "narrow.1.0").tolist() == [4, 5, 6, 7, 24, 25, 26, 27], "two of eight groups"
    blocks = discover(resnet(), IMAGES, ["blocks"])
    assert blocks.rows({"blocks": torch.tensor([0])}, "1.1.first").tolist() == []
    assert blocks.rows({"blocks": torch.tensor([0])}, "1.0.first").tolist() == list(range(8))


def test_costs_of_layers_are_what_is_counted(found: tuple[Case, nn.Module, Structure]) -> None:
    case, net, structure = found
    (kept,) = rounds(structure, 1, seed=6)
    cut_units = {group.name: group.units - len(kept[group.name]) for group in structure.groups}
    small, costs, layers = structure.cut(net, kept), structure.costs(cut_units), structure.layer_costs(cut_units)
    for what in ("params", "bytes", "nonzero"):
        assert sum(getattr(layer.costs, what) for layer in layers.values()) == getattr(costs, what)
    own = dict(small.named_parameters(remove_duplicate=False)) | dict(small.named_buffers(remove_duplicate=False))
    for name, layer in layers.items():
        assert layer.kind == type(net.get_submodule(name)).__name__
        for local, shape in layer.shapes.items():
            full = f"{name}.{local}" if name else local
            assert full not in own or own[full].shape == shape
    macs = macs_of_layers(small, example(case, samples=1)) if structure.form == "modules" else {}
    assert {name: layers[name].costs.macs for name in macs} == macs


def macs_of_layers(net: nn.Module, inputs: tuple[Tensor, ...]) -> dict[str, int]:
    """Multiply-accumulates by hooks on the layers as they run."""
    found: dict[str, int] = {}

    def watch(name: str, module: nn.Module) -> None:
        def hook(_: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
            if isinstance(module, nn.Linear):
                count = module.weight.numel() * (output.numel() // output.shape[-1])
            else:
                positions = args[0] if module.transposed else output
                count = module.weight.numel() * (positions.numel() // positions.shape[1])
            found[name] = found.get(name, 0) + count

        if isinstance(module, nn.Linear | nn.modules.conv._ConvNd):
            module.register_forward_hook(hook)

    net = copy.deepcopy(net)
    for name, module in net.named_modules():
        watch(name, module)
    with torch.no_grad():
        net(*inputs)
    return found


def test_tied_weights_of_a_block_that_is_left_out_go_on() -> None:
    """The first name of a weight goes with its block; the cut of the cut finds it by the other."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.outer = nn.Conv2d(8, 6, 3, padding=1), nn.Conv2d(6, 8, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            return x + self.outer(self.inner(x).relu())

    torch.manual_seed(0)
    net = nn.Sequential(cbr(3, 8), Block(), Block(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3))
    net[2].inner.weight, net[2].inner.bias = net[1].inner.weight, net[1].inner.bias
    net[2].outer.weight = net[1].outer.weight
    perturb(net)
    structure = discover(net, IMAGES, ["channels", "blocks"], form="modules")
    first = {"blocks": torch.tensor([1])}
    inner = next(group for group in structure.groups if "1.inner" in group.layers)
    second = {inner.name: torch.tensor([0, 2, 5]), "0.0": torch.tensor([1, 2, 7])}
    small = structure.cut(structure.cut(net, first), second, before=first)
    assert_same(small, structure.cut(net, {**first, **second}))
    with torch.no_grad():
        expected = structure.masked(net, {**first, **second})(*IMAGES)
        torch.testing.assert_close(small(*IMAGES), expected, atol=1e-5, rtol=1e-5)
