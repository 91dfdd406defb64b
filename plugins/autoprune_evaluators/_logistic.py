"""Logistic regression: what an attacker infers from numbers.

Shapes use: N samples, F features, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

_STEPS = 100


@dataclass(frozen=True)
class Logistic:
    """Scores of classes from features in deviations from the mean."""

    mean: Tensor
    deviation: Tensor
    weights: Tensor
    """(F, C)."""
    bias: Tensor
    """(C,)."""

    @classmethod
    def fitted(cls, features: Tensor, classes: Tensor, count: int) -> Logistic:
        """Fit multinomial logistic regression with an L2 penalty of half the weights' squares, scikit-learn's default.

        It is convex, so that the same numbers give the same fit.

        Args:
            features: (N, F).
            classes: int64 of shape (N,).
            count: How many classes there are.
        """
        features, classes = features.detach().cpu().double(), classes.cpu()
        mean, deviation = features.mean(0), features.std(0, correction=0)
        deviation = torch.where(deviation > 0, deviation, 1.0)
        x = (features - mean) / deviation
        with torch.inference_mode(mode=False), torch.enable_grad():
            x, classes = x.clone(), classes.clone()  # what inference mode made takes no part in gradients
            weights = torch.zeros(x.shape[1], count, dtype=torch.float64, requires_grad=True)
            bias = torch.zeros(count, dtype=torch.float64, requires_grad=True)
            optimizer = torch.optim.LBFGS(
                [weights, bias], max_iter=_STEPS, tolerance_grad=1e-8, line_search_fn="strong_wolfe"
            )

            def closure() -> Tensor:
                optimizer.zero_grad()
                loss = cross_entropy(x @ weights + bias, classes, reduction="sum") + weights.square().sum() / 2
                loss.backward()  # type: ignore[no-untyped-call]
                return loss

            optimizer.step(closure)  # type: ignore[no-untyped-call]
        return cls(mean, deviation, weights.detach(), bias.detach())

    def scores(self, features: Tensor) -> Tensor:
        """Of (N, F), (N, C) float64 on the CPU."""
        return (features.detach().cpu().double() - self.mean) / self.deviation @ self.weights + self.bias
