"""Recall of every class that the data has."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from autoprune.plugin import Cost, Data, EvaluationContext, Evaluator, Measured, Metric


class Recall(Evaluator):
    """``recall_0``, ``recall_1``, …"""

    name = "each-recall"
    only_predicts = True

    def declares(self, data: Data | None) -> tuple[Metric, ...]:
        classes = 0 if data is None or data.classes is None else data.classes
        return tuple(Metric(f"recall_{n}", "fraction", "maximize", Cost.FORWARD) for n in range(classes))

    def refuses(self, data: Data) -> str | None:
        return "each-recall is of classes, and the data has none" if data.classes is None else None

    def evaluate(self, model: nn.Module, ctx: EvaluationContext) -> Mapping[str, float | Measured]:
        said, true = [], []
        with torch.no_grad():
            for inputs, targets in ctx.data.split(ctx.split).batches(32, device=ctx.device):
                said.append(inputs.feed(model).argmax(1))
                true.append(targets)
        right, targets = torch.cat(said) == torch.cat(true), torch.cat(true)
        recalls = {}
        for number in range(ctx.data.classes or 0):
            mine = targets == number
            value = right[mine].float().mean().item() if mine.any() else 0.0
            recalls[f"recall_{number}"] = Measured(value=value, samples=int(mine.sum()))
        return recalls
