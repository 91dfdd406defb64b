from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from autoprune import DataError
from autoprune.toolkit.splits import Samples, as_classes, number_of_classes, stratified_order, three_splits


def numbered(targets):
    """Samples whose input is their own index."""
    targets = torch.as_tensor(targets)
    return Samples(targets=targets, inputs=lambda index: index.float().unsqueeze(1))


def indices(split):
    inputs, _ = split.fetch(torch.arange(len(split)))
    return inputs.first.long().view(-1).tolist()


@pytest.mark.slow
@given(st.lists(st.integers(0, 4), min_size=1, max_size=200), st.data())
def test_any_stretch_of_the_order_is_stratified(labels, data):
    targets = torch.tensor(labels)
    order = stratified_order(targets)
    assert sorted(order.tolist()) == list(range(len(labels)))
    start = data.draw(st.integers(0, len(labels)))
    stop = data.draw(st.integers(start, len(labels)))
    counts = targets.bincount()
    share = (stop - start) / len(labels) * counts
    found = targets[order[start:stop]].bincount(minlength=len(counts))
    # Each class stands at even distances, so a stretch misses its share by one at most, and by what the other classes
    # shift the stretch's borders.
    assert ((found - share).abs() <= 1 + len(counts.nonzero())).all()


@pytest.mark.slow
@given(
    st.lists(st.integers(0, 3), min_size=8, max_size=100),
    st.sampled_from([0.1, 0.25, 1, 2]),
    st.sampled_from([0.2, 0.4, 1, 3]),
)
def test_carved_splits_part_the_training_samples(labels, validation, test):
    splits = three_splits({"train": numbered(labels)}, validation=validation, test=test)
    parts = [indices(splits[name]) for name in ("train", "validation", "test")]
    assert sorted(itertools.chain(*parts)) == list(range(len(labels)))
    for part, amount in zip(parts[1:], (validation, test), strict=True):
        assert len(part) == (round(amount * len(labels)) if amount < 1 else amount)


def test_only_what_is_missing_is_carved():
    train, test = numbered([0, 1] * 10), numbered([0, 1, 1])
    splits = three_splits({"train": train, "test": test}, validation=0.2, test=0.2)
    assert len(splits["train"]) == 16
    assert len(splits["validation"]) == 4
    assert sorted(indices(splits["test"])) == [0, 1, 2]
    own = three_splits({"train": train, "test": test, "validation": numbered([0])}, validation=0.2, test=0.2)
    assert len(own["train"]) == 20
    assert len(own["validation"]) == 1


def test_a_validation_split_may_come_from_the_test_split_of_a_model_that_trained_on_all_of_the_other():
    found = {"train": numbered([0, 1] * 10), "test": numbered([0, 1, 1] * 5)}
    splits = three_splits(found, validation=0.4, test=0.2, validation_from="test")
    assert sorted(indices(splits["train"])) == list(range(20))
    assert len(splits["validation"]) == 6
    assert sorted(indices(splits["validation"]) + indices(splits["test"])) == list(range(15))
    with pytest.raises(DataError, match="there is no test split that validation could be carved from"):
        three_splits({"train": found["train"]}, validation=0.4, test=0.2, validation_from="test")
    with pytest.raises(DataError, match="validation: 15 of 15 test samples would leave a split empty"):
        three_splits(found, validation=15, test=0.2, validation_from="test")


def test_targets_stay_with_their_samples():
    labels = torch.randint(0, 7, (300,), generator=torch.Generator().manual_seed(0))
    splits = three_splits({"train": numbered(labels)}, validation=0.1, test=0.1)
    for split in splits.values():
        inputs, targets = split.fetch(torch.tensor([3, 0, 5]))
        assert torch.equal(targets, labels[inputs.first.long().view(-1)])


def test_files_sorted_by_class_give_mixed_prefixes():
    splits = three_splits({"train": numbered([0] * 500 + [1] * 500), "test": numbered([0] * 50 + [1] * 50)},
                          validation=0.2, test=0.2)  # fmt: skip
    for split in splits.values():
        _, targets = split.fetch(torch.arange(20))
        assert targets.sum() in (9, 10, 11)


def test_the_carving_is_the_same_in_every_run():
    first = three_splits({"train": numbered(list(range(5)) * 3)}, validation=3, test=3)
    assert indices(first["validation"]) == indices(
        three_splits({"train": numbered(list(range(5)) * 3)}, validation=3, test=3)["validation"]
    )
    # Frozen: whoever changes the carving gives every user other splits.
    assert indices(first["test"]) == [13, 4, 1]


@pytest.mark.parametrize(("validation", "test"), [(0.5, 0.5), (10, 0.2), (0.001, 0.2), (5, 5)])
def test_no_split_may_end_up_empty(validation, test):
    with pytest.raises(DataError, match="would leave a split empty"):
        three_splits({"train": numbered([0, 1] * 5)}, validation=validation, test=test)


@pytest.mark.parametrize(
    "targets",
    [torch.arange(60.0), torch.arange(60.0).view(20, 3), torch.arange(60).view(20, 3), {"a": torch.arange(20)}],
    ids=["numbers", "rows", "masks", "by name"],
)
def test_targets_that_are_no_classes_are_split_in_random_order(targets):
    samples = Samples(targets, lambda index: {"x": index.float().unsqueeze(1)})
    count = len(samples)
    splits = three_splits({"train": samples}, validation=0.2, test=0.2)
    parts = [indices(splits[name]) for name in ("train", "validation", "test")]
    assert sorted(itertools.chain(*parts)) == list(range(count))
    assert [len(part) for part in parts] == [count * 6 // 10, count * 2 // 10, count * 2 // 10]
    assert parts[0] != sorted(parts[0])
    inputs, found = splits["test"].fetch(torch.tensor([2, 0]))
    assert list(inputs.kwargs) == ["x"]
    rows = inputs.first.long().view(-1)
    if isinstance(targets, dict):
        found, targets = found["a"], targets["a"]
    assert torch.equal(found, targets[rows])
    assert number_of_classes({"train": samples}) is None


def test_bytes_of_any_input_are_scaled():
    samples = Samples(torch.zeros(9), lambda index: (index.to(torch.uint8)[:, None], index[:, None]))
    inputs, _ = three_splits({"train": samples}, validation=2, test=2)["train"].fetch(torch.arange(5))
    pixels, numbers = inputs.args
    assert torch.equal(pixels, numbers / 255)
    assert numbers.dtype == torch.int64


def test_classes_are_counted_over_all_splits():
    assert number_of_classes({"train": numbered([0, 1]), "test": numbered([0, 4])}) == 5


def test_labels_of_one_column_are_taken():
    assert as_classes([[2], [0]], where="y").tolist() == [2, 0]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0.0, 1.0], "integers from 0; these are float64"),
        (["a", "b"], "integers from 0"),
        ([1, -1], "class -1 at sample 1"),
        ([[0, 1], [1, 0]], r"one class per sample is needed; its shape is \(2, 2\)"),
    ],
)
def test_other_labels_are_refused(labels, message):
    with pytest.raises(DataError, match=f"^y: .*{message}"):
        as_classes(labels, where="y")
