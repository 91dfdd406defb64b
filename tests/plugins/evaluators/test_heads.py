"""Of several heads, one is measured as if the model had it alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from autoprune import TrialError
from autoprune.plugin import Data, Evaluator
from autoprune.testing import Bench
from autoprune.toolkit.samples import SampleEvaluator
from autoprune_evaluators import (
    F1,
    R2,
    Accuracy,
    Agreement,
    Auc,
    CalibrationError,
    Fgsm,
    Loss,
    Mae,
    MeanIou,
    Perplexity,
    Pgd,
    Precision,
    Recall,
    Rmse,
    TopK,
    UserMetric,
    WorstClass,
)
from autoprune_tasks.classification import Classification
from autoprune_tasks.multi_head import MultiHead
from autoprune_tasks.regression import Regression
from tests.plugins.evaluators.answers import context

KIND, SIZE = Classification(), Regression()
TASK = MultiHead(heads={"kind": KIND, "size": SIZE})


class Heads(nn.Module):
    """Two heads of inputs (N, 4)."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.kind, self.size = nn.Linear(4, 3), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"kind": self.kind(x), "size": self.size(x)}


def targets() -> dict[str, Tensor]:
    with torch.no_grad():
        likely = Heads(5)(inputs())
    return {"kind": likely["kind"].argmax(1), "size": likely["size"] + 0.1 * torch.randn(likely["size"].shape)}


def inputs() -> Tensor:
    return torch.rand(60, 4, generator=torch.Generator().manual_seed(0))


def evaluate(evaluator: Evaluator, model: nn.Module, dense: nn.Module, targets: Any, task: Any) -> Any:
    from dataclasses import replace

    ctx = context(inputs(), targets, task, dense=dense)
    return evaluator.evaluate(model.eval(), replace(ctx, data=replace(ctx.data, bounds=(0.0, 1.0))))


CASES = [
    *(("kind", each) for each in (Accuracy(), Loss(), Perplexity(), F1(), MeanIou(), Agreement())),
    *(("kind", each) for each in (TopK(k=2), Precision(), Recall(), Auc(), CalibrationError(), WorstClass())),
    *(("kind", each) for each in (Fgsm(epsilon=0.05, batch_size=16), Pgd(epsilon=0.05, steps=3))),
    *(("size", each) for each in (R2(), Mae(), Rmse(), Loss(), Agreement())),
    ("kind", UserMetric(target="torch.nn.functional:cross_entropy", direction="minimize", resamples=0)),
]


@pytest.mark.parametrize(("head", "evaluator"), CASES, ids=[f"{each.name}-{head}" for head, each in CASES])
def test_a_head_is_measured_as_a_model_of_that_head_alone(head: str, evaluator: SampleEvaluator) -> None:
    model, dense, true = Heads(1).eval(), Heads(2).eval(), targets()
    of_head = evaluator.model_copy(update={"head": head})
    ours = evaluate(of_head, model, dense, true, TASK)
    alone = evaluate(evaluator, getattr(model, head), getattr(dense, head), true[head], TASK.part(head))
    assert ours == alone
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("evaluator", [F1(), MeanIou(), R2(), Mae(), Rmse(), Perplexity()], ids=lambda each: each.name)
def test_what_is_of_one_head_asks_for_it(evaluator: SampleEvaluator) -> None:
    with pytest.raises(TrialError, match=rf"say which, {{use: {evaluator.name}, head: kind}}$"):
        evaluate(evaluator, Heads(1), Heads(2), targets(), TASK)


def test_a_head_that_is_not_there_is_told_with_those_that_are() -> None:
    with pytest.raises(TrialError, match=r"^multi-head has no head 'knd'; did you mean 'kind'\?$"):
        evaluate(Accuracy(head="knd"), Heads(1), Heads(2), targets(), TASK)
    with pytest.raises(TrialError, match=r"^multi-head has no head 'depth'; known: kind, size$"):
        evaluate(Accuracy(head="depth"), Heads(1), Heads(2), targets(), TASK)
    with pytest.raises(TrialError, match=r"^there is no head 'kind': task classification has no heads"):
        evaluate(Accuracy(head="kind"), Heads(1).kind, Heads(2).kind, targets()["kind"], KIND)


def test_two_accuracies_of_two_heads_are_told_apart_by_their_labels() -> None:
    true = {"kind": targets()["kind"], "second": targets()["kind"].roll(1)}

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.kind, self.second = nn.Linear(4, 8), nn.Linear(8, 3), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            x = self.body(x).relu()
            return {"kind": self.kind(x), "second": self.second(x)}

    from autoprune.plugin import Split

    split = Split.of_tensors(inputs(), true)
    task = MultiHead(heads={"kind": KIND, "second": KIND})
    bench = Bench(Twice(), Data(split, split, split), task=task)
    found = {**bench.measure(Accuracy(head="kind", label="kind")), **bench.measure(Accuracy(head="second", label="b"))}
    assert found.keys() == {"accuracy_kind", "accuracy_b"}
    with torch.no_grad():
        outputs = bench.network(inputs())
    for name, head in (("accuracy_kind", "kind"), ("accuracy_b", "second")):
        assert found[name].value == pytest.approx(float((outputs[head].argmax(1) == true[head]).double().mean()))
