"""Rows of scores, each of one class: what every task of classes is made of.

Shapes use M rows and C classes, and N samples of P elements, of which M count.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, log_softmax

_AT_ONCE = 2**18
"""Scores gone through at once: rows of a large vocabulary in float64 would take many times what the outputs do."""


def cross_entropies(scores: Tensor, classes: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
    """Cross-entropy of each row in nats, (M,), float32 or float64.

    Args:
        scores: Of any precision, (M, C).
        classes: Theirs, int64 of shape (M,).
        label_smoothing: Share of the targets that is spread over all classes.
    """

    def part(scores: Tensor, classes: Tensor) -> Tensor:
        return cross_entropy(precise(scores), classes, reduction="none", label_smoothing=label_smoothing)

    return _in_parts(part, scores, classes)


def relative_entropies(scores: Tensor, dense: Tensor) -> Tensor:
    """Kullback-Leibler divergence of the scores' distributions from the dense model's in nats, (M,), float64."""

    def part(scores: Tensor, dense: Tensor) -> Tensor:
        ours, theirs = (log_softmax(each.double(), dim=1) for each in (scores, dense))
        chances = theirs.exp()
        # What the dense model rules out (a score of -inf) counts 0. Rounding may push equals below it.
        return (chances * (theirs - ours)).masked_fill(chances == 0, 0).sum(1).clamp_min(0)

    return _in_parts(part, scores, dense)


def same_classes(scores: Tensor, dense: Tensor) -> Tensor:
    """1 where both say the same class, 0 elsewhere, (M,), float32."""
    return (scores.argmax(1) == dense.argmax(1)).float()


def right_classes(scores: Tensor, classes: Tensor) -> Tensor:
    """1 where the largest score is the target's and no score is NaN, 0 elsewhere, (M,), float32."""
    largest, at = scores.max(1)  # NaN is larger than any number
    return ((at == classes) & ~largest.isnan()).float()


def sample_means(values: Tensor, counting: Tensor) -> Tensor:
    """The mean of each sample's elements that count, (N,), differentiable; 0 where none does.

    Args:
        values: Of the elements that count, (M,), sample by sample.
        counting: Which of all do, bool of shape (N, P).
    """
    whole = values.new_zeros(counting.shape).masked_scatter(counting, values)
    return whole.sum(1) / counting.sum(1).clamp_min(1)


def precise(scores: Tensor) -> Tensor:
    """In float32 if they are in half precision, in which a loss would keep three digits."""
    return scores.float() if scores.dtype.itemsize < 4 else scores


def outside(classes: Tensor, count: int) -> str | None:
    """Which class is not among 0 … count - 1; None where all are.

    Asked before the loss is: on a GPU a class too many would take the process along.
    """
    if not classes.numel():
        return None
    low, high = torch.stack(classes.aminmax()).tolist()  # a GPU is waited for once
    if low >= 0 and high < count:
        return None
    wrong = low if low < 0 else high
    return f"a target is class {wrong}, but the model has {count} outputs: classes are 0 to {count - 1}"


def _in_parts(of_rows: Callable[..., Tensor], *rows: Tensor) -> Tensor:
    """What is asked of each row, (M,), some rows at a time.

    Where there is a gradient, its steps are gone through again for each part, so that none of them is kept.
    """
    at_once = max(1, _AT_ONCE // rows[0].shape[1])
    if len(rows[0]) <= at_once:
        return of_rows(*rows)
    if torch.is_grad_enabled() and any(each.requires_grad for each in rows):
        from torch.utils.checkpoint import checkpoint

        of_rows = partial(checkpoint, of_rows, use_reentrant=False, preserve_rng_state=False)
    parts = zip(*(torch.split(each, at_once) for each in rows), strict=True)
    return torch.cat([of_rows(*part) for part in parts])
