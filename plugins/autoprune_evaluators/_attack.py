"""Gradient ascent on the task's loss inside a norm ball around each input.

Shapes use: N samples, and … for whatever a sample's shape is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from autoprune import DataError
from autoprune.plugin import Batch, Inputs, Task
from autoprune.plugin.data import mapped
from autoprune.toolkit.balls import Ball
from autoprune.toolkit.samples import losses, right_shares, weights


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
        self, model: nn.Module, inputs: Inputs, targets: Any, start: Tensor, *, task: Task
    ) -> tuple[Tensor, Tensor]:
        """Attack the first input of each sample until nothing of the prediction is right or the steps are used up.

        Args:
            model: In ``eval()``; takes input units.
            inputs: N samples; the first tensor is attacked.
            targets: Theirs, as the task takes them.
            start: Perturbations to start from (N, …).
            task: Its loss is climbed, and it says what is right.

        Returns:
            The attacked first input (N, …), and the smallest share that was right at any step, (N,) in [0, 1].
        """
        origin = inputs.first
        attacked = self._legal(origin, start)
        standing = torch.arange(len(origin), device=origin.device)
        worst = torch.ones(len(origin), device=origin.device)
        for step in range(self.steps + 1):
            here = attacked[standing].requires_grad_(step < self.steps)
            outputs = inputs[standing].with_first(here).feed(model)
            right = right_shares(task, outputs, _picked(targets, standing)).detach().to(worst)
            worst[standing] = worst[standing].minimum(right)
            hit = right > 0
            standing = standing[hit]
            if step == self.steps or not len(standing):
                break
            loss = losses(task, _picked(outputs, hit), _picked(targets, standing)).sum()
            # A NaN gradient tells no direction; a NaN input would count as an adversarial one.
            gradient = torch.autograd.grad(loss, here)[0][hit].nan_to_num()
            climbed = here.detach()[hit] + self.step_size * self.ball.steepest(gradient)
            attacked[standing] = self._legal(origin[standing], climbed - origin[standing])
        return attacked, worst

    def _legal(self, origin: Tensor, perturbation: Tensor) -> Tensor:
        return (origin + self.ball.project(perturbation)).clamp(*self.bounds)


def withstood(
    model: nn.Module,
    batches: Iterable[Batch],
    attack: Attack,
    *,
    task: Task,
    restarts: int,
    random_start: bool,
    seed: int,
    report: Callable[[Tensor, Tensor], None],
) -> tuple[Tensor, Tensor]:
    """How much of each sample the model predicts right, and still does after every run of the attack.

    Args:
        model: In ``eval()``; takes input units.
        batches: The samples.
        attack: One run of it.
        task: Its loss is climbed, and it says what is right.
        restarts: Runs on each sample.
        random_start: Whether the first run, too, starts from noise.
        seed: Seeds the noise, which depends on nothing else: every model starts from the same.
        report: Told after each batch what is returned, of the samples so far, once something counts.

    Returns:
        The smallest share of each sample that was right, (N,) in [0, 1]: in a classification 1 where it withstood; and
        what each counts in a mean, (N,).

    Raises:
        DataError: Samples lie outside the bounds, so that clipping alone would change them.
        TrialError: The task knows no right and wrong.
    """
    generator = torch.Generator().manual_seed(seed)
    found, counted = torch.empty(0), torch.empty(0)
    with torch.enable_grad(), _without_parameter_gradients(model):
        for inputs, targets in batches:
            _check_bounds(inputs.first, attack.bounds)
            with torch.no_grad():
                outputs = inputs.feed(model)
                shares = right_shares(task, outputs, targets).clone()
                counts = weights(task, outputs, targets)
            for run in range(restarts):
                # Drawn for all samples, so that a sample's noise does not hang on which others fell.
                noise = run or random_start
                start = attack.ball.noise(inputs.first, generator) if noise else torch.zeros_like(inputs.first)
                standing = (shares > 0).nonzero().squeeze(1)
                if len(standing):  # a model need not take a batch of none
                    picked, wanted = inputs[standing], _picked(targets, standing)
                    _, worst = attack.perturb(model, picked, wanted, start[standing], task=task)
                    shares[standing] = shares[standing].minimum(worst.to(shares))
            found, counted = torch.cat([found, shares.cpu().float()]), torch.cat([counted, counts.cpu().float()])
            if counted.any():
                report(found, counted)
    return found, counted


def _check_bounds(inputs: Tensor, bounds: tuple[float, float]) -> None:
    low, high = float(inputs.min()), float(inputs.max())
    if low < bounds[0] or high > bounds[1]:
        raise DataError(
            f"an attack keeps to the data's bounds, {bounds[0]:g} to {bounds[1]:g}, "
            f"but inputs go from {low:g} to {high:g}; correct the bounds or the scale of the data"
        )


def _picked(tensors: Any, index: Tensor) -> Any:
    """Targets, or outputs, of those samples."""
    return mapped(lambda tensor: tensor[index], tensors)


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
