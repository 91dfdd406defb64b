"""What ``mlflow.pyfunc.load_model`` calls to open a member of a front; MLflow's files name this module.

A model that only opens with ``trust=True`` is opened by ``model_config={"trust": True}``, or, where a server opens it,
by the environment variable of MLflow, ``MLFLOW_PYFUNC_INFERENCE_CONFIG='{"trust": true}'``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from autoprune.structure import load_pruned
from autoprune.structure.saved.forms import array_of, inputs_of, named_outputs

FOLDER = "pruned"
"""Of the saved model, in the folder of the MLflow model."""
OPTIONS = {"trust": False, "device": "cpu"}
"""What ``model_config`` may say, and what holds where it does not."""


class PrunedModel:
    """A saved model that takes and gives arrays."""

    def __init__(self, network: nn.Module) -> None:
        """Of an opened model."""
        self._network = network

    def predict(self, data: Any, params: Any = None) -> Any:  # noqa: ARG002  MLflow hands both over
        """Predictions for a batch.

        Args:
            data: An array of shape (N, …), or several by the names of the signature.
            params: Not used.

        Returns:
            An array, or several by where they stand in what the network returns.
        """
        device = next((tensor.device for tensor in self._network.parameters()), torch.device("cpu"))
        named = data if isinstance(data, Mapping) else {"0": data}
        tensors = {name: torch.as_tensor(np.ascontiguousarray(array), device=device) for name, array in named.items()}
        with torch.inference_mode():
            outputs = named_outputs(inputs_of(tensors).feed(self._network))
        arrays = {name: array_of(tensor) for name, tensor in outputs.items()}
        return arrays.get("", arrays)

    def get_raw_model(self) -> nn.Module:
        """The network: what MLflow's ``get_raw_model`` gives."""
        return self._network


def _load_pyfunc(path: str, model_config: Mapping[str, Any] | None = None) -> PrunedModel:
    """Open a model.

    Raises:
        AutopruneError: As `load_pruned` raises it.
    """
    options = {**OPTIONS, **(model_config or {})}
    folder = Path(path) / FOLDER
    return PrunedModel(load_pruned(folder, trust=options["trust"] is True, device=options["device"]))
