"""A model without its code."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from autoprune import DataError, StructureError
from autoprune.plugin import Data, ModelSource, SourceContext

if TYPE_CHECKING:
    from torch import nn


class Exported(ModelSource):
    """A trained model as an exported program, ``{use: exported, path: model.pt2}``.

    Written by ``autoprune.save_program(network, inputs, "model.pt2")`` or by ``torch.export.save``; for models that no
    importable function makes.
    """

    name = "exported"

    path: Path = Field(description="The .pt2 file.")

    @property
    def runs_named_code(self) -> bool:
        """Not it: the file is read as data."""
        return False

    def build(self, ctx: SourceContext) -> nn.Module:
        """The program's network, with its weights."""
        from autoprune import load_program
        from autoprune.toolkit.files import existing

        try:
            return load_program(existing(self.path, ctx))
        except StructureError as error:
            raise DataError(str(error)) from error

    def load(self, data: Data, ctx: SourceContext) -> nn.Module:  # noqa: ARG002 - the weights are in the program
        """The same."""
        return self.build(ctx)
