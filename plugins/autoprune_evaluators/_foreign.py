"""Attacks of other libraries: what they give back is checked before it counts.

Shapes use: N samples, and … for whatever a sample's shape is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from autoprune import TrialError
from autoprune.plugin import Inputs, Task
from autoprune.plugin.task import shapes
from autoprune.toolkit.balls import Ball
from autoprune.toolkit.importing import told
from autoprune.toolkit.samples import right_shares
from autoprune_evaluators._attack import FromOrigin

_ROUNDING = 1e-4
"""Of epsilon, and of the bounds' width: what float32 is off by."""
_LEAST = 1e-6
"""Of the bounds' width: what it may be off by, however small epsilon is."""

Run = Callable[[nn.Module, Tensor, Tensor], Tensor]
"""From a model that takes input units, samples (N, …) and classes (N,) to attacked samples (N, …)."""


@dataclass(frozen=True, kw_only=True)
class BatchAttack(FromOrigin):
    """An attack that changes whole batches in its own way, as an `Attack`."""

    name: str
    """For messages."""
    run: Run
    ball: Ball
    bounds: tuple[float, float]
    seed: int
    keeps_to_ball: bool = True
    """Whether it was told of the ball; if not, samples that it moved farther withstood."""
    folder: Path = Path()
    """Lines of files in there are told where it fails."""

    def perturb(
        self,
        model: nn.Module,
        inputs: Inputs,
        targets: Any,
        start: Tensor,  # noqa: ARG002  it is the sample itself
        *,
        task: Task,
    ) -> tuple[Tensor, Tensor]:
        """As of `Attack`.

        Raises:
            TrialError: Samples are more than one tensor with one class each; the attack fails, or what it gives is not
                in the ball, or not within the bounds.
        """
        origin = inputs.first
        fits = isinstance(targets, Tensor) and targets.dim() == 1 and not targets.is_floating_point()
        if not fits or len(inputs.tensors) > 1:
            came = ", ".join(shapes(each) for each in inputs.tensors)
            raise TrialError(
                f"{self.name} is of one input with one class per sample; inputs are {came} and targets"
                f" {shapes(targets)}: use pgd"
            )
        with _random(self.seed):
            try:
                given = self.run(_Named(model, inputs), origin.clone(), targets.clone())
            except TrialError:
                raise
            except Exception as error:  # whatever another library raises
                raise TrialError(f"{self.name} failed: {told(error, self.folder)}") from error
        moved = self._checked(given, origin)
        with torch.no_grad():
            right = right_shares(task, inputs.with_first(moved).feed(model), targets)
        return moved, right

    def _checked(self, given: Any, origin: Tensor) -> Tensor:
        """What the attack gave, on the samples' device; the sample itself where that is too far away.

        Raises:
            TrialError: It is not what may be given to a model.
        """
        if not isinstance(given, Tensor) or given.shape != origin.shape:
            raise TrialError(f"{self.name} gives {shapes(given)} for inputs {shapes(origin)}")
        moved = given.detach().to(origin)
        low, high = self.bounds
        slack = _ROUNDING * (high - low)
        if not bool(((moved >= low - slack) & (moved <= high + slack)).all()):  # NaN is neither
            raise TrialError(
                f"{self.name} gives inputs from {float(moved.min()):g} to {float(moved.max()):g}; the data's bounds are"
                f" {low:g} to {high:g}"
            )
        away = moved - origin
        # What the projection into the ball changes is outside: it tells of every norm.
        beyond, far = ((each.flatten(1).abs().amax(1)) for each in (away - self.ball.project(away), away))
        outside = beyond > _ROUNDING * far + _LEAST * (high - low)
        if bool(outside.any()) and self.keeps_to_ball:
            raise TrialError(
                f"{self.name}: {int(outside.sum())} of {len(away)} inputs that it gives are farther than epsilon from"
                f" their own, in {self.ball}: see its options in `args`, or write another norm"
            )
        return torch.where(outside.view(-1, *[1] * (origin.dim() - 1)), origin, moved)


class _Named(nn.Module):
    """The model, called with one tensor, by its name where it wants one."""

    def __init__(self, model: nn.Module, inputs: Inputs) -> None:
        super().__init__()
        self.model, self._inputs = model, inputs
        self.training = model.training

    def train(self, mode: bool = True) -> _Named:  # noqa: ARG002  PyTorch's
        """Nothing: other libraries call it, and the modes of what is inside are the host's."""
        return self

    def forward(self, first: Tensor) -> Any:
        return self._inputs.with_first(first).feed(self.model)


@contextmanager
def _random(seed: int) -> Iterator[None]:
    """Seed what other libraries draw from, and put everything back."""
    state = np.random.get_state()
    try:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            np.random.seed(seed % 2**32)
            yield
    finally:
        np.random.set_state(state)
