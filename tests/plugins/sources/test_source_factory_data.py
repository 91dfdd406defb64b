from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from sklearn.datasets import load_digits

from autoprune import DataError
from autoprune.plugin import Normalization
from autoprune.testing import DataSourceConformance
from autoprune_sources.factory_data import FactoryData

DATA = """
import random
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, Dataset, TensorDataset, random_split

from autoprune.plugin import Data, Split


class Rows(Dataset):
    def __init__(self, numbers):
        self.numbers = numbers

    def __len__(self):
        return len(self.numbers)

    def __getitem__(self, place):
        number = self.numbers[place]
        return {"pixels": torch.full((2, 3), float(number)), "extra": "text", "label": number % 5}


def digits(share=0.5):
    whole = load_digits()
    x, y = torch.tensor(whole.images[:, None] / 16), torch.tensor(whole.target)
    train, test = random_split(TensorDataset(x, y), [share, 1 - share])
    return {"train": DataLoader(train, batch_size=32, shuffle=True), "test": test}


def rows():
    return {"train": Rows(range(30)), "val": Rows(range(100, 110))}


def drawn():
    numbers = [random.random(), np.random.rand(), float(torch.rand(()))]
    x = torch.tensor(numbers).repeat(20, 1) + torch.arange(20)[:, None]
    return {"train": (x, torch.arange(20))}


def stream():
    def batches():
        for _ in range(5):
            yield torch.tensor(np.random.rand(4, 2)), torch.tensor([random.randrange(9) for _ in range(4)])

    return {"train": batches()}


def read(file, others=()):
    numbers = [float(line) for path in (file, *others) for line in Path(path).read_text().split()]
    x = torch.tensor(numbers)[:, None]
    return {"train": (x, x.long())}


def whole():
    splits = [Split.of_tensors(torch.rand(9, 3), torch.arange(9)) for _ in range(3)]
    return Data(*splits, classes=9)


def loader():
    return DataLoader(Rows(range(9)))


def pair():
    return Rows(range(9)), Rows(range(9))


def batch():
    return {"pixels": torch.rand(9, 3), "label": torch.arange(9)}


def broken():
    raise RuntimeError("no such file")


def leaky():
    data = Rows(range(9))
    return {"train": data, "test": DataLoader(data)}


ready = {"train": (torch.arange(20.0)[:, None], torch.arange(20))}
SIZE = 4
"""


@pytest.fixture
def ctx(ctx):
    (ctx.folder / "mydata.py").write_text(DATA)
    return ctx


def load(ctx, target, **options):
    return FactoryData.model_validate({"target": f"mydata:{target}", **options}).load(ctx)


def everything(split):
    return split.fetch(torch.arange(len(split)))


def test_loaders_and_datasets_of_a_function(ctx):
    data = load(ctx, "digits", args={"share": 0.25}, validation=49, bounds=[0, 1],
                normalize={"mean": [0.3], "std": [0.4]})  # fmt: skip
    # A loader gives all of its samples, the last batch too.
    assert [len(split) for split in (data.train, data.validation, data.test)] == [401, 49, 1347]
    assert (data.normalization, data.bounds) == (Normalization((0.3,), (0.4,)), (0, 1))
    whole = load_digits()
    labels = {
        row.tobytes(): label for row, label in zip((whole.images / 16).astype(np.float32), whole.target, strict=True)
    }
    assert len(labels) == 1797
    for split in (data.train, data.validation, data.test):
        inputs, targets = everything(split)
        assert inputs.first.dtype == torch.float32
        for image, target in zip(inputs.first, targets, strict=True):
            assert labels.pop(image.numpy().tobytes()) == target
    assert not labels


def test_columns_of_batches_by_name(ctx):
    data = load(ctx, "rows", inputs={"x": "pixels"}, test=5)
    inputs, targets = everything(data.validation)
    assert list(inputs.kwargs) == ["x"]
    assert sorted(inputs.first[:, 0, 0].tolist()) == list(range(100, 110))
    assert torch.equal(targets, inputs.first[:, 0, 0].long() % 5)
    assert len(data.test) == 5
    for targets in ("label", ["label"]):
        assert list(load(ctx, "rows", inputs=["pixels"], targets=targets).train.fetch(torch.arange(1))[0].kwargs) == [
            "pixels"
        ]
    inputs, targets = load(ctx, "rows", inputs=["label"], targets=["pixels"]).train.fetch(torch.arange(2))
    assert targets.shape == (2, 2, 3)
    with pytest.raises(DataError, match=r"target 'mydata:rows': train: there is no 'pixel'; did you mean 'pixels'\?"):
        load(ctx, "rows", inputs=["pixel"])
    with pytest.raises(DataError, match=r"target 'mydata:rows': train: extra holds list of str.*; name the `inputs`"):
        load(ctx, "rows")


def test_what_it_draws_at_random_is_always_the_same(ctx):
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    first = everything(load(ctx, "drawn").train)[0].first
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before[:2]
    assert torch.equal(torch.get_rng_state(), before[2])
    random.random(), np.random.rand(), torch.rand(())
    again = everything(load(ctx, "drawn").train)[0].first
    assert torch.equal(first, again)
    assert len(set(first[0].tolist())) == 3
    (one, classes), (other, others) = (everything(load(ctx, "stream", test=4).train) for _ in range(2))
    assert torch.equal(one.first, other.first)
    assert torch.equal(classes, others)


def test_paths_beside_the_spec_are_found(ctx, tmp_path, monkeypatch):
    (ctx.folder / "numbers").mkdir()
    for name, numbers in (("a.txt", range(10)), ("b.txt", range(10, 30))):
        (ctx.folder / "numbers" / name).write_text(" ".join(map(str, numbers)))
    monkeypatch.chdir(tmp_path)  # not beside the spec
    data = load(ctx, "read", args={"file": "numbers/a.txt", "others": ["numbers/b.txt"]})
    assert sum(map(len, (data.train, data.validation, data.test))) == 30
    with pytest.raises(DataError, match=r"calling it failed: FileNotFoundError: .*c\.txt.* \(.*mydata\.py:51\)"):
        load(ctx, "read", args={"file": "numbers/c.txt"})


def test_a_mapping_that_is_there_already(ctx):
    inputs, targets = everything(load(ctx, "ready").train)
    assert torch.equal(inputs.first[:, 0].long(), targets)
    with pytest.raises(DataError, match="target 'mydata:ready' is of type dict, which takes no args"):
        load(ctx, "ready", args={"size": 3})


def test_data_is_taken_as_it_is(ctx):
    data = load(ctx, "whole")
    assert (data.classes, len(data.test), data.bounds, data.normalization) == (9, 9, None, None)
    assert torch.equal(everything(data.train)[1], torch.arange(9))
    data = load(ctx, "whole", bounds=[0, 1], normalize={"mean": [0] * 3, "std": [2] * 3})
    assert (data.bounds, data.normalization) == ((0, 1), Normalization((0,) * 3, (2,) * 3))
    with pytest.raises(DataError, match="this is Data already, whose inputs and targets have no columns"):
        load(ctx, "whole", targets="label")


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("loader", r'this is of type DataLoader, not a mapping of splits: return {"train": …, "validation": …, "test"'),
        ("pair", "this is of type tuple, not a mapping of splits"),
        ("SIZE", "this is of type int, not a mapping of splits"),
        ("batch", "data has 'pixels'; known: "),
        ("broken", r"calling it failed: RuntimeError: no such file \(.*mydata\.py:\d+\)"),
        ("leaky", "train and test share 9 samples"),
        ("digit", r".*mydata\.py has no 'digit'; did you mean 'digits'\?"),
    ],
)
def test_a_target_that_makes_no_splits_is_told(ctx, target, message):
    with pytest.raises(DataError, match=rf"^target 'mydata:{target}': {message}") as told:
        load(ctx, target)
    assert "\n" not in str(told.value)


def test_a_malformed_target_is_refused_with_the_spec():
    with pytest.raises(ValidationError, match="write module:callable"):
        FactoryData(target="mydata")


class Conformance(DataSourceConformance):
    @pytest.fixture
    def ctx(self, ctx):
        (ctx.folder / "mydata.py").write_text(DATA)
        return ctx


class TestDigits(Conformance):
    @pytest.fixture
    def component(self):
        return FactoryData(target="mydata:digits", bounds=(0, 1))


class TestByName(Conformance):
    @pytest.fixture
    def component(self):
        return FactoryData(target="mydata:rows", inputs=("pixels",), test=5)
