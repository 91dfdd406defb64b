"""A model whose outputs are its inputs, so that a test can choose them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from autoprune.plugin import Costs, Data, EvaluationContext, Evaluator, Measured, SourceContext, Split, Task

COSTS = Costs(params=1, macs=1, bytes=1, nonzero=1)


class Answer(nn.Module):
    """Its inputs, or those of each head by its name."""

    def forward(self, *args: Tensor, **kwargs: Tensor) -> Any:
        return kwargs or args[0]


def context(outputs: Any, targets: Any, task: Task, *, folder: Path = Path(), **changes: Any) -> EvaluationContext:
    split = Split.of_tensors(outputs, targets)
    fields = {
        "seed": 0,
        "device": torch.device("cpu"),
        "data": Data(split, split, split),
        "task": task,
        "split": "validation",
        "dense": Answer(),
        "costs": COSTS,
        "dense_costs": COSTS,
        "source": SourceContext(folder=folder, cache=folder, seed=0),
    }
    return EvaluationContext(**(fields | changes))


def measured(evaluator: Evaluator, outputs: Any, targets: Any, task: Task, **changes: Any) -> Measured:
    """The one metric of outputs that a test chose."""
    found: Mapping[str, float | Measured] = evaluator.evaluate(
        Answer().eval(), context(outputs, targets, task, **changes)
    )
    ((name, value),) = found.items()
    assert [metric.name for metric in evaluator.declares(None)] == [name]
    assert isinstance(value, Measured)
    return value
