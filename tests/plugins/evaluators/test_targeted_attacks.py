"""Targeted PGD and APGD: against Foolbox, and piece by piece against the paper."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from autoprune import DataError, TrialError
from autoprune.plugin import Inputs, Split
from autoprune_evaluators import Apgd, Pgd
from autoprune_evaluators._climbed import TARGETED_LOSSES, aim
from autoprune_tasks.classification import Classification
from autoprune_tasks.segmentation import Segmentation

if TYPE_CHECKING:
    from conftest import Case

with warnings.catch_warnings():
    # Foolbox 3.3.4 imports scipy.ndimage.filters, which scipy 1.8 deprecated.
    warnings.simplefilter("ignore", DeprecationWarning)
    import foolbox

COUNT = 96


def few(case: Case, count: int = COUNT) -> tuple[Case, Tensor, Tensor, Tensor]:
    """The first samples as the whole split, and their images, targets and logits."""
    inputs, targets = case.data.validation.fetch(torch.arange(count))
    with torch.no_grad():
        logits = case.model(inputs.first)
    return case.with_data(validation=Split.of_tensors(inputs, targets)), inputs.first, targets, logits


@pytest.mark.slow
@pytest.mark.parametrize(
    ("targeted", "norm", "epsilon"), [("next", "linf", 0.15), ("least-likely", "linf", 0.2), (3, "l2", 0.9)]
)
def test_measures_what_foolbox_does(digits: Case, targeted: Any, norm: Any, epsilon: float) -> None:
    """Foolbox tells the last iterate alone, so it is asked for every number of steps."""
    case, images, targets, logits = few(digits)
    if targeted == 3:
        others = targets != 3
        images, targets, logits = images[others], targets[others], logits[others]
    wanted = {
        "next": lambda: (targets + 1) % 10,
        "least-likely": lambda: logits.argmin(1),
        3: lambda: torch.full_like(targets, 3),
    }[targeted]()
    right = logits.argmax(1) == targets
    attack = {"linf": foolbox.attacks.LinfPGD, "l2": foolbox.attacks.L2PGD}[norm]
    model = foolbox.PyTorchModel(case.model, bounds=(0, 1), device="cpu")
    stands = right.clone()
    for steps in range(1, 11):
        pgd = attack(random_start=False, steps=steps, abs_stepsize=epsilon / 4)
        there = pgd.run(model, images, foolbox.criteria.TargetedMisclassification(wanted), epsilon=epsilon)
        with torch.no_grad():
            stands &= case.model(there).argmax(1) == targets
    for parameter in case.model.parameters():
        parameter.grad = None
    found = case.measure(Pgd(epsilon=epsilon, norm=norm, targeted=targeted, random_start=False))["robust_accuracy"]
    assert found.samples == len(targets)
    assert 0 < int(stands.sum()) < int(right.sum())
    assert abs(found.value * len(targets) - int(stands.sum())) < 1e-6


@pytest.mark.parametrize("evaluator", [Pgd(epsilon=0.15), Apgd(epsilon=0.15)], ids=lambda each: each.name)
@pytest.mark.parametrize("loss", ["cross-entropy", "dlr"])
def test_what_falls_becomes_the_class(digits: Case, evaluator: Pgd | Apgd, loss: Any) -> None:
    """Of predictions that fall, most become the class; of an attack that is not targeted, few do."""
    _, images, targets, logits = few(digits)
    some = (logits.argmax(1) == targets) & (targets != 8)
    turned = []
    for targeted in (8, None):
        (run,) = evaluator.model_copy(update={"loss": loss, "targeted": targeted})._runs(0.15, (0.0, 1.0))
        start = torch.zeros_like(images[some])
        moved, right = run.perturb(digits.model, Inputs.of(images[some]), targets[some], start, task=Classification())
        fell = right == 0
        assert fell.sum() > 10
        with torch.no_grad():
            turned.append(float((digits.model(moved[fell]).argmax(1) == 8).float().mean()))
    assert turned[0] > turned[1] + 0.1
    assert turned[0] > 0.5


def test_an_attack_on_one_class_is_weaker_than_on_any(digits: Case) -> None:
    case, _, _, _ = few(digits)
    for evaluator in (Pgd(epsilon=0.1), Apgd(epsilon=0.1, steps=10)):
        free, least = (
            case.measure(evaluator.model_copy(update={"targeted": goal}))["robust_accuracy"].value
            for goal in (None, "least-likely")
        )
        assert 0 < free < least


def test_classes_that_are_aimed_at() -> None:
    outputs = torch.tensor([[0.1, 3.0, -1.0, -2.0], [9.0, 1.0, 2.0, 3.0], [-5.0, 0.0, 0.0, -4.0]])
    targets = torch.tensor([1, 3, 0])
    task = Classification()
    assert aim("next")(task, outputs, targets).tolist() == [2, 0, 1]
    assert aim("least-likely")(task, outputs, targets).tolist() == [3, 1, 3]  # never the true one
    assert aim(2)(task, outputs, targets).tolist() == [2, 2, 2]
    with pytest.raises(TrialError, match="class 4, but the model has 0 to 3"):
        aim(4)(task, outputs, targets)


def test_the_targeted_ratio_is_that_of_the_paper() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, true = torch.randn(50, 6, generator=generator), torch.randint(6, (50,), generator=generator)
    aims = (true + torch.randint(1, 6, (50,), generator=generator)) % 6
    found = TARGETED_LOSSES["dlr"](Classification(), logits, {"true": true, "aim": aims})
    for scores, one, other, ratio in zip(logits.tolist(), true.tolist(), aims.tolist(), found.tolist(), strict=True):
        down = sorted(scores, reverse=True)
        expected = -(scores[one] - scores[other]) / (down[0] - (down[2] + down[3]) / 2)
        assert ratio == pytest.approx(expected, abs=1e-5)


def test_what_cannot_be_aimed_at_is_refused(digits: Case) -> None:
    case, images, _, _ = few(digits, 8)
    assert "data has 0 to 9" in (Pgd(epsilon=0.1, targeted=10).refuses(case.data) or "")
    assert Pgd(epsilon=0.1, targeted=9).refuses(case.data) is None
    alike = case.with_data(validation=Split.of_tensors(images, torch.full((8,), 4)))
    with pytest.raises(DataError, match="all samples are of class 4"):
        alike.measure(Pgd(epsilon=0.1, targeted=4))
    pixels = case.with_data(validation=Split.of_tensors(images, torch.zeros(8, 8, 8, dtype=torch.int64)))
    net = nn.Conv2d(1, 3, 1)
    assert net.bias is not None
    with torch.no_grad():
        net.weight.zero_()
        net.bias.copy_(torch.tensor([1.0, 0.0, 0.0]))  # right everywhere, so that it is attacked
    for targeted in ("next", 4):
        with pytest.raises(TrialError, match="targeted"):
            pixels.measure(Pgd(epsilon=0.1, targeted=targeted), net, task=Segmentation(), dense=net)

    class Three(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            result: Tensor = digits.model(x)[:, :3]
            return result

    with torch.no_grad():
        targets = Three()(images).argmax(1)
    three = case.with_data(validation=Split.of_tensors(images, targets), classes=3)
    with pytest.raises(TrialError, match=r"4 classes or more.*\(\d, 3\)"):
        three.measure(Pgd(epsilon=0.1, loss="dlr", targeted="next"), Three())
    for wrong in ("most-likely", -1, True, 1.5):
        with pytest.raises(ValidationError, match="targeted"):
            Pgd.model_validate({"epsilon": 0.1, "targeted": wrong})
