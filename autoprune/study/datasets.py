"""What a study ran on: its splits, each with a digest that tells other data apart."""

from __future__ import annotations

import json
from hashlib import blake2b

import torch

from autoprune.plugin import Data, DatasetSummary
from autoprune.plugin.data import SplitName, mapped
from autoprune.spec.fields import Reference
from autoprune.study.digests import taking

_SAMPLES = 8
_SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")


def dataset_summaries(asked: Reference, data: Data) -> tuple[DatasetSummary, ...]:
    """The splits. Few samples are read, from one end to the other: a split may be large, or slow to read.

    Args:
        asked: What the spec says of the data.
        data: What came of it.
    """
    said = json.dumps(asked, sort_keys=True, default=str)
    return tuple(
        DatasetSummary(split=name, samples=len(data.split(name)), digest=_digest(said, name, data)) for name in _SPLITS
    )


def _digest(said: str, name: SplitName, data: Data) -> str:
    split = data.split(name)
    digest = blake2b(f"{said} {name} {len(split)}".encode(), digest_size=8)
    take = taking(digest)
    if len(split):
        places = torch.linspace(0, len(split) - 1, min(_SAMPLES, len(split))).long()
        inputs, targets = split.fetch(places)
        inputs.map(take)
        mapped(take, targets)
    return digest.hexdigest()
