"""Opening saved models, wherever they are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import nn

_TRACKED = ("runs:/", "models:/")


def load_pruned(
    model: str | Path, *, dense: nn.Module | None = None, device: str | torch.device = "cpu", trust: bool = False
) -> nn.Module:
    """Open a saved model, in ``eval()``.

    It takes the inputs that the dense model took: normalised, where the spec normalises. After training of your own,
    `save_pruned` saves it again. A model of transformers is of the same class as before: ``generate`` works, and so
    does ``save_pretrained`` where a configuration tells its sizes; where none does, it says so.

    Example:
        >>> network = autoprune.load_pruned("runs/digits-1/models/7")
        >>> network = autoprune.load_pruned("models:/digits/1")  # of MLflow

    Args:
        model: A folder that a search saved, or where MLflow has it: ``runs:/<run id>/<name>``, ``models:/<name>/1`` or
            ``models:/<name>@<alias>``; asked is the store of ``$MLFLOW_TRACKING_URI`` or ``mlflow.set_tracking_uri``.
            What a search took from its spec's folder, such as a module, is then looked for in the current one.
        dense: The dense model, with any weights; left as it was. Left out, the recipe's model source builds it. An
            exported program needs none.
        device: Where the model goes.
        trust: Let the code run that the recipe names or the folder brings along: the module that a ``factory`` is in,
            a plugin's file. Only if you would run a script from the same hands. A source that runs nothing of the
            kind (``exported``, ``huggingface``, ``timm``, ``torchvision``, …) does not ask for it, nor does a model
            that is opened with ``dense``, unless a transform does.

    Raises:
        StructureError: There is no saved model, ``dense`` is not the model of the recipe, or code would have to run
            that is not trusted.
        DataError: The recipe's model source cannot build the dense model.
    """
    from autoprune.structure import load_pruned as load

    if isinstance(model, str) and model.startswith(_TRACKED):
        from autoprune.tracking.downloads import downloaded

        model = downloaded(model)
    return load(model, dense=dense, device=device, trust=trust)
