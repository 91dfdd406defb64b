"""What observers are told of a study."""

from __future__ import annotations

from collections.abc import Iterable

from autoprune.plugin import StudyInfo, TrialResult
from autoprune.study.datasets import dataset_summaries
from autoprune.study.environment import environment
from autoprune.study.folder import SPEC_FILE, StudyFolder
from autoprune.study.problem import Problem


def study_info(problem: Problem, folder: StudyFolder, finished: Iterable[TrialResult]) -> StudyInfo:
    """Of a study that begins or goes on.

    Args:
        problem: The study's.
        folder: Its folder.
        finished: Trials of earlier sessions, by number.
    """
    spec = problem.spec
    return StudyInfo(
        name=folder.name,
        folder=folder.path,
        spec=spec,
        spec_text=(folder.path / SPEC_FILE).read_text(encoding="utf-8"),
        trials=folder.trials,
        objectives=spec.objectives,
        constraints={name: str(bound) for name, bound in spec.constraints.items()},
        units={name: metric.unit for name, metric in problem.metrics.items()},
        costs=tuple(name for name, metric in problem.metrics.items() if metric.is_cost),
        groups=problem.space.summary,
        environment=environment(spec, problem.device) | {"fingerprint": problem.fingerprint},
        datasets=dataset_summaries(spec.data, problem.data),
        finished=tuple(finished),
    )
