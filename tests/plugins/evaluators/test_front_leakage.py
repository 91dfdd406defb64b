"""What a front leaks together, against what is known of normal scores."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import norm
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from autoprune.plugin import Data, EvaluationContext
from autoprune_evaluators._membership import Scores
from autoprune_evaluators._together import together
from autoprune_evaluators.membership import MembershipInference
from autoprune_tasks.classification import Classification

from .answers import COSTS


def drawn(models: int, samples: int, *, apart: float, seed: int = 0) -> list[Scores]:
    """Of models whose scores of a sample are independent, members' so much higher."""
    generator = torch.Generator().manual_seed(seed)
    both = torch.randn(models, 2, samples, generator=generator).double()
    return [Scores(members.exp() * math.exp(apart), others.exp()) for members, others in both]


def test_independent_answers_add_up() -> None:
    """Of K normal scores whose means are d apart, the best attack's area is Φ(√(K/2) d)."""
    for models in (1, 4):
        found = together(drawn(models, 2000, apart=0.5)).measured(None)["membership_auc"]
        assert found.low < norm.cdf(math.sqrt(models / 2) * 0.5) < found.high  # type: ignore[operator]


def test_one_model_tells_what_it_tells_alone() -> None:
    (alone,) = each = drawn(1, 500, apart=0.7)
    mine, its = together(each).measured(None)["membership_auc"], alone.measured(None)["membership_auc"]
    assert mine.value == pytest.approx(its.value, abs=1e-9)


def test_weights_are_those_of_scikit_learn_on_the_other_half() -> None:
    each = drawn(3, 200, apart=0.4)
    pooled = np.stack([torch.cat([one.members, one.others]).numpy() for one in each], 1)
    normal = norm.ppf((pooled.argsort(0).argsort(0) + 0.5) / 400)
    classes = np.repeat([1, 0], 200)
    found = together(each)
    ours = torch.cat([found.members, found.others]).numpy()
    for half in (0, 1):
        known, judged = (np.arange(400) % 2 == side for side in (1 - half, half))
        scale = normal[known].std(0)
        fitted = LogisticRegression(C=2, tol=1e-10).fit(normal[known] / scale, classes[known])
        weights = fitted.coef_[0] / scale
        assert normal[judged] @ weights / np.linalg.norm(weights) == pytest.approx(ours[judged], abs=1e-4)


def test_nothing_is_found_where_nothing_leaks() -> None:
    """On the mean over draws, however many models there are: weights judged where they were learnt would find some."""
    areas = [together(drawn(12, 60, apart=0, seed=seed)).measured(None)["membership_auc"].value for seed in range(30)]
    assert abs(np.mean(areas) - 0.5) < 4 * np.std(areas) / math.sqrt(len(areas))


def test_a_front_is_asked_with_the_dense_model(leaking: tuple[nn.Module, Data]) -> None:
    net, data = leaking

    class Noisy(nn.Module):
        """The net with weights that are a little off."""

        def __init__(self, seed: int) -> None:
            super().__init__()
            self.seed = seed

        def forward(self, x: Tensor) -> Tensor:
            generator = torch.Generator().manual_seed(self.seed)
            off: dict[str, Any] = {
                name: tensor + 0.05 * torch.randn(tensor.shape, generator=generator)
                for name, tensor in net.state_dict().items()
            }
            return torch.func.functional_call(net, off, (x,))  # type: ignore[no-any-return]

    context = EvaluationContext(
        seed=0, device=torch.device("cpu"), data=data, task=Classification(), split="validation", dense=net,
        costs=COSTS, dense_costs=COSTS,
    )  # fmt: skip
    evaluator = MembershipInference()
    found = evaluator.of_front([Noisy(seed).eval() for seed in range(4)], context)
    dense = evaluator.evaluate(net, context)
    assert list(found) == ["front_leakage_auc", "front_leakage_advantage"]
    for name, measured in found.items():
        alone = dense[name.replace("front_leakage", "membership")]
        assert measured.difference is not None
        assert measured.difference.value == pytest.approx(measured.value - alone.value)  # type: ignore[union-attr]
    assert found["front_leakage_auc"].value > 0.75
