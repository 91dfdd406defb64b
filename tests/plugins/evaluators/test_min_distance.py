"""The smallest adversarial perturbation: against a linear model's closed form, and a fine grid of Foolbox's PGD."""

from __future__ import annotations

import statistics
import warnings
from typing import TYPE_CHECKING

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn

from autoprune import DataError, TrialError
from autoprune.plugin import Inputs, Measured, Split, Task
from autoprune.toolkit.balls import L2, Linf
from autoprune_evaluators import Accuracy, MinDistance
from autoprune_evaluators._min_distance import Bisection, difference_of, median_of
from autoprune_tasks.classification import Classification
from autoprune_tasks.regression import Regression

if TYPE_CHECKING:
    from conftest import Case

with warnings.catch_warnings():
    # Foolbox 3.3.4 imports scipy.ndimage.filters, which scipy 1.8 deprecated.
    warnings.simplefilter("ignore", DeprecationWarning)
    import foolbox


def first(case: Case, count: int) -> Case:
    inputs, targets = case.data.validation.fetch(torch.arange(count))
    return case.with_data(validation=Split.of_tensors(inputs, targets))


@pytest.mark.parametrize("ball", [Linf(1.0), L2(1.0)])
def test_distances_of_a_linear_model_are_those_of_the_closed_form(ball: Linf | L2) -> None:
    """Of two classes: the difference of the scores over the dual norm of the difference of the weights."""
    generator = torch.Generator().manual_seed(0)
    model = nn.Linear(12, 2)
    with torch.no_grad():
        model.weight.copy_(torch.randn(2, 12, generator=generator))
        model.bias.zero_()
    inputs = torch.rand(40, 12, generator=generator) * 2 - 1
    targets = torch.randint(2, (40,), generator=generator)
    with torch.no_grad():
        scores = model(inputs)
        margin = scores.gather(1, targets[:, None]).squeeze(1) - scores.gather(1, 1 - targets[:, None]).squeeze(1)
        slope = model.weight[0] - model.weight[1]
    exact = margin.clamp_min(0) / (slope.abs().sum() if isinstance(ball, Linf) else slope.norm())
    search = Bisection(ball=ball, bounds=(-8, 8), epsilons=(0.1,), steps=10, halvings=6, seed=0)
    told: list[Tensor] = []
    batches = [(Inputs.of(inputs[part]), targets[part]) for part in torch.arange(40).split(15)]
    found = search.distances(model, batches, task=Classification(), report=told.append)
    assert [len(each) for each in told] == [15, 30, 40]
    assert 0 < (exact == 0).sum() < 40
    assert ((found == 0) == (exact == 0)).all()
    some = exact > 0
    assert (found[some] >= exact[some] * (1 - 1e-5)).all(), "shorter than the shortest"
    assert (found[some] <= exact[some] * 1.1).all()


@pytest.mark.long
@pytest.mark.slow
def test_measures_what_a_fine_grid_of_foolboxs_attacks_does(digits: Case) -> None:
    case, count = first(digits, 96), 96
    inputs, targets = case.data.validation.fetch(torch.arange(count))
    grid = [0.005 * step for step in range(1, 61)]
    model = foolbox.PyTorchModel(digits.model, bounds=(0, 1), device="cpu")
    attack = foolbox.attacks.LinfPGD(steps=20, rel_stepsize=0.15, random_start=False)
    _, _, fell = attack(model, inputs.first, foolbox.criteria.Misclassification(targets), epsilons=grid)
    assert fell[-1].all()
    with torch.no_grad():
        wrong = digits.model(inputs.first).argmax(1) != targets
    theirs = [0.0 if wrong[n] else grid[int(fell[:, n].long().argmax())] for n in range(count)]
    ours = case.measure(MinDistance(epsilons=("0.05", 0.1, "0.15"), halvings=5))
    distance = ours["min_distance"]
    assert distance.low is not None
    assert distance.high is not None
    assert distance.low < distance.value < distance.high
    assert abs(distance.value - statistics.median(theirs)) < 0.006
    for epsilon in (0.05, 0.1, 0.15):
        share = ours[f"robust_accuracy_at_{epsilon:g}".replace(".", "_")]
        standing = sum(each > epsilon + 1e-9 for each in theirs) / count
        assert share.low is not None
        assert share.high is not None
        assert share.low <= standing <= share.high


def test_what_is_known_so_far_is_told_and_can_be_had_again(digits: Case) -> None:
    case, evaluator = first(digits, 60), MinDistance(epsilons=(0.1,), batch_size=30, steps=3, halvings=1)
    told: list[dict[str, Measured]] = []
    found = case.measure(evaluator, report=told.append, of_dense=True)
    assert [each["min_distance"].samples for each in told] == [30, 60]
    assert told[-1] == found
    assert case.measure(evaluator, seed=7, of_dense=True) == found
    clean = case.measure(Accuracy())["accuracy"].value
    tiny = case.measure(MinDistance(epsilons=(1e-6,), steps=3, halvings=0))
    assert tiny["robust_accuracy_at_1e_06"].value == clean


def test_a_curve_costs_no_accuracy_and_falls(digits: Case) -> None:
    case = first(digits, 60)
    curve = case.measure(MinDistance(epsilons=("10/255", "30/255", "60/255"), norm="l2", steps=5))
    shares = [curve[f"robust_accuracy_at_{grey}_255"].value for grey in (10, 30, 60)]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] > shares[-1]


def test_differences_are_those_of_the_same_samples(digits: Case) -> None:
    class Blurred(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            result: Tensor = digits.model(x * 0.7)
            return result

    case, evaluator = first(digits, 60), MinDistance(epsilons=(0.05,), steps=3, halvings=2)
    dense, found = case.measure(evaluator, of_dense=True), case.measure(evaluator, Blurred())
    for name, measured in found.items():
        assert dense[name].difference is None
        difference = measured.difference
        assert difference is not None
        assert difference.value == pytest.approx(measured.value - dense[name].value)
        assert difference.low is not None
        assert difference.high is not None
        assert difference.low <= difference.value <= difference.high


def test_medians() -> None:
    values = torch.tensor([0.0, 3.0, 1.0, 4.0] * 10, dtype=torch.float64)
    assert median_of(values).value == statistics.median(values.tolist()) == 2
    assert median_of(values[:3]).value == 1
    few = values.clone()
    few[1::2] = torch.inf
    assert median_of(few[:-1]).value == 1
    assert median_of(few[:-1]).low is None, "half of the draws know no median"
    assert difference_of(values, few) is None
    shifted = difference_of(values + 0.5, values)
    assert shifted is not None
    assert shifted.value == 0.5


def test_a_model_that_nothing_moves_is_refused(digits: Case) -> None:
    class Constant(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.eye(10)[3] + 0 * x.flatten(1).sum(1, keepdim=True)

    inputs, _ = digits.data.validation.fetch(torch.arange(8))
    case = digits.with_data(validation=Split.of_tensors(inputs, torch.full((8,), 3)))
    with pytest.raises(TrialError, match=r"half of the samples.*square"):
        case.measure(MinDistance(steps=2), Constant())
    with pytest.raises(TrialError, match="no gradient"):
        digits.measure(MinDistance(samples=8), nn.Sequential(digits.model, Detached()))


class Detached(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.detach()


class PerElement(Classification):
    """Right by halves."""

    name = "halves"

    def correct(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return super().correct(outputs, targets) / 2


@pytest.mark.parametrize(
    ("task", "told"),
    [(Regression(), "nothing that is right or wrong"), (PerElement(), "right or wrong as a whole.*pgd")],
)
def test_other_tasks_are_refused(digits: Case, task: Task, told: str) -> None:
    with pytest.raises(TrialError, match=told):
        digits.measure(MinDistance(), task=task)


def test_other_data_is_refused(digits: Case) -> None:
    assert "bounds" in (MinDistance().refuses(digits.with_data(bounds=None).data) or "")
    with pytest.raises(DataError, match=r"0 to 0\.5"):
        digits.with_data(bounds=(0.0, 0.5)).measure(MinDistance())


def test_names_and_options() -> None:
    import jsonschema

    evaluator = MinDistance(epsilons=(" 2/255", 0.05, "1e-3"), label="own")
    names = [metric.name for metric in evaluator.produces()]
    assert names == [
        "min_distance_own",
        *(f"robust_accuracy_at_{each}_own" for each in ("2_255", "0_05", "1e_3")),
    ]
    assert all(name.isidentifier() for name in names)
    assert MinDistance.model_validate(evaluator.reference()) == evaluator
    assert (evaluator.final().steps, evaluator.final().halvings) == (20, 6)
    schema = TypeAdapter(MinDistance).json_schema()
    jsonschema.validate({"epsilons": ["2/255", 0.1]}, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"epsilons": ["two"]}, schema)
    for wrong in (("two",), (0,), (True,), ("2/255", 2 / 255), ("nan",)):
        with pytest.raises(ValidationError, match="epsilon"):
            MinDistance.model_validate({"epsilons": wrong})
