"""The smallest perturbation that an attack finds for each sample.

Shapes use: N samples, M of them that an attack is tried on, and … for whatever a sample's shape is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from autoprune import TrialError
from autoprune.plugin import Batch, Difference, Inputs, Measured, Task
from autoprune.toolkit import intervals
from autoprune.toolkit.balls import L2, Linf
from autoprune.toolkit.samples import losses, right_shares, weights
from autoprune_evaluators._apgd import AutoProjectedGradient
from autoprune_evaluators._attack import check_bounds, picked, without_parameter_gradients

_FEWER = 4.0
"""From one size that is tried to the next smaller one."""
_SIZES = 6
_RESAMPLES = 1000


@dataclass(frozen=True, kw_only=True)
class Bisection:
    """Attacks each sample within balls of its own, of ever closer sizes.

    First those among a few sizes for all, then between the two neighbours that are left. A perturbation that is shorter
    than its ball counts with its own length.
    """

    ball: Linf | L2
    """Of size 1."""
    bounds: tuple[float, float]
    epsilons: tuple[float, ...]
    """Sizes that are sure to be among the first."""
    steps: int
    """Of Auto-PGD, each time."""
    halvings: int
    """Of what is between the neighbours."""
    seed: int
    loss: Callable[[Task, Any, Any], Tensor] = losses

    def distances(
        self, model: nn.Module, batches: Iterable[Batch], *, task: Task, report: Callable[[Tensor], None]
    ) -> Tensor:
        """Of each sample, (N,) float64: 0 where it is wrong as it is, infinite where nothing was found.

        Args:
            model: In ``eval()``; takes input units.
            batches: The samples.
            task: It says what is right.
            report: Told after each batch what is returned, of the samples so far.

        Raises:
            DataError: Samples lie outside the bounds.
            TrialError: Samples are neither right nor wrong as a whole, or the outputs have no gradient.
        """
        generator, found = torch.Generator().manual_seed(self.seed), torch.empty(0, dtype=torch.float64)
        with torch.enable_grad(), without_parameter_gradients(model):
            for inputs, targets in batches:
                check_bounds(inputs.first, self.bounds)
                with torch.no_grad():
                    outputs = inputs.feed(model)
                    right = right_shares(task, outputs, targets)
                    counts = weights(task, outputs, targets)
                if bool(((right != 0) & (right != 1)).any()) or bool((counts != counts[:1]).any()):
                    raise TrialError(
                        f"min-distance is of samples that are right or wrong as a whole; those of task {task.name} are"
                        " right in part: use pgd"
                    )
                # Drawn for all samples, so that a sample's noise does not hang on which others fell.
                noise, some = self.ball.noise(inputs.first, generator), (right > 0).nonzero().squeeze(1)
                least = torch.zeros(len(right), dtype=torch.float64, device=right.device)
                if len(some):
                    least[some] = self._of_batch(model, inputs[some], picked(targets, some), noise[some], task)
                found = torch.cat([found, least.cpu()])
                report(found)
        return found

    def _of_batch(self, model: nn.Module, inputs: Inputs, targets: Any, noise: Tensor, task: Task) -> Tensor:
        origin = inputs.first
        sizes = self._sizes(origin)
        low = torch.zeros(len(origin), dtype=torch.float64, device=origin.device)
        high = torch.full_like(low, torch.inf)
        attack = AutoProjectedGradient(
            ball=self.ball, steps=self.steps, step_size=2.0, bounds=self.bounds, loss=self.loss
        )

        def tried(samples: Tensor, radii: Tensor) -> None:
            left, wanted, scale = inputs[samples], picked(targets, samples), radii[samples].to(origin)
            start = noise[samples] * scale.view(-1, *[1] * (origin.dim() - 1))
            moved, right = attack.perturb(model, left, wanted, start, task=task, scale=scale)
            fell = right == 0
            length = (moved - left.first).flatten(1).double()
            length = length.abs().amax(1) if isinstance(self.ball, Linf) else length.norm(dim=1)
            hit, stood = samples[fell], samples[~fell]
            high[hit] = torch.minimum(length[fell], radii[hit])  # rounding may have made it longer
            low[stood] = radii[stood]

        while True:
            below, above = torch.searchsorted(sizes, low, right=True), torch.searchsorted(sizes, high)
            samples = (below < above).nonzero().squeeze(1)
            if not len(samples):
                break
            tried(samples, sizes[((below + above) // 2).clamp_max(len(sizes) - 1)])
        samples = high.isfinite().nonzero().squeeze(1)
        for _ in range(self.halvings if len(samples) else 0):
            # Between sizes, in the ratio; below the smallest one, in the middle.
            tried(samples, torch.where(low > 0, (low * high).sqrt(), high / 2))
        return high

    def _sizes(self, origin: Tensor) -> Tensor:
        """What is tried first, ascending, up to the largest perturbation that there can be."""
        most = self.bounds[1] - self.bounds[0]
        if isinstance(self.ball, L2):
            most *= math.sqrt(origin[0].numel())
        sizes = {most / _FEWER**power for power in range(_SIZES)} | {min(each, most) for each in self.epsilons}
        return torch.tensor(sorted(sizes), dtype=torch.float64, device=origin.device)


def median_of(distances: Tensor) -> Measured:
    """The median of samples, (N,), with the percentile bootstrap's interval; infinite where it is not known."""
    value, resampled = _medians(distances)
    if not bool(resampled.isfinite().all()):
        return Measured(value=value, samples=len(distances))
    return intervals.percentiles(value, resampled.tolist(), samples=len(distances))


def difference_of(distances: Tensor, dense: Tensor) -> Difference | None:
    """Of two medians of the same samples, both (N,); None where one is not known."""
    (mine, resampled), (theirs, others) = _medians(distances), _medians(dense)
    if not math.isfinite(mine - theirs):
        return None
    if not bool((resampled - others).isfinite().all()):
        return Difference(value=mine - theirs)
    found = intervals.percentiles(mine - theirs, (resampled - others).tolist(), samples=len(distances))
    return Difference(value=found.value, low=found.low, high=found.high)


def _medians(values: Tensor) -> tuple[float, Tensor]:
    """Of all, and of samples drawn with replacement, (R,), always the same draws."""
    drawn = torch.stack(list(intervals.draws(len(values), _RESAMPLES)))
    return float(_median(values)), _median(values[drawn])


def _median(values: Tensor) -> Tensor:
    """Along the last dimension; the mean of the two in the middle, unlike torch's own."""
    ordered, count = values.sort(-1).values, values.shape[-1]
    return (ordered[..., (count - 1) // 2] + ordered[..., count // 2]) / 2
