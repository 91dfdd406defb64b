"""Gradient ascent on the cross-entropy inside a norm ball around each input.

Shapes use: N samples, and … for whatever a sample's shape is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from autoprune import DataError
from autoprune.plugin import Batch
from autoprune_evaluators._samples import hits


class Ball(Protocol):
    """All perturbations (N, …) whose norm is at most an epsilon."""

    def noise(self, like: Tensor, generator: torch.Generator) -> Tensor:
        """Uniform in the ball; drawn on the CPU, so that every device gets the same."""

    def steepest(self, gradient: Tensor) -> Tensor:
        """The perturbation of norm 1 that climbs fastest; 0 where the gradient is."""

    def project(self, perturbation: Tensor) -> Tensor:
        """The nearest perturbation in the ball."""


@dataclass(frozen=True)
class Linf:
    """No value moves by more than epsilon."""

    epsilon: float

    def noise(self, like: Tensor, generator: torch.Generator) -> Tensor:
        """Each value uniform in [-epsilon, epsilon]."""
        return (torch.rand(like.shape, generator=generator) * 2 - 1).mul(self.epsilon).to(like)

    def steepest(self, gradient: Tensor) -> Tensor:
        """The gradient's sign."""
        return gradient.sign()

    def project(self, perturbation: Tensor) -> Tensor:
        """Clips each value."""
        return perturbation.clamp(-self.epsilon, self.epsilon)


@dataclass(frozen=True)
class L2:
    """The Euclidean length over all values of a sample is at most epsilon."""

    epsilon: float

    def noise(self, like: Tensor, generator: torch.Generator) -> Tensor:
        """A uniform direction, and a radius that makes the density uniform."""
        direction = self.steepest(torch.randn(like.shape, generator=generator))
        radius = torch.rand(len(like), generator=generator) ** (1 / like[0].numel())
        return (direction * _per_sample(radius, like) * self.epsilon).to(like)

    def steepest(self, gradient: Tensor) -> Tensor:
        """The gradient at length 1."""
        return gradient / _per_sample(gradient.flatten(1).norm(dim=1).clamp_min(1e-12), gradient)

    def project(self, perturbation: Tensor) -> Tensor:
        """Shortens what is longer than epsilon."""
        length = _per_sample(perturbation.flatten(1).norm(dim=1), perturbation)
        return perturbation * (self.epsilon / length.clamp_min(self.epsilon))


@dataclass(frozen=True)
class Attack:
    """Projected gradient descent; a single step of size epsilon without noise is the fast gradient method.

    Madry et al., *Towards deep learning models resistant to adversarial attacks*, arXiv:1706.06083; Goodfellow et al.,
    *Explaining and harnessing adversarial examples*, arXiv:1412.6572.
    """

    ball: Ball
    steps: int
    step_size: float
    bounds: tuple[float, float]
    """Smallest and largest legal value."""

    def perturb(
        self, model: nn.Module, inputs: tuple[Tensor, ...], targets: Tensor, start: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Attack the first input of each sample until the prediction is wrong or the steps are used up.

        Args:
            model: In ``eval()``; takes input units.
            inputs: Samples, each tensor of shape (N, …); the first one is attacked.
            targets: Classes (N,).
            start: Perturbations to start from (N, …).

        Returns:
            The attacked first input (N, …) and the indices of the samples that withstood, int64.
        """
        origin, *others = inputs
        attacked = self._legal(origin, start)
        standing = torch.arange(len(targets), device=targets.device)
        for step in range(self.steps + 1):
            here = attacked[standing].requires_grad_(step < self.steps)
            logits = model(here, *(other[standing] for other in others))
            hit = hits(logits, targets[standing])
            standing = standing[hit]
            if step == self.steps or not len(standing):
                break
            loss = cross_entropy(logits[hit], targets[standing], reduction="sum")
            # A NaN gradient tells no direction; a NaN input would count as an adversarial one.
            gradient = torch.autograd.grad(loss, here)[0][hit].nan_to_num()
            climbed = here.detach()[hit] + self.step_size * self.ball.steepest(gradient)
            attacked[standing] = self._legal(origin[standing], climbed - origin[standing])
        return attacked, standing

    def _legal(self, origin: Tensor, perturbation: Tensor) -> Tensor:
        return (origin + self.ball.project(perturbation)).clamp(*self.bounds)


def withstood(
    model: nn.Module,
    batches: Iterable[Batch],
    attack: Attack,
    *,
    restarts: int,
    random_start: bool,
    seed: int,
    report: Callable[[int, int], None],
) -> tuple[int, int]:
    """How many samples the model predicts right and still does after every run of the attack.

    Args:
        model: In ``eval()``; takes input units.
        batches: The samples.
        attack: One run of it.
        restarts: Runs on each sample.
        random_start: Whether the first run, too, starts from noise.
        seed: Seeds the noise, which depends on nothing else: every model starts from the same.
        report: Told after each batch how many withstood so far, of how many.

    Returns:
        Samples that withstood, and samples in all.

    Raises:
        DataError: Samples lie outside the bounds, so that clipping alone would change them.
    """
    generator = torch.Generator().manual_seed(seed)
    kept = total = 0
    with torch.enable_grad(), _without_parameter_gradients(model):
        for inputs, targets in batches:
            total += len(targets)
            _check_bounds(inputs[0], attack.bounds)
            with torch.no_grad():
                standing = hits(model(*inputs), targets).nonzero().squeeze(1)
            for run in range(restarts):
                # Drawn for all samples, so that a sample's noise does not hang on which others fell.
                start = attack.ball.noise(inputs[0], generator) if run or random_start else torch.zeros_like(inputs[0])
                if len(standing):  # a model need not take a batch of none
                    picked = tuple(tensor[standing] for tensor in inputs)
                    _, still = attack.perturb(model, picked, targets[standing], start[standing])
                    standing = standing[still]
            kept += len(standing)
            report(kept, total)
    return kept, total


def _check_bounds(inputs: Tensor, bounds: tuple[float, float]) -> None:
    low, high = float(inputs.min()), float(inputs.max())
    if low < bounds[0] or high > bounds[1]:
        raise DataError(
            f"an attack keeps to the data's bounds, {bounds[0]:g} to {bounds[1]:g}, "
            f"but inputs go from {low:g} to {high:g}; correct the bounds or the scale of the data"
        )


def _per_sample(values: Tensor, like: Tensor) -> Tensor:
    """Values (N,) in the shape (N, 1, …) that broadcasts with ``like``."""
    return values.view(-1, *[1] * (like.dim() - 1))


@contextmanager
def _without_parameter_gradients(model: nn.Module) -> Iterator[None]:
    """Only the input's gradient is wanted; parameters get their flags back afterwards."""
    wanted = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in wanted:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in wanted:
            parameter.requires_grad_(True)
