from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from autoprune.plugin import Data, Split
from autoprune.study.datasets import dataset_summaries

SPEC = {"use": "npz", "path": "a.npz"}


@pytest.fixture
def data():
    images, targets = torch.rand(30, 1, 4, 4), torch.arange(30) % 3
    train, validation, test = (
        Split.of_tensors(images[rows], targets[rows]) for rows in (slice(20), slice(20, 25), slice(25, 30))
    )
    return Data(train=train, validation=validation, test=test)


def test_splits_are_told_by_name_and_size(data):
    found = dataset_summaries(SPEC, data)
    assert [(each.split, each.samples) for each in found] == [("train", 20), ("validation", 5), ("test", 5)]
    assert len({each.digest for each in found}) == 3
    assert dataset_summaries(dict(reversed(SPEC.items())), data) == found, "the same data, the same digests"


def test_other_samples_other_sizes_and_other_specs_have_other_digests(data):
    found = dataset_summaries(SPEC, data)[0].digest
    inputs, targets = data.train.fetch(torch.arange(20))
    other = inputs.first.clone()
    other[-1] += 1e-3
    digests = {
        dataset_summaries(spec, replace(data, train=train))[0].digest
        for spec, train in (
            ({**SPEC, "path": "b.npz"}, data.train),
            (SPEC, data.train.part(torch.arange(19))),
            (SPEC, Split.of_tensors(other, targets)),
            (SPEC, Split.of_tensors(inputs, targets.flip(0))),
        )
    }
    assert len(digests - {found}) == 4


def test_few_samples_are_read(data):
    read: list[int] = []

    def counted(index):
        read.extend(index.tolist())
        return data.train.fetch(index)

    dataset_summaries(SPEC, replace(data, train=Split(20, counted)))
    assert len(read) <= 8
    assert {0, 19} <= set(read)
