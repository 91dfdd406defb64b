from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from autoprune import DataError
from autoprune.plugin import Normalization
from autoprune.testing import DataSourceConformance
from autoprune_sources.npz import Npz

RANDOM = np.random.default_rng(0)


def images(count, *shape):
    return RANDOM.integers(0, 256, (count, *shape), dtype=np.uint8)


def labels(count, dtype=np.int64):
    return (np.arange(count) % 3).astype(dtype)


def load(ctx, arrays=None, **options):
    if arrays is not None:
        np.savez(ctx.folder / "data.npz", **arrays)
    return Npz.model_validate({"path": "data.npz", **options}).load(ctx)


def everything(split):
    batch, targets = split.fetch(torch.arange(len(split)))
    inputs = batch.first
    return inputs, targets


def test_a_single_pair_is_split(ctx, check_distinct):
    data = load(ctx, {"x": images(50, 6, 5), "y": labels(50, np.uint8)}, validation=0.2, test=8)
    assert [len(s) for s in (data.train, data.validation, data.test)] == [32, 10, 8]
    check_distinct(data, 50)
    inputs, targets = everything(data.train)
    assert inputs.shape[1:] == (1, 6, 5)
    assert (inputs.dtype, targets.dtype) == (torch.float32, torch.int64)
    assert (data.classes, data.bounds) == (3, (0.0, 1.0))


@pytest.mark.parametrize("names", ["x_{}", "{}_x"])
@pytest.mark.parametrize("validation", ["val", "validation"])
def test_arrays_of_their_own_for_each_split(ctx, names, validation, contents):
    arrays, expected = {}, {}
    for split, count in (("train", 9), (validation, 5), ("test", 4)):
        arrays[names.format(split)], arrays[names.replace("x", "y").format(split)] = images(count, 2, 2), labels(count)
        expected[split] = sorted((arrays[names.format(split)] / np.float32(255)).reshape(count, -1).tolist())
    data = load(ctx, arrays)
    for name, split in (("train", data.train), (validation, data.validation), ("test", data.test)):
        assert sorted(everything(split)[0].flatten(1).tolist()) == expected[name]


@pytest.mark.parametrize(
    ("shape", "loaded"),
    [
        ((8, 8), (1, 8, 8)),
        ((8, 8, 3), (3, 8, 8)),
        ((3, 8, 8), (3, 8, 8)),
        ((1, 8, 8), (1, 8, 8)),
        ((8, 8, 1), (1, 8, 8)),
    ],
)
def test_channels_come_first(ctx, shape, loaded):
    pixels = images(30, *shape)
    data = load(ctx, {"x": pixels, "y": np.arange(30)})
    inputs, targets = everything(data.train)
    assert inputs.shape[1:] == loaded
    last = shape if shape[-1] in (1, 3) else loaded
    for image, target in zip(inputs, targets.tolist(), strict=True):
        reference = np.moveaxis(pixels[target].reshape(last), -1, 0) if shape[-1] in (1, 3) else pixels[target]
        assert np.array_equal(image.numpy().reshape(loaded), reference.reshape(loaded) / np.float32(255))


def test_floats_are_taken_as_they_are(ctx):
    features = RANDOM.normal(size=(40, 7))
    data = load(ctx, {"x": features, "y": np.arange(40)}, normalize={"mean": [0.0] * 7, "std": [2.0] * 7})
    inputs, targets = everything(data.train)
    assert np.array_equal(inputs.numpy(), features[targets].astype(np.float32))
    assert data.bounds is None
    assert data.normalization == Normalization((0.0,) * 7, (2.0,) * 7)
    assert load(ctx, bounds=[-4.0, 4.0]).bounds == (-4.0, 4.0)


def test_integers_stay_integers(ctx):
    data = load(ctx, {"x": np.arange(60, dtype=np.int32).reshape(20, 3), "y": labels(20)})
    inputs, _ = everything(data.train)
    assert inputs.dtype == torch.int64
    assert inputs.max() > 50
    assert data.bounds is None


@pytest.mark.parametrize("shape", [(), (1,), (3,), (2, 4)])
def test_float_targets_are_numbers_to_predict(ctx, shape):
    features, numbers = RANDOM.normal(size=(40, 7)), RANDOM.normal(size=(40, *shape))
    data = load(ctx, {"x": features, "y": numbers}, validation=8, test=8)
    assert data.classes is None
    found = {name: everything(data.split(name)) for name in ("train", "validation", "test")}
    assert [len(inputs) for inputs, _ in found.values()] == [24, 8, 8]
    whole = dict(zip(map(bytes, features.astype(np.float32)), numbers.astype(np.float32), strict=True))
    for inputs, targets in found.values():
        assert targets.dtype == torch.float32
        for sample, target in zip(inputs, targets, strict=True):
            assert np.array_equal(whole.pop(bytes(sample.numpy())), target.numpy()), "another sample's target"
    assert not whole


def test_labels_in_a_column_and_names_of_their_own(ctx):
    arrays = {"train_images": images(20, 4, 4), "train_labels": labels(20)[:, None]}
    data = load(ctx, arrays, inputs="images", targets="labels")
    assert everything(data.train)[1].shape == (14,)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"X_train": images(4, 2, 2), "y_train": labels(4)}, r"no array 'x_train' or 'x'; there: X_train, y_train"),
        (
            {"x_train": images(4, 2, 2), "labels_train": labels(4)},
            "no array 'y_train' of targets for 'x_train'; there: x_train, labels_train",
        ),
        ({"x": images(4, 2, 2), "y": labels(5)}, "x has 4 samples and y has 5"),
        ({"x": images(0, 2, 2), "y": labels(0)}, "x is empty"),
        ({"x": images(4), "y": labels(4)}, r"x: shape \(4,\) holds no samples of any width"),
        ({"x": np.array([[1.0], [np.nan]]), "y": labels(2)}, "x: holds NaN or infinity"),
        ({"x": np.array([["a"], ["b"]]), "y": labels(2)}, "x: <U1 is no kind of input"),
        (
            {"x": images(4, 2, 2), "y": np.eye(4, dtype=np.int64)},
            r"y: one class per sample is needed; its shape is \(4, 4\)",
        ),
        ({"x": images(4, 2, 2), "y": labels(4) - 1}, "y: class -1 at sample 0"),
        (
            {"x_train": images(9, 2, 2), "y_train": labels(9), "x_test": images(9, 2, 2), "y_test": RANDOM.random(9)},
            r"the splits' targets differ: {'train': '\(\) int64', 'test': '\(\) float32'}",
        ),
        ({"x": images(4, 2, 2), "y": np.array([0.5, 1.5, np.inf, 0])}, "y: holds NaN or infinity"),
        ({"x": images(4, 2, 2), "y": np.array(["a", "b", "c", "d"])}, "y: classes must be integers from 0"),
        (
            {"x_train": images(9, 2, 2), "y_train": labels(9), "x_test": images(9, 3, 3), "y_test": labels(9)},
            r"the splits' samples differ in shape: {'train': \(1, 2, 2\), 'test': \(1, 3, 3\)}",
        ),
    ],
)
def test_arrays_that_do_not_fit_are_told(ctx, arrays, message):
    with pytest.raises(DataError, match=rf"data\.npz: {message}"):
        load(ctx, arrays)


class Payload:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_pickled_arrays_are_refused_and_never_run(ctx, tmp_path):
    proof = tmp_path / "proof"
    arrays = {"x": np.array([[Payload(proof)]], dtype=object), "y": labels(1)}
    with pytest.raises(DataError, match=r"array 'x' cannot be read: Object arrays cannot be loaded"):
        load(ctx, arrays)
    assert not proof.exists()


def test_other_files_are_told(ctx):
    file = ctx.folder / "data.npz"
    with pytest.raises(DataError, match=r"there is no 'data\.npz' in .*spec$"):
        load(ctx)
    file.write_bytes(b"PK\x03\x04 and nothing more")
    with pytest.raises(DataError, match=r"data\.npz: cannot be read as \.npz"):
        load(ctx)
    file.write_bytes(b"text")
    with pytest.raises(DataError, match=r"data\.npz: cannot be read as \.npz"):
        load(ctx)
    with file.open("wb") as opened:
        np.save(opened, images(3, 2, 2))
    with pytest.raises(DataError, match="holds a single array; save inputs and classes"):
        load(ctx)


def test_bounds_the_wrong_way_round_are_refused_with_the_spec():
    with pytest.raises(ValidationError, match=r"bounds: 1\.0 is not below 0\.0"):
        Npz.model_validate({"path": "data.npz", "bounds": [1, 0]})


class TestNumbersToPredict(DataSourceConformance):
    """The kit on targets that are no classes."""

    @pytest.fixture
    def component(self):
        return Npz(path=Path("data.npz"))

    @pytest.fixture
    def ctx(self, ctx):
        np.savez(ctx.folder / "data.npz", x=RANDOM.normal(size=(40, 7)), y=RANDOM.normal(size=(40, 2)))
        return ctx
