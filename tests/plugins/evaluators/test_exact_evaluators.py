"""Parameters, MACs and size come straight from the candidate's arithmetic."""

from __future__ import annotations

import pytest

from autoprune.plugin import Cost, Costs, ExactEvaluator
from autoprune_evaluators import Macs, Params, Size, Sparsity

DENSE = Costs(params=1000, macs=50_000, bytes=4_000_000, nonzero=1000)
HALF = Costs(params=250, macs=20_000, bytes=1_000_000, nonzero=100)


@pytest.mark.parametrize(
    ("evaluator", "expected"),
    [
        (Params(), {"params": 250, "params_ratio": 0.25}),
        (Macs(), {"macs": 20_000, "macs_ratio": 0.4}),
        (Size(), {"size_mb": 1.0, "size_ratio": 0.25}),
        (Sparsity(), {"sparsity": 0.6, "nonzero_ratio": 0.1}),
    ],
)
def test_counts_and_share_of_the_dense_model(evaluator: ExactEvaluator, expected: dict[str, float]) -> None:
    assert evaluator.compute(HALF, DENSE) == expected
    assert {metric.name for metric in evaluator.metrics} == set(expected)
    assert all(metric.cost is Cost.EXACT for metric in evaluator.metrics)
    assert [m.name for m in evaluator.metrics if m.direction == "maximize"] == [n for n in expected if n == "sparsity"]
