"""A study as it stands: nothing is run, loaded or changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from autoprune.host.plugins import PluginHost
from autoprune.plugin import Measured, StudyInfo, StudyOutcome, TrialResult
from autoprune.study.folder import JOURNAL_FILE, StudyFolder
from autoprune.study.front import measure_front
from autoprune.study.result import SearchResult
from autoprune.study.storage import StoredStudy
from autoprune.study.trial import model_folder


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
        outcome = study_outcome(folder, info, results, stored.tests, interrupted=short)
    finally:
        stored.close()
    return SearchResult(info.model_copy(update={"finished": outcome.trials}), outcome)


def study_outcome(
    folder: StudyFolder,
    info: StudyInfo,
    results: Sequence[TrialResult],
    tests: Mapping[int, Mapping[str, Measured]],
    *,
    interrupted: bool,
) -> StudyOutcome:
    """How a study ended, or stands.

    Args:
        folder: Its folder.
        info: What is asked of it.
        results: Finished trials, by number.
        tests: Per trial what was measured on the test split.
        interrupted: Whether it ended too early, and not by its own time limit.
    """
    front = measure_front(results, info.objectives, tests, costs=info.costs)
    members = {point.trial.number: with_model(folder, point.trial) for point in front.points}
    points = tuple(point.model_copy(update={"trial": members[point.trial.number]}) for point in front.points)
    dense = [result.number for result in results if result.origin == "dense"]
    return StudyOutcome(
        trials=tuple(members.get(result.number, result) for result in results),
        front=front.model_copy(update={"points": points}),
        dense_test=dict(tests.get(dense[0], {})) if dense else {},
        interrupted=interrupted,
    )


def with_model(folder: StudyFolder, result: TrialResult) -> TrialResult:
    """The result of a trial on the front, and where its model is."""
    model = model_folder(folder.path, result.number)
    return result.model_copy(update={"model": model}) if model.is_dir() else result
