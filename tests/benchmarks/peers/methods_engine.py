"""Methods that run on autoprune's own search: ours, and what it is compared with on the same engine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from autoprune import NoFeasibleTrialError, hookimpl, load_pruned
from autoprune.plugin import TrialResult
from autoprune.spec.model import Search, Spec
from autoprune.study import search

from .record import Recorder
from .tasks import RECALIBRATE, Setting


class _Watch:
    """Records trials as they end."""

    def __init__(self, setting: Setting, recorder: Recorder) -> None:
        self._setting = setting
        self._recorder = recorder

    @hookimpl
    def autoprune_trial_finished(self, result: TrialResult) -> None:
        if result.state != "complete":
            self._recorder.add(None, reason=result.reason)
            return
        metrics = {name: result.metrics[name].value for name in self._setting.task.objectives}
        self._recorder.add(metrics)


DEFAULT_SCORER: Mapping[str, Any] = Spec.model_fields["scorer"].default


def run(
    setting: Setting, recorder: Recorder, workspace: Path, *, scorer: Any = None, recover: Any = None, **options: Any
) -> str:
    """A search with those search options; all others are the defaults.

    Args:
        setting: The task.
        recorder: Gets the trials.
        workspace: For the study's folder.
        scorer: In place of the task's.
        recover: In place of the task's recovery.
        options: Of the spec's ``search`` section.
    """
    chosen = Search.model_validate(setting.spec.search.model_dump() | options)
    own = {"search": chosen, "scorer": scorer or setting.spec.scorer, "output": str(workspace / "study")}
    if recover is not None:
        own["strategy"] = {"use": "one-shot", "recover": recover}
    spec = setting.spec.model_copy(update=own)
    with recorder.running():
        try:
            result = search(spec, host=setting.host, observers=[_Watch(setting, recorder)])
        except NoFeasibleTrialError as error:
            return str(error)
    for number, folder in result.models.items():  # with one worker trials end in the order of their numbers
        recorder.keep(number, lambda folder=folder: load_pruned(folder, dense=setting.network))
    if result.outcome.interrupted:  # a search ends in order then; a part of a run is no result
        raise KeyboardInterrupt
    return f"{len(result.study.groups)} groups; sampler {chosen.sampler['use']}"


def ours(setting: Setting, recorder: Recorder, workspace: Path, budget: int) -> str:
    """The spec's default sampler and its options; the dense model is one of the candidates."""
    return run(setting, recorder, workspace, trials=budget)


def best(setting: Setting, recorder: Recorder, workspace: Path, budget: int) -> str:
    """With the spec's default scorer, too: the search as it comes."""
    return run(setting, recorder, workspace, scorer=DEFAULT_SCORER, trials=budget)


def recalibrated(setting: Setting, recorder: Recorder, workspace: Path, budget: int) -> str:
    """The search as it comes, but no layer is fitted: batch norms are recalibrated."""
    return run(setting, recorder, workspace, scorer=DEFAULT_SCORER, recover=RECALIBRATE, trials=budget)


_PLAIN = {"sampler": {"use": "random"}, "early_rejection": 0.0, "precision": "float32"}
"""Every candidate is measured to the end, as by hand."""


def random(setting: Setting, recorder: Recorder, workspace: Path, budget: int) -> str:
    """Every group's ratio uniform, independent of what was tried; the dense model comes first, beside the budget."""
    return run(setting, recorder, workspace, trials=budget + 1, ladder=0, **_PLAIN)


def uniform(setting: Setting, recorder: Recorder, workspace: Path, budget: int) -> str:
    """One ratio for all groups, in even steps; the dense model comes first, beside the budget."""
    return run(setting, recorder, workspace, trials=budget + 1, ladder=budget, **_PLAIN)
