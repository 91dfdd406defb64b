"""What is said aloud: the study goes on, but what it measures may not be worth much."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from autoprune.plugin import Cost, Measured, Metric, TrialResult
from autoprune.study.jobs import Effect

_RANKED = (0.4, 0.8)
"""Robust accuracies of the dense model between which attacks rank pruned models as a strong attack does."""
_OFF = 0.1
"""How far from 1 a timing of the dense model against itself may be."""


def noise(dense: TrialResult, metrics: Mapping[str, Metric]) -> str | None:
    """Why this machine's timings are not to be trusted: the dense model is not as fast as itself.

    Args:
        dense: The dense model's trial.
        metrics: What can be measured.
    """
    off = [
        f"{name} is {_told(measured)}"
        for name, measured in dense.metrics.items()
        if name in metrics and metrics[name].unit == "fraction of dense" and not _is_one(measured)
    ]
    if not off:
        return None
    return (
        f"timings on this machine are too noisy to trust: of the dense model over itself, {', '.join(off)};"
        " end other work on it, or take fewer workers or threads"
    )


def _is_one(measured: Measured) -> bool:
    if abs(measured.value - 1) > _OFF:
        return False
    return measured.low is None or measured.high is None or measured.low <= 1 <= measured.high


def _told(measured: Measured) -> str:
    if measured.low is None or measured.high is None:
        return f"{measured.value:.2f}"
    return f"{measured.value:.3f} ({measured.low:.3f} to {measured.high:.3f})"


def saturation(dense: TrialResult, metrics: Mapping[str, Metric]) -> str | None:
    """Why an attack ranks models badly: the dense model withstands nearly all of it, or nearly nothing.

    Args:
        dense: The dense model's trial.
        metrics: What can be measured.
    """
    off = [
        f"{name} is {measured.value:.2f}"
        for name, measured in dense.metrics.items()
        if name in metrics and _is_at_epsilon(metrics[name]) and not _RANKED[0] <= measured.value <= _RANKED[1]
    ]
    if not off:
        return None
    return (
        f"attacks that tell models apart leave the dense one {_RANKED[0]:.0%} to {_RANKED[1]:.0%} robust accuracy;"
        f" of the dense model, {', '.join(off)}: take another epsilon, or epsilon: auto"
    )


def _is_at_epsilon(metric: Metric) -> bool:
    """Whether it is what an attack of one epsilon leaves; an accuracy on corrupted inputs has no epsilon."""
    return metric.name.startswith("robust_accuracy") and metric.cost is Cost.ATTACK and metric.unit == "fraction"


class Silence:
    """Notices that no cut changes the outputs."""

    def __init__(self, groups: Collection[str]) -> None:
        """Nothing is known.

        Args:
            groups: Names of those that may lose units.
        """
        self._left = set(groups)
        self._silent = bool(self._left)

    def learn(self, effects: Iterable[Effect]) -> str | None:
        """What to say, once, when of every group a cut was measured and none did anything.

        Args:
            effects: Of some more cuts.
        """
        if not self._silent:
            return None
        for effect in effects:
            if effect.reason is None:
                self._silent &= effect.divergence == 0
                self._left.discard(effect.cut.group)
        if self._left or not self._silent:
            return None
        self._silent = False
        return (
            "no cut of any group changes the outputs as the task sees them: its divergence is exactly 0;"
            " look whether `task:` fits the model"
        )
