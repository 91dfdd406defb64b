"""Saving a pruned network once more, after training of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from autoprune.errors import StructureError

if TYPE_CHECKING:
    from torch import nn


def save_pruned(network: nn.Module, folder: str | Path) -> None:
    """Save a network that `load_pruned` gave once more, after training of your own: its recipe with its new weights.

    Example:
        >>> network = autoprune.load_pruned(result.models[7])
        >>> train(network)
        >>> autoprune.save_pruned(network, "tuned")

    Args:
        network: It, or a copy of it; left as it is. Its weights may have changed, its modules and shapes may not.
        folder: Is made; a model that was saved in it before is replaced.

    Raises:
        StructureError: The network did not come from `load_pruned`, is no longer what its recipe makes, or the folder
            is a study's or holds something else.
    """
    from autoprune.structure import resave
    from autoprune.study.folder import STUDY_FILE

    folder = Path(folder).absolute()
    study = folder.parent.parent
    if (study / STUDY_FILE).exists():
        raise StructureError(
            f"{folder} is of the study {study}, where the model is that was measured; choose another folder"
        )
    resave(network, folder)
