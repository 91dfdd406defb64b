"""The one training loop: what fine-tunes, distils, trains from the start or with a penalty, and the options of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from autoprune.errors import TrialError
from autoprune.plugin.data import Batch, Data, Inputs, Split
from autoprune.spec.fields import Strict
from autoprune.toolkit.samples import mean

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from autoprune.plugin.contexts import PruneContext, TransformContext

Loss = Callable[[Any, Inputs, Any], "Tensor"]
"""Outputs, the inputs that they are of, and the targets, to the loss of each sample, (N,)."""
Penalty = Callable[[], "Tensor"]
"""What is added to the mean loss of a step, of shape ()."""


class Training(Strict):
    """The options of a training. A component that trains derives from it beside its contract.

    Example:
        >>> class MyRecovery(Training, Recovery):
        ...     name = "mine"
        ...
        ...     def recover(self, pruned, ctx):
        ...         train(pruned.network, ctx, self)
    """

    epochs: float = Field(default=1.0, gt=0, description="Passes over the train split; a fraction is fine.")
    batch_size: int = Field(default=128, ge=2, description="Samples in one step.")
    optimizer: Literal["sgd", "adamw"] = Field(default="sgd", description="sgd has Nesterov momentum 0.9.")
    lr: float = Field(default=0.01, gt=0, description="Learning rate of the first step.")
    schedule: Literal["cosine", "constant"] = Field(default="cosine", description="How the rate goes on from there.")
    weight_decay: float = Field(default=5e-4, ge=0, description="Decay of the weights.")

    def refuses(self, data: Data) -> str | None:
        """Why no training is possible on that data; None when one is."""
        if len(data.train) < 2:
            return f"training takes 2 train samples or more; there are {len(data.train)}"
        return None

    def rate(self, done: float) -> float:
        """Learning rate when that fraction of the steps is done."""
        return self.lr * (1 + math.cos(math.pi * done)) / 2 if self.schedule == "cosine" else self.lr


class Course:
    """A training that may pause, to cut the network or look at it, and go on with the steps, rates and batches to come.

    Example:
        >>> course = Course(ctx, options)
        >>> course.run(network, until=0.5)
        >>> course.run(smaller, until=1.0)
    """

    def __init__(self, ctx: PruneContext | TransformContext, options: Training) -> None:
        """Before the first step.

        Args:
            ctx: Data, device, task and seed.
            options: How long and how.
        """
        self._ctx = ctx
        self._options = options
        train = ctx.data.train
        size = min(options.batch_size, len(train))
        self._steps = max(1, round(options.epochs * len(train) / size))
        self._step = 0
        self._batches = _endless(train, size, ctx.device, ctx.generator())

    def run(
        self,
        network: nn.Module,
        *,
        until: float = 1.0,
        loss: Loss | None = None,
        penalty: Penalty | None = None,
    ) -> None:
        """Train the parameters that require gradients, or all of them if none does; the optimiser begins anew.

        Gradients, ``requires_grad`` and the global random generators are given back as they were, the network in
        ``eval()``.

        Args:
            network: Bare; changed in place.
            until: Fraction of all steps after which it pauses.
            loss: What is minimised; the task's training loss if None.
            penalty: What is added to it.

        Raises:
            TrialError: The loss became infinite or NaN.
        """
        import torch

        ctx, last = self._ctx, round(until * self._steps)
        if self._step >= last:
            return
        found = {p: p.requires_grad for p in network.parameters() if p.is_floating_point()}
        trained = [p for p, needed in found.items() if needed] or list(found)
        predictor = ctx.predictor(network)
        try:
            # Dropout draws from the global generators: seeded here, and given back as they were.
            with torch.random.fork_rng([ctx.device] if ctx.device.type == "cuda" else []), torch.enable_grad():
                torch.manual_seed(ctx.seed + self._step)
                for parameter in trained:
                    parameter.requires_grad_(True)
                optimizer = _optimizer(trained, self._options)
                network.train()
                while self._step < last:
                    for settings in optimizer.param_groups:
                        settings["lr"] = self._options.rate(self._step / self._steps)
                    inputs, targets = next(self._batches)
                    outputs = inputs.feed(predictor)
                    each = ctx.task.training_loss(outputs, targets) if loss is None else loss(outputs, inputs, targets)
                    total = mean(ctx.task, each, outputs, targets)
                    total = total if penalty is None else total + penalty()
                    if not total.isfinite():
                        raise TrialError(
                            f"training diverged: the loss is {total:g} at step {self._step} of {self._steps}; lower lr"
                        )
                    optimizer.zero_grad()
                    total.backward()  # type: ignore[no-untyped-call]
                    optimizer.step()
                    self._step += 1
        finally:
            network.eval()
            for parameter, needed in found.items():
                parameter.requires_grad_(needed).grad = None


def train(
    network: nn.Module,
    ctx: PruneContext | TransformContext,
    options: Training,
    *,
    loss: Loss | None = None,
    penalty: Penalty | None = None,
) -> None:
    """A whole `Course`: train a bare network in place, on the train split.

    Args:
        network: Bare; changed in place.
        ctx: Data, device, task and seed.
        options: How long and how.
        loss: What is minimised; the task's training loss if None.
        penalty: What is added to it.

    Raises:
        TrialError: The loss became infinite or NaN.
    """
    Course(ctx, options).run(network, loss=loss, penalty=penalty)


def _optimizer(parameters: list[nn.Parameter], options: Training) -> torch.optim.Optimizer:
    import torch

    if options.optimizer == "adamw":
        return torch.optim.AdamW(parameters, lr=options.lr, weight_decay=options.weight_decay)
    return torch.optim.SGD(parameters, lr=options.lr, momentum=0.9, nesterov=True, weight_decay=options.weight_decay)


def _endless(split: Split, size: int, device: torch.device, generator: torch.Generator) -> Iterator[Batch]:
    """Full batches, epoch after epoch in a new order; batch norm cannot train on a last batch of one."""
    while True:
        for inputs, targets in split.batches(size, device=device, generator=generator):
            if len(inputs) == size:
                yield inputs, targets
