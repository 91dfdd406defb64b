"""Penalties that push whole units towards zero."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from autoprune import TrialError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from autoprune.plugin import Group

_TINY = 1e-12
"""Added to squared norms, whose root has no gradient at 0."""


def penalty_of(
    network: nn.Module, groups: Sequence[Group], kind: Literal["l1", "group-lasso"], strength: float
) -> Callable[[], Tensor]:
    """A penalty on the network's weights as they are when it is called, differentiable, of shape ().

    Args:
        network: Whole.
        groups: Whose units are penalised.
        kind: l1 of what `scaled` leaves, or the Euclidean norm of each unit's weights.
        strength: Factor of it.

    Raises:
        TrialError: No group has a weight of that kind.
    """
    import torch
    from torch.nn.modules.batchnorm import _BatchNorm

    parameters = dict(network.named_parameters(remove_duplicate=False))
    modules = network.named_modules(remove_duplicate=False)
    scales = {f"{name}.weight" for name, module in modules if isinstance(module, _BatchNorm)}
    narrowed = [scaled(group, scales) if kind == "l1" else weighted(group) for group in groups]
    penalised = [group for group in narrowed if group.slices or group.owned or group.masked]
    if not penalised:
        raise TrialError(f"no unit has weights that a penalty of {kind} could shrink")

    def l1(group: Group) -> Tensor:
        return group.total(lambda name: parameters[name].abs()).sum()

    def lasso(group: Group) -> Tensor:
        return (group.total(lambda name: parameters[name].square()) + _TINY).sqrt().sum()

    of = l1 if kind == "l1" else lasso
    return lambda: strength * torch.stack([of(group) for group in penalised]).sum()


def scaled(group: Group, scales: Collection[str]) -> Group:
    """The group less all but its batch norms' scales; less all but the weights that make its units if it has none."""
    if group.owned:
        owned = tuple(tuple(name for name in names if name in scales) for names in group.owned)
        return replace(group, owned=owned) if all(owned) else group
    slices = tuple(part for part in group.slices if part.parameter in scales)
    return replace(group, slices=slices or tuple(part for part in group.slices if part.role == "output"))


def weighted(group: Group) -> Group:
    """The group less its biases, scales and statistics."""
    return replace(group, slices=tuple(part for part in group.slices if part.role != "vector"))
