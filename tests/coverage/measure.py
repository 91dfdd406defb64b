"""What one case shows: ours first, then Torch-Pruning on a fresh copy of the same network."""

from __future__ import annotations

import copy
import time
import warnings
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from autoprune.structure import Structure, discover

from .further import apart, leaves, resized, save, trained
from .zoo import Case, cases

RATIOS = (0.9, 0.5, 0.3)
"""Pruning ratios at which both engines are asked for a model; the smallest model that runs counts."""

Row = dict[str, Any]


def report(key: str, folder: Path, connection: Connection) -> None:
    """Send the row of a case, piece by piece, and leave a cut model in the folder."""
    torch.set_num_threads(1)
    case = next(case for case in cases(key.partition("/")[0]) if case.key == key)
    for piece in measure(case, folder):
        connection.send(piece)


def measure(case: Case, folder: Path) -> Iterator[Row]:
    """The row of a case, piece by piece: what is known when the time runs out is kept."""
    warnings.simplefilter("ignore")  # the models' own
    yield {"key": case.key, "source": case.source, "family": case.family, "name": case.name}
    try:
        network = case.network()
    except Exception as error:  # noqa: BLE001  whatever it is, it is the row's reason
        yield {"error": f"the network cannot be built: {_reason(error)}"}
        return
    yield {"params": _params(network)}
    try:
        yield from ours(case, network, folder)
    except Exception as error:  # noqa: BLE001
        yield {"error": _reason(error)}
    yield from _torch_pruning(case, network)


# Ours.


def ours(case: Case, network: nn.Module, folder: Path) -> Iterator[Row]:
    """What the structure engine finds, and whether cuts of it are exact, counted right and trainable.

    Args:
        case: The case.
        network: Its network.
        folder: Where a cut model is saved.
    """
    started = time.perf_counter()
    structure = discover(network, case.example(2, 0))
    row: Row = {"seconds": time.perf_counter() - started, "form": structure.form, "groups": len(structure.groups)}
    row["units"] = sum(group.units for group in structure.groups)
    row["kinds"] = sorted({group.granularity for group in structure.groups})
    row["uncut"] = [f"{uncut.layer} ({uncut.units}): {uncut.reason}" for uncut in structure.uncut]
    total = structure.costs().params
    row["share"] = 1 - structure.costs({g.name: g.units - 1 for g in structure.groups}).params / total
    # Rounded as Torch-Pruning rounds.
    most = {g.name: min(g.units - int(g.units * (1 - RATIOS[0])), g.units - 1) for g in structure.groups}
    row["share_at_ratio"] = 1 - structure.costs(most).params / total
    yield row
    errors = [_parity(case, network, structure, seed) for seed in (1, 2, 3)]
    yield {"parity": max(errors)}
    kept = candidate(structure, 4)
    small = structure.cut(network, kept)
    costs = structure.costs({group.name: group.units - len(kept[group.name]) for group in structure.groups})
    yield {"params_equal": costs.params == _params(small)}
    for name, measured in (("train_parity", trained), ("resized", resized)):
        try:
            yield {name: measured(case, network, structure, kept)}
        except Exception as error:  # noqa: BLE001  whatever it is, it is the column's reason
            yield {name: f"**{_reason(error)}**"}
    try:
        save(case, network, structure, kept, folder)
    except Exception as error:  # noqa: BLE001
        yield {"opened": f"not saved: {_reason(error)}"}
    yield {"trains": _trains(small, network, case.example(4, 4))}


def candidate(structure: Structure, seed: int) -> dict[str, Tensor]:
    """Random units of every group, at least one, at a random ratio for each."""
    generator = torch.Generator().manual_seed(seed)
    kept = {}
    for group in structure.groups:
        stays = int(torch.randint(1, group.units + 1, (), generator=generator))
        kept[group.name] = torch.randperm(group.units, generator=generator)[:stays].sort().values
    return kept


def _parity(case: Case, network: nn.Module, structure: Structure, seed: int) -> float:
    """Largest deviation of sliced from masked on fresh inputs, relative to max(1, largest output)."""
    kept = candidate(structure, seed)
    inputs = case.example(3, seed)
    with torch.no_grad():
        expected = leaves(structure.masked(network, kept)(*inputs))
        actual = leaves(structure.cut(network, kept)(*inputs))
    return apart(expected, actual)


def _trains(small: nn.Module, network: nn.Module, inputs: tuple[Tensor, ...]) -> bool | str:
    """Whether the cut network trains; what the dense one fails by, it may fail by too."""
    try:
        return train_step(small, inputs)
    except Exception:
        try:
            train_step(copy.deepcopy(network), inputs)
        except Exception as error:  # noqa: BLE001
            return f"nor does the dense one: {_reason(error)}"
        raise


def train_step(network: nn.Module, inputs: tuple[Tensor, ...]) -> bool:
    """Whether a step of SGD runs and its loss is finite."""
    network.train()
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3)
    loss = torch.stack([leaf.square().mean() for leaf in leaves(network(*inputs))]).sum()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return bool(torch.isfinite(loss))


def _params(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:200]}"


# Torch-Pruning, as its documentation and examples use it.


def _torch_pruning(case: Case, network: nn.Module) -> Iterator[Row]:
    """Share of parameters gone in the smallest model that still runs, and what went wrong where none does."""
    inputs = case.example(2, 0)
    with torch.no_grad():
        shapes = [leaf.shape for leaf in leaves(network(*inputs))]
    before = _params(network)
    best: Row = {"tp_share": 0.0, "tp_ratio": None, "tp_error": ""}
    for ratio in RATIOS:
        try:
            pruned = _pruned(copy.deepcopy(network), inputs, ratio)
            with torch.no_grad():
                outputs = leaves(pruned(*inputs))
            if [leaf.shape for leaf in outputs] != shapes:
                raise RuntimeError(f"output of shape {tuple(outputs[0].shape)}, {tuple(shapes[0])} before")
        except Exception as error:  # noqa: BLE001
            best["tp_error"] = best["tp_error"] or f"at ratio {ratio}: {_reason(error)}"
            continue
        share = 1 - _params(pruned) / before
        if best["tp_ratio"] is None or share > best["tp_share"]:
            best |= {"tp_share": share, "tp_ratio": ratio}
        yield best
    yield best


def _pruned(network: nn.Module, inputs: tuple[Tensor, ...], ratio: float) -> nn.Module:
    """A model pruned by its MetaPruner: output layers ignored, attention told its number of heads."""
    import torch_pruning as tp

    layers = [module for module in network.modules() if isinstance(module, nn.Linear | nn.modules.conv._ConvNd)]
    heads = {
        child: module.num_heads
        for module in network.modules()
        if isinstance(getattr(module, "num_heads", None), int)
        for name, child in module.named_children()
        if isinstance(child, nn.Linear) and name in _PROJECTIONS
    }
    pruner = tp.pruner.MetaPruner(
        network,
        inputs[0] if len(inputs) == 1 else inputs,
        importance=tp.importance.RandomImportance(),
        pruning_ratio=ratio,
        ignored_layers=layers[-1:],
        num_heads=heads,
    )
    pruner.step()
    for module in network.modules():  # as its examples do after a step
        for child in module.children():
            if child in heads and hasattr(module, "head_dim"):
                packed = 3 if child.out_features == 3 * child.in_features or "qkv" in dir(module) else 1
                module.head_dim = child.out_features // (packed * module.num_heads)
    return network


_PROJECTIONS = frozenset("qkv q k v q_proj k_proj v_proj query key value q_lin k_lin v_lin".split())
