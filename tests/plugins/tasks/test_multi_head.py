"""Several heads: what their own tasks say, put together by hand, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

import autoprune
from autoprune import TrialError
from autoprune.host.plugins import PluginHost
from autoprune.plugin import Data, Split, Task
from autoprune.toolkit.samples import losses, mean, right_shares, weights
from autoprune_tasks.classification import Classification
from autoprune_tasks.embedding import Embedding
from autoprune_tasks.language_models import CausalLM
from autoprune_tasks.multi_head import MultiHead
from autoprune_tasks.multilabel import Multilabel
from autoprune_tasks.regression import Regression
from autoprune_tasks.segmentation import Segmentation

from .cases import HEADS, classes, fitting, noise

WEIGHTS = {"kind": 2.0, "size": 0.5}
TASK = MultiHead(heads={name: PluginHost()(Task, h["use"])() for name, h in HEADS.items()}, weights=WEIGHTS)
KINDS: dict[str, Task] = {"kind": Classification(), "marks": Multilabel(), "size": Regression()}


@pytest.fixture
def data() -> Data:
    split = Split.of_tensors(torch.zeros(4, 2), torch.zeros(4))
    return Data(split, split, split, classes=99)  # of one head or another: nobody can tell


@pytest.fixture
def batch() -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]:
    """Outputs, those of the dense model, and targets."""
    outputs, targets = fitting("multi-head")
    return outputs, {name: noise(*each.shape, seed=7) for name, each in outputs.items()}, targets


def test_the_loss_is_the_weighted_sum_of_the_heads(batch: Any) -> None:
    outputs, _, targets = batch
    by_hand = sum(WEIGHTS.get(n, 1) * head.loss(outputs[n], targets[n]) for n, head in KINDS.items())
    assert torch.allclose(TASK.loss(outputs, targets), by_hand)
    smooth = MultiHead(heads={"kind": Classification(label_smoothing=0.2)}, weights={"kind": 3})
    expected = 3 * Classification(label_smoothing=0.2).training_loss(outputs["kind"], targets["kind"])
    assert torch.allclose(smooth.training_loss(outputs, targets), expected)
    assert not torch.allclose(smooth.loss(outputs, targets), expected)


def test_heads_are_compared_by_weight_where_anything_of_them_counts(batch: Any) -> None:
    """Nobody knows a mark of the last sample."""
    outputs, dense, targets = batch
    assert not KINDS["marks"].counted(outputs["marks"], targets["marks"])[-1]  # type: ignore[index]
    for ask in ("divergence", "agreement"):
        each = {n: getattr(head, ask)(outputs[n], dense[n], targets[n]) for n, head in KINDS.items()}
        found = getattr(TASK, ask)(outputs, dense, targets)
        assert found.dtype == torch.float64
        for row in range(8):
            having = {"kind": 2, "marks": 1, "size": 0.5} if row < 7 else {"kind": 2, "size": 0.5}
            expected = sum(weight * float(each[n][row]) for n, weight in having.items()) / sum(having.values())
            assert float(found[row]) == pytest.approx(expected, rel=1e-6)
        each = {n: getattr(head, ask)(outputs[n], dense[n]) for n, head in KINDS.items()}
        whole = (2 * each["kind"] + each["marks"] + 0.5 * each["size"]) / 3.5
        assert torch.allclose(getattr(TASK, ask)(outputs, dense), whole)


def test_right_is_the_mean_of_the_heads_that_know_it(batch: Any) -> None:
    outputs, _, targets = batch
    kind, marks = (KINDS[n].correct(outputs[n], targets[n]) for n in ("kind", "marks"))
    expected = [*((kind + marks) / 2)[:-1].tolist(), float(kind[-1])]  # type: ignore[operator,index]
    assert right_shares(TASK, outputs, targets).tolist() == pytest.approx(expected)
    numbers = MultiHead(heads={"size": Regression()})
    assert numbers.correct(outputs, targets) is None
    with pytest.raises(TrialError, match="multi-head has nothing that is right or wrong; use loss"):
        right_shares(numbers, outputs, targets)


def test_a_sample_counts_once_if_anything_of_it_does() -> None:
    outputs = {"a": noise(5, 3, 4), "b": noise(5, 6, 4)}
    targets = {"a": classes(5, 4, count=3), "b": classes(5, 6, count=4)}
    targets["a"][1] = -100
    task = MultiHead(heads={"a": Segmentation(), "b": CausalLM()})
    assert weights(task, outputs, targets).tolist() == [1, 1, 1, 1, 0]
    each = losses(task, outputs, targets)
    assert each[-1] == 0
    assert float(mean(task, each, outputs, targets)) == pytest.approx(float(each[:4].mean()))
    of_b = CausalLM().correct(outputs["b"], targets["b"])
    assert float(right_shares(task, outputs, targets)[1]) == pytest.approx(float(of_b[1]))
    assert float(right_shares(task, outputs, targets)[-1]) == 0
    # A head of which all counts, always: nothing to weigh.
    both = MultiHead(heads={"a": Segmentation(), "size": Regression()})
    assert both.counted({**outputs, "size": noise(5)}, {**targets, "size": noise(5)}) is None


def test_where_nothing_right_or_wrong_counts_no_share_is_given() -> None:
    outputs, targets = {"a": noise(5, 3, 4), "size": noise(5)}, {"a": classes(5, 4, count=3), "size": noise(5)}
    task = MultiHead(heads={"a": Segmentation(), "size": Regression()})
    with pytest.raises(TrialError, match=r"nothing counts of what is right or wrong, a, .* head: …"):
        task.correct(outputs, targets)
    some = {name: each[:4] for name, each in targets.items()}
    assert task.correct({name: each[:4] for name, each in outputs.items()}, some).shape == (4,)  # type: ignore[union-attr]


def test_each_head_picks_its_own() -> None:
    kind, marks, size = noise(4, 3), noise(4, 5), noise(4)
    task = MultiHead(
        heads={"kind": Classification(), "marks": Multilabel(output="1.deep"), "size": Regression(output="2")}
    )
    with pytest.raises(TrialError, match="there is no tensor at 'kind': the model returns a tuple with"):
        task.pick((kind, {"deep": marks}, size))
    picked = task.pick({"kind": {"logits": kind, "hidden": marks}, "1": {"deep": marks}, "2": size})
    assert list(picked) == ["kind", "marks", "size"]
    assert picked["kind"] is kind
    assert picked["marks"] is marks
    assert picked["size"] is size
    there = MultiHead(heads={"kind": Classification(), "size": Regression()}, output="heads")
    assert there.pick({"heads": {"kind": kind, "size": size}, "kind": marks})["kind"] is kind


def test_a_head_can_be_got_at() -> None:
    assert TASK.part("kind") == Classification()
    with pytest.raises(TrialError, match="multi-head has no head 'knid'; did you mean 'kind'"):
        TASK.part("knid")
    with pytest.raises(TrialError, match="there is no head 'kind': task regression has no heads, multi-head has"):
        Regression().part("kind")


def test_a_gradient_reaches_every_head(batch: Any) -> None:
    outputs, dense, targets = batch
    asked = {name: each.clone().requires_grad_() for name, each in outputs.items()}
    for total in (TASK.loss(asked, targets), TASK.divergence(asked, dense, targets), TASK.divergence(asked, dense)):
        for gradient in torch.autograd.grad(total.sum(), list(asked.values())):
            assert gradient.isfinite().all()
            assert gradient.any()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda t: t["kind"], ["targets are (8,) int64", "a mapping with kind, marks, size"]),
        (
            lambda t: {"kinds": t["kind"], "marks": t["marks"], "size": t["size"]},
            ["head 'kind'; did you mean 'kinds'?"],
        ),
        (lambda t: {}, ["no targets of that name for head 'kind'"]),
        (lambda t: {**t, "size": t["kind"]}, ["head 'size': ", "(8,) int64", "regression takes"]),
        (lambda t: {**t, "kind": t["kind"] + 4}, ["head 'kind': a target is class", "the model has 4 outputs"]),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(change: Any, told: list[str], batch: Any, data: Data) -> None:
    outputs, _, targets = batch
    assert TASK.refuses(outputs, {**targets, "else": targets["kind"]}, data) is None
    reason = TASK.refuses(outputs, change(targets), data)
    assert reason is not None
    assert "\n" not in reason
    for part in told:
        assert part in reason


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"heads": {}}, "at least 1 item"),
        ({"heads": {"a": Embedding()}}, "a: embedding has no targets of the data"),
        ({"heads": {"a": TASK}}, "a has heads of its own: write them here, each with {output: a"),
        ({"heads": {"a": Regression()}, "weights": {"b": 1}}, "there is no head 'b'; known: a"),
        ({"heads": {"a": Regression()}, "weights": {"a": 0}}, "greater than 0"),
        ({"heads": {"a": Regression()}, "weights": {"a": float("inf")}}, "finite number"),
    ],
)
def test_heads_that_cannot_be_are_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        MultiHead(**options)


def test_a_spec_names_its_heads_and_tells_where_one_is_wrong() -> None:
    task = {"use": "multi-head", "heads": HEADS, "weights": {"kind": 2}}
    spec = {
        "name": "heads",
        "model": {"use": "factory", "target": "nets:net"},
        "data": {"use": "digits"},
        "task": task,
        "evaluators": [{"use": "loss"}, {"use": "params"}],
        "objectives": {"loss": "minimize", "params": "minimize"},
    }
    made = autoprune.spec_from_mapping(spec)
    assert Task.model_validate(made.task, context=PluginHost()) == MultiHead(
        heads={**KINDS, "size": Regression(output="1")}, weights={"kind": 2}
    )
    task["heads"] = {**HEADS, "size": {"use": "regresion"}, "kind": {"use": "classification", "smooth": 1}}
    task["weights"] = {"knid": 2}
    with pytest.raises(autoprune.SpecError) as caught:
        autoprune.spec_from_mapping(spec)
    told = str(caught.value)
    for part in ("task.heads.size", "did you mean 'regression'?", "task.heads.kind.smooth: unknown key"):
        assert part in told
