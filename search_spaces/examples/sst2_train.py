"""Trains what the SST-2 examples prune, in two or three minutes on two CPU cores.

    AUTOPRUNE_DATA=/path/to/folder python search_spaces/examples/sst2_train.py lstm
    AUTOPRUNE_DATA=/path/to/folder python search_spaces/examples/sst2_train.py transformer

writes sst2_lstm.safetensors and sst2_transformer.safetensors beside this file, or to the path given behind the name.
The folder holds data/sst2/{train,validation,test}.parquet; a relative one starts at this file's folder. Validation
chooses the epoch; the test split is measured once, at the end.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import torch
from safetensors.torch import save_file
from sst2_models import lstm_classifier, transformer_classifier
from torch import nn
from torch.nn.functional import cross_entropy

from autoprune.plugin import Data, SourceContext, Split
from autoprune_sources.text import Text

HERE = Path(__file__).parent
MODELS = {"lstm": lstm_classifier, "transformer": transformer_classifier}
EPOCHS = 7
BATCH_SIZE = 64
LEARNING_RATE = 2e-3
WEIGHT_DECAY = 0.1


def load_data() -> Data:
    """SST-2 as the specs take it."""
    path = Path(os.environ.get("AUTOPRUNE_DATA", "../../../shared")) / "data/sst2"
    return Text(path=path).load(SourceContext(folder=HERE, cache=HERE, seed=0))


def accuracy(network: nn.Module, split: Split) -> float:
    """Fraction of the split's sentences whose class the network finds."""
    network.eval()
    with torch.inference_mode():
        right = sum(int((x.feed(network).argmax(1) == y).sum()) for x, y in split.batches(500))
    return right / len(split)


def train(network: nn.Module, data: Data) -> None:
    """Train in place; the weights of the best epoch on validation stay."""
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    steps = EPOCHS * -(-len(data.train) // BATCH_SIZE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
    best, weights = 0.0, network.state_dict()
    for epoch in range(1, EPOCHS + 1):
        network.train()
        for inputs, targets in data.train.batches(BATCH_SIZE, generator=generator):
            loss = cross_entropy(inputs.feed(network), targets)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            schedule.step()
        reached = accuracy(network, data.validation)
        print(f"epoch {epoch} of {EPOCHS}: validation accuracy {reached:.4f}", flush=True)
        if reached > best:
            best, weights = reached, {name: tensor.clone() for name, tensor in network.state_dict().items()}
    network.load_state_dict(weights)


def main() -> None:
    """Train one of the two and save it."""
    parser = argparse.ArgumentParser(description="Train a classifier of SST-2 sentences.")
    parser.add_argument("model", choices=MODELS)
    parser.add_argument("output", nargs="?", type=Path, help="the .safetensors file to write")
    arguments = parser.parse_args()
    output = arguments.output or HERE / f"sst2_{arguments.model}.safetensors"
    torch.manual_seed(0)
    network, data = MODELS[arguments.model](), load_data()
    train(network, data)
    save_file(network.state_dict(), output)
    print(f"test accuracy {accuracy(network, data.test):.4f}; weights in {output}")


if __name__ == "__main__":
    main()
