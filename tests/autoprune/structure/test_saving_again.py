"""A network that `load_pruned` gave is saved again after training; what would not open as it was is refused."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from autoprune import save_pruned
from autoprune.errors import StructureError
from autoprune.host.plugins import PluginHost
from autoprune.plugin import ModelSource, SourceContext, Transform
from autoprune.structure import discover, load_pruned, read_recipe, write_pruned

from .nets import perturb
from .toy_source import Toy

X = torch.randn(12, 3, 8, 8, generator=torch.Generator().manual_seed(3))


def dense() -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU(), nn.Flatten(), nn.Linear(12 * 64, 4)
    return perturb(nn.Sequential(*layers)).eval()


def saved(folder: Path, *, granularities: tuple[str, ...] = ("channels",), form: Any = "modules") -> Path:
    """A cut of the dense network as a search saves it."""
    net = dense()
    structure = discover(net, (X,), granularities, form=form)
    cut_units = {group.name: group.units // 3 for group in structure.groups}
    scores = {g.name: torch.rand(g.units, generator=torch.Generator().manual_seed(1)) for g in structure.groups}
    kept = structure.select(scores, cut_units)
    write_pruned(
        folder,
        structure.cut(net, kept).eval(),
        plan=structure.plan(net, kept),
        kept=kept,
        cut_units=cut_units,
        source=Toy(case="vgg"),
        ctx=SourceContext(folder=folder, cache=folder, seed=0),
        example=structure.example,
    )
    return folder


def trained(network: nn.Module) -> nn.Module:
    """A loop as users write it; leaves the network in ``eval()``."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.05, weight_decay=0.1)
    network.train()
    for _ in range(3):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(X), torch.arange(len(X)) % 4).backward()
        optimizer.step()
    return network.eval()


def said(network: nn.Module) -> Tensor:
    with torch.no_grad():
        return network(X)


@pytest.mark.parametrize("copied", [lambda net: net, copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_a_trained_network_opens_again_as_it_was(copied: Callable[[Any], Any], tmp_path: Path) -> None:
    first = load_pruned(saved(tmp_path / "first"), dense=dense())
    network = trained(copied(first))
    save_pruned(network, tmp_path / "tuned")
    opened = load_pruned(tmp_path / "tuned", dense=dense())
    assert torch.equal(said(opened), said(network))
    assert not torch.allclose(said(opened), said(load_pruned(tmp_path / "first", dense=dense()))), "it was trained"
    assert read_recipe(tmp_path / "tuned") == read_recipe(tmp_path / "first")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first", "tuned"]
    save_pruned(trained(opened), tmp_path / "tuned")  # over itself
    assert torch.equal(said(load_pruned(tmp_path / "tuned", dense=dense())), said(opened))


@pytest.mark.parametrize("copied", [lambda net: net, copy.deepcopy])
def test_zeros_stay_in_copies_that_are_trained_too(copied: Callable[[Any], Any], tmp_path: Path) -> None:
    first = load_pruned(saved(tmp_path / "first", granularities=("channels", "weights")), dense=dense())
    zeros = {name: parameter == 0 for name, parameter in first.named_parameters()}
    assert sum(int(zero.sum()) for zero in zeros.values()) > 100
    network = trained(copied(first))
    for name, parameter in network.named_parameters():
        assert torch.equal(parameter == 0, zeros[name]), name
    save_pruned(network, tmp_path / "tuned")
    opened = trained(load_pruned(tmp_path / "tuned", dense=dense()))
    for name, parameter in opened.named_parameters():
        assert torch.equal(parameter == 0, zeros[name]), name


def test_a_model_without_its_original_folder_is_saved_all_the_same(tmp_path: Path) -> None:
    network = trained(load_pruned(saved(tmp_path / "first"), dense=dense()))
    (tmp_path / "first").rename(tmp_path / "elsewhere")
    save_pruned(network, tmp_path / "tuned")
    assert torch.equal(said(load_pruned(tmp_path / "tuned", dense=dense())), said(network))


@pytest.mark.slow
def test_an_exported_graph_is_saved_again(tmp_path: Path) -> None:
    first = load_pruned(saved(tmp_path / "first", granularities=("channels", "weights"), form="graph"))
    zeros = {name: parameter == 0 for name, parameter in first.named_parameters()}
    network = trained(copy.deepcopy(first))
    save_pruned(network, tmp_path / "tuned")
    opened = load_pruned(tmp_path / "tuned")
    assert torch.equal(said(opened), said(network))
    assert not torch.allclose(said(opened), said(first))
    for name, parameter in opened.named_parameters():
        assert torch.equal(parameter == 0, zeros[name]), name
    (tmp_path / "first" / "program.pt2").unlink()
    with pytest.raises(StructureError, match=r"first/program.pt2 cannot be opened as an exported program"):
        save_pruned(network, tmp_path / "again")


def test_what_replaced_modules_comes_along_with_its_file(tmp_path: Path) -> None:
    host = PluginHost()
    file = Path(__file__).with_name("thin.py")
    host.load_file(file)
    source, thin = host(ModelSource, "wide-net")(), host(Transform, "thin")()
    net = source.build(None)
    x = torch.randn(5, 6, generator=torch.Generator().manual_seed(2))
    structure = discover(net, (x,))
    kept = {"0": torch.arange(20)}
    network = thin.apply(structure.cut(net, kept), {"2": 3.0}, None).eval()
    write_pruned(
        tmp_path / "first",
        network,
        plan=structure.plan(net, kept),
        kept=kept,
        cut_units={},
        source=source,
        ctx=SourceContext(folder=tmp_path, cache=tmp_path, seed=0),
        transforms=[(thin, {"2": 3.0})],
        plugins=[file],
    )
    opened = load_pruned(tmp_path / "first", trust=True)
    with torch.no_grad():
        opened.get_submodule("2.0").weight.mul_(2)
        save_pruned(opened, tmp_path / "tuned")
        assert torch.equal(load_pruned(tmp_path / "tuned", trust=True)(x), opened(x))
    assert (tmp_path / "tuned" / "plugins" / "thin.py").read_bytes() == file.read_bytes()


def widened(network: nn.Module) -> nn.Module:
    network[4] = nn.Linear(network[4].in_features, 7)
    return network


def added(network: nn.Module) -> nn.Module:
    network.add_module("more", nn.ReLU())
    return network


def exchanged(network: nn.Module) -> nn.Module:
    network[2] = nn.GELU()
    return network


def hooked(network: nn.Module) -> nn.Module:
    network[2].register_forward_hook(lambda module, inputs, output: output * 2)
    return network


def revived(network: nn.Module) -> nn.Module:
    with torch.no_grad():
        network[4].weight.fill_(1.0)
    return network


def with_a_buffer(network: nn.Module) -> nn.Module:
    network.register_buffer("seen", torch.zeros(3))
    return network


def parametrized(network: nn.Module) -> nn.Module:
    return nn.utils.parametrizations.weight_norm(network[4]) and network


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda net: dense(), "this Sequential did not come from autoprune.load_pruned, so nothing is known of how"),
        (lambda net: nn.Sequential(nn.ReLU(), net), "this Sequential is around a network that .* gave; save its '1'"),
        (nn.DataParallel, "this DataParallel is around a network that load_pruned gave; save its 'module'"),
        (widened, r"4.weight is \(7, 512\), no longer \(4, 512\): the network is not what its recipe makes any more"),
        (added, r"module more \(ReLU\) is new"),
        (exchanged, "module 2 is a GELU, no longer a ReLU"),
        (lambda net: delattr(net, "2") or net, "module 2 is gone"),
        (hooked, "module 2 has a hook"),
        (parametrized, "module 4 is a ParametrizedLinear, no longer a Linear"),
        (with_a_buffer, "seen is new"),
        (revived, "weights are no longer zero that the search has set to zero for good"),
    ],
)  # fmt: skip
def test_what_would_not_open_as_it_was_is_refused_in_a_line(
    change: Callable[[Any], nn.Module], message: str, tmp_path: Path
) -> None:
    network = load_pruned(saved(tmp_path / "first", granularities=("channels", "weights")), dense=dense())
    with pytest.raises(StructureError, match=message) as error:
        save_pruned(change(network), tmp_path / "tuned")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "tuned").exists()


def test_no_other_folder_is_overwritten(tmp_path: Path) -> None:
    network = load_pruned(saved(tmp_path / "study" / "models" / "7"), dense=dense())
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "thesis.txt").write_text("years of work")
    with pytest.raises(StructureError, match="notes is not empty and holds no saved model; choose another folder"):
        save_pruned(network, tmp_path / "notes")
    assert (tmp_path / "notes" / "thesis.txt").exists()
    (tmp_path / "study" / "study.json").write_text("{}")
    with pytest.raises(StructureError, match="where the model is that was measured; choose another folder"):
        save_pruned(network, tmp_path / "study" / "models" / "7")
