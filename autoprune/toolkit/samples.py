"""What evaluators on labelled samples share: which samples, in which batches, and what the task says of them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from autoprune.errors import TrialError
from autoprune.plugin import Batch, EvaluationContext, Evaluator, Need, Task
from autoprune.plugin.task import shapes
from autoprune.toolkit.files import near

if TYPE_CHECKING:
    from torch import Tensor, nn

_KEPT_BYTES = 2**30
"""Samples that take more than this on the device are fetched anew for every model."""


class SampleEvaluator(Evaluator):
    """An evaluator that runs the model on labelled samples, the same ones for every model of a study.

    Example:
        >>> class WorstLoss(SampleEvaluator):
        ...     def evaluate(self, model, ctx):
        ...         model, ctx = self.focused(model, ctx)
        ...         worst = 0.0
        ...         with torch.inference_mode():
        ...             for inputs, targets in self.batches(ctx):
        ...                 worst = max(worst, float(losses(ctx.task, inputs.feed(model), targets).max()))
        ...         return {"worst_loss": worst}
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"data", "labels"})
    only_predicts: ClassVar[bool] = True
    samples: int | None = Field(
        default=None, ge=1, description="Samples to use, a fixed random choice; the whole split if left out."
    )
    batch_size: int = Field(default=128, ge=1, description="Samples in one forward pass.")
    head: str = Field(
        default="", description="Of a task with several heads, the one that is measured; all together if left out."
    )

    def focused(self, model: nn.Module, ctx: EvaluationContext) -> tuple[nn.Module, EvaluationContext]:
        """The model and the context of the ``head`` alone: its outputs, its task; as they are if none is named.

        Raises:
            TrialError: The task has no such head.
        """
        if not self.head:
            return model, ctx
        from autoprune.toolkit._head import OneHead

        alone = replace(
            ctx,
            task=ctx.task.part(self.head),
            dense=OneHead(ctx.dense, self.head),
            build=lambda seed: OneHead(ctx.build(seed), self.head),
        )
        return OneHead(model, self.head), alone

    def kept(self, ctx: EvaluationContext, make: Callable[[], Any]) -> Any:
        """What is made once in a study for these options, whatever the label: what the dense model gives, say.

        Args:
            ctx: Remembers it, for its split and device.
            make: Makes it.
        """
        options = self.model_dump_json(exclude={"label"})
        return ctx.memo(("autoprune.toolkit.kept", self.name, options, str(ctx.device), ctx.split), make)

    def batches(self, ctx: EvaluationContext) -> Iterable[Batch]:
        """The samples on the device, with the targets of the ``head``, fetched once per study if they fit.

        They come in a random order, not in that of the split, which may well be stored class by class: so a part of
        them tells about the rest.

        Raises:
            TrialError: There are no targets of the head.
        """
        batches = self._whole_batches(ctx)
        return ((inputs, _of_head(targets, self.head)) for inputs, targets in batches) if self.head else batches

    def _whole_batches(self, ctx: EvaluationContext) -> Iterable[Batch]:
        import torch

        split = ctx.data.split(ctx.split)
        count = min(self.samples or len(split), len(split))

        def fetch() -> Iterable[Batch]:
            order = torch.Generator().manual_seed(0)
            return split.batches(self.batch_size, samples=count, device=ctx.device, generator=order)

        inputs, targets = split.fetch(torch.zeros(1, dtype=torch.int64))
        labels = tuple(targets.values()) if isinstance(targets, Mapping) else (targets,)
        if sum(tensor.nbytes for tensor in (*inputs.tensors, *labels)) * count > _KEPT_BYTES:
            return fetch()
        key = ("autoprune.toolkit.samples", str(ctx.device), ctx.split, count, self.batch_size)
        return ctx.memo(key, lambda: tuple(fetch()))


def losses(task: Task, outputs: Any, targets: Any) -> Tensor:
    """The task's loss of each sample, (N,), differentiable.

    Raises:
        TrialError: The task gives another shape.
    """
    return _of_each(task, "loss", task.loss(outputs, targets), outputs)


def right_shares(task: Task, outputs: Any, targets: Any) -> Tensor:
    """The share of each sample that is right, (N,), in [0, 1].

    Args:
        task: Says what is right.
        outputs: What it picked of the model's.
        targets: Those of the data.

    Raises:
        TrialError: The task knows no right and wrong, or gives another shape, or what is no share.
    """
    shares = task.correct(outputs, targets)
    if shares is None:
        raise TrialError(f"{task.name} has nothing that is right or wrong; use loss")
    return _of_each(task, "correct", _shares(task, "correct", shares), outputs)


def divergences(task: Task, outputs: Any, dense: Any, targets: Any) -> Tensor:
    """How far each sample's outputs are from the dense model's, (N,), differentiable.

    Raises:
        TrialError: The task gives another shape.
    """
    return _of_each(task, "divergence", task.divergence(*_taken(task.divergence, outputs, dense, targets)), outputs)


def agreements(task: Task, outputs: Any, dense: Any, targets: Any) -> Tensor:
    """Share of what the dense model says of each sample that outputs still say, (N,), in [0, 1].

    Raises:
        TrialError: The task gives another shape, or what is no share.
    """
    shares = task.agreement(*_taken(task.agreement, outputs, dense, targets))
    return _of_each(task, "agreement", _shares(task, "agreement", shares), outputs)


def weights(task: Task, outputs: Any, targets: Any) -> Tensor:
    """What each sample counts in a mean, (N,): its elements that count, or 1.

    Raises:
        TrialError: The task gives another shape.
    """
    import torch

    counted = task.counted(outputs, targets)
    if counted is None:
        return torch.ones(_samples(outputs), device=_leaf(outputs).device)
    return _of_each(task, "counted", counted, outputs)


def mean(task: Task, values: Tensor, outputs: Any, targets: Any) -> Tensor:
    """The mean of what was asked of each sample, over the elements that count, of shape (); 0 if none does.

    Args:
        task: Says what counts.
        values: Of each sample, (N,).
        outputs: What the task picked of the model's.
        targets: Those of the data.
    """
    counted = task.counted(outputs, targets)
    if counted is None:
        return values.mean()
    counted = _of_each(task, "counted", counted, outputs).to(values.dtype)
    return (values * counted).sum() / counted.sum().clamp_min(1)


def _of_head(targets: Any, head: str) -> Any:
    if not isinstance(targets, Mapping):
        raise TrialError(f"head {head!r}: targets are {shapes(targets)}, not by the names of heads")
    if head not in targets:
        raise TrialError(f"head {head!r}: there are no targets of that name{near(head, targets)}")
    return targets[head]


def _of_each(task: Task, what: str, values: Tensor, outputs: Any) -> Tensor:
    # Anything else would be averaged without a word.
    if values.shape != (_samples(outputs),):
        raise TrialError(
            f"{what} of task {task.name} gives {shapes(values)} for {_samples(outputs)} samples, not one each"
        )
    return values


def _shares(task: Task, what: str, values: Tensor) -> Tensor:
    if bool(((values < 0) | (values > 1)).any()):
        low, high = float(values.min()), float(values.max())
        raise TrialError(f"{what} of task {task.name} gives {low:g} to {high:g}; shares are between 0 and 1")
    return values


def _samples(outputs: Any) -> int:
    return len(_leaf(outputs))


def _leaf(outputs: Any) -> Any:
    """A tensor of what a task picked: that, or the first of several by name."""
    return _leaf(next(iter(outputs.values()))) if isinstance(outputs, Mapping) else outputs


def _taken(method: Callable[..., Tensor], outputs: Any, dense: Any, targets: Any) -> tuple[Any, ...]:
    """The arguments that a task's method has: one whose targets always count may leave them out."""
    return (outputs, dense, targets) if _takes_targets(getattr(method, "__func__", method)) else (outputs, dense)


@cache
def _takes_targets(function: Callable[..., Tensor]) -> bool:
    taken = list(inspect.signature(function).parameters.values())
    return "targets" in (parameter.name for parameter in taken)
