"""An evaluator that keeps what models say in the search's own processes, to be compared with the saved ones."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from autoprune.plugin import Cost, EvaluationContext, Evaluator, Measured, Metric

_SAMPLES, _DIGITS = 8, 12


class Witness(Evaluator):
    """Keeps the outputs of each model for the first validation samples, in a file named by a number in (0, 1).

    The number, a hash of the outputs, is the metric ``witness``; ``mirror`` is 1 less it. No two different models
    dominate each other in both, so that with the two as objectives every model is on the front, and saved.
    """

    name = "witness"
    metrics = (
        Metric("witness", "hash", "maximize", Cost.FORWARD),
        Metric("mirror", "hash", "maximize", Cost.FORWARD),
    )

    folder: Path

    def evaluate(self, model: nn.Module, ctx: EvaluationContext) -> Mapping[str, float | Measured]:
        inputs, _ = ctx.data.validation.fetch(torch.arange(_SAMPLES))
        with torch.no_grad():
            outputs = inputs.to(ctx.device).feed(model).cpu().contiguous()
        digits = hashlib.sha256(outputs.numpy().tobytes()).hexdigest()[:_DIGITS]
        given = {f"{i}": tensor for i, tensor in enumerate(inputs.args)} | dict(inputs.kwargs)
        self._keep("inputs", given)
        self._keep(digits, {"outputs": outputs})
        number = int(digits, 16) / 16**_DIGITS
        return {"witness": number, "mirror": 1 - number}

    def _keep(self, name: str, tensors: Mapping[str, Tensor]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        unfinished = self.folder / f".{name}-{os.getpid()}-{os.urandom(4).hex()}"
        save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, unfinished)
        unfinished.replace(self.folder / f"{name}.safetensors")
