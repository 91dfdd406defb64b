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


def test_targets_that_are_missing_are_told_with_the_way_on(ctx):
    with pytest.raises(
        DataError, match=r"; the option `targets` names them, or write targets: null where there are non"
    ):
        load(ctx, {"x": images(9, 2, 2)})


def test_several_inputs_in_order(ctx):
    left, right = images(30, 4, 4), RANDOM.normal(size=(30, 2))
    arrays = {"left": left, "right": right, "y": np.arange(30)}
    data = load(ctx, arrays, inputs=["right", "left"], bounds=[-9, 9])
    inputs, targets = data.train.fetch(torch.arange(len(data.train)))
    assert not inputs.kwargs
    assert np.array_equal(inputs.args[0].numpy(), right[targets].astype(np.float32))
    assert np.array_equal(inputs.args[1].numpy()[:, 0], left[targets] / np.float32(255))
    assert data.bounds == (-9, 9)
    assert load(ctx, inputs=["left", "right"]).bounds == (0, 1)
    with pytest.raises(DataError, match="bounds are of floats; the first input is uint8"):
        load(ctx, inputs=["left", "right"], bounds=[-9, 9])


def test_inputs_by_keyword(ctx):
    tokens, mask = RANDOM.integers(0, 300, (30, 7)), RANDOM.random((30, 7)) > 0.5
    ids = np.arange(30, dtype=np.uint16)
    arrays = {"x_train": tokens, "m_train": mask, "i_train": ids, "train_y": ids}
    data = load(ctx, arrays, inputs={"input_ids": "x", "attention_mask": "m", "position": "i"})
    inputs, targets = data.validation.fetch(torch.arange(3))
    assert not inputs.args
    assert {name: tensor.dtype for name, tensor in inputs.kwargs.items()} == {
        "input_ids": torch.int64, "attention_mask": torch.bool, "position": torch.int64,
    }  # fmt: skip
    assert np.array_equal(inputs.kwargs["input_ids"].numpy(), tokens[targets])
    assert np.array_equal(inputs.kwargs["attention_mask"].numpy(), mask[targets])
    assert torch.equal(inputs.kwargs["position"], targets)
    with pytest.raises(DataError, match=r"normalize needs \(N, C, …\); the first input has the shape \(30,\)"):
        load(ctx, inputs={"position": "i"}, normalize={"mean": [1], "std": [1]})


@pytest.mark.parametrize(
    ("targets", "kind", "expected"),
    [
        (RANDOM.integers(0, 5, (30, 4)), torch.int64, None),
        (RANDOM.integers(0, 2, (30, 4)).astype(np.uint8), torch.int64, None),
        (RANDOM.integers(-100, 5, (30, 4, 4)).astype(np.int16), torch.int64, None),
        (RANDOM.random((30, 4)) > 0.5, torch.bool, None),
        (RANDOM.normal(size=(30, 1)), torch.float32, None),
        (RANDOM.integers(0, 5, (30, 1)), torch.int64, 5),
    ],
    ids=["classes of positions", "0 and 1", "mask", "bools", "a number", "a class"],
)
def test_targets_of_any_shape(ctx, targets, kind, expected):
    rows = np.arange(30.0)[:, None]
    data = load(ctx, {"x": rows, "y": targets})
    assert data.classes == expected
    for split in (data.train, data.validation, data.test):
        inputs, found = everything(split)
        assert found.dtype == kind
        wanted = targets[inputs[:, 0].long()]
        assert np.array_equal(found.numpy(), (wanted[:, 0] if expected else wanted).astype(found.numpy().dtype))


def test_targets_by_name(ctx):
    arrays = {f"{name}_{split}": np.arange(9) * factor for split in ("train", "test") for name, factor in
              (("x", 1.0), ("larger", 1), ("sum", 0.5))}  # fmt: skip
    for targets, names in ((["larger", "sum"], ["larger", "sum"]), ({"a": "sum", "b": "larger"}, ["a", "b"])):
        data = load(ctx, arrays, targets=targets, validation=2)
        inputs, found = data.test.fetch(torch.arange(9))
        assert list(found) == names
        larger, total = (found["larger"], found["sum"]) if "sum" in found else (found["b"], found["a"])
        assert torch.equal(larger, inputs.first.long())
        assert torch.equal(total, inputs.first / 2)
        assert data.classes is None
    del arrays["sum_test"]
    with pytest.raises(DataError, match="no array 'sum_test' of targets beside 'x_test'; there: "):
        load(ctx, arrays, targets=["larger", "sum"])
    with pytest.raises(
        DataError, match=r"no array 'sum_test' of inputs beside 'x_test'; .*; the option `inputs` names"
    ):
        load(ctx, arrays, inputs=["x", "sum"], targets="larger")


def test_no_targets(ctx):
    data = load(ctx, {"x": RANDOM.normal(size=(30, 4))}, targets=None)
    inputs, targets = data.train.fetch(torch.arange(len(data.train)))
    assert (inputs.first.shape, targets, data.classes) == ((21, 4), {}, None)


@pytest.mark.parametrize("options", [{"inputs": []}, {"inputs": {}}, {"targets": []}, {"inputs": None}])
def test_names_of_nothing_are_refused_with_the_spec(options):
    with pytest.raises(ValidationError):
        Npz.model_validate({"path": "data.npz", **options})


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
            "no array 'y_train' of targets beside 'x_train'; there: x_train, labels_train; the option `targets` names",
        ),
        ({"x": images(4, 2, 2), "y": labels(5)}, "train has not as many samples in each array: {'y': 5, 'x': 4}"),
        ({"x": images(0, 2, 2), "y": labels(0)}, "x is empty"),
        (
            {"x": images(4), "y": labels(4)},
            r"x: uint8 of shape \(4,\) may be pixels or numbers; pixels are \(N, H, W\)",
        ),
        ({"x": images(4, 9), "y": labels(4)}, r"x: uint8 of shape \(4, 9\) may be pixels or numbers"),
        ({"x": np.array(3.0), "y": labels(1)}, r"x: a single number; \(N, …\) is needed"),
        ({"x": np.ones((2, 2)) * 1e300, "y": labels(2)}, "x: holds NaN, infinity or what float32 cannot hold"),
        ({"x": np.full((2, 2), 2**63, np.uint64), "y": labels(2)}, "x: holds 9223372036854775808, which int64 cannot"),
        ({"x": np.array([[1.0], [np.nan]]), "y": labels(2)}, "x: holds NaN, infinity"),
        ({"x": np.array([["a"], ["b"]]), "y": labels(2)}, "x: <U1 is no kind of input"),
        ({"x": images(4, 2, 2), "y": labels(4) - 1}, "y: class -1 at sample 0"),
        (
            {"x_train": images(9, 2, 2), "y_train": labels(9), "x_test": images(9, 2, 2), "y_test": RANDOM.random(9)},
            r"targets differ from split to split: {'train': '\(\) int64', 'test': '\(\) float32'}",
        ),
        ({"x": images(4, 2, 2), "y": np.array([0.5, 1.5, np.inf, 0])}, "y: holds NaN, infinity"),
        (
            {"x": images(4, 2, 2), "y": np.array(["a", "b", "c", "d"])},
            "y: <U1 is no kind of target; integers, floats and bools are",
        ),
        (
            {"x_train": images(9, 2, 2), "y_train": labels(9), "x_test": images(9, 3, 3), "y_test": labels(9)},
            r"inputs differ from split to split: {'train': '\(1, 2, 2\) uint8', 'test': '\(1, 3, 3\) uint8'}",
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
    with pytest.raises(DataError, match="holds a single array; save inputs and targets"):
        load(ctx)


def test_bounds_the_wrong_way_round_are_refused_with_the_spec():
    with pytest.raises(ValidationError, match=r"bounds\n.*1\.0 is not below 0\.0"):
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


class TestInputsByKeywordWithoutTargets(DataSourceConformance):
    @pytest.fixture
    def component(self):
        return Npz(path=Path("data.npz"), inputs={"tokens": "x", "mask": "m"}, targets=None)

    @pytest.fixture
    def ctx(self, ctx):
        np.savez(ctx.folder / "data.npz", x=RANDOM.integers(0, 99, (40, 7)), m=RANDOM.random((40, 7)) > 0.5)
        return ctx
