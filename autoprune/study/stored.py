"""A study as it stands: nothing is run, loaded or changed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from autoprune.host.plugins import PluginHost
from autoprune.plugin import StudyInfo, StudyOutcome, TrialResult
from autoprune.study.folder import JOURNAL_FILE, StudyFolder
from autoprune.study.front import Finals, measure_front
from autoprune.study.models import model_folder
from autoprune.study.recorded import StoredStudy
from autoprune.study.result import SearchResult


def read_study(study: str | Path, *, host: PluginHost | None = None) -> SearchResult:
    """What a study has come to, be it ended, killed or at work in another process.

    Args:
        study: The study's folder.
        host: Knows the components; the installed plugins if None.

    Raises:
        StudyError: The folder holds no study, or one that has not begun.
    """
    folder = StudyFolder.open(Path(study))
    spec = folder.spec(host or PluginHost())
    info = folder.read_info(spec)
    stored = StoredStudy(folder.name, spec=spec, journal=folder.path / JOURNAL_FILE, mode="read")
    try:
        results = stored.results
        short = len(results) < folder.trials
        outcome = study_outcome(folder, info, results, stored.finals, interrupted=short)
    finally:
        stored.close()
    return SearchResult(info.model_copy(update={"finished": outcome.trials}), outcome)


def study_outcome(
    folder: StudyFolder,
    info: StudyInfo,
    results: Sequence[TrialResult],
    finals: Finals,
    *,
    interrupted: bool,
) -> StudyOutcome:
    """How a study ended, or stands.

    Args:
        folder: Its folder.
        info: What is asked of it.
        results: Finished trials, by number.
        finals: What became of the front's members.
        interrupted: Whether it ended too early, and not by its own time limit.
    """
    front = measure_front(results, info.objectives, finals, costs=info.costs)
    points = tuple(p.model_copy(update={"trial": with_model(folder, p.trial)}) for p in front.points)
    models = {point.trial.number: point.trial.model for point in points}
    dense = next((result.number for result in results if result.origin == "dense"), -1)
    whole = finals.part is None or finals.part[0] == finals.part[1]
    return StudyOutcome(
        trials=tuple(result.model_copy(update={"model": models.get(result.number)}) for result in results),
        front=front.model_copy(update={"points": points}),
        dense_test=dict(finals.tests.get(dense, {})),
        dense_whole_test=dict(finals.whole_tests.get(dense, {})),
        together={  # unless a later session found another front
            name: value
            for numbers, metrics in finals.together.values()
            if numbers == pruned_members(point.trial for point in front.points)
            for name, value in metrics.items()
        },
        test_part=None if whole else finals.part,
        interrupted=interrupted,
    )


def pruned_members(front: Iterable[TrialResult]) -> tuple[int, ...]:
    """Numbers of a front's trials but the dense model's, ascending."""
    return tuple(sorted(result.number for result in front if result.origin != "dense"))


def with_model(folder: StudyFolder, result: TrialResult) -> TrialResult:
    """The result of a trial on the front, and where its model is."""
    model = model_folder(folder.path, result.number)
    return result.model_copy(update={"model": model}) if model.is_dir() else result
