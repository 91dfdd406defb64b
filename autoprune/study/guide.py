"""What samplers are told of a problem."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from autoprune.plugin import Metric, SearchedGroup
from autoprune.study.problem import Problem
from autoprune.study.space import Parameter


@dataclass(frozen=True)
class Guide:
    """The part of a `SamplerContext` that no trial changes; see there."""

    parameters: tuple[Parameter, ...]
    metrics: Mapping[str, Metric]
    groups: tuple[SearchedGroup, ...]
    scorers: tuple[str, ...]
    strategies: tuple[str, ...]
    meetings: tuple[tuple[int, ...], ...]
    costs: Callable[[NDArray[np.int64]], Mapping[str, NDArray[np.float64]]]

    @property
    def probed(self) -> tuple[SearchedGroup, ...]:
        """The groups that may lose units, those that save most multiply-accumulates first."""
        most = np.array([group.most for group in self.groups], dtype=np.int64)
        left = self.costs(np.diag(most))["macs"]
        return tuple(self.groups[index] for index in np.argsort(left, kind="stable") if most[index])

    @classmethod
    def of(cls, problem: Problem) -> Self:
        """Of a problem."""
        return cls(
            parameters=problem.space.parameters,
            metrics=problem.components.metrics,
            groups=problem.space.searched,
            scorers=tuple(problem.space.scorers),
            strategies=tuple(problem.space.strategies),
            meetings=problem.structure.cost_table.meetings,
            costs=problem.exact_metrics,
        )
