"""Train the pruned network on."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from autoprune import TrialError
from autoprune.plugin import Batch, Recovery, Split

if TYPE_CHECKING:
    import torch
    from torch import nn

    from autoprune.plugin import PruneContext


class FineTune(Recovery):
    """A short training of all weights with cross-entropy on the train split."""

    name = "fine-tune"

    epochs: float = Field(default=1.0, gt=0, description="Passes over the train split; a fraction is fine.")
    batch_size: int = Field(default=128, ge=2, description="Samples in one step.")
    optimizer: Literal["sgd", "adamw"] = Field(default="sgd", description="sgd has Nesterov momentum 0.9.")
    lr: float = Field(default=0.01, gt=0, description="Learning rate of the first step.")
    schedule: Literal["cosine", "constant"] = Field(default="cosine", description="How the rate goes on from there.")
    weight_decay: float = Field(default=5e-4, ge=0, description="Decay of the weights.")
    label_smoothing: float = Field(default=0.0, ge=0, lt=1, description="Spread over the other classes.")

    def recover(self, network: nn.Module, ctx: PruneContext) -> None:
        """Train the parameters that require gradients, or all of them if none does.

        Raises:
            TrialError: The loss became infinite or NaN.
        """
        import torch
        from torch.nn.functional import cross_entropy

        train = ctx.data.train
        size = min(self.batch_size, len(train))
        steps = max(1, round(self.epochs * len(train) / size))
        found = {p: p.requires_grad for p in network.parameters() if p.is_floating_point()}
        trained = [p for p, needed in found.items() if needed] or list(found)
        predictor = ctx.predictor(network)
        batches = _endless(train, size, ctx.device, ctx.generator())
        try:
            # Dropout draws from the global generators: seeded here, and given back as they were.
            with torch.random.fork_rng([ctx.device] if ctx.device.type == "cuda" else []), torch.enable_grad():
                torch.manual_seed(ctx.seed)
                for parameter in trained:
                    parameter.requires_grad_(True)
                optimizer = self._optimizer(trained)
                network.train()
                for step in range(steps):
                    for settings in optimizer.param_groups:
                        settings["lr"] = self._rate(step / steps)
                    inputs, targets = next(batches)
                    loss = cross_entropy(predictor(*inputs), targets, label_smoothing=self.label_smoothing)
                    if not loss.isfinite():
                        raise TrialError(
                            f"fine-tune diverged: the loss is {loss:g} at step {step} of {steps}; lower lr"
                        )
                    optimizer.zero_grad()
                    loss.backward()  # type: ignore[no-untyped-call]
                    optimizer.step()
        finally:
            network.eval()
            for parameter, needed in found.items():
                parameter.requires_grad_(needed).grad = None

    def _optimizer(self, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        import torch

        if self.optimizer == "adamw":
            return torch.optim.AdamW(parameters, lr=self.lr, weight_decay=self.weight_decay)
        return torch.optim.SGD(parameters, lr=self.lr, momentum=0.9, nesterov=True, weight_decay=self.weight_decay)

    def _rate(self, done: float) -> float:
        """Learning rate when that fraction of the steps is done."""
        return self.lr * (1 + math.cos(math.pi * done)) / 2 if self.schedule == "cosine" else self.lr


def _endless(split: Split, size: int, device: torch.device, generator: torch.Generator) -> Iterator[Batch]:
    """Full batches, epoch after epoch in a new order; batch norm cannot train on a last batch of one."""
    while True:
        for inputs, targets in split.batches(size, device=device, generator=generator):
            if len(targets) == size:
                yield inputs, targets
