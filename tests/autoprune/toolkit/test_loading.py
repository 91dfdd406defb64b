from __future__ import annotations

import itertools
from collections import UserDict

import datasets
import numpy as np
import pytest
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
    random_split,
)

from autoprune import DataError
from autoprune.plugin import Inputs, Split
from autoprune.toolkit.loading import Columns, loaded, three_loaded

X = torch.arange(60.0).view(20, 3)
Y = torch.arange(20) % 4


class Squares(Dataset):
    """Samples by number: the number as a vector, and its square."""

    def __len__(self):
        return 30

    def __getitem__(self, number):
        return torch.tensor([number, 1.0]), number**2


class Named(Squares):
    def __getitem__(self, number):
        return {"pixels": torch.full((2,), float(number)), "mask": [1, number], "name": f"no {number}", "label": number}


class Stream(IterableDataset):
    """The same without numbers."""

    def __init__(self, count=7):
        self.count = count

    def __iter__(self):
        return iter([Squares()[number] for number in range(self.count)])


def everything(split):
    return split.fetch(torch.arange(len(split)))


def numbers(split):
    """Which of X, or of `Squares`, are in the split."""
    inputs, _ = everything(split)
    return [int(row[0]) // 3 if inputs.first.shape[1] == 3 else int(row[0]) for row in inputs.first]


# What is taken


@pytest.mark.parametrize(
    "source",
    [
        (X, Y),
        (X.double(), Y.int()),
        (X.numpy(), Y.numpy().astype(np.uint8)),
        (X.tolist(), Y.tolist()),
        TensorDataset(X, Y),
        DataLoader(TensorDataset(X, Y), batch_size=7, shuffle=True, drop_last=True),
        list(zip(X, Y, strict=True)),
        [(x.tolist(), int(y)) for x, y in zip(X, Y, strict=True)],
        ((X[i : i + 6], Y[i : i + 6]) for i in range(0, 20, 6)),
        DataLoader([(X[:9], Y[:9]), (X[9:], Y[9:])], batch_size=None),
        Split.of_tensors(X, Y),
    ],
    ids=[
        *("tensors", "double", "arrays", "lists", "dataset", "loader", "list", "numbers"),
        *("batches", "loader that does not batch", "split"),
    ],
)
def test_samples_are_taken_from_whatever_holds_them(source):
    split = loaded(source)
    assert len(split) == 20
    for index in ([3], [7, 0, 19], list(range(20))):
        inputs, targets = split.fetch(torch.tensor(index))
        assert (inputs.first.dtype, targets.dtype) == (torch.float32, torch.int64)
        assert torch.equal(inputs.first, X[index])
        assert torch.equal(targets, Y[index])


def test_a_dataset_is_read_only_where_it_is_asked():
    asked = []

    class Slow(Squares):
        def __getitem__(self, number):
            asked.append(number)
            return super().__getitem__(number)

    split = loaded(Slow())
    assert set(asked) == {0, 15, 29}  # a look at what it holds
    asked.clear()
    split.fetch(torch.tensor([4, 9]))
    assert asked == [4, 9]


def test_samples_of_a_dataset_are_fetched_together_where_it_can():
    class Together(Squares):
        def __getitems__(self, numbers):
            return [(torch.tensor([number, 2.0]), number) for number in numbers]

    inputs, targets = loaded(Together()).fetch(torch.tensor([4, 9]))
    assert inputs.first.tolist() == [[4, 2], [9, 2]]
    assert targets.tolist() == [4, 9]


def test_several_inputs_and_targets_in_order():
    inputs, targets = everything(loaded((X, X * 2, Y)))
    assert [float(tensor[1, 0]) for tensor in inputs.args] == [3, 6]
    assert torch.equal(targets, Y)
    inputs, targets = everything(loaded(((X, X * 2), (Y, X[:, :1]))))
    assert len(inputs.args) == 2
    assert torch.equal(targets["0"], Y)
    assert torch.equal(targets["1"], X[:, :1])
    pairs = [((x, x * 2), {"class": y}) for x, y in zip(X, Y, strict=True)]
    inputs, targets = everything(loaded(pairs))
    assert torch.equal(inputs.args[1], X * 2)
    assert torch.equal(targets["class"], Y)


@pytest.mark.parametrize(
    "source", [X, (X,), TensorDataset(X), {"x": X}, [{"x": x} for x in X], iter([X[:5], X[5:]]), [(x,) for x in X]]
)
def test_inputs_alone_have_no_targets(source):
    inputs, targets = everything(loaded(source))
    assert torch.equal(inputs.first, X)
    assert targets == {}


@pytest.mark.parametrize("made", [dict, UserDict])
@pytest.mark.parametrize("whole", [True, False])
def test_batches_by_name_are_keywords(made, whole):
    batch = {"input_ids": torch.arange(12).view(4, 3), "attention_mask": torch.ones(4, 3), "labels": torch.arange(4)}
    rows = [made({name: tensor[i] for name, tensor in batch.items()}) for i in range(4)]
    inputs, targets = everything(loaded(made(batch) if whole else rows))
    assert list(inputs.kwargs) == ["input_ids", "attention_mask"]
    assert all(torch.equal(inputs.kwargs[name], batch[name]) for name in inputs.kwargs)
    assert torch.equal(targets, batch["labels"])
    inputs, targets = everything(loaded(made(batch), columns=Columns({"x": "labels"}, ("input_ids", "attention_mask"))))
    assert torch.equal(inputs.kwargs["x"], batch["labels"])
    assert list(targets) == ["input_ids", "attention_mask"]


def test_only_named_columns_are_put_together():
    with pytest.raises(DataError, match="d: name holds list of str, which is no tensor; name the `inputs` that the"):
        loaded(Named(), where="d")
    inputs, targets = loaded(Named(), columns=Columns(("pixels", "mask"))).fetch(torch.tensor([5, 2]))
    assert inputs.kwargs["pixels"].tolist() == [[5, 5], [2, 2]]
    assert inputs.kwargs["mask"].tolist() == [[1, 5], [1, 2]]
    assert targets.tolist() == [5, 2]


def test_a_mapping_of_inputs_and_targets_beside_it():
    source = ({"left": X, "right": X * 2}, Y)
    inputs, targets = everything(loaded(source))
    assert list(inputs.kwargs) == ["left", "right"]
    assert torch.equal(targets, Y)
    inputs, _ = everything(loaded(source, columns=Columns(("right",))))
    assert list(inputs.kwargs) == ["right"]


def test_a_hugging_face_dataset(tmp_path):
    made = datasets.Dataset.from_dict(
        {"text": ["a", "b", "c"], "input_ids": [[1, 2], [3, 4], [5, 6]], "label": [0, 1, 0], "score": [0.5, 1.5, 2.5]}
    )
    inputs, targets = everything(loaded(made, columns=Columns(("input_ids",))))
    assert inputs.kwargs["input_ids"].tolist() == [[1, 2], [3, 4], [5, 6]]
    assert targets.tolist() == [0, 1, 0]
    stream = made.remove_columns("text").to_iterable_dataset()
    inputs, targets = everything(loaded(stream, columns=Columns(("input_ids",), ("score",))))
    assert inputs.kwargs["input_ids"].tolist() == [[1, 2], [3, 4], [5, 6]]
    assert targets.tolist() == [0.5, 1.5, 2.5]


def test_streams_are_read_whole():
    for source in (Stream(), DataLoader(Stream(), batch_size=3)):
        inputs, targets = everything(loaded(source))
        assert inputs.first[:, 0].tolist() == list(range(7))
        assert targets.tolist() == [number**2 for number in range(7)]


def test_a_loader_that_is_read_whole_leaves_no_trace_and_always_gives_the_same():
    loader = DataLoader(TensorDataset(X[:, None], Y[:, None]), batch_size=None, shuffle=True)
    state = torch.get_rng_state()
    first, again = (everything(loaded(loader))[1].tolist() for _ in range(2))
    assert first == again
    assert sorted(first) == sorted(Y.tolist())
    assert torch.equal(torch.get_rng_state(), state)


def test_a_loader_s_own_collate_is_used():
    def padded(samples):
        longest = max(len(tokens) for tokens, _ in samples)
        rows = torch.zeros(len(samples), longest, dtype=torch.int32)
        for row, (tokens, _) in zip(rows, samples, strict=True):
            row[: len(tokens)] = torch.tensor(tokens)
        return {"input_ids": rows, "labels": torch.tensor([label for _, label in samples])}

    sentences = [([1], 0), ([2, 3], 1), ([4, 5, 6], 0)]
    split = loaded(DataLoader(sentences, batch_size=2, collate_fn=padded))
    inputs, targets = split.fetch(torch.tensor([1, 0]))
    assert inputs.kwargs["input_ids"].tolist() == [[2, 3], [1, 0]]
    assert inputs.kwargs["input_ids"].dtype == torch.int64
    assert targets.tolist() == [1, 0]


def test_pixels_are_scaled_and_labels_are_not():
    pixels, labels = torch.arange(48, dtype=torch.uint8).view(4, 1, 3, 4), torch.arange(4, dtype=torch.uint8)
    for source in ((pixels, labels), TensorDataset(pixels, labels), iter([(pixels, labels)])):
        inputs, targets = everything(loaded(source))
        assert torch.equal(inputs.first, pixels / 255)
        assert (targets.dtype, targets.tolist()) == (torch.int64, [0, 1, 2, 3])


def test_kinds_of_numbers():
    batch = {
        "half": X.half(), "small": Y.short(), "mask": Y > 1, "pixels": torch.full((20, 2, 2), 51, dtype=torch.uint8),
        "grown": X.clone().requires_grad_(), "labels": Y == 2,
    }  # fmt: skip
    inputs, targets = everything(loaded(batch))
    kinds = {name: tensor.dtype for name, tensor in inputs.kwargs.items()}
    assert kinds == {
        "half": torch.float32, "small": torch.int64, "mask": torch.bool, "pixels": torch.float32,
        "grown": torch.float32,
    }  # fmt: skip
    assert inputs.kwargs["pixels"].unique().item() == pytest.approx(0.2)
    assert not inputs.kwargs["grown"].requires_grad
    assert targets.dtype == torch.bool


# Which samples a loader draws


def test_the_sampler_of_a_loader_says_which_samples():
    whole = TensorDataset(X, Y)
    chosen = [4, 7, 1, 12]
    for loader in (
        DataLoader(whole, sampler=SubsetRandomSampler(chosen)),
        DataLoader(whole, sampler=SubsetRandomSampler(torch.tensor(chosen))),
        DataLoader(whole, batch_sampler=BatchSampler(SubsetRandomSampler(chosen), 2, drop_last=False)),
        DataLoader(whole, batch_sampler=[[4, 7], [1], [12, 4]]),
        DataLoader(Subset(whole, chosen), batch_sampler=BatchSampler(SequentialSampler(chosen), 3, drop_last=True)),
        DataLoader(Subset(Subset(whole, [0, 1, 4, 7, 12]), [1, 2, 3, 4]), shuffle=True),
    ):
        assert sorted(numbers(loaded(loader))) == sorted(chosen)


def test_a_sampler_is_asked_without_a_trace():
    state = torch.get_rng_state()
    weights = [0.0, 1.0, 2.0] + [0.0] * 17
    split = loaded(DataLoader(TensorDataset(X, Y), sampler=WeightedRandomSampler(weights, 100)))
    assert numbers(split) == [1, 2]
    forever = itertools.cycle([3, 5])
    assert numbers(loaded(DataLoader(TensorDataset(X, Y), batch_sampler=([i] for i in forever)))) == [3, 5]
    loaded(DataLoader(TensorDataset(X, Y), sampler=SubsetRandomSampler([1, 2])))
    assert torch.equal(torch.get_rng_state(), state)


# Three splits


def test_what_is_missing_is_carved():
    splits = three_loaded({"train": Squares()}, validation=0.2, test=5)
    parts = [numbers(splits[name]) for name in ("train", "validation", "test")]
    assert [len(part) for part in parts] == [19, 6, 5]
    assert sorted(itertools.chain(*parts)) == list(range(30))
    for name, part in zip(("train", "validation", "test"), parts, strict=True):
        assert everything(splits[name])[1].tolist() == [number**2 for number in part]
        assert numbers(three_loaded({"train": Squares()}, validation=0.2, test=5)[name]) == part
    splits = three_loaded({"train": Squares(), "val": (X, Y)}, test=0.5)
    assert [len(splits[name]) for name in ("train", "validation", "test")] == [15, 20, 15]


def test_samples_are_mixed_but_those_of_a_split():
    by_class = (X, Y.sort().values)
    splits = three_loaded({"train": by_class, "validation": Split.of_tensors(*by_class), "test": TensorDataset(X, Y)})
    assert sorted(numbers(splits["train"])) == list(range(20)) != numbers(splits["train"])
    assert len(set(everything(splits["train"])[1][:8].tolist())) == 4
    assert numbers(splits["validation"]) == list(range(20))
    assert sorted(numbers(splits["test"])) == list(range(20)) != numbers(splits["test"])


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ({"train": (X, Y), "tset": (X, Y)}, r"data has 'tset'; did you mean 'test'\?"),
        ({"validation": (X, Y)}, "data has no 'train'"),
        (
            {"train": (X, Y), "val": (X, Y), "valid": (X, Y)},
            "data has validation under two names: validation, valid",
        ),
        ({"train": (X[:2], Y[:2])}, "test: 0.2 of 2 training samples would leave a split empty"),
    ],
)
def test_splits_that_do_not_fit_are_told(found, message):
    with pytest.raises(DataError, match=f"^{message}"):
        three_loaded(found)


def test_splits_that_share_samples_are_refused():
    whole = TensorDataset(X, Y)
    with pytest.raises(DataError, match=r"^validation and test share all samples; a split that is left out is carved"):
        three_loaded({"train": Squares(), "validation": whole, "test": whole})
    with pytest.raises(DataError, match=r"^train and val share 20 samples"):
        three_loaded({"train": DataLoader(whole, shuffle=True), "val": DataLoader(whole)})
    with pytest.raises(DataError, match=r"^train and test share 2 samples"):
        three_loaded(
            {"train": Subset(whole, range(15)), "test": DataLoader(whole, sampler=SubsetRandomSampler([14, 3]))}
        )
    parts = random_split(whole, [10, 5, 5], torch.Generator().manual_seed(0))
    splits = three_loaded({"train": parts[0], "validation": DataLoader(parts[1]), "test": parts[2]})
    found = [numbers(splits[name]) for name in ("train", "validation", "test")]
    assert sorted(itertools.chain(*found)) == list(range(20))


class Noisy(Squares):
    def __getitem__(self, number):
        return torch.rand(3), number


def test_samples_that_are_others_each_time_measure_nothing():
    three_loaded({"train": Noisy(), "validation": Squares(), "test": (X, Y)})  # training may
    with pytest.raises(DataError, match=r"^validation holds other samples each time they are fetched; leave random"):
        three_loaded({"train": Squares(), "validation": Noisy(), "test": (X, Y)})
    with pytest.raises(DataError, match=r"^test, carved from train, holds other samples each time"):
        three_loaded({"train": Noisy(), "validation": (X, Y)})

    def noisy(samples):
        return torch.stack([x for x, _ in samples]), torch.rand(len(samples))

    with pytest.raises(DataError, match=r"^test holds other samples each time they are fetched"):
        three_loaded({"train": (X, Y), "test": DataLoader(Squares(), collate_fn=noisy)})


# What is refused


class Failing(Squares):
    def __getitem__(self, number):
        raise OSError("disk\nis gone")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            3,
            "d is of type int; it takes a torch Dataset, a DataLoader, an iterable of batches, or a tuple",
        ),
        ([], "d has no sample"),
        (iter([]), "d has no batch; an iterator that was used up gives none"),
        ((X, Y[:5]), r"d: not as many of each: inputs are {0: \(20, 3\) float32} and targets \(5,\) int64"),
        ({"a": X, "b": Y, "c": X[:3]}, "d: not as many of each"),
        ([X, Y], r"d: its samples make no batch; let each be tensors of one size, .*RuntimeError"),
        ([torch.ones(2), torch.ones(3)], "d: its samples make no batch; .*stack expects each tensor to be equal size"),
        ([{"a": X[0], "label": None}], "d: its samples make no batch; .*NoneType"),
        (iter([(X[0], Y[0])]), r"d is a single number, \(\) int64; \(N, …\) is needed, samples first: a list holds"),
        (iter([X[:2], X[:2, :1]]), "d: its batches cannot be put together, pad them to one size: Sizes of tensors"),
        (iter([X[:2], (X[:2], Y[:2])]), "d: its batches cannot be put together"),
        ((["a", "b"], [0, 1]), "d holds str, which is no tensor"),
        ({"x": [[1], [2, 3]], "y": [0, 1]}, "d: x holds list of list, which is no tensor"),
        (
            (torch.ones(4, 9, dtype=torch.uint8), Y[:4]),
            r"d: \(4, 9\) uint8 may be pixels or numbers; pixels are",
        ),
        ({"label": Y, "y": Y, "x": X}, "d: which are the targets, label or y"),
        ({"labels": Y}, "d: nothing but targets: labels"),
        (Failing(), "d: sample 0 cannot be fetched: OSError: disk is gone$"),
        (DataLoader(Squares(), collate_fn=lambda samples: X[:1]), r"d: 3 samples make a batch of 1: \(1, 3\) float32"),
        (
            DataLoader(Squares(), collate_fn=lambda samples: 1 / 0),
            "d: its samples make no batch.*: ZeroDivisionError",
        ),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else type(value).__name__,
)
def test_what_holds_no_samples_is_told(source, message):
    with pytest.raises(DataError, match=f"^{message}") as told:
        loaded(source, where="d")
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (Columns(("pixel",)), r"d: there is no 'pixel'; did you mean 'pixels'\?"),
        (Columns(("pixels",), ("lable",)), r"d: there is no 'lable'; did you mean 'label'\?"),
        (Columns({"x": "maks"}), r"d: there is no 'maks'; did you mean 'mask'\?"),
    ],
)
def test_columns_that_are_not_there_are_told(columns, message):
    with pytest.raises(DataError, match=f"^{message}"):
        loaded(Named(), columns=columns, where="d")


@pytest.mark.parametrize("columns", [Columns(("x",)), Columns((), ("y",))])
def test_parts_of_tuples_have_no_names(columns):
    with pytest.raises(DataError, match="d: its batches are tuples, whose parts have no names; leave `inputs` and"):
        loaded((X, Y), columns=columns, where="d")


def test_what_is_wrong_with_a_later_sample_is_told_when_it_is_fetched():
    items = [(torch.ones(2), 0)] * 9
    items[3] = (torch.ones(5), 0)
    split = loaded(items, where="d")
    with pytest.raises(DataError, match=r"^d: its samples make no batch"):
        split.fetch(torch.tensor([2, 3]))


def test_inputs_are_what_a_model_is_called_with():
    inputs, _ = loaded(({"a": X, "b": X}, Y)).fetch(torch.tensor([1]))
    assert isinstance(inputs, Inputs)
    assert inputs.feed(lambda a, b: (a + b).tolist()) == [[6, 8, 10]]
