"""What evaluators tell of a model against the dense one, on the same samples."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from autoprune.plugin import EvaluationContext, Evaluator, Measured
from autoprune.testing import Bench
from autoprune_evaluators.calibration import CalibrationError
from autoprune_evaluators.forward import Accuracy, Agreement, Loss, Perplexity
from autoprune_evaluators.overlap import F1, Precision, Recall, WorstClass
from autoprune_evaluators.ranking import Auc, TopK
from autoprune_evaluators.robustness import Fgsm, Pgd

EVALUATORS: tuple[Evaluator, ...] = (
    Accuracy(),
    Loss(),
    Perplexity(),
    F1(),
    TopK(k=2),
    Precision(),
    Recall(of_class=1),
    Auc(),
    CalibrationError(),
    WorstClass(),
    Fgsm(epsilon=0.1),
    Pgd(epsilon=0.05, steps=3),
)


def _measured(bench: Bench, evaluator: Evaluator, network: Any, **changes: Any) -> tuple[Measured, EvaluationContext]:
    costs, cache = bench.structure.dense_costs, changes.pop("cache", {})
    context = bench.contexts.evaluating(
        bench.predictor, seed=0, cache=cache, split="validation", costs=costs, of_dense=changes.pop("of_dense", False)
    )
    context = replace(context, **changes)
    (found,) = evaluator.evaluate(bench.predictor(network), context).values()
    assert isinstance(found, Measured)
    return found, context


@pytest.mark.parametrize("evaluator", EVALUATORS, ids=lambda each: each.name)
def test_differences_are_those_of_the_values(evaluator: Evaluator) -> None:
    bench = Bench()
    small = bench.cut(bench.uniform(0.6))
    dense, _ = _measured(bench, evaluator, bench.network, of_dense=True)
    assert dense.difference is None
    found, _ = _measured(bench, evaluator, small)
    assert found.difference is not None
    assert found.difference.value == pytest.approx(found.value - dense.value, abs=1e-6)
    assert found.difference.low is not None
    assert found.difference.high is not None
    assert found.difference.low <= found.difference.value <= found.difference.high
    # The same samples: it is known better than if the two had been measured on others.
    if None not in (found.low, dense.low):  # nothing that the dense model has right or wrong varies
        assert found.difference.high - found.difference.low <= found.high - found.low + dense.high - dense.low


@pytest.mark.parametrize("evaluator", EVALUATORS, ids=lambda each: each.name)
def test_the_dense_model_runs_once_for_all(evaluator: Evaluator) -> None:
    bench, cache = Bench(), {}
    small = bench.cut(bench.uniform(0.5))
    _measured(bench, evaluator, bench.network, of_dense=True, cache=cache)

    class Gone(torch.nn.Module):
        def forward(self, *_: Any) -> Any:
            raise AssertionError("the dense model is asked again")

    for label in ("", "again"):
        labelled = evaluator.model_copy(update={"label": label})
        assert _measured(bench, labelled, small, cache=cache, dense=Gone())[0].difference is not None


def test_agreement_is_a_comparison_already() -> None:
    bench = Bench()
    assert _measured(bench, Agreement(), bench.cut(bench.uniform(0.5)))[0].difference is None
