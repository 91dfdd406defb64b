"""Classes of Foolbox and ART, made to attack a model in input units.

Shapes use: N samples, and … for whatever a sample's shape is.
"""

from __future__ import annotations

import importlib
import inspect
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from autoprune import TrialError
from autoprune.toolkit.importing import look_up_any, told
from autoprune.toolkit.packages import optional
from autoprune_evaluators._foreign import Run

_LIBRARIES = ("foolbox", "art")


def found_run(
    target: str, args: Mapping[str, Any], *, epsilon: float, norm: str, bounds: tuple[float, float], folder: Path
) -> tuple[Run, bool]:
    """What runs a class of Foolbox or ART, or one of the user's own made of these; to be used inside `importable`.

    Args:
        target: ``module:class``.
        args: Options of the class.
        epsilon: In input units.
        norm: ``linf`` or ``l2``.
        bounds: Smallest and largest legal value.
        folder: Of the spec.

    Returns:
        It, and whether it was told of epsilon: it moves samples as far as it takes if not.

    Raises:
        DataError: The class cannot be found, or the library is not installed.
        TrialError: It is no attack of these libraries, or does not take the options.
    """
    with warnings.catch_warnings():
        # Foolbox 3.3.4 imports scipy.ndimage.filters, which scipy 1.8 deprecated.
        warnings.simplefilter("ignore", DeprecationWarning)
        if (top := target.partition(":")[0].partition(".")[0]) in _LIBRARIES:
            optional(top)
        found = look_up_any(target, folder)
    origins = {each.__module__.partition(".")[0] for each in inspect.getmro(found)} if inspect.isclass(found) else set()
    library = next((name for name in _LIBRARIES if name in origins), None)
    if library is None:
        raise TrialError(
            f"attack {target}: it is no class of Foolbox or ART: write foolbox.attacks:LinfPGD, or"
            " art.attacks.evasion:SquareAttack"
        )
    try:
        if library == "foolbox":
            return _by_foolbox(found(**args), epsilon, bounds)
        return _by_art(found, args, epsilon, norm, bounds)
    except TypeError as error:
        raise TrialError(f"attack {target}: making it failed: {told(error, folder)}") from error


def _by_foolbox(attack: Any, epsilon: float, bounds: tuple[float, float]) -> tuple[Run, bool]:
    foolbox = optional("foolbox")

    def run(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        wrapped = foolbox.PyTorchModel(model, bounds=bounds, device=inputs.device)
        criterion = foolbox.criteria.Misclassification(targets)
        moved: Tensor = attack(wrapped, inputs, criterion, epsilons=epsilon)[0]
        return moved

    return run, isinstance(attack, foolbox.attacks.base.FixedEpsilonAttack)


def _by_art(
    made_by: Any, args: Mapping[str, Any], epsilon: float, norm: str, bounds: tuple[float, float]
) -> tuple[Run, bool]:
    taken = inspect.signature(made_by.__init__).parameters
    norms = {"linf": np.inf, "l2": 2}
    usual = {"eps": epsilon, "norm": norms[norm], "verbose": False}
    options = {name: value for name, value in usual.items() if name in taken} | dict(args)
    inspect.signature(made_by).bind(None, **options)  # wrong ones are told before anything runs

    def run(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        estimators = importlib.import_module("art.estimators.classification")
        with torch.no_grad():
            classes = model(inputs[:1]).shape[1]
        device = "cpu" if inputs.device.type == "cpu" else "gpu"
        shape = tuple(inputs.shape[1:])
        wrapped = estimators.PyTorchClassifier(
            model, nn.CrossEntropyLoss(), shape, classes, clip_values=bounds, device_type=device
        )
        attack = made_by(wrapped, **options)
        if getattr(attack, "targeted", False):
            raise TrialError(f"{made_by.__name__} is targeted, at what is right: leave that out, or use pgd")
        moved = attack.generate(inputs.cpu().numpy(), targets.cpu().numpy())
        return torch.from_numpy(np.asarray(moved))

    return run, "eps" in taken
