from __future__ import annotations

from collections import Counter

import pytest
import torch
from sklearn.datasets import load_digits

from autoprune import DataError
from autoprune.plugin import Normalization
from autoprune_sources.digits import Digits


@pytest.fixture
def digits(ctx):
    return Digits().load(ctx)


def test_the_splits_part_scikit_learn_s_digits(digits, check_distinct, contents):
    check_distinct(digits, 1797)
    reference = load_digits()
    images = torch.tensor(reference.images).float() / 16
    expected = Counter((i.numpy().tobytes(), int(t)) for i, t in zip(images, reference.target, strict=True))
    assert contents(digits.train) + contents(digits.validation) + contents(digits.test) == expected


def test_the_splits_are_stratified_and_of_the_told_sizes(digits):
    assert [len(digits.split(name)) for name in ("train", "validation", "test")] == [1079, 359, 359]
    for name in ("train", "validation", "test"):
        split = digits.split(name)
        _, targets = split.fetch(torch.arange(len(split)))
        counts = targets.bincount(minlength=10) / len(split)
        overall = torch.tensor(load_digits().target).bincount() / 1797
        assert (counts - overall).abs().max() < 0.005


def test_images_are_in_input_units(digits):
    inputs, targets = digits.train.fetch(torch.arange(len(digits.train)))
    images = inputs.first
    assert images.shape == (1079, 1, 8, 8)
    assert images.dtype == torch.float32
    assert targets.dtype == torch.int64
    assert (images.min(), images.max()) == (0, 1)
    assert digits.bounds == (0.0, 1.0)
    assert digits.classes == 10
    assert digits.normalization is None


def test_normalisation_is_handed_on_and_left_to_the_host(ctx, digits, contents):
    data = Digits.model_validate({"normalize": {"mean": [0.3], "std": [0.4]}}).load(ctx)
    assert data.normalization == Normalization(mean=(0.3,), std=(0.4,))
    assert contents(data.test) == contents(digits.test)


def test_normalisation_of_three_channels_is_refused(ctx):
    data = Digits.model_validate({"normalize": {"mean": [0.3] * 3, "std": [0.4] * 3}})
    with pytest.raises(DataError, match="normalize gives 3 channels; the data has 1"):
        data.load(ctx)
