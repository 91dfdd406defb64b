"""The examples' metrics on their test samples, by scikit-learn and plain torch alone.

Each function takes a network, the dense one, the folder that the example's script filled, and its module.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from sklearn.metrics import accuracy_score, f1_score, jaccard_score, mean_absolute_error, r2_score
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import cosine_similarity, cross_entropy
from torch.utils.flop_counter import FlopCounterMode

from autoprune.toolkit.packages import optional


def diabetes_mlp(network: nn.Module, dense: nn.Module, folder: Path, module: ModuleType) -> dict[str, float]:
    inputs, targets = module.splits()["test"].tensors
    said = network(inputs)
    numbers, all_numbers = (sum(p.numel() for p in each.parameters()) for each in (network, dense))
    errors = {"r2": r2_score(targets, said), "mae": mean_absolute_error(targets, said)}
    return {**errors, "params": numbers, "params_ratio": numbers / all_numbers}


def mnist_multilabel(network: nn.Module, dense: nn.Module, folder: Path, module: ModuleType) -> dict[str, float]:
    arrays = np.load(folder / "pictures.npz")
    pictures, true = _pixels(arrays["x_test"]), arrays["y_test"]
    found = (network(pictures).sigmoid() > 0.5).numpy()
    shares = {"f1": f1_score(true, found, average="macro"), "accuracy": (found == true).mean()}
    return {**shares, **_macs(network, dense, pictures[:1])}


def mnist_two_heads(network: nn.Module, dense: nn.Module, folder: Path, module: ModuleType) -> dict[str, float]:
    arrays = np.load(folder / "pairs.npz")
    pictures = [_pixels(arrays[f"{side}_test"]) for side in ("left", "right")]
    said = network(*pictures)
    return {
        "accuracy": accuracy_score(arrays["larger_test"], said["larger"].argmax(1)),
        "r2": r2_score(arrays["sum_test"], said["sum"]),
        **_macs(network, dense, *(each[:1] for each in pictures)),
    }


def mnist_clip(network: nn.Module, dense: nn.Module, folder: Path, module: ModuleType) -> dict[str, float]:
    arrays = np.load(folder / "captioned.npz")
    pictures, captions = _pixels(arrays["images_test"]), torch.from_numpy(arrays["tokens_test"])
    ours, theirs = network(pictures, captions), dense(pictures, captions)
    cosines = [cosine_similarity(ours[tower].double(), theirs[tower].double()) for tower in ("image", "text")]
    found = captions[(ours["image"] @ ours["text"].T).argmax(1)]
    return {
        "agreement": float(torch.stack(cosines).mean()),
        "recall": float((found == captions).all(1).float().mean()),
        **_macs(network, dense, pictures[:1], captions[:1]),
    }


def mnist_cifar10_unet(network: nn.Module, dense: nn.Module, folder: Path, module: ModuleType) -> dict[str, float]:
    names = sorted(path.name for path in (folder / "test/masks").iterdir())
    pictures, masks = (
        np.stack([np.array(Image.open(folder / "test" / kind / name)) for name in names])
        for kind in ("images", "masks")
    )
    pixels = _pixels(pictures.transpose(0, 3, 1, 2))
    counted = masks != 255
    true, found = masks[counted], network(pixels).argmax(1).numpy()[counted]
    shares = {"miou": jaccard_score(true, found, average="macro"), "accuracy": accuracy_score(true, found)}
    return {**shares, **_macs(network, dense, pixels[:1])}


def sst2_bert(network: nn.Module, dense: nn.Module, folder: Path, module: ModuleType) -> dict[str, float]:
    tokenizer = optional("transformers").AutoTokenizer.from_pretrained(folder)
    table = pd.read_parquet(_sentences("test"))
    found = []
    for start in range(0, len(table), 128):
        batch = table["sentence"].iloc[start : start + 128].tolist()
        tokens = tokenizer(batch, padding=True, truncation=True, max_length=32, return_tensors="pt")
        given = {name: tokens[name] for name in ("input_ids", "attention_mask")}
        found.append(network(**given).logits.argmax(1))
    one = {name: torch.ones(1, 32, dtype=torch.int64) for name in given}
    return {"accuracy": accuracy_score(table["label"], torch.cat(found)), **_macs(network, dense, **one)}


def sst2_llama(network: nn.Module, dense: nn.Module, folder: Path, module: ModuleType) -> dict[str, float]:
    tokenizer = optional("transformers").AutoTokenizer.from_pretrained(folder)
    sentences = pd.read_parquet(_sentences("test"))["sentence"]
    row = [token for sentence in sentences for token in (*tokenizer.encode(sentence), tokenizer.eos_token_id)]
    blocks = torch.tensor(row[: len(row) // 32 * 32]).view(-1, 32)
    scores = torch.cat([network(input_ids=batch).logits for batch in blocks.split(128)])
    nats = cross_entropy(scores[:, :-1].flatten(0, 1).double(), blocks[:, 1:].flatten())
    return {"perplexity": float(nats.exp()), **_macs(network, dense, input_ids=blocks[:1])}


METRICS: Mapping[str, Callable[..., dict[str, float]]] = {
    function.__name__: function
    for function in (
        diabetes_mlp,
        mnist_multilabel,
        mnist_two_heads,
        mnist_clip,
        mnist_cifar10_unet,
        sst2_bert,
        sst2_llama,
    )
}


def continued(network: nn.Module, tokens: list[int], count: int) -> list[int]:
    """The tokens, and the most likely ones after them; nothing is kept from one to the next, and none ends it."""
    row = list(tokens)
    with torch.no_grad():
        for _ in range(count):
            scores = network(input_ids=torch.tensor([row]), use_cache=False).logits[0, -1]
            scores[network.config.eos_token_id] = -torch.inf
            row.append(int(scores.argmax()))
    return row


def _pixels(array: Any) -> Tensor:
    return torch.from_numpy(array).float() / 255


def _sentences(split: str) -> Path:
    return Path(os.environ["AUTOPRUNE_DATA"]) / f"data/sst2/{split}.parquet"


def _macs(network: nn.Module, dense: nn.Module, *args: Tensor, **kwargs: Tensor) -> dict[str, float]:
    """Multiply-accumulates of one sample, and their share of the dense network's: half of what torch counts."""
    counts = []
    for each in (network, dense):
        # Of attention it counts the products of matrices alone, which the fused kernels hide.
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            each(*args, **kwargs)
        counts.append(counter.get_total_flops() / 2)
    return {"macs": counts[0], "macs_ratio": counts[0] / counts[1]}
