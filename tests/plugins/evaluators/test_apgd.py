"""Auto-PGD: against ART, and piece by piece against the paper."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from autoprune import DataError, TrialError
from autoprune.plugin import Cost, Inputs, Split
from autoprune.toolkit.balls import L2, Linf
from autoprune_evaluators import Apgd, Pgd
from autoprune_evaluators._apgd import AutoProjectedGradient, checkpoints
from autoprune_evaluators._attack import withstood
from autoprune_evaluators._climbed import logit_ratios
from autoprune_tasks.classification import Classification
from autoprune_tasks.regression import Regression

if TYPE_CHECKING:
    from conftest import Case

COUNT = 128
LOSSES = {"cross-entropy": "cross_entropy", "dlr": "difference_logits_ratio"}


def first(case: Case, count: int = COUNT) -> Case:
    inputs, targets = case.data.validation.fetch(torch.arange(count))
    return case.with_data(validation=Split.of_tensors(inputs, targets))


def by_art(case: Case, *, norm: str, epsilon: float, loss: str, steps: int) -> tuple[float, int]:
    """ART's robust accuracy on all validation samples, by two restarts, and how many samples there are."""
    from art.attacks.evasion import AutoProjectedGradientDescent
    from art.estimators.classification import PyTorchClassifier

    inputs, targets = case.data.validation.fetch(torch.arange(len(case.data.validation)))
    images = inputs.first
    model = PyTorchClassifier(
        case.model, nn.CrossEntropyLoss(), tuple(images.shape[1:]), 10, clip_values=(0, 1), device_type="cpu"
    )
    attack = AutoProjectedGradientDescent(
        model, norm=np.inf if norm == "linf" else 2, eps=epsilon, eps_step=2 * epsilon, max_iter=steps,
        nb_random_init=2, batch_size=COUNT, loss_type=LOSSES[loss], verbose=False,
    )  # fmt: skip
    state = np.random.get_state()
    np.random.seed(0)
    theirs = torch.from_numpy(attack.generate(images.numpy(), targets.numpy()))
    np.random.set_state(state)
    for parameter in case.model.parameters():
        parameter.grad = None
    with torch.no_grad():
        return float((case.model(theirs).argmax(1) == targets).float().mean()), len(images)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "norm", "epsilon", "loss"),
    [
        ("digits", "linf", 0.05, "cross-entropy"), ("digits", "linf", 0.1, "cross-entropy"),
        ("digits", "linf", 0.1, "dlr"), ("digits", "linf", 0.13, "cross-entropy"),
        ("digits", "l2", 0.3, "cross-entropy"), ("digits", "l2", 0.6, "dlr"),
        ("cifar", "linf", 0.7 / 255, "cross-entropy"), ("cifar", "l2", 0.1, "dlr"),
        ("robust", "linf", 0.2, "cross-entropy"), ("robust", "linf", 0.23, "dlr"),
    ],
)  # fmt: skip
def test_measures_what_art_does(
    request: pytest.FixtureRequest, name: str, norm: Any, epsilon: float, loss: Any
) -> None:
    case = first(request.getfixturevalue(name), 32 if name == "cifar" else COUNT)
    expected, count = by_art(case, norm=norm, epsilon=epsilon, loss=loss, steps=10 if name == "cifar" else 20)
    evaluator = Apgd(epsilon=epsilon, norm=norm, loss=loss, steps=10 if name == "cifar" else 20, restarts=2)
    ours = case.measure(evaluator, of_dense=True)["robust_accuracy"]
    assert ours.samples == count
    assert ours.low is not None
    assert ours.high is not None
    assert ours.low <= expected <= ours.high
    assert ours.value <= expected + 0.03, "ART looks at the last iterate alone: it is stronger by luck at most"
    assert 0.1 < ours.value < 0.95


def test_progress_is_looked_at_when_the_paper_says() -> None:
    """p(0) = 0, p(1) = .22, p(j+1) = p(j) + max(p(j) - p(j-1) - .03, .06), in hundredths."""
    at = [0, 22]
    while at[-1] < 100:
        at.append(at[-1] + max(at[-1] - at[-2] - 3, 6))
    assert sorted(checkpoints(100)) == [step for step in at[1:] if step < 100]
    for steps in (1, 2, 5, 10, 20):
        assert all(0 < look < steps for look in checkpoints(steps))


class Hill(nn.Module):
    """As high as inputs are near a point, which no step of the first size hits."""

    def __init__(self, top: float) -> None:
        super().__init__()
        self.top = top
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x.detach().clone())
        return -(x - self.top).square().sum(1, keepdim=True)


class Always(Classification):
    """Nothing ever falls."""

    name = "always"

    def correct(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return torch.ones(len(outputs))


def height(task: Any, outputs: Tensor, targets: Tensor) -> Tensor:
    return outputs.squeeze(1)


@pytest.mark.parametrize("ball", [Linf(0.25), L2(0.25)])
def test_steps_are_halved_until_the_top_is_found(ball: Linf | L2) -> None:
    model, inputs = Hill(0.57), torch.full((3, 1), 0.5)
    attack = AutoProjectedGradient(ball=ball, steps=100, step_size=0.5, bounds=(0, 1), loss=height)
    start = torch.tensor([[0.0], [0.2], [-0.25]])
    found, worst = attack.perturb(model, Inputs.of(inputs), torch.zeros(3, dtype=torch.int64), start, task=Always())
    assert (found - 0.57).abs().max() < 0.01
    assert worst.tolist() == [1, 1, 1]
    moves = torch.stack(model.seen).diff(dim=0).abs()
    assert moves[:20].max() > 0.2
    assert moves[-10:].max() < 0.02


def test_samples_climb_as_they_do_alone(digits: Case) -> None:
    inputs, targets = digits.data.validation.fetch(torch.arange(40))
    with torch.no_grad():
        right = digits.model(inputs.first).argmax(1) == targets
    inputs, targets = inputs[right], targets[right]
    noise = Linf(0.1).noise(inputs.first, torch.Generator().manual_seed(0))
    attack = AutoProjectedGradient(ball=Linf(0.1), steps=20, step_size=0.2, bounds=(0, 1))
    together, worst = attack.perturb(digits.model, inputs, targets, noise, task=Classification())
    assert 0 < worst.mean() < 1
    for sample in range(8):
        one = torch.tensor([sample])
        alone, fell = attack.perturb(digits.model, inputs[one], targets[one], noise[one], task=Classification())
        assert fell == worst[one]
        assert (alone - together[one]).abs().max() < 1e-3


def test_each_sample_may_have_a_ball_of_its_own(digits: Case) -> None:
    inputs, targets = digits.data.validation.fetch(torch.arange(20))
    for ball in (Linf(1.0), L2(1.0)):
        attack = AutoProjectedGradient(ball=ball, steps=10, step_size=2.0, bounds=(0, 1))
        sizes = torch.linspace(0.01, 0.3, 20)
        start = torch.zeros_like(inputs.first)
        found, _ = attack.perturb(digits.model, inputs, targets, start, task=Classification(), scale=sizes)
        away = (found - inputs.first).flatten(1)
        reached = away.abs().amax(1) if isinstance(ball, Linf) else away.norm(dim=1)
        assert (reached <= sizes * (1 + 1e-5)).all()
        plain = replace(attack, ball=type(ball)(0.1), step_size=0.2)
        same, _ = plain.perturb(digits.model, inputs, targets, start, task=Classification())
        scaled, _ = attack.perturb(
            digits.model, inputs, targets, start, task=Classification(), scale=torch.full((20,), 0.1)
        )
        assert (same - scaled).abs().max() < 1e-4


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_every_input_the_model_sees_is_in_the_ball_and_in_bounds(digits: Case, norm: str) -> None:
    class Recorder(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(x.detach().clone())
            result: Tensor = digits.model(x)
            return result

    seen: list[Tensor] = []
    inputs, targets = digits.data.validation.fetch(torch.arange(16))
    attack = AutoProjectedGradient(
        ball=Linf(0.1) if norm == "linf" else L2(0.1), steps=10, step_size=0.2, bounds=(0, 1)
    )
    withstood(Recorder(), [(inputs, targets)], [attack], task=Classification(), seed=0, report=lambda *_: None)
    assert len(seen) == 12
    for each in seen:
        assert each.min() >= 0
        assert each.max() <= 1
        away = (each[:, None] - inputs.first[None]).flatten(2)
        distance = away.abs().amax(2) if norm == "linf" else away.norm(dim=2)
        assert (distance.amin(1) <= 0.1 * (1 + 1e-5)).all()


def test_the_difference_of_logits_ratio_is_that_of_the_paper() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, targets = torch.randn(50, 5, generator=generator), torch.randint(5, (50,), generator=generator)
    found = logit_ratios(Classification(), logits, targets)
    for scores, target, ratio in zip(logits.tolist(), targets.tolist(), found.tolist(), strict=True):
        others = max(score for each, score in enumerate(scores) if each != target)
        down = sorted(scores, reverse=True)
        assert ratio == pytest.approx(-(scores[target] - others) / (down[0] - down[2]), abs=1e-5)
    scaled = logit_ratios(Classification(), 100 * logits, targets)
    assert torch.allclose(scaled, found, atol=1e-5)


class Scaled(nn.Module):
    """The same predictions, of logits so far apart that the cross-entropy's gradient is 0."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = 1000 * self.model(x)
        return result


@pytest.mark.parametrize("evaluator", [Pgd(epsilon=0.1), Apgd(epsilon=0.1, steps=10)], ids=lambda each: each.name)
def test_the_ratio_sees_through_scaled_logits(digits: Case, evaluator: Pgd | Apgd) -> None:
    model, some = Scaled(digits.model), evaluator.model_copy(update={"samples": 64})
    honest = some.model_copy(update={"loss": "dlr"})
    plain = digits.measure(some)["robust_accuracy"].value
    fooled = digits.measure(some, model)["robust_accuracy"].value
    assert fooled > plain + 0.2
    assert digits.measure(honest, model)["robust_accuracy"].value == pytest.approx(plain, abs=0.08)


def test_a_ratio_needs_three_classes(digits: Case) -> None:
    class Two(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            result: Tensor = digits.model(x)[:, :2]
            return result

    inputs, _ = digits.data.validation.fetch(torch.arange(8))
    with torch.no_grad():
        targets = Two()(inputs.first).argmax(1)
    case = digits.with_data(validation=Split.of_tensors(inputs, targets))
    for evaluator in (Apgd(epsilon=0.1, loss="dlr"), Pgd(epsilon=0.1, loss="dlr")):
        with pytest.raises(TrialError, match=r"3 classes or more.*\(8, 2\).*loss: cross-entropy"):
            case.measure(evaluator, Two())


def test_models_without_a_gradient_are_refused(digits: Case) -> None:
    class Rounded(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            result: Tensor = digits.model(x).detach()
            return result

    class Beside(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bias = torch.zeros(10, requires_grad=True)

        def forward(self, x: Tensor) -> Tensor:
            result: Tensor = digits.model(x).detach() + self.bias
            return result

    for model in (Rounded(), Beside()):
        for evaluator in (Apgd(epsilon=0.1, samples=8), Pgd(epsilon=0.1, samples=8)):
            with pytest.raises(TrialError, match=r"no gradient to the inputs.*use: square"):
                digits.measure(evaluator, model)


def test_inputs_that_are_no_numbers_are_refused(digits: Case) -> None:
    inputs, targets = digits.data.validation.fetch(torch.arange(8))
    spoilt = inputs.first.clone()
    spoilt[3, 0, 0, 0] = torch.nan
    case = digits.with_data(validation=Split.of_tensors(Inputs.of(spoilt), targets))
    with pytest.raises(DataError, match="inputs go from nan to nan"):
        case.measure(Apgd(epsilon=0.1))


def test_other_tasks_and_data_are_refused(digits: Case) -> None:
    with pytest.raises(TrialError, match="nothing that is right or wrong"):
        digits.measure(Apgd(epsilon=0.1), task=Regression())
    assert "bounds" in (Apgd(epsilon=0.1).refuses(digits.with_data(bounds=None).data) or "")
    assert "2/255" in (Apgd(epsilon=2).refuses(digits.data) or "")


def test_options() -> None:
    final = Apgd(epsilon="8/255", steps=10).final()
    assert (final.steps, final.restarts, final.epsilon) == (20, 2, 8 / 255)
    (metric,) = final.produces()
    assert (metric.name, metric.direction, metric.cost) == ("robust_accuracy", "maximize", Cost.ATTACK)
    for wrong in ({"steps": 0}, {"loss": "mse"}, {"restarts": 0}, {"step_size": 0.1}):
        with pytest.raises(ValidationError, match=next(iter(wrong))):
            Apgd.model_validate({"epsilon": 0.1, **wrong})
