"""The Square attack: against ART, within its ball, and on models without gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from autoprune import TrialError
from autoprune.plugin import Cost, Inputs, Measured, Split
from autoprune_evaluators import Apgd, Pgd, Square
from autoprune_evaluators._square import SquareL2, SquareLinf, margins
from autoprune_tasks.classification import Classification
from autoprune_tasks.regression import Regression

if TYPE_CHECKING:
    from conftest import Case

COUNT = 96


def first(case: Case, count: int = COUNT) -> Case:
    inputs, targets = case.data.validation.fetch(torch.arange(count))
    return case.with_data(validation=Split.of_tensors(inputs, targets))


class Recorder(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.inputs: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.inputs.append(x.detach().clone())
        result: Tensor = self.model(x)
        return result


@pytest.mark.slow
@pytest.mark.parametrize(("name", "epsilon"), [("digits", 0.08), ("digits", 0.13), ("robust", 0.25)])
def test_measures_what_art_does(request: pytest.FixtureRequest, name: str, epsilon: float) -> None:
    from art.attacks.evasion import SquareAttack
    from art.estimators.classification import PyTorchClassifier

    case = first(request.getfixturevalue(name))
    inputs, targets = case.data.validation.fetch(torch.arange(COUNT))
    shape = tuple(inputs.first.shape[1:])
    model = PyTorchClassifier(case.model, nn.CrossEntropyLoss(), shape, 10, clip_values=(0, 1), device_type="cpu")
    attack = SquareAttack(
        model, norm=np.inf, eps=epsilon, max_iter=200, p_init=0.8, nb_restarts=1, batch_size=COUNT, verbose=False
    )
    state = np.random.get_state()
    np.random.seed(0)
    theirs = torch.from_numpy(attack.generate(inputs.first.numpy().copy(), targets.numpy()))
    np.random.set_state(state)
    with torch.no_grad():
        expected = float((case.model(theirs).argmax(1) == targets).float().mean())
    ours = case.measure(Square(epsilon=epsilon, queries=200))["robust_accuracy"]
    assert ours.low is not None
    assert ours.high is not None
    assert ours.low <= expected <= ours.high
    assert 0.1 < ours.value < 0.95


@pytest.mark.slow
@pytest.mark.parametrize(("norm", "epsilon"), [("linf", 0.1), ("l2", 0.6)])
def test_it_is_weaker_than_an_attack_that_sees_the_gradient_and_stronger_than_noise(
    digits: Case, norm: Any, epsilon: float
) -> None:
    """ART's own L2 attack gives NaN on images this small."""
    case = first(digits)
    ours = case.measure(Square(epsilon=epsilon, norm=norm, queries=150))["robust_accuracy"].value
    gradient = case.measure(Apgd(epsilon=epsilon, norm=norm))["robust_accuracy"].value
    noise = case.measure(Pgd(epsilon=epsilon, norm=norm, steps=1, step_size=1e-9, restarts=5))["robust_accuracy"].value
    assert gradient <= ours < noise - 0.1


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("size", [(1, 8, 8), (3, 5, 9), (2, 2, 3), (1, 1, 1)])
def test_every_input_the_model_sees_is_in_the_ball_and_in_bounds(norm: Any, size: tuple[int, int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    images = (torch.rand(4, *size, generator=generator) * 1.5 - 0.25).clamp(0, 1)
    recorder = Recorder(nn.Sequential(nn.Flatten(), nn.Linear(images[0].numel(), 3)))
    with torch.no_grad():
        targets = recorder.model(images).argmax(1)
    attack = (SquareLinf if norm == "linf" else SquareL2)(epsilon=0.2, queries=60, p_init=0.8, bounds=(0, 1), seed=1)
    start = attack.start(images, generator)
    found, worst = attack.perturb(recorder, Inputs.of(images), targets, start, task=Classification())
    with torch.no_grad():
        assert torch.equal((recorder.model(found).argmax(1) != targets).float(), 1 - worst)
    assert len(recorder.inputs) == 60 or worst.max() == 0
    for each in [*recorder.inputs, found]:
        assert each.isfinite().all()
        assert each.min() >= 0
        assert each.max() <= 1
        away = (each[:, None] - images[None]).flatten(2)
        distance = away.abs().amax(2) if norm == "linf" else away.norm(dim=2)
        assert (distance.amin(1) <= 0.2 * (1 + 1e-5)).all()


def test_squares_shrink_as_the_paper_says() -> None:
    """Halved after 10, 50, 200, 500, 1,000, 2,000, 4,000, 6,000 and 8,000 of 10,000 queries."""
    attack = SquareLinf(epsilon=0.1, queries=10_000, p_init=0.8, bounds=(0, 1), seed=0)
    halved = [10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000]
    for number, query in enumerate(halved):
        assert attack._share(query) == 0.8 / 2**number
        assert attack._share(query + 1) == 0.8 / 2 ** (number + 1)
    images, generator = torch.full((1, 3, 32, 32), 0.5), torch.Generator().manual_seed(0)
    for share, side in ((0.8, 29), (0.1, 10), (0.8 / 512, 1)):
        moved = attack._moved(torch.zeros_like(images), share, generator)
        assert (moved != 0).sum() == 3 * side * side
        assert torch.allclose(moved[moved != 0].abs(), torch.tensor(0.1))


def test_a_bump_moves_no_more_than_there_is() -> None:
    """The L2 attack keeps to the edge of the ball, and its first proposal has as much up as down."""
    attack, generator = SquareL2(epsilon=0.5, queries=100, p_init=0.3, bounds=(0, 1), seed=0), torch.Generator()
    first = attack.start(torch.full((3, 2, 20, 20), 0.5), generator.manual_seed(0))
    assert torch.allclose(first.flatten(1).norm(dim=1), torch.tensor(0.5))
    assert first.sum((2, 3)).abs().max() < 0.2 * first.abs().sum((2, 3)).min()
    moved = attack._moved(first, 0.1, generator)
    assert torch.allclose(moved.flatten(1).norm(dim=1), torch.tensor(0.5))
    changed = (moved - first * (moved.flatten()[0] / first.flatten()[0])).abs() > 1e-6
    assert 0 < changed.float().mean() < 0.5


def test_every_model_meets_the_same_squares(digits: Case) -> None:
    """Whatever fell: what is proposed where is that of the seed."""
    inputs, targets = digits.data.validation.fetch(torch.arange(24))
    with torch.no_grad():
        right = digits.model(inputs.first).argmax(1) == targets
    inputs, targets = inputs[right], targets[right]
    attack = SquareLinf(epsilon=0.12, queries=40, p_init=0.8, bounds=(0, 1), seed=3)
    start = attack.start(inputs.first, torch.Generator().manual_seed(0))
    together, worst = attack.perturb(digits.model, inputs, targets, start, task=Classification())
    assert 0 < worst.mean() < 1
    for sample in range(len(targets)):
        one = torch.tensor([sample])
        alone, fell = attack.perturb(digits.model, inputs[one], targets[one], start[one], task=Classification())
        assert fell == worst[one]
        assert torch.equal(alone, together[one])


def test_a_model_without_gradients_is_attacked(digits: Case) -> None:
    class Levels(nn.Module):
        """Sees images in 9 levels, as integers, which have no gradient."""

        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                result: Tensor = digits.model((x * 8).round() / 8)
                return result

    case = first(digits)
    found = case.measure(Square(epsilon=0.2, queries=60), Levels())["robust_accuracy"].value
    with torch.no_grad():
        inputs, targets = case.data.validation.fetch(torch.arange(COUNT))
        clean = float((Levels()(inputs.first).argmax(1) == targets).float().mean())
    assert found < clean - 0.3
    with pytest.raises(TrialError, match="no gradient"):
        case.measure(Pgd(epsilon=0.15), Levels())


def test_margins() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, targets = torch.randn(20, 4, generator=generator), torch.randint(4, (20,), generator=generator)
    for scores, target, margin in zip(
        logits.tolist(), targets.tolist(), margins(Classification(), logits, targets).tolist(), strict=True
    ):
        others = [score for number, score in enumerate(scores) if number != target]
        assert margin == pytest.approx(max(others) - scores[target])


def test_more_queries_and_restarts_are_stronger_and_values_can_be_had_again(digits: Case) -> None:
    case = first(digits, 48)
    few, many = Square(epsilon=0.1, queries=10), Square(epsilon=0.1, queries=10, restarts=3)
    weak = case.measure(few)["robust_accuracy"]
    assert case.measure(few, seed=9)["robust_accuracy"] == weak
    assert case.measure(many)["robust_accuracy"].value < weak.value
    told: list[Measured] = []
    case.measure(few.model_copy(update={"batch_size": 20}), report=lambda known: told.append(known["robust_accuracy"]))
    assert [each.samples for each in told] == [20, 40, 48]


def test_what_it_makes_no_sense_on_is_refused(digits: Case) -> None:
    inputs, targets = digits.data.validation.fetch(torch.arange(8))
    flat = digits.with_data(validation=Split.of_tensors(Inputs.of(inputs.first.flatten(1)), targets))
    model = nn.Sequential(nn.Unflatten(1, (1, 8, 8)), digits.model)
    with pytest.raises(TrialError, match=r"images, \(N, C, H, W\); inputs are \(8, 64\)"):
        flat.measure(Square(epsilon=0.1), model)
    with pytest.raises(TrialError, match="nothing that is right or wrong"):
        digits.measure(Square(epsilon=0.1), task=Regression())
    assert "bounds" in (Square(epsilon=0.1).refuses(digits.with_data(bounds=None).data) or "")
    for wrong in ({"queries": 0}, {"p_init": 0}, {"p_init": 1.5}, {"steps": 3}):
        with pytest.raises(ValidationError, match=next(iter(wrong))):
            Square.model_validate({"epsilon": 0.1, **wrong})
    (metric,) = Square(epsilon=0.1).produces()
    assert (metric.name, metric.cost, Square(epsilon=0.1).final().queries) == ("robust_accuracy", Cost.ATTACK, 2000)
