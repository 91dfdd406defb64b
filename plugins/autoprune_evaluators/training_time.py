"""How long a model takes to train, against the dense one at the same moment."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from pydantic import Field

from autoprune import TrialError
from autoprune.plugin import Cost, Data, EvaluationContext, Evaluator, Measured, Metric
from autoprune.toolkit.copies import duplicate
from autoprune.toolkit.samples import losses
from autoprune_evaluators._timing import in_turn, milliseconds

if TYPE_CHECKING:
    from torch import nn


class TrainingTime(Evaluator):
    """Times one step of training: forward in ``train()``, the task's loss, backward and a step of SGD with momentum.

    Copies are trained, on one batch of the train split that already is on the device, in turn with the dense model.
    """

    name = "training-time"
    metrics = (
        Metric("training_ms", "ms", "minimize", Cost.TIMING, "Time of one training step, the median."),
        Metric(
            "training_ratio",
            "fraction of dense",
            "minimize",
            Cost.TIMING,
            "Time of a training step over the dense model's right before or after it, the median.",
        ),
    )

    batch_size: int = Field(default=64, ge=2, description="Samples of one step.")
    repeats: int = Field(default=10, ge=2, description="Timed steps of each network, at least.")
    seconds: float = Field(
        default=1.0, ge=0, allow_inf_nan=False, description="Goes on timing for at least so long, for quick networks."
    )

    def refuses(self, data: Data) -> str | None:
        """Why no step is possible on that data; None when one is."""
        if len(data.train) < 2:
            return f"{self.name}: a step takes 2 train samples or more; there are {len(data.train)}"
        return None

    def evaluate(self, model: nn.Module, ctx: EvaluationContext) -> Mapping[str, float | Measured]:
        """Time steps of the network and of the dense network in alternating order.

        Raises:
            TrialError: The model has no gradients.
        """
        ours, dense = (self._step(duplicate(each), ctx) for each in (model, ctx.dense))
        for _ in range(2):
            ours(), dense()
        pairs = in_turn(
            lambda: milliseconds(ours, ctx.device),
            lambda: milliseconds(dense, ctx.device),
            repeats=self.repeats,
            seconds=self.seconds,
            of_dense=ctx.of_dense,
        )
        return pairs.measured("training_ms", "training_ratio", of_dense=ctx.of_dense)

    def _step(self, model: nn.Module, ctx: EvaluationContext) -> Callable[[], None]:
        import torch

        model.train()
        inputs, targets = next(iter(ctx.data.train.batches(self.batch_size, device=ctx.device)))
        weights = [each.requires_grad_() for each in model.parameters() if each.is_floating_point()]
        # The rate is 0, so that the loss does not explode in the course of many steps; the time is the same.
        optimizer = torch.optim.SGD(weights, lr=0.0, momentum=0.9)

        def step() -> None:
            optimizer.zero_grad(set_to_none=True)
            loss = losses(ctx.task, inputs.feed(model), targets).mean()
            if not loss.requires_grad:
                raise TrialError(f"{self.name}: the loss has no gradient to the weights: the model can't be trained")
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()

        return step
