"""Model inversion, against the Adversarial Robustness Toolbox and nets whose inverse is known."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from autoprune import DataError, TrialError
from autoprune.plugin import EvaluationContext, Measured, Split
from autoprune_evaluators.inversion import ModelInversion
from autoprune_tasks.classification import Classification
from autoprune_tasks.regression import Regression

from .answers import context
from .conftest import Case


def of(ctx: EvaluationContext, model: nn.Module, **options: object) -> Measured:
    found = ModelInversion.model_validate(options).evaluate(model, ctx)["inversion_error"]
    assert isinstance(found, Measured)
    return found


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_toolbox_reconstructs_the_same(digits: Case) -> None:
    """Its MIFace ascends what the model puts out: with the logarithm of the probabilities, that is our loss."""
    from art.attacks.inference.model_inversion import MIFace
    from art.estimators.classification import PyTorchClassifier

    logs = nn.Sequential(digits.model, nn.LogSoftmax(1))
    art = PyTorchClassifier(logs, nn.NLLLoss(), (1, 8, 8), 10, clip_values=(0.0, 1.0))
    attack = MIFace(art, max_iter=40, threshold=math.inf, learning_rate=0.1, batch_size=10, verbose=False)
    theirs = attack.infer(np.zeros((10, 1, 8, 8), dtype=np.float32), np.arange(10))
    inputs, targets = digits.data.train.fetch(torch.arange(len(digits.data.train)))
    means = np.stack([inputs.first[targets == each].double().mean(0).numpy() for each in range(10)])
    errors = np.sqrt(((theirs - means) ** 2).mean((1, 2, 3)))
    found = of(digits.context(), digits.model, steps=40, samples=None)
    assert found.value == pytest.approx(errors.mean(), rel=1e-4)
    half = 1.959963984540054 * errors.std(ddof=1) / math.sqrt(10)
    assert (found.low, found.high) == pytest.approx((errors.mean() - half, errors.mean() + half), rel=1e-3)
    assert found.samples == 10


class Mean(nn.Module):
    """Takes an input for the class whose mean is nearest: gives every mean away."""

    def __init__(self, means: Tensor) -> None:
        super().__init__()
        self.means = nn.Parameter(means)

    def forward(self, x: Tensor) -> Tensor:
        return -20 * (x[:, None] - self.means).square().sum(2)


@pytest.fixture
def clusters() -> EvaluationContext:
    """Four classes of five numbers, whose means are far apart."""
    generator = torch.Generator().manual_seed(0)
    targets = torch.arange(200) % 4
    inputs = 3 * torch.eye(5)[targets] + 0.1 * torch.randn(200, 5, generator=generator)
    ctx = context(inputs, targets, Classification(), dense=Mean(3 * torch.eye(5)[:4]))
    return replace(ctx, data=replace(ctx.data, classes=4))


def test_who_knows_the_means_gives_them_away(clusters: EvaluationContext) -> None:
    class Loss(Classification):
        """Makes of the distance the loss, so that the nearest mean is the loss's one minimum."""

        name = "nearest"

        def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
            return -outputs.gather(1, targets[:, None])[:, 0]

    ctx = replace(clusters, task=Loss())
    inputs, targets = ctx.data.train.fetch(torch.arange(200))
    means = torch.stack([inputs.first[targets == each].double().mean(0) for each in range(4)])
    assert of(ctx, ctx.dense, rate=0.01, steps=200).value == pytest.approx(
        float((3 * torch.eye(5)[:4] - means).square().mean(1).sqrt().mean()), abs=1e-4
    )
    silent = Mean(torch.zeros(4, 5))
    measured = of(ctx, silent, rate=0.01)
    assert measured.value == pytest.approx(float(means.square().mean(1).sqrt().mean()), abs=1e-4)
    assert measured.difference is not None
    assert measured.difference.told_apart
    assert measured.difference.value > 1
    assert of(replace(ctx, of_dense=True, cache={}), ctx.dense, rate=0.01).difference is None


def test_a_class_without_samples_is_left_out(clusters: EvaluationContext) -> None:
    data = replace(clusters.data, classes=9)
    assert of(replace(clusters, data=data), clusters.dense).samples == 4


def test_of_one_class_there_is_no_interval(clusters: EvaluationContext) -> None:
    one = Split.of_tensors(torch.ones(20, 5), torch.zeros(20, dtype=torch.int64))
    data = replace(clusters.data, train=one, validation=one, classes=1)
    found = of(replace(clusters, data=data), Mean(torch.zeros(4, 5)), rate=0.01)
    assert (found.samples, found.low, found.high) == (1, None, None)
    assert found.difference is not None
    assert not found.difference.told_apart


def test_what_it_makes_no_sense_on_is_told(clusters: EvaluationContext) -> None:
    inversion = ModelInversion()
    none = replace(clusters.data, classes=None)
    assert inversion.refuses(none) == "model-inversion reconstructs what a class looks like; this data has no classes"
    tokens = Split.of_tensors(torch.zeros(4, 7, dtype=torch.int64), torch.zeros(4, dtype=torch.int64))
    fault = inversion.refuses(replace(clusters.data, train=tokens))
    assert fault == "model-inversion reconstructs one input of real numbers; a sample is (1, 7) int64"
    with pytest.raises(DataError, match="one input of real numbers"):
        of(replace(clusters, data=replace(clusters.data, train=tokens)), clusters.dense)
    numbers = context(torch.zeros(9, 3), torch.zeros(9, 3), Regression())
    with pytest.raises(TrialError, match="reconstructs one class per sample; task regression has outputs"):
        of(replace(numbers, data=replace(numbers.data, classes=3)), numbers.dense)

    class Rounded(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.detach()[:, :4].round()

    with pytest.raises(TrialError, match="the outputs have no gradient to the inputs"):
        of(clusters, Rounded())
    broken = Mean(torch.full((4, 5), math.nan))
    with pytest.raises(TrialError, match="gradients are no numbers, or the steps run away: lower rate"):
        of(clusters, broken)
    holes = Split.of_tensors(torch.full((20, 5), math.nan), torch.zeros(20, dtype=torch.int64))
    with pytest.raises(TrialError, match="train samples hold what is no number"):
        of(replace(clusters, data=replace(clusters.data, train=holes), cache={}), clusters.dense)
