"""A small convolutional net for the digits, trained on the spot."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from autoprune import DataError
from autoprune.plugin import Data, ModelSource, SourceContext

if TYPE_CHECKING:
    from torch import nn


class DigitsCnn(ModelSource):
    """A residual convolutional net for 8x8 digits, trained from scratch in seconds, then kept in the cache."""

    name = "digits-cnn"

    width: int = Field(
        default=16, ge=2, le=256, description="Channels of the first stage; the second has twice as many."
    )
    epochs: int = Field(default=20, ge=1, description="Passes over the training split.")

    @property
    def runs_named_code(self) -> bool:
        """Not it: it has no such option."""
        return False

    def build(self, ctx: SourceContext) -> nn.Module:
        """The net with random weights, drawn from the seed."""
        from autoprune_sources._digits_cnn import new_network

        return new_network(self.width, seed=ctx.seed)

    def load(self, data: Data, ctx: SourceContext) -> nn.Module:
        """The trained net: from the cache, or trained now and put there.

        Raises:
            DataError: The data is not the digits'.
        """
        import torch

        from autoprune_sources._digits_cnn import CLASSES, INPUT_SHAPE, cached

        inputs, _ = data.train.fetch(torch.arange(1))
        if [tuple(tensor.shape[1:]) for tensor in inputs.tensors] != [INPUT_SHAPE] or data.classes != CLASSES:
            raise DataError("model digits-cnn takes 1x8x8 images of 10 classes: use it with `data: {use: digits}`")
        return cached(ctx.cache, self.width, data, epochs=self.epochs, seed=ctx.seed)
