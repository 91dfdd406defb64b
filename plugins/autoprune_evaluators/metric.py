"""A metric of the user's own: a function, or a class that is fed batch by batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field

from autoprune.plugin import Cost, Data, EvaluationContext, Measured, Metric
from autoprune.toolkit import intervals
from autoprune.toolkit.samples import SampleEvaluator

if TYPE_CHECKING:
    from torch import Tensor, nn

    from autoprune_evaluators._user_code import UserCode

_RESAMPLES = 200
_FEWEST = 40
"""Resamples: 5 % of fewer are none, or one."""
_LARGE = 2**26
"""Bytes of outputs and targets, whose copies for 200 resamples would take many seconds."""


def _target(text: str) -> str:
    module, colon, attribute = text.partition(":")
    parts = [*module.split("."), *attribute.split(".")]
    if not colon or not all(part.isidentifier() for part in parts):
        raise ValueError("write module:function, as in mymetrics:f1")
    return text


def _resamples(number: int | None) -> int | None:
    if number is not None and 0 < number < _FEWEST:
        raise ValueError(f"{number} resamples tell no 95 % interval: write {_FEWEST} or more, or 0 for none")
    return number


class UserMetric(SampleEvaluator):
    """Whatever a function makes of outputs and targets: ``{use: metric, target: "mymetrics:f1", direction: maximize}``.

    The function takes ``(outputs, targets)`` of all samples at once, tensors on the CPU as the task sees them, and
    gives a number. A class with ``update``, ``compute`` and ``reset``, as those of torchmetrics have, is made with
    ``args``, or an instance copied, and fed batch by batch. The 95 % interval is a bootstrap's over samples; where the
    function gives a value per sample, the usual one of a mean. The module is looked up in the spec's own folder first,
    then among the installed ones; it runs as code, so name only what you trust.
    """

    name = "metric"

    target: Annotated[str, AfterValidator(_target)] = Field(
        description="module:function, or module:class; live:name for one that Python code handed over."
    )
    direction: Literal["minimize", "maximize"] = Field(description="Which way is better.")
    args: dict[str, Any] = Field(default={}, description="Further keyword arguments of the function, or of the class.")
    called: str = Field(
        default="",
        pattern=r"^([A-Za-z_][A-Za-z0-9_]*)?$",
        description="Name of the metric in objectives and constraints; that of the function or class if left out.",
    )
    unit: str = Field(default="1", min_length=1, description="What it is measured in.")
    per_sample: bool = Field(
        default=False,
        description="The function gives a value for each sample, (N,), batch by batch; the metric is their mean.",
    )
    resamples: Annotated[int | None, AfterValidator(_resamples)] = Field(
        default=None,
        ge=0,
        description="How often it is computed again, of samples drawn anew, for its interval; 0 for none. If left out"
        " 200, but none where outputs and targets take more than 64 MiB.",
    )

    def declares(self, data: Data | None) -> tuple[Metric, ...]:  # noqa: ARG002  the options tell
        """The one metric."""
        return (Metric(self._called, self.unit, self.direction, Cost.FORWARD, f"What {self.target} gives."),)

    def evaluate(self, model: nn.Module, ctx: EvaluationContext) -> Mapping[str, float | Measured]:
        """Ask the user's code.

        Raises:
            DataError: It cannot be found or imported.
            TrialError: It fails, or gives what is no finite number; or outputs of all samples cannot be put together.
        """
        import torch

        from autoprune_evaluators._user_code import user_code

        model, ctx = self.focused(model, ctx)
        # Not in inference mode, in whose tensors user code could not write.
        with torch.no_grad(), user_code(self.target, self.args, ctx.source) as code:
            code.check_direction(self.direction)
            measured = self._mean(model, ctx, code) if self.per_sample else self._of_all(model, ctx, code)
        return {self._called: measured}

    def final(self) -> Self:
        """The same on the whole split."""
        return self.model_copy(update={"samples": None})

    @property
    def _called(self) -> str:
        return self.called or self.target.rpartition(":")[2].rpartition(".")[2]

    def _mean(self, model: nn.Module, ctx: EvaluationContext, code: UserCode) -> Measured:
        import torch

        from autoprune_evaluators._user_code import batch_on_cpu

        found: list[Tensor] = []
        for inputs, targets in self.batches(ctx):
            found.append(code.of_each(*batch_on_cpu(inputs.feed(model), targets)))
            measured = intervals.mean_of(torch.cat(found))
            ctx.report({self._called: measured})
        return measured

    def _of_all(self, model: nn.Module, ctx: EvaluationContext, code: UserCode) -> Measured:
        from autoprune_evaluators._user_code import Kept, batch_on_cpu, copied

        resamples = _RESAMPLES if self.resamples is None else self.resamples
        kept, samples = Kept("resamples: 0" if code.fed else "per_sample: true"), 0
        for inputs, targets in self.batches(ctx):
            batch = batch_on_cpu(inputs.feed(model), targets)
            samples += len(inputs)
            if code.fed:
                code.update(*copied(*batch))
            if resamples or not code.fed:
                kept.add(*batch)
            if self.resamples is None and kept.bytes > _LARGE:
                resamples = 0
        if code.fed and not resamples:
            return Measured(value=code.computed(), samples=samples)
        whole = kept.joined()
        value = code.computed() if code.fed else code.of(*copied(*whole))
        resampled = code.resampled(*whole, intervals.draws(samples, resamples))
        return intervals.percentiles(value, resampled, samples=samples)
