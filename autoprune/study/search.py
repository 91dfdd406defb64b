"""Searching, from the start or on from where a study stands."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from autoprune.errors import NoFeasibleTrialError
from autoprune.host.binding import load_spec, spec_hash
from autoprune.host.plugins import PluginHost
from autoprune.plugin import StudyOutcome
from autoprune.spec import Spec
from autoprune.study.coordinator import Session
from autoprune.study.dispatcher import Dispatcher
from autoprune.study.folder import JOURNAL_FILE, StudyFolder
from autoprune.study.guide import Guide
from autoprune.study.observers import Observers, log
from autoprune.study.problem import Problem
from autoprune.study.resolution import resolve, to_nobody
from autoprune.study.result import SearchResult
from autoprune.study.storage import Study
from autoprune.study.warm_start import Earlier, WarmStart, warm_start


def search(
    spec: Spec | str | Path,
    *,
    host: PluginHost | None = None,
    observers: Sequence[object] = (),
    tell: Callable[[str], None] = to_nobody,
) -> SearchResult:
    """Search from the start.

    Ctrl-C ends the session in good order (from the main thread); `resume` goes on from there.

    Args:
        spec: A spec, or its file.
        host: Knows the components; the installed plugins if None.
        observers: Objects that implement observer hooks.
        tell: Hears, in words, what is being done before the first trial.

    Raises:
        SpecError: The spec is wrong, or does not fit the model or the data.
        StudyError: The study cannot be created.
        NoFeasibleTrialError: No trial was feasible in the end.
    """
    host = host or PluginHost()
    spec = spec if isinstance(spec, Spec) else load_spec(spec, host=host)
    earlier = Earlier.of(spec)
    problem = resolve(spec, host, tell=tell)
    warm = warm_start(problem, earlier, tell)
    folder = StudyFolder.create(spec, host)
    with folder.locked():
        warm.keep(folder.path)
        return _run(problem, folder, warm, host=host, observers=observers, new=True)


def resume(
    study: str | Path,
    *,
    trials: int | None = None,
    host: PluginHost | None = None,
    observers: Sequence[object] = (),
    tell: Callable[[str], None] = to_nobody,
) -> SearchResult:
    """Continue a study that was interrupted or killed, or that is to get more trials.

    Trials that were running are run again under their numbers; none is lost and none is repeated.

    Args:
        study: The study's folder.
        trials: New number of trials in all; the number asked before if None.
        host: Knows the components; the installed plugins if None.
        observers: Objects that implement observer hooks.
        tell: Hears, in words, what is being done before the first trial.

    Raises:
        StudyError: The folder holds no study, or another session works on it.
        NoFeasibleTrialError: No trial was feasible in the end.
    """
    host = host or PluginHost()
    folder = StudyFolder.open(Path(study))
    with folder.locked():
        if trials is not None:
            folder = replace(folder, trials=trials)
            folder.write()
        spec = folder.spec(host)
        then = folder.read_info(spec).environment if folder.begun else {}
        if then and then["spec_hash"] != spec_hash(spec):
            log.warning("the spec of %s is not what the study began with: its trials may not compare", folder.path)
        problem = resolve(spec, host, tell=tell)
        warn_of_others(problem, then, folder)
        if (warm := WarmStart.read(folder.path)) is None:  # killed before it began
            warm = warm_start(problem, Earlier.of(spec), tell)
            warm.keep(folder.path)
        return _run(problem, folder, warm, host=host, observers=observers, new=False)


def warn_of_others(problem: Problem, then: Mapping[str, str], folder: StudyFolder) -> None:
    """Tell where model or data are others than those that a study began with.

    Args:
        problem: As it is now.
        then: The study's environment when it began.
        folder: The study's.
    """
    if then.get("fingerprint", problem.fingerprint) != problem.fingerprint:
        log.warning("model or data are not what %s began with: its trials may not compare", folder.path)


def _run(
    problem: Problem,
    folder: StudyFolder,
    warm: WarmStart,
    *,
    host: PluginHost,
    observers: Sequence[object],
    new: bool,
) -> SearchResult:
    study = Study(
        folder.name,
        spec=problem.spec,
        guide=Guide.of(problem),
        sampler=problem.components.sampler,
        journal=folder.path / JOURNAL_FILE,
        new=new,
    )
    try:
        with host.observed(observers):
            told = Observers(host, problem.components.observers, study=folder.path, seed=problem.spec.search.seed)
            dispatcher = Dispatcher(problem.components.executor, problem, folder.path)
            session = Session(problem, folder, study=study, dispatcher=dispatcher, observers=told, warm=warm)
            info, outcome, facts = session.run()
    finally:
        study.close()
    if not session.stopped and (reason := _why_none(outcome)):
        raise NoFeasibleTrialError(f"{reason}; see {folder.path}")
    return SearchResult(info, outcome, facts)


def _why_none(outcome: StudyOutcome) -> str | None:
    """Why the search came to nothing; None where it came to something."""
    for trial in outcome.trials:
        if trial.origin == "dense" and trial.state == "failed":
            return f"the dense model itself failed, and every pruned one would be compared with it: {trial.reason}"
    pruned = [trial for trial in outcome.trials if trial.origin != "dense"]
    failed = bool(pruned) and all(trial.state == "failed" for trial in pruned)
    if outcome.front.points and not failed:
        return None
    parts = []
    for state in ("failed", "rejected"):
        reasons = Counter(trial.reason for trial in outcome.trials if trial.state == state)
        if reasons:
            reason, count = reasons.most_common(1)[0]
            parts.append(f"{sum(reasons.values())} {state} ({count} times: {reason})")
    if broken := Counter(
        name for trial in outcome.trials if trial.state == "complete" for name, by in trial.violations.items() if by > 0
    ):
        parts.append(
            "complete ones break " + ", ".join(f"{name} {count} times" for name, count in broken.most_common())
        )
    if outcome.front.points:
        return f"the front is the dense model alone, for no pruned one came through: {'; '.join(parts)}"
    return f"none of {len(outcome.trials)} trials is feasible: {'; '.join(parts) or 'none ended'}"
