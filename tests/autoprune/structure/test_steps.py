"""Saved models whose modules were replaced: steps of the recipe, rebuilt without data, pruned again."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from autoprune.errors import StructureError
from autoprune.host.plugins import PluginHost
from autoprune.plugin import Choices, Data, ModelSource, SourceContext, Transform
from autoprune.structure import (
    CutStep,
    Plan,
    Structure,
    TransformStep,
    discover,
    load_pruned,
    read_recipe,
    write_pruned,
)
from tests import opening
from tests.fresh import returned

from .nets import discovered
from .toy_source import Toy

FILE = Path(__file__).with_name("thin.py")
X = torch.randn(5, 6, generator=torch.Generator().manual_seed(2))


@pytest.fixture(scope="module")
def host() -> PluginHost:
    host = PluginHost()
    host.load_file(FILE)
    return host


class Again(ModelSource):
    """Opens a saved model, to be pruned on."""

    name = "again"
    path: Path

    def build(self, ctx: SourceContext) -> nn.Module:
        return load_pruned(self.path, trust=True)

    def load(self, data: Data, ctx: SourceContext) -> nn.Module:
        return self.build(ctx)

    def pruned_in(self, ctx: SourceContext) -> Path:
        return self.path


def saved(
    host: PluginHost, folder: Path, source: ModelSource, kept: dict[str, list[int]], *steps: tuple[Transform, Choices]
) -> nn.Module:
    """The source's model, cut and transformed, as it was saved."""
    ctx = SourceContext(folder=folder.parent, cache=folder.parent, seed=0)
    dense = source.build(ctx)
    structure = discover(dense, (X,))
    units = {name: torch.tensor(stays) for name, stays in kept.items()}
    network = structure.cut(dense, units).eval()
    for transform, choice in steps:
        network = transform.apply(network, choice, None).eval()
    write_pruned(
        folder,
        network,
        plan=structure.plan(dense, units),
        kept=units,
        cut_units={g.name: g.units - len(units[g.name]) for g in structure.groups if g.name in units},
        source=source,
        ctx=ctx,
        transforms=steps,
        plugins=[FILE] if isinstance(source, host(ModelSource, "wide-net")) or steps else [],
    )
    return network


def thin(host: PluginHost, **options: bool) -> Transform:
    return host(Transform, "thin")(**options)


def test_replaced_modules_come_back_with_their_weights(host: PluginHost, tmp_path: Path) -> None:
    source = host(ModelSource, "wide-net")()
    network = saved(
        host, tmp_path / "m", source, {"0": list(range(20)), "2": [0, 5, 7]},
        (thin(host), {"0": 3.0}), (thin(host, bias=False), {"4": 1.0}),
    )  # fmt: skip
    opened = load_pruned(tmp_path / "m", trust=True)
    assert str(opened) == str(network)
    with torch.no_grad():
        assert torch.equal(opened(X), network(X))
    first, *rest = read_recipe(tmp_path / "m").steps
    assert isinstance(first, CutStep)
    assert rest == [
        TransformStep(transform={"use": "thin", "bias": True}, choice={"0": 3.0}),
        TransformStep(transform={"use": "thin", "bias": False}, choice={"4": 1.0}),
    ]
    assert sorted(str(p.relative_to(tmp_path / "m")) for p in (tmp_path / "m").rglob("*.*")) == [
        "plugins/thin.py", "recipe.json", "weights.safetensors",
    ]  # fmt: skip
    dense = source.build(None)
    before = copy.deepcopy(dense.state_dict())
    with torch.no_grad():
        assert torch.equal(load_pruned(tmp_path / "m", dense=dense, trust=True)(X), network(X))
    assert all(torch.equal(tensor, before[name]) for name, tensor in dense.state_dict().items())


@pytest.mark.slow
def test_code_beside_a_model_runs_in_a_new_process_only_if_it_is_trusted(host: PluginHost, tmp_path: Path) -> None:
    network = saved(host, tmp_path / "m", host(ModelSource, "wide-net")(), {"0": [1, 2, 9]}, (thin(host), {"2": 2.0}))
    again = saved(host, tmp_path / "n", Again(path=tmp_path / "m"), {"0": [0, 2]}, (thin(host), {"4": 2.0}))
    with pytest.raises(AssertionError) as refused:
        returned(opening.model, tmp_path / "m", X.tolist(), {})
    brings = f"{tmp_path / 'm'} is opened by code that it brings along (plugins/thin.py); if you trust it"
    assert f"{brings}, let it run with trust=True" in str(refused.value)
    for folder, expected in ((tmp_path / "m", network), (tmp_path / "n", again)):
        said = returned(opening.model, folder, X.tolist(), {"trust": True})
        torch.testing.assert_close(torch.tensor(said), expected(X))


@pytest.mark.slow
def test_a_model_is_pruned_again_and_again(host: PluginHost, tmp_path: Path) -> None:
    """Cuts in a row are one step; after a transform a cut is a step of its own."""
    source: ModelSource = host(ModelSource, "wide-net")()
    rounds: list[tuple[dict[str, list[int]], tuple[tuple[Transform, Choices], ...]]] = [
        ({"0": list(range(2, 20))}, ()),
        ({"0": list(range(10)), "2": [1, 2, 3, 4, 5, 6]}, ((thin(host), {"0": 4.0}),)),
        ({"2": [0, 1, 4]}, ()),
        ({"0.1": list(range(1, 8))}, ()),
        ({"2": [0, 2]}, ((thin(host), {"4": 1.0}),)),
    ]
    for number, (kept, steps) in enumerate(rounds):
        network = saved(host, tmp_path / str(number), source, kept, *steps)
        source = Again(path=tmp_path / str(number))
        with torch.no_grad():
            assert torch.equal(load_pruned(tmp_path / str(number), trust=True)(X), network(X)), number
    recipe = read_recipe(tmp_path / "4")
    assert [type(step) for step in recipe.steps] == [CutStep, TransformStep, CutStep, TransformStep]
    assert recipe.steps[0].kept["0.weight"][0] == list(range(2, 12))
    assert recipe.steps[2].kept["0.1.weight"][0] == list(range(1, 8))
    assert recipe.steps[2].kept["2.weight"] == {0: [0, 4], 1: list(range(1, 8))}
    assert recipe.model == {"use": "wide-net"}
    assert recipe.plugins == ("thin.py",)
    assert recipe.cut_units == {"2": 1}
    for number in range(4):
        for file in sorted((tmp_path / str(number)).rglob("*.*")):
            file.unlink()
    with torch.no_grad():
        assert torch.equal(load_pruned(tmp_path / "4", trust=True)(X), network(X)), "it needs none of those before it"


def test_zeros_stay_where_layers_do(host: PluginHost, tmp_path: Path) -> None:
    source = host(ModelSource, "wide-net")()
    ctx = SourceContext(folder=tmp_path, cache=tmp_path, seed=0)
    dense = source.build(ctx)
    structure = discover(dense, (X,), ["weights"])
    ranks = torch.Generator().manual_seed(0)
    kept = structure.select(
        {g.name: torch.rand(g.units, generator=ranks) for g in structure.groups},
        {g.name: g.units // 2 for g in structure.groups},
    )
    network = thin(host).apply(structure.cut(dense, kept), {"2": 3.0}, None)
    write_pruned(
        tmp_path / "m", network, plan=structure.plan(dense, kept), kept=kept, cut_units={}, source=source, ctx=ctx,
        transforms=[(thin(host), {"2": 3.0})], plugins=[FILE, FILE],
    )  # fmt: skip
    assert read_recipe(tmp_path / "m").masks == ("0.weight", "4.weight")
    opened = load_pruned(tmp_path / "m", trust=True).train()
    zeros = {name: tensor == 0 for name, tensor in opened.named_parameters()}
    assert zeros["0.weight"].sum() == 90
    opened(X).square().mean().backward()
    torch.optim.SGD(opened.parameters(), lr=0.1, weight_decay=0.1).step()
    assert (opened.get_parameter("0.weight")[zeros["0.weight"]] == 0).all()


def test_files_of_one_name_are_kept_apart(host: PluginHost, tmp_path: Path) -> None:
    other = tmp_path / "other" / "thin.py"
    other.parent.mkdir()
    other.write_text(FILE.read_text().replace('"wide-net"', '"wider-net"').replace('"thin"', '"thinner"'))
    host.load_file(other)
    structure, dense = discover(host(ModelSource, "wide-net")().build(None), (X,)), host(ModelSource, "wide-net")()
    network = thin(host).apply(structure.cut(dense.build(None), {}), {"2": 3.0}, None)
    write_pruned(
        tmp_path / "m", network, plan=Plan({}), kept={}, cut_units={}, source=dense,
        ctx=SourceContext(folder=tmp_path, cache=tmp_path, seed=0),
        transforms=[(thin(host), {"2": 3.0})], plugins=[other, FILE],
    )  # fmt: skip
    assert read_recipe(tmp_path / "m").plugins == ("thin.py", "thin_2.py")
    with torch.no_grad():
        assert torch.equal(load_pruned(tmp_path / "m", trust=True)(X), network(X))


@pytest.mark.slow
def test_a_graph_has_no_modules_to_replace(host: PluginHost, tmp_path: Path) -> None:
    net, structure = discovered("vgg", "graph")
    with pytest.raises(StructureError, match=r"^thin: the network is an exported graph, without modules"):
        write_pruned(
            tmp_path, structure.cut(net, {}), plan=Plan({}), kept={}, cut_units={}, source=Toy(case="vgg"),
            ctx=SourceContext(folder=tmp_path, cache=tmp_path, seed=0), example=structure.example,
            transforms=[(thin(host), {})],
        )  # fmt: skip
    assert not list(tmp_path.iterdir())


class Packed(nn.Linear):
    """Keeps something that is no tensor of its own."""

    def get_extra_state(self) -> dict[str, int]:
        return {"scale": 3}

    def set_extra_state(self, state: object) -> None:
        pass


def test_what_is_no_tensor_cannot_be_saved(tmp_path: Path) -> None:
    with pytest.raises(StructureError, match=r"0\._extra_state of Sequential is no parameter or buffer"):
        write_pruned(
            tmp_path, nn.Sequential(Packed(2, 2)), plan=Plan({}), kept={}, cut_units={}, source=Toy(case="vgg"),
            ctx=SourceContext(folder=tmp_path, cache=tmp_path, seed=0),
        )  # fmt: skip


def damaged(structure: Structure, net: nn.Module, folder: Path, **changes: object) -> None:
    kept: dict[str, Tensor] = {"features.0.0": torch.tensor([1, 2, 5])}
    write_pruned(
        folder, structure.cut(net, kept), plan=structure.plan(net, kept), kept=kept, cut_units={},
        source=Toy(case="vgg"), ctx=SourceContext(folder=folder, cache=folder, seed=0),
    )  # fmt: skip
    recipe = json.loads((folder / "recipe.json").read_text())
    for key, value in changes.items():
        if key in recipe:
            recipe[key] = value
        else:
            recipe["steps"][0][key] |= value
    (folder / "recipe.json").write_text(json.dumps(recipe))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kept": {"features.0.0.weight": {"0": [1, 2, 8]}}}, "has no such indices along dimension 0"),
        ({"kept": {"features.0.0.weight": {"0": [-1, 2, 5]}}}, "has no such indices along dimension 0"),
        ({"kept": {"features.0.0.weight": {"0": [2, 2, 5]}}}, "has no such indices along dimension 0"),
        ({"kept": {"features.0.0.weight": {"4": [1, 2, 5]}}}, "has no such indices along dimension 4"),
        ({"kept": {"nothing": {"0": [1]}}}, "has no parameter 'nothing'"),
        ({"attributes": {"features.0.0": {"forward": 3}}}, "holds no such size 'forward' in module 'features.0.0'"),
        ({"attributes": {"features.0.0": {"bias": 3}}}, "holds no such size 'bias'"),
        ({"attributes": {"features.9": {"out_channels": 3}}}, "has no module 'features.9'"),
        ({"bypassed": {"block": 0}}, "has no module 'block'"),
        ({"format": 1}, "is of format 1; this version reads format 2"),
        ({"plugins": ["../thin.py"]}, "is no recipe"),
        ({"plugins": ["thin.py"], "steps": [{"transform": {"use": "thin"}}]}, r"thin\.py: cannot be read"),
        ({"steps": [{"transform": {"use": "thyn"}}]}, "no transform is called 'thyn'"),
    ],
)
def test_a_recipe_is_checked_before_it_is_used(changes: dict[str, object], message: str, tmp_path: Path) -> None:
    net, structure = discovered("vgg")
    damaged(structure, net, tmp_path, **changes)
    with pytest.raises(StructureError, match=message):
        load_pruned(tmp_path, dense=net)
