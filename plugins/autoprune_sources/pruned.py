"""A model that was pruned before."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from autoprune import DataError, StructureError
from autoprune.plugin import Data, ModelSource, SourceContext

if TYPE_CHECKING:
    from torch import nn


class Pruned(ModelSource):
    """A model of an earlier study, to be pruned on: ``{use: pruned, path: runs/digits-1/models/7}``.

    The folder says how its dense model is built. Where that runs code, a ``factory`` or a plugin file in the folder, it
    takes ``trust: true``, as a folder may come from anybody.
    """

    name = "pruned"

    path: Path = Field(description="Folder of the saved model.")
    trust: bool = Field(default=False, description="Let the code run that the folder names or brings along.")

    @property
    def runs_named_code(self) -> bool:
        """Where the folder may name some."""
        return self.trust

    def build(self, ctx: SourceContext) -> nn.Module:
        """The saved model, with its weights."""
        from autoprune import load_pruned

        try:
            return load_pruned(self.pruned_in(ctx), trust=self.trust)
        except StructureError as error:
            raise DataError(str(error)) from error

    def load(self, data: Data, ctx: SourceContext) -> nn.Module:  # noqa: ARG002 - the weights are in its folder
        """The same."""
        return self.build(ctx)

    def pruned_in(self, ctx: SourceContext) -> Path:
        """The folder."""
        from autoprune.toolkit.files import existing

        return existing(self.path, ctx)
