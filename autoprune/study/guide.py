"""What samplers are told of a problem."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from autoprune.plugin import Choices, Knob, Metric, SearchedGroup
from autoprune.study.problem import Problem


@dataclass(frozen=True)
class Guide:
    """The part of a `SamplerContext` that no trial changes; see there."""

    parameters: tuple[Knob, ...]
    """All that is chosen, ratios first."""
    metrics: Mapping[str, Metric]
    groups: tuple[SearchedGroup, ...]
    scorers: tuple[str, ...]
    """Labels that probes compare."""
    knobs: tuple[Knob, ...]
    meetings: tuple[tuple[int, ...], ...]
    costs: Callable[[NDArray[np.int64], Sequence[Choices] | None], Mapping[str, NDArray[np.float64]]]
    priced: frozenset[str] = frozenset()

    @property
    def probed(self) -> tuple[SearchedGroup, ...]:
        """The groups that may lose units, those that save most multiply-accumulates first."""
        most = np.array([group.most for group in self.groups], dtype=np.int64)
        left = self.costs(np.diag(most), None)["macs"]
        return tuple(self.groups[index] for index in np.argsort(left, kind="stable") if most[index])

    @classmethod
    def of(cls, problem: Problem) -> Self:
        """Of a problem."""
        return cls(
            parameters=problem.space.parameters,
            metrics=problem.metrics,
            groups=problem.space.searched,
            scorers=problem.space.compared_scorers,
            knobs=problem.space.knobs,
            meetings=problem.structure.cost_table.meetings,
            costs=problem.exact_metrics,
            priced=problem.space.priced,
        )
