"""The package pyautoattack, told of bounds and of how many classes there are.

Shapes use: N samples, C channels, H × W pixels.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from autoprune import TrialError
from autoprune.plugin.task import shapes
from autoprune.toolkit.packages import optional
from autoprune_evaluators._foreign import Run

_NORMS = {"linf": "Linf", "l2": "L2"}
_MOST_TARGETS = 9
"""Classes that the targeted members try for each sample, as in the paper."""
_FEWEST_CLASSES = {"apgd-dlr": 3, "apgd-t": 4}


def ensemble(attacks: Sequence[str], *, epsilon: float, norm: str, bounds: tuple[float, float], seed: int) -> Run:
    """What runs members of AutoAttack, with as many steps and queries as the standard has.

    Args:
        attacks: Members.
        epsilon: In input units.
        norm: ``linf`` or ``l2``.
        bounds: Smallest and largest legal value.
        seed: For what is random.

    Returns:
        What raises a `TrialError` where samples are no images, or of too few classes.
    """
    low, high = bounds

    def run(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        pyautoattack = optional("pyautoattack")
        with torch.no_grad():
            outputs = model(inputs[:1])
        if inputs.dim() != 4 or not isinstance(outputs, Tensor) or outputs.dim() != 2:
            raise TrialError(
                f"autoattack is of images (N, C, H, W) and scores (N, classes); these are {shapes(inputs)} and"
                f" {shapes(outputs)}: use pgd"
            )
        classes = outputs.shape[1]
        for name in attacks:
            if classes < (fewest := _FEWEST_CLASSES.get(name, 2)):
                raise TrialError(
                    f"autoattack: {name} takes {fewest} classes or more, the model has {classes}:"
                    " write attacks: [apgd-ce, fab, square]"
                )
        # The package takes images in [0, 1].
        within = _Rescaled(model, low, high - low)
        attack = pyautoattack.AutoAttack(
            within,
            attacks=list(attacks),
            version="custom",
            norm=_NORMS[norm],
            eps=epsilon / (high - low),
            seed=seed,
            device=inputs.device,
        )
        attack.apgd.n_restarts = attack.fab.n_restarts = 1  # the rest of the standard is the package's default
        attack.apgd_targeted.n_target_classes = attack.fab.n_target_classes = min(_MOST_TARGETS, classes - 1)
        tracing = sys.gettrace()
        try:
            moved, _ = attack.run_standard_evaluation((inputs - low) / (high - low), targets, batch_size=len(inputs))
        finally:
            sys.settrace(tracing)  # the package ends whatever traces: a debugger, coverage
        back: Tensor = moved * (high - low) + low
        return back

    return run


class _Rescaled(nn.Module):
    def __init__(self, model: nn.Module, low: float, width: float) -> None:
        super().__init__()
        self.model, self._low, self._width = model, low, width
        self.training = model.training  # and no more: the modes of what is inside are the caller's

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.model(x * self._width + self._low)
        return result
