"""The order in which evaluators are asked."""

from __future__ import annotations

import pytest

from autoprune.study.measuring import quickest_first
from autoprune_evaluators import Accuracy, Latency, Pgd

FOUND = {"latency": Latency(), "accuracy": Accuracy(), "pgd_hard": Pgd(epsilon=0.1, label="hard")}


@pytest.mark.parametrize(
    ("seconds", "order"),
    [
        ({}, ["latency", "accuracy", "pgd_hard"]),
        ({"latency": 1.0, "accuracy": 0.2, "pgd_hard": 4.0}, ["latency", "accuracy", "pgd_hard"]),
        ({"latency": 1.0, "accuracy": 0.02, "pgd_hard": 4.0}, ["accuracy", "latency", "pgd_hard"]),
        ({"latency": 9.0, "accuracy": 0.02, "pgd_hard": 0.5}, ["accuracy", "pgd_hard", "latency"]),
        ({"latency": 0.2, "accuracy": 0.001, "pgd_hard": 0.01}, ["latency", "accuracy", "pgd_hard"]),
        ({"latency": 4.0, "accuracy": 0.5, "pgd_hard": 0.01}, ["pgd_hard", "latency", "accuracy"]),
    ],
)
def test_what_takes_a_tenth_is_asked_first(seconds: dict[str, float], order: list[str]) -> None:
    found = quickest_first(list(FOUND.values()), seconds)
    assert [evaluator.metric_name(evaluator.name) for evaluator in found] == order
