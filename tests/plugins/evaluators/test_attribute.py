"""Attribute inference, against scikit-learn and the Adversarial Robustness Toolbox."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.datasets import load_diabetes, load_wine
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from autoprune import DataError, TrialError
from autoprune.plugin import Data, EvaluationContext, Measured, Split
from autoprune_evaluators._logistic import Logistic
from autoprune_evaluators.attribute import AttributeInference
from autoprune_tasks.classification import Classification
from autoprune_tasks.regression import Regression

from .answers import Answer, context

SEX = 1
"""The one column of two values."""


@pytest.fixture(scope="module")
def patients() -> EvaluationContext:
    """The diabetes data, and a net that has learnt it, dense."""
    table, wanted = load_diabetes(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(table))
    inputs = torch.tensor(StandardScaler().fit_transform(table)[order], dtype=torch.float32)
    targets = torch.tensor((wanted[order] - wanted.mean()) / wanted.std(), dtype=torch.float32)[:, None]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(10, 32), nn.Tanh(), nn.Linear(32, 1))
        optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
        for _ in range(150):
            optimizer.zero_grad()
            mse_loss(net(inputs[:242]), targets[:242]).backward()
            optimizer.step()
    ctx = context(inputs, targets, Regression(), dense=net.eval())
    train, other = (Split.of_tensors(inputs[part], targets[part]) for part in (slice(242), slice(242, None)))
    return replace(ctx, data=Data(train, other, other))


def advantage(ctx: EvaluationContext, model: nn.Module, column: int = SEX, **options: int | None) -> Measured:
    found = AttributeInference(column=column, **options).evaluate(model, ctx)["attribute_advantage"]  # type: ignore[arg-type]
    assert isinstance(found, Measured)
    return found


def parts(ctx: EvaluationContext) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Inputs, targets and outputs of what the attacker knows, and of what is inferred."""
    found = []
    for split in (ctx.data.validation, ctx.data.train):
        inputs, targets = split.fetch(torch.arange(len(split)))
        with torch.no_grad():
            found.append((inputs.first.numpy(), targets.numpy(), ctx.dense(inputs.first).numpy()))
    return found


def test_it_is_what_scikit_learn_infers(patients: EvaluationContext) -> None:
    (known, seen, told), (wanted, theirs, answers) = parts(patients)
    shares = []
    for outputs in (True, False):
        x, z = (
            np.hstack([np.delete(a, SEX, 1), b, c][: 3 if outputs else 2]).astype(np.float64)
            for a, b, c in ((known, seen, told), (wanted, theirs, answers))
        )
        scaler = StandardScaler().fit(x)
        # Of two classes it has one vector of weights, the difference of our two.
        attack = LogisticRegression(C=2).fit(scaler.transform(x), known[:, SEX] > 0)
        shares.append((attack.predict(scaler.transform(z)) == (wanted[:, SEX] > 0)).mean())
    found = advantage(patients, patients.dense, samples=None)
    assert found.value == pytest.approx(shares[0] - shares[1], abs=1e-9)
    assert found.value > 0.03
    assert found.low < found.value < found.high  # type: ignore[operator]
    assert found.samples == 242


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_toolbox_infers_as_much(patients: EvaluationContext) -> None:
    from art.attacks.inference.attribute_inference import (
        AttributeInferenceBaselineTrueLabel,
        AttributeInferenceBlackBox,
    )
    from art.estimators.regression.pytorch import PyTorchRegressor

    art = PyTorchRegressor(patients.dense, nn.MSELoss(), (10,))
    (known, seen, _), (wanted, theirs, answers) = parts(patients)
    values = sorted(np.unique(known[:, SEX]).tolist())
    lr = {"attack_model_type": "lr"}
    attack = AttributeInferenceBlackBox(art, attack_feature=SEX, scaler_type="standard", **lr)
    attack.fit(known, y=seen)
    hidden = np.delete(wanted, SEX, 1)
    mine = attack.infer(hidden, y=theirs, pred=answers, values=values)
    baseline = AttributeInferenceBaselineTrueLabel(attack_feature=SEX, is_regression=True, **lr)
    baseline.fit(known, seen)
    without = baseline.infer(hidden, theirs, values=values)
    right = [(np.abs(each - wanted[:, SEX]) < 1e-3).mean() for each in (mine, without)]
    found = advantage(patients, patients.dense, samples=None)
    assert found.low < right[0] - right[1] < found.high  # type: ignore[operator]


def test_a_model_that_says_nothing_gives_nothing_away(patients: EvaluationContext) -> None:
    class Silent(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.zeros(len(x), 1)

    class Open(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x[:, SEX : SEX + 1]

    assert advantage(patients, Silent()).value == 0
    all_of_it, dense = advantage(patients, Open()), advantage(replace(patients, of_dense=True), patients.dense)
    assert all_of_it.value > 0.2
    assert dense.difference is None
    assert all_of_it.difference is not None
    assert all_of_it.difference.value == pytest.approx(all_of_it.value - dense.value)
    assert all_of_it.difference.told_apart


def test_of_many_values_an_attacker_tells_the_larger_ones(patients: EvaluationContext) -> None:
    class Open(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x[:, 2:3]

    found = advantage(patients, Open(), column=2)
    (known, _, _), (wanted, _, _) = parts(patients)
    most = max((wanted[:, 2] > np.median(known[:, 2])).mean(), (wanted[:, 2] <= np.median(known[:, 2])).mean())
    assert 0 < found.value <= 1 - most + 0.05


def test_classes_are_known_as_classes() -> None:
    table, classes = load_wine(return_X_y=True)
    inputs, targets = torch.tensor(table, dtype=torch.float32), torch.tensor(classes)
    ctx = context(inputs, targets, Classification(), dense=nn.Sequential(nn.Linear(13, 3)))
    ctx = replace(ctx, data=replace(ctx.data, classes=3))
    known, told = AttributeInference(column=0, samples=None)._records(ctx)
    assert told.shape == (178, 3)
    assert (told.sum(1) == 1).all()
    assert known.shape == (178, 13)
    assert advantage(ctx, ctx.dense, column=4).samples == 178


def test_logistic_regression_is_scikit_learns() -> None:
    table, classes = load_wine(return_X_y=True)
    ours = Logistic.fitted(torch.tensor(table), torch.tensor(classes), 3)
    theirs = LogisticRegression(tol=1e-10, max_iter=10_000).fit(StandardScaler().fit_transform(table), classes)
    centred = ours.weights - ours.weights.mean(1, keepdim=True)
    assert centred.T.numpy() == pytest.approx(theirs.coef_ - theirs.coef_.mean(0), abs=1e-4)


def test_what_is_no_table_is_told(patients: EvaluationContext) -> None:
    def refused(inputs: Tensor, column: int = 1) -> str | None:
        split = Split.of_tensors(inputs, torch.zeros(len(inputs)))
        return AttributeInference(column=column).refuses(Data(split, split, split))

    assert refused(torch.zeros(5, 3)) is None
    for no_table in (torch.zeros(5, 1, 8, 8), torch.zeros(5, 1), torch.zeros(5, 3, dtype=torch.int64)):
        assert "is of a table of numbers, inputs (N, K) with two columns or more" in str(refused(no_table))
    fault = "attribute-inference: there is no column 3; there are 3, counted from 0"
    assert refused(torch.zeros(5, 3), column=3) == fault
    with pytest.raises(DataError, match="there is no column 10"):
        advantage(patients, patients.dense, column=10)
    same = Split.of_tensors(torch.ones(30, 3), torch.zeros(30, 1))
    ctx = replace(patients, data=Data(same, same, same), dense=nn.Linear(3, 1))
    with pytest.raises(TrialError, match="column 0 says the same of all 30 known records"):
        advantage(ctx, ctx.dense, column=0)

    class Broken(Answer):
        def forward(self, *args: Tensor, **kwargs: Tensor) -> Tensor:
            return args[0][:, :1] * math.nan

    with pytest.raises(TrialError, match="gives what is no number"):
        advantage(patients, Broken())
    holes = Split.of_tensors(torch.full((30, 3), math.nan), torch.zeros(30, 1))
    with pytest.raises(TrialError, match="records hold what is no number"):
        advantage(replace(ctx, data=Data(holes, holes, holes), cache={}), ctx.dense)
