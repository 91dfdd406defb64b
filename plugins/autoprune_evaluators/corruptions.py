"""How many predictions are right on corrupted images: noise, blur, weather, compression."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from operator import itemgetter
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, Field

from autoprune import DataError
from autoprune.plugin import Batch, Cost, Data, EvaluationContext, Measured, Metric
from autoprune.plugin.data import mapped
from autoprune.plugin.task import shapes
from autoprune.toolkit import intervals, paired
from autoprune.toolkit.samples import SampleEvaluator, right_shares, weights
from autoprune_evaluators._perturbed import kept, within

if TYPE_CHECKING:
    from torch import Tensor, nn

Kind = Literal[
    "gaussian-noise", "shot-noise", "impulse-noise", "defocus-blur", "glass-blur", "motion-blur", "zoom-blur", "snow",
    "frost", "fog", "brightness", "contrast", "elastic", "pixelate", "jpeg",
]  # fmt: skip
"""The common corruptions, in the article's order."""
_KINDS: tuple[Kind, ...] = Kind.__args__  # type: ignore[attr-defined]
_LEVELS = 255
_AT_ONCE = 2**28
"""Bytes of corrupted images of a batch."""
_LEAST = 8
"""Pixels of the smaller side."""


def _distinct(given: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(set(given)) < len(given):
        raise ValueError("write each one once")
    return given


class Corruption(SampleEvaluator):
    """Accuracy on corrupted images: the mean over the fifteen common corruptions at five severities each.

    Hendrycks and Dietterich, *Benchmarking neural network robustness to common corruptions and perturbations*,
    arXiv:1903.12261: CIFAR-10-C's parameters for images under 64 pixels, ImageNet-C's, scaled, for larger ones. Images
    have 1 or 3 channels, and are rounded to 8 bits, as theirs are. Frost is made up, where theirs is photographed.

    Corrupted images are made once, the same for every model, and kept where they fit into 1 GiB: all of 256 images of
    CIFAR-10 take 59 MB, of 224 × 224 pixels 95 images fit. Each model predicts all of them. Its 95 % interval is over
    images.
    """

    name = "corruption"
    metrics = (
        Metric(
            "corruption_accuracy", "fraction", "maximize", Cost.ATTACK, "Share right of corrupted images, in the mean."
        ),
    )

    kinds: Annotated[tuple[Kind, ...], AfterValidator(_distinct)] = Field(
        default=_KINDS, min_length=1, description="Which corruptions; all fifteen if left out."
    )
    severities: Annotated[tuple[Annotated[int, Field(ge=1, le=5)], ...], AfterValidator(_distinct)] = Field(
        default=(1, 2, 3, 4, 5), min_length=1, description="How severe, from 1 to 5; all five if left out."
    )
    each: bool = Field(
        default=False, description="Tell each corruption's accuracy as well: corruption_accuracy_fog and so on."
    )
    seed: int = Field(default=0, ge=0, description="Seeds what is drawn, the same for every model of a study.")
    samples: int | None = Field(
        default=256, ge=1, description="Samples to corrupt, a fixed random choice; the whole split if null."
    )

    def declares(self, data: Data | None) -> tuple[Metric, ...]:  # noqa: ARG002  the options tell
        """The mean, and each corruption's if that is asked for."""
        return (
            *self.metrics,
            *(
                Metric(_metric(kind), "fraction", "maximize", Cost.ATTACK, f"Share right of images under {kind}.")
                for kind in (self.kinds if self.each else ())
            ),
        )

    def refuses(self, data: Data) -> str | None:
        """Why it cannot corrupt inputs like these; None when it can."""
        import torch

        if data.bounds is None:
            return f"{self.name} changes inputs that have bounds, such as images; this data has none"
        inputs, _ = data.validation.fetch(torch.zeros(1, dtype=torch.int64))
        return _no_images(inputs.first)

    def evaluate(self, model: nn.Module, ctx: EvaluationContext) -> Mapping[str, float | Measured]:
        """Have the model predict every corrupted image.

        Raises:
            DataError: Inputs are no images of 1 or 3 channels within bounds.
            TrialError: The task knows no right and wrong, or nothing counts.
        """
        import torch

        model, ctx = self.focused(model, ctx)
        with torch.inference_mode():
            shares, counted = self._shares(model, ctx, report=True)
            known = (shares, counted)
            dense, alike = self.kept(ctx, lambda: known if ctx.of_dense else self._shares(ctx.dense, ctx))
        found = self._measured(shares, counted)
        if ctx.of_dense or not bool((counted == alike).all()):  # a task may count by what a model says
            return found
        others = self._means(dense)
        return {
            name: found[name].model_copy(update={"difference": paired.of_shares(mean, others[name], counted)})
            for name, mean in self._means(shares).items()
        }

    def _shares(self, model: nn.Module, ctx: EvaluationContext, *, report: bool = False) -> tuple[Tensor, Tensor]:
        """What is right of each sample under each corruption, (N, kinds, severities), and what it counts, (N,)."""
        import torch

        low, high = ctx.data.bounds or (0.0, 1.0)
        found: list[Tensor] = []
        counted: list[Tensor] = []
        for inputs, targets in self._corrupted(ctx):
            rights = []
            for levels in inputs.first.unbind(1):
                images = low + (high - low) / _LEVELS * levels.float()
                outputs = inputs.with_first(images).feed(model)
                rights.append(right_shares(ctx.task, outputs, targets).double().cpu())
            found.append(torch.stack(rights, dim=1).unflatten(1, (len(self.kinds), len(self.severities))))  # type: ignore[no-untyped-call]
            counted.append(weights(ctx.task, outputs, targets).double().cpu())
            so_far = torch.cat(found), torch.cat(counted)
            if report and bool(so_far[1].any()):
                ctx.report(self._measured(*so_far))
        return so_far

    def _measured(self, shares: Tensor, counted: Tensor) -> dict[str, Measured]:
        return {name: intervals.share_of(mean, counted) for name, mean in self._means(shares).items()}

    def _means(self, shares: Tensor) -> dict[str, Tensor]:
        """Of each sample by metric, (N,)."""
        kinds = zip(self.kinds, shares.mean(2).unbind(1), strict=True) if self.each else ()
        return {"corruption_accuracy": shares.mean((1, 2)), **{_metric(kind): mean for kind, mean in kinds}}

    def _corrupted(self, ctx: EvaluationContext) -> Iterable[Batch]:
        """Batches whose first input is (N, kinds · severities, C, H, W), uint8: grey levels between the bounds."""
        options = self.model_dump_json(exclude={"label", "each"})
        return kept(ctx, ("autoprune_evaluators.corrupted", options), lambda: self._made(ctx))

    def _made(self, ctx: EvaluationContext) -> Iterator[Batch]:
        import torch

        from autoprune_evaluators._corruptions import corrupted

        bounds = ctx.data.bounds
        if bounds is None:
            raise DataError(str(self.refuses(ctx.data)))
        wanted = [(kind, severity) for kind in self.kinds for severity in self.severities]
        # A corruption's own, so that it is the same whichever others are asked for.
        generators = {
            (kind, severity): torch.Generator().manual_seed(100 * self.seed + 5 * _KINDS.index(kind) + severity)
            for kind, severity in wanted
        }
        for inputs, targets in self._parts(ctx, len(wanted)):
            if fault := _no_images(inputs.first):
                raise DataError(fault)
            within(self.name, inputs.first, bounds)
            images = ((inputs.first.cpu().float() - bounds[0]) / (bounds[1] - bounds[0])).clamp(0, 1)
            levels = [
                (_LEVELS * corrupted(images, *which, generators[which])).round().to(torch.uint8) for which in wanted
            ]
            yield inputs.with_first(torch.stack(levels, dim=1).to(ctx.device)), targets

    def _parts(self, ctx: EvaluationContext, changes: int) -> Iterator[Batch]:
        """Batches of no more images than can be held in so many versions at once."""
        for inputs, targets in self.batches(ctx):
            size = max(1, _AT_ONCE // (changes * inputs.first[0].numel()))
            for start in range(0, len(inputs), size):
                rows = slice(start, start + size)
                yield inputs[rows], mapped(itemgetter(rows), targets)


def _metric(kind: str) -> str:
    return f"corruption_accuracy_{kind.replace('-', '_')}"


def _no_images(first: Tensor) -> str | None:
    """Why a first input is no batch of images; None where it is one."""
    if first.dim() == 4 and first.shape[1] in (1, 3) and min(first.shape[2:]) >= _LEAST and first.is_floating_point():
        return None
    return (
        f"corruption changes images of 1 or 3 channels and {_LEAST} pixels or more, (N, C, H, W); the first input is"
        f" {shapes(first)}"
    )
