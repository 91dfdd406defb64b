"""An exported PyTorch program: a model without its code."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from autoprune.plugin import Artifact, Exporter

if TYPE_CHECKING:
    from torch import nn

    from autoprune.plugin import ExportContext, Inputs


class Program(Exporter):
    """Writes ``model.pt2`` by ``torch.export``, for any batch size.

    ``autoprune.load_program`` and ``torch.export.load`` open it, neither of which needs the model's code. As the data
    source ``exported`` it can be pruned again.
    """

    name = "program"

    def export(self, model: nn.Module, examples: Inputs, folder: Path, ctx: ExportContext) -> Artifact:
        """Write it."""
        import autoprune

        file = folder / "model.pt2"
        autoprune.save_program(model, examples, file)
        takes = "takes inputs as they are" if ctx.normalization is None else "takes normalised inputs"
        return Artifact(file, f"exported program, {takes}; open it by autoprune.load_program")
