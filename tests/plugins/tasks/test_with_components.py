"""Scorers, trainings and attacks ask every task: tiny nets, samples in which little counts, and sums by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from autoprune import TrialError
from autoprune.plugin import Data, Split, Task
from autoprune.testing import Bench
from autoprune.toolkit.samples import divergences, losses, mean, right_shares, weights
from autoprune_evaluators.forward import Accuracy
from autoprune_evaluators.robustness import Fgsm, Pgd
from autoprune_recoveries.distill import Distill
from autoprune_recoveries.fine_tune import FineTune
from autoprune_scorers.taylor import Taylor
from autoprune_tasks.classification import Classification
from autoprune_tasks.embedding import Embedding
from autoprune_tasks.language_models import CausalLM, MaskedLM, Seq2SeqLM
from autoprune_tasks.multi_head import MultiHead
from autoprune_tasks.multilabel import Multilabel
from autoprune_tasks.regression import Regression
from autoprune_tasks.segmentation import Segmentation

from .cases import classes

N, C = 48, 4
TASKS: list[Task] = [
    *(Multilabel(), Segmentation(), CausalLM(), MaskedLM(), Seq2SeqLM()),
    MultiHead(
        heads={
            "kind": Classification(),
            "map": Segmentation(),
            "marks": Multilabel(output="deep.marks"),
            "size": Regression(),
        },
        weights={"map": 2},
    ),
    Embedding(),
    Embedding(towers=("kind", "deep.marks")),
]
RIGHT = [task for task in TASKS if not isinstance(task, Embedding)]


def named(task: Task) -> str:
    return f"{task.name}-towers" if getattr(task, "towers", ()) else task.name


class Map(nn.Module):
    """Scores of pixels, of samples, or several of these by name."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.task = named(task)
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.head = nn.Conv2d(8, C, 1)
        self.size = nn.Linear(8, 1)
        with torch.no_grad():  # untrained, it would say the same of all images
            self.conv.bias.zero_()
            self.conv.weight.mul_(3)
            self.head.weight.mul_(10)

    def forward(self, x: Tensor) -> Any:
        """Of images (N, 3, 4, 4)."""
        hidden = self.conv(x).relu()
        scores, pooled = self.head(hidden), hidden.mean((2, 3))
        if self.task == "segmentation":
            return scores
        if self.task.endswith("-lm"):
            return {"logits": scores.flatten(2).mT, "past": hidden}
        of_sample = scores.mean((2, 3))
        if self.task in ("multilabel", "embedding"):
            return of_sample
        kind = of_sample.flip(1)
        return {"kind": kind, "map": scores, "deep": {"marks": of_sample}, "size": self.size(pooled)}


def targets_of(task: Task) -> Any:
    """Targets of N samples, in which about a third of what can be ignored is."""
    if isinstance(task, MultiHead):
        kinds = classes(N, 2, count=C, ignored=None)[:, 0]
        maps, marks = classes(N, 4, 4, count=C), classes(N, C, count=2)
        return {"kind": kinds, "map": maps, "marks": marks, "size": kinds.float()}
    if isinstance(task, Embedding):
        return {}
    if isinstance(task, Multilabel):
        return classes(N, C, count=2)
    return classes(N, 4, 4, count=C) if isinstance(task, Segmentation) else classes(N, 16, count=C)


def bench_of(task: Task) -> Bench:
    torch.manual_seed(0)
    images = torch.rand(N, 3, 4, 4)
    split = Split.of_tensors(images, targets_of(task))
    return Bench(Map(task).eval(), Data(split, split, split, bounds=(0.0, 1.0)), task=task)


def measured(bench: Bench, network: nn.Module) -> tuple[float, float]:
    """Mean loss, and mean divergence from the dense network, over what counts."""
    (inputs, targets), task = next(iter(bench.data.train.batches(N))), bench.task
    with torch.no_grad():
        outputs, dense = (inputs.feed(bench.predictor(each)) for each in (network, bench.network))
        each = losses(task, outputs, targets), divergences(task, outputs, dense, targets)
    return tuple(float(mean(task, values, outputs, targets)) for values in each)  # type: ignore[return-value]


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS, ids=named)
def test_trainings_lower_what_they_minimise(task: Task) -> None:
    bench = bench_of(task)
    options: dict[str, Any] = {"epochs": 8, "batch_size": 16, "lr": 0.01, "optimizer": "adamw"}
    for recovery, which in ((FineTune(**options), 0), (Distill(**options, weight=1.0), 1)):
        pruned = bench.pruned(bench.uniform(0.5))
        before = measured(bench, pruned.network)
        bench.recover(recovery, pruned)
        assert measured(bench, pruned.network)[which] < before[which]


@pytest.mark.slow
@pytest.mark.parametrize("task", RIGHT, ids=named)
def test_taylor_ranks_by_the_loss_of_what_counts(task: Task) -> None:
    """Of one batch: the gradient of the mean over all that counts, of the whole batch, times the weights that read."""
    bench = bench_of(task)
    found = bench.score(Taylor(batches=1, batch_size=N))
    assert found
    inputs, targets = next(iter(bench.data.train.batches(N)))
    outputs = inputs.feed(bench.predictor(bench.network))
    each, counted = task.loss(outputs, targets), task.counted(outputs, targets)
    total = each.mean() if counted is None else (each * counted).sum() / counted.sum()
    readers = [bench.network.head.weight, bench.network.size.weight]  # type: ignore[union-attr]
    gradients = torch.autograd.grad(total, readers, allow_unused=True)  # type: ignore[arg-type]
    sums = sum(
        (g * w).transpose(0, 1).flatten(1).sum(1)  # type: ignore[operator]
        for g, w in zip(gradients, readers, strict=True)
        if g is not None
    )
    assert torch.allclose(found["conv"], sums.square().detach(), rtol=1e-3, atol=1e-10)  # type: ignore[union-attr]
    assert found["conv"].any()


@pytest.mark.slow
@pytest.mark.parametrize("task", RIGHT, ids=named)
def test_attacks_find_what_counts_and_no_more(task: Task) -> None:
    bench = bench_of(task)
    accuracy = bench.measure(Accuracy())["accuracy"].value
    inputs, targets = next(iter(bench.data.validation.batches(N)))
    with torch.no_grad():
        outputs = inputs.feed(bench.predictor(bench.network))
    shares, counted = right_shares(task, outputs, targets), weights(task, outputs, targets)
    assert accuracy == pytest.approx(float((shares * counted).sum() / counted.sum()))
    assert 0.1 < accuracy < 0.9
    for attack in (Fgsm, Pgd):
        nothing = bench.measure(attack(epsilon=1e-7, samples=N, batch_size=13))["robust_accuracy"]
        assert nothing.value == pytest.approx(accuracy, abs=0.02)
    weak, strong = (
        bench.measure(Pgd(epsilon=epsilon, steps=5, samples=N))["robust_accuracy"].value for epsilon in (0.02, 0.2)
    )
    assert strong < weak <= accuracy


def test_taylor_has_nothing_to_go_by_where_the_dense_model_is_the_target() -> None:
    with pytest.raises(TrialError, match="the loss of embedding is least at the dense model itself"):
        bench_of(Embedding()).score(Taylor())


def test_what_nothing_is_right_in_cannot_be_attacked() -> None:
    with pytest.raises(TrialError, match="embedding has nothing that is right or wrong; use loss"):
        bench_of(Embedding()).measure(Fgsm(epsilon=0.1))
