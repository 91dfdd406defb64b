"""How many predictions are right in spite of noise on the input."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from autoprune.plugin import Cost, Data, Metric
from autoprune_evaluators._attacking import Distance
from autoprune_evaluators._perturbed import PerturbedEvaluator

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class GaussianNoise(PerturbedEvaluator):
    """Accuracy under normal noise on every value of the input, clipped to the data's bounds.

    The deviation is in input units, before normalisation. The noise of a sample is the same for every model.
    """

    name = "gaussian-noise"
    metrics = (
        Metric("gaussian_accuracy", "fraction", "maximize", Cost.FORWARD, "Share right under normal noise on inputs."),
    )

    deviation: Distance = Field(
        description="The noise's standard deviation in input units, before normalisation, as a number or a fraction:"
        " 8/255."
    )

    def refuses(self, data: Data) -> str | None:
        """Why it cannot change inputs like these; None when it can."""
        if data.bounds is not None and self.deviation > data.bounds[1] - data.bounds[0]:
            low, high = data.bounds
            return (
                f"{self.name}: deviation {self.deviation:g} is more than the inputs' whole range, {low:g} to {high:g};"
                " it is in input units, before normalisation: 8/255 for eight grey levels of an image in 0 to 1"
            )
        return super().refuses(data)

    def _changed(self, inputs: Tensor, bounds: tuple[float, float], generator: torch.Generator) -> Tensor:  # noqa: ARG002  clipped later
        import torch

        return inputs + self.deviation * torch.randn(inputs.shape, generator=generator).to(inputs)


class SaltAndPepper(PerturbedEvaluator):
    """Accuracy where a share of the input's values is lost: half of them at each end of the data's bounds.

    Each value, of a colour image each channel's, is lost or not by itself. The same ones for every model.
    """

    name = "salt-and-pepper"
    metrics = (
        Metric(
            "salt_pepper_accuracy", "fraction", "maximize", Cost.FORWARD, "Share right where input values are lost."
        ),
    )

    share: float = Field(gt=0, le=1, description="The share of an input's values that is set to either bound.")

    def _changed(self, inputs: Tensor, bounds: tuple[float, float], generator: torch.Generator) -> Tensor:
        import torch

        drawn = torch.rand(inputs.shape, generator=generator).to(inputs.device)
        peppered = inputs.masked_fill(drawn < self.share / 2, bounds[0])
        return peppered.masked_fill(drawn >= 1 - self.share / 2, bounds[1])
