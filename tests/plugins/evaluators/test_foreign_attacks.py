"""Attacks of Foolbox and ART by import path: what they give is what the libraries give, and is checked."""

from __future__ import annotations

import importlib.util
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from autoprune import DataError, TrialError
from autoprune.plugin import Cost, Inputs, SourceContext, Split
from autoprune.toolkit.balls import L2, Linf
from autoprune_evaluators import ForeignAttack, Pgd
from autoprune_evaluators._foreign import BatchAttack
from autoprune_tasks.classification import Classification
from autoprune_tasks.regression import Regression

if TYPE_CHECKING:
    from conftest import Case

COUNT = 64


def few(case: Case, count: int = COUNT) -> tuple[Case, Tensor, Tensor]:
    inputs, targets = case.data.validation.fetch(torch.arange(count))
    return case.with_data(validation=Split.of_tensors(inputs, targets)), inputs.first, targets


def foreign(attack: str, epsilon: float, **options: Any) -> ForeignAttack:
    return ForeignAttack(attack=attack, epsilon=epsilon, **options)


def no_gradients(case: Case) -> None:
    for parameter in case.model.parameters():
        parameter.grad = None


@pytest.mark.parametrize(("norm", "name", "epsilon"), [("linf", "LinfPGD", 0.1), ("l2", "L2PGD", 0.5)])
def test_measures_what_foolbox_does(digits: Case, norm: Any, name: str, epsilon: float) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        import foolbox
    case, images, targets = few(digits)
    args = {"steps": 10, "random_start": False}
    model = foolbox.PyTorchModel(case.model, bounds=(0, 1), device="cpu")
    attack = getattr(foolbox.attacks, name)(**args)
    criterion = foolbox.criteria.Misclassification(targets)
    with torch.no_grad():
        right = case.model(images).argmax(1) == targets
    _, _, fell = attack(model, images, criterion, epsilons=epsilon)
    no_gradients(case)
    found = case.measure(foreign(f"foolbox.attacks:{name}", epsilon, norm=norm, args=args))["robust_accuracy"]
    expected = int((right & ~fell).sum())
    assert 0 < expected < int(right.sum())
    assert found.value * COUNT == pytest.approx(expected)
    assert found.samples == COUNT


@pytest.mark.slow
def test_measures_what_art_does(digits: Case) -> None:
    from art.attacks.evasion import ProjectedGradientDescentPyTorch
    from art.estimators.classification import PyTorchClassifier

    case, images, targets = few(digits)
    options: dict[str, Any] = {"eps_step": 0.02, "max_iter": 10}
    model = PyTorchClassifier(case.model, nn.CrossEntropyLoss(), (1, 8, 8), 10, clip_values=(0, 1), device_type="cpu")
    attack = ProjectedGradientDescentPyTorch(model, norm=np.inf, eps=0.1, verbose=False, **options)
    theirs = torch.from_numpy(attack.generate(images.numpy(), targets.numpy()))
    with torch.no_grad():
        expected = int(((case.model(theirs).argmax(1) == targets) & (case.model(images).argmax(1) == targets)).sum())
    no_gradients(case)
    path = "art.attacks.evasion:ProjectedGradientDescentPyTorch"
    found = case.measure(foreign(path, 0.1, args=options))["robust_accuracy"]
    assert 0 < expected < COUNT
    assert found.value * COUNT == pytest.approx(expected)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("attack", "norm", "epsilon", "args"),
    [
        ("foolbox.attacks:L2DeepFoolAttack", "l2", 0.6, {}),  # no epsilon: the smallest perturbation
        ("foolbox.attacks:LinfDeepFoolAttack", "linf", 0.1, {}),
        ("art.attacks.evasion:DeepFool", "l2", 0.6, {"max_iter": 20}),
        ("art.attacks.evasion:SquareAttack", "linf", 0.1, {"max_iter": 60}),
        ("art.attacks.evasion:FastGradientMethod", "linf", 0.1, {}),
    ],
)
def test_others_are_as_strong_as_they_may_be(
    digits: Case, attack: str, norm: Any, epsilon: float, args: dict[str, Any]
) -> None:
    """Not stronger than a long PGD by more than a few samples, and not idle."""
    case, images, targets = few(digits, 24)
    strong = case.measure(Pgd(epsilon=epsilon, norm=norm, steps=50, restarts=2))["robust_accuracy"].value
    with torch.no_grad():
        clean = float((case.model(images).argmax(1) == targets).float().mean())
    evaluator = foreign(attack, epsilon, norm=norm, args=args)
    found = case.measure(evaluator)["robust_accuracy"]
    assert strong - 0.05 <= found.value < clean - 0.1
    assert found.difference is not None
    assert found.difference.value == 0, "chance is seeded: the dense model's run is the same"
    no_gradients(case)


def test_other_random_numbers_stay_as_they_were(digits: Case) -> None:
    case, _, _ = few(digits, 16)
    torch.manual_seed(5)
    np.random.seed(5)
    expected = float(torch.rand(1)), float(np.random.rand())
    torch.manual_seed(5)
    np.random.seed(5)
    case.measure(foreign("foolbox.attacks:LinfPGD", 0.1, args={"steps": 1}))
    case.measure(foreign("art.attacks.evasion:SquareAttack", 0.1, args={"max_iter": 2}))
    assert (float(torch.rand(1)), float(np.random.rand())) == expected
    assert all(parameter.requires_grad and parameter.grad is None for parameter in case.model.parameters())
    assert not case.model.training


def test_modules_stay_in_the_mode_that_they_were_in(digits: Case) -> None:
    """ART calls eval(), which would mend a batch norm that was left in train mode, for what is measured next."""
    case, _, _ = few(digits, 16)
    norm = next(each for each in case.model.modules() if isinstance(each, nn.BatchNorm2d))
    norm.momentum = 0.0  # its statistics are the fixture's
    norm.train()
    try:
        for attack in ("foolbox.attacks:LinfPGD", "art.attacks.evasion:FastGradientMethod"):
            case.measure(foreign(attack, 0.1))
            assert norm.training
    finally:
        norm.eval()
        norm.momentum = 0.1


def attack_by(run: Any, **options: Any) -> BatchAttack:
    return BatchAttack(**{"name": "a:B", "run": run, "ball": Linf(0.1), "bounds": (0, 1), "seed": 0, **options})


def perturbed(attack: BatchAttack, images: Tensor) -> tuple[Tensor, Tensor]:
    targets = torch.zeros(len(images), dtype=torch.int64)
    return attack.perturb(nn.Flatten(), Inputs.of(images), targets, torch.zeros_like(images), task=Classification())


def test_what_is_given_has_to_be_in_ball_and_bounds() -> None:
    images = torch.full((4, 3), 0.5)
    far = images.clone()
    far[2, 1] += 0.11
    refused = [
        (far, r"1 of 4 inputs.*farther than epsilon.*Linf\(epsilon=0.1\)"),
        (images - 0.6, r"from -0\.1 to -0\.1; the data's bounds are 0 to 1"),
        (images * torch.nan, "from nan to nan"),
        (images[:2], r"gives \(2, 3\) float32 for inputs \(4, 3\)"),
        (images.numpy(), "gives"),
    ]
    for given, message in refused:
        with pytest.raises(TrialError, match=message):
            perturbed(attack_by(lambda *_, given=given: given), images)
    moved, _ = perturbed(attack_by(lambda *_: images + 0.1), images)
    assert torch.equal(moved, images + 0.1)
    with pytest.raises(TrialError, match="farther than epsilon"):
        perturbed(attack_by(lambda *_: images + 0.1, ball=L2(0.1)), images)
    # An attack without an epsilon moves what it likes; what is too far was not reached.
    moved, _ = perturbed(attack_by(lambda *_: far, keeps_to_ball=False), images)
    assert torch.equal(moved, images)
    for epsilon in (1e-5, 1 / 255, 0.2):
        scattered = torch.rand(50, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 0.4 + 0.3
        for ball in (Linf(epsilon), L2(epsilon)):
            edge = scattered + ball.epsilon * ball.steepest(torch.randn_like(scattered))
            perturbed(attack_by(lambda *_, edge=edge: edge, ball=ball), scattered)  # rounding is forgiven
            over = scattered + 1.02 * ball.epsilon * ball.steepest(torch.randn_like(scattered))
            if epsilon > 1e-4:
                with pytest.raises(TrialError, match="farther than epsilon"):
                    perturbed(attack_by(lambda *_, over=over: over, ball=ball), scattered)


def test_an_attack_of_the_users_own_is_found_in_the_specs_folder(digits: Case, tmp_path: Path) -> None:
    (tmp_path / "own_attack.py").write_text(
        "import foolbox\n"
        "class Nothing(foolbox.attacks.LinfPGD):\n"
        "    def run(self, model, inputs, criterion, **kwargs):\n"
        "        return inputs\n"
        "class Crash(foolbox.attacks.LinfPGD):\n"
        "    def run(self, model, inputs, criterion, **kwargs):\n"
        "        raise ValueError('no way')\n"
        "class Far(foolbox.attacks.LinfPGD):\n"
        "    def run(self, model, inputs, criterion, **kwargs):\n"
        "        return 1 - inputs\n"
        "function = len\n"
    )
    case, images, targets = few(digits, 16)
    source = SourceContext(folder=tmp_path, cache=tmp_path, seed=0)
    with torch.no_grad():
        clean = float((case.model(images).argmax(1) == targets).float().mean())
    assert case.measure(foreign("own_attack:Nothing", 0.1), source=source)["robust_accuracy"].value == clean
    with pytest.raises(TrialError, match=r"own_attack:Crash failed: ValueError: no way \(.*own_attack.py:7\)"):
        case.measure(foreign("own_attack:Crash", 0.1), source=source)
    with pytest.raises(TrialError, match=r"own_attack:Far: .* farther than epsilon"):
        case.measure(foreign("own_attack:Far", 0.1), source=source)
    with pytest.raises(TrialError, match="own_attack:function: it is no class of Foolbox or ART"):
        case.measure(foreign("own_attack:function", 0.1), source=source)


def test_what_is_no_attack_is_refused(digits: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    case, images, _ = few(digits, 8)
    with pytest.raises(DataError, match=r"no 'LinfPDG'.*LinfPGD"):
        case.measure(foreign("foolbox.attacks:LinfPDG", 0.1))
    with pytest.raises(TrialError, match="no class of Foolbox or ART"):
        case.measure(foreign("torch.nn:Linear", 0.1))
    for path in ("foolbox.attacks:LinfPGD", "art.attacks.evasion:SquareAttack"):
        with pytest.raises(TrialError, match=f"attack {path}: making it failed: TypeError.*stepz"):
            case.measure(foreign(path, 0.1, args={"stepz": 3}))
    with pytest.raises(TrialError, match="FastGradientMethod is targeted, at what is right"):
        case.measure(foreign("art.attacks.evasion:FastGradientMethod", 0.1, args={"targeted": True}))
    with pytest.raises(TrialError, match=r"LinfPGD is of one input with one class per sample.*float32"):
        numbers = case.with_data(validation=Split.of_tensors(images, torch.zeros(8, 10)))
        numbers.measure(foreign("foolbox.attacks:LinfPGD", 0.1), task=PerElement())
    with pytest.raises(TrialError, match="nothing that is right or wrong"):
        case.measure(foreign("foolbox.attacks:LinfPGD", 0.1), task=Regression())
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "foolbox" else find(name))
    with pytest.raises(DataError, match=r"needs the package foolbox: pip install 'autoprune\[foolbox\]'"):
        case.measure(foreign("foolbox.attacks:LinfPGD", 0.1))


class PerElement(Classification):
    """Everything is right."""

    name = "per-element"

    def correct(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return torch.ones(len(outputs))


def test_options() -> None:
    evaluator = foreign("a.b:C", "8/255")  # type: ignore[arg-type]
    assert evaluator.epsilon == 8 / 255
    (metric,) = evaluator.produces()
    assert (metric.name, metric.direction, metric.cost) == ("robust_accuracy", "maximize", Cost.ATTACK)
    for wrong in ({"attack": "foolbox.attacks.LinfPGD"}, {"attack": ":C"}, {"epsilon": "auto"}, {"epsilon": 0}):
        with pytest.raises(ValidationError, match=next(iter(wrong))):
            ForeignAttack.model_validate({"attack": "a.b:C", "epsilon": 0.1, **wrong})
