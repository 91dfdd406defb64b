"""An evaluator on samples as a third party writes one, and what the host makes of a task's answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from autoprune import TrialError
from autoprune.plugin import Cost, Costs, Data, EvaluationContext, Measured, Metric, Split, Task
from autoprune.toolkit.samples import SampleEvaluator, losses, right_shares
from autoprune_tasks.regression import Regression


class WorstLoss(SampleEvaluator):
    name = "worst-loss"
    metrics = (Metric("worst_loss", "of the task", "minimize", Cost.FORWARD),)

    def evaluate(self, model: nn.Module, ctx: EvaluationContext) -> Mapping[str, float | Measured]:
        model, ctx = self.focused(model, ctx)
        worst = 0.0
        with torch.inference_mode():
            for inputs, targets in self.batches(ctx):
                worst = max(worst, float(losses(ctx.task, inputs.feed(model), targets).max()))
        return {"worst_loss": worst}


class Named(Regression):
    name = "named"

    def loss(self, outputs: Tensor, targets: Mapping[str, Tensor]) -> Tensor:  # type: ignore[override]
        return super().loss(outputs, targets["y"])


def context(split: Split, task: Task) -> EvaluationContext:
    costs = Costs(params=1, macs=1, bytes=1, nonzero=1)
    return EvaluationContext(
        seed=0,
        device=torch.device("cpu"),
        data=Data(split, split, split),
        task=task,
        split="validation",
        dense=nn.Identity(),
        costs=costs,
        dense_costs=costs,
    )


def test_targets_by_name_reach_the_task() -> None:
    inputs, targets = torch.randn(30, 2), torch.randn(30, 2)
    ctx = context(Split.of_tensors(inputs, {"y": targets, "weight": torch.ones(30)}), Named())
    expected = (inputs - targets).square().mean(1).max()
    assert WorstLoss(batch_size=7).evaluate(nn.Identity(), ctx)["worst_loss"] == pytest.approx(float(expected))
    assert len(ctx.cache) == 1
    some = WorstLoss(samples=5, batch_size=2).evaluate(nn.Identity(), ctx)["worst_loss"]
    assert some in (inputs - targets).square().mean(1).tolist()


def test_large_targets_count_for_what_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autoprune.toolkit.samples._KEPT_BYTES", 30 * 2 * 4 + 30 * 4)
    for width, kept in ((1, 1), (2, 0)):
        ctx = context(Split.of_tensors(torch.zeros(30, 2), torch.zeros(30, width)), Regression())
        list(WorstLoss().batches(ctx))
        assert len(ctx.cache) == kept


class Answers(Regression):
    """Says what it is told to say."""

    name = "answers"

    def correct(self, outputs: Tensor, targets: Tensor) -> Tensor | None:
        return targets


def test_shares_are_one_per_sample_and_within_bounds() -> None:
    outputs, shares = torch.zeros(3, 4), torch.tensor([0.0, 1.0, 0.5])
    assert torch.equal(right_shares(Answers(), outputs, shares), shares)
    with pytest.raises(TrialError, match=r"^correct of task answers gives \(4,\) float32 for 3 samples, not one each$"):
        right_shares(Answers(), outputs, torch.zeros(4))
    with pytest.raises(TrialError, match="answers gives 0 to 37; shares are between 0 and 1"):
        right_shares(Answers(), outputs, torch.tensor([0.0, 37.0, 1.0]))
    with pytest.raises(TrialError, match=r"^regression has nothing that is right or wrong; use loss$"):
        right_shares(Regression(), outputs, outputs)


class Halves(Regression):
    """Two heads, each a regression."""

    name = "halves"

    def part(self, name: str) -> Task:
        return Regression() if name in ("left", "right") else super().part(name)


class Split2(nn.Module):
    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"left": x[:, :1], "right": x[:, 1:]}


def test_a_head_is_measured_alone_of_batches_that_all_heads_share() -> None:
    inputs, targets = torch.randn(30, 2), {"left": torch.randn(30, 1), "right": torch.randn(30, 1)}
    ctx = context(Split.of_tensors(inputs, targets), Halves())
    for column, head in enumerate(targets):
        expected = (inputs[:, [column]] - targets[head]).square().max()
        found = WorstLoss(batch_size=7, head=head).evaluate(Split2(), ctx)["worst_loss"]
        assert found == pytest.approx(float(expected))
    assert len(ctx.cache) == 1


def test_the_focused_model_and_dense_model_predict_the_head() -> None:
    class Net(Split2):
        network = "bare"

    ctx = context(Split.of_tensors(torch.zeros(2, 2), {"left": torch.zeros(2, 1)}), Halves())
    model, focused = WorstLoss(head="right").focused(Net().eval(), replace(ctx, dense=Net().eval()))
    x = torch.tensor([[1.0, 2.0]])
    assert model(x).item() == focused.dense(x).item() == 2.0
    assert type(focused.task) is Regression
    assert not model.training
    assert model.network == "bare"
    same = WorstLoss().focused(model, ctx)
    assert same == (model, ctx)


def test_heads_that_are_not_there_are_told() -> None:
    inputs = torch.zeros(5, 2)
    ctx = context(Split.of_tensors(inputs, {"left": inputs[:, :1], "up": inputs[:, :1]}), Halves())
    with pytest.raises(TrialError, match=r"^there is no head 'up': task halves has no heads"):
        WorstLoss(head="up").evaluate(Split2(), ctx)
    with pytest.raises(TrialError, match=r"^head 'right': there are no targets of that name; known: left, up$"):
        WorstLoss(head="right").evaluate(Split2(), ctx)
    plain = context(Split.of_tensors(inputs, inputs), Halves())
    with pytest.raises(TrialError, match=r"^head 'left': targets are \(5, 2\) float32, not by the names of heads$"):
        WorstLoss(head="left").evaluate(Split2(), plain)


def test_an_evaluator_that_forgets_the_head_fails() -> None:
    class Forgets(WorstLoss):
        name = "forgets"

        def focused(self, model: nn.Module, ctx: EvaluationContext) -> tuple[nn.Module, EvaluationContext]:
            return model, ctx

    inputs = torch.zeros(5, 2)
    ctx = context(Split.of_tensors(inputs, {"left": inputs[:, :1], "right": inputs[:, 1:]}), Halves())
    with pytest.raises((TrialError, AttributeError)):
        Forgets(head="left").evaluate(Split2(), ctx)
