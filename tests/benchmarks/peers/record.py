"""What a run leaves: its candidates, each with the seconds and the evaluated images that it took to get there."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook

from autoprune.plugin.volume import hypervolume
from autoprune.study.predictor import Predictor

from .tasks import Task

MEMBERS = 15
"""Of a front, measured on the test split."""


class Point(TypedDict):
    """One candidate."""

    seconds: float
    """From time zero (model and data loaded, nothing traced) to its result."""
    images: int
    """Samples that went forward through any network until then, steps of attacks and recalibration included."""
    evaluated: bool
    """Whether any went through since the last one: repeated and refused candidates are not evaluated."""
    metrics: dict[str, float] | None
    """The objectives on the validation split; None where the candidate failed."""
    reason: str | None
    """Why it failed."""


class Recorder:
    """The clock, the counter and the points of one run."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.points: list[Point] = []
        self._front = Front(task)
        self._networks: dict[int, Callable[[], nn.Module]] = {}
        self._images = 0
        self._zero = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Time zero is at its beginning, and images count within."""
        hook = register_module_forward_pre_hook(self._count)
        self._zero = time.perf_counter()
        try:
            yield
        finally:
            hook.remove()

    def add(
        self,
        metrics: Mapping[str, float] | None,
        *,
        reason: str | None = None,
        network: Callable[[], nn.Module] | None = None,
    ) -> None:
        """Record a candidate that has just been finished.

        Args:
            metrics: Its objectives; None if it failed.
            reason: Why it failed.
            network: Gives its network, as long as it is on the front.
        """
        seconds = time.perf_counter() - self._zero
        evaluated = self._images > (self.points[-1]["images"] if self.points else 0)
        self.points.append(
            Point(
                seconds=seconds,
                images=self._images,
                evaluated=evaluated,
                metrics=None if metrics is None else {name: metrics[name] for name in self.task.objectives},
                reason=reason,
            )
        )
        index = len(self.points) - 1
        if self._front.add(index, self.points[index]) and network is not None:
            on_front = set(self._front.members)
            self._networks = {i: made for i, made in self._networks.items() if i in on_front} | {index: network}

    def keep(self, index: int, network: Callable[[], nn.Module]) -> None:
        """Say what gives the network of a point that was recorded without one."""
        self._networks[index] = network

    def members(self) -> list[tuple[int, nn.Module]]:
        """The front's points and their networks, at most `MEMBERS` of them, evenly chosen along the MACs."""
        found = [index for index in self._front.members if index in self._networks]
        chosen = np.linspace(0, len(found) - 1, min(MEMBERS, len(found))).round().astype(int)
        return [(found[place], self._networks[found[place]]()) for place in chosen]

    def _count(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if isinstance(module, Predictor):
            self._images += len(inputs[0])


class Front:
    """The points that are better than the reference and that no other one is as good as; of equal ones the first."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._bound = np.array(task.losses(task.reference))
        self._losses: dict[int, NDArray[np.float64]] = {}

    def add(self, index: int, point: Point) -> bool:
        """Take a point; whether it is on the front."""
        if point["metrics"] is None:
            return False
        loss = np.array(self._task.losses(point["metrics"]))
        if not (loss < self._bound).all() or any((old <= loss).all() for old in self._losses.values()):
            return False
        self._losses = {i: old for i, old in self._losses.items() if not (loss <= old).all()} | {index: loss}
        return True

    @property
    def members(self) -> list[int]:
        """Their indices, smallest MACs first."""
        place = list(self._task.objectives).index("macs_ratio")
        return sorted(self._losses, key=lambda index: self._losses[index][place])

    @property
    def volume(self) -> float:
        """Their hypervolume."""
        losses = np.array(list(self._losses.values())).reshape(-1, len(self._bound))
        return hypervolume(losses, self._bound)


def course(task: Task, points: Sequence[Point]) -> list[float]:
    """Hypervolume after each point."""
    found, volumes = Front(task), [0.0]
    for index, point in enumerate(points):
        volumes.append(found.volume if found.add(index, point) else volumes[-1])
    return volumes[1:]
