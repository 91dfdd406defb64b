"""What the host makes sure of, so that no component has to: shapes, finite values, honest cuts, declared metrics."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite

import torch
from torch import Tensor, nn

from autoprune.errors import TrialError
from autoprune.plugin import Candidate, Data, Evaluator, Group, Measured, Pruned
from autoprune.structure import Plan, Structure
from autoprune.structure.surgery.slicing import sliced
from autoprune.study.unsaved import lost_when_saved


def checked_scores(scores: object, group: Group) -> Tensor:
    """A scorer's scores of a group, of shape (U,), on the CPU.

    Raises:
        TrialError: They are no tensor, of another shape or not finite.
    """
    if not isinstance(scores, Tensor):
        raise TrialError(f"scores of {group.name} are a {type(scores).__name__}, not a tensor")
    if scores.shape != (group.units,):
        raise TrialError(f"scores of {group.name} have the shape {tuple(scores.shape)}, not ({group.units},)")
    if not scores.isfinite().all():
        raise TrialError(f"scores of {group.name} are not all finite")
    return scores.detach().cpu()


def checked_cut(
    pruned: object, candidate: Candidate | None, structure: Structure, dense: nn.Module
) -> tuple[Pruned, Plan, dict[str, int]]:
    """A strategy's model, after making sure that it lost what was asked, the plan of its cut, and what groups lost.

    Args:
        pruned: What the strategy returned.
        candidate: What was asked; None where the strategy decides itself.
        structure: Of the dense network.
        dense: The dense network.

    Raises:
        TrialError: It lost something else, its tensors are not those of the cut that it tells, or it holds what a saved
            model would lose.
    """
    if not isinstance(pruned, Pruned):
        raise TrialError(f"returned a {type(pruned).__name__}, not what ctx.start or ctx.cut gave it")
    if pruned.network is dense:
        raise TrialError("returned the dense network itself, not a copy")
    if unknown := sorted(set(pruned.kept) - {group.name for group in structure.groups}):
        raise TrialError(f"kept units of {unknown[0]!r}, which is no group")
    bypassed = structure.bypassed(pruned.kept)
    lost = {group.name: _lost(group, pruned.kept.get(group.name)) for group in structure.groups}
    for group in structure.groups if candidate is not None else ():
        asked = structure.lost(group, candidate.cut_units, bypassed) if candidate else 0
        if lost[group.name] != asked:
            raise TrialError(f"{group.name} lost {lost[group.name]} of its {group.units} units, not {asked}")
    plan = structure.plan(dense, pruned.kept)
    if fault := lost_when_saved(pruned.network, dense):
        raise TrialError(fault)
    _check_tensors(structure.tensors(pruned.network), structure.tensors(dense), plan)
    return pruned, plan, lost


def _lost(group: Group, kept: Tensor | None) -> int:
    """How many units went, by what is told of them."""
    if kept is None:
        return 0
    if group.masked:
        if kept.dtype != torch.bool or kept.shape != (group.units,):
            raise TrialError(f"kept units of {group.name} are not a bool for each of its {group.units} units")
        return group.units - int(kept.sum())
    if not _ascending(kept.cpu(), group.units):
        raise TrialError(f"kept units of {group.name} are not sorted indices below {group.units}, each once")
    return group.units - len(kept)


def _check_tensors(small: Mapping[str, Tensor], large: Mapping[str, Tensor], plan: Plan) -> None:
    gone = tuple(f"{name}." for name in plan.bypassed)
    expected = {name: tensor for name, tensor in large.items() if not name.startswith(gone)}
    for name in sorted(small.keys() ^ expected.keys()):
        raise TrialError(f"the network has {'a new' if name in small else 'lost its'} parameter or buffer {name}")
    # Tied tensors have several names; the plan speaks of one.
    kept = {id(large[name]): dims for name, dims in plan.kept.items()}
    masks = {id(large[name]): mask for name, mask in plan.masks.items()}
    for name, tensor in expected.items():
        left, mask = kept.get(id(tensor), {}), masks.get(id(tensor))
        size = tuple(len(left.get(dim, range(size))) for dim, size in enumerate(tensor.shape))
        if small[name].shape != size:
            raise TrialError(f"{name} has the shape {tuple(small[name].shape)}, not {size} as the kept units tell")
        if mask is not None and small[name][~sliced(mask, left).to(small[name].device)].any():
            raise TrialError(f"{name} is not zero where its units were to go")


def checked_metrics(measured: object, evaluator: Evaluator, data: Data) -> dict[str, Measured]:
    """What an evaluator measured, under the names that objectives use.

    Raises:
        TrialError: A declared metric is missing, another one is there, or a value is not a finite number.
    """
    if not isinstance(measured, Mapping):
        raise TrialError(f"returned a {type(measured).__name__}, not a mapping of metrics")
    declared = [metric.name for metric in evaluator.declares(data)]
    if missing := [name for name in declared if name not in measured]:
        raise TrialError(f"did not measure {', '.join(missing)}")
    if undeclared := [str(name) for name in measured if name not in declared]:
        raise TrialError(f"measured {', '.join(undeclared)}, which it does not declare")
    return {evaluator.metric_name(name): _finite(name, measured[name]) for name in declared}


def checked_together(measured: object, evaluator: Evaluator) -> dict[str, Measured]:
    """What an evaluator measured of a front, with its label.

    Raises:
        TrialError: It is no mapping, or a value is not a finite number.
    """
    if not isinstance(measured, Mapping):
        raise TrialError(f"returned a {type(measured).__name__} of the front, not a mapping of metrics")
    return {evaluator.metric_name(str(name)): _finite(name, value) for name, value in measured.items()}


def _finite(name: object, value: Measured | float) -> Measured:
    metric = value if isinstance(value, Measured) else Measured(value=float(value))
    if not all(end is None or isfinite(end) for end in (metric.value, metric.low, metric.high)):
        raise TrialError(f"{name} is {metric.value:g}, with interval [{metric.low}, {metric.high}]")
    return metric


def _ascending(kept: Tensor, units: int) -> bool:
    if kept.dtype != torch.int64 or kept.dim() != 1:
        return False
    return bool(len(kept) and kept[0] >= 0 and kept[-1] < units and (kept.diff() > 0).all())
