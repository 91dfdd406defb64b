"""Gradient ascent on a loss inside a norm ball around each input, and what samples withstand.

Shapes use: N samples, and … for whatever a sample's shape is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from autoprune import DataError, TrialError
from autoprune.plugin import Batch, Inputs, Task
from autoprune.plugin.data import mapped
from autoprune.toolkit.balls import Ball
from autoprune.toolkit.samples import losses, right_shares, weights
from autoprune_evaluators._climbed import Aim, Climbed


@dataclass(frozen=True)
class Goal:
    """What an attack lowers."""

    of: Callable[[Task, Any, Any], Tensor]
    """Of each sample, (N,), from the task, outputs and targets."""
    least: float
    """A sample that is there needs no attack any more."""


RIGHT = Goal(right_shares, 0.0)
"""The share of a sample that is right."""
LOSS = Goal(lambda task, outputs, targets: -losses(task, outputs, targets), -torch.inf)
"""The loss, which is raised."""


class FromOrigin:
    """Of an attack that starts from the sample itself."""

    def start(self, origin: Tensor, generator: torch.Generator) -> Tensor:  # noqa: ARG002  nothing is random
        """No perturbation, (N, …)."""
        return torch.zeros_like(origin)


class Attack(Protocol):
    """One run on each sample, such as within a norm ball around it."""

    @property
    def bounds(self) -> tuple[float, float] | None:
        """Smallest and largest legal value; None where inputs are no numbers that move."""

    def start(self, origin: Tensor, generator: torch.Generator) -> Tensor:
        """Perturbations to start from, (N, …), drawn by a generator of the CPU where they are random."""

    def perturb(
        self, model: nn.Module, inputs: Inputs, targets: Any, start: Tensor, *, task: Task
    ) -> tuple[Tensor, Tensor]:
        """Attack the first input of each sample until its goal is reached or the steps are used up.

        Args:
            model: In ``eval()``; takes input units.
            inputs: N samples; the first tensor is attacked.
            targets: Theirs, as the task takes them.
            start: Perturbations to start from (N, …).
            task: It says what is right.

        Returns:
            The attacked first input (N, …), and the least of what its goal lowers at any step, (N,): the share that
            was right, in [0, 1].
        """


@dataclass(frozen=True)
class Region:
    """Where attacked inputs may be: in a ball around each sample, and within bounds."""

    origin: Tensor
    """The samples, (N, …)."""
    ball: Ball
    bounds: tuple[float, float]
    scale: Tensor | None = None
    """How many times larger each sample's ball is, (N,); not at all if None."""

    def length(self, size: float) -> Tensor | float:
        """A length, of each sample in its ball: (N, 1, …), or the same for all."""
        return size if self.scale is None else size * self.scale.view(-1, *[1] * (self.origin.dim() - 1))

    def nearest(self, points: Tensor, samples: Tensor) -> Tensor:
        """The legal inputs near points (M, …), of the samples with these numbers, (M,)."""
        origin, scale = self.origin[samples], self.length(1.0)
        if isinstance(scale, float):
            perturbation = self.ball.project(points - origin)
        else:
            perturbation = self.ball.project((points - origin) / scale[samples]) * scale[samples]
        return (origin + perturbation).clamp(*self.bounds)


Climb = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""From the numbers of M samples, (M,), where they are (M, …), the gradient there (M, …) and the loss (M,), to where to
look next (M, …)."""


@dataclass(frozen=True, kw_only=True)
class GradientAttack(ABC):
    """Goes where the gradient of a loss leads."""

    ball: Ball
    steps: int
    step_size: float
    bounds: tuple[float, float]
    loss: Climbed = losses
    """Is climbed."""
    aim: Aim | None = None
    """Class that each sample is to become; any but the right one if None."""
    goal: Goal = RIGHT
    random_start: bool = True
    """Whether it starts from noise, or from the input itself."""

    def start(self, origin: Tensor, generator: torch.Generator) -> Tensor:
        """Noise, or nothing."""
        return self.ball.noise(origin, generator) if self.random_start else torch.zeros_like(origin)

    @abstractmethod
    def _climb(self, region: Region) -> Climb:
        """What takes the steps of one run."""

    def perturb(
        self, model: nn.Module, inputs: Inputs, targets: Any, start: Tensor, *, task: Task, scale: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """As of `Attack`.

        Args:
            model: In ``eval()``; takes input units.
            inputs: N samples.
            targets: Theirs.
            start: Perturbations to start from (N, …).
            task: It says what is right.
            scale: How many times larger each sample's ball is, (N,); not at all if None.

        Raises:
            TrialError: The loss has no gradient.
        """
        region = Region(inputs.first, self.ball, self.bounds, scale)
        standing = torch.arange(len(start), device=start.device)
        attacked = region.nearest(inputs.first + start, standing)
        worst, climb = torch.full((len(start),), torch.inf, device=start.device), self._climb(region)
        wanted = targets
        if self.aim is not None:
            with torch.no_grad():
                wanted = {"true": targets, "aim": self.aim(task, inputs.feed(model), targets)}
        for step in range(self.steps + 1):
            here = attacked[standing].requires_grad_(step < self.steps)
            outputs = inputs[standing].with_first(here).feed(model)
            found = self.goal.of(task, outputs, picked(targets, standing)).detach().to(worst)
            worst[standing] = worst[standing].minimum(found)
            hit = found > self.goal.least
            standing = standing[hit]
            if step == self.steps or not len(standing):
                break
            loss = self.loss(task, picked(outputs, hit), picked(wanted, standing))
            gradient = input_gradient(loss.sum(), here)[hit]
            attacked[standing] = climb(standing, here.detach()[hit], gradient, loss.detach())
        return attacked, worst


class ProjectedGradient(GradientAttack):
    """Projected gradient descent; a single step of size epsilon without noise is the fast gradient method.

    Madry et al., *Towards deep learning models resistant to adversarial attacks*, arXiv:1706.06083; Goodfellow et al.,
    *Explaining and harnessing adversarial examples*, arXiv:1412.6572.
    """

    def _climb(self, region: Region) -> Climb:
        def climb(samples: Tensor, here: Tensor, gradient: Tensor, loss: Tensor) -> Tensor:  # noqa: ARG001  as it is
            return region.nearest(here + self.step_size * self.ball.steepest(gradient), samples)

        return climb


def input_gradient(loss: Tensor, inputs: Tensor, instead: str = "square") -> Tensor:
    """The gradient of a loss, (), to inputs (N, …), 0 where it is NaN.

    Args:
        loss: Of all samples.
        inputs: Theirs.
        instead: An attack that needs none.

    Raises:
        TrialError: There is none.
    """
    # NaN tells no direction, and a NaN input would count as an adversarial one.
    found = torch.autograd.grad(loss, inputs, allow_unused=True)[0] if loss.requires_grad else None
    if found is None:
        raise TrialError(
            f"the outputs have no gradient to the inputs: attack with {{use: {instead}}}, which needs none"
        )
    return found.nan_to_num()


def withstood(
    model: nn.Module,
    batches: Iterable[Batch],
    runs: Sequence[Attack],
    *,
    task: Task,
    seed: int,
    report: Callable[[Tensor, Tensor], None],
    goal: Goal = RIGHT,
) -> tuple[Tensor, Tensor]:
    """How much of each sample the model predicts right, and still does after every run of an attack.

    Args:
        model: In ``eval()``; takes input units.
        batches: The samples.
        runs: What attacks, one after the other, what still stands.
        task: It says what is right.
        seed: Seeds the noise, which depends on nothing else: every model starts from the same.
        report: Told after each batch what is returned, of the samples so far, once something counts.
        goal: What is lowered, by all runs.

    Returns:
        The smallest share of each sample that was right, (N,) in [0, 1]: in a classification 1 where it withstood; or
        the least of what another goal lowers. And what each sample counts in a mean, (N,).

    Raises:
        DataError: Samples lie outside the bounds, so that clipping alone would change them.
        TrialError: The task knows no right and wrong.
    """
    generator = torch.Generator().manual_seed(seed)
    found, counted = torch.empty(0), torch.empty(0)
    with torch.enable_grad(), without_parameter_gradients(model):
        for inputs, targets in batches:
            if (bounds := runs[0].bounds) is not None:
                check_bounds(inputs.first, bounds)
            with torch.no_grad():
                outputs = inputs.feed(model)
                shares = goal.of(task, outputs, targets).clone()
                counts = weights(task, outputs, targets)
            for attack in runs:
                # Drawn for all samples, so that a sample's noise does not hang on which others fell.
                start = attack.start(inputs.first, generator)
                standing = (shares > goal.least).nonzero().squeeze(1)
                if len(standing):  # a model need not take a batch of none
                    left, wanted = inputs[standing], picked(targets, standing)
                    _, worst = attack.perturb(model, left, wanted, start[standing], task=task)
                    shares[standing] = shares[standing].minimum(worst.to(shares))
            found, counted = torch.cat([found, shares.cpu().float()]), torch.cat([counted, counts.cpu().float()])
            if counted.any():
                report(found, counted)
    return found, counted


def check_bounds(inputs: Tensor, bounds: tuple[float, float]) -> None:
    """Refuse inputs that clipping alone would change, and such as are no numbers.

    Raises:
        DataError: Some lie outside the bounds.
    """
    low, high = float(inputs.min()), float(inputs.max())
    if not bounds[0] <= low <= high <= bounds[1]:
        raise DataError(
            f"an attack keeps to the data's bounds, {bounds[0]:g} to {bounds[1]:g}, "
            f"but inputs go from {low:g} to {high:g}; correct the bounds or the scale of the data"
        )


def picked(tensors: Any, index: Tensor) -> Any:
    """Targets, or outputs, of those samples."""
    return mapped(lambda tensor: tensor[index], tensors)


@contextmanager
def without_parameter_gradients(model: nn.Module) -> Iterator[None]:
    """Only the input's gradient is wanted; parameters get their flags back afterwards."""
    wanted = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in wanted:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in wanted:
            parameter.requires_grad_(True)
