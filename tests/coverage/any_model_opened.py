"""What a saved model says, in a new process: ``python -m tests.coverage.any_model_opened FOLDER MODEL``."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

import autoprune


def main() -> None:
    """Print the test loss and what became of ``save_pretrained``, as JSON."""
    folder, model = map(Path, sys.argv[1:3])
    spec = json.loads((folder / "spec.yaml").read_text(encoding="utf-8"))
    network = autoprune.load_pruned(model, trust=True)
    found = {"opened": loss(network, spec, folder), "pretrained": "–"}
    if spec["model"]["use"] == "huggingface" and hasattr(network, "save_pretrained"):
        found["pretrained"] = pretrained(network, spec, folder)
    print(json.dumps(found))


def loss(network: nn.Module, spec: dict[str, Any], folder: Path) -> float:
    """Mean cross-entropy on the test split, in nats."""
    inputs, array = spec["data"]["inputs"], np.load(folder / "data.npz")
    with torch.no_grad():
        if isinstance(inputs, dict):
            returned = network(**{name: torch.from_numpy(array[f"{of}_test"]) for name, of in inputs.items()})
        else:
            returned = network(torch.from_numpy(array[f"{inputs}_test"]))
    logits: Tensor = returned if isinstance(returned, Tensor) else returned["logits"]
    targets = torch.from_numpy(array[f"{spec['data']['targets']}_test"])
    if spec["task"]["use"] == "causal-lm":
        logits, targets = logits[:, :-1].flatten(0, 1), targets[:, 1:].flatten()
    return float(functional.cross_entropy(logits, targets))


def pretrained(network: Any, spec: dict[str, Any], folder: Path) -> str:
    """Whether it can be saved by ``save_pretrained``, and ``from_pretrained`` opens the same."""
    import transformers

    with tempfile.TemporaryDirectory() as again:
        try:
            network.save_pretrained(again)
        except autoprune.StructureError:
            return "refuses"
        opener = getattr(transformers, spec["model"]["auto"])
        opened = opener.from_pretrained(again, local_files_only=True).eval()
    same = abs(loss(opened, spec, folder) - loss(network, spec, folder)) < 1e-4
    return "opens it" if same else "**opens another**"


if __name__ == "__main__":
    main()
