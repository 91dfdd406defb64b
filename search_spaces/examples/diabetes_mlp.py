"""How far diabetes will have gone in a year, from ten numbers about a patient: the data, a net, and its training.

    python search_spaces/examples/diabetes_mlp.py

trains it in seconds. The data comes with scikit-learn (Efron et al., *Least Angle Regression*, Annals of Statistics 32,
2004): 442 patients.
"""

from __future__ import annotations

import torch
from making import made, train
from safetensors.torch import save_file
from sklearn.datasets import load_diabetes
from torch import nn
from torch.nn.functional import mse_loss
from torch.utils.data import TensorDataset

TRAIN, VALIDATION = 262, 80
"""Patients; the other 100 test."""


def splits() -> dict[str, TensorDataset]:
    """Train, validation and test patients: inputs (N, 10) and targets (N, 1), in deviations from the training mean."""
    inputs, targets = (torch.as_tensor(array, dtype=torch.float32) for array in load_diabetes(return_X_y=True))
    order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(0))
    inputs, targets = inputs[order], targets[order].unsqueeze(1)
    scaled = [(each - each[:TRAIN].mean(0)) / each[:TRAIN].std(0) for each in (inputs, targets)]
    parts = zip(*(each.split([TRAIN, VALIDATION, len(order) - TRAIN - VALIDATION]) for each in scaled), strict=True)
    return {name: TensorDataset(*part) for name, part in zip(("train", "validation", "test"), parts, strict=True)}


def mlp(width: int = 64) -> nn.Sequential:
    """(N, 10) to (N, 1): two hidden layers, 4,929 parameters."""
    return nn.Sequential(
        nn.Linear(10, width), nn.ReLU(), nn.Dropout(0.3), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1)
    )


def main() -> None:
    """Train the net and save it."""
    torch.manual_seed(0)
    network, parts = mlp(), splits()
    inputs, targets = parts["train"].tensors
    train(network, len(inputs), lambda i: mse_loss(network(inputs[i]), targets[i]), epochs=60, batch_size=32)
    save_file(network.state_dict(), made("diabetes_mlp") / "mlp.safetensors")
    inputs, targets = parts["test"].tensors
    with torch.inference_mode():
        error = mse_loss(network(inputs), targets) / targets.var(correction=0)
    print(f"R² on the test patients: {1 - error:.3f}")


if __name__ == "__main__":
    main()
