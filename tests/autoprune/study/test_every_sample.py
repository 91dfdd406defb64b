"""What is wrong with one sample among many is told before the first trial, by its split and its number."""

from __future__ import annotations

from dataclasses import replace
from itertools import count

import pytest
import torch
import toy_plugin
from torch.nn.functional import one_hot

from autoprune.errors import DataError, SpecError
from autoprune.plugin import Data, Split
from autoprune.study import every_sample
from autoprune.study.every_sample import faulty_sample
from autoprune.study.resolution import resolve
from autoprune_tasks.classification import Classification
from autoprune_tasks.language_models import CausalLM
from autoprune_tasks.multi_head import MultiHead
from autoprune_tasks.multilabel import Multilabel
from autoprune_tasks.regression import Regression
from autoprune_tasks.segmentation import Segmentation

CLASSES = torch.arange(600) % 4
BAD = 530
"""Beyond the first batch."""


def data(targets, inputs=None, *, bad="test"):
    """The splits are alike, but for what is wrong, which is in one of them."""
    wrong = Split.of_tensors(torch.zeros(600, 2) if inputs is None else inputs, targets)
    splits = {name: Split(len(wrong), lambda index: wrong.fetch(index % BAD)) for name in ("train", "validation")}
    splits["test"] = splits["train"]
    return Data(**(splits | {bad: wrong}))


def with_bad(targets, value):
    targets = targets.clone()
    targets[BAD] = value
    return targets


HEADS = MultiHead(heads={"kind": Classification(), "size": Regression()})


@pytest.mark.parametrize(
    ("task", "targets", "outputs", "told"),
    [
        (Classification(), with_bad(CLASSES, 4), torch.zeros(3, 4), "a target is class 4, but the model has 4 outputs"),
        (Classification(), with_bad(CLASSES, -1), torch.zeros(3, 4), "a target is class -1"),
        (Regression(), with_bad(CLASSES.float(), float("nan")), torch.zeros(3, 1), "a target is nan: leave the sample"),
        (Regression(), with_bad(CLASSES.float(), float("inf")), torch.zeros(3, 1), "a target is inf"),
        (Multilabel(), with_bad(one_hot(CLASSES), 2), torch.zeros(3, 4), "a target is 2; multilabel takes"),
        (
            Segmentation(ignore_index=9),
            with_bad(CLASSES.view(600, 1, 1).expand(600, 2, 2), 7),
            torch.zeros(3, 4, 5, 5),
            "a target is class 7, but the model has 4 outputs: classes are 0 to 3; what counts nowhere is 9",
        ),
        (
            CausalLM(),
            with_bad(CLASSES.view(600, 1).expand(600, 6), 4),
            torch.zeros(3, 9, 4),
            "a target is class 4, but the model has 4 outputs",
        ),
        (
            HEADS,
            {"kind": with_bad(CLASSES, 4), "size": CLASSES.float()},
            {"kind": torch.zeros(3, 4), "size": torch.zeros(3, 1)},
            "head 'kind': a target is class 4",
        ),
    ],
)
@pytest.mark.parametrize("bad", ["train", "validation", "test"])
def test_a_bad_target_is_told_by_split_and_sample(task, targets, outputs, told, bad):
    reason = faulty_sample(task, data(targets, bad=bad), outputs)
    assert reason is not None
    assert reason.startswith(f"{bad} sample {BAD}: {told}")


@pytest.mark.parametrize(
    ("task", "targets", "outputs"),
    [
        (Classification(), CLASSES, torch.zeros(3, 4)),
        (Regression(), CLASSES.float(), torch.zeros(3, 1)),
        (Multilabel(), with_bad(one_hot(CLASSES), -100), torch.zeros(3, 4)),
        (Segmentation(), with_bad(CLASSES.view(600, 1, 1).expand(600, 2, 2), -100), torch.zeros(3, 4, 2, 2)),
        (HEADS, {"kind": CLASSES, "size": CLASSES.float()}, {"kind": torch.zeros(3, 4), "size": torch.zeros(3, 1)}),
    ],
)
def test_what_is_right_is_not_told(task, targets, outputs):
    assert faulty_sample(task, data(targets), outputs) is None


def test_a_missing_number_among_the_inputs_is_told():
    inputs = with_bad(torch.zeros(600, 2), float("nan"))
    assert faulty_sample(Classification(), data(CLASSES, inputs), torch.zeros(3, 4)) == (
        f"test sample {BAD}: an input is NaN: leave the sample out, or fill it in"
    )


def test_a_sample_that_cannot_be_read_is_told():
    def read(index, error):
        if BAD in index:
            raise error
        return torch.zeros(len(index), 2), CLASSES[index]

    whole = data(CLASSES)
    broken = replace(whole, test=Split(600, lambda index: read(index, KeyError("label"))))
    assert faulty_sample(Classification(), broken, torch.zeros(3, 4)) == f"test sample {BAD}: KeyError: 'label'"
    named = replace(whole, test=Split(600, lambda index: read(index, DataError("img_7.png is no image"))))
    with pytest.raises(DataError, match=r"^img_7.png is no image$"):
        faulty_sample(Classification(), named, torch.zeros(3, 4))


def test_what_is_read_slowly_is_looked_at_in_part(monkeypatch):
    seconds = count(step=0.08)
    monkeypatch.setattr(every_sample.time, "monotonic", lambda: float(next(seconds)))
    monkeypatch.setattr(every_sample, "_AT_ONCE", 100)
    seen = []

    def read(index):
        seen.append(int(index[0]))
        return torch.zeros(len(index), 2), CLASSES[index]

    slow = Split(600, read)
    assert faulty_sample(Classification(), Data(slow, slow, slow), torch.zeros(3, 4)) is None
    assert seen == [0, 100, 200] * 3, "each look at the clock is a second later"
    known = Split(600, read, read_targets=lambda index: with_bad(CLASSES, 4)[index])
    assert faulty_sample(Classification(), Data(slow, slow, known), torch.zeros(3, 4)) == (
        f"test sample {BAD}: a target is class 4, but the model has 4 outputs: classes are 0 to 3"
    ), "targets that are at hand are all looked at"


@pytest.mark.slow
def test_it_stands_at_the_data_of_the_spec(spec, host, monkeypatch):
    load = toy_plugin.ToyData.load

    def spoilt(self, ctx):
        good = load(self, ctx)
        inputs, targets = good.test.fetch(torch.arange(16))
        targets[11] = 3
        return replace(good, test=Split.of_tensors(inputs, targets))

    monkeypatch.setattr(toy_plugin.ToyData, "load", spoilt)
    with pytest.raises(SpecError, match=r"spec\.yaml:\d+:\d+: data: test sample 11: a target is class 3, but the mo"):
        resolve(spec(), host)
    assert resolve(spec(), host, worker=0), "the study's beginning looks; its workers need not"
